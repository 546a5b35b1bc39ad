//! What a correlator does beyond the arithmetic of windows.

#![allow(
    clippy::unwrap_used,
    reason = "what a test sets up is there, or the test fails"
)]

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use yinglong_correlate::{Correlator, Fired, Limits, Match, SnapshotError};
use yinglong_model::{AgentId, Timestamp};
use yinglong_rules::{
    About, Diagnostic,
    correlation::{Correlation, CorrelationKind, Member, MemberExpr},
    ir::{Comparison, Number},
};

fn member(id: &str, fields: &[(&str, &str)]) -> Member {
    let fields = fields
        .iter()
        .map(|(name, f)| ((*name).into(), vec![(*f).into()]));
    Member {
        id: id.into(),
        name: id.into(),
        fields: fields.collect(),
    }
}

fn correlation(id: &str, kind: CorrelationKind, rules: &[&str], at_least: f64) -> Correlation {
    let temporal = matches!(
        kind,
        CorrelationKind::Temporal | CorrelationKind::TemporalOrdered
    );
    let bound = (
        Comparison::GreaterOrEqual,
        Number::new(at_least).expect("a finite number"),
    );
    Correlation {
        about: Arc::new(About {
            id: id.into(),
            name: id.into(),
            ..About::default()
        }),
        kind,
        members: rules.iter().map(|rule| member(rule, &[])).collect(),
        group_by: Vec::new(),
        timespan: Duration::from_secs(60),
        bounds: if temporal { Vec::new() } else { vec![bound] },
        condition: None,
        generate: false,
    }
}

fn burst(id: &str, at_least: f64) -> Correlation {
    Correlation {
        group_by: vec!["user".into()],
        ..correlation(id, CorrelationKind::EventCount, &["failure"], at_least)
    }
}

fn with(correlations: &[Correlation], limits: Limits) -> Correlator {
    let knows = |id: &str| matches!(id, "failure" | "success" | "other");
    let (correlator, diagnostics) = Correlator::new(correlations, &knows, limits);
    assert_eq!(diagnostics, []);
    correlator
}

/// A match at a second; `fields` are `name=value`.
fn send(c: &mut Correlator, rule: &str, at: i64, reference: &str, fields: &[&str]) -> Vec<Fired> {
    send_received(c, rule, at, at, reference, fields)
}

fn send_received(
    c: &mut Correlator,
    rule: &str,
    at: i64,
    received: i64,
    reference: &str,
    fields: &[&str],
) -> Vec<Fired> {
    let values: BTreeMap<&str, &str> = fields.iter().filter_map(|f| f.split_once('=')).collect();
    c.observe(&Match {
        rule_id: rule,
        agent: &AgentId::from_bits(7),
        time: Timestamp::from_secs(at),
        received: Timestamp::from_secs(received),
        values: &|name| {
            values
                .get(name)
                .map(|value| Cow::Owned((*value).to_owned()))
        },
        reference,
    })
}

fn ids(fired: &[Fired]) -> Vec<&str> {
    fired.iter().map(|fired| fired.about.id.as_str()).collect()
}

#[test]
fn a_chain_fires_members_first_and_points_at_the_events_behind_it() {
    let mut then_success = correlation(
        "then success",
        CorrelationKind::TemporalOrdered,
        &["many failures", "success"],
        0.0,
    );
    // The failures are grouped by user and host, the whole by user under another name.
    then_success.group_by = vec!["who".into()];
    then_success.members = vec![
        member("many failures", &[("who", "user")]),
        member("success", &[("who", "account")]),
    ];
    let mut failures = burst("many failures", 2.0);
    failures.group_by = vec!["user".into(), "agent_id".into()];
    // Written before what it takes.
    let mut c = with(&[then_success, failures], Limits::default());
    assert!(send(&mut c, "success", 0, "s0", &["account=eve"]).is_empty());
    assert!(send(&mut c, "failure", 1, "f1", &["user=eve"]).is_empty());
    let fired = send(&mut c, "failure", 2, "f2", &["user=eve"]);
    assert_eq!(ids(&fired), ["many failures"]);
    assert!(!fired[0].alert, "it only serves the other one");
    assert_eq!(
        fired[0].group[1],
        ("agent_id".into(), AgentId::from_bits(7).to_string())
    );
    assert!(send(&mut c, "success", 3, "s3", &["account=bob"]).is_empty());
    let fired = send(&mut c, "success", 4, "s4", &["account=eve"]);
    assert_eq!(ids(&fired), ["then success"]);
    assert!(fired[0].alert);
    assert_eq!(fired[0].group, [("who".to_owned(), "eve".to_owned())]);
    assert_eq!(fired[0].references, ["s0", "f1", "f2", "s4"]);
}

