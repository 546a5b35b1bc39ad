//! Correlations over rules.

use std::time::Duration;

use yinglong_model::{event::System, rule::Level};

use super::{load, load_with};
use crate::{
    Class,
    correlation::{Correlation, CorrelationKind, MemberExpr},
    ir::{Comparison, Number},
    sigma::{Mapping, Options},
    taxonomy::{Binding, LogSource},
};

const RULES: &str = "title: Failed
id: id-failed
name: failed
level: low
logsource: {product: windows, service: security}
detection: {s: {EventID: 4625}, condition: s}
---
title: Success
id: id-success
name: success
level: high
logsource: {product: windows, service: security}
detection: {s: {EventID: 4624}, condition: s}
---
";

fn with(section: &str) -> String {
    let mut text = format!("{RULES}title: C\nid: c\ncorrelation:\n");
    for line in section.lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push('\n');
    }
    text
}

#[track_caller]
fn one(section: &str) -> Correlation {
    let (loaded, diagnostics) = load(&with(section));
    assert_eq!(diagnostics, [], "{section}");
    assert_eq!(loaded.correlations.len(), 1);
    loaded.correlations[0].clone()
}

#[track_caller]
fn check_error(section: &str, reason: &str, suggestion: Option<&str>) {
    let (loaded, diagnostics) = load(&with(section));
    assert_eq!(loaded.rules.len(), 2);
    assert_eq!(loaded.correlations, []);
    let errors: Vec<_> = diagnostics.iter().filter(|d| d.is_error()).collect();
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].reason.contains(reason),
        "{section}: {}",
        errors[0].reason
    );
    assert_eq!(errors[0].suggestion.as_deref(), suggestion, "{section}");
    assert!(
        errors[0]
            .place
            .as_ref()
            .is_some_and(|place| place.line > 12)
    );
}

fn number(value: f64) -> Number {
    Number::new(value).unwrap()
}

#[test]
fn events_are_counted() {
    let correlation = one(
        "type: event_count\nrules: [failed]\ngroup-by: [User, Computer]\n\
                           timespan: 10m\ncondition: {gt: 10, lte: 20}",
    );
    assert_eq!(correlation.kind, CorrelationKind::EventCount);
    assert_eq!(correlation.timespan, Duration::from_secs(600));
    assert_eq!(correlation.group_by, ["User", "Computer"]);
    let bounds = [
        (Comparison::Greater, number(10.0)),
        (Comparison::LessOrEqual, number(20.0)),
    ];
    assert_eq!(correlation.bounds, bounds);
    assert_eq!(correlation.condition, None);
    assert!(!correlation.generate);
    let [member] = correlation.members.as_slice() else {
        panic!("{correlation:?}")
    };
    assert_eq!(
        (member.id.as_str(), member.name.as_str()),
        ("id-failed", "failed")
    );
    assert_eq!(member.fields["User"], ["User"]);
    assert_eq!(member.fields["Computer"], ["Computer"]);
    assert_eq!(correlation.about.id, "c");
    // As bad as the worst rule it is over, when it does not say.
    assert_eq!(correlation.about.level, Level::Hint);
    assert_eq!(correlation.about.severity, "");
}

#[test]
fn values_are_counted_summed_averaged_and_ranked() {
    let kind = |kind: &str, condition: &str| {
        one(&format!(
            "type: {kind}\nrules: [id-failed]\ntimespan: 1h\ncondition: {{{condition}}}"
        ))
        .kind
    };
    let field = || "User".to_owned();
    assert_eq!(
        kind("value_count", "field: User, gte: 3"),
        CorrelationKind::ValueCount(vec![field()])
    );
    assert_eq!(
        kind("value_count", "field: [User, Host], gte: 3"),
        CorrelationKind::ValueCount(vec![field(), "Host".to_owned()])
    );
    assert_eq!(
        kind("value_sum", "field: User, gt: 0.5"),
        CorrelationKind::ValueSum(field())
    );
    assert_eq!(
        kind("value_avg", "field: User, lt: -1"),
        CorrelationKind::ValueAvg(field())
    );
    assert_eq!(
        kind("value_median", "field: User, eq: 1"),
        CorrelationKind::ValueMedian(field())
    );
    assert_eq!(
        kind("value_percentile", "field: User, percentile: 95, neq: 1"),
        CorrelationKind::ValuePercentile(field(), number(95.0))
    );
    assert_eq!(
        kind("value_percentile", "field: User, lte: 1"),
        CorrelationKind::ValuePercentile(field(), number(50.0))
    );
}

