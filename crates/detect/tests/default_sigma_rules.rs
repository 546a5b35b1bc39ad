//! The default Sigma rules: each matches what it is for and leaves alone what only looks like it,
//! and all of them together are quiet on a quiet day.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use yinglong_detect::{Element, Engine, Fields, Sample, Scratch};
use yinglong_model::{EventData, InventoryType, config::List, event::System, inventory};
use yinglong_rules::{
    Class, Compiled, Source, compile, load_default,
    sigma::{self, Options},
    taxonomy::{self, Binding, LogSource},
};

/// Alerts that a quiet day may raise, of rules of both languages.
const QUIET_DAY_ALERTS: usize = 4;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules")
}

/// Files below `rules/` with that ending, in order.
fn files(ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for place in ["all", "linux", "windows", "quiet-day"] {
        let Ok(entries) = fs::read_dir(folder().join(place)) else {
            continue;
        };
        found.extend(entries.map(|entry| entry.unwrap().path()));
    }
    found.retain(|path| path.to_string_lossy().ends_with(ending));
    found.sort();
    found
}

/// Our own types are categories of the same name.
fn mapping(source: &LogSource) -> Result<Vec<Binding>, String> {
    let own = source.category.as_deref().and_then(Source::from_name);
    let Some(own) = own.filter(|own| own.as_str() != "process") else {
        return taxonomy::bindings(source);
    };
    let systems = match source.product.as_deref() {
        None => vec![System::Linux, System::Windows],
        Some("windows") => vec![System::Windows],
        Some(_) => vec![System::Linux],
    };
    let binding = |system| Binding {
        class: Class::Source(own),
        system,
        condition: None,
    };
    Ok(systems.into_iter().map(binding).collect())
}

/// The rule of a file, and complaints about it.
fn read(path: &Path) -> (Option<Compiled>, Vec<String>) {
    let (documents, mut diagnostics) = sigma::parse(&fs::read_to_string(path).unwrap(), "");
    let loaded = sigma::compile_with(&documents, &Options::default(), &mapping);
    diagnostics.extend(loaded.diagnostics);
    let found = diagnostics
        .iter()
        .map(|d| format!("{}: {d}", path.display()));
    let refused = loaded.refused.iter().map(|r| r.reason.clone());
    (
        loaded.rules.into_iter().next(),
        found.chain(refused).collect(),
    )
}

/// The rule of a file.
fn rule(path: &Path) -> Compiled {
    let (rule, complaints) = read(path);
    rule.unwrap_or_else(|| panic!("{complaints:?}"))
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
                    | "exit_code" | "actor_pid" | "size" => json!(value.parse::<i64>().unwrap()),
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
            Some("windows") => System::Windows,
            _ => System::Linux,
        },
        fields: delivered.fields(),
        count: element["count"].as_u64(),
        learn: false,
    };
    let detections = engine.evaluate(&element, scratch).detections;
    let named = detections.into_iter().map(|d| (d.rule_id, d.source));
    named.collect()
}

fn engine(rules: impl IntoIterator<Item = Compiled>) -> Engine {
    let lists = (List::default(), List::default());
    let (engine, diagnostics) = Engine::new(rules, &lists.0, &lists.1, &Sample::default());
    assert_eq!(diagnostics, []);
    engine
}

#[test]
fn every_sigma_rule_loads_without_a_complaint() {
    let found: Vec<String> = files(".yml").iter().flat_map(|file| read(file).1).collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_sigma_rule_matches_its_examples_and_no_near_miss() {
    let files = files(".yml");
    assert!(!files.is_empty());
    let engine = engine(files.iter().map(|file| rule(file)));
    let always: Vec<_> = engine.always_evaluated();
    assert!(always.is_empty(), "without a text to look for: {always:#?}");
    let mut scratch = Scratch::default();
    let mut wrong = Vec::new();
    for file in files {
        let id = rule(&file).about.id.clone();
        let tests = file.with_extension("test.json");
        let text = fs::read_to_string(&tests).unwrap_or_else(|e| panic!("{tests:?}: {e}"));
        let tests: Value = serde_json::from_str(&text).unwrap();
        for (key, expected) in [("match", true), ("near_miss", false)] {
            let elements = tests[key].as_array().unwrap();
            assert!(elements.len() >= 2, "{file:?} has few {key}");
            for (index, element) in elements.iter().enumerate() {
                let found = judge(&engine, element, &mut scratch);
                if found.iter().any(|(of, _)| *of == id) != expected {
                    wrong.push(format!("{} {key}[{index}]: {element}", file.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sigma_rules_have_distinct_names_and_all_that_people_need() {
    let rules: Vec<Compiled> = files(".yml").iter().map(|file| rule(file)).collect();
    let (classic, _) = load_default();
    let mut names: Vec<&str> = classic.iter().map(|rule| rule.meta.name.as_str()).collect();
    let mut ids: Vec<&str> = classic.iter().map(|rule| rule.id.as_str()).collect();
    names.extend(rules.iter().map(|rule| rule.about.name.as_str()));
    ids.extend(rules.iter().map(|rule| rule.about.id.as_str()));
    for list in [&mut names, &mut ids] {
        list.sort_unstable();
        let twice: Vec<_> = list.windows(2).filter(|pair| pair[0] == pair[1]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
    for rule in &rules {
        let about = &rule.about;
        assert!(!about.description.is_empty(), "{}", about.name);
        assert!(!about.description_zh.is_empty(), "{}", about.name);
        assert!(!about.false_positives.is_empty(), "{}", about.name);
        assert!(!about.attack.is_empty(), "{}", about.name);
    }
}

#[test]
fn a_quiet_day_raises_fewer_than_five_alerts() {
    let days = files(".ndjson");
    assert!(!days.is_empty());
    let (classic, _) = load_default();
    let (mut rules, _) = compile(&classic);
    rules.extend(files(".yml").iter().map(|file| rule(file)));
    let engine = engine(rules);
    let mut scratch = Scratch::default();
    for day in days {
        let text = fs::read_to_string(&day).unwrap();
        let mut alerts = Vec::new();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let element: Value = serde_json::from_str(line).unwrap();
            for (_, source) in judge(&engine, &element, &mut scratch) {
                alerts.push(format!("{source}: {line}"));
            }
        }
        let count = alerts.len();
        assert!(
            count <= QUIET_DAY_ALERTS,
            "{}: {count} alerts\n{}",
            day.display(),
            alerts.join("\n")
        );
    }
}
