//! The engine against the shortest evaluator that follows the contract word by word.

mod support;

use proptest::prelude::*;
use regex::RegexBuilder;
use support::{Values, engine, rule};
use yinglong_detect::{Element, Engine, Scratch};
use yinglong_model::{config::List, event::System};
use yinglong_rules::Rule;

const FIELDS: [&str; 4] = ["name", "parentname", "command", "info"];

fn found(pattern: &str, value: &str) -> bool {
    let regex = RegexBuilder::new(pattern).case_insensitive(true).build();
    regex
        .expect("only generated patterns that compile")
        .is_match(value)
}

/// Whether one condition holds, from the sentences of the contract.
fn naive_condition(
    (field, kind, data): (&str, &str, &str),
    values: &Values,
    count: Option<u64>,
    learn: bool,
) -> bool {
    let Some(value) = values.get(field) else {
        return false;
    };
    let mut forms = vec![value.clone()];
    if field == "name" || field == "parentname" {
        forms.extend(value.rsplit('/').next().map(str::to_owned));
    }
    match kind {
        "string" => forms
            .iter()
            .any(|form| form.to_lowercase() == data.to_lowercase()),
        "regex" => forms.iter().any(|form| found(data, form)),
        "non-regex" => !value.is_empty() && !forms.iter().any(|form| found(data, form)),
        "count" => !value.is_empty() && (learn || count == data.parse().ok()),
        other => panic!("{other}"),
    }
}

/// `info` of the alert, if the rule matches.
fn naive(rule: &Rule, values: &Values, count: Option<u64>, learn: bool) -> Option<String> {
    let holding: Vec<_> = rule
        .rules
        .iter()
        .filter(|(field, c)| naive_condition((field, &c.kind, &c.data), values, count, learn))
        .map(|(field, _)| values[field].clone())
        .collect();
    let needed = if rule.and { rule.rules.len() } else { 1 };
    (holding.len() >= needed).then(|| {
        let mut holding = holding;
        holding.sort();
        holding.join("|")
    })
}

fn condition() -> impl Strategy<Value = (String, String)> {
    let text = prop_oneof!["[abAB/]{0,3}", "/?(bin/)?[aA]"];
    let pattern = prop_oneof!["[abAB/]{1,3}", r"\^?[abAB/.]{1,2}\$?"];
    prop_oneof![
        text.prop_map(|data| ("string".to_owned(), data)),
        pattern.clone().prop_map(|data| ("regex".to_owned(), data)),
        pattern.prop_map(|data| ("non-regex".to_owned(), data)),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let conditions = prop::collection::btree_map(
        prop::sample::select(FIELDS.to_vec()),
        condition(),
        1..=FIELDS.len(),
    );
    (conditions, any::<bool>(), prop::option::of(1_u64..4)).prop_map(|(conditions, and, count)| {
        let number = count.map(|n| n.to_string());
        let mut list: Vec<(&str, &str, &str)> = conditions
            .iter()
            .map(|(field, (kind, data))| (*field, kind.as_str(), data.as_str()))
            .collect();
        if let Some(number) = &number {
            list.retain(|(field, ..)| *field != "name");
            list.push(("name", "count", number));
        }
        rule("process", and, &list)
    })
}

fn any_values() -> impl Strategy<Value = Values> {
    prop::collection::btree_map(
        prop::sample::select(FIELDS.map(str::to_owned).to_vec()),
        prop_oneof!["[abAB/]{0,4}", "/(usr/)?bin/[abAB]{1,2}"],
        0..=FIELDS.len(),
    )
}

fn evaluate(engine: &Engine, values: &Values, count: Option<u64>, learn: bool) -> Vec<String> {
    let element = Element {
        class: support::class("process"),
        system: System::Linux,
        fields: values,
        count,
        learn,
    };
    let verdict = engine.evaluate(&element, &mut Scratch::default());
    verdict.detections.into_iter().map(|d| d.info).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn s12_s13_the_engine_agrees_with_the_contract_read_literally(
        rules in prop::collection::vec(any_rule(), 1..4),
        values in any_values(),
        count in prop::option::of(1_u64..4),
        learn in any::<bool>(),
    ) {
        let engine = engine(&rules, &List::default(), &List::default());
        let expected: Vec<_> =
            rules.iter().filter_map(|rule| naive(rule, &values, count, learn)).collect();
        prop_assert_eq!(evaluate(&engine, &values, count, learn), expected);
    }
}

fn default_engine() -> Engine {
    let (rules, _) = yinglong_rules::load_default();
    let lists = support::list(
        &[r"\.tmp$", "d41d8cd98f00b204e9800998ecf8427e"],
        &["10.0.0.0/8"],
        &["x"],
        &["y"],
    );
    engine(&rules, &lists, &lists)
}

proptest! {
    #[test]
    fn s14_no_value_panics_the_engine(
        kind in prop::sample::select(vec![
            "process", "connection", "file", "loginlog", "dns", "syscall", "exit", "loss", "userlist", "listening",
            "service", "startup", "crontab", "processlist", "unknown",
        ]),
        windows in any::<bool>(),
        values in prop::collection::btree_map(
            prop::sample::select(
                ["name", "command", "parentname", "path", "action", "hash", "sha256", "remote",
                 "remote_ip", "status", "description", "info", "web", "user"]
                .map(str::to_owned).to_vec(),
            ),
            prop_oneof!["\\PC{0,40}", "(?s).{0,40}", "[/\\\\|.]{0,10}", "[0-9a-f:.]{0,40}"],
            0..14,
        ),
        count in prop::option::of(any::<u64>()),
        learn in any::<bool>(),
    ) {
        thread_local! {
            static ENGINE: Engine = default_engine();
        }
        let system = if windows { System::Windows } else { System::Linux };
        ENGINE.with(|engine| {
            let class = support::class(kind);
            let element = Element { class, system, fields: &values, count, learn };
            engine.evaluate(&element, &mut Scratch::default())
        });
    }
}
