//! The kernel's audit over netlink: its state, its rules, and its records.
//!
//! Format (`linux/netlink.h`, `linux/audit.h`): a header of 16 bytes (length, type, flags, sequence,
//! port), then a structure of 32-bit numbers, or the text of a record. Lengths in the headers of records
//! are wrong by the header itself on some kernels; a datagram is one message.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send,
        setsockopt, socket, sockopt,
    },
};

const HEADER_BYTES: usize = 16;
/// `MAX_AUDIT_MESSAGE_LENGTH` is 8,970.
const MESSAGE_BYTES: usize = 16 << 10;
/// `1 << (AUDIT_NLGRP_READLOG - 1)`
const READERS: u32 = 1;
/// Asked of the kernel: an answer comes at once or never.
const PATIENCE: Duration = Duration::from_secs(5);

const GET: u16 = 1000;
const SET: u16 = 1001;
const ADD_RULE: u16 = 1011;
const DELETE_RULE: u16 = 1012;
const LIST_RULES: u16 = 1013;
const ERROR: u16 = 2;
const DONE: u16 = 3;

const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;

/// Members of `struct audit_status` that a request sets.
const ENABLED: u32 = 1;
const PID: u32 = 4;
const BACKLOG_LIMIT: u32 = 16;

/// Of `struct audit_rule_data`: list, action, number of fields, a mask of calls, then fields, values and
/// operators, then the length of the strings, and the strings.
const MASK_WORDS: usize = 64;
const FIELDS: usize = 64;
const RULE_BYTES: usize = (3 + MASK_WORDS + 3 * FIELDS + 1) * 4;
const EXIT_LIST: u32 = 4;
const ALWAYS: u32 = 2;
const EQUAL: u32 = 0x4000_0000;
const FIELD_ARCH: u32 = 11;
const FIELD_SUCCESS: u32 = 104;
const FIELD_KEY: u32 = 210;
/// By which our rules are recognized.
const KEY: &[u8] = b"yinglong-exec";

/// An architecture of the running machine and its numbers of execve and execveat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Abi {
    arch: u32,
    calls: [u32; 2],
}

/// `AUDIT_ARCH_*` of `linux/audit.h`, the native one first.
#[cfg(target_arch = "x86_64")]
pub(super) const ABIS: [Abi; 2] = [
    Abi {
        arch: 0xc000_003e,
        calls: [59, 322],
    },
    Abi {
        arch: 0x4000_0003,
        calls: [11, 358],
    },
];
/// `AUDIT_ARCH_*` of `linux/audit.h`, the native one first.
#[cfg(target_arch = "aarch64")]
pub(super) const ABIS: [Abi; 2] = [
    Abi {
        arch: 0xc000_00b7,
        calls: [221, 281],
    },
    Abi {
        arch: 0x4000_0028,
        calls: [11, 387],
    },
];

/// `struct audit_status`, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct State {
    /// 0 off, 1 on, 2 locked until the next boot.
    pub(super) enabled: u32,
    /// Who gets the records; 0 for nobody.
    pub(super) owner: u32,
    /// Records that may wait.
    pub(super) backlog_limit: u32,
    /// Records lost since boot.
    pub(super) lost: u32,
}

/// A socket of the audit.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    sequence: u32,
}

/// What a socket answered.
#[derive(Debug)]
pub(super) enum Received<'a> {
    /// A type and what follows the header.
    Message(u16, &'a [u8]),
    /// Messages were lost.
    Overflow,
    Nothing,
}

impl Socket {
    /// One to ask with, or to own the records with.
    pub(super) fn open() -> io::Result<Self> {
        Self::with_groups(0)
    }

    /// One that gets a copy of every record (Linux 3.16), beside whoever owns them.
    pub(super) fn listen() -> io::Result<Self> {
        Self::with_groups(READERS)
    }

    fn with_groups(groups: u32) -> io::Result<Self> {
        let fd = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkAudit,
        )?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Room for records, above the limit of the system if we may.
    pub(super) fn set_buffer(&self, bytes: usize) -> io::Result<()> {
        if setsockopt(&self.fd, sockopt::RcvBufForce, &bytes).is_err() {
            setsockopt(&self.fd, sockopt::RcvBuf, &bytes)?;
        }
        Ok(())
    }

