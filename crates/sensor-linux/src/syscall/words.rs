//! Numbers of the kernel's interface, spelled out (uapi/linux/*.h).

use std::fmt::Write as _;

/// A bit and its name.
type Bit = (u64, &'static str);

pub(super) const NAMESPACES: &[Bit] = &[
    (0x80, "time"),
    (0x2_0000, "mount"),
    (0x200_0000, "cgroup"),
    (0x400_0000, "uts"),
    (0x800_0000, "ipc"),
    (0x1000_0000, "user"),
    (0x2000_0000, "pid"),
    (0x4000_0000, "network"),
];

/// Further bits that unshare takes.
pub(super) const SHARED: &[Bit] = &[
    (0x100, "vm"),
    (0x200, "fs"),
    (0x400, "files"),
    (0x800, "signal_handlers"),
    (0x1_0000, "thread"),
    (0x4_0000, "semaphores"),
];

pub(super) const MOUNT: &[Bit] = &[
    (0x1, "ro"),
    (0x2, "nosuid"),
    (0x4, "nodev"),
    (0x8, "noexec"),
    (0x10, "sync"),
    (0x20, "remount"),
    (0x40, "mandlock"),
    (0x80, "dirsync"),
    (0x100, "nosymfollow"),
    (0x400, "noatime"),
    (0x800, "nodiratime"),
    (0x1000, "bind"),
    (0x2000, "move"),
    (0x4000, "rec"),
    (0x8000, "silent"),
    (0x2_0000, "unbindable"),
    (0x4_0000, "private"),
    (0x8_0000, "slave"),
    (0x10_0000, "shared"),
    (0x20_0000, "relatime"),
    (0x100_0000, "strictatime"),
    (0x200_0000, "lazytime"),
];

/// What old programs put in the upper half of the flags of mount.
pub(super) const MOUNT_MAGIC: u64 = 0xc0ed_0000;

pub(super) const UMOUNT: &[Bit] = &[(1, "force"), (2, "detach"), (4, "expire"), (8, "nofollow")];

pub(super) const MEMFD: &[Bit] = &[
    (1, "cloexec"),
    (2, "allow_sealing"),
    (4, "hugetlb"),
    (8, "noexec_seal"),
    (16, "exec"),
];

pub(super) const MODULE: &[Bit] = &[
    (1, "ignore_modversions"),
    (2, "ignore_vermagic"),
    (4, "compressed"),
];

/// `enum bpf_prog_type`, from 0.
const PROGRAM_TYPES: &[&str] = &[
    "unspec",
    "socket_filter",
    "kprobe",
    "sched_cls",
    "sched_act",
    "tracepoint",
    "xdp",
    "perf_event",
    "cgroup_skb",
    "cgroup_sock",
    "lwt_in",
    "lwt_out",
    "lwt_xmit",
    "sock_ops",
    "sk_skb",
    "cgroup_device",
    "sk_msg",
    "raw_tracepoint",
    "cgroup_sock_addr",
    "lwt_seg6local",
    "lirc_mode2",
    "sk_reuseport",
    "flow_dissector",
    "cgroup_sysctl",
    "raw_tracepoint_writable",
    "cgroup_sockopt",
    "tracing",
    "struct_ops",
    "ext",
    "lsm",
    "sk_lookup",
    "syscall",
    "netfilter",
];

/// Names of the bits that are set, joined by bars; what has no name is told as a number.
pub(super) fn bits(value: u64, names: &[&[Bit]]) -> String {
    let mut text = String::new();
    let mut rest = value;
    for &(bit, name) in names.iter().copied().flatten() {
        if value & bit != 0 {
            rest &= !bit;
            if !text.is_empty() {
                text.push('|');
            }
            text.push_str(name);
        }
    }
    if rest != 0 {
        let bar = if text.is_empty() { "" } else { "|" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{bar}{rest:#x}");
    }
    text
}

pub(super) fn program_type(number: u64) -> String {
    let known = usize::try_from(number)
        .ok()
        .and_then(|number| PROGRAM_TYPES.get(number));
    known.map_or_else(|| number.to_string(), |name| (*name).to_owned())
}

pub(super) fn ptrace_request(number: u64) -> &'static str {
    match number {
        4 => "POKETEXT",
        5 => "POKEDATA",
        6 => "POKEUSR",
        16 => "ATTACH",
        0x4206 => "SEIZE",
        _ => "other",
    }
}

/// `SIGKILL` for 9; 0 asks whether the process is there.
pub(super) fn signal(number: u64) -> String {
    i32::try_from(number)
        .ok()
        .and_then(|number| nix::sys::signal::Signal::try_from(number).ok())
        .map_or_else(|| number.to_string(), |signal| signal.as_str().to_owned())
}

/// `EPERM` for 1.
pub(super) fn error(number: i64) -> String {
    let known = i32::try_from(number).map(nix::errno::Errno::from_raw);
    match known {
        Ok(error) if error != nix::errno::Errno::UnknownErrno => format!("{error:?}"),
        _ => format!("E{number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_spelled_out_and_unknown_ones_kept() {
        for (value, text) in [
            (0, ""),
            (0x2_0000, "mount"),
            (0x1002_0000, "mount|user"),
            (0x1000_0400, "user|files"),
            (0x1000_0000 | 1 << 40, "user|0x10000000000"),
            (0x2, "0x2"),
        ] {
            assert_eq!(bits(value, &[NAMESPACES, SHARED]), text);
        }
        assert_eq!(bits(0x1000 | 0x4000, &[MOUNT]), "bind|rec");
    }

    #[test]
    fn numbers_have_their_usual_names() {
        assert_eq!(program_type(1), "socket_filter");
        assert_eq!(program_type(u64::MAX), u64::MAX.to_string());
        assert_eq!((signal(9).as_str(), signal(0).as_str()), ("SIGKILL", "0"));
        assert_eq!((signal(40).as_str(), signal(u64::MAX).len()), ("40", 20));
        assert_eq!((error(1).as_str(), error(8).as_str()), ("EPERM", "ENOEXEC"));
        assert_eq!((error(512).as_str(), error(-1).as_str()), ("E512", "E-1"));
    }
}
