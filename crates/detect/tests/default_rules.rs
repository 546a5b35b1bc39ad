//! The default rules: each matches what it is for and leaves alone what only looks like it (R02).

use std::{fs, path::Path};

mod support;

use serde_json::Value;
use yinglong_detect::{Element, Engine, Scratch};
use yinglong_model::{config::List, event::System, inventory};
use yinglong_rules::{Rule, default_rules, load, load_default};

fn system(text: &str) -> System {
    match text {
        "linux" => System::Linux,
        "windows" => System::Windows,
        other => panic!("`{other}` is not a system"),
    }
}

/// Whether the rule detects the element of a test file.
fn detects(engine: &Engine, rule: &Rule, element: &Value) -> bool {
    let fields: inventory::Element =
        serde_json::from_value(element["fields"].clone()).expect("fields are texts");
    let element = Element {
        class: support::class(element["kind"].as_str().expect("kind is a text")),
        system: system(element["system"].as_str().expect("system is a text")),
        fields: &fields,
        count: element["count"].as_u64(),
        learn: false,
    };
    let verdict = engine.evaluate(&element, &mut Scratch::default());
    verdict.detections.iter().any(|d| d.rule_id == rule.id)
}

#[test]
fn r02_every_default_rule_matches_its_examples_and_no_near_miss() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../rules");
    let (rules, diagnostics) = load_default();
    assert_eq!(diagnostics, []);
    let engine = support::engine(&rules, &List::default(), &List::default());
    let mut wrong = Vec::new();
    for (file, json) in default_rules() {
        let (loaded, _) = load(json);
        let rule = &loaded[0];
        let tests = folder.join(file.replace(".json", ".test.json"));
        let tests: Value = serde_json::from_str(&fs::read_to_string(tests).unwrap()).unwrap();
        for (key, expected) in [("match", true), ("near_miss", false)] {
            let elements = tests[key].as_array().unwrap();
            assert!(!elements.is_empty(), "{file} has no {key}");
            for (index, element) in elements.iter().enumerate() {
                if detects(&engine, rule, element) != expected {
                    wrong.push(format!("{file} {key}[{index}]: {element}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn r03_there_are_24_default_rules_with_distinct_names_and_stable_ids() {
    let (rules, _) = load_default();
    assert_eq!(rules.len(), 24);
    let mut names: Vec<_> = rules.iter().map(|rule| rule.meta.name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), 24);
    for rule in &rules {
        assert!(rule.enabled, "{}", rule.id);
        assert!(rule.id.starts_with("yl-"), "{}", rule.id);
        assert!(!rule.meta.description.is_empty(), "{}", rule.id);
        assert!(!rule.meta.description_zh.is_empty(), "{}", rule.id);
        assert!(!rule.meta.false_positives.is_empty(), "{}", rule.id);
    }
}

#[test]
fn a_quiet_linux_host_raises_nothing() {
    let (rules, _) = load_default();
    let engine = support::engine(&rules, &List::default(), &List::default());
    let commands = [
        ("/usr/bin/ls", "ls -la /var/lib", "bash"),
        ("/usr/bin/vim.basic", "vim /etc/hosts", "bash"),
        ("/usr/sbin/nginx", "nginx -g daemon on;", "systemd"),
        (
            "/usr/sbin/apache2",
            "/usr/sbin/apache2 -k start",
            "apache2ctl",
        ),
        ("/usr/bin/ssh", "ssh -D 1080 ops@192.0.2.1", "bash"),
        ("/usr/bin/apt", "apt upgrade", "sudo"),
        ("/usr/bin/git", "git log --history", "bash"),
        (
            "/usr/bin/systemctl",
            "systemctl restart yinglong-agent",
            "bash",
        ),
        ("/usr/bin/make", "make -C /usr/src all", "bash"),
    ];
    for (name, command, parent) in commands {
        let fields = inventory::Element::from(
            [("name", name), ("command", command), ("parentname", parent)]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let element = Element {
            class: support::class("process"),
            system: System::Linux,
            fields: &fields,
            count: Some(17),
            learn: false,
        };
        let verdict = engine.evaluate(&element, &mut Scratch::default());
        assert_eq!(verdict.detections, [], "{command}");
    }
}
