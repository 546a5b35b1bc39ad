//! What `/proc` says about processes and about the machine.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use serde::{Deserialize, Serialize};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Memory of a process, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Resident; rings shared with the kernel count twice.
    pub rss_bytes: u64,
    /// Proportional: shared pages are divided among those who share them.
    pub pss_bytes: u64,
}

/// Memory of a process now; zero when it has gone.
pub fn memory(pid: u32) -> Memory {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let field = |name: &str| {
        let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
        let number = rest.trim().strip_suffix("kB")?.trim();
        Some(number.parse::<u64>().ok()? * 1024)
    };
    Memory {
        rss_bytes: field("Rss:").unwrap_or_default(),
        pss_bytes: field("Pss:").unwrap_or_default(),
    }
}

/// Processor time of a process in milliseconds, in steps of a clock tick; 0 when it has gone.
pub fn cpu_ms(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .and_then(|ticks| u64::try_from(ticks).ok())
        .filter(|ticks| *ticks > 0)
        .unwrap_or(100);
    ticks(&text).unwrap_or_default() * 1000 / per_second
}

/// User and system time of `/proc/PID/stat`. The name before them may contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user = fields.next()?.parse::<u64>().ok()?;
    let system = fields.next()?.parse::<u64>().ok()?;
    Some(user + system)
}

/// The most memory a process had while it was watched.
pub struct Peak {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Memory>,
}

impl Peak {
    /// Watches a process from now on.
    pub fn watch(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut most = memory(pid);
            while !flag.load(Ordering::Acquire) {
                thread::sleep(LOOK);
                let now = memory(pid);
                most.rss_bytes = most.rss_bytes.max(now.rss_bytes);
                most.pss_bytes = most.pss_bytes.max(now.pss_bytes);
            }
            most
        });
        Self { stop, thread }
    }

    /// Ends watching.
    pub fn end(self) -> Memory {
        self.stop.store(true, Ordering::Release);
        self.thread.join().unwrap_or_default()
    }
}

/// Runnable processes, mean over the last minute.
pub fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split_ascii_whitespace().next();
    first.and_then(|text| text.parse().ok()).unwrap_or_default()
}

/// Process ids of programs with that name, this process left out.
pub fn pids_of(name: &str) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != std::process::id())
        .filter(|pid| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm.trim_end() == name
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a) b 1 (c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0";
        assert_eq!(ticks(stat), Some(42));
        assert_eq!(ticks("7 (a"), None);
        assert_eq!(ticks("7 (a) S 1"), None);
    }

    #[test]
    fn this_process_has_memory_and_one_that_has_gone_has_none() {
        assert!(memory(std::process::id()).rss_bytes > 0);
        assert_eq!(memory(u32::MAX), Memory::default());
        let peak = Peak::watch(std::process::id()).end();
        assert!(peak.pss_bytes > 0);
    }
}
