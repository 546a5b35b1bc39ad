//! What a match and an execution cost: `cargo run --release -p yinglong-correlate --example cost`.
//!
//! Times are of the processor as the kernel counts them for this thread (elsewhere than on Linux:
//! of the clock), over everything: making the match is included, firing as well.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc, time::Duration};

use yinglong_correlate::{
    Correlator, Limits, Match, Stories,
    stories::{ProcessNote, StoryLimits},
};
use yinglong_model::{AgentId, Timestamp};
use yinglong_rules::{
    About,
    correlation::{Correlation, CorrelationKind, Member},
    ir::{Comparison, Number},
};

const CORRELATIONS: usize = 100;
const GROUPS: usize = 100_000;
const MATCHES: usize = 1_000_000;

fn main() {
    println!("{CORRELATIONS} correlations, {GROUPS} groups in all, one correlation per match:");
    let kinds = [
        ("event_count", CorrelationKind::EventCount),
        (
            "value_count",
            CorrelationKind::ValueCount(vec!["port".into()]),
        ),
        ("value_sum", CorrelationKind::ValueSum("port".into())),
        (
            "value_percentile",
            CorrelationKind::ValuePercentile("port".into(), number(95.0)),
        ),
        ("temporal", CorrelationKind::Temporal),
        ("temporal_ordered", CorrelationKind::TemporalOrdered),
    ];
    for (name, kind) in &kinds {
        spread(name, kind, GROUPS / CORRELATIONS);
    }
    println!(
        "one rule that all {CORRELATIONS} correlations take, {} groups each:",
        GROUPS / CORRELATIONS
    );
    shared();
    println!("one group that is full:");
    for (name, kind) in &kinds {
        flood(name, kind);
    }
    processes(1, 1);
    processes(1_000, 100);
    processes(1_000, 1);
}

/// Time of the processor this thread has used.
fn used() -> Duration {
    let counted = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = counted.and_then(|text| text.split(' ').next()?.parse().ok());
    match nanos {
        Some(nanos) => Duration::from_nanos(nanos),
        None => std::time::UNIX_EPOCH.elapsed().unwrap_or_default(),
    }
}

fn number(value: f64) -> Number {
    Number::new(value).expect("a finite number")
}

fn correlation(place: usize, rule: usize, kind: &CorrelationKind, bound: f64) -> Correlation {
    let temporal = matches!(
        kind,
        CorrelationKind::Temporal | CorrelationKind::TemporalOrdered
    );
    let rules = if temporal { 3 } else { 1 };
    Correlation {
        about: Arc::new(About {
            id: format!("correlation {place}"),
            ..About::default()
        }),
        kind: kind.clone(),
        members: (0..rules)
            .map(|member| Member {
                id: format!("rule {rule} {member}"),
                name: String::new(),
                fields: BTreeMap::new(),
            })
            .collect(),
        group_by: vec!["agent_id".into(), "user".into()],
        timespan: Duration::from_secs(60),
        bounds: if temporal {
            Vec::new()
        } else {
            vec![(Comparison::GreaterOrEqual, number(bound))]
        },
        condition: None,
        generate: false,
    }
}

struct Feed {
    agents: Vec<AgentId>,
    users: Vec<String>,
    ports: Vec<String>,
    seen: u64,
    state: u64,
}

impl Feed {
    fn new() -> Self {
        Self {
            agents: (0..1_000).map(AgentId::from_bits).collect(),
            users: (0..GROUPS).map(|n| format!("user{n}")).collect(),
            ports: (0..1_000).map(|n| n.to_string()).collect(),
            seen: 0,
            state: 1,
        }
    }

    fn random(&mut self) -> usize {
        // Xorshift: the same in every run.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) as usize
    }

    /// `rate` matches per second of event time.
    fn send(&mut self, correlator: &mut Correlator, rule: &str, group: usize, rate: u64) -> usize {
        self.seen += 1;
        let port = self.random() % self.ports.len();
        let (user, port) = (&self.users[group % self.users.len()], &self.ports[port]);
        let agent = &self.agents[group % self.agents.len()];
        let reference = format!("{:032x}", self.seen);
        let time = Timestamp::from_nanos((self.seen * 1_000_000_000 / rate) as i64);
        correlator
            .observe(&Match {
                rule_id: rule,
                agent,
                time,
                received: time,
                values: &|name| match name {
                    "user" => Some(Cow::Borrowed(user.as_str())),
                    "port" => Some(Cow::Borrowed(port.as_str())),
                    _ => None,
                },
                reference: &reference,
            })
            .len()
    }
}

fn ready(correlations: &[Correlation]) -> Correlator {
    let limits = Limits {
        bytes: 1 << 30,
        ..Limits::default()
    };
    let (correlator, diagnostics) = Correlator::new(correlations, &|_| true, limits);
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    correlator
}

