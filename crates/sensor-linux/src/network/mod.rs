//! Connections: who talked, or tried to talk, to whom (stream `connection`).
//!
//! - **Guarantees**: one event per TCP connection attempt and side, successful or not, IPv4 and
//!   IPv6, every interface; one per UDP flow while `client.udp` is on. Kernel hooks attribute an
//!   attempt to its process exactly, in every network namespace; packets add what no socket of
//!   this host knows of, such as scans of closed ports.
//! - **An agent that is killed**, at any point, loses and repeats nothing the kernel hooks told, if
//!   somebody holds the programs meanwhile ([`hold`], [`Options::adopt`]): records leave the ring
//!   when their event is committed, and a journal beside the programs remembers the reports of
//!   which later sightings may come (32,768 of them: up to 3,000 connections a second). What only
//!   packets tell has no such ring: of attempts that no socket of this host knows of, those of the
//!   last 400 ms before the kill and those until the next start are missed, uncounted; of a UDP
//!   flow in its first 400 ms the direction may be told wrong. Before Linux 5.15 the accept hooks
//!   end with their process; the function `inet_csk_accept` is hooked there instead, and where that is
//!   refused, nothing is held.
//! - **Invariants**: an event leaves within 100 ms when the kernel told of it and of its outcome,
//!   within 200 ms without outcome, within 400 ms when only packets told of it. A connection within
//!   the host is two events (`out`, and `in` once it is accepted); a refused one is only `out`,
//!   because nobody received it. The mark `network.ring` is what an adopting reader continues from.
//! - **Requests made by hand** (raw sockets): a request that leaves this host and no hook told of has
//!   the attribution `raw`, unless it came through from another host or a guest, whose address was
//!   translated. Within 10 s of a loss nothing is said.
//! - **Not here**: `filter.ip`, applied where all events pass; packets of other hosts that pass
//!   through this one (forwarded, or from addresses that are not its own).
//!
//! Best source first: `packet+ebpf`, `ebpf` when packets cannot be captured (no scans of closed
//! ports, a UDP server's answers are `out`), `packet` when the kernel lacks eBPF or BTF (processes are
//! looked up in `/proc`, those that end within 100 ms are missed). Packets come from a packet socket,
//! or from libpcap where that is asked for: `pcap+ebpf`, `pcap`.

mod books;
mod join;
mod journal;
mod kernel;
mod load;
mod locals;
mod lookup;
mod memory;
mod packet;
mod record;
mod scope;
mod sensor;
mod turns;
mod wire;

use std::error::Error as _;

use yinglong_sensor::{Error, Sensor};

pub(crate) use self::{join::Attempt, load::control_group_root, locals::Locals, lookup::Lookup};
use self::{
    kernel::Kernel,
    sensor::{Connections, wanted},
};
pub use crate::attached::{BpfIds, hold};
use crate::{accounts::Accounts, packets::Kind, tree::Tree};

/// Which sources to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// Everything the host has: kernel hooks and packets.
    #[default]
    Best,
    /// The same, with packets from libpcap.
    PcapEbpf,
    /// Kernel hooks only.
    Ebpf,
    /// Packets and look-ups only.
    Packet,
    /// The same, with packets from libpcap.
    Pcap,
}

impl Source {
    const fn hooks(self) -> bool {
        matches!(self, Self::Best | Self::PcapEbpf | Self::Ebpf)
    }

    const fn packets(self) -> Option<Kind> {
        match self {
            Self::Best | Self::Packet => Some(Kind::Packet),
            Self::PcapEbpf | Self::Pcap => Some(Kind::Pcap),
            Self::Ebpf => None,
        }
    }
}

/// How to observe connections.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Sources to try.
    pub source: Source,
    /// Programs that an earlier process loaded; loaded anew if they are gone.
    pub adopt: Option<BpfIds>,
}

impl Options {
    /// Reads `YINGLONG_NETWORK_SOURCE` (`packet+ebpf`, `pcap+ebpf`, `ebpf`, `packet`, `pcap`); anything
    /// else means the best source, which is the first of them.
    pub fn from_env() -> Self {
        let source = match std::env::var("YINGLONG_NETWORK_SOURCE").as_deref() {
            Ok("pcap+ebpf") => Source::PcapEbpf,
            Ok("ebpf") => Source::Ebpf,
            Ok("packet") => Source::Packet,
            Ok("pcap") => Source::Pcap,
            _ => Source::Best,
        };
        Self {
            source,
            adopt: None,
        }
    }
}

/// An opened sensor.
pub struct Opened {
    /// The sensor.
    pub sensor: Box<dyn Sensor>,
    /// What to [`hold`] while this process may be killed, and to adopt afterwards; `None` when
    /// there is nothing that could be held.
    pub ids: Option<BpfIds>,
}

/// Opens the sources; what is missing is told by the sensor's status.
///
/// # Errors
/// Neither packets nor kernel hooks are available; needs root or `CAP_BPF`, `CAP_PERFMON`,
/// `CAP_NET_ADMIN` and `CAP_NET_RAW`.
pub fn open(tree: Tree, accounts: Accounts, options: Options) -> Result<Opened, Error> {
    let mut reasons = Vec::new();
    let kernel = match options.source.hooks() {
        false => {
            reasons.push("ebpf: switched off".to_owned());
            None
        }
        true => match Kernel::open(options.adopt.as_ref()) {
            Ok(kernel) => {
                reasons.extend(kernel.missing().iter().cloned());
                Some(kernel)
            }
            Err(error) => {
                let cause = error.source().map(ToString::to_string).unwrap_or_default();
                reasons.push(format!("ebpf: {error}: {cause}"));
                None
            }
        },
    };
    let packets = options.source.packets().unwrap_or(Kind::Packet);
    let capture = match options.source.packets() {
        None => {
            reasons.push("packet: switched off".to_owned());
            None
        }
        Some(kind) => match kind.open(wanted(kernel.is_some(), false)) {
            Ok(capture) => Some(capture),
            Err(error) => {
                reasons.push(format!("{kind}: {error}"));
                None
            }
        },
    };
    let reason = reasons.join("; ");
    if kernel.is_none() && capture.is_none() {
        return Err(Error::Unavailable {
            source_name: "packet+ebpf",
            reason,
        });
    }
    let ids = kernel.as_ref().and_then(Kernel::ids).cloned();
    let sensor = Box::new(Connections {
        tree,
        accounts,
        kernel,
        capture,
        packets,
        reason,
    });
    Ok(Opened { sensor, ids })
}

/// Reads `bytes` as a frame of each kind of link.
#[cfg(fuzzing)]
pub(crate) fn fuzz_frame(bytes: &[u8]) {
    for frame in crate::packets::fuzz_frames(bytes) {
        let _ = packet::parse(&frame);
    }
}

/// Reads `bytes` as a record of our programs.
#[cfg(fuzzing)]
pub(crate) fn fuzz_record(bytes: &[u8]) {
    let _ = record::decode(bytes);
    record::is_observation(bytes);
}

#[cfg(test)]
mod tests;