#[test]
fn a_chain_can_fire_at_once_and_take_fields_of_the_last_event() {
    let mut spread = correlation(
        "spread",
        CorrelationKind::ValueCount(vec!["user".into()]),
        &["many failures"],
        2.0,
    );
    spread.group_by = vec!["remote".into()];
    let mut c = with(&[burst("many failures", 1.0), spread], Limits::default());
    send(&mut c, "failure", 1, "f1", &["user=a", "remote=192.0.2.1"]);
    let fired = send(&mut c, "failure", 2, "f2", &["user=b", "remote=192.0.2.1"]);
    assert_eq!(ids(&fired), ["many failures", "spread"]);
    assert_eq!(fired[1].references, ["f1", "f2"]);
}

#[test]
fn what_goes_on_fires_again_only_when_the_window_has_left_what_fired() {
    let mut c = with(&[burst("b", 3.0)], Limits::default());
    let fired: Vec<i64> = (0..200)
        .filter(|at| !send(&mut c, "failure", *at, &format!("{at}"), &["user=a"]).is_empty())
        .collect();
    // 2 fires 0..=2; the next window without any of those ends at 63, and fires 3..=63.
    assert_eq!(fired, [2, 63, 124, 185]);
    assert_eq!(c.counters().fired, 4);
    assert_eq!(c.counters().suppressed, 194);
}

#[test]
fn values_that_look_alike_when_joined_are_different_groups() {
    let mut two = burst("b", 2.0);
    two.group_by = vec!["user".into(), "remote".into()];
    let mut c = with(&[two], Limits::default());
    assert!(send(&mut c, "failure", 1, "1", &["user=a|b", "remote=c"]).is_empty());
    assert!(send(&mut c, "failure", 2, "2", &["user=a", "remote=b|c"]).is_empty());
    assert_eq!(c.counters().groups, 2);
}

#[test]
fn without_a_value_to_group_by_a_match_is_not_counted_but_accounted_for() {
    let mut c = with(&[burst("b", 2.0)], Limits::default());
    send(&mut c, "failure", 1, "1", &[]);
    send(&mut c, "failure", 2, "2", &[]);
    assert_eq!((c.counters().ungrouped, c.counters().taken), (2, 0));
}

#[test]
fn an_empty_value_is_a_group_of_its_own() {
    let mut c = with(&[burst("b", 2.0)], Limits::default());
    send(&mut c, "failure", 1, "1", &["user="]);
    assert_eq!(
        send(&mut c, "failure", 2, "2", &["user="])[0].group[0].1,
        ""
    );
}

#[test]
fn without_group_by_all_hosts_count_together() {
    let c = correlation("b", CorrelationKind::EventCount, &["failure", "other"], 2.0);
    let mut c = with(&[c], Limits::default());
    send(&mut c, "failure", 1, "1", &["user=a"]);
    assert_eq!(send(&mut c, "other", 2, "2", &["user=b"]).len(), 1);
}

#[test]
fn one_event_that_matches_two_members_counts_once_but_is_seen_as_both() {
    let count = correlation(
        "count",
        CorrelationKind::EventCount,
        &["failure", "other"],
        2.0,
    );
    let both = correlation(
        "both",
        CorrelationKind::Temporal,
        &["failure", "other"],
        0.0,
    );
    let mut c = with(&[count, both], Limits::default());
    send(&mut c, "failure", 1, "1", &[]);
    assert_eq!(ids(&send(&mut c, "other", 1, "1", &[])), ["both"]);
}

