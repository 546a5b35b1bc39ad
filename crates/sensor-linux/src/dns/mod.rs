//! Questions to the domain name system, with their answers and the process that asks (stream `dns`).
//!
//! - **Guarantees**: one event per question that a socket of this host sends to port 53, over UDP or
//!   TCP, IPv4 or IPv6, in every network namespace and on every interface; the process is the one
//!   that sends, told by the kernel, never guessed. A question that is sent again on the same socket
//!   while its answer is awaited is one question.
//! - **A resolver of this host** (`systemd-resolved`, `dnsmasq` ...) asks for others: the program
//!   that asks it and the resolver that asks outside are two events, each with its own process.
//!   `client.dnsResolvers` leaves the second out, for processes that serve port 53 themselves. What
//!   `nscd` asks is always told: programs ask it through a socket that is no DNS.
//! - **Invariants**: an event leaves within 150 ms of its answer, or 5 s after the question without
//!   one. An answer counts only from the server that was asked, to the socket that asked, with the
//!   same question. Questions that wait are counted as lost when the agent is killed, by the mark
//!   `dns.ring`; what the ring holds then is read by the next agent if somebody holds the programs.
//! - **Without BTF or control groups version 2** packets of the host's own network namespace are
//!   captured, and processes are looked up: those that end at once, and resolvers as such, are missed.
//! - **Not here**: names of `/etc/hosts` and caches (nobody is asked), multicast DNS (port 5353: not
//!   asked of a server), DNS over TLS (port 853) and HTTPS, which cannot be read, servers on other
//!   ports; packets made by hand (`AF_PACKET`), which have no socket of a process behind them.

mod capture;
mod kernel;
mod mark;
mod message;
mod record;
mod sensor;
mod stream;
mod table;
mod tell;

use std::error::Error as _;

use yinglong_sensor::{Error, Sensor};

use self::{
    capture::Capture,
    kernel::Kernel,
    sensor::{Names, Source as From},
};
pub use crate::attached::{BpfIds, hold};
use crate::{accounts::Accounts, packets::Kind, tree::Tree};

/// Which source to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// The best the host has.
    #[default]
    Best,
    /// Kernel hooks only.
    Ebpf,
    /// Packets and look-ups only.
    Packet,
    /// The same, with packets from libpcap.
    Pcap,
}

impl Source {
    /// Reads `YINGLONG_DNS_SOURCE` (`ebpf`, `packet`, `pcap`); anything else means the best source.
    pub fn from_env() -> Self {
        match std::env::var("YINGLONG_DNS_SOURCE").as_deref() {
            Ok("ebpf") => Self::Ebpf,
            Ok("packet") => Self::Packet,
            Ok("pcap") => Self::Pcap,
            _ => Self::Best,
        }
    }

    const fn hooks(self) -> bool {
        matches!(self, Self::Best | Self::Ebpf)
    }

    /// Where packets come from if there are no hooks.
    const fn packets(self) -> Option<Kind> {
        match self {
            Self::Best | Self::Packet => Some(Kind::Packet),
            Self::Pcap => Some(Kind::Pcap),
            Self::Ebpf => None,
        }
    }
}

/// How to observe questions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Source to try.
    pub source: Source,
    /// Programs that an earlier process loaded; loaded anew if they are gone.
    pub adopt: Option<BpfIds>,
    /// Processes whose questions are not reported: the agent's own.
    pub excluded_pids: Vec<u32>,
}

/// An opened sensor.
pub struct Opened {
    /// The sensor.
    pub sensor: Box<dyn Sensor>,
    /// What to [`hold`] while this process may be killed, and to adopt afterwards; `None` when there
    /// is nothing that could be held.
    pub ids: Option<BpfIds>,
}

/// Opens the best source there is.
///
/// # Errors
/// The kernel can neither be hooked nor packets be captured: the agent is not root.
pub fn open(tree: Tree, accounts: Accounts, options: Options) -> Result<Opened, Error> {
    let mut reasons = Vec::new();
    let mut source = None;
    if !options.source.hooks() {
        reasons.push("ebpf: switched off".to_owned());
    } else {
        match Kernel::open(options.adopt.as_ref()) {
            Ok(kernel) => {
                reasons.extend(kernel.missing().iter().cloned());
                source = Some(From::Kernel(Box::new(kernel)));
            }
            Err(error) => {
                let cause = error.source().map(|cause| format!(": {cause}"));
                reasons.push(format!("ebpf: {error}{}", cause.unwrap_or_default()));
            }
        }
    }
    if source.is_none()
        && let Some(kind) = options.source.packets()
    {
        match Capture::open(kind) {
            Ok(capture) => source = Some(From::Capture(Box::new(capture))),
            Err(error) => reasons.push(format!("{kind}: {error}")),
        }
    }
    let reason = reasons.join("; ");
    let Some(source) = source else {
        return Err(Error::Unavailable {
            source_name: "ebpf",
            reason,
        });
    };
    let ids = match &source {
        From::Kernel(kernel) => Some(kernel.ids().clone()),
        From::Capture(_) => None,
    };
    let sensor = Box::new(Names {
        tree,
        accounts,
        source,
        reason,
        excluded_pids: options.excluded_pids,
    });
    Ok(Opened { sensor, ids })
}

/// Reads `bytes` as a message.
#[cfg(fuzzing)]
pub(crate) fn fuzz_message(bytes: &[u8]) {
    if let Ok(Some(said)) = message::read(bytes) {
        // A name has at most 255 bytes, each told as at most four.
        assert!(said.question.name.len() <= 4 * 255, "{said:?}");
    }
}

/// Reads `bytes` as segments of two streams: the first byte of each says how long it is, the second
/// which stream it is of and how far it lies from the one before.
#[cfg(fuzzing)]
pub(crate) fn fuzz_stream(mut bytes: &[u8]) {
    let mut streams = stream::Streams::default();
    let (mut seq, mut now) = (0_u32, std::time::Duration::ZERO);
    while let [length, choice, rest @ ..] = bytes {
        let (segment, after) = rest.split_at(usize::from(*length).min(rest.len()));
        bytes = after;
        let way = stream::Way {
            cookie: u64::from(choice & 1),
            sent: false,
        };
        seq = seq.wrapping_add(u32::from(choice >> 4)).wrapping_sub(4);
        now += std::time::Duration::from_secs(u64::from(choice >> 1 & 7));
        let length = segment.len() as u32 + u32::from(choice & 8) * 1000;
        for message in streams.take(now, way, seq, segment, length).messages {
            fuzz_message(&message);
        }
        seq = seq.wrapping_add(length);
    }
}

/// Reads `bytes` as a record of our programs.
#[cfg(fuzzing)]
pub(crate) fn fuzz_record(bytes: &[u8]) {
    let Some(record) = record::decode(bytes) else {
        return;
    };
    let way = stream::Way {
        cookie: record.cookie,
        sent: record.sent,
    };
    let mut streams = stream::Streams::default();
    for _ in 0..2 {
        let (seq, length) = (record.tcp_seq, record.length);
        streams.take(record.at, way, seq, record.payload, length);
    }
}

#[cfg(test)]
mod tests;
