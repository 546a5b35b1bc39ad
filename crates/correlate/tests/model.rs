//! Every kind of correlation says what a naive model says that keeps all matches and computes each
//! window from scratch: with matches out of order, delivered twice, and with restarts in between.

#![allow(
    clippy::unwrap_used,
    reason = "what a test sets up is there, or the test fails"
)]

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use proptest::prelude::*;
use yinglong_correlate::{Correlator, Limits, Match};
use yinglong_model::{AgentId, Timestamp};
use yinglong_rules::{
    About,
    correlation::{Correlation, CorrelationKind, Member, MemberExpr},
    ir::{Comparison, Number},
};

const SPAN: i64 = 10;
const LATENESS: i64 = 5;
const MATCHES: usize = 16;

/// Something that happened; `at` in seconds.
#[derive(Debug, Clone)]
struct Happened {
    at: i64,
    rule: usize,
    group: u8,
    value: i32,
    other: u8,
}

fn seconds(at: i64) -> Timestamp {
    Timestamp::from_secs(1_764_000_000 + at)
}

fn correlator(correlation: &Correlation) -> Correlator {
    let limits = Limits {
        lateness: Duration::from_secs(LATENESS as u64),
        ahead: Duration::from_secs(1 << 30),
        matches_per_group: MATCHES,
        ..Limits::default()
    };
    let (correlator, diagnostics) =
        Correlator::new(std::slice::from_ref(correlation), &|_| true, limits);
    assert!(diagnostics.iter().all(|d| !d.is_error()), "{diagnostics:?}");
    correlator
}

fn observe(correlator: &mut Correlator, id: usize, event: &Happened) -> Vec<Said> {
    let fields = |name: &str| -> Option<Cow<'_, str>> {
        Some(Cow::Owned(match name {
            // Each rule has the group under its own name.
            name if name == format!("host{}", event.rule) => format!("g{}", event.group),
            "bytes" => format!("{}", f64::from(event.value) / 4.0),
            "other" => event.other.to_string(),
            _ => return None,
        }))
    };
    let fired = correlator.observe(&Match {
        rule_id: &format!("rule{}", event.rule),
        agent: &AgentId::from_bits(1),
        time: seconds(event.at),
        received: seconds(0),
        values: &fields,
        reference: &format!("{id:032x}"),
    });
    fired
        .into_iter()
        .map(|fired| Said {
            group: fired.group[0].1.clone(),
            value: fired.value,
            count: fired.count,
            start: fired.start,
            end: fired.end,
        })
        .collect()
}

#[derive(Debug, Clone, PartialEq)]
struct Said {
    group: String,
    value: f64,
    count: usize,
    start: Timestamp,
    end: Timestamp,
}

#[derive(Debug, Default, PartialEq)]
struct Fates {
    taken: u64,
    late: u64,
    duplicates: u64,
    full: u64,
    dropped: u64,
}

/// The model: all matches that are kept, oldest first and in the order of arrival at one time.
#[derive(Default)]
struct Model {
    kept: BTreeMap<u8, Vec<(usize, Happened)>>,
    fired: BTreeMap<u8, Vec<(i64, i64)>>,
    fates: Fates,
}

impl Model {
    fn observe(&mut self, correlation: &Correlation, id: usize, event: &Happened) -> Option<Said> {
        let kept = self.kept.entry(event.group).or_default();
        let newest = kept.iter().map(|(_, e)| e.at).max().unwrap_or(event.at);
        if event.at < newest - SPAN - LATENESS {
            self.fates.late += 1;
            return None;
        }
        if kept.iter().any(|(other, _)| *other == id) {
            self.fates.duplicates += 1;
            return None;
        }
        if kept.len() >= MATCHES {
            let before = kept.iter().filter(|(_, e)| e.at <= event.at).count();
            if before == 0 {
                self.fates.full += 1;
                return None;
            }
            let dropped = (MATCHES / 8).min(before);
            kept.drain(..dropped);
            self.fates.dropped += dropped as u64;
        }
        self.fates.taken += 1;
        kept.push((id, event.clone()));
        kept.sort_by_key(|(_, e)| e.at);
        let mut ends: Vec<i64> = kept.iter().map(|(_, e)| e.at).collect();
        ends.dedup();
        let fired = self.fired.entry(event.group).or_default();
        let mut said = None;
        for end in ends {
            if end < event.at || end - SPAN > event.at || said.is_some() {
                continue;
            }
            let window: Vec<&Happened> = kept
                .iter()
                .map(|(_, e)| e)
                .filter(|e| e.at <= end && e.at >= end - SPAN)
                .collect();
            let Some(value) = judge(correlation, &window) else {
                continue;
            };
            let start = window[0].at;
            if fired.iter().any(|(s, e)| *s <= end && start <= *e) {
                continue;
            }
            fired.push((start, end));
            said = Some(Said {
                group: format!("g{}", event.group),
                value,
                count: window.len(),
                start: seconds(start),
                end: seconds(end),
            });
        }
        let newest = newest.max(event.at);
        kept.retain(|(_, e)| e.at >= newest - SPAN - LATENESS);
        said
    }
}

