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
//! Best source first: `pcap+ebpf`, `ebpf` when packets cannot be captured (no scans of closed
//! ports, a UDP server's answers are `out`), `pcap` when the kernel lacks eBPF or BTF (processes are
//! looked up in `/proc`, those that end within 100 ms are missed).

mod books;
mod capture;
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
mod wire;

use std::error::Error as _;

use yinglong_sensor::{Error, Sensor};

use self::{capture::Capture, kernel::Kernel, sensor::Connections};
pub(crate) use self::{
    join::Attempt,
    load::control_group_root,
    locals::Locals,
    lookup::Lookup,
    packet::{Link, Way, cooked},
};
pub use crate::attached::{BpfIds, hold};
use crate::{accounts::Accounts, tree::Tree};

/// Which sources to try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// Everything the host has.
    #[default]
    Best,
    /// Packets and look-ups only.
    Pcap,
    /// Kernel hooks only.
    Ebpf,
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
    /// Reads `YINGLONG_NETWORK_SOURCE` (`pcap`, `ebpf`); anything else means the best source.
    pub fn from_env() -> Self {
        let source = match std::env::var("YINGLONG_NETWORK_SOURCE").as_deref() {
            Ok("pcap") => Source::Pcap,
            Ok("ebpf") => Source::Ebpf,
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
    let kernel = match options.source {
        Source::Pcap => {
            reasons.push("ebpf: switched off".to_owned());
            None
        }
        _ => match Kernel::open(options.adopt.as_ref()) {
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
    let capture = match options.source {
        Source::Ebpf => {
            reasons.push("pcap: switched off".to_owned());
            None
        }
        _ => match Capture::open(kernel.is_none()) {
            Ok(capture) => Some(capture),
            Err(error) => {
                reasons.push(format!("pcap: {error}"));
                None
            }
        },
    };
    let reason = reasons.join("; ");
    if kernel.is_none() && capture.is_none() {
        return Err(Error::Unavailable {
            source_name: "pcap+ebpf",
            reason,
        });
    }
    let ids = kernel.as_ref().and_then(Kernel::ids).cloned();
    let sensor = Box::new(Connections {
        tree,
        accounts,
        kernel,
        capture,
        reason,
    });
    Ok(Opened { sensor, ids })
}

#[cfg(test)]
mod tests;
