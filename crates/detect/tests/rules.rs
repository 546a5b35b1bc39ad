//! Rule semantics: condition types, joining, routing, learn mode (S12, S13, S16, S17).

mod support;

use std::{borrow::Cow, cell::RefCell};

use support::{Values, class, engine, judge, rule, sources, values};
use yinglong_detect::{Element, Engine, Fields, Sample, Scratch};
use yinglong_model::{
    EventData,
    config::List,
    event::{Connection, File, Process, System},
    rule::Level,
};
use yinglong_rules::{Rule, compile};

fn one(rule: &Rule) -> Engine {
    engine(
        std::slice::from_ref(rule),
        &List::default(),
        &List::default(),
    )
}

fn fires(rule: &Rule, kind: &str, fields: &Values, count: Option<u64>) -> bool {
    !judge(&one(rule), kind, fields, count).detections.is_empty()
}

#[test]
fn s12_each_condition_type_holds_as_the_contract_says() {
    let cases: &[(&str, &str, &str, bool)] = &[
        ("string", "id -u", "ID -U", true),
        ("string", "id -u", "id -u ", false),
        ("string", "Ä", "ä", true),
        ("string", "a.c", "abc", false),
        ("regex", "i.\\s", "xID y", true),
        ("regex", "^id", "xid", false),
        ("regex", "УТФ", "утф", true),
        ("non-regex", "evil", "good", true),
        ("non-regex", "evil", "so EVIL", false),
        ("non-regex", "evil", "", false),
    ];
    for (kind, data, value, expected) in cases {
        let rule = rule("process", true, &[("command", kind, data)]);
        let fields = values(&[("command", value)]);
        assert_eq!(
            fires(&rule, "process", &fields, None),
            *expected,
            "{kind} {data} {value}"
        );
        assert!(
            !fires(&rule, "process", &values(&[]), None),
            "{kind} on an absent value"
        );
    }
}

#[test]
fn s12_count_equals_the_statistics_count_after_the_update() {
    let second = rule("process", true, &[("name", "count", "2")]);
    let fields = values(&[("name", "/bin/x")]);
    for (count, expected) in [
        (Some(1), false),
        (Some(2), true),
        (Some(3), false),
        (None, false),
    ] {
        assert_eq!(
            fires(&second, "process", &fields, count),
            expected,
            "{count:?}"
        );
    }
}

#[test]
fn s12_classic_count_on_remote_means_the_address_without_its_port() {
    let first = rule("connection", true, &[("remote", "count", "1")]);
    let data = EventData::Connection(Connection {
        remote: "192.0.2.7:443".into(),
        remote_ip: "192.0.2.7".into(),
        ..Connection::default()
    });
    let element = Element {
        class: class("connection"),
        system: System::Linux,
        fields: &data,
        count: Some(1),
        learn: false,
    };
    let verdict = one(&first).evaluate(&element, &mut Scratch::default());
    assert_eq!(verdict.detections[0].info, "192.0.2.7");
}

#[test]
fn s16_in_learn_mode_count_holds_whatever_the_count_is() {
    let first = rule(
        "process",
        true,
        &[("name", "count", "1"), ("command", "regex", "x")],
    );
    let engine = one(&first);
    let element = |fields, count, learn| Element {
        class: class("process"),
        system: System::Linux,
        fields,
        count,
        learn,
    };
    let fields = values(&[("name", "/bin/x"), ("command", "x")]);
    assert_eq!(
        engine
            .evaluate(&element(&fields, Some(9), true), &mut Scratch::default())
            .detections
            .len(),
        1
    );
    assert_eq!(
        engine
            .evaluate(&element(&fields, Some(9), false), &mut Scratch::default())
            .detections
            .len(),
        0
    );
    let other = values(&[("name", "/bin/x"), ("command", "y")]);
    assert_eq!(
        engine
            .evaluate(&element(&other, Some(9), true), &mut Scratch::default())
            .detections
            .len(),
        0
    );
    let nameless = values(&[("name", ""), ("command", "x")]);
    assert_eq!(
        engine
            .evaluate(&element(&nameless, None, true), &mut Scratch::default())
            .detections
            .len(),
        0
    );
}