#[test]
fn rules_match_near_each_other_in_order_or_as_a_condition_says() {
    let base = "rules: [failed, success]\ntimespan: 1d\n";
    let correlation = one(&format!("type: temporal\n{base}"));
    assert_eq!(correlation.kind, CorrelationKind::Temporal);
    assert_eq!(correlation.bounds, []);
    assert_eq!(correlation.about.level, Level::Danger);
    let correlation = one(&format!(
        "type: temporal_ordered\n{base}condition: {{gte: 2}}"
    ));
    assert_eq!(correlation.kind, CorrelationKind::TemporalOrdered);
    assert_eq!(correlation.bounds.len(), 1);
    let correlation = one(&format!(
        "type: temporal\n{base}condition: failed AND not success"
    ));
    let expected = MemberExpr::All(vec![
        MemberExpr::Seen(0),
        MemberExpr::Not(Box::new(MemberExpr::Seen(1))),
    ]);
    assert_eq!(correlation.condition, Some(expected));
    check_error(
        &format!("type: temporal\n{base}condition: failed and succes"),
        "no rule `succes`",
        Some("success"),
    );
}

#[test]
fn time_spans_have_seven_units() {
    for (written, seconds) in [
        ("15s", 15),
        ("2m", 120),
        ("1h", 3_600),
        ("1d", 86_400),
        ("1w", 604_800),
        ("1M", 2_629_746),
        ("1y", 31_556_952),
    ] {
        let section = format!("type: temporal\nrules: [failed]\ntimespan: {written}");
        assert_eq!(
            one(&section).timespan,
            Duration::from_secs(seconds),
            "{written}"
        );
    }
    for written in [
        "5",
        "m",
        "0m",
        "-1m",
        "1x",
        "99999999999999999999y",
        "9999999999999999y",
    ] {
        let section = format!("type: temporal\nrules: [failed]\ntimespan: {written}");
        check_error(&section, "one of s, m, h, d, w, M", None);
    }
}

/// Two classes with different names for a user.
struct Two;

impl Mapping for Two {
    fn bindings(&self, _: &LogSource) -> Result<Vec<Binding>, String> {
        let binding = |class| Binding::whole(class, System::Windows);
        Ok(vec![
            binding(Class::LOGINLOG),
            binding(Class::Log("windows/security")),
        ])
    }

    fn field(&self, binding: &Binding, name: &str) -> String {
        match (binding.class, name) {
            (Class::Source(_), "User" | "Account") => "username".to_owned(),
            _ => name.to_owned(),
        }
    }
}

#[test]
fn members_know_their_fields_through_aliases_and_classes() {
    let text = with(
        "type: temporal\nrules: [failed, success]\ngroup-by: [who, User]\n\
                     timespan: 1m\naliases:\n  who: {failed: Account, id-success: User}",
    );
    let (loaded, diagnostics) = load_with(&text, &Options::default(), &Two);
    assert_eq!(diagnostics, []);
    let members = &loaded.correlations[0].members;
    assert_eq!(members[0].fields["who"], ["username", "Account"]);
    assert_eq!(members[1].fields["who"], ["username", "User"]);
    assert_eq!(members[0].fields["User"], ["username", "User"]);
}

#[test]
fn an_alias_that_misses_a_rule_is_warned_of() {
    let text = with(
        "type: temporal\nrules: [failed, success]\ngroup-by: [who]\ntimespan: 1m\n\
                     aliases:\n  who: {failed: Account, other: User}",
    );
    let (loaded, diagnostics) = load(&text);
    assert_eq!(loaded.correlations.len(), 1);
    let reasons: Vec<_> = diagnostics.iter().map(|d| d.reason.as_str()).collect();
    assert_eq!(reasons.len(), 2, "{reasons:?}");
    assert!(reasons[0].contains("no field of `success`"), "{reasons:?}");
    assert!(
        reasons[1].contains("`other` is not among the rules"),
        "{reasons:?}"
    );
}

