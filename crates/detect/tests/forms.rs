//! The engine against the naive evaluator, over the whole intermediate form: trained or not, the
//! answer is the same for every pair of event and rule.

mod naive;

use std::{collections::BTreeMap, sync::Arc};

use proptest::prelude::*;
use yinglong_detect::{
    Element, Engine, Sample, Scratch,
    explain::{Part, Trace, trace},
};
use yinglong_model::{config::List, event::System};
use yinglong_rules::{
    About, Class, Compiled,
    ir::{
        Comparison, Expr, Field, Likeness, Number, Pattern, Piece, Predicate, Target, Test, View,
        Written,
    },
};

const FIELDS: [&str; 3] = ["command", "name", "user"];

fn field() -> impl Strategy<Value = Field> {
    let view = prop_oneof![
        4 => Just(View::Whole),
        1 => Just(View::BaseName),
        1 => Just(View::Barred),
    ];
    (prop::sample::select(FIELDS.to_vec()), view).prop_map(|(name, view)| Field {
        name: name.into(),
        view,
    })
}

/// Texts over few letters, so that they occur in each other.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[abAB/ ]{1,6}",
        2 => "[ab]{4,12}",
        1 => "[aÄſKσ]{1,4}",
        1 => "[0-9]{1,3}",
    ]
}

fn piece() -> impl Strategy<Value = Piece> {
    prop_oneof![
        3 => text().prop_map(Piece::Literal),
        1 => Just(Piece::One),
        2 => Just(Piece::Many),
    ]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    prop_oneof![
        text().prop_map(Pattern::equal),
        text().prop_map(Pattern::contains),
        text().prop_map(|text| Pattern::tidy([Piece::Literal(text), Piece::Many])),
        text().prop_map(|text| Pattern::tidy([Piece::Many, Piece::Literal(text)])),
        prop::collection::vec(piece(), 0..5).prop_map(Pattern::tidy),
    ]
}

fn test() -> impl Strategy<Value = Test> {
    let regex = prop_oneof![
        "[abAB/]{1,5}",
        r"\^?[ab]{1,2}[ab./]{0,3}\$?",
        "(aab|bba|abab)b?",
        "[ab]+/[AB]{3}",
        "(?i)abab",
    ];
    let comparison = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ]);
    let likeness = prop::sample::select(vec![
        Likeness::Equal,
        Likeness::StartsWith,
        Likeness::EndsWith,
        Likeness::Contains,
    ]);
    let networks = [
        "10.0.0.0/8",
        "10.1.0.0/16",
        "::/0",
        "2001:db8::/32",
        "0.0.0.0/0",
    ];
    prop_oneof![
        8 => (pattern(), prop::bool::weighted(0.2))
            .prop_map(|(pattern, cased)| Test::Text { pattern, cased }),
        3 => (regex, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(pattern, i, m, s)| {
            Test::Regex { pattern, ignore_case: i, multi_line: m, dot_all: s }
        }),
        1 => prop::sample::select(networks.to_vec())
            .prop_map(|network| Test::Cidr(network.parse().expect("a network"))),
        1 => (comparison, -2..200_i32)
            .prop_map(|(how, n)| Test::Compare(how, Number::new(f64::from(n)).expect("finite"))),
        1 => any::<bool>().prop_map(Test::Exists),
        1 => Just(Test::Null),
        1 => (field(), likeness, any::<bool>())
            .prop_map(|(field, how, cased)| Test::Other { field, how, cased }),
        1 => (1_u64..3).prop_map(Test::Count),
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    let leaf = prop_oneof![
        12 => (prop::option::weighted(0.9, field()), test())
            .prop_map(|(field, test)| {
                // Tests about other fields and about presence are about a field.
                let needs = matches!(test, Test::Other { .. } | Test::Exists(_) | Test::Null
                    | Test::Count(_));
                let field = if needs && field.is_none() { Some(Field::whole("command")) } else { field };
                Expr::Test(Predicate { field, test })
            }),
        1 => any::<bool>().prop_map(Expr::Const),
    ];
    leaf.prop_recursive(4, 40, 10, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Expr::All),
            prop::collection::vec(inner.clone(), 0..10).prop_map(Expr::Any),
            inner.clone().prop_map(|part| Expr::Not(Box::new(part))),
            inner.prop_map(|expr| Expr::Written(Box::new(Written {
                field: "command".into(),
                condition: "c".into(),
                shows: "command".into(),
                expr,
            }))),
        ]
    })
}

fn values() -> impl Strategy<Value = BTreeMap<String, String>> {
    let value = prop_oneof![
        5 => "[abAB/ ]{0,12}",
        2 => "/(ab|ba)/[ab]{1,4}",
        1 => "[aAäÄſsKkσςΣ]{0,5}",
        1 => "[0-9]{1,3}",
        1 => prop::sample::select(vec!["10.1.2.3", "::ffff:10.9.0.1", "2001:db8::1", "192.0.2.1"])
            .prop_map(str::to_owned),
    ];
    prop::collection::btree_map(
        prop::sample::select(FIELDS.map(str::to_owned).to_vec()),
        value,
        0..=3,
    )
}