#[test]
fn what_is_no_number_is_left_out_and_accounted_for() {
    let sum = correlation(
        "sum",
        CorrelationKind::ValueSum("size".into()),
        &["other"],
        10.0,
    );
    let mut c = with(&[sum], Limits::default());
    send(&mut c, "other", 1, "1", &["size=6"]);
    send(&mut c, "other", 2, "2", &["size=many"]);
    send(&mut c, "other", 3, "3", &["size=NaN"]);
    assert_eq!(c.counters().without_value, 2);
    assert_eq!(send(&mut c, "other", 4, "4", &["size=4.5"])[0].value, 10.5);
}

#[test]
fn a_clock_that_is_ahead_does_not_make_others_late() {
    let mut c = with(&[burst("b", 3.0)], Limits::default());
    send_received(&mut c, "failure", 1_000_000, 10, "1", &["user=a"]);
    send_received(&mut c, "failure", 10, 10, "2", &["user=a"]);
    assert_eq!((c.counters().ahead, c.counters().late), (1, 0));
    assert_eq!(
        send_received(&mut c, "failure", 11, 11, "3", &["user=a"]).len(),
        1
    );
}

#[test]
fn the_least_recently_touched_group_goes_first() {
    let limits = Limits {
        groups: 2,
        ..Limits::default()
    };
    let mut c = with(&[burst("b", 2.0)], limits);
    send(&mut c, "failure", 1, "1", &["user=a"]);
    send(&mut c, "failure", 2, "2", &["user=b"]);
    send(&mut c, "failure", 2, "2", &["user=b"]);
    send(&mut c, "failure", 3, "3", &["user=a"]);
    send(&mut c, "failure", 4, "4", &["user=c"]);
    assert_eq!((c.counters().evicted_groups, c.counters().groups), (1, 2));
    assert!(
        send(&mut c, "failure", 5, "5", &["user=b"]).is_empty(),
        "b was forgotten"
    );
}

#[test]
fn who_floods_one_correlation_does_not_make_another_forget() {
    let limits = Limits {
        bytes: 100_000,
        ..Limits::default()
    };
    let mut quiet = correlation("quiet", CorrelationKind::EventCount, &["other"], 2.0);
    quiet.group_by = vec!["user".into()];
    let mut c = with(&[burst("b", 2.0), quiet], limits);
    send(&mut c, "other", 1, "1", &["user=a"]);
    for n in 0..5_000 {
        let user = format!("user={n}");
        send(&mut c, "failure", 2, &n.to_string(), &[&user]);
    }
    let counters = c.counters();
    assert!(
        counters.bytes <= 100_000 && counters.evicted_bytes > 4_000,
        "{counters:?}"
    );
    assert_eq!(ids(&send(&mut c, "other", 3, "2", &["user=a"])), ["quiet"]);
}

#[test]
fn a_group_nobody_comes_to_is_forgotten() {
    let mut c = with(&[burst("b", 2.0)], Limits::default());
    send(&mut c, "failure", 1, "1", &["user=a"]);
    send(&mut c, "failure", 10_000, "2", &["user=b"]);
    assert_eq!((c.counters().evicted_idle, c.counters().groups), (1, 1));
}

#[test]
fn references_are_bounded_and_have_each_member() {
    let limits = Limits {
        references: 3,
        ..Limits::default()
    };
    let all = correlation(
        "all",
        CorrelationKind::Temporal,
        &["failure", "success", "other"],
        0.0,
    );
    let mut c = with(&[all], limits);
    send(&mut c, "success", 0, "s", &[]);
    for at in 1..20 {
        send(&mut c, "failure", at, &format!("f{at}"), &[]);
    }
    let fired = send(&mut c, "other", 20, "o", &[]);
    assert_eq!((fired[0].count, fired[0].value), (21, 3.0));
    assert_eq!(fired[0].references, ["s", "f19", "o"]);
}

