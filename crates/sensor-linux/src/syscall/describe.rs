//! What a call was applied to, and how, in words.

use super::{
    record::{Flags, Record},
    watched::Call,
    words,
};
use crate::{process::absolute, text::printable};

/// `target`, `target_pid` and `detail` of the event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Described {
    pub(super) target: String,
    pub(super) target_pid: Option<u32>,
    pub(super) detail: Option<String>,
}

/// Words of a detail, separated by spaces.
#[derive(Default)]
struct Detail(String);

impl Detail {
    fn word(&mut self, word: &str) {
        if !word.is_empty() {
            if !self.0.is_empty() {
                self.0.push(' ');
            }
            self.0.push_str(word);
        }
    }

    fn pair(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.word(&format!("{name}={value}"));
        }
    }
}

/// Describes a call; `image` answers the executable of a process.
pub(super) fn describe(record: &Record<'_>, image: impl Fn(u32) -> Option<String>) -> Described {
    let [first, second, third] = record.texts.map(printable);
    let [one, two, three, four, _] = record.args;
    let compat = record.flags.has(Flags::COMPAT);
    let mut target = first;
    let mut target_pid = None;
    let mut detail = Detail::default();
    let mut process = |pid: u64| match pid_of(pid) {
        Pid::One(pid) if !record.flags.has(Flags::OWN_PIDS) => {
            target_pid = Some(pid);
            image(pid).unwrap_or_default()
        }
        // The caller's numbers are not the host's.
        Pid::One(pid) => format!("process {pid} of its namespace"),
        Pid::Group(group) => format!("process group {group}"),
        Pid::OwnGroup => "its process group".to_owned(),
        Pid::Everybody => "every process".to_owned(),
    };
    match record.watched.call {
        Call::Ptrace => {
            detail.word(words::ptrace_request(one));
            target = process(two);
        }
        Call::ProcessVmWritev => target = process(one),
        Call::InitModule => {
            target = "module in memory".to_owned();
            detail.pair("bytes", &two.to_string());
            detail.pair("parameters", &second);
        }
        Call::FinitModule => {
            target = printable(&absolute(record.texts[0]));
            detail.pair("flags", &words::bits(three, &[words::MODULE]));
            detail.pair("parameters", &second);
        }
        Call::DeleteModule | Call::Execve | Call::Execveat => {}
        Call::Bpf => {
            detail.word("PROG_LOAD");
            detail.pair("type", &words::program_type(four));
        }
        Call::Mount => {
            let flags = match four & 0xffff_0000 {
                words::MOUNT_MAGIC => four & 0xffff,
                _ => four,
            };
            detail.pair("source", &second);
            detail.pair("type", &third);
            detail.pair("flags", &words::bits(flags, &[words::MOUNT]));
        }
        // The older call for 32-bit programs has no flags.
        Call::Umount2 if compat => {}
        Call::Umount2 => detail.pair("flags", &words::bits(two, &[words::UMOUNT])),
        Call::MoveMount => detail.pair("source", &second),
        Call::PivotRoot => detail.pair("old_root", &second),
        Call::Unshare => target = words::bits(one, &[words::NAMESPACES, words::SHARED]),
        Call::Setns => {
            let kinds = if record.namespace_type != 0 {
                u64::from(record.namespace_type)
            } else {
                two & 0xffff_ffff
            };
            target = words::bits(kinds, &[words::NAMESPACES]);
            if record.flags.has(Flags::NAMESPACE) {
                detail.pair("inode", &record.inode.to_string());
            }
            let own = u64::from(record.to_init);
            detail.pair("to_init", &words::bits(own, &[words::NAMESPACES]));
        }
        Call::Setuid | Call::Setreuid | Call::Setresuid => {
            target = "0".to_owned();
            detail.word(&format!("euid {} -> 0", record.euid));
        }
        Call::Setgid | Call::Setregid | Call::Setresgid => {
            target = "0".to_owned();
            detail.word(&format!("egid {} -> 0", record.egid));
        }
        Call::MemfdCreate => detail.pair("flags", &words::bits(two, &[words::MEMFD])),
        Call::PidfdSendSignal => detail.pair("signal", &words::signal(two)),
        Call::Kill | Call::Tkill | Call::RtSigqueueinfo => {
            target = process(one);
            detail.pair("signal", &words::signal(two));
        }
        Call::Tgkill | Call::RtTgsigqueueinfo => {
            target = process(one);
            detail.pair("signal", &words::signal(three));
        }
    }
    if record.target_pid != 0 {
        // A descriptor of a process: the kernel knows which one.
        target_pid = Some(record.target_pid);
        if target.is_empty() {
            target = image(record.target_pid).unwrap_or_default();
        }
    }
    if record.flags.has(Flags::TEXT_CUT) {
        detail.word("(cut)");
    }
    if record.flags.has(Flags::TEXT_MISSING) {
        detail.word("(unreadable)");
    }
    if compat {
        detail.word("32-bit");
    }
    Described {
        target,
        target_pid,
        detail: Some(detail.0).filter(|text| !text.is_empty()),
    }
}

/// What a number stands for where a process is expected.
enum Pid {
    One(u32),
    Group(u32),
    OwnGroup,
    Everybody,
}

