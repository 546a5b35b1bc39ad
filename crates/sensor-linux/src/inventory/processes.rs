//! `processlist`: what runs (A12), and the walk over `/proc` that other collectors share.

use std::path::Path;

use yinglong_model::{Timestamp, inventory::Element};

use super::{Error, Root, element, root::file_name};

/// Longest command line kept, in bytes.
const COMMAND_LIMIT_BYTES: u64 = 32 << 10;

/// Collects every process, kernel threads included.
///
/// # Errors
/// `/proc` cannot be read.
pub fn collect(root: &Root) -> Result<Vec<Element>, Error> {
    let boot_secs = root
        .peek("/proc/stat", 1 << 20)
        .and_then(|stat| boot_time(&String::from_utf8_lossy(&stat)))
        .unwrap_or_default();
    Ok(scan(root)?
        .into_iter()
        .map(|process| {
            let started = boot_secs.saturating_add(process.start_secs());
            element([
                ("name", process.name().to_owned()),
                ("pid", process.pid.to_string()),
                ("ppid", process.ppid.to_string()),
                ("command", process.arguments.join(" ")),
                ("starttime", Timestamp::from_secs(started).to_string()),
            ])
        })
        .collect())
}

/// A running process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) ppid: u32,
    /// Path of its image, without the kernel's mark of a deleted one; empty for kernel threads.
    pub(super) exe: String,
    pub(super) comm: String,
    pub(super) arguments: Vec<String>,
    pub(super) start_ticks: u64,
}

impl Process {
    /// Path of the image, or the kernel's name for what has none.
    pub(super) fn name(&self) -> &str {
        if self.exe.is_empty() {
            &self.comm
        } else {
            &self.exe
        }
    }

    /// Base name of the image, or the kernel's name for what has none.
    pub(super) fn base_name(&self) -> &str {
        self.name().rsplit('/').next().unwrap_or_default()
    }

    fn start_secs(&self) -> i64 {
        let ticks_per_sec = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
            .ok()
            .flatten()
            .and_then(|ticks| u64::try_from(ticks).ok())
            .filter(|ticks| *ticks > 0)
            .unwrap_or(100);
        i64::try_from(self.start_ticks / ticks_per_sec).unwrap_or(i64::MAX)
    }
}

/// Every process, in the order of pids. Those that end meanwhile are left out.
pub(super) fn scan(root: &Root) -> Result<Vec<Process>, Error> {
    let mut processes: Vec<Process> = root
        .list("/proc")?
        .iter()
        .filter_map(|path| {
            let pid = file_name(path).parse().ok()?;
            read(root, path, pid)
        })
        .collect();
    processes.sort_by_key(|process| process.pid);
    Ok(processes)
}

fn read(root: &Root, path: &Path, pid: u32) -> Option<Process> {
    let stat = root.peek(path.join("stat"), 4096)?;
    let stat = parse_stat(&String::from_utf8_lossy(&stat))?;
    let command = root
        .peek(path.join("cmdline"), COMMAND_LIMIT_BYTES)
        .unwrap_or_default();
    let exe = root
        .link(path.join("exe"))
        .map(|exe| exe.to_string_lossy().into_owned())
        .unwrap_or_default();
    Some(Process {
        pid,
        exe: exe.strip_suffix(" (deleted)").unwrap_or(&exe).to_owned(),
        arguments: parse_arguments(&command),
        ..stat
    })
}

/// Parent, name and start of proc_pid_stat(5); the name may hold anything, even parentheses.
fn parse_stat(stat: &str) -> Option<Process> {
    let (before, after) = stat.rsplit_once(')')?;
    let (_, comm) = before.split_once('(')?;
    let mut columns = after.split_ascii_whitespace();
    let ppid = columns.nth(1)?.parse().ok()?;
    // Field 22 of the file; the iterator stands behind field 4.
    let start_ticks = columns.nth(17)?.parse().ok()?;
    Some(Process {
        ppid,
        comm: comm.to_owned(),
        start_ticks,
        ..Process::default()
    })
}

fn parse_arguments(cmdline: &[u8]) -> Vec<String> {
    let end = cmdline.iter().rposition(|byte| *byte != 0);
    let Some(used) = end.and_then(|end| cmdline.get(..=end)) else {
        return Vec::new();
    };
    used.split(|byte| *byte == 0)
        .map(|argument| String::from_utf8_lossy(argument).into_owned())
        .collect()
}

/// Second of the epoch at which the kernel started.
fn boot_time(stat: &str) -> Option<i64> {
    stat.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_columns() {
        let stat = "77 (a) S 9 (b) R 5 1 1 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 4242 8 9";
        let process = parse_stat(stat).unwrap();
        assert_eq!((process.ppid, process.start_ticks), (5, 4242));
        assert_eq!(process.comm, "a) S 9 (b");
        for broken in ["", ")", "(", "1 (x", "1 (x) S", "1 (x) S y"] {
            assert_eq!(parse_stat(broken), None);
        }
    }

    #[test]
    fn arguments_end_at_the_last_byte_that_is_not_zero() {
        assert_eq!(parse_arguments(b"sleep\x00777\0\0\0"), ["sleep", "777"]);
        assert_eq!(parse_arguments(b"a\0\0b\0"), ["a", "", "b"]);
        assert!(parse_arguments(b"\0").is_empty());
    }

    #[test]
    fn a_running_program_is_listed_with_parent_and_command_a12() {
        let mut child = Command::new("sleep").arg("777").spawn().unwrap();
        let pid = child.id().to_string();
        let list = collect(&Root::host()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let found = list.iter().find(|e| e["pid"] == pid).unwrap();
        assert!(found["name"].ends_with("/sleep") || found["name"].ends_with("/coreutils"));
        assert_eq!(found["command"], "sleep 777");
        assert_eq!(found["ppid"], std::process::id().to_string());
        let started = Timestamp::parse_rfc3339(&found["starttime"]).unwrap();
        let now = Timestamp::from(std::time::SystemTime::now());
        assert!(now.since(started) < std::time::Duration::from_secs(3600));
    }
}
