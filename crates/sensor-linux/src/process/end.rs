//! The end of a process as the kernel and the process tree tell it.

use nix::sys::signal::Signal;
use yinglong_model::event::Exit;

use super::record::{End, Usage};
use crate::{text::printable, tree::Entry};

const NS_PER_MS: u64 = 1_000_000;

/// The event, as far as the record and the tree know it.
pub(super) fn event(end: &End<'_>, known: Option<&Entry>, page_bytes: u64) -> Exit {
    let (exit_code, signal, core_dumped) = outcome(end.status);
    let processor = end.usage.map(processor_ms);
    let started = Some(end.key.start_boottime_ns)
        .filter(|ns| *ns > 0)
        .or_else(|| known.map(|entry| entry.key.start_boottime_ns));
    let since_start = started.and_then(|ns| end.ts_boot_ns.checked_sub(ns));
    Exit {
        name: known
            .map(|entry| entry.name.clone())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| printable(end.comm)),
        command: known.map(|entry| entry.command.clone()).unwrap_or_default(),
        pid: end.key.pid,
        ppid: known.map_or(end.ppid, |entry| entry.ppid),
        exit_code,
        signal,
        core_dumped: core_dumped.then_some(true),
        uid: Some(end.uid),
        duration_ms: since_start.map(|ns| ns / NS_PER_MS),
        user_ms: processor.map(|(user, _)| user),
        system_ms: processor.map(|(_, system)| system),
        max_rss_bytes: end
            .usage
            .map(|usage| usage.max_rss_pages.saturating_mul(page_bytes)),
        ..Exit::default()
    }
}

/// Whether a process that ended with this status had a fault, or was found to have one: the same
/// signals as in `bpf/process.bpf.c`.
pub(super) fn is_fault(status: u32) -> bool {
    const FAULTS: [Signal; 7] = [
        Signal::SIGILL,
        Signal::SIGTRAP,
        Signal::SIGABRT,
        Signal::SIGBUS,
        Signal::SIGFPE,
        Signal::SIGSEGV,
        Signal::SIGSYS,
    ];
    FAULTS.iter().any(|signal| *signal as u32 == status & 0x7f)
}

/// Code, signal, and whether core was dumped, of a status as wait(2) tells it.
fn outcome(status: u32) -> (i32, Option<String>, bool) {
    let number = i32::try_from(status & 0x7f).unwrap_or_default();
    if number == 0 {
        let code = i32::try_from(status >> 8 & 0xff).unwrap_or_default();
        return (code, None, false);
    }
    // Real-time signals have no names of their own.
    let name = Signal::try_from(number)
        .map_or_else(|_| format!("SIG{number}"), |signal| signal.as_str().into());
    (128 + number, Some(name), status & 0x80 != 0)
}

/// The exact time, shared out as ticks of the clock found the process in its own code or in the
/// kernel; the kernel does the same for getrusage(2) (`cputime_adjust`).
fn processor_ms(usage: Usage) -> (u64, u64) {
    let Usage {
        user_ns,
        system_ns,
        runtime_ns,
        ..
    } = usage;
    let system = match (user_ns, system_ns) {
        (_, 0) => 0,
        (0, _) => runtime_ns,
        _ => {
            let share = u128::from(runtime_ns) * u128::from(system_ns)
                / (u128::from(user_ns) + u128::from(system_ns));
            u64::try_from(share).unwrap_or(runtime_ns)
        }
    };
    let user = runtime_ns.saturating_sub(system);
    (user / NS_PER_MS, system / NS_PER_MS)
}

#[cfg(test)]
mod tests {
    use yinglong_model::ProcessKey;

    use super::{super::record::GroupId, *};

    const KEY: ProcessKey = ProcessKey {
        pid: 7,
        start_boottime_ns: 5_000_000,
    };

    fn end(status: u32) -> End<'static> {
        End {
            ts_boot_ns: 17_900_000,
            key: KEY,
            group: GroupId::of(1),
            usage: Some(Usage {
                max_rss_pages: 3,
                ..Usage::default()
            }),
            ppid: 1,
            uid: 33,
            status,
            comm: b"worker",
        }
    }

    #[test]
    fn a_status_is_told_as_shells_tell_it() {
        for (status, code, signal, core) in [
            (0, 0, None, None),
            (7 << 8, 7, None, None),
            (255 << 8, 255, None, None),
            (11, 139, Some("SIGSEGV"), None),
            (0x80 | 6, 134, Some("SIGABRT"), Some(true)),
            (31, 159, Some("SIGSYS"), None),
            (40, 168, Some("SIG40"), None),
            (u32::MAX, 255, Some("SIG127"), Some(true)),
        ] {
            let exit = event(&end(status), None, 4096);
            assert_eq!(
                (exit.exit_code, exit.signal.as_deref(), exit.core_dumped),
                (code, signal, core),
                "{status}"
            );
        }
    }

    #[test]
    fn the_tree_knows_what_ended_and_who_started_it() {
        let entry = Entry {
            key: KEY,
            ppid: 5,
            name: "/usr/sbin/nginx".into(),
            command: "nginx: worker".into(),
            ..Entry::default()
        };
        let exit = event(&end(11), Some(&entry), 4096);
        assert_eq!((exit.name.as_str(), exit.ppid), ("/usr/sbin/nginx", 5));
        assert_eq!(exit.command, "nginx: worker");
        assert_eq!((exit.duration_ms, exit.uid), (Some(12), Some(33)));
        assert_eq!(exit.max_rss_bytes, Some(12_288));
        let unknown = event(&end(11), None, 4096);
        assert_eq!((unknown.name.as_str(), unknown.ppid), ("worker", 1));
    }

    #[test]
    fn processor_time_is_shared_out_as_the_clock_found_it() {
        let ms = |user, system, runtime| {
            processor_ms(Usage {
                user_ns: user * NS_PER_MS,
                system_ns: system * NS_PER_MS,
                runtime_ns: runtime * NS_PER_MS,
                max_rss_pages: 0,
            })
        };
        assert_eq!(ms(0, 0, 3), (3, 0));
        assert_eq!(ms(0, 4, 3), (0, 3));
        assert_eq!(ms(30, 10, 20), (15, 5));
        let most = Usage {
            user_ns: u64::MAX,
            system_ns: u64::MAX,
            runtime_ns: u64::MAX,
            max_rss_pages: u64::MAX,
        };
        let half = u64::MAX / 2 / NS_PER_MS;
        assert_eq!(processor_ms(most), (half, half));
    }
}
