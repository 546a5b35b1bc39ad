//! Processes as `/proc` tells them.

use std::fs;

use yinglong_model::ProcessKey;

use super::{Entry, TICK_NS};
use crate::text::{command_line, printable};

/// What `/proc/<pid>/stat` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Short name.
    pub(crate) comm: String,
    /// Parent.
    pub(crate) ppid: u32,
    /// Start after boot, a multiple of 10 ms.
    pub(crate) start_boottime_ns: u64,
    /// Threads.
    pub(crate) threads: u64,
}

/// Reads `/proc/<pid>/stat`; `None` when the process is gone.
pub(crate) fn read_stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// The fields stand behind the last parenthesis, because the name may contain any byte.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|&byte| byte == b'(')?;
    let close = line.iter().rposition(|&byte| byte == b')')?;
    let comm = printable(line.get(open + 1..close)?);
    let fields = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = fields.split_ascii_whitespace();
    // proc(5): the state is field 3, the parent 4, the number of threads 20, the start time 22.
    let ppid = fields.nth(1)?.parse().ok()?;
    let threads = fields.nth(15)?.parse().ok()?;
    let ticks: u64 = fields.nth(1)?.parse().ok()?;
    Some(Stat {
        comm,
        ppid,
        start_boottime_ns: ticks.checked_mul(TICK_NS)?,
        threads,
    })
}

/// Everything about a running process; `None` when it is gone.
pub(super) fn read(pid: u32) -> Option<Entry> {
    let stat = read_stat(pid)?;
    let name = fs::read_link(format!("/proc/{pid}/exe"))
        .map(|path| printable(path.as_os_str().as_encoded_bytes()))
        .unwrap_or_default();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let status = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    Some(Entry {
        key: ProcessKey {
            pid,
            start_boottime_ns: stat.start_boottime_ns,
        },
        ppid: stat.ppid,
        name,
        command: command_line(command.get(..super::COMMAND_MAX).unwrap_or(&command)),
        uid: parse_uid(&String::from_utf8_lossy(&status)).unwrap_or_default(),
        parent: ProcessKey {
            pid: stat.ppid,
            start_boottime_ns: 0,
        },
    })
}

/// All running processes.
pub(super) fn all() -> impl Iterator<Item = Entry> {
    let names = fs::read_dir("/proc").into_iter().flatten().flatten();
    names.filter_map(|name| read(name.file_name().to_str()?.parse().ok()?))
}

/// Real uid of `/proc/<pid>/status`.
fn parse_uid(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name_contains() {
        let line = b"42 (a) R (b\n) S 7 42 42 34816 42 4194304 1 0 0 0 0 0 0 0 20 0 1 0 1234 9 9";
        assert_eq!(
            parse_stat(line),
            Some(Stat {
                comm: "a) R (b\\x0a".into(),
                ppid: 7,
                start_boottime_ns: 12_340_000_000,
                threads: 1,
            })
        );
        for bad in [&b""[..], b"42 (x", b"42 (x) S", b")(", b"42 (x) S a b c"] {
            assert_eq!(parse_stat(bad), None);
        }
    }

    #[test]
    fn the_real_user_is_the_first_of_the_four() {
        assert_eq!(parse_uid("Name:\tx\nUid:\t33\t0\t0\t0\n"), Some(33));
        assert_eq!(parse_uid("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_is_found() {
        let me = read(std::process::id()).expect("we run");
        assert!(me.name.starts_with('/') && me.command.starts_with('/'));
        assert!(me.key.start_boottime_ns > 0 && me.ppid > 0);
        assert!(all().any(|entry| entry.key == me.key));
    }
}
