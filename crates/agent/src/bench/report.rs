//! What the storms came to.

use std::{collections::BTreeMap, fmt::Write as _};

use serde::{Deserialize, Serialize};

use super::{
    Plan, Watcher,
    machine::{self, Memory},
    seen::Seen,
    storm::{self, Figures, Order},
};
use crate::local::Snapshot;

/// A machine with more runnable processes per processor than this is busy with other things.
const BUSY: f64 = 0.3;

/// One storm with its watcher.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Run {
    /// Duration in milliseconds.
    pub wall_ms: f64,
    /// Processor time of the storm per operation, in microseconds.
    pub storm_cpu_us: f64,
    /// Processor time of the watcher for the storm, in milliseconds.
    pub watcher_cpu_ms: Option<u64>,
    /// Most memory of the watcher.
    pub memory: Option<Memory>,
    /// Operations it saw, each counted once.
    pub captured: Option<u32>,
    /// Operations it did not see.
    pub lost: Option<u32>,
    /// Observations of the agent meanwhile that are not of the storm: what else happened here.
    pub foreign: Option<u64>,
    /// What it says it lost, by stream and reason.
    pub drops: BTreeMap<String, u64>,
    /// Load of the machine before the storm.
    pub load: f64,
    /// What the agent did not observe on this host; the report has it once.
    #[serde(skip)]
    pub blind: Vec<String>,
}

impl Run {
    pub(super) fn new(order: &Order, figures: &Figures) -> Self {
        Self {
            wall_ms: figures.wall_us as f64 / 1000.0,
            storm_cpu_us: figures.cpu_us as f64 / f64::from(order.count.max(1)),
            load: machine::load(),
            ..Self::default()
        }
    }

    pub(super) fn captured(&mut self, seen: Seen) {
        self.captured = Some(seen.count());
        self.lost = Some(seen.missing());
    }

    pub(super) fn memory(&mut self, peak: Option<Memory>) {
        self.memory = peak.filter(|memory| memory.rss_bytes > 0);
    }

    /// Takes in what the agent says about itself before, after, and at its end.
    pub(super) fn agent(
        &mut self,
        order: &Order,
        before: &Snapshot,
        after: &Snapshot,
        last: &Snapshot,
        peak: Memory,
    ) {
        let cpu = after.usage.cpu_ms.saturating_sub(before.usage.cpu_ms);
        self.watcher_cpu_ms = Some(cpu);
        self.memory(Some(peak));
        let emitted = |snapshot: &Snapshot, of_storm: bool| -> u64 {
            let streams = snapshot.ledger.streams.iter();
            let chosen = streams.filter(|(stream, _)| (*stream == order.kind.stream()) == of_storm);
            chosen.map(|(_, books)| books.emitted).sum()
        };
        let new = |of_storm| emitted(after, of_storm).saturating_sub(emitted(before, of_storm));
        let own = u64::from(order.count) * order.kind.observations();
        self.foreign = Some(new(false) + new(true).saturating_sub(own));
        for (stream, books) in &last.ledger.streams {
            let earlier = before.ledger.streams.get(stream);
            for (reason, count) in &books.dropped {
                let known = earlier.and_then(|books| books.dropped.get(reason));
                let new = count.saturating_sub(known.copied().unwrap_or_default());
                if new > 0 {
                    self.drops
                        .insert(format!("{stream} {}", reason.as_str()), new);
                }
            }
            if !books.balances() {
                self.drops.insert(format!("{stream} unbalanced"), 1);
            }
        }
    }
}

/// All storms of one watcher.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Series {
    /// Who watched.
    pub watcher: String,
    /// One by one.
    pub runs: Vec<Run>,
    /// Median of the durations over that of nobody watching.
    pub ratio: Option<f64>,
    /// The shortest duration over the shortest of nobody watching.
    pub ratio_of_best: Option<f64>,
}

/// Everything.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// Kind of storm.
    pub storm: String,
    /// Operations per storm.
    pub count: u32,
    /// Workers, each pinned to a processor.
    pub workers: usize,
    /// Version of the agent.
    pub agent_version: String,
    /// Kernel.
    pub kernel: String,
    /// Processors.
    pub cpus: usize,
    /// Load before the first storm.
    pub load: f64,
    /// By watcher.
    pub series: Vec<Series>,
    /// What makes the figures less than they seem.
    pub notes: Vec<String>,
}

impl Report {
    pub(super) fn new(plan: &Plan) -> Self {
        let cpus = storm::cpus().map_or(1, |cpus| cpus.len());
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let series = plan.watchers.iter().map(|watcher| Series {
            watcher: watcher.as_str().to_owned(),
            ..Series::default()
        });
        let mut notes = Vec::new();
        if cfg!(debug_assertions) {
            notes.push("this is a build for debugging: build with --release to measure".to_owned());
        }
        let others = machine::pids_of("yinglong-agent");
        if !others.is_empty() {
            notes.push(format!(
                "another agent runs on this machine ({}): its cost is in every row; stop it to \
                 measure",
                others.len()
            ));
        }
        Self {
            storm: plan.kind.as_str().to_owned(),
            count: plan.count,
            workers: plan.workers,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: kernel.trim().to_owned(),
            cpus,
            load: machine::load(),
            series: series.collect(),
            notes,
        }
    }

