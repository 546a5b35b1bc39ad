//! A classic rule that passed every check, and its translation to the form engines compile.

use std::sync::Arc;

use yinglong_model::{
    event::System,
    rule::{Level, Rule},
};

use crate::{
    Class, Source,
    ir::{
        About, Compiled, Expr, Field, Language, Pattern, Predicate, Target, Test as Is, View,
        Written,
    },
};

/// A rule that passed every check.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked {
    /// The rule as stored, with `regexp` read as `regex`.
    pub rule: Rule,
    /// The same for engines.
    pub compiled: Compiled,
}

/// A test of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Condition {
    /// Field of the source.
    pub(crate) field: String,
    /// What must hold.
    pub(crate) test: Test,
}

/// What must hold for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Test {
    /// `string`: equal, ignoring case.
    Equal(String),
    /// `regex`: found, ignoring case.
    Found(String),
    /// `non-regex`: the value is there and the pattern is not found, ignoring case.
    NotFound(String),
    /// `count`: the value was just reported for the n-th time in the fleet.
    Count(u64),
}

impl Test {
    /// Type and data as in the rule, for people who ask what matched.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Equal(text) => format!("string {text}"),
            Self::Found(text) => format!("regex {text}"),
            Self::NotFound(text) => format!("non-regex {text}"),
            Self::Count(number) => format!("count {number}"),
        }
    }
}

/// Translates a rule whose conditions were checked.
pub(crate) fn compiled(
    rule: &Rule,
    source: Source,
    system: Option<System>,
    conditions: &[Condition],
) -> Compiled {
    let parts: Vec<Expr> = conditions
        .iter()
        .map(|condition| written(source, condition))
        .collect();
    let condition = if rule.and {
        Expr::All(parts)
    } else {
        Expr::Any(parts)
    };
    let systems = match system {
        Some(system) => vec![system],
        None => vec![System::Linux, System::Windows],
    };
    let targets = systems
        .into_iter()
        .map(|system| Target {
            class: Class::Source(source),
            system,
            condition: condition.clone(),
        })
        .collect();
    Compiled {
        about: Arc::new(about(rule)),
        targets,
    }
}

fn about(rule: &Rule) -> About {
    let meta = &rule.meta;
    About {
        id: rule.id.clone(),
        name: meta.name.clone(),
        level: meta.level,
        severity: match meta.level {
            Level::Danger => "danger",
            Level::Suspicious => "suspicious",
            Level::Hint => "hint",
        }
        .to_owned(),
        description: meta.description.clone(),
        description_zh: meta.description_zh.clone(),
        attack: meta.attack.clone(),
        false_positives: meta.false_positives.clone(),
        identity: Vec::new(),
        language: Language::Classic,
    }
}

fn written(source: Source, condition: &Condition) -> Expr {
    let field = condition.field.as_str();
    let read = match condition.test {
        Test::Count(_) => source.counted_field(field).unwrap_or(field),
        _ => field,
    };
    let mut views = vec![View::Whole];
    if source.is_executable(field) {
        views.push(View::BaseName);
    }
    let any_view = |test: &Is| {
        let tests = views.iter().map(|view| at(read, *view, test.clone()));
        Expr::Any(tests.collect())
    };
    let filled = at(read, View::Whole, text(Pattern::filled()));
    let expr = match &condition.test {
        Test::Equal(wanted) if source.is_joined(field) => Expr::Any(vec![
            any_view(&text(Pattern::equal(wanted))),
            at(
                read,
                View::Barred,
                text(Pattern::contains(format!("|{wanted}|"))),
            ),
        ]),
        Test::Equal(wanted) => any_view(&text(Pattern::equal(wanted))),
        Test::Found(pattern) => any_view(&found(pattern)),
        Test::NotFound(pattern) => {
            Expr::All(vec![filled, Expr::Not(Box::new(any_view(&found(pattern))))])
        }
        // What has no value is never counted, in learn mode either.
        Test::Count(number) => Expr::All(vec![filled, at(read, View::Whole, Is::Count(*number))]),
    };
    Expr::Written(Box::new(Written {
        field: field.to_owned(),
        condition: condition.test.describe(),
        shows: read.to_owned(),
        expr,
    }))
}

fn at(field: &str, view: View, test: Is) -> Expr {
    Expr::Test(Predicate {
        field: Some(Field {
            name: field.into(),
            view,
        }),
        test,
    })
}

fn text(pattern: Pattern) -> Is {
    Is::Text {
        pattern,
        cased: false,
    }
}

fn found(pattern: &str) -> Is {
    Is::Regex {
        pattern: pattern.to_owned(),
        ignore_case: true,
        multi_line: false,
        dot_all: false,
    }
}