#[test]
fn taking_a_step_again_after_a_crash_says_the_same_and_counts_once() {
    let correlations = [burst("b", 3.0)];
    let mut c = with(&correlations, Limits::default());
    send(&mut c, "failure", 1, "1", &["user=a"]);
    let saved = c.snapshot(b"after 1");
    let step = |c: &mut Correlator| {
        let mut fired = send(c, "failure", 2, "2", &["user=a"]);
        fired.extend(send(c, "failure", 3, "3", &["user=a"]));
        fired
    };
    let first = step(&mut c);
    let again = step(&mut c);
    assert_eq!((first.len(), again.len()), (1, 0));
    let mut c = with(&correlations, Limits::default());
    assert_eq!(c.restore(&saved).unwrap().position, b"after 1");
    assert_eq!(step(&mut c), first);
}

#[test]
fn state_of_a_changed_or_removed_correlation_is_dropped_and_counted() {
    let other = correlation("o", CorrelationKind::EventCount, &["other"], 2.0);
    let mut c = with(
        &[burst("a", 2.0), burst("b", 2.0), burst("c", 2.0), other],
        Limits::default(),
    );
    send(&mut c, "failure", 1, "1", &["user=a"]);
    send(&mut c, "other", 1, "2", &[]);
    let saved = c.snapshot(b"");
    let mut renamed = burst("b", 2.0);
    renamed.about = Arc::new(About {
        id: "b".into(),
        name: "a better name".into(),
        ..About::default()
    });
    let mut c = with(
        &[burst("a", 3.0), renamed, burst("new", 2.0)],
        Limits::default(),
    );
    let restored = c.restore(&saved).unwrap();
    assert_eq!((restored.groups, restored.dropped_correlations), (1, 3));
    assert_eq!(c.counters().dropped_groups, 3);
    assert_eq!(ids(&send(&mut c, "failure", 2, "3", &["user=a"])), ["b"]);
}

fn refused(correlations: &[Correlation]) -> (usize, Vec<Diagnostic>) {
    let knows = |id: &str| id == "failure";
    let (c, diagnostics) = Correlator::new(correlations, &knows, Limits::default());
    (c.len(), diagnostics)
}

#[test]
fn what_cannot_work_is_refused_with_the_reason() {
    let count = |rules: &[&str]| correlation("a", CorrelationKind::EventCount, rules, 1.0);
    let ordered = |expr| Correlation {
        condition: Some(expr),
        ..correlation("a", CorrelationKind::TemporalOrdered, &["failure"], 1.0)
    };
    let not = |expr| MemberExpr::Not(Box::new(expr));
    let cases = [
        (count(&["nothing"]), "no rule `nothing`"),
        (count(&[]), "at least one rule"),
        (count(&["a"]), "its own matches"),
        (count(&["failure", "failure"]), "named twice"),
        (
            Correlation {
                bounds: vec![],
                ..count(&["failure"])
            },
            "what to compare",
        ),
        (
            Correlation {
                timespan: Duration::ZERO,
                ..count(&["failure"])
            },
            "length",
        ),
        (
            correlation("a", CorrelationKind::EventCount, &["failure"], 1e9),
            "cannot be counted",
        ),
        (ordered(MemberExpr::Seen(1)), "rule number 1"),
        (
            ordered(MemberExpr::All(vec![
                MemberExpr::Seen(0),
                not(MemberExpr::Seen(0)),
            ])),
            "contradicts itself",
        ),
    ];
    for (correlation, reason) in cases {
        let (loaded, diagnostics) = refused(&[correlation]);
        let text = diagnostics
            .iter()
            .map(ToString::to_string)
            .collect::<String>();
        assert_eq!(loaded, 0, "{reason}");
        assert!(text.contains(reason), "{text} should say {reason}");
    }
}