#[test]
fn s13_and_needs_all_fields_or_needs_one() {
    let conditions = [("name", "string", "a"), ("command", "string", "b")];
    let cases = [
        ("a", "b", true, true),
        ("a", "x", false, true),
        ("x", "b", false, true),
        ("x", "x", false, false),
    ];
    for (name, command, all, any) in cases {
        let fields = values(&[("name", name), ("command", command)]);
        let fired = |and| fires(&rule("process", and, &conditions), "process", &fields, None);
        assert_eq!((fired(true), fired(false)), (all, any), "{name} {command}");
    }
}

#[test]
fn s13_a_rule_sees_only_its_source_and_its_system() {
    let fields = values(&[("name", "a")]);
    for source in ["process", "connection", "userlist", "crontab", "listening"] {
        let engine = one(&rule(source, true, &[("name", "string", "a")]));
        for kind in [
            "process",
            "connection",
            "userlist",
            "crontab",
            "listening",
            "weather",
        ] {
            let fired = !judge(&engine, kind, &fields, None).detections.is_empty();
            assert_eq!(fired, kind == source, "{source} {kind}");
        }
    }
    for (wanted, linux, windows) in [
        ("linux", true, false),
        ("windows", false, true),
        ("all", true, true),
    ] {
        let mut rule = rule("process", true, &[("name", "string", "a")]);
        rule.system = wanted.into();
        let engine = one(&rule);
        for (system, expected) in [(System::Linux, linux), (System::Windows, windows)] {
            let element = Element {
                class: class("process"),
                system,
                fields: &fields,
                count: None,
                learn: false,
            };
            let fired = !engine
                .evaluate(&element, &mut Scratch::default())
                .detections
                .is_empty();
            assert_eq!(fired, expected, "{wanted} on {system:?}");
        }
    }
}

#[test]
fn m01_an_executable_matches_by_path_and_by_base_name() {
    let cases: &[(&str, &str, &str, bool)] = &[
        ("string", "bash", "/usr/bin/bash", true),
        ("string", "/usr/bin/bash", "/usr/bin/bash", true),
        ("string", "bin/bash", "/usr/bin/bash", false),
        ("regex", "^bash$", "/usr/bin/bash", true),
        ("regex", "/bin/", "/usr/bin/bash", true),
        ("regex", "^nmap", "/usr/bin/znmap", false),
        ("non-regex", "^bash$", "/usr/bin/bash", false),
        ("non-regex", "/bin/", "/usr/bin/bash", false),
        ("non-regex", "^zsh$", "/usr/bin/bash", true),
    ];
    for (kind, data, value, expected) in cases {
        for field in ["name", "parentname"] {
            let rule = rule("process", true, &[(field, kind, data)]);
            let fired = fires(&rule, "process", &values(&[(field, value)]), None);
            assert_eq!(fired, *expected, "{field} {kind} {data} {value}");
        }
    }
    let command = rule("process", true, &[("command", "string", "bash")]);
    assert!(!fires(
        &command,
        "process",
        &values(&[("command", "/usr/bin/bash")]),
        None
    ));
}

#[test]
fn a_file_that_was_created_and_written_was_written() {
    let written = rule("file", true, &[("action", "string", "WRITE")]);
    for (action, expected) in [
        ("WRITE", true),
        ("CREATE|WRITE", true),
        ("CREATE", false),
        ("WRITER", false),
    ] {
        let data = EventData::File(Box::new(File {
            action: action.into(),
            ..File::default()
        }));
        let element = Element {
            class: class("file"),
            system: System::Linux,
            fields: &data,
            count: None,
            learn: false,
        };
        assert_eq!(
            !one(&written)
                .evaluate(&element, &mut Scratch::default())
                .detections
                .is_empty(),
            expected,
            "{action}"
        );
    }
}

