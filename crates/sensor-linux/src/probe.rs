//! What this kernel can do, found by trying: lists of features lie, a load does not. Nothing is
//! left behind; every trial is undone by closing what it opened.

use std::{
    ffi::{CStr, CString},
    fs, io,
    os::fd::{AsRawFd as _, FromRawFd, OwnedFd},
    path::PathBuf,
};

use libbpf_rs::libbpf_sys;
use nix::sys::socket::{
    AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket,
};

/// A kind of BPF program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// On a tracepoint with its kernel types (`tp_btf`): what executions are read with.
    TypedTracepoint,
    /// On a tracepoint.
    Tracepoint,
    /// On a control group: outcomes of connections.
    ControlGroup,
    /// At the entry of a kernel function, through a trampoline.
    Fentry,
    /// On a hook of the security module.
    Lsm,
    /// At any instruction of the kernel.
    Kprobe,
}

impl Program {
    /// All of them, those the agent uses first.
    pub const ALL: [Self; 6] = [
        Self::TypedTracepoint,
        Self::Tracepoint,
        Self::ControlGroup,
        Self::Fentry,
        Self::Lsm,
        Self::Kprobe,
    ];

    /// Name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TypedTracepoint => "tp_btf",
            Self::Tracepoint => "tracepoint",
            Self::ControlGroup => "cgroup",
            Self::Fentry => "fentry",
            Self::Lsm => "lsm",
            Self::Kprobe => "kprobe",
        }
    }

    /// Loads a program of that kind that does nothing, and lets go of it. Of kernel probes it is
    /// also looked whether anything can be attached to, since they load without.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn try_load(self) -> io::Result<()> {
        let (kind, attach, target) = match self {
            Self::TypedTracepoint => (
                libbpf_sys::BPF_PROG_TYPE_TRACING,
                libbpf_sys::BPF_TRACE_RAW_TP,
                Some(c"sched_process_exec"),
            ),
            Self::Tracepoint => (libbpf_sys::BPF_PROG_TYPE_TRACEPOINT, 0, None),
            Self::ControlGroup => (
                libbpf_sys::BPF_PROG_TYPE_SOCK_OPS,
                libbpf_sys::BPF_CGROUP_SOCK_OPS,
                None,
            ),
            Self::Fentry => (
                libbpf_sys::BPF_PROG_TYPE_TRACING,
                libbpf_sys::BPF_TRACE_FENTRY,
                Some(c"tcp_connect"),
            ),
            Self::Lsm => (
                libbpf_sys::BPF_PROG_TYPE_LSM,
                libbpf_sys::BPF_LSM_MAC,
                Some(c"file_open"),
            ),
            Self::Kprobe => (libbpf_sys::BPF_PROG_TYPE_KPROBE, 0, None),
        };
        if self == Self::Kprobe && !fs::exists("/sys/bus/event_source/devices/kprobe/type")? {
            return Err(io::Error::other(
                "the kernel has no kprobes (CONFIG_KPROBES)",
            ));
        }
        load(kind, attach, target)
    }
}

fn load(kind: u32, attach: u32, target: Option<&CStr>) -> io::Result<()> {
    let mut options = libbpf_sys::bpf_prog_load_opts {
        sz: size_of::<libbpf_sys::bpf_prog_load_opts>() as _,
        expected_attach_type: attach,
        attempts: 1,
        ..Default::default()
    };
    if let Some(target) = target {
        // SAFETY: reads a C string that outlives the call, and the kernel's types.
        let id = unsafe { libbpf_sys::libbpf_find_vmlinux_btf_id(target.as_ptr(), attach) };
        options.attach_btf_id =
            u32::try_from(id).map_err(|_| io::Error::from_raw_os_error(id.saturating_neg()))?;
    }
    let instruction = |code| libbpf_sys::bpf_insn {
        code,
        ..Default::default()
    };
    // r0 = 0; exit
    let instructions = [instruction(0xb7), instruction(0x95)];
    // SAFETY: every pointer is to something that outlives the call; the number of instructions is
    // that of the array.
    let fd = unsafe {
        libbpf_sys::bpf_prog_load(
            kind,
            c"yl_probe".as_ptr(),
            c"GPL".as_ptr(),
            instructions.as_ptr(),
            instructions.len() as _,
            &raw mut options,
        )
    };
    close(fd)
}

