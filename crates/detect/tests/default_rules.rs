//! The default rules of both languages: each matches what it is for and leaves alone what only looks
//! like it (R02), and all of them together are quiet on a quiet day.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use yinglong_detect::{Engine, Sample, Scratch, example::Example};
use yinglong_model::config::List;
use yinglong_rules::{Ruleset, compile, default_rules, load_default, read};

/// Alerts that a quiet day may raise.
const QUIET_DAY_ALERTS: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules")
}

fn judge(engine: &Engine, element: &Value, scratch: &mut Scratch) -> Vec<(String, String)> {
    let example = Example::read(element).unwrap_or_else(|e| panic!("{element}: {e}"));
    let detections = engine.evaluate(&example.element(), scratch).detections;
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
        25,
        "the classic 23, a Linux web script rule, and what YARA found"
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
