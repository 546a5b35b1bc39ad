//! What people read about a rule.

use std::sync::Arc;

use yinglong_model::{event::System, rule::Level};

use super::{load, load_with, show};
use crate::{
    Class, Language,
    ir::{Expr, Field, Predicate, Test},
    sigma::{Mapping, Options},
    taxonomy::{Binding, LogSource},
};

const FULL: &str = "title: Some Title
id: 8c5d1f0e-0000-4000-8000-000000000001
name: some_name
status: test
description: |
    First line.
    Second line.
author: Someone
references: [https://example.org]
tags: [attack.execution, attack.t1059, attack.T1059.004, attack.t12, cve.2020-1, attack.s0001]
falsepositives:
    - Administrators
    - 5
level: critical
logsource: {product: Linux, category: Process_Creation, definition: any}
fields: [a]
detection: {s: {Image: x}, condition: s}
yinglong: {description_zh: 说明, identity: [Image, User]}
custom: {anything: [1]}
";

#[test]
fn everything_about_a_rule_is_kept() {
    let (loaded, diagnostics) = load(FULL);
    assert_eq!(diagnostics, []);
    let about = &loaded.rules[0].about;
    assert_eq!(about.id, "8c5d1f0e-0000-4000-8000-000000000001");
    assert_eq!(about.name, "Some Title");
    assert_eq!(about.level, Level::Danger);
    assert_eq!(about.severity, "critical");
    assert_eq!(about.description, "First line.\nSecond line.");
    assert_eq!(about.description_zh, "说明");
    assert_eq!(about.attack, ["T1059", "T1059.004"]);
    assert_eq!(about.false_positives, ["Administrators", "5"]);
    assert_eq!(about.identity, ["Image", "User"]);
    assert_eq!(about.language, Language::Sigma);
}

#[test]
fn levels_are_three_of_ours() {
    for (written, level) in [
        ("critical", Level::Danger),
        ("high", Level::Danger),
        ("medium", Level::Suspicious),
        ("low", Level::Hint),
        ("informational", Level::Hint),
    ] {
        let (loaded, _) = load(&FULL.replace("level: critical", &format!("level: {written}")));
        assert_eq!(loaded.rules[0].about.level, level, "{written}");
        assert_eq!(loaded.rules[0].about.severity, written);
    }
    let (loaded, _) = load(&FULL.replace("level: critical\n", ""));
    assert_eq!(loaded.rules[0].about.level, Level::Suspicious);
    assert_eq!(loaded.rules[0].about.severity, "");
}

#[test]
fn a_rule_without_id_gets_one_of_its_title() {
    let text = FULL.replace("id: 8c5d1f0e-0000-4000-8000-000000000001\n", "");
    let (loaded, _) = load(&format!("{text}---\n{text}"));
    let ids: Vec<_> = loaded
        .rules
        .iter()
        .map(|rule| rule.about.id.as_str())
        .collect();
    assert_eq!(ids, ["some-title", "some-title-2"]);
}

/// Two classes, the second wider than the log source, with other names.
struct Two;

impl Mapping for Two {
    fn bindings(&self, source: &LogSource) -> Result<Vec<Binding>, String> {
        assert_eq!(source.product.as_deref(), Some("linux"));
        assert_eq!(source.category.as_deref(), Some("process_creation"));
        let wider = Expr::Test(Predicate {
            field: Some(Field::whole("kind")),
            test: Test::Exists(true),
        });
        Ok(vec![
            Binding::whole(Class::PROCESS, System::Linux),
            Binding {
                condition: Some(wider),
                ..Binding::whole(Class::Log("linux/auditd"), System::Linux)
            },
        ])
    }

    fn field(&self, binding: &Binding, name: &str) -> String {
        match (binding.class, name) {
            (Class::Log(_), "Image") => "exe_path".to_owned(),
            (Class::Source(_), "Image") => "exe".to_owned(),
            _ => name.to_owned(),
        }
    }
}

#[test]
fn each_class_of_a_log_source_is_a_target_with_its_own_names() {
    let text = FULL.replace("{Image: x}", "{Image|fieldref: Image, Image|windash: -y}");
    let (loaded, _) = load_with(&text, &Options::default(), &Two);
    let rule = &loaded.rules[0];
    assert_eq!(rule.targets.len(), 2);
    assert_eq!(rule.targets[0].class, Class::PROCESS);
    let shown = show(&rule.targets[0].condition);
    assert!(
        shown.starts_with("(exe equal @exe & <(exe='-y' | "),
        "{shown}"
    );
    let shown = show(&rule.targets[1].condition);
    assert!(
        shown.starts_with("(kind? & (exe_path equal @exe_path & <"),
        "{shown}"
    );
    assert_eq!(rule.about.identity, ["exe", "User", "exe_path"]);
    let Expr::All(parts) = &rule.targets[0].condition else {
        panic!("{rule:?}")
    };
    let Expr::Written(written) = &parts[1] else {
        panic!("{parts:?}")
    };
    assert_eq!(
        (written.field.as_str(), written.shows.as_str()),
        ("Image", "exe")
    );
}

/// Both classes, of which some can never fire.
struct Blind(&'static [Class]);

impl Mapping for Blind {
    fn bindings(&self, source: &LogSource) -> Result<Vec<Binding>, String> {
        Two.bindings(source)
    }

    fn fires(&self, target: &crate::ir::Target) -> Result<Vec<String>, String> {
        if self.0.contains(&target.class) {
            return Err(format!("{} has no Image", target.class.as_str()));
        }
        Ok(vec!["User is never there".to_owned()])
    }
}

#[test]
fn targets_that_can_never_fire_are_left_out() {
    const AUDITD: Class = Class::Log("linux/auditd");
    let (loaded, diagnostics) = load_with(FULL, &Options::default(), &Blind(&[Class::PROCESS]));
    assert_eq!(loaded.rules[0].targets.len(), 1);
    assert_eq!(loaded.rules[0].targets[0].class, AUDITD);
    assert_eq!(diagnostics.len(), 1);
    assert_eq!(diagnostics[0].reason, "User is never there");
    assert!(!diagnostics[0].is_error());
    let (loaded, _) = load_with(FULL, &Options::default(), &Blind(&[Class::PROCESS, AUDITD]));
    assert_eq!(loaded.rules, []);
    assert_eq!(loaded.refused[0].reason, "process has no Image");
}

#[test]
fn bindings_of_one_class_are_one_target() {
    let twice = |_: &LogSource| -> Result<Vec<Binding>, String> {
        let only = |name| Binding {
            condition: Some(Expr::Test(Predicate {
                field: Some(Field {
                    name: Arc::from(name),
                    view: crate::ir::View::Whole,
                }),
                test: Test::Null,
            })),
            ..Binding::whole(Class::PROCESS, System::Linux)
        };
        Ok(vec![only("p"), only("q")])
    };
    let (loaded, _) = load_with(FULL, &Options::default(), &twice);
    assert_eq!(loaded.rules[0].targets.len(), 1);
    let shown = show(&loaded.rules[0].targets[0].condition);
    assert_eq!(shown, "((p=null & name='x') | (q=null & name='x'))");
}

#[test]
fn what_nothing_feeds_is_refused_with_the_reason_of_the_mapping() {
    let none = |_: &LogSource| -> Result<Vec<Binding>, String> { Err("no sensor".to_owned()) };
    let (loaded, diagnostics) = load_with(FULL, &Options::default(), &none);
    assert_eq!(diagnostics, []);
    assert_eq!(loaded.rules, []);
    assert_eq!(loaded.refused[0].reason, "no sensor");
    assert_eq!(loaded.refused[0].title, "Some Title");
    assert_eq!(loaded.refused[0].file, "t.yml");
    let empty = |_: &LogSource| -> Result<Vec<Binding>, String> { Ok(Vec::new()) };
    let (loaded, _) = load_with(FULL, &Options::default(), &empty);
    let reason = "nothing provides product `linux`, category `process_creation`";
    assert_eq!(loaded.refused[0].reason, reason);
}