    /// Works out what needs all runs.
    pub(super) fn finish(&mut self) {
        let walls = |runs: &[Run]| runs.iter().map(|run| run.wall_ms).collect::<Vec<_>>();
        let none = self
            .series
            .iter()
            .find(|series| series.watcher == Watcher::None.as_str())
            .map(|series| walls(&series.runs))
            .unwrap_or_default();
        for series in &mut self.series {
            let own = walls(&series.runs);
            series.ratio = ratio(median(&own), median(&none));
            series.ratio_of_best = ratio(least(&own), least(&none));
        }
        let cpus = self.cpus.max(1) as f64;
        // The storm itself is in later loads, so only the first one tells what others do.
        if self.load / cpus > BUSY {
            self.notes.push(format!(
                "the machine was busy before the first storm (load {:.1} on {} processors): times are \
                 noisy, counts of losses are not",
                self.load, self.cpus
            ));
        }
        let runs = self.series.iter().flat_map(|series| &series.runs);
        let foreign = runs.filter_map(|run| run.foreign).max().unwrap_or_default();
        if foreign > u64::from(self.count) / 10 {
            self.notes.push(format!(
                "up to {foreign} other things happened on this machine during a storm, and the agent's \
                 time has them in it"
            ));
        }
        if least(&none).is_some_and(|wall| wall < 500.0) {
            self.notes
                .push("storms of less than half a second say little: raise --count".to_owned());
        }
    }

    /// As a table.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{} storm, {} operations, {} workers pinned to {} processors, kernel {}, agent {}\n",
            self.storm, self.count, self.workers, self.cpus, self.kernel, self.agent_version
        );
        let _ = writeln!(
            text,
            "{:<9} {:>4} {:>8} {:>7} {:>6} {:>9} {:>8} {:>9} {:>9} {:>10} {:>7}",
            "watcher",
            "runs",
            "wall s",
            "ratio",
            "best",
            "us/op",
            "cpu ms",
            "rss MiB",
            "pss MiB",
            "captured",
            "lost"
        );
        for series in &self.series {
            let _ = writeln!(text, "{}", series.row());
        }
        text.push_str(
            "(wall, us/op and cpu are medians; memory is the most, captured the least, lost the sum)\n",
        );
        for series in &self.series {
            let mut drops = BTreeMap::<&str, u64>::new();
            for (what, count) in series.runs.iter().flat_map(|run| &run.drops) {
                *drops.entry(what).or_default() += count;
            }
            for (what, count) in drops {
                let _ = writeln!(text, "{}: {count} dropped: {what}", series.watcher);
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "note: {note}");
        }
        text
    }

    /// Operations that the agent did not see, in all runs.
    pub fn lost_by_agent(&self) -> u64 {
        let agent = self
            .series
            .iter()
            .filter(|series| series.watcher == Watcher::Agent.as_str());
        let runs = agent.flat_map(|series| &series.runs);
        runs.map(|run| u64::from(run.lost.unwrap_or_default()))
            .sum()
    }
}

impl Series {
    fn row(&self) -> String {
        let of = |read: &dyn Fn(&Run) -> Option<f64>| {
            self.runs.iter().filter_map(read).collect::<Vec<_>>()
        };
        let shown = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let most = |values: Vec<f64>| values.into_iter().reduce(f64::max);
        let rss = of(&|run| run.memory.map(|memory| mebibytes(memory.rss_bytes)));
        let pss = of(&|run| run.memory.map(|memory| mebibytes(memory.pss_bytes)));
        let lost = of(&|run| run.lost.map(f64::from));
        let total = match lost.is_empty() {
            true => None,
            false => Some(lost.iter().sum()),
        };
        format!(
            "{:<9} {:>4} {:>8} {:>7} {:>6} {:>9} {:>8} {:>9} {:>9} {:>10} {:>7}",
            self.watcher,
            self.runs.len(),
            shown(median(&of(&|run| Some(run.wall_ms / 1000.0))), 3),
            shown(self.ratio, 3),
            shown(self.ratio_of_best, 3),
            shown(median(&of(&|run| Some(run.storm_cpu_us))), 1),
            shown(
                median(&of(&|run| run.watcher_cpu_ms.map(|ms| ms as f64))),
                0
            ),
            shown(most(rss), 1),
            shown(most(pss), 1),
            shown(least(&of(&|run| run.captured.map(f64::from))), 0),
            shown(total, 0),
        )
    }
}

fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = sorted.get(middle.checked_sub(1)?)?;
    Some(f64::midpoint(*lower, upper))
}

fn least(values: &[f64]) -> Option<f64> {
    values.iter().copied().reduce(f64::min)
}

fn ratio(value: Option<f64>, base: Option<f64>) -> Option<f64> {
    base.filter(|base| *base > 0.0)
        .and_then(|base| Some(value? / base))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(watcher: Watcher, walls: &[f64]) -> Series {
        let runs = walls.iter().map(|wall_ms| Run {
            wall_ms: *wall_ms,
            lost: (watcher == Watcher::Agent).then_some(2),
            ..Run::default()
        });
        Series {
            watcher: watcher.as_str().to_owned(),
            runs: runs.collect(),
            ..Series::default()
        }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_two_in_the_middle() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn ratios_are_to_nobody_watching_and_losses_of_the_agent_are_added() {
        let mut report = Report {
            series: vec![
                series(Watcher::None, &[1000.0, 2000.0, 4000.0]),
                series(Watcher::Agent, &[1500.0, 2200.0, 9000.0]),
            ],
            ..Report::default()
        };
        report.finish();
        assert_eq!(report.series[0].ratio, Some(1.0));
        assert_eq!(report.series[1].ratio, Some(1.1));
        assert_eq!(report.series[1].ratio_of_best, Some(1.5));
        assert_eq!(report.lost_by_agent(), 6);
        assert!(report.table().contains("1.100"));
    }

    #[test]
    fn without_a_baseline_there_is_no_ratio() {
        let mut report = Report {
            series: vec![series(Watcher::Agent, &[1500.0])],
            ..Report::default()
        };
        report.finish();
        assert_eq!(report.series[0].ratio, None);
    }
}