/// Whether a ring buffer can be made (Linux 5.8).
///
/// # Errors
/// The kernel's answer.
pub fn ring_buffer() -> io::Result<()> {
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?.unwrap_or(4096);
    let bytes = u32::try_from(page).unwrap_or(4096);
    // SAFETY: takes a C string that outlives the call, and numbers.
    let fd = unsafe {
        libbpf_sys::bpf_map_create(
            libbpf_sys::BPF_MAP_TYPE_RINGBUF,
            c"yl_probe".as_ptr(),
            0,
            0,
            bytes,
            std::ptr::null(),
        )
    };
    close(fd)
}

/// What fanotify may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notification {
    /// Events with directory and name (Linux 5.9).
    Names,
    /// With a descriptor of the process (5.15).
    Actor,
    /// With the changed object itself (5.17).
    Object,
    /// Questions whether something may be opened.
    Permission,
}

impl Notification {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Names, Self::Actor, Self::Object, Self::Permission];

    /// Name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Names => "names",
            Self::Actor => "pidfd",
            Self::Object => "target_fid",
            Self::Permission => "permission",
        }
    }

    /// Opens such a group and closes it.
    ///
    /// # Errors
    /// The kernel's answer.
    pub fn try_open(self) -> io::Result<()> {
        let names = libc::FAN_REPORT_FID | libc::FAN_REPORT_DIR_FID | libc::FAN_REPORT_NAME;
        let flags = libc::FAN_CLOEXEC
            | match self {
                Self::Names => names | libc::FAN_UNLIMITED_QUEUE,
                Self::Actor => names | libc::FAN_REPORT_PIDFD,
                Self::Object => names | libc::FAN_REPORT_TARGET_FID,
                Self::Permission => libc::FAN_CLASS_CONTENT,
            };
        let files = (libc::O_RDONLY | libc::O_CLOEXEC).unsigned_abs();
        // SAFETY: no pointers are passed.
        let fd = unsafe { libc::fanotify_init(flags, files) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        close(fd)
    }
}

/// Listens to what the kernel's audit tells everybody, and stops at once.
///
/// # Errors
/// The kernel has no audit, or refuses.
pub fn audit() -> io::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkAudit,
    )?;
    /// `1 << (AUDIT_NLGRP_READLOG - 1)`
    const READERS: u32 = 1;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, READERS))?;
    Ok(())
}

/// Whether the clock is kept right by somebody.
///
/// # Errors
/// The kernel's answer.
pub fn clock_is_synchronized() -> io::Result<bool> {
    let mut clock = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: a structure of zeros asks for nothing to be changed; the kernel fills it in.
    let state = unsafe { libc::adjtimex(clock.as_mut_ptr()) };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every pattern of bits is a value of this structure, and all were set to begin with.
    let clock = unsafe { clock.assume_init() };
    Ok(clock.status & libc::STA_UNSYNC == 0)
}

/// Room on the file system of `path` for those without privileges, in bytes.
///
/// # Errors
/// The kernel's answer.
#[allow(
    clippy::useless_conversion,
    reason = "these numbers are shorter on 32-bit systems"
)]
pub fn free_bytes(path: &std::path::Path) -> io::Result<u64> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let answer = nix::sys::statvfs::statvfs(path.as_c_str())?;
    Ok(u64::from(answer.blocks_available()).saturating_mul(u64::from(answer.fragment_size())))
}

/// Where control groups version 2 are mounted; hybrid systems have them in a sub-directory.
pub fn control_group_root() -> Option<PathBuf> {
    crate::network::control_group_root()
}

fn close(fd: i32) -> io::Result<()> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(fd.saturating_neg()));
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_leaves_nothing_behind() {
        let open = || fs::read_dir("/proc/self/fd").unwrap().count();
        let try_all = || {
            let programs = Program::ALL.map(|program| program.try_load().is_ok());
            let notifications = Notification::ALL.map(|kind| kind.try_open().is_ok());
            (
                programs,
                notifications,
                ring_buffer().is_ok(),
                audit().is_ok(),
            )
        };
        // The first time the library may open things of its own.
        let first = try_all();
        let before = open();
        assert_eq!(try_all(), first);
        // Other tests of this process open files as well: many trials tell a leak from chance.
        for _ in 0..40 {
            try_all();
        }
        assert!(open() < before + 40);
    }
}