fn report(name: &str, correlator: &Correlator, taken: Duration, matches: usize, fired: usize) {
    let counters = correlator.counters();
    println!(
        "  {name:17} {:6.0} ns per match, {:6} groups, {:5} B per group, {fired} fired",
        taken.as_nanos() as f64 / matches as f64,
        counters.groups,
        counters.bytes / counters.groups.max(1),
    );
}

fn spread(name: &str, kind: &CorrelationKind, groups: usize) {
    let correlations: Vec<Correlation> = (0..CORRELATIONS)
        .map(|n| correlation(n, n, kind, 20.0))
        .collect();
    let rules: Vec<[String; 3]> = (0..CORRELATIONS)
        .map(|n| [0, 1, 2].map(|member| format!("rule {n} {member}")))
        .collect();
    let members = correlations[0].members.len();
    let mut correlator = ready(&correlations);
    let mut feed = Feed::new();
    // About five matches of a group at a time lie in its window.
    let rate = (GROUPS / 12) as u64;
    for n in 0..CORRELATIONS * groups {
        feed.send(
            &mut correlator,
            &rules[n % CORRELATIONS][0],
            n / CORRELATIONS,
            rate,
        );
    }
    let mut fired = 0;
    let start = used();
    for _ in 0..MATCHES {
        let (rule, member, group) = (feed.random(), feed.random(), feed.random());
        let rule = &rules[rule % CORRELATIONS][member % members];
        fired += feed.send(&mut correlator, rule, group % groups, rate);
    }
    report(name, &correlator, used() - start, MATCHES, fired);
    if name == "event_count" {
        snapshot(&correlator, &correlations);
    }
}

fn snapshot(correlator: &Correlator, correlations: &[Correlation]) {
    let start = used();
    let bytes = correlator.snapshot(b"");
    let written = used() - start;
    let mut other = ready(correlations);
    let start = used();
    other.restore(&bytes).expect("a whole snapshot");
    println!(
        "    snapshot {} KiB, written in {} ms, restored in {} ms",
        bytes.len() / 1024,
        written.as_millis(),
        (used() - start).as_millis()
    );
}

fn shared() {
    let kind = CorrelationKind::EventCount;
    let correlations: Vec<Correlation> = (0..CORRELATIONS)
        .map(|n| correlation(n, 0, &kind, 20.0))
        .collect();
    let mut correlator = ready(&correlations);
    let mut feed = Feed::new();
    let (matches, groups, mut fired) = (MATCHES / CORRELATIONS, GROUPS / CORRELATIONS, 0);
    for n in 0..groups {
        feed.send(&mut correlator, "rule 0 0", n, 100);
    }
    let start = used();
    for _ in 0..matches {
        let group = feed.random() % groups;
        fired += feed.send(&mut correlator, "rule 0 0", group, 100);
    }
    report("event_count", &correlator, used() - start, matches, fired);
}

fn flood(name: &str, kind: &CorrelationKind) {
    // More than a group can have: the condition never holds, the group stays full.
    let mut correlator = ready(&[correlation(0, 0, kind, 2_000_000.0 / 4.0)]);
    if correlator.is_empty()
        || matches!(
            kind,
            CorrelationKind::EventCount | CorrelationKind::ValueCount(_)
        )
    {
        correlator = ready(&[correlation(0, 0, kind, 1_001.0)]);
    }
    let mut feed = Feed::new();
    let start = used();
    let matches = MATCHES / 10;
    let mut fired = 0;
    for _ in 0..matches {
        fired += feed.send(&mut correlator, "rule 0 0", 0, 10_000);
    }
    report(name, &correlator, used() - start, matches, fired);
}

/// Hosts by turns, `batch` executions each.
fn processes(hosts: usize, batch: usize) {
    let pids = 30_000;
    let mut stories = Stories::new(StoryLimits::default());
    let agents: Vec<AgentId> = (0..hosts as u128).map(AgentId::from_bits).collect();
    let notes = 3_000_000_u32;
    let mut note = |n: u32| {
        let (host, place) = (n as usize / batch % hosts, n as usize % batch);
        let nth = (n as usize / (batch * hosts) * batch + place) as u32;
        let pid = 1_000 + nth % pids;
        let ppid = 1_000 + nth.saturating_sub(1 + n % 7) % pids;
        stories.note_process(
            &agents[host],
            &ProcessNote {
                time: Timestamp::from_secs(i64::from(n)),
                pid,
                ppid,
                start_time: Some(Timestamp::from_secs(i64::from(n))),
                name: "/usr/bin/find",
                parent: "find",
                session: None,
                group: Some("/system.slice/nginx.service"),
                tty: None,
                user: Some("www-data"),
                ancestors: &[],
            },
        );
    };
    (0..notes / 4).for_each(&mut note);
    let start = used();
    (notes / 4..notes).for_each(&mut note);
    let taken = used() - start;
    println!(
        "{hosts} hosts by turns, {batch} executions each: {:.0} ns per note_process, {} processes",
        taken.as_nanos() as f64 / f64::from(notes - notes / 4),
        stories.counters().processes
    );
}
