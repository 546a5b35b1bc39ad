//! Whether the agent grows: small storms of every kind for a long time, and its memory meanwhile.

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{
    machine::{self, Memory},
    observer::Observer,
    storm::{self, Kind, Order},
};

/// Time between two rounds.
const PAUSE: Duration = Duration::from_secs(1);

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How long.
    pub time: Duration,
    /// Operations of each kind in each round; a round follows the other by a second.
    pub count: u32,
    /// Workers.
    pub workers: usize,
}

/// A look at the agent.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Look {
    /// Since the start, in seconds.
    pub at_seconds: f64,
    /// Memory.
    pub memory: Memory,
    /// Processor time so far, in milliseconds.
    pub cpu_ms: u64,
    /// Operations so far.
    pub operations: u64,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Churn {
    /// Version of the agent.
    pub agent_version: String,
    /// After every round.
    pub looks: Vec<Look>,
    /// What the agent lost, or does not account for, by stream and reason.
    pub drops: Vec<(String, u64)>,
}

/// Runs rounds until the time is over or `stop` is set. `tell` hears of progress once a minute.
///
/// # Errors
/// A storm cannot be run, or the agent does not start or ends.
pub fn churn(plan: &Plan, stop: &AtomicBool, tell: &dyn Fn(&str)) -> anyhow::Result<Churn> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    // As if a server took it all: what is measured is the agent, not its spool.
    let mut observer = Observer::start_releasing(folder.path())?;
    let pid = observer.pid();
    let started = Instant::now();
    let mut operations = 0;
    let mut looks = Vec::new();
    let mut told = 0;
    tell(&format!(
        "rounds of 3 x {} operations for {} minutes; Ctrl-C ends it with what there is",
        plan.count,
        plan.time.as_secs() / 60
    ));
    loop {
        for kind in [Kind::Exec, Kind::File, Kind::Connect] {
            let order = Order {
                kind,
                count: plan.count,
                workers: plan.workers,
                token: format!("{:08x}", rand::random::<u32>()),
                folder: folder.path().to_owned(),
            };
            storm::spawn(&order)?;
            operations += u64::from(plan.count);
        }
        thread::sleep(PAUSE);
        observer.ask()?;
        let look = Look {
            at_seconds: started.elapsed().as_secs_f64(),
            memory: machine::memory(pid),
            cpu_ms: machine::cpu_ms(pid),
            operations,
        };
        looks.push(look);
        let minute = started.elapsed().as_secs() / 60;
        if minute > told {
            told = minute;
            tell(&row(&look));
        }
        if started.elapsed() >= plan.time || stop.load(Ordering::Acquire) {
            break;
        }
    }
    let last = observer.end()?;
    let mut drops = Vec::new();
    for (stream, books) in &last.ledger.streams {
        let lost = books.dropped.iter().filter(|(_, count)| **count > 0);
        drops.extend(lost.map(|(reason, count)| (format!("{stream} {}", reason.as_str()), *count)));
        if !books.balances() {
            drops.push((format!("{stream} unbalanced"), 1));
        }
    }
    Ok(Churn {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        looks,
        drops,
    })
}

impl Churn {
    /// Bytes of proportional memory by which the median of the last third is above the median of
    /// the second third; the first is warming up.
    pub fn growth_bytes(&self) -> Option<i64> {
        let third = self.looks.len() / 3;
        let median = |looks: &[Look]| {
            let mut sizes: Vec<_> = looks.iter().map(|look| look.memory.pss_bytes).collect();
            sizes.sort_unstable();
            i64::try_from(*sizes.get(sizes.len() / 2)?).ok()
        };
        let earlier = median(self.looks.get(third..2 * third)?)?;
        Some(median(self.looks.get(2 * third..)?)? - earlier)
    }

    /// As a table, a row for about every twelfth of the time.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let step = (self.looks.len() / 12).max(1);
        let last = self.looks.len().saturating_sub(1);
        for (place, look) in self.looks.iter().enumerate() {
            if place % step == 0 || place == last {
                let _ = writeln!(text, "{}", row(look));
            }
        }
        if let Some(growth) = self.growth_bytes() {
            let _ = writeln!(
                text,
                "median of the last third over that of the second: {:+} KiB proportional",
                growth / 1024
            );
        }
        for (what, count) in &self.drops {
            let _ = writeln!(text, "{count} dropped: {what}");
        }
        text
    }
}

fn row(look: &Look) -> String {
    let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    format!(
        "{:6.0} s {:9} operations {:7.1} MiB pss {:7.1} MiB rss {:8} ms cpu",
        look.at_seconds,
        look.operations,
        mebibytes(look.memory.pss_bytes),
        mebibytes(look.memory.rss_bytes),
        look.cpu_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn churn(sizes: &[u64]) -> Churn {
        let looks = sizes.iter().map(|pss_bytes| Look {
            memory: Memory {
                rss_bytes: 0,
                pss_bytes: *pss_bytes,
            },
            ..Look::default()
        });
        Churn {
            looks: looks.collect(),
            ..Churn::default()
        }
    }

    #[test]
    fn growth_is_told_of_the_time_after_warming_up() {
        assert_eq!(churn(&[]).growth_bytes(), None);
        assert_eq!(churn(&[1, 1]).growth_bytes(), None);
        let warming = [10, 50, 90, 100, 100, 100, 100, 100, 100];
        assert_eq!(churn(&warming).growth_bytes(), Some(0));
        let growing = [10, 20, 30, 40, 50, 60, 70, 80, 90];
        assert_eq!(churn(&growing).growth_bytes(), Some(30));
    }
}