fn rule(number: usize, system: System, condition: Expr) -> Compiled {
    Compiled {
        about: Arc::new(About {
            id: number.to_string(),
            name: number.to_string(),
            ..About::default()
        }),
        targets: vec![Target {
            class: Class::PROCESS,
            system,
            condition,
        }],
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn every_pair_of_event_and_rule_has_the_naive_answer(
        exprs in prop::collection::vec(expr(), 1..12),
        events in prop::collection::vec(values(), 1..8),
        count in prop::option::of(1_u64..4),
        learn in prop::bool::weighted(0.1),
        windows in any::<bool>(),
    ) {
        let system = if windows { System::Windows } else { System::Linux };
        let element = |values| Element { class: Class::PROCESS, system, fields: values, count, learn };
        let mut sample = Sample::default();
        events.iter().for_each(|values| sample.keep(&element(values)));
        let rules: Vec<Compiled> = exprs
            .iter()
            .enumerate()
            .map(|(number, expr)| rule(number, system, expr.clone()))
            .collect();
        let none = List::default();
        for sample in [&Sample::default(), &sample] {
            let (engine, diagnostics) = Engine::new(rules.clone(), &none, &none, sample);
            prop_assert_eq!(diagnostics, []);
            // One scratch for all events: nothing of an event may be left for the next.
            let mut scratch = Scratch::default();
            for values in events.iter().chain(&events) {
                let naive = naive::Event { values, system, count, learn };
                let expected: Vec<u32> = (0_u32..)
                    .zip(&exprs)
                    .filter(|(_, expr)| naive.holds(expr))
                    .map(|(number, _)| number)
                    .collect();
                let mut found = Vec::new();
                engine.matches(&element(values), &mut scratch, &mut found);
                prop_assert_eq!(&found, &expected, "{:?}", values);
                let verdict = engine.evaluate(&element(values), &mut scratch);
                let ids: Vec<u32> =
                    verdict.detections.iter().map(|d| d.rule_id.parse().unwrap()).collect();
                prop_assert_eq!(&ids, &expected);
                for matched in verdict.detections.iter().flat_map(|d| &d.matched) {
                    for (start, end) in &matched.spans {
                        let length = u32::try_from(matched.value.chars().count()).unwrap();
                        prop_assert!(start <= end && *start <= length, "{:?}", matched);
                    }
                }
            }
        }
    }
}

/// Whether a trace has the shape of the condition, and the naive truth at every part.
fn agrees(trace: &Trace, expr: &Expr, naive: &naive::Event<'_>) -> bool {
    let all = |traces: &[Trace], exprs: &[Expr]| {
        let mut pairs = traces.iter().zip(exprs);
        traces.len() == exprs.len() && pairs.all(|(trace, expr)| agrees(trace, expr, naive))
    };
    let inner = match (&trace.part, expr) {
        (Part::Test { value, spans, .. }, Expr::Test(_)) => {
            let length = value.as_ref().map_or(0, |value| value.chars().count());
            spans
                .iter()
                .all(|(start, end)| start <= end && *end as usize <= length)
        }
        (Part::All(traces), Expr::All(exprs)) | (Part::Any(traces), Expr::Any(exprs)) => {
            all(traces, exprs)
        }
        (Part::Not(trace), Expr::Not(expr)) => agrees(trace, expr, naive),
        (Part::Const, Expr::Const(_)) => true,
        (Part::Written { part, .. }, Expr::Written(written)) => agrees(part, &written.expr, naive),
        _ => false,
    };
    inner && trace.holds == naive.holds(expr)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_trace_has_the_verdict_of_the_engine_and_the_naive_truth_of_every_part(
        expr in expr(),
        values in values(),
        count in prop::option::of(1_u64..4),
        learn in prop::bool::weighted(0.1),
        windows in any::<bool>(),
    ) {
        let system = if windows { System::Windows } else { System::Linux };
        let fields = &values;
        let element = Element { class: Class::PROCESS, system, fields, count, learn };
        let rule = rule(0, system, expr.clone());
        let traced = trace(&rule, &element).expect("it compiles").expect("it reads processes");
        let none = List::default();
        let (engine, _) = Engine::new([rule.clone()], &none, &none, &Sample::default());
        let verdict = engine.evaluate(&element, &mut Scratch::default());
        prop_assert_eq!(traced.holds, !verdict.detections.is_empty());
        let naive = naive::Event { values: fields, system, count, learn };
        prop_assert!(agrees(&traced, &expr, &naive), "{:#?}", traced);
        let elsewhere = Element { class: Class::FILE, ..element };
        prop_assert_eq!(trace(&rule, &elsewhere), Ok(None));
    }
}