/// The number, when the condition holds.
fn judge(correlation: &Correlation, window: &[&Happened]) -> Option<f64> {
    let mut numbers: Vec<f64> = window.iter().map(|e| f64::from(e.value) / 4.0).collect();
    numbers.sort_by(f64::total_cmp);
    let n = numbers.len();
    let members = correlation.members.len();
    let seen: Vec<bool> = (0..members)
        .map(|member| window.iter().any(|e| e.rule == member))
        .collect();
    let seen_count = seen.iter().filter(|seen| **seen).count();
    let value = match &correlation.kind {
        CorrelationKind::EventCount => n as f64,
        CorrelationKind::ValueCount(names) if names.len() == 1 => {
            let mut values: Vec<i32> = window.iter().map(|e| e.value).collect();
            values.sort_unstable();
            values.dedup();
            values.len() as f64
        }
        CorrelationKind::ValueCount(_) => {
            let mut values: Vec<(i32, u8)> = window.iter().map(|e| (e.value, e.other)).collect();
            values.sort_unstable();
            values.dedup();
            values.len() as f64
        }
        CorrelationKind::ValueSum(_) => numbers.iter().sum(),
        CorrelationKind::ValueAvg(_) => numbers.iter().sum::<f64>() / n as f64,
        CorrelationKind::ValueMedian(_) => (numbers[(n - 1) / 2] + numbers[n / 2]) / 2.0,
        CorrelationKind::ValuePercentile(_, percent) => {
            // The first value that so many do not exceed.
            *numbers
                .iter()
                .find(|value| {
                    let below = numbers.iter().filter(|other| other <= value).count();
                    below as f64 * 100.0 >= percent.get() * n as f64
                })
                .unwrap()
        }
        CorrelationKind::Temporal | CorrelationKind::TemporalOrdered => seen_count as f64,
    };
    let bounded = |value: f64| {
        correlation
            .bounds
            .iter()
            .all(|(c, b)| c.holds(value, b.get()))
    };
    let holds = match (&correlation.kind, &correlation.condition) {
        (CorrelationKind::Temporal, Some(expr)) => {
            bounded(value) && satisfied(expr, true, &seen, &seen)
        }
        (CorrelationKind::Temporal, None) if correlation.bounds.is_empty() => seen_count == members,
        (CorrelationKind::TemporalOrdered, condition) => (0..1_u32 << members).any(|choice| {
            let chosen: Vec<bool> = (0..members).map(|m| choice >> m & 1 == 1).collect();
            in_order(&chosen, window)
                && match condition {
                    Some(expr) => satisfied(expr, true, &chosen, &seen) && bounded(value),
                    None if correlation.bounds.is_empty() => chosen.iter().all(|c| *c),
                    None => bounded(f64::from(choice.count_ones())),
                }
        }),
        _ => bounded(value),
    };
    holds.then_some(value)
}

/// Whether the chosen members can be found one after the other.
fn in_order(chosen: &[bool], window: &[&Happened]) -> bool {
    let mut since = i64::MIN;
    (0..chosen.len())
        .filter(|member| chosen[*member])
        .all(|member| {
            let next = window
                .iter()
                .filter(|e| e.rule == member && e.at >= since)
                .map(|e| e.at)
                .min();
            since = next.unwrap_or(since);
            next.is_some()
        })
}

/// Whether a condition holds: what it asks for is chosen, what it excludes is not seen at all.
fn satisfied(expr: &MemberExpr, holds: bool, chosen: &[bool], seen: &[bool]) -> bool {
    let part = |part: &MemberExpr| satisfied(part, holds, chosen, seen);
    match expr {
        MemberExpr::Seen(member) if holds => chosen[*member],
        MemberExpr::Seen(member) => !seen[*member],
        MemberExpr::Not(inner) => satisfied(inner, !holds, chosen, seen),
        MemberExpr::All(parts) if holds => parts.iter().all(part),
        MemberExpr::Any(parts) if !holds => parts.iter().all(part),
        MemberExpr::All(parts) | MemberExpr::Any(parts) => parts.iter().any(part),
    }
}

