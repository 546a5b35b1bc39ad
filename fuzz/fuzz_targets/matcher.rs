//! The engine against the naive evaluator of its tests, over conditions and events made of the input.

#![no_main]

#[path = "../../crates/detect/tests/naive/mod.rs"]
mod naive;

use std::{collections::BTreeMap, sync::Arc};

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use yinglong_detect::{Element, Engine, Sample, Scratch, explain::trace};
use yinglong_model::{config::List, event::System};
use yinglong_rules::{
    About, Class, Compiled,
    ir::{
        Comparison, Expr, Field, Likeness, Number, Pattern, Piece, Predicate, Target, Test, View,
    },
};

const FIELDS: [&str; 3] = ["command", "name", "user"];
/// The naive evaluator tries every way a pattern can cover a text; neither may be long.
const MOST_CHARS: usize = 12;
const MOST_PIECES: usize = 4;

fn text(u: &mut Unstructured<'_>) -> Result<String> {
    const LETTERS: [&str; 14] = [
        "a", "b", "A", "B", "/", "\\", " ", ".", "1", "0", "ä", "Ä", "ſ", "|",
    ];
    let length = u.int_in_range(0..=MOST_CHARS)?;
    (0..length).map(|_| u.choose(&LETTERS).copied()).collect()
}

fn field(u: &mut Unstructured<'_>) -> Result<Field> {
    Ok(Field {
        name: (*u.choose(&FIELDS)?).into(),
        view: *u.choose(&[View::Whole, View::Whole, View::BaseName, View::Barred])?,
    })
}

fn pattern(u: &mut Unstructured<'_>) -> Result<Pattern> {
    let pieces = u.int_in_range(0..=MOST_PIECES)?;
    let pieces: Result<Vec<Piece>> = (0..pieces)
        .map(|_| {
            Ok(match u.int_in_range(0..=3)? {
                0 | 1 => Piece::Literal(text(u)?),
                2 => Piece::One,
                _ => Piece::Many,
            })
        })
        .collect();
    Ok(Pattern::tidy(pieces?))
}

fn test(u: &mut Unstructured<'_>) -> Result<Test> {
    let comparisons = [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ];
    let likenesses = [
        Likeness::Equal,
        Likeness::StartsWith,
        Likeness::EndsWith,
        Likeness::Contains,
    ];
    let expressions = [
        "ab",
        "^a+b",
        "(aab|bba|abab)b?",
        "[ab]+/[AB]{3}",
        "b$",
        "(?i)aba",
        "a.b",
        "ä",
    ];
    Ok(match u.int_in_range(0..=11)? {
        0..=5 => Test::Text {
            pattern: pattern(u)?,
            cased: u.ratio(1, 5)?,
        },
        6 => Test::Regex {
            pattern: (*u.choose(&expressions)?).to_owned(),
            ignore_case: u.arbitrary()?,
            multi_line: u.arbitrary()?,
            dot_all: u.arbitrary()?,
        },
        7 => {
            let number = Number::new(f64::from(u.int_in_range(-2..=200_i32)?));
            Test::Compare(*u.choose(&comparisons)?, number.expect("finite"))
        }
        8 => Test::Exists(u.arbitrary()?),
        9 => Test::Null,
        10 => Test::Other {
            field: field(u)?,
            how: *u.choose(&likenesses)?,
            cased: u.arbitrary()?,
        },
        _ => Test::Count(u.int_in_range(1..=3)?),
    })
}

fn expr(u: &mut Unstructured<'_>, depth: usize) -> Result<Expr> {
    let parts = |u: &mut Unstructured<'_>| -> Result<Vec<Expr>> {
        let number = u.int_in_range(0..=8)?;
        (0..number).map(|_| expr(u, depth - 1)).collect()
    };
    let kind = if depth == 0 {
        0
    } else {
        u.int_in_range(0..=6)?
    };
    Ok(match kind {
        1 | 2 => Expr::All(parts(u)?),
        3 | 4 => Expr::Any(parts(u)?),
        5 => Expr::Not(Box::new(expr(u, depth - 1)?)),
        6 => Expr::Const(u.arbitrary()?),
        _ => {
            let test = test(u)?;
            // Keywords are texts; the other tests are about a field.
            let keyword =
                matches!(test, Test::Text { .. } | Test::Regex { .. }) && u.ratio(1, 8)?;
            let field = if keyword { None } else { Some(field(u)?) };
            Expr::Test(Predicate { field, test })
        }
    })
}

fn values(u: &mut Unstructured<'_>) -> Result<BTreeMap<String, String>> {
    let number = u.int_in_range(0..=3)?;
    (0..number)
        .map(|_| Ok(((*u.choose(&FIELDS)?).to_owned(), text(u)?)))
        .collect()
}

fn check(u: &mut Unstructured<'_>) -> Result<()> {
    let system = if u.arbitrary()? {
        System::Windows
    } else {
        System::Linux
    };
    let (count, learn) = (u.arbitrary::<Option<u8>>()?.map(u64::from), u.ratio(1, 10)?);
    let number = u.int_in_range(1..=6)?;
    let exprs: Vec<Expr> = (0..number).map(|_| expr(u, 3)).collect::<Result<_>>()?;
    let number = u.int_in_range(1..=4)?;
    let events: Vec<_> = (0..number).map(|_| values(u)).collect::<Result<_>>()?;
    let rules: Vec<Compiled> = exprs
        .iter()
        .map(|condition| Compiled {
            about: Arc::new(About::default()),
            targets: vec![Target {
                class: Class::PROCESS,
                system,
                condition: condition.clone(),
            }],
        })
        .collect();
    let element = |fields| Element {
        class: Class::PROCESS,
        system,
        fields,
        count,
        learn,
    };
    let mut sample = Sample::default();
    events
        .iter()
        .for_each(|values| sample.keep(&element(values)));
    let none = List::default();
    for sample in [&Sample::default(), &sample] {
        let (engine, diagnostics) = Engine::new(rules.clone(), &none, &none, sample);
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let mut scratch = Scratch::default();
        for values in events.iter().chain(&events) {
            let naive = naive::Event {
                values,
                system,
                count,
                learn,
            };
            let expected: Vec<u32> = (0_u32..)
                .zip(&exprs)
                .filter(|(_, expr)| naive.holds(expr))
                .map(|(number, _)| number)
                .collect();
            let mut found = Vec::new();
            engine.matches(&element(values), &mut scratch, &mut found);
            assert_eq!(found, expected, "{values:?} {exprs:#?}");
        }
    }
    if let (Some(rule), Some(values), Some(expr)) = (rules.first(), events.first(), exprs.first()) {
        let traced = trace(rule, &element(values))
            .expect("it compiles")
            .expect("it has a target");
        let naive = naive::Event {
            values,
            system,
            count,
            learn,
        };
        assert_eq!(traced.holds, naive.holds(expr));
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    // An input that ends too early makes nothing to check.
    let _ = check(&mut Unstructured::new(bytes));
});