#[test]
fn correlations_chain_in_any_order_and_circles_are_refused() {
    let chain = |name: &str, over: &str| {
        format!(
            "---\ntitle: {name}\nname: {name}\ncorrelation: {{type: temporal, rules: [{over}], \
             timespan: 1m, group-by: [User]}}\n"
        )
    };
    let text = format!(
        "{}{}{}---\n{RULES}",
        chain("outer", "middle, success"),
        chain("middle", "inner"),
        chain("inner", "failed")
    );
    let (loaded, diagnostics) = load(text.trim_end_matches("---\n"));
    assert_eq!(diagnostics, []);
    let names: Vec<_> = loaded
        .correlations
        .iter()
        .map(|c| c.about.name.as_str())
        .collect();
    assert_eq!(names, ["outer", "middle", "inner"]);
    assert_eq!(loaded.correlations[0].members[0].id, "middle");
    assert_eq!(loaded.correlations[0].members[0].fields["User"], ["User"]);
    assert_eq!(loaded.correlations[0].about.level, Level::Danger);
    assert_eq!(loaded.correlations[1].about.level, Level::Hint);

    for circle in [
        chain("a", "a"),
        format!("{}{}{}", chain("a", "b"), chain("b", "c"), chain("c", "a")),
    ] {
        let count = circle.matches("title").count();
        let (loaded, diagnostics) = load(&format!("{RULES}{circle}{}", chain("d", "failed")));
        assert_eq!(loaded.correlations.len(), 1);
        assert_eq!(loaded.refused.len(), count);
        assert!(
            diagnostics
                .iter()
                .all(|d| d.reason.contains("refers to itself"))
        );
    }
}

#[test]
fn a_correlation_over_what_is_refused_is_refused() {
    let base = "type: temporal\ntimespan: 1m\n";
    check_error(
        &format!("{base}rules: [faild]"),
        "no rule has the id or name",
        Some("failed"),
    );
    let text = with(&format!("{base}rules: [failed]")).replace("EventID: 4625", "EventID|re: '('");
    let (loaded, _) = load(&text);
    assert_eq!(loaded.refused.len(), 2);
    assert!(
        loaded.refused[1].reason.contains("`failed` is refused"),
        "{loaded:?}"
    );
    let text = with(&format!("{base}rules: [failed]")).replace("name: success", "name: failed");
    let (loaded, _) = load(&text);
    assert!(
        loaded.refused[0].reason.contains("2 rules have the name"),
        "{loaded:?}"
    );
}

#[test]
fn what_a_correlation_needs_is_said() {
    let base = "rules: [failed]\ntimespan: 1m\n";
    let kind = |rest: &str| format!("{base}{rest}");
    check_error(
        &kind("type: event_cont\ncondition: {gte: 1}"),
        "no correlation type",
        Some("event_count"),
    );
    check_error(&kind("condition: {gte: 1}"), "a type is needed", None);
    check_error(
        &kind("type: event_count"),
        "a condition on the number",
        None,
    );
    check_error(
        &kind("type: event_count\ncondition: {}"),
        "a bound is needed",
        None,
    );
    check_error(
        &kind("type: event_count\ncondition: failed"),
        "for the temporal types",
        None,
    );
    check_error(
        &kind("type: event_count\ncondition: {gte: many}"),
        "a number is needed",
        None,
    );
    check_error(
        &kind("type: value_count\ncondition: {gte: 1}"),
        "needs the `field`",
        None,
    );
    check_error(
        &kind("type: value_sum\ncondition: {field: [a, b], gte: 1}"),
        "reads one field",
        None,
    );
    check_error(
        &kind("type: value_percentile\ncondition: {field: a, gte: 1, percentile: 101}"),
        "from 0 to 100",
        None,
    );
    check_error("type: temporal\ntimespan: 1m", "the rules it is over", None);
    check_error(
        "type: temporal\nrules: [failed]",
        "a time span is needed",
        None,
    );
    check_error(
        &kind("type: temporal\naliases: {a: b}"),
        "map from a rule",
        None,
    );
    check_error(
        &kind("type: temporal\ngenerate: maybe"),
        "true or false",
        None,
    );
}

#[test]
fn members_may_raise_alerts_of_their_own() {
    let section = "type: temporal\nrules: [failed]\ntimespan: 1m\n";
    assert!(one(&format!("{section}generate: true")).generate);
    let (loaded, _) = load(&format!("{}generate: true\n", with(section)));
    assert!(loaded.correlations[0].generate);
}
