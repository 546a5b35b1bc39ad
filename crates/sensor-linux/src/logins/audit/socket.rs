//! The socket of the multicast group.

use std::{
    io,
    mem::{size_of, size_of_val},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    sys::socket::{MsgFlags, NetlinkAddr, bind, recv, send, setsockopt, sockopt},
};

use super::record::TYPES;

/// `AUDIT_NLGRP_READLOG`, as a bit of the groups of an address.
const GROUP: u32 = 1;
/// `AUDIT_GET` of linux/audit.h: the state of auditing.
const GET: u16 = 1000;
/// Room for messages until they are read: some 2,000 records.
const BUFFER_BYTES: usize = 4 << 20;
/// `SO_MEMINFO`, and the place of `SK_MEMINFO_DROPS` in its answer (linux/sock_diag.h).
const DROPS: usize = 8;
/// Time between two questions whether auditing is on.
const ASK: Duration = Duration::from_secs(10);

/// A socket that listens to the group.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    /// Messages that were lost and told.
    lost: u32,
    on: bool,
    asked: Instant,
}

/// Answer of the socket.
#[derive(Debug)]
pub(super) enum Received<'a> {
    Datagram(&'a [u8]),
    /// Messages were lost; the kernel counts them.
    Overflow,
    Nothing,
}

impl Socket {
    /// Joins the group; needs `CAP_AUDIT_READ` and the host's own network namespace.
    pub(super) fn open() -> Result<Self, String> {
        let failed = |what: &str, error: io::Error| format!("audit: {what}: {error}");
        let fd = socket().map_err(|error| failed("no socket", error))?;
        // Above the limit of the system if we may, else as much as it allows.
        if setsockopt(&fd, sockopt::RcvBufForce, &BUFFER_BYTES).is_err() {
            let _ = setsockopt(&fd, sockopt::RcvBuf, &BUFFER_BYTES);
        }
        // What others audit, a record for every execution perhaps, is thrown away by the kernel.
        filter(&fd).map_err(|error| failed("no filter", error))?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUP)).map_err(|error| match error {
            Errno::EPERM => "audit: needs CAP_AUDIT_READ".to_owned(),
            error => failed("cannot listen", error.into()),
        })?;
        Ok(Self {
            fd,
            lost: 0,
            on: is_on(),
            asked: Instant::now(),
        })
    }

    /// The next message, if there is one.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Received<'a>> {
        match recv(self.fd.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(length) => Ok(Received::Datagram(buffer.get(..length).unwrap_or_default())),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Received::Nothing),
            Err(Errno::ENOBUFS) => Ok(Received::Overflow),
            Err(error) => Err(error.into()),
        }
    }

    /// Messages that were lost since this was asked last.
    pub(super) fn take_lost(&mut self) -> u64 {
        let Ok(drops) = drops(&self.fd) else {
            return 0;
        };
        let new = drops.wrapping_sub(self.lost);
        self.lost = drops;
        u64::from(new)
    }

    /// Leaves it room for a few messages only.
    #[cfg(test)]
    pub(super) fn shrink(&self) {
        setsockopt(&self.fd, sockopt::RcvBuf, &4096).unwrap();
    }

    /// Asks now and then whether the kernel makes records at all.
    pub(super) fn look(&mut self) {
        if self.asked.elapsed() >= ASK {
            self.asked = Instant::now();
            self.on = is_on();
        }
    }

    /// Whether the kernel made records when that was asked last.
    pub(super) const fn is_on(&self) -> bool {
        self.on
    }
}

/// Whoever may not ask may still listen.
fn is_on() -> bool {
    state().is_none_or(|enabled| enabled != 0)
}

pub(super) fn socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: takes numbers, touches no memory of ours.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_AUDIT) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets only messages of [`TYPES`] through.
fn filter(fd: &OwnedFd) -> io::Result<()> {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or_default(),
        jt,
        jf,
        k,
    };
    // The type is in the byte order of the host; the filter loads in that of the network.
    let mut program = vec![op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, 0, 0, 4)];
    let jump = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    for (place, kind) in TYPES.iter().enumerate() {
        let to_accept = u8::try_from(TYPES.len() - place).unwrap_or_default();
        program.push(op(jump, to_accept, 0, u32::from(kind.to_be())));
    }
    program.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, 0));
    program.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, u32::MAX));
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).unwrap_or_default(),
        filter: program.as_mut_ptr(),
    };
    // SAFETY: the kernel reads `len` instructions behind `filter`, which `program` still owns, and
    // keeps a copy.
    let answer = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            libc::socklen_t::try_from(size_of_val(&program)).unwrap_or_default(),
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Messages the kernel had no room for since the socket was made.
fn drops(fd: &OwnedFd) -> io::Result<u32> {
    let mut words = [0_u32; 16];
    let mut length = libc::socklen_t::try_from(size_of_val(&words)).unwrap_or_default();
    // SAFETY: the kernel writes at most `length` bytes to `words`, which is ours and that long.
    let answer = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            words.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if answer < 0 {
        return Err(io::Error::last_os_error());
    }
    let written = usize::try_from(length).unwrap_or_default() / size_of::<u32>();
    let drops = words.get(DROPS).filter(|_| written > DROPS);
    drops
        .copied()
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// `enabled` of `struct audit_status`: 0 off, 1 on, 2 locked on; `None` when the kernel does not say.
pub(super) fn state() -> Option<u32> {
    let fd = socket().ok()?;
    let mut request = Vec::new();
    request.extend(16_u32.to_ne_bytes());
    request.extend(GET.to_ne_bytes());
    request.extend(u16::try_from(libc::NLM_F_REQUEST).ok()?.to_ne_bytes());
    request.extend([0; 8]);
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).ok()?;
    send(fd.as_raw_fd(), &request, MsgFlags::empty()).ok()?;
    let mut answer = [0; 256];
    // The kernel sends its answer from a thread of its own.
    for _ in 0..50 {
        match recv(fd.as_raw_fd(), &mut answer, MsgFlags::empty()) {
            Ok(length) => {
                let kind: [u8; 2] = answer.get(4..6)?.try_into().ok()?;
                // Behind the header a mask, then `enabled`.
                let enabled: [u8; 4] = answer.get(20..24)?.try_into().ok()?;
                let answered = u16::from_ne_bytes(kind) == GET && length >= 24;
                return answered.then(|| u32::from_ne_bytes(enabled));
            }
            Err(Errno::EAGAIN | Errno::EINTR) => std::thread::sleep(Duration::from_millis(2)),
            Err(_) => return None,
        }
    }
    None
}
