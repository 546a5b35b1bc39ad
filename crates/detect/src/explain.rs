//! Why a rule does or does not match: its condition with the truth of every part.
//!
//! Nothing is left out because the answer is clear already. Tests are decided by the engine itself,
//! each as a rule of its own; only how they are put together is done here, so the root has the
//! engine's verdict. For people who write rules: it builds an engine per call.

use std::sync::Arc;

use yinglong_model::config::List;
use yinglong_rules::{
    About, Compiled,
    ir::{Expr, Likeness, Pattern, Piece, Predicate, Target, Test, TimePart, View},
};

use crate::{Element, Engine, Sample, Scratch};

/// A part of a condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    /// Whether it holds.
    pub holds: bool,
    /// What it is.
    pub part: Part,
}

/// What a part is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A test of one value.
    Test {
        /// Canonical name of the field; `None` for a keyword that is in no value.
        field: Option<String>,
        /// What must hold, in words.
        condition: String,
        /// The whole value; `None` when it is not there.
        value: Option<String>,
        /// Where in the value, in characters: first, and the one after the last.
        spans: Vec<(u32, u32)>,
    },
    /// Every part must hold.
    All(Vec<Trace>),
    /// One part must hold.
    Any(Vec<Trace>),
    /// The part must not hold.
    Not(Box<Trace>),
    /// Decided when the rule was compiled.
    Const,
    /// A part in the words of its author.
    Written {
        /// Field as the rule names it.
        field: String,
        /// Condition as the rule writes it.
        condition: String,
        /// What it was translated to.
        part: Box<Trace>,
    },
}

/// Evaluates every part of the condition a rule has for an element; `None` when it reads no elements
/// of that class and system.
///
/// # Errors
/// The rule does not compile; the text says why.
pub fn trace(rule: &Compiled, element: &Element<'_>) -> Result<Option<Trace>, String> {
    let mut targets = rule.targets.iter();
    let wanted =
        |target: &&Target| (target.class, target.system) == (element.class, element.system);
    let Some(target) = targets.find(wanted) else {
        return Ok(None);
    };
    let mut tests = Vec::new();
    collect(&target.condition, &mut tests);
    let rules = tests.iter().enumerate().map(|(number, test)| Compiled {
        about: Arc::new(About {
            id: number.to_string(),
            ..About::default()
        }),
        targets: vec![Target {
            class: target.class,
            system: target.system,
            condition: Expr::Test((*test).clone()),
        }],
    });
    let none = List::default();
    let (engine, diagnostics) = Engine::new(rules, &none, &none, &Sample::default());
    if let Some(broken) = diagnostics.first() {
        return Err(broken.reason.clone());
    }
    let verdict = engine.evaluate(element, &mut Scratch::default());
    let mut decided: Vec<Trace> = tests.iter().map(|test| failed(test, element)).collect();
    for detection in verdict.detections {
        let number = detection.rule_id.parse::<usize>().ok();
        let Some(trace) = number.and_then(|number| decided.get_mut(number)) else {
            continue;
        };
        trace.holds = true;
        if let (
            Part::Test {
                field,
                value,
                spans,
                ..
            },
            Some(matched),
        ) = (&mut trace.part, detection.matched.into_iter().next())
        {
            // A keyword is shown where it was found. What holds for a value that is not there has
            // an empty one in alerts.
            if field.is_none() {
                *field = Some(matched.field);
                *value = Some(matched.value);
            }
            *spans = matched.spans;
        }
    }
    Ok(Some(assemble(&target.condition, &mut decided.into_iter())))
}

/// All tests, in the order in which [`assemble`] comes to them.
fn collect<'e>(expr: &'e Expr, tests: &mut Vec<&'e Predicate>) {
    match expr {
        Expr::Test(test) => tests.push(test),
        Expr::All(parts) | Expr::Any(parts) => {
            parts.iter().for_each(|part| collect(part, tests));
        }
        Expr::Not(part) => collect(part, tests),
        Expr::Const(_) => {}
        Expr::Written(written) => collect(&written.expr, tests),
    }
}

