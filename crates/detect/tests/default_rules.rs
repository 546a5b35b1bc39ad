//! The default rules of both languages: each matches what it is for and leaves alone what only looks
//! like it (R02), and all of them together are quiet on a quiet day.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use yinglong_detect::{Element, Engine, Fields, Sample, Scratch};
use yinglong_model::{EventData, InventoryType, config::List, event::System, inventory};
use yinglong_rules::{Ruleset, Source, compile, default_rules, load_default, read};

/// Alerts that a quiet day may raise.
const QUIET_DAY_ALERTS: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules")
}

/// An element of a test file as agents deliver it.
enum Delivered {
    Event(EventData),
    Inventory(inventory::Element),
}

impl Delivered {
    fn read(element: &Value) -> Self {
        let kind = element["kind"].as_str().expect("kind is a text");
        let fields: BTreeMap<String, String> =
            serde_json::from_value(element["fields"].clone()).expect("fields are texts");
        if InventoryType::from_name(kind).is_some() {
            return Self::Inventory(fields);
        }
        let typed: serde_json::Map<String, Value> = fields
            .into_iter()
            .map(|(name, value)| {
                let typed = match name.as_str() {
                    "ancestors" => json!(value.split('|').collect::<Vec<_>>()),
                    "memfd" | "setuid" | "truncated" | "web" => json!(value == "true"),
                    "pid" | "ppid" | "uid" | "euid" | "gid" | "session" | "loginuid"
                    | "exit_code" | "actor_pid" | "size" => {
                        json!(value.parse::<i64>().expect("a number"))
                    }
                    _ => json!(value),
                };
                (name, typed)
            })
            .collect();
        let known = Source::from_name(kind)
            .expect("kind is a type")
            .field_names();
        for name in typed.keys() {
            assert!(known.contains(&name.as_str()), "{kind} has no field {name}");
        }
        let event = json!({"type": kind, "data": typed});
        Self::Event(serde_json::from_value(event).unwrap_or_else(|e| panic!("{element}: {e}")))
    }

    fn fields(&self) -> &dyn Fields {
        match self {
            Self::Event(event) => event,
            Self::Inventory(element) => element,
        }
    }
}

fn judge(engine: &Engine, element: &Value, scratch: &mut Scratch) -> Vec<(String, String)> {
    let delivered = Delivered::read(element);
    let kind = element["kind"].as_str().expect("kind is a text");
    let element = Element {
        class: Source::from_name(kind).expect("kind is a type").into(),
        system: match element["system"].as_str() {
            Some("linux") => System::Linux,
            Some("windows") => System::Windows,
            other => panic!("{other:?} is not a system"),
        },
        fields: delivered.fields(),
        count: element["count"].as_u64(),
        learn: false,
    };
    let detections = engine.evaluate(&element, scratch).detections;
    let named = detections.into_iter().map(|d| (d.rule_id, d.source));
    named.collect()
}

/// All default rules, without a complaint.
fn ruleset() -> Ruleset {
    let (rules, diagnostics) = load_default();
    assert_eq!(diagnostics, []);
    let set = compile(&rules, &BTreeMap::new());
    assert_eq!(set.diagnostics, []);
    assert_eq!(set.rules.len() + set.correlations.len(), rules.len());
    set
}

fn engine() -> Engine {
    let none = List::default();
    let (engine, diagnostics) = Engine::new(ruleset().rules, &none, &none, &Sample::default());
    assert_eq!(diagnostics, []);
    engine
}

#[test]
fn r02_every_default_rule_matches_its_examples_and_no_near_miss() {
    let engine = engine();
    let always = engine.always_evaluated();
    assert!(always.is_empty(), "without a text to look for: {always:#?}");
    let mut scratch = Scratch::default();
    let mut wrong = Vec::new();
    for (file, text) in default_rules() {
        let (rules, _) = read(text, file);
        let rule = rules.first().expect("a rule in each file");
        let tests = folder().join(file).with_extension("test.json");
        let tests = fs::read_to_string(&tests).unwrap_or_else(|e| panic!("{tests:?}: {e}"));
        let tests: Value = serde_json::from_str(&tests).unwrap();
        for (key, expected) in [("match", true), ("near_miss", false)] {
            let elements = tests[key].as_array().unwrap();
            assert!(!elements.is_empty(), "{file} has no {key}");
            for (index, element) in elements.iter().enumerate() {
                let found = judge(&engine, element, &mut scratch);
                if found.iter().any(|(of, _)| *of == rule.id) != expected {
                    wrong.push(format!("{file} {key}[{index}]: {element}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn r03_there_are_at_least_120_default_rules_with_all_that_people_need() {
    let (rules, _) = load_default();
    assert!(rules.len() >= 120, "{}", rules.len());
    let mut names: Vec<&str> = rules.iter().map(|rule| rule.meta.name.as_str()).collect();
    let mut ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
    for list in [&mut names, &mut ids] {
        list.sort_unstable();
        let twice: Vec<_> = list.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
    for rule in &rules {
        assert!(rule.enabled, "{}", rule.id);
        assert!(!rule.meta.description.is_empty(), "{}", rule.id);
        assert!(!rule.meta.description_zh.is_empty(), "{}", rule.id);
        assert!(!rule.meta.false_positives.is_empty(), "{}", rule.id);
        assert!(
            !rule.meta.attack.is_empty() || rule.sigma.is_empty(),
            "{}",
            rule.id
        );
    }
    let classic = rules.iter().filter(|rule| rule.sigma.is_empty());
    assert_eq!(
        classic.count(),
        24,
        "the classic 23, and a Linux web script rule"
    );
}

#[test]
fn a_quiet_day_raises_fewer_than_five_alerts() {
    let engine = engine();
    let mut scratch = Scratch::default();
    for day in ["linux", "windows"] {
        let path = folder()
            .join("quiet-day")
            .join(day)
            .with_extension("ndjson");
        let text = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        assert!(lines.len() > 100, "{day}");
        let mut alerts = Vec::new();
        for line in lines {
            let element: Value = serde_json::from_str(line).unwrap();
            for (_, source) in judge(&engine, &element, &mut scratch) {
                alerts.push(format!("{source}: {line}"));
            }
        }
        let count = alerts.len();
        let alerts = alerts.join("\n");
        assert!(count <= QUIET_DAY_ALERTS, "{day}: {count} alerts\n{alerts}");
    }
}
