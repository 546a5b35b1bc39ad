//! The kernel's process connector: messages and socket.
//!
//! Format (linux/connector.h, linux/cn_proc.h): a netlink header of 16 bytes; idx, val, seq, ack as
//! u32, len and flags as u16; what and cpu as u32, a u64 of nanoseconds of the monotonic clock; then
//! pids as u32. The sequence number is counted per CPU.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{MsgFlags, NetlinkAddr, bind, recv, send, setsockopt, sockopt},
};

const HEADER_BYTES: usize = 16;
const EVENT_AT: usize = HEADER_BYTES + 20;
/// `CN_IDX_PROC` and `CN_VAL_PROC`.
const PROC: u32 = 1;
const LISTEN: u32 = 1;

const FORK: u32 = 1;
const EXEC: u32 = 2;
const EXIT: u32 = 0x8000_0000;

/// What happened to a process; pids are those of thread groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Fork {
        parent: u32,
        child: u32,
    },
    Exec {
        pid: u32,
    },
    /// `status` as wait(2) tells it.
    Exit {
        pid: u32,
        parent: u32,
        status: u32,
    },
    /// Something about a thread, or nothing we need. It counts in the sequence.
    Other,
}

/// A message of the connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) seq: u32,
    pub(super) cpu: u32,
    pub(super) kind: Kind,
}

impl Message {
    /// Reads one datagram, which holds one message.
    pub(super) fn parse(datagram: &[u8]) -> Option<Self> {
        let word = |at: usize| {
            let word = datagram.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(word))
        };
        if word(HEADER_BYTES)? != PROC || word(HEADER_BYTES + 4)? != PROC {
            return None;
        }
        let data = |index: usize| word(EVENT_AT + 16 + index * 4);
        let kind = match word(EVENT_AT)? {
            FORK => {
                let (child_thread, child) = (data(2)?, data(3)?);
                if child_thread == child {
                    let parent = data(1)?;
                    Kind::Fork { parent, child }
                } else {
                    Kind::Other
                }
            }
            EXEC => Kind::Exec { pid: data(1)? },
            EXIT if data(0)? == data(1)? => Kind::Exit {
                pid: data(1)?,
                status: data(2)?,
                // Not told before Linux 4.18.
                parent: data(5).unwrap_or_default(),
            },
            _ => Kind::Other,
        };
        Some(Self {
            seq: word(HEADER_BYTES + 8)?,
            cpu: word(EVENT_AT + 4)?,
            kind,
        })
    }
}

/// Estimates how many executions are among the messages that were lost.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    last: HashMap<u32, u32>,
    messages: u64,
    executions: u64,
    lost: u64,
    told: u64,
}

impl Gaps {
    pub(super) fn see(&mut self, message: &Message) {
        self.messages += 1;
        if matches!(message.kind, Kind::Exec { .. }) {
            self.executions += 1;
        }
        if let Some(last) = self.last.insert(message.cpu, message.seq) {
            let gap = message.seq.wrapping_sub(last).wrapping_sub(1);
            // A number that went back is a counter that started anew.
            if gap < u32::MAX / 2 {
                self.lost += u64::from(gap);
            }
        }
    }

    /// Executions estimated to be lost and not told before: the same share of the lost messages
    /// as of those received, at least one if any was lost.
    pub(super) fn take_lost(&mut self) -> u64 {
        if self.lost == 0 || self.messages == 0 {
            return 0;
        }
        let share = u128::from(self.lost) * u128::from(self.executions);
        let estimate = share.div_ceil(u128::from(self.messages)).max(1);
        let estimate = u64::try_from(estimate).unwrap_or(u64::MAX);
        let new = estimate.saturating_sub(self.told);
        self.told += new;
        new
    }
}

