//! Short ways to write rules and elements down.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use yinglong_detect::{Detection, Element, Engine, Sample, Scratch, Verdict};
use yinglong_model::{config::List, event::System, inventory};
use yinglong_rules::{Class, Rule, Source, compile, load};

/// Field values by name.
pub(crate) type Values = inventory::Element;

pub(crate) fn values(pairs: &[(&str, &str)]) -> Values {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

/// A rule for every system with the given conditions: (field, type, data).
pub(crate) fn rule(source: &str, and: bool, conditions: &[(&str, &str, &str)]) -> Rule {
    let conditions: serde_json::Map<String, serde_json::Value> = conditions
        .iter()
        .map(|(field, kind, data)| {
            (
                (*field).to_owned(),
                serde_json::json!({"type": kind, "data": data}),
            )
        })
        .collect();
    let document = serde_json::json!({
        "id": "r", "enabled": true, "and": and, "source": source, "system": "all",
        "meta": {"name": "r", "author": "t", "description": "d", "level": 1},
        "rules": conditions,
    });
    let (mut rules, diagnostics) = load(&document.to_string());
    assert!(
        rules.len() == 1,
        "{document} does not load: {diagnostics:?}"
    );
    rules.remove(0)
}

pub(crate) fn list(file: &[&str], ip: &[&str], process: &[&str], other: &[&str]) -> List {
    let owned = |entries: &[&str]| entries.iter().map(|entry| (*entry).to_owned()).collect();
    List {
        file: owned(file),
        ip: owned(ip),
        process: owned(process),
        other: owned(other),
    }
}

/// The class of that name. Names that are none stand for a class no rule reads.
pub(crate) fn class(kind: &str) -> Class {
    Source::from_name(kind).map_or(Class::Log("unknown"), Class::Source)
}

/// An engine all of whose rules and entries compile.
pub(crate) fn engine(rules: &[Rule], white: &List, black: &List) -> Engine {
    let set = compile(rules, &Default::default());
    let mut diagnostics = set.diagnostics;
    let (engine, found) = Engine::new(set.rules, white, black, &Sample::default());
    diagnostics.extend(found);
    assert!(!diagnostics.iter().any(|d| d.is_error()), "{diagnostics:?}");
    engine
}

pub(crate) fn judge(engine: &Engine, kind: &str, fields: &Values, count: Option<u64>) -> Verdict {
    let element = Element {
        class: class(kind),
        system: System::Linux,
        fields,
        count,
        learn: false,
    };
    engine.evaluate(&element, &mut Scratch::default())
}

pub(crate) fn sources(verdict: &Verdict) -> Vec<&str> {
    verdict
        .detections
        .iter()
        .map(|Detection { source, .. }| source.as_str())
        .collect()
}