fn named(kind: CorrelationKind, bounds: &[(Comparison, f64)]) -> Correlation {
    let members = (0..3)
        .map(|rule| Member {
            id: format!("rule{rule}"),
            name: format!("rule{rule}"),
            fields: BTreeMap::from([("host".into(), vec!["gone".into(), format!("host{rule}")])]),
        })
        .collect();
    let bound = |(c, n): &(Comparison, f64)| (*c, Number::new(*n).expect("a finite number"));
    Correlation {
        about: Arc::new(About {
            id: "c".into(),
            ..About::default()
        }),
        kind,
        members,
        group_by: vec!["host".into()],
        timespan: Duration::from_secs(SPAN as u64),
        bounds: bounds.iter().map(bound).collect(),
        condition: None,
        generate: false,
    }
}

fn comparison() -> impl Strategy<Value = Comparison> {
    use Comparison::*;
    prop::sample::select(vec![
        Equal,
        NotEqual,
        Less,
        LessOrEqual,
        Greater,
        GreaterOrEqual,
    ])
}

fn expr() -> impl Strategy<Value = MemberExpr> {
    (0..3_usize)
        .prop_map(MemberExpr::Seen)
        .prop_recursive(3, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..3).prop_map(MemberExpr::All),
                prop::collection::vec(inner.clone(), 1..3).prop_map(MemberExpr::Any),
                inner.prop_map(|part| MemberExpr::Not(Box::new(part))),
            ]
        })
}

fn correlation() -> impl Strategy<Value = Correlation> {
    let bytes = || "bytes".to_owned();
    let counted = prop::sample::select(vec![
        CorrelationKind::EventCount,
        CorrelationKind::ValueCount(vec![bytes()]),
        CorrelationKind::ValueCount(vec![bytes(), "other".into()]),
    ]);
    let numbers = (0..=20_u32).prop_flat_map(move |percent| {
        let percent = Number::new(f64::from(percent) * 5.0).expect("a finite number");
        prop::sample::select(vec![
            CorrelationKind::ValueSum(bytes()),
            CorrelationKind::ValueAvg(bytes()),
            CorrelationKind::ValueMedian(bytes()),
            CorrelationKind::ValuePercentile(bytes(), percent),
        ])
    });
    prop_oneof![
        (counted, comparison(), 1..7_u32, prop::bool::ANY).prop_map(|(kind, c, n, between)| {
            let mut bounds = vec![(c, f64::from(n))];
            if between {
                bounds.push((Comparison::LessOrEqual, f64::from(n + 2)));
            }
            named(kind, &bounds)
        }),
        (numbers, comparison(), -4..9_i32)
            .prop_map(|(kind, c, n)| named(kind, &[(c, f64::from(n) / 2.0)])),
        (comparison(), 0..4_u32)
            .prop_map(|(c, n)| named(CorrelationKind::Temporal, &[(c, f64::from(n))])),
        (1..4_u32).prop_map(|n| {
            let bound = (Comparison::GreaterOrEqual, f64::from(n));
            named(CorrelationKind::TemporalOrdered, &[bound])
        }),
        prop::sample::select(vec![
            CorrelationKind::Temporal,
            CorrelationKind::TemporalOrdered
        ])
        .prop_map(|kind| named(kind, &[])),
        (prop::bool::ANY, expr()).prop_map(|(ordered, expr)| {
            let kind = if ordered {
                CorrelationKind::TemporalOrdered
            } else {
                CorrelationKind::Temporal
            };
            Correlation {
                condition: Some(expr),
                ..named(kind, &[])
            }
        }),
    ]
}

fn happened() -> impl Strategy<Value = Happened> {
    (0..60_i64, 0..3_usize, 0..2_u8, -3..6_i32, 0..2_u8).prop_map(
        |(at, rule, group, value, other)| Happened {
            at,
            rule,
            group,
            value,
            other,
        },
    )
}