fn assemble(expr: &Expr, decided: &mut impl Iterator<Item = Trace>) -> Trace {
    let (holds, part) = match expr {
        Expr::Test(_) => {
            return decided.next().unwrap_or(Trace {
                holds: false,
                part: Part::Const,
            });
        }
        Expr::All(parts) => {
            let parts: Vec<Trace> = parts.iter().map(|part| assemble(part, decided)).collect();
            (parts.iter().all(|part| part.holds), Part::All(parts))
        }
        Expr::Any(parts) => {
            let parts: Vec<Trace> = parts.iter().map(|part| assemble(part, decided)).collect();
            (parts.iter().any(|part| part.holds), Part::Any(parts))
        }
        Expr::Not(part) => {
            let part = assemble(part, decided);
            (!part.holds, Part::Not(Box::new(part)))
        }
        Expr::Const(holds) => (*holds, Part::Const),
        Expr::Written(written) => {
            let part = assemble(&written.expr, decided);
            let holds = part.holds;
            let of = Part::Written {
                field: written.field.clone(),
                condition: written.condition.clone(),
                part: Box::new(part),
            };
            (holds, of)
        }
    };
    Trace { holds, part }
}

/// A test that does not hold.
fn failed(predicate: &Predicate, element: &Element<'_>) -> Trace {
    let field = predicate.field.as_ref().map(|field| field.name.to_string());
    let value = field.as_ref().and_then(|name| element.fields.get(name));
    Trace {
        holds: false,
        part: Part::Test {
            value: value.map(|value| value.into_owned()),
            condition: describe(predicate),
            spans: Vec::new(),
            field,
        },
    }
}

fn describe(predicate: &Predicate) -> String {
    let view = match predicate.field.as_ref().map(|field| field.view) {
        Some(View::BaseName) => "file name ",
        Some(View::Barred) => "as a list ",
        Some(View::Whole) => "",
        None => "any value ",
    };
    let mark = |cased: bool| if cased { " (case counts)" } else { "" };
    let test = match &predicate.test {
        Test::Text { pattern, cased } => pattern_words(pattern) + mark(*cased),
        Test::Regex {
            pattern,
            ignore_case,
            ..
        } => {
            format!("matches the expression {pattern}{}", mark(!ignore_case))
        }
        Test::Cidr(network) => format!("is in {network}"),
        Test::Compare(how, number) => format!("{} {number}", how.sign()),
        Test::Exists(true) => "exists".to_owned(),
        Test::Exists(false) => "does not exist".to_owned(),
        Test::Null => "is not set".to_owned(),
        Test::Other { field, how, cased } => {
            let how = match how {
                Likeness::Equal => "equals",
                Likeness::StartsWith => "starts with",
                Likeness::EndsWith => "ends with",
                Likeness::Contains => "contains",
            };
            format!("{how} the value of {}{}", field.name, mark(*cased))
        }
        Test::Time(part, how, number) => {
            let part = match part {
                TimePart::Minute => "minute",
                TimePart::Hour => "hour",
                TimePart::Day => "day",
                TimePart::Week => "week",
                TimePart::Month => "month",
                TimePart::Year => "year",
            };
            format!("{part} {} {number}", how.sign())
        }
        Test::Count(number) => format!("was just seen for time {number} in the fleet"),
    };
    format!("{view}{test}")
}

fn pattern_words(pattern: &Pattern) -> String {
    match pattern.0.as_slice() {
        [] => "is empty".to_owned(),
        [Piece::Many] => "exists".to_owned(),
        [Piece::One, Piece::Many] => "is not empty".to_owned(),
        [Piece::Literal(text)] => format!("equals {text}"),
        [Piece::Literal(text), Piece::Many] => format!("starts with {text}"),
        [Piece::Many, Piece::Literal(text)] => format!("ends with {text}"),
        [Piece::Many, Piece::Literal(text), Piece::Many] => format!("contains {text}"),
        pieces => {
            let pieces = pieces.iter().map(|piece| match piece {
                Piece::Literal(text) => text.as_str(),
                Piece::One => "?",
                Piece::Many => "*",
            });
            format!("is like {}", pieces.collect::<String>())
        }
    }
}
