//! Prometheus text: what this node does, and the fleet's books.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

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
    text.family(
        "yinglong_pipeline_events_total",
        "counter",
        "Events stored since start.",
    );
    text.sample(
        "yinglong_pipeline_events_total",
        &[],
        load(&progress.events),
    );
    text.family(
        "yinglong_pipeline_alerts_total",
        "counter",
        "Alerts raised since start.",
    );
    text.sample(
        "yinglong_pipeline_alerts_total",
        &[],
        load(&progress.alerts),
    );
    text.family(
        "yinglong_pipeline_retries_total",
        "counter",
        "Steps taken again since start.",
    );
    text.sample(
        "yinglong_pipeline_retries_total",
        &[],
        load(&progress.retries),
    );
    text.family(
        "yinglong_pipeline_stalled",
        "gauge",
        "1 while the stores take nothing.",
    );
    text.sample(
        "yinglong_pipeline_stalled",
        &[],
        u64::from(progress.stalled.load(Ordering::Relaxed)),
    );
    text.family(
        "yinglong_log_damaged_entries_total",
        "counter",
        "Log entries passed over.",
    );
    text.sample(
        "yinglong_log_damaged_entries_total",
        &[],
        load(&progress.damaged_entries),
    );

    let log = server.log_usage();
    text.family(
        "yinglong_log_bytes",
        "gauge",
        "Size of the write-ahead log.",
    );
    text.sample("yinglong_log_bytes", &[], log.bytes);
    text.family(
        "yinglong_log_entries",
        "gauge",
        "Entries the stores have not taken yet.",
    );
    text.sample("yinglong_log_entries", &[], log.records);

    let usage = server.events().usage()?;
    text.family("yinglong_store_events", "gauge", "Events stored.");
    text.sample("yinglong_store_events", &[], usage.events);
    text.family("yinglong_store_bytes", "gauge", "Size of the event store.");
    text.sample("yinglong_store_bytes", &[], usage.bytes);

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
}
