//! No text panics, nests or grows without bound.

use proptest::prelude::*;

use super::{load, plain};
use crate::sigma::{Kind, Options, compile_with, parse};

const RULE: &str = "title: T
id: one
logsource: {product: windows}
detection:
    s:
        - a|contains|all: [x, 'y*']
        - b|re|i: '^x'
          c|windash: ' -d'
    k: [word, 5, null]
    '|all': x
    condition: 1 of s* and not (k or them)
---
title: F
logsource: {product: windows}
filter: {rules: any, s: {a: &x x, b: *x}, condition: not s}
---
title: C
correlation: {type: temporal, rules: [one], timespan: 5m, group-by: [a], condition: one}
";

fn survives(text: &str) {
    let (documents, _) = parse(text, "f");
    compile_with(&documents, &Options::default(), &plain);
}

/// The one document of the text is refused with that reason.
#[track_caller]
fn refuses(text: &str, reason: &str) {
    let (loaded, diagnostics) = load(text);
    assert_eq!(loaded.rules, []);
    let found = diagnostics
        .iter()
        .any(|d| d.is_error() && d.reason.contains(reason));
    assert!(found, "{diagnostics:#?}");
}

#[test]
fn depth_of_collections_is_bounded() {
    let deep = "more than 32 within each other";
    refuses(&format!("a: {}", "[".repeat(100_000)), deep);
    refuses(&format!("a: {}", "{a: ".repeat(100_000)), deep);
    refuses(&format!("a:\n{}", "- ".repeat(100_000)), deep);
    let stairs: String = (0..1_000)
        .map(|n| format!("{}a:\n", " ".repeat(n)))
        .collect();
    refuses(&stairs, deep);
    let keys = "? ".repeat(100_000);
    assert_eq!(parse(&keys, "f").0[0].kind(), Kind::Broken);
}

#[test]
fn aliases_cannot_multiply_without_bound() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..20 {
        let previous = vec![format!("*a{}", n - 1); 10].join(", ");
        text.push_str(&format!("a{n}: &a{n} [{previous}]\n"));
    }
    refuses(&text, "values, aliases copied");
    let mut text = "a0: &a0 [x]\n".to_owned();
    for n in 1..100 {
        text.push_str(&format!("a{n}: &a{n} [*a{}]\n", n - 1));
    }
    refuses(&text, "more than 32 within each other");
}

#[test]
fn long_lines_and_many_documents_are_read() {
    let (documents, _) = parse(&format!("{RULE}---\n").repeat(300), "f");
    assert_eq!(documents.len(), 900);
    survives(&"---\n".repeat(100_000));
    survives(&"'".repeat(100_000));
    survives(&"&a ".repeat(50_000));
    survives(&"!".repeat(100_000));
    survives(&"\t".repeat(100_000));
    survives(&format!("title: \"{}\"", "\\n".repeat(100_000)));
    survives(&format!("a: |\n{}", " \n".repeat(100_000)));
}

#[test]
fn patterns_findings_and_copies_do_not_multiply() {
    let selections: String = (0..10_000).map(|n| format!("s{n}: {{a: x}}\n")).collect();
    let condition = vec!["1 of s*"; 900].join(" or ");
    let text = super::document(&format!("{selections}condition: {condition}"));
    refuses(&text, "stand for more than 10000 selections");

    let items: String = (0..5_000).map(|n| format!("a{n}|x: y, ")).collect();
    let text = super::document(&format!("s: {{{items}}}\ncondition: s"));
    let (_, diagnostics) = parse(&text, "f");
    assert_eq!(diagnostics.len(), 101);
    assert!(diagnostics[100].reason.contains("4900 more findings"));

    let long = vec!["x"; 20_000].join(", ");
    let text = format!(
        "action: global\nlong: [{long}]\n{}",
        "---\ntitle: T\n".repeat(100)
    );
    let (_, diagnostics) = parse(&text, "f");
    assert!(
        diagnostics
            .iter()
            .any(|d| d.reason.contains("copied more than"))
    );

    let same = "title: T\nlogsource: {product: p}\ndetection: {s: {a: x}, condition: s}\n---\n";
    let (loaded, _) = load(&same.repeat(5_000));
    assert_eq!(loaded.rules[4_999].about.id, "t-5000");
}

/// Pieces that YAML and Sigma care about.
fn fragments() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "title: T",
        "id: ",
        "logsource:",
        "product: windows",
        "detection:",
        "condition:",
        "s: ",
        "- ",
        "? ",
        ": ",
        "  ",
        "    ",
        "\n",
        "\n",
        "\r\n",
        "---\n",
        "...\n",
        "[",
        "]",
        "{",
        "}",
        ",",
        "'",
        "\"",
        "|",
        ">",
        "|+2",
        "&a ",
        "*a",
        "!!str ",
        "!x ",
        "%YAML 1.2\n",
        "#",
        "a|re: '('",
        "a|contains|all:",
        "|windash",
        "1 of s*",
        " and not ",
        "(",
        ")",
        "\\",
        "\u{feff}",
        "文",
        "\u{85}",
        "\u{2028}",
        "\0",
        "\t",
        "~",
        "<<: ",
        "correlation:",
        "filter:",
        "rules: any",
        "timespan: 5m",
        "action: global",
        "action: repeat",
        "%x%",
        "0x",
        "-",
        "1e999",
    ]);
    prop::collection::vec(
        prop_oneof![8 => known.prop_map(str::to_owned), 1 => ".{0,6}"],
        0..60,
    )
    .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn no_yaml_panics(text in fragments()) {
        survives(&text);
    }

    #[test]
    fn no_damaged_rule_panics(
        edits in prop::collection::vec((0..RULE.len(), 0..12_usize, fragments()), 1..6),
    ) {
        let mut text = RULE.to_owned();
        for (at, length, insert) in edits {
            let mut range = at.min(text.len())..(at + length).min(text.len());
            while !text.is_char_boundary(range.start) { range.start -= 1; }
            while !text.is_char_boundary(range.end) { range.end += 1; }
            let few: String = insert.chars().take(8).collect();
            text.replace_range(range, &few);
        }
        survives(&text);
    }

    #[test]
    fn no_condition_panics(condition in "[ns_*()|0-9a ]{0,40}") {
        survives(&format!("title: T\nlogsource: {{product: p}}\ndetection:\n  s: {{a: x}}\n  n: y\n  condition: '{condition}'\n"));
    }

    #[test]
    fn no_value_panics(key in "a(\\|(contains|all|re|i|windash|base64|base64offset|wide|cidr|neq|expand|hour|gt|cased|exists|fieldref)){0,4}", value in "[-*?\\\\%a/x(\\[0-9:.]{0,12}") {
        survives(&format!("title: T\nlogsource: {{product: p}}\ndetection:\n  s:\n    '{key}': '{value}'\n  condition: s\n"));
    }
}
