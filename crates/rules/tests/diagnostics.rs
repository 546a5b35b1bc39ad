//! What is wrong with a rule is said where it is wrong, and the other rules load (S14).

use proptest::prelude::*;
use serde_json::{Value, json};
use yinglong_rules::{Diagnostic, Severity, load};

fn valid() -> Value {
    json!({
        "enabled": true, "and": true, "source": "process", "system": "linux",
        "meta": {"name": "n", "author": "a", "description": "d", "level": 0},
        "rules": {"command": {"type": "regex", "data": "x"}},
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut rule = valid();
    *rule
        .pointer_mut(pointer)
        .expect("a place in the valid rule") = value;
    rule
}

fn conditions(source: &str, and: bool, conditions: Value) -> Value {
    let mut rule = valid();
    rule["source"] = source.into();
    rule["and"] = and.into();
    rule["rules"] = conditions;
    rule
}

fn check(rule: &Value) -> (bool, Vec<Diagnostic>) {
    let (rules, diagnostics) = load(&rule.to_string());
    (rules.len() == 1, diagnostics)
}

#[test]
fn s14_an_invalid_rule_is_refused_with_place_reason_and_suggestion() {
    let count = |field: &str, data: &str| json!({field: {"type": "count", "data": data}});
    let cases = [
        (
            with("/rules/command/data", json!("(")),
            "rules.command.data",
            None,
        ),
        (
            with("/rules/command/data", json!(r"\w{9999}\w{9999}")),
            "rules.command.data",
            None,
        ),
        (
            with("/rules/command/type", json!("regx")),
            "rules.command.type",
            Some("regex"),
        ),
        (with("/source", json!("proces")), "source", Some("process")),
        (with("/source", json!("weather")), "source", None),
        (with("/system", json!("Linux")), "system", Some("linux")),
        (with("/system", json!("")), "system", None),
        (with("/meta/level", json!(3)), "meta.level", None),
        (with("/meta/level", json!(-1)), "meta.level", None),
        (with("/meta/name", json!(" ")), "meta.name", None),
        (with("/meta", json!([])), "meta", None),
        (with("/rules", json!({})), "rules", None),
        (with("/rules", json!("x")), "rules", None),
        (with("/rules/command", json!(7)), "rules.command", None),
        (
            with("/rules/command/data", json!(null)),
            "rules.command.data",
            None,
        ),
        (with("/and", json!("yes")), "and", None),
        (
            conditions(
                "process",
                true,
                json!({"comand": {"type": "string", "data": "x"}}),
            ),
            "rules.comand",
            Some("command"),
        ),
        (
            conditions("process", true, count("name", "one")),
            "rules.name.data",
            None,
        ),
        (
            conditions("process", true, count("name", "-1")),
            "rules.name.data",
            None,
        ),
        (
            conditions("process", true, count("command", "1")),
            "rules.command.data",
            Some("name"),
        ),
        (
            conditions("file", true, count("path", "1")),
            "rules.path.data",
            None,
        ),
        (
            conditions("loginlog", true, count("username", "1")),
            "rules.username.data",
            Some("remote"),
        ),
    ];
    for (rule, path, suggestion) in cases {
        let (loaded, diagnostics) = check(&rule);
        assert!(!loaded, "{rule} loads");
        let error = diagnostics
            .iter()
            .find(|d| d.severity == Severity::Error && d.path == path)
            .unwrap_or_else(|| panic!("{rule} has no error at {path}: {diagnostics:#?}"));
        assert_eq!(error.suggestion.as_deref(), suggestion, "{rule}");
        assert!(!error.reason.is_empty());
    }
}

#[test]
fn s14_a_rule_that_can_never_fire_is_loaded_and_reported() {
    let is = |data: &str| json!({"type": "string", "data": data});
    let cases = [
        conditions("file", true, json!({"action": is("DELETE")})),
        conditions(
            "file",
            true,
            json!({"action": {"type": "regex", "data": "DELETE"}}),
        ),
        conditions("file", true, json!({"hash": is("abc")})),
        conditions(
            "process",
            true,
            json!({"name": {"type": "count", "data": "0"}}),
        ),
        conditions("process", true, json!({"pid": is("bash")})),
        conditions(
            "process",
            true,
            json!({"command": {"type": "non-regex", "data": ".*"}}),
        ),
        conditions(
            "connection",
            true,
            json!({"dir": is("inbound"), "name": is("nc")}),
        ),
        conditions(
            "connection",
            false,
            json!({"dir": is("inbound"), "protocol": is("icmp")}),
        ),
        conditions(
            "connection",
            true,
            json!({
                "remote": {"type": "count", "data": "1"},
                "remote_ip": {"type": "count", "data": "2"},
            }),
        ),
        conditions("loginlog", true, json!({"status": is("ok")})),
    ];
    for rule in cases {
        let (loaded, diagnostics) = check(&rule);
        assert!(loaded, "{rule} does not load: {diagnostics:#?}");
        assert!(
            diagnostics.iter().any(|d| d.reason.contains("never fire")),
            "{rule}: {diagnostics:#?}"
        );
    }
}

#[test]
fn a_rule_that_can_fire_is_not_reported() {
    let is = |data: &str| json!({"type": "string", "data": data});
    let cases = [
        conditions("file", true, json!({"action": is("create|write")})),
        conditions(
            "file",
            true,
            json!({"action": {"type": "non-regex", "data": "CHMOD"}}),
        ),
        conditions(
            "file",
            true,
            json!({"hash": is("D41D8CD98F00B204E9800998ECF8427E")}),
        ),
        conditions("process", true, json!({"uid": is("1000")})),
        conditions("connection", true, json!({"dir": is("OUT")})),
        conditions("service", true, json!({"started": is("True")})),
        conditions(
            "listening",
            true,
            json!({"address": {"type": "count", "data": 3}}),
        ),
    ];
    for rule in cases {
        let (loaded, diagnostics) = check(&rule);
        assert!(loaded && diagnostics.is_empty(), "{rule}: {diagnostics:#?}");
    }
}

#[test]
fn a_rule_over_what_no_agent_of_its_system_sends_is_loaded_and_reported() {
    let is = |data: &str| json!({"type": "string", "data": data});
    let mut windows = conditions("dns", true, json!({"query": is("example.org")}));
    windows["system"] = json!("windows");
    let unfilled = conditions("process", true, json!({"exit_code": is("-9")}));
    for (rule, reason) in [
        (windows, "no sensor provides events of dns on windows"),
        (unfilled, "no sensor provides field `exit_code` on linux"),
    ] {
        let (loaded, diagnostics) = check(&rule);
        assert!(loaded, "{rule}: {diagnostics:#?}");
        let [warning] = &diagnostics[..] else {
            panic!("{rule}: {diagnostics:#?}");
        };
        assert_eq!(warning.severity, Severity::Warning);
        assert_eq!(warning.path, "system");
        assert!(warning.reason.starts_with(reason), "{}", warning.reason);
        assert!(warning.reason.ends_with("never fire"), "{}", warning.reason);
    }
    let mut both = conditions("dns", true, json!({"query": is("example.org")}));
    both["system"] = json!("all");
    assert_eq!(check(&both), (true, Vec::new()));
}

#[test]
fn one_impossible_condition_of_an_or_rule_is_reported_alone() {
    let is = |data: &str| json!({"type": "string", "data": data});
    let rule = conditions(
        "connection",
        false,
        json!({"dir": is("up"), "name": is("nc")}),
    );
    let (loaded, diagnostics) = check(&rule);
    assert!(loaded);
    assert_eq!(diagnostics.len(), 1, "{diagnostics:#?}");
    assert_eq!(diagnostics[0].path, "rules.dir.data");
}

#[test]
fn s14_invalid_rules_are_refused_one_by_one() {
    let array = json!([valid(), with("/rules/command/data", json!("(")), 7, valid()]);
    let (rules, diagnostics) = load(&array.to_string());
    assert_eq!(rules.len(), 2);
    assert_eq!(rules[0].id, "n-process-linux");
    assert_eq!(rules[1].id, "n-process-linux-2");
    let paths: Vec<_> = diagnostics.iter().map(|d| d.path.as_str()).collect();
    assert_eq!(paths, ["[1].rules.command.data", "[2]", "[3].meta.name"]);
}

#[test]
fn an_id_can_be_used_once() {
    let mut rule = valid();
    rule["id"] = "mine".into();
    let (rules, diagnostics) = load(&json!([rule, rule]).to_string());
    assert_eq!(rules.len(), 1);
    assert!(
        diagnostics
            .iter()
            .any(|d| d.is_error() && d.path == "[1].id")
    );
}

#[test]
fn regexp_is_read_as_regex_with_a_warning() {
    let (rules, diagnostics) = load(&with("/rules/command/type", json!("regexp")).to_string());
    assert_eq!(rules[0].rules["command"].kind, "regex");
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].severity, Severity::Warning);
    assert_eq!(diagnostics[0].path, "rules.command.type");
}

