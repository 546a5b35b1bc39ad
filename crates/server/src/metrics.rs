//! Prometheus text: what this node does, and the fleet's books.

use std::{
    fmt::Write as _,
    sync::{
        PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use yinglong_correlate::{Counters, stories::StoryCounters};
use yinglong_model::host::Health;

use crate::{Server, intelligence, ledger};

/// All metrics in the Prometheus text format 0.0.4. Label values are bounded: hosts, streams,
/// reasons.
///
/// # Errors
/// The store cannot be read.
pub fn render(server: &Server) -> yinglong_store::Result<String> {
    let mut text = Text::default();
    let progress = server.progress();
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    text.single(
        "yinglong_pipeline_events_total",
        "counter",
        "Events stored since start.",
        load(&progress.events),
    );
    text.single(
        "yinglong_pipeline_alerts_total",
        "counter",
        "Alerts raised since start.",
        load(&progress.alerts),
    );
    text.single(
        "yinglong_pipeline_retries_total",
        "counter",
        "Steps taken again since start.",
        load(&progress.retries),
    );
    text.single(
        "yinglong_pipeline_stalled",
        "gauge",
        "1 while the stores take nothing.",
        u64::from(progress.stalled.load(Ordering::Relaxed)),
    );
    text.single(
        "yinglong_log_damaged_entries_total",
        "counter",
        "Log entries passed over.",
        load(&progress.damaged_entries),
    );

    let relations = progress.relations.lock();
    let (correlations, stories) = *relations.unwrap_or_else(PoisonError::into_inner);
    correlated(&mut text, &correlations);
    told(&mut text, &stories);

    let log = server.log_usage();
    text.single(
        "yinglong_log_bytes",
        "gauge",
        "Size of the write-ahead log.",
        log.bytes,
    );
    text.single(
        "yinglong_log_entries",
        "gauge",
        "Entries the stores have not taken yet.",
        log.records,
    );

    let usage = server.events().usage()?;
    text.single(
        "yinglong_store_events",
        "gauge",
        "Events stored.",
        usage.events,
    );
    text.single(
        "yinglong_store_bytes",
        "gauge",
        "Size of the event store.",
        usage.bytes,
    );

    let notify = server.notifier().counters();
    text.family(
        "yinglong_notify_alerts_total",
        "counter",
        "Alerts announced, by outcome.",
    );
    for (outcome, counter) in [
        ("sent", &notify.sent),
        ("failed", &notify.failed),
        ("dropped", &notify.dropped),
    ] {
        text.sample(
            "yinglong_notify_alerts_total",
            &[("outcome", outcome)],
            load(counter),
        );
    }

    intelligence(&mut text, server);

    let hosts = server.fleet().hosts();
    text.family("yinglong_fleet_hosts", "gauge", "Hosts, by health.");
    for (name, health) in [
        ("healthy", Health::Healthy),
        ("offline", Health::Offline),
        ("blocked", Health::Blocked),
    ] {
        let count = hosts.iter().filter(|host| host.health == health).count();
        text.sample("yinglong_fleet_hosts", &[("health", name)], count as u64);
    }
    books(&mut text, &ledger::of(&hosts, server.state().as_ref())?);
    Ok(text.0)
}

/// What became of matches that correlations take, and what they forgot.
fn correlated(text: &mut Text, counters: &Counters) {
    text.by_label(
        "yinglong_correlation_matches_total",
        "counter",
        "Matches offered to correlations, by outcome.",
        "outcome",
        &[
            ("taken", counters.taken),
            ("duplicate", counters.duplicates),
            ("late", counters.late),
            ("full", counters.full),
            ("ungrouped", counters.ungrouped),
            ("without_value", counters.without_value),
        ],
    );
    text.by_label(
        "yinglong_correlation_evicted_groups_total",
        "counter",
        "Groups forgotten, by reason; `idle` ones were over.",
        "reason",
        &[
            ("groups", counters.evicted_groups),
            ("bytes", counters.evicted_bytes),
            ("idle", counters.evicted_idle),
            ("rules", counters.dropped_groups),
        ],
    );
    let totals = [
        (
            "evicted_matches",
            "Matches given up since their group was full.",
            counters.dropped_full,
        ),
        ("fired", "Times a correlation fired.", counters.fired),
        (
            "suppressed",
            "Times a condition held again for what had fired.",
            counters.suppressed,
        ),
        (
            "ahead",
            "Matches of clocks too far ahead, taken as of now.",
            counters.ahead,
        ),
    ];
    for (name, help, value) in totals {
        let name = format!("yinglong_correlation_{name}_total");
        text.single(&name, "counter", help, value);
    }
    let held = [
        ("groups", "Groups held.", counters.groups),
        ("bytes", "Estimated memory of the groups.", counters.bytes),
    ];
    for (name, help, value) in held {
        let name = format!("yinglong_correlation_{name}");
        text.single(&name, "gauge", help, value);
    }
}

/// What became of alerts in stories, and what was forgotten.
fn told(text: &mut Text, counters: &StoryCounters) {
    text.by_label(
        "yinglong_story_alerts_total",
        "counter",
        "Alerts told as stories, by what they did.",
        "outcome",
        &[
            ("begun", counters.begun),
            ("joined", counters.joined),
            ("alone", counters.alone),
            ("duplicate", counters.duplicates),
        ],
    );
    text.by_label(
        "yinglong_story_evicted_total",
        "counter",
        "Forgotten for want of room, by kind; alerts may then begin a story anew.",
        "kind",
        &[
            ("processes", counters.evicted_processes),
            ("links", counters.evicted_links),
            ("hosts", counters.evicted_hosts),
            ("stories", counters.evicted_stories),
        ],
    );
    let totals = [
        ("executions", "Executions noted.", counters.noted),
        (
            "ended",
            "Stories that were over and made room.",
            counters.ended,
        ),
    ];
    for (name, help, value) in totals {
        let name = format!("yinglong_story_{name}_total");
        text.single(&name, "counter", help, value);
    }
    text.by_label(
        "yinglong_story_held",
        "gauge",
        "What is held in memory, by kind.",
        "kind",
        &[
            ("hosts", counters.hosts),
            ("processes", counters.processes),
            ("stories", counters.stories),
        ],
    );
}

fn intelligence(text: &mut Text, server: &Server) {
    type Pick = fn(&intelligence::Counters) -> &AtomicU64;
    let families: [(&str, &str, Pick); 7] = [
        ("asked", "Requests sent to an intelligence API.", |c| {
            &c.asked
        }),
        ("answered", "Answers of an intelligence API.", |c| {
            &c.answered
        }),
        ("black", "Answers that match the pattern.", |c| &c.black),
        ("failed", "Requests without a usable answer.", |c| &c.failed),
        ("remembered", "Events judged by a remembered answer.", |c| {
            &c.remembered
        }),
        ("joined", "Events that joined a request under way.", |c| {
            &c.joined
        }),
        ("unstored", "Hits whose alert was not stored.", |c| {
            &c.unstored
        }),
    ];
    let apis = server.intelligence().apis();
    for (name, help, pick) in families {
        let name = format!("yinglong_intelligence_{name}_total");
        text.family(&name, "counter", help);
        for api in &apis {
            text.sample(
                &name,
                &[("api", api.name)],
                pick(api.counters).load(Ordering::Relaxed),
            );
        }
    }
    let name = "yinglong_intelligence_dropped_total";
    text.family(name, "counter", "Events no API judged, by reason.");
    for api in &apis {
        for reason in intelligence::Dropped::ALL {
            let labels = [("api", api.name), ("reason", reason.as_str())];
            text.sample(name, &labels, api.counters.dropped(reason));
        }
    }
    let name = "yinglong_intelligence_breaker_state";
    text.family(name, "gauge", "0 asked, 1 on trial, 2 left alone.");
    for api in &apis {
        let state = match api.breaker {
            intelligence::BreakerState::Closed => 0,
            intelligence::BreakerState::Trial => 1,
            intelligence::BreakerState::Open => 2,
        };
        text.sample(name, &[("api", api.name)], state);
    }
    let name = "yinglong_intelligence_queue_items";
    text.family(name, "gauge", "Things that wait to be asked about.");
    for api in &apis {
        text.sample(name, &[("api", api.name)], api.queued as u64);
    }

    let library = server.intelligence().feeds().current();
    let now = crate::ports::now();
    let name = "yinglong_intelligence_feed_hits_total";
    text.family(name, "counter", "Events that an indicator matched.");
    text.sample(name, &[], server.intelligence().feed_hits());
    let name = "yinglong_intelligence_indicators";
    text.family(name, "gauge", "Indicators held, expired ones included.");
    for feed in &library.feeds {
        let labels = [("feed", feed.record.name.as_str())];
        text.sample(name, &labels, feed.set.stats().indicators);
    }
    let name = "yinglong_intelligence_expired_indicators";
    text.family(name, "gauge", "Indicators that match nothing any more.");
    for feed in &library.feeds {
        let labels = [("feed", feed.record.name.as_str())];
        text.sample(name, &labels, feed.set.expired(now));
    }
    let name = "yinglong_intelligence_feed_broken";
    text.family(name, "gauge", "1 while a feed's file cannot be read.");
    for feed in &library.feeds {
        let labels = [("feed", feed.record.name.as_str())];
        text.sample(name, &labels, u64::from(feed.problem.is_some()));
    }
}

fn books(text: &mut Text, hosts: &[ledger::HostLedger]) {
    type Pick = fn(&ledger::Stream) -> u64;
    let families: [(&str, &str, Pick); 5] = [
        (
            "yinglong_ledger_emitted_total",
            "Observed on the host.",
            |s| s.emitted,
        ),
        (
            "yinglong_ledger_spooled_total",
            "Written to the agent's spool.",
            |s| s.spooled,
        ),
        (
            "yinglong_ledger_filtered_total",
            "Left out by configuration.",
            |s| s.filtered,
        ),
        (
            "yinglong_ledger_stored_total",
            "Stored by the server.",
            |s| s.stored,
        ),
        (
            "yinglong_ledger_unbalanced",
            "1 when the books do not balance.",
            |s| u64::from(!s.balanced),
        ),
    ];
    for (name, meaning, pick) in families {
        let kind = if name.ends_with("_total") {
            "counter"
        } else {
            "gauge"
        };
        text.family(name, kind, meaning);
        for host in hosts {
            for (stream, books) in &host.streams {
                text.sample(name, &labels(host, stream), pick(books));
            }
        }
    }
    let name = "yinglong_ledger_dropped_total";
    text.family(name, "counter", "Lost, by reason.");
    for host in hosts {
        for (stream, books) in &host.streams {
            for (reason, count) in &books.dropped {
                let mut labels = labels(host, stream).to_vec();
                labels.push(("reason", reason.as_str()));
                text.sample(name, &labels, *count);
            }
        }
    }
}

fn labels<'a>(host: &'a ledger::HostLedger, stream: &'a str) -> [(&'static str, &'a str); 3] {
    [
        ("agent_id", host.agent_id.as_str()),
        ("host", &host.hostname),
        ("stream", stream),
    ]
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// A family of one sample.
    fn single(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// A family whose samples differ in one label.
    fn by_label(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &'static str,
        samples: &[(&str, u64)],
    ) {
        self.family(name, kind, help);
        for (value, number) in samples {
            self.sample(name, &[(label, value)], *number);
        }
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.0.push_str(name);
        for (place, (label, text)) in labels.iter().enumerate() {
            let escaped = text
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            let open = if place == 0 { '{' } else { ',' };
            let _ = write!(self.0, "{open}{label}=\"{escaped}\"");
        }
        self.0.push_str(if labels.is_empty() { "" } else { "}" });
        let _ = writeln!(self.0, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_values_cannot_break_out() {
        let mut text = Text::default();
        text.sample("m", &[("host", "a\"b\\c\nd"), ("x", "y")], 3);
        assert_eq!(text.0, "m{host=\"a\\\"b\\\\c\\nd\",x=\"y\"} 3\n");
    }

    #[test]
    fn every_counter_of_correlations_and_stories_is_shown_once() {
        // Different numbers: each must be found again.
        let correlations = Counters {
            taken: 101,
            duplicates: 102,
            late: 103,
            full: 104,
            ungrouped: 105,
            without_value: 106,
            ahead: 107,
            dropped_full: 108,
            evicted_groups: 109,
            evicted_bytes: 110,
            evicted_idle: 111,
            fired: 112,
            suppressed: 113,
            // Counted with its groups.
            dropped_correlations: 0,
            dropped_groups: 114,
            groups: 115,
            bytes: 116,
        };
        let stories = StoryCounters {
            noted: 201,
            begun: 202,
            joined: 203,
            alone: 204,
            duplicates: 205,
            evicted_processes: 206,
            evicted_links: 207,
            evicted_hosts: 208,
            ended: 209,
            evicted_stories: 210,
            hosts: 211,
            processes: 212,
            stories: 213,
        };
        let mut text = Text::default();
        correlated(&mut text, &correlations);
        told(&mut text, &stories);
        let samples: Vec<&str> = text
            .0
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect();
        let mut values: Vec<u64> = samples
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap().1.parse().unwrap())
            .collect();
        values.sort_unstable();
        let expected: Vec<u64> = (101..=116).chain(201..=213).collect();
        assert_eq!(values, expected);
        for line in [
            "yinglong_correlation_evicted_groups_total{reason=\"bytes\"} 110",
            "yinglong_correlation_evicted_matches_total 108",
            "yinglong_story_evicted_total{kind=\"stories\"} 210",
        ] {
            assert!(samples.contains(&line), "{line} is missing in {samples:?}");
        }
    }
}
