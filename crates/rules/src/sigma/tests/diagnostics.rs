//! What is said about a document that is wrong, or probably is.

use super::{document, load};
use crate::Severity;

const RULE: &str = "title: T
id: one
logsource: {product: windows}
detection:
    s: {a: x}
    condition: s
";

/// Finds one diagnostic and the text it points at.
#[track_caller]
fn only(text: &str) -> (Severity, String, String, Option<String>, String) {
    let (_, diagnostics) = load(text);
    let [diagnostic] = diagnostics.as_slice() else {
        panic!("{text}\n{diagnostics:#?}")
    };
    let place = diagnostic.place.as_ref().expect("a place");
    (
        diagnostic.severity,
        diagnostic.path.clone(),
        diagnostic.reason.clone(),
        diagnostic.suggestion.clone(),
        text[place.start..place.end].to_owned(),
    )
}

#[track_caller]
fn check(
    text: &str,
    severity: Severity,
    path: &str,
    reason: &str,
    suggestion: Option<&str>,
    at: &str,
) {
    let found = only(text);
    assert_eq!((found.0, found.1.as_str()), (severity, path), "{}", found.2);
    assert!(found.2.contains(reason), "{}", found.2);
    assert_eq!(found.3.as_deref(), suggestion);
    assert_eq!(found.4, at);
}

#[test]
fn what_a_rule_needs_is_said() {
    use Severity::Error;
    let without = |part: &str| RULE.replace(part, "");
    check(
        &without("title: T\n"),
        Error,
        "title",
        "a title is needed",
        None,
        "",
    );
    check(
        &without("logsource: {product: windows}\n"),
        Error,
        "logsource",
        "is needed",
        None,
        "",
    );
    let detection = "detection:\n    s: {a: x}\n    condition: s\n";
    check(
        &without(detection),
        Error,
        "detection",
        "is needed",
        None,
        "",
    );
    let text = RULE.replace("{product: windows}", "{definition: x}");
    check(&text, Error, "logsource", "one at least", None, "logsource");
    let (_, diagnostics) = load(&without("    condition: s\n"));
    assert_eq!(diagnostics[0].suggestion.as_deref(), Some("condition: s"));
    let text = RULE.replace("s: {a: x}", "s: {}");
    check(&text, Error, "detection.s", "is empty", None, "{}");
    let text = RULE.replace("{a: x}", "{a: []}");
    check(&text, Error, "detection.s.a", "is empty", None, "[]");
    let text = RULE.replace("{a: x}", "{a: {b: x}}");
    check(
        &text,
        Error,
        "detection.s.a",
        "write a field inside a field",
        None,
        "{b: x}",
    );
    let text = RULE.replace("title: T", "title: [T]");
    assert!(load(&text).1.iter().any(|d| d.reason == "a text is needed"));
    let text = RULE.replace("title: T", "title: T\ntaxonomy: other");
    check(
        &text,
        Error,
        "taxonomy",
        "default taxonomy",
        Some("sigma"),
        "taxonomy",
    );
}

#[test]
fn keys_that_are_nearly_known_are_warned_of_and_own_keys_are_not() {
    use Severity::Warning;
    let with = |key: &str| format!("{RULE}{key}: x\n");
    check(
        &with("falsepositive"),
        Warning,
        "falsepositive",
        "unknown key",
        Some("falsepositives"),
        "falsepositive",
    );
    check(
        &with("Level"),
        Warning,
        "Level",
        "unknown key",
        Some("level"),
        "Level",
    );
    check(
        &with("refrences"),
        Warning,
        "refrences",
        "unknown key",
        Some("references"),
        "refrences",
    );
    for own in [
        "x-team",
        "regression_tests_path",
        "simulation",
        "ticket",
        "ads",
        "custom",
    ] {
        assert_eq!(load(&with(own)).1, [], "{own}");
    }
    let text = RULE.replace("{product: windows}", "{product: windows, catagory: x}");
    check(
        &text,
        Warning,
        "logsource.catagory",
        "unknown key",
        Some("category"),
        "catagory",
    );
    let text = format!("{RULE}yinglong: {{identiy: [a]}}\n");
    check(
        &text,
        Warning,
        "yinglong.identiy",
        "unknown key",
        Some("identity"),
        "identiy",
    );
}

#[test]
fn probable_slips_are_warned_of() {
    use Severity::Warning;
    let text = RULE.replace("    condition", "    unused: {b: x}\n    condition");
    check(
        &text,
        Warning,
        "detection.unused",
        "does not use `unused`",
        None,
        "unused",
    );
    let text = RULE.replace("    condition", "    _unused: {b: x}\n    condition");
    assert_eq!(load(&text).1, []);
    let text = format!("{RULE}level: hihg\n");
    check(
        &text,
        Warning,
        "level",
        "no level `hihg`",
        Some("high"),
        "hihg",
    );
    let text = RULE.replace("a: x", "a|all: x");
    check(
        &text,
        Warning,
        "detection.s.a|all",
        "there is one",
        None,
        "a|all",
    );
    let text = RULE.replace("a: x", "a|contains: ''");
    check(
        &text,
        Warning,
        "detection.s.a|contains",
        "part of every value",
        None,
        "''",
    );
    let text = RULE.replace("a: x", "a|base64offset: abc");
    check(
        &text,
        Warning,
        "detection.s.a|base64offset",
        "so short",
        None,
        "abc",
    );
    let text = RULE.replace("a: x", "a|expand: abc");
    check(
        &text,
        Warning,
        "detection.s.a|expand",
        "no placeholder",
        None,
        "abc",
    );
    let text = RULE.replace("    condition", "    timeframe: 5m\n    condition");
    check(
        &text,
        Warning,
        "detection.timeframe",
        "only in correlations",
        None,
        "timeframe",
    );
}

#[test]
fn errors_of_values_point_at_the_value() {
    use Severity::Error;
    let text = RULE.replace("a: x", "a|re: ['ok', '(x']");
    check(
        &text,
        Error,
        "detection.s.a|re",
        "unclosed group",
        None,
        "'(x'",
    );
    let text = RULE.replace("a: x", "a|kontains: x");
    check(
        &text,
        Error,
        "detection.s.a|kontains",
        "no modifier",
        Some("contains"),
        "a|kontains",
    );
}

#[test]
fn every_error_of_a_rule_is_found_at_once() {
    let text = document("s:\n  a|re: '('\n  b|cidr: x\nt:\n  c|gt: y\ncondition: s and t");
    let (loaded, diagnostics) = load(&text);
    assert_eq!(diagnostics.len(), 3, "{diagnostics:#?}");
    assert_eq!(loaded.refused.len(), 1);
}

#[test]
fn the_second_document_with_an_id_is_refused() {
    let text = format!("{RULE}---\n{}", RULE.replace("title: T", "title: U"));
    let (loaded, _) = load(&text);
    assert_eq!(loaded.rules.len(), 1);
    assert_eq!(loaded.refused[0].title, "U");
    check(
        &text,
        Severity::Error,
        "id",
        "the document at t.yml:1 has the id `one`",
        None,
        "one",
    );
}

#[test]
fn a_diagnostic_reads_as_file_line_column() {
    let text = RULE.replace("a: x", "a|kontains: x");
    let (_, diagnostics) = load(&text);
    assert_eq!(
        diagnostics[0].to_string(),
        "t.yml:5:9: error: rule `T`: detection.s.a|kontains: there is no modifier `kontains`; did \
         you mean `contains`?"
    );
}
