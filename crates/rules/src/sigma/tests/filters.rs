//! Filters on rules.

use super::{load, show};

const RULES: &str = "title: First
id: r1
name: first
logsource: {product: windows, category: process_creation}
detection: {s: {a: x}, condition: s}
---
title: Second
id: r2
logsource: {product: windows, service: security}
detection: {s: {b: x}, condition: s}
---
";

fn filter(source: &str, rules: &str, condition: &str) -> String {
    format!(
        "title: F\nlogsource: {source}\nfilter:\n  rules: {rules}\n  known: {{u: admin}}\n  \
         condition: {condition}\n"
    )
}

/// Expressions of the two rules, and the warnings.
fn filtered(filter: &str) -> (Vec<String>, Vec<String>) {
    let (loaded, diagnostics) = load(&format!("{RULES}{filter}"));
    let shapes = loaded
        .rules
        .iter()
        .map(|rule| show(&rule.targets[0].condition));
    let shapes = shapes.collect();
    (shapes, diagnostics.into_iter().map(|d| d.reason).collect())
}

const ALONE: [&str; 2] = ["a='x'", "b='x'"];
const BOTH: [&str; 2] = ["(a='x' & !u='admin')", "(b='x' & !u='admin')"];

#[test]
fn a_filter_is_joined_to_the_rules_it_names() {
    let windows = "{product: windows}";
    for rules in ["[r1]", "[first]", "[First]", "r1", "[r1, first]"] {
        let (shapes, _) = filtered(&filter(windows, rules, "not known"));
        assert_eq!(shapes, [BOTH[0], ALONE[1]], "{rules}");
    }
    for rules in ["any", "Any", "[r2, r1]"] {
        let (shapes, warnings) = filtered(&filter(windows, rules, "not known"));
        assert_eq!(shapes, BOTH, "{rules}");
        assert_eq!(warnings, Vec::<String>::new(), "{rules}");
    }
}

#[test]
fn a_filter_is_only_for_rules_of_its_log_source() {
    let creation = "{product: windows, category: process_creation}";
    let (shapes, warnings) = filtered(&filter(creation, "any", "not known"));
    assert_eq!(shapes, [BOTH[0], ALONE[1]]);
    assert_eq!(warnings, Vec::<String>::new());
    let (shapes, warnings) = filtered(&filter(creation, "[r1, r2]", "not known"));
    assert_eq!(shapes, [BOTH[0], ALONE[1]]);
    assert!(
        warnings[0].contains("`r2`; it is filtered nowhere"),
        "{warnings:?}"
    );
    let (shapes, _) = filtered(&filter("{product: linux}", "any", "not known"));
    assert_eq!(shapes, ALONE);
}

#[test]
fn a_filter_without_not_keeps_only_what_it_describes_and_warns() {
    let (shapes, warnings) = filtered(&filter("{product: windows}", "[r1]", "known"));
    assert_eq!(shapes[0], "(a='x' & u='admin')");
    assert!(
        warnings[0].contains("write `not` before it"),
        "{warnings:?}"
    );
}

#[test]
fn a_broken_filter_leaves_the_rules_as_they_are() {
    for broken in [
        filter("{product: windows}", "[]", "not known"),
        filter("{product: windows}", "any", "not unknown"),
        filter("{product: windows}", "any", "not known").replace("u: admin", "u|re: '('"),
        filter("{product: windows}", "any", "not known").replace("  rules: any\n", ""),
    ] {
        let (loaded, _) = load(&format!("{RULES}{broken}"));
        assert_eq!(loaded.rules.len(), 2, "{broken}");
        assert_eq!(show(&loaded.rules[0].targets[0].condition), "a='x'");
        assert_eq!(loaded.refused.len(), 1, "{broken}");
    }
}