    /// How audit stands.
    pub(super) fn state(&mut self) -> io::Result<State> {
        let mut state = None;
        self.ask(GET, &[], |kind, bytes| {
            if kind == GET {
                state = Some(State::parse(bytes));
            }
        })?;
        state.ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Makes this socket the one that gets the records.
    pub(super) fn own(&mut self, backlog_limit: u32) -> io::Result<()> {
        let request = status(
            ENABLED | PID | BACKLOG_LIMIT,
            1,
            std::process::id(),
            backlog_limit,
        );
        self.ask(SET, &request, |_, _| {})
    }

    /// Gives the records up, and puts the rest back as it was.
    pub(super) fn disown(&mut self, before: State) -> io::Result<()> {
        let request = status(
            ENABLED | PID | BACKLOG_LIMIT,
            before.enabled,
            0,
            before.backlog_limit,
        );
        self.ask(SET, &request, |_, _| {})
    }

    /// Has executions recorded; answers whether that is news.
    pub(super) fn add_rule(&mut self, abi: Abi) -> io::Result<bool> {
        match self.ask(ADD_RULE, &rule(abi), |_, _| {}) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes such a rule away.
    pub(super) fn delete_rule(&mut self, abi: Abi) -> io::Result<()> {
        self.ask(DELETE_RULE, &rule(abi), |_, _| {})
    }

    /// Whether every successful execution of native programs is recorded by a rule that is there.
    pub(super) fn records_executions(&mut self) -> io::Result<bool> {
        let mut found = [false; 2];
        self.ask(LIST_RULES, &[], |kind, bytes| {
            if kind == LIST_RULES {
                for (found, call) in found.iter_mut().zip(ABIS[0].calls) {
                    *found |= records_call(bytes, ABIS[0].arch, call);
                }
            }
        })?;
        Ok(found == [true; 2])
    }

    /// Sends a request and shows the answers, until the kernel says that it is done.
    fn ask(&mut self, kind: u16, body: &[u8], mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        self.sequence += 1;
        let length = HEADER_BYTES + body.len();
        let mut message = Vec::with_capacity(length);
        message.extend(u32::try_from(length).unwrap_or_default().to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        // Answers come from a thread of the kernel, before or after an acknowledgement.
        let answered = matches!(kind, GET | LIST_RULES);
        let flags = if answered {
            REQUEST
        } else {
            REQUEST | ACKNOWLEDGE
        };
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        send(self.fd.as_raw_fd(), &message, MsgFlags::empty())?;

        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; MESSAGE_BYTES];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            match self.receive(&mut buffer)? {
                Received::Nothing => {
                    self.wait(left)?;
                }
                // Records that come in between are of no interest yet.
                Received::Overflow => {}
                Received::Message(ERROR, body) => {
                    let code = body.get(..4).and_then(|code| code.try_into().ok());
                    return match code.map_or(0, i32::from_ne_bytes) {
                        0 => Ok(()),
                        code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                    };
                }
                Received::Message(DONE, _) if kind == LIST_RULES => return Ok(()),
                Received::Message(answer, body) => {
                    each(answer, body);
                    if kind == GET && answer == GET {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Waits for a message.
    pub(super) fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(ready) => Ok(ready > 0),
            Err(Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The next message, if there is one.
    pub(super) fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Received<'a>> {
        match recv(self.fd.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(length) => {
                let datagram = buffer.get(..length).unwrap_or_default();
                Ok(parse(datagram).unwrap_or(Received::Nothing))
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(Received::Nothing),
            Err(Errno::ENOBUFS) => Ok(Received::Overflow),
            Err(error) => Err(error.into()),
        }
    }
}

fn parse(datagram: &[u8]) -> Option<Received<'_>> {
    let kind = datagram.get(4..6)?.try_into().ok()?;
    let body = datagram.get(HEADER_BYTES..)?;
    Some(Received::Message(u16::from_ne_bytes(kind), body))
}

fn word(bytes: &[u8], index: usize) -> u32 {
    let word = bytes.get(index * 4..index * 4 + 4);
    word.and_then(|word| word.try_into().ok())
        .map_or(0, u32::from_ne_bytes)
}

impl State {
    fn parse(bytes: &[u8]) -> Self {
        Self {
            enabled: word(bytes, 1),
            owner: word(bytes, 3),
            backlog_limit: word(bytes, 5),
            lost: word(bytes, 6),
        }
    }
}

/// `struct audit_status` up to the limit of the backlog.
fn status(mask: u32, enabled: u32, owner: u32, backlog_limit: u32) -> Vec<u8> {
    // mask, enabled, failure, pid, rate_limit, backlog_limit, lost, backlog
    [mask, enabled, 0, owner, 0, backlog_limit, 0, 0]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect()
}

/// `-a always,exit -F arch=... -F success=1 -S execve -S execveat -k yinglong-exec`
fn rule(abi: Abi) -> Vec<u8> {
    let key = u32::try_from(KEY.len()).unwrap_or_default();
    let fields = [(FIELD_ARCH, abi.arch), (FIELD_SUCCESS, 1), (FIELD_KEY, key)];
    let mut words = vec![0; RULE_BYTES / 4];
    words[0] = EXIT_LIST;
    words[1] = ALWAYS;
    words[2] = u32::try_from(fields.len()).unwrap_or_default();
    for call in abi.calls {
        words[3 + call as usize / 32] |= 1 << (call % 32);
    }
    for (index, (field, value)) in fields.into_iter().enumerate() {
        let at = 3 + MASK_WORDS + index;
        words[at] = field;
        words[at + FIELDS] = value;
        words[at + 2 * FIELDS] = EQUAL;
    }
    words[3 + MASK_WORDS + 3 * FIELDS] = key;
    let mut bytes: Vec<u8> = words
        .iter()
        .flat_map(|word: &u32| word.to_ne_bytes())
        .collect();
    bytes.extend(KEY);
    bytes
}

/// Whether a rule records every successful call of that number.
fn records_call(rule: &[u8], arch: u32, call: u32) -> bool {
    let bit = word(rule, 3 + call as usize / 32) >> (call % 32) & 1;
    if (word(rule, 0), word(rule, 1), bit) != (EXIT_LIST, ALWAYS, 1) {
        return false;
    }
    let count = (word(rule, 2) as usize).min(FIELDS);
    (0..count).all(|index| {
        let at = 3 + MASK_WORDS + index;
        let (field, value) = (word(rule, at), word(rule, at + FIELDS));
        let equal = word(rule, at + 2 * FIELDS) == EQUAL;
        match field {
            FIELD_ARCH => equal && value == arch,
            FIELD_SUCCESS => equal && value == 1,
            FIELD_KEY => true,
            // Only some executions.
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_rule_records_every_execution() {
        for abi in ABIS {
            let rule = rule(abi);
            assert_eq!(rule.len(), 1040 + KEY.len());
            for call in abi.calls {
                assert!(records_call(&rule, abi.arch, call));
            }
            assert!(!records_call(&rule, abi.arch, abi.calls[0] + 1));
            assert!(!records_call(&rule, abi.arch ^ 1, abi.calls[0]));
        }
    }

    #[test]
    fn a_rule_with_conditions_of_its_own_is_not_enough() {
        let native = ABIS[0];
        let mut bytes = rule(native);
        // One more field: executions of one user only.
        bytes[8..12].copy_from_slice(&4_u32.to_ne_bytes());
        let at = (3 + MASK_WORDS + 3) * 4;
        bytes[at..at + 4].copy_from_slice(&1_u32.to_ne_bytes());
        assert!(!records_call(&bytes, native.arch, native.calls[0]));
        assert!(!records_call(&[], native.arch, native.calls[0]));
    }

    #[test]
    fn messages_shorter_than_a_header_are_none() {
        assert!(parse(&[0; 15]).is_none());
        assert!(matches!(
            parse(&[16, 0, 0, 0, 0xe8, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Some(Received::Message(GET, []))
        ));
    }
}