/// Places in the list of what happened, as delivered: roughly in order, some twice.
fn deliveries() -> impl Strategy<Value = (Vec<Happened>, Vec<(usize, bool)>)> {
    prop::collection::vec(happened(), 1..60).prop_flat_map(|mut events| {
        events.sort_by_key(|event| event.at);
        let count = events.len();
        let delivery = (0..count, -12..12_i64, prop::bool::weighted(0.05));
        let deliveries = prop::collection::vec(delivery, count..2 * count);
        (Just(events), deliveries).prop_map(|(events, deliveries)| {
            let mut order: Vec<(i64, usize, bool)> = deliveries
                .into_iter()
                .map(|(index, jitter, restart)| (events[index].at + jitter, index, restart))
                .collect();
            order.sort_by_key(|(at, ..)| *at);
            let order = order
                .into_iter()
                .map(|(_, i, restart)| (i, restart))
                .collect();
            (events, order)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn windows_say_what_a_naive_model_says(
        correlation in correlation(),
        (events, deliveries) in deliveries(),
    ) {
        // What contradicts itself is refused; that is tested elsewhere.
        let (checked, _) = Correlator::new(
            std::slice::from_ref(&correlation), &|_| true, Limits::default());
        prop_assume!(checked.len() == 1);
        let mut real = correlator(&correlation);
        let mut model = Model::default();
        let mut fates = Fates::default();
        for (step, (index, restart)) in deliveries.into_iter().enumerate() {
            if restart {
                fates = add(fates, &real);
                let bytes = real.snapshot(b"here");
                real = correlator(&correlation);
                prop_assert_eq!(real.restore(&bytes).unwrap().position, b"here");
                prop_assert_eq!(real.snapshot(b"here"), bytes);
            }
            let event = &events[index];
            let said = observe(&mut real, index, event);
            let expected: Vec<Said> =
                model.observe(&correlation, index, event).into_iter().collect();
            prop_assert_eq!(said, expected, "step {}: {:?}", step, event);
        }
        prop_assert_eq!(add(fates, &real), model.fates);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_chain_says_what_models_behind_each_other_say(
        (events, deliveries) in deliveries(),
        least in 1..4_u32,
        ordered in prop::bool::ANY,
    ) {
        // Rules 0 and 2 are counted; the count and rule 1 make the whole.
        let bound = (Comparison::GreaterOrEqual, f64::from(least));
        let mut counted = named(CorrelationKind::EventCount, &[bound]);
        counted.members.remove(1);
        counted.about = Arc::new(About { id: "rule0 fired".into(), ..About::default() });
        let kind = if ordered {
            CorrelationKind::TemporalOrdered
        } else {
            CorrelationKind::Temporal
        };
        let mut whole = named(kind, &[]);
        whole.members.truncate(2);
        whole.members[0].id = "rule0 fired".into();
        // What fired has the group under the name it was grouped by.
        whole.members[0].fields.clear();
        let both = [whole.clone(), counted.clone()];
        let ready = || {
            let limits = correlator(&counted).limits().clone();
            let (correlator, diagnostics) = Correlator::new(&both, &|_| true, limits);
            assert_eq!(diagnostics, []);
            correlator
        };
        let mut real = ready();
        let (mut counts, mut wholes) = (Model::default(), Model::default());
        let mut firings = 0;
        for (index, restart) in deliveries {
            if restart {
                let bytes = real.snapshot(b"");
                real = ready();
                real.restore(&bytes).unwrap();
            }
            let event = &events[index];
            let mut expected = Vec::new();
            if event.rule == 1 {
                expected.extend(wholes.observe(&whole, index, event));
            } else if let Some(said) = counts.observe(&counted, index, event) {
                firings += 1;
                let firing = Happened {
                    at: (said.end.secs()) - seconds(0).secs(),
                    rule: 0,
                    ..event.clone()
                };
                expected.push(said);
                expected.extend(wholes.observe(&whole, 1_000 + firings, &firing));
            }
            prop_assert_eq!(observe(&mut real, index, event), expected);
        }
    }

    #[test]
    fn limits_hold_and_every_match_is_accounted_for(
        correlation in correlation(),
        (events, deliveries) in deliveries(),
        groups in 1..3_usize,
        bytes in 0..20_000_usize,
        extreme in prop::bool::ANY,
    ) {
        let limits = Limits {
            groups,
            bytes,
            matches_per_group: 8,
            lateness: if extreme { Duration::MAX } else { Duration::from_secs(5) },
            ahead: Duration::MAX,
            ..Limits::default()
        };
        let all = std::slice::from_ref(&correlation);
        let (mut real, _) = Correlator::new(all, &|_| true, limits);
        prop_assume!(real.len() == 1);
        let offered = deliveries.len() as u64;
        for (index, _) in deliveries {
            let mut event = events[index].clone();
            if extreme && index % 3 == 0 {
                event.at = if index % 2 == 0 { i64::MAX / 2 } else { i64::MIN / 2 };
            }
            observe(&mut real, index, &event);
            let now = real.counters();
            prop_assert!(now.groups <= groups as u64 && now.bytes <= bytes as u64, "{:?}", now);
        }
        let now = real.counters();
        let known = now.taken + now.duplicates + now.late + now.full + now.ungrouped
            + now.without_value;
        prop_assert_eq!(known, offered);
        let saved = real.snapshot(b"");
        prop_assert!(real.restore(&saved).is_ok());
    }
}

fn add(fates: Fates, correlator: &Correlator) -> Fates {
    let counters = correlator.counters();
    Fates {
        taken: fates.taken + counters.taken,
        late: fates.late + counters.late,
        duplicates: fates.duplicates + counters.duplicates,
        full: fates.full + counters.full,
        dropped: fates.dropped + counters.dropped_full,
    }
}
