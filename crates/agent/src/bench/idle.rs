//! What the agent costs while nothing happens: processor time and how often its threads wake up.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{
    machine,
    observer::{EVERY_STREAM, Observer},
};

/// What was found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Idle {
    /// How long was looked, in seconds.
    pub seconds: f64,
    /// Processor time of the agent, in milliseconds, in steps of a clock tick.
    pub cpu_ms: u64,
    /// The same in percent of one processor.
    pub cpu_percent: f64,
    /// Times per second that a thread of the agent was given a processor.
    pub wake_ups: f64,
    /// The same by name of the thread.
    pub threads: BTreeMap<String, f64>,
    /// Memory at the end.
    pub memory: machine::Memory,
    /// What the agent observed meanwhile: how idle the machine was.
    pub observed: u64,
}

/// Starts an agent and watches it for `time`, after it has taken its first lists.
///
/// # Errors
/// The agent does not start, or ends.
pub fn idle(settle: Duration, time: Duration) -> anyhow::Result<Idle> {
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let mut observer = Observer::start(folder.path(), &EVERY_STREAM)?;
    thread::sleep(settle);
    let observed = |observer: &mut Observer| -> anyhow::Result<u64> {
        let snapshot = observer.ask()?;
        let streams = snapshot.ledger.streams.values();
        Ok(streams.map(|books| books.emitted).sum())
    };
    let pid = observer.pid();
    let first = observed(&mut observer)?;
    let (cpu, switches, started) = (machine::cpu_ms(pid), switches(pid), Instant::now());
    thread::sleep(time);
    let cpu_ms = machine::cpu_ms(pid).saturating_sub(cpu);
    let later = self::switches(pid);
    let seconds = started.elapsed().as_secs_f64();
    let memory = machine::memory(pid);
    let observed = observed(&mut observer)?.saturating_sub(first);
    observer.end()?;

    let mut threads = BTreeMap::new();
    for ((thread, name), count) in &later {
        let before = switches.get(&(*thread, name.clone())).copied();
        let new = count.saturating_sub(before.unwrap_or_default());
        *threads.entry(name.clone()).or_default() += new as f64 / seconds;
    }
    Ok(Idle {
        seconds,
        cpu_ms,
        cpu_percent: cpu_ms as f64 / (seconds * 10.0),
        wake_ups: threads.values().sum(),
        threads,
        memory,
        observed,
    })
}

impl Idle {
    /// In words.
    pub fn table(&self) -> String {
        let mut text = format!(
            "idle for {:.0} s: {} ms of processor time ({:.2} % of one), {:.1} wake-ups per second, \
             {:.1} MiB proportional; {} things were observed meanwhile\n",
            self.seconds,
            self.cpu_ms,
            self.cpu_percent,
            self.wake_ups,
            self.memory.pss_bytes as f64 / f64::from(1 << 20),
            self.observed,
        );
        for (name, wake_ups) in &self.threads {
            let _ = writeln!(text, "  {name:<16} {wake_ups:6.1} wake-ups per second");
        }
        text
    }
}

/// Switches to every thread of a process so far, by number and name.
fn switches(pid: u32) -> BTreeMap<(u32, String), u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/task"));
    let threads = entries.into_iter().flatten().flatten();
    threads
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let name = field(&status, "Name:")?.to_owned();
            let count = |name| field(&status, name)?.parse::<u64>().ok();
            let own = count("voluntary_ctxt_switches:")?;
            Some(((number, name), own + count("nonvoluntary_ctxt_switches:")?))
        })
        .collect()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_thread_of_this_process_has_switches() {
        let name = thread::current().name().unwrap_or_default().to_owned();
        let switches = switches(std::process::id());
        // The kernel cuts names to 15 bytes.
        let own = switches.keys().any(|(_, known)| name.starts_with(known));
        assert!(own, "{name} is not in {switches:?}");
        assert!(self::switches(u32::MAX).is_empty());
    }
}