#[test]
fn a_database_export_loads_and_a_misspelt_key_is_reported() {
    let mut rule = valid();
    rule["_id"] = json!({"$oid": "5a0d"});
    assert_eq!(check(&rule), (true, Vec::new()));
    rule["enabeld"] = json!(true);
    let (loaded, diagnostics) = check(&rule);
    assert!(loaded);
    assert_eq!(diagnostics[0].suggestion.as_deref(), Some("enabled"));
}

#[test]
fn what_is_not_json_is_one_error() {
    for text in ["", "{", "[1", &"[".repeat(100_000)] {
        let (rules, diagnostics) = load(text);
        assert!(rules.is_empty());
        assert_eq!(diagnostics.len(), 1);
        assert!(diagnostics[0].is_error());
    }
}

fn arbitrary_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let key = prop_oneof![
            "\\PC{0,6}",
            prop::sample::select(vec![
                "id", "enabled", "and", "source", "system", "meta", "rules", "name", "level",
                "type", "data",
            ])
            .prop_map(str::to_owned),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..8)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

/// A rule some of whose parts are replaced by anything.
fn damaged_rule() -> impl Strategy<Value = Value> {
    let places = vec![
        "/enabled",
        "/and",
        "/source",
        "/system",
        "/meta",
        "/meta/name",
        "/meta/level",
        "/rules",
        "/rules/command",
        "/rules/command/type",
        "/rules/command/data",
    ];
    (prop::sample::select(places), arbitrary_json()).prop_map(|(place, value)| with(place, value))
}

