//! The condition grammar.

use super::{document, error, load, shape};

const SELECTIONS: &str =
    "sel_a: {a: x}\nsel_b: {b: x}\nsel_c: {c: x}\nfilter_main: {d: x}\n_hidden: {e: x}";

fn with(condition: &str) -> String {
    document(&format!("{SELECTIONS}\ncondition: {condition}"))
}

#[track_caller]
fn check(condition: &str, expected: &str) {
    assert_eq!(shape(&with(condition)), expected, "{condition}");
}

#[track_caller]
fn check_error(condition: &str, reason: &str, suggestion: Option<&str>) {
    let (found, suggested) = error(&with(condition));
    assert!(found.contains(reason), "{condition}: {found}");
    assert_eq!(suggested.as_deref(), suggestion, "{condition}");
}

#[test]
fn not_binds_before_and_and_and_before_or() {
    check("sel_a", "a='x'");
    check("sel_a and sel_b", "(a='x' & b='x')");
    check("sel_a or sel_b and not sel_c", "(a='x' | (b='x' & !c='x'))");
    check("(sel_a or sel_b) and sel_c", "((a='x' | b='x') & c='x')");
    check("not (sel_a or not sel_b)", "!(a='x' | !b='x')");
    check("sel_a AND NOT sel_b", "(a='x' & !b='x')");
    check("((sel_a))", "a='x'");
    check("not not sel_a", "!!a='x'");
    check("_hidden", "e='x'");
}

#[test]
fn quantifiers_choose_among_selections() {
    check("1 of sel_*", "(a='x' | b='x' | c='x')");
    check("any of sel_*", "(a='x' | b='x' | c='x')");
    check("all of sel_*", "(a='x' & b='x' & c='x')");
    check("all of *_a", "a='x'");
    check("1 of *e*_*", "(a='x' | b='x' | c='x' | d='x')");
    check("1 of them", "(a='x' | b='x' | c='x' | d='x')");
    check("all of them", "(a='x' & b='x' & c='x' & d='x')");
    check(
        "2 of sel_*",
        "((a='x' & b='x') | (a='x' & c='x') | (b='x' & c='x'))",
    );
    check("3 of sel_*", "(a='x' & b='x' & c='x')");
    check("1 of sel_a", "a='x'");
    check(
        "1 of sel_* and not 1 of filter_*",
        "((a='x' | b='x' | c='x') & !d='x')",
    );
    check_error("4 of sel_*", "stands for 3 selections", None);
    check_error("0 of sel_*", "no quantity", None);
    check_error("some of sel_*", "no quantity", None);
    check_error("1 of other_*", "no selection is named like `other_*`", None);
    check_error(
        "1 of filtr*",
        "no selection is named like",
        Some("filter_main"),
    );
    check_error("1 of", "needed after `of`", None);
}

#[test]
fn one_of_several_conditions_is_enough() {
    check("[sel_a, sel_b and sel_c]", "(a='x' | (b='x' & c='x'))");
    check("[sel_a]", "a='x'");
}

#[test]
fn what_is_no_condition_is_refused_with_its_reason() {
    check_error("sel_a sel_b", "without `and` or `or`", None);
    check_error("sel_a and", "is needed here", None);
    check_error("(sel_a", "`)` is missing", None);
    check_error("sel_a)", "closes nothing", None);
    check_error("()", "nothing stands before", None);
    check_error("''", "is needed here", None);
    check_error(
        "filtr_main",
        "no selection `filtr_main`",
        Some("filter_main"),
    );
    check_error("sel_*", "how many", Some("1 of sel_*"));
}

#[test]
fn aggregations_are_refused_for_correlations() {
    check_error(
        "sel_a | count() > 5",
        "correlation of type `event_count`",
        Some("correlation: {type: event_count}"),
    );
    check_error(
        "sel_a | count(User) by Host > 5",
        "correlation of type `value_count`",
        Some("correlation: {type: value_count}"),
    );
    check_error(
        "sel_a | near sel_b",
        "correlation of type `temporal`",
        Some("correlation: {type: temporal}"),
    );
    check_error("near sel_b", "correlation of type `temporal`", None);
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}sel_a{}", "(".repeat(depth), ")".repeat(depth));
    check(&nested(64), "a='x'");
    check_error(&nested(65), "more than 64 within each other", None);
    check_error(&nested(100_000), "more than 64 within each other", None);
    check_error(
        &format!("{}sel_a", "not ".repeat(100_000)),
        "more than 64",
        None,
    );
    check_error(&"(".repeat(100_000), "more than 64", None);
    check_error(
        &vec!["sel_a"; 1_001].join(" or "),
        "more than 1000 parts",
        None,
    );
    let many: String = (0..40).map(|n| format!("s{n}: {{a: x}}\n")).collect();
    let (reason, _) = error(&document(&format!("{many}condition: 20 of s*")));
    assert!(reason.contains("more than 256 ways"), "{reason}");
}

#[test]
fn a_problem_is_pointed_at_inside_the_condition() {
    let text = with("sel_a and sel_x");
    let (_, diagnostics) = load(&text);
    let error = diagnostics.iter().find(|d| d.is_error()).unwrap();
    let place = error.place.as_ref().unwrap();
    assert_eq!(&text[place.start..place.end], "sel_x");
    assert_eq!(error.path, "detection.condition");
    let line = text.lines().nth(place.line - 1).unwrap();
    assert_eq!(&line[place.column - 1..], "sel_x");
    assert_eq!(place.file, "t.yml");
}

#[test]
fn large_selections_named_often_do_not_multiply_without_bound() {
    let values = vec!["x"; 10_000].join(", ");
    let condition = vec!["s"; 500].join(" or ");
    let (reason, _) = error(&document(&format!(
        "s:\n  a: [{values}]\ncondition: {condition}"
    )));
    assert!(reason.contains("more than 100000 tests"), "{reason}");
}