#[test]
fn s17_a_detection_carries_what_the_alert_needs() {
    let mut rule = rule(
        "process",
        false,
        &[
            ("name", "regex", "z"),
            ("command", "string", "a"),
            ("user", "string", "nobody"),
        ],
    );
    rule.meta.level = Level::Hint;
    rule.meta.description_zh = "描述".into();
    rule.meta.attack = vec!["T1059".into()];
    let data = EventData::Process(Box::new(Process {
        name: "/bin/z".into(),
        command: "A".into(),
        ..Process::default()
    }));
    let element = Element {
        class: class("process"),
        system: System::Linux,
        fields: &data,
        count: None,
        learn: false,
    };
    let verdict = one(&rule).evaluate(&element, &mut Scratch::default());
    let detection = &verdict.detections[0];
    assert_eq!(detection.source, "r");
    assert_eq!(detection.rule_id, "r");
    assert_eq!(detection.level, Level::Hint);
    assert_eq!(
        detection.info, "/bin/z|A",
        "sorted values, not sorted fields"
    );
    assert_eq!(detection.description, "d");
    assert_eq!(detection.description_zh, "描述");
    assert_eq!(detection.attack, ["T1059"]);
    let matched: Vec<_> = detection
        .matched
        .iter()
        .map(|m| (m.field.as_str(), m.value.as_str(), m.condition.as_str()))
        .collect();
    assert_eq!(
        matched,
        [("command", "A", "string a"), ("name", "/bin/z", "regex z")]
    );
}

#[test]
fn s18_two_rules_on_one_event_are_two_detections() {
    let first = rule("process", true, &[("name", "string", "a")]);
    let mut second = first.clone();
    second.id = "r2".into();
    second.meta.name = "r2".into();
    let engine = engine(&[first, second], &List::default(), &List::default());
    let verdict = judge(&engine, "process", &values(&[("name", "a")]), None);
    assert_eq!(sources(&verdict), ["r", "r2"]);
}

#[test]
fn a_disabled_rule_is_not_evaluated() {
    let mut rule = rule("process", true, &[("name", "string", "a")]);
    rule.enabled = false;
    let engine = one(&rule);
    assert_eq!(engine.rule_count(), 0);
    assert_eq!(
        judge(&engine, "process", &values(&[("name", "a")]), None).detections,
        []
    );
}

#[test]
fn s14_an_invalid_stored_rule_is_reported_and_the_others_work() {
    let good = rule("process", true, &[("name", "string", "a")]);
    let mut bad = good.clone();
    bad.meta.name = "bad".into();
    bad.rules.get_mut("name").unwrap().kind = "regx".into();
    let set = compile(&[bad, good], &Default::default());
    let (compiled, diagnostics) = (set.rules, set.diagnostics);
    let lists = (List::default(), List::default());
    let (engine, _) = Engine::new(compiled, &lists.0, &lists.1, &Sample::default());
    assert_eq!(engine.rule_count(), 1);
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].rule, "bad");
    let verdict = judge(&engine, "process", &values(&[("name", "a")]), None);
    assert_eq!(sources(&verdict), ["r"]);
}

#[test]
fn a_rule_without_a_witness_in_the_event_is_not_looked_at() {
    struct Asked(RefCell<Vec<String>>);
    impl Fields for Asked {
        fn get(&self, name: &str) -> Option<Cow<'_, str>> {
            self.0.borrow_mut().push(name.to_owned());
            Some("x".into())
        }

        fn each(&self, _: &mut dyn FnMut(&str, &str)) {}
    }
    let conditions = [("command", "regex", "[a-z]"), ("cwd", "string", "/dev/shm")];
    let engine = one(&rule("process", true, &conditions));
    let fields = Asked(RefCell::new(Vec::new()));
    let element = Element {
        class: class("process"),
        system: System::Linux,
        fields: &fields,
        count: None,
        learn: false,
    };
    engine.evaluate(&element, &mut Scratch::default());
    assert_eq!(*fields.0.borrow(), ["cwd"]);
}

#[test]
fn an_engine_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Engine>();
}