proptest! {
    #[test]
    fn s14_no_document_panics_the_loader(value in prop_oneof![arbitrary_json(), damaged_rule()]) {
        let (rules, diagnostics) = load(&value.to_string());
        let wanted = match &value {
            Value::Array(values) => values.len(),
            _ => 1,
        };
        prop_assert!(rules.len() <= wanted);
        if rules.len() < wanted {
            prop_assert!(diagnostics.iter().any(Diagnostic::is_error));
        }
    }

    #[test]
    fn s14_no_text_panics_the_loader(text in "\\PC{0,64}") {
        load(&text);
    }
}

#[test]
fn a_rule_in_sigma_is_read_as_it_is_listed_with_its_switch() {
    let document = "title: Netcat\nid: 3f0f2a2e-5f3a-4a0e-9a44-6b8d7d1f0a01\n\
        logsource: {product: linux, category: process_creation}\n\
        detection: {s: {Image|endswith: /nc}, condition: s}\nlevel: high\n";
    let (written, _) = yinglong_rules::read(document, "");
    let mut off = written[0].clone();
    off.enabled = false;
    let listed = serde_json::to_string(&[&off]).expect("a rule is JSON");
    assert_eq!(load(&listed), (vec![off], vec![]));

    let broken = document.replace("condition: s", "condition: x");
    let two = format!("{document}---\n{document}");
    for (sigma, path) in [
        (broken.as_str(), "sigma.detection.condition"),
        (&two, "sigma"),
        ("- 1", "sigma."),
    ] {
        let (valid, found) = check(&json!({"sigma": sigma}));
        assert!(!valid, "{sigma}");
        let paths: Vec<&str> = found.iter().map(|found| found.path.as_str()).collect();
        assert!(paths.contains(&path), "{sigma}: {found:?}");
    }
    let (valid, found) = check(&json!({"sigma": document, "enabled": "no"}));
    assert!(!valid);
    assert_eq!(found[0].path, "enabled");
}