fn pid_of(argument: u64) -> Pid {
    // The kernel looks at the lower half only.
    let number = (argument & 0xffff_ffff) as u32 as i32;
    match number {
        1.. => Pid::One(number.unsigned_abs()),
        0 => Pid::OwnGroup,
        -1 => Pid::Everybody,
        _ => Pid::Group(number.unsigned_abs()),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::record::tests::bytes, *};

    /// What is said about a call with these arguments, texts and flags.
    fn said(call: Call, args: &[u64], texts: [&[u8]; 3], flags: u32) -> Described {
        let mut bytes = bytes(call, texts);
        for (arg, at) in args.iter().zip((48..).step_by(8)) {
            bytes[at..at + 8].copy_from_slice(&arg.to_ne_bytes());
        }
        bytes[108..112].copy_from_slice(&flags.to_ne_bytes());
        let record = Record::parse(&bytes).unwrap();
        describe(&record, |pid| {
            (pid == 42).then(|| "/usr/sbin/sshd".to_owned())
        })
    }

    fn check(call: Call, args: &[u64], texts: [&[u8]; 3], target: &str, detail: &str) {
        let said = said(call, args, texts, 0);
        assert_eq!(
            (said.target.as_str(), said.detail.as_deref().unwrap_or("")),
            (target, detail),
            "{call:?}"
        );
    }

    const NONE: [&[u8]; 3] = [b"", b"", b""];

    #[test]
    fn every_call_says_what_it_was_applied_to() {
        let mount: [&[u8]; 3] = [b"/mnt\0", b"/dev/sda1\0", b"ext4\0"];
        check(Call::Ptrace, &[16, 42], NONE, "/usr/sbin/sshd", "ATTACH");
        check(Call::ProcessVmWritev, &[42], NONE, "/usr/sbin/sshd", "");
        check(
            Call::InitModule,
            &[1, 4096],
            [b"", b"debug=1\0", b""],
            "module in memory",
            "bytes=4096 parameters=debug=1",
        );
        check(
            Call::FinitModule,
            &[3, 0, 2],
            [b"x.ko\0tmp\0", b"\0", b""],
            "/tmp/x.ko",
            "flags=ignore_vermagic",
        );
        check(Call::DeleteModule, &[], [b"x\0", b"", b""], "x", "");
        check(
            Call::Bpf,
            &[5, 0, 64, 1],
            [b"door\0", b"", b""],
            "door",
            "PROG_LOAD type=socket_filter",
        );
        check(
            Call::Mount,
            &[0, 0, 0, 0xc0ed_0001],
            mount,
            "/mnt",
            "source=/dev/sda1 type=ext4 flags=ro",
        );
        check(
            Call::Umount2,
            &[0, 2],
            [b"/mnt\0", b"", b""],
            "/mnt",
            "flags=detach",
        );
        check(
            Call::MoveMount,
            &[],
            [b"/a\0", b"/b\0", b""],
            "/a",
            "source=/b",
        );
        check(
            Call::PivotRoot,
            &[],
            [b"/a\0", b"/a/o\0", b""],
            "/a",
            "old_root=/a/o",
        );
        check(Call::Unshare, &[0x1002_0000], NONE, "mount|user", "");
        check(Call::Setns, &[3, 0x4000_0000], NONE, "network", "");
        check(Call::Setuid, &[0], NONE, "0", "euid 1001 -> 0");
        check(Call::Setregid, &[0, 0], NONE, "0", "egid 1002 -> 0");
        check(
            Call::MemfdCreate,
            &[0, 1],
            [b"\xff\0", b"", b""],
            "\\xff",
            "flags=cloexec",
        );
        check(
            Call::Kill,
            &[42, 9],
            NONE,
            "/usr/sbin/sshd",
            "signal=SIGKILL",
        );
        check(
            Call::Tgkill,
            &[42, 43, 0],
            NONE,
            "/usr/sbin/sshd",
            "signal=0",
        );
        check(
            Call::Kill,
            &[u64::MAX, 15],
            NONE,
            "every process",
            "signal=SIGTERM",
        );
        check(
            Call::Kill,
            &[0, 15],
            NONE,
            "its process group",
            "signal=SIGTERM",
        );
        check(
            Call::Kill,
            &[-7i64 as u64, 15],
            NONE,
            "process group 7",
            "signal=SIGTERM",
        );
        check(Call::Execve, &[], [b"/tmp/x\0", b"", b""], "/tmp/x", "");
    }

    #[test]
    fn numbers_of_a_container_are_not_taken_for_those_of_the_host() {
        let inside = said(Call::Ptrace, &[16, 42], NONE, Flags::OWN_PIDS);
        assert_eq!(inside.target, "process 42 of its namespace");
        assert_eq!(inside.target_pid, None);
        let host = said(Call::Ptrace, &[16, 42], NONE, 0);
        assert_eq!(host.target_pid, Some(42));
    }

    #[test]
    fn what_is_not_complete_says_so() {
        let flags = Flags::TEXT_CUT | Flags::TEXT_MISSING | Flags::COMPAT;
        let said = said(Call::Execve, &[], NONE, flags);
        assert_eq!(said.detail.as_deref(), Some("(cut) (unreadable) 32-bit"));
    }
}