#[test]
fn correlations_in_a_circle_are_refused_and_so_is_what_needs_them() {
    let count = |id, rules: &[&str]| correlation(id, CorrelationKind::EventCount, rules, 1.0);
    let (loaded, diagnostics) = refused(&[
        count("a", &["b"]),
        count("b", &["a"]),
        count("on a", &["a", "failure"]),
        count("fine", &["failure"]),
    ]);
    assert_eq!((loaded, diagnostics.len()), (1, 3), "{diagnostics:?}");
}

#[test]
fn a_condition_without_lower_bound_is_loaded_with_a_warning() {
    let mut few = correlation("few", CorrelationKind::EventCount, &["failure"], 1.0);
    few.bounds = vec![(Comparison::Less, Number::new(5.0).unwrap())];
    let (loaded, diagnostics) = refused(&[few]);
    assert_eq!((loaded, diagnostics.len()), (1, 1));
    assert!(!diagnostics[0].is_error());
}

#[test]
fn rules_taken_without_generate_are_silenced() {
    let mut loud = correlation("loud", CorrelationKind::EventCount, &["success"], 1.0);
    loud.generate = true;
    let c = with(&[burst("b", 2.0), loud], Limits::default());
    assert!(c.silences("failure") && !c.silences("success") && !c.silences("other"));
    assert!(c.takes("success") && !c.takes("other"));
}

fn full_snapshot() -> (Vec<Correlation>, Vec<u8>) {
    let mut spread = correlation(
        "spread",
        CorrelationKind::ValueCount(vec!["user".into()]),
        &["many"],
        2.0,
    );
    spread.group_by = vec!["remote".into()];
    let sum = correlation(
        "sum",
        CorrelationKind::ValueSum("size".into()),
        &["other"],
        10.0,
    );
    let correlations = vec![burst("many", 2.0), spread, sum];
    let mut c = with(&correlations, Limits::default());
    for n in 0..20 {
        let user = format!("user={}", n % 5);
        send(
            &mut c,
            "failure",
            n,
            &format!("{n:032x}"),
            &[&user, "remote=192.0.2.1"],
        );
        send(&mut c, "other", n, "text", &["size=7"]);
    }
    let bytes = c.snapshot(b"position");
    (correlations, bytes)
}

#[test]
fn a_snapshot_of_another_version_is_named_as_such() {
    let (correlations, mut bytes) = full_snapshot();
    bytes[4] = 9;
    let mut c = with(&correlations, Limits::default());
    let error = c.restore(&bytes).unwrap_err();
    assert_eq!(error, SnapshotError::OtherVersion { found: 9, known: 1 });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_snapshot_is_refused_and_changes_nothing(
        place in any::<prop::sample::Index>(),
        mask in 1..=255_u8,
        cut in any::<bool>(),
    ) {
        let (correlations, mut bytes) = full_snapshot();
        let place = place.index(bytes.len());
        if cut {
            bytes.truncate(place);
        } else {
            bytes[place] ^= mask;
        }
        let mut c = with(&correlations, Limits::default());
        send(&mut c, "other", 1, "1", &["size=1"]);
        let before = c.snapshot(b"");
        prop_assert!(c.restore(&bytes).is_err());
        prop_assert_eq!(c.snapshot(b""), before);
    }

    #[test]
    fn bytes_made_to_look_whole_do_no_harm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let (correlations, bytes) = full_snapshot();
        let mut payload = bytes[12..].to_vec();
        for (place, byte) in edits {
            let place = place.index(payload.len());
            payload[place] = byte;
        }
        let mut forged = bytes[..8].to_vec();
        forged.extend(crc32c(&payload).to_le_bytes());
        forged.extend(payload);
        let mut c = with(&correlations, Limits::default());
        // Whatever it makes of them, it goes on working.
        let _ = c.restore(&forged);
        for n in 0..5 {
            send(&mut c, "failure", n, &n.to_string(), &["user=a", "remote=192.0.2.1"]);
            send(&mut c, "other", n, &n.to_string(), &["size=7"]);
        }
        let again = c.snapshot(b"x");
        let mut other = with(&correlations, Limits::default());
        prop_assert!(other.restore(&again).is_ok());
    }
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}