/// A subscribed socket.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// Subscribes; needs `CAP_NET_ADMIN`.
    pub(super) fn open(buffer_bytes: usize) -> io::Result<Self> {
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes numbers, touches no memory of ours.
        let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_CONNECTOR) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        // Above the limit of the system if we may, else as much as it allows.
        if setsockopt(&fd, sockopt::RcvBufForce, &buffer_bytes).is_err() {
            setsockopt(&fd, sockopt::RcvBuf, &buffer_bytes)?;
        }
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, PROC))?;
        send(fd.as_raw_fd(), &subscription(), MsgFlags::empty())?;
        Ok(Self(fd))
    }

    /// Waits for a message.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The next datagram, if there is one.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Received<'a>> {
        match recv(self.0.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(length) => Ok(Received::Datagram(buffer.get(..length).unwrap_or_default())),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Received::Nothing),
            Err(Errno::ENOBUFS) => Ok(Received::Overflow),
            Err(error) => Err(error.into()),
        }
    }
}

/// Answer of the socket.
#[derive(Debug)]
pub(super) enum Received<'a> {
    Datagram(&'a [u8]),
    /// Messages were lost; how many, the next sequence numbers tell.
    Overflow,
    Nothing,
}

fn subscription() -> Vec<u8> {
    const BYTES: u32 = (EVENT_AT + 4) as u32;
    let mut message = Vec::with_capacity(BYTES as usize);
    // nlmsghdr: length, type and flags, sequence, port.
    message.extend(BYTES.to_ne_bytes());
    message.extend(
        u16::try_from(libc::NLMSG_DONE)
            .unwrap_or_default()
            .to_ne_bytes(),
    );
    message.extend(0u16.to_ne_bytes());
    message.extend([0; 8]);
    // cn_msg.
    for word in [PROC, PROC, 0, 0] {
        message.extend(word.to_ne_bytes());
    }
    message.extend(4u16.to_ne_bytes());
    message.extend(0u16.to_ne_bytes());
    message.extend(LISTEN.to_ne_bytes());
    message
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn datagram(what: u32, cpu: u32, seq: u32, pids: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        for word in [PROC, PROC, seq, 0, 40, what, cpu, 0, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        for pid in pids {
            bytes.extend(pid.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn messages_about_processes_are_read_and_those_about_threads_only_counted() {
        for (what, pids, kind) in [
            (
                FORK,
                &[7, 7, 9, 9][..],
                Kind::Fork {
                    parent: 7,
                    child: 9,
                },
            ),
            (FORK, &[7, 7, 10, 9], Kind::Other),
            (EXEC, &[9, 9], Kind::Exec { pid: 9 }),
            (
                EXIT,
                &[9, 9, 139, 17, 5, 5],
                Kind::Exit {
                    pid: 9,
                    parent: 5,
                    status: 139,
                },
            ),
            (EXIT, &[10, 9, 0, 0], Kind::Other),
            (4, &[9, 9], Kind::Other),
        ] {
            let message = Message::parse(&datagram(what, 1, 5, pids)).unwrap();
            assert_eq!(
                message,
                Message {
                    seq: 5,
                    cpu: 1,
                    kind
                }
            );
        }
        assert_eq!(Message::parse(&datagram(EXEC, 1, 5, &[])), None);
        assert_eq!(Message::parse(&[0; 100]), None);
    }

    #[test]
    fn losses_are_estimated_from_the_gaps_of_each_cpu() {
        let mut gaps = Gaps::default();
        let mut see = |cpu, seq, kind| {
            gaps.see(&Message { seq, cpu, kind });
            gaps.take_lost()
        };
        assert_eq!(see(0, u32::MAX, Kind::Exec { pid: 1 }), 0);
        assert_eq!(see(1, 70, Kind::Other), 0);
        assert_eq!(see(0, 0, Kind::Other), 0);
        assert_eq!(see(1, 71, Kind::Exec { pid: 1 }), 0);
        // 10 lost, half of what was seen are executions (3 of 5, rounded up).
        assert_eq!(see(0, 11, Kind::Exec { pid: 1 }), 6);
        assert_eq!(see(0, 12, Kind::Exec { pid: 1 }), 1);
        assert_eq!(see(0, 3, Kind::Other), 0);
    }

    proptest! {
        #[test]
        fn arbitrary_datagrams_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = Message::parse(&bytes);
        }
    }
}
