//! Packets of this host's network namespace, on every interface, of the kind a sensor wants.
//!
//! - **Sources**: a packet socket with a ring the kernel shares ([`Kind::Packet`]), which needs
//!   nothing but the kernel, and libpcap ([`Kind::Pcap`], feature `pcap`), which ends up with the
//!   same socket and brings some 1.5 MB of libraries. Both show the same packets.
//! - **Invariants**: the kernel filters; what a sensor does not want is never copied. A packet
//!   within the host, which a loopback interface shows leaving and arriving, is shown once. Packets
//!   of this host are shown as well as those for it: a request made by hand passes no socket, and
//!   only the wire tells of it.
//! - **Losses** are exact: the kernel counts every wanted packet that found no room.
//! - **Latency**: a packet can be read [`Wanted::latency`] after it passed, at the latest, and the
//!   descriptor becomes readable then.
//! - **Not here**: other network namespaces, promiscuous mode, what the packets mean.

mod filter;
#[cfg(feature = "pcap")]
mod pcap;
mod ring;
mod socket;
#[cfg(test)]
mod tests;

use std::{fmt, io, os::fd::BorrowedFd, time::Duration};

use yinglong_model::Timestamp;

/// `bytes` as libpcap would hand them over, with each of its headers.
#[cfg(all(fuzzing, feature = "pcap"))]
pub(crate) fn fuzz_frames(bytes: &[u8]) -> Vec<Frame<'_>> {
    pcap::fuzz_frames(bytes).collect()
}

/// Where packets come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A packet socket (`AF_PACKET`, `TPACKET_V3`; Linux 3.2).
    Packet,
    /// libpcap.
    Pcap,
}

impl Kind {
    /// Name in a status.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Pcap => "pcap",
        }
    }

    /// Opens it.
    ///
    /// # Errors
    /// The kernel's answer; needs `CAP_NET_RAW`. `Unsupported` when this program was built without
    /// libpcap.
    pub(crate) fn open(self, wanted: Wanted) -> io::Result<Box<dyn Capture>> {
        match self {
            Self::Packet => Ok(Box::new(ring::PacketRing::open(wanted)?)),
            #[cfg(feature = "pcap")]
            Self::Pcap => Ok(Box::new(pcap::Pcap::open(wanted)?)),
            #[cfg(not(feature = "pcap"))]
            Self::Pcap => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this agent was built without libpcap (feature pcap)",
            )),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which packets a sensor wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Requests for TCP connections and refusals of them.
    Requests {
        /// Acceptances, too: needed where the kernel does not tell outcomes.
        answers: bool,
        /// UDP datagrams, too; of those in pieces the first one.
        udp: bool,
    },
    /// Whatever goes to or comes from port 53.
    Names,
}

impl Wanted {
    /// Bytes kept of a packet, from its network header on.
    const fn snaplen_bytes(self) -> u32 {
        match self {
            // IPv6 with extension headers, and a TCP header.
            Self::Requests { .. } => 256,
            // As many as the programs keep of a message, with its headers.
            Self::Names => 4096 + 128,
        }
    }

    /// Longest time the kernel keeps a packet before it shows it.
    pub(crate) const fn latency(self) -> Duration {
        match self {
            Self::Requests { .. } => Duration::from_millis(50),
            Self::Names => Duration::from_millis(20),
        }
    }
}

/// Which way a packet went, as the kernel classified it (`linux/if_packet.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// To this host, or to a group it is in.
    Arriving,
    /// From this host.
    Leaving,
    /// Between others, seen in passing.
    Foreign,
    /// From this host to itself, over a loopback interface.
    Looping,
}

impl Way {
    /// From the kinds of the interface's hardware and of the packet.
    const fn of(hardware: u16, packet_type: u16) -> Self {
        match (hardware, packet_type) {
            (libc::ARPHRD_LOOPBACK, _) => Self::Looping,
            // PACKET_HOST, PACKET_BROADCAST, PACKET_MULTICAST
            (_, 0..=2) => Self::Arriving,
            // PACKET_OUTGOING
            (_, 4) => Self::Leaving,
            _ => Self::Foreign,
        }
    }
}

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    /// When it passed.
    pub(crate) at: Timestamp,
    pub(crate) way: Way,
    /// Of what begins at `bytes` (`linux/if_ether.h`).
    pub(crate) ether_type: u16,
    /// From the network header on, cut off after [`Wanted::snaplen_bytes`].
    pub(crate) bytes: &'a [u8],
}

/// An open source.
pub(crate) trait Capture: Send {
    /// Changes what is wanted. What was captured before remains to be read.
    ///
    /// # Errors
    /// The source cannot be used any more.
    fn want(&mut self, wanted: Wanted) -> io::Result<()>;

    /// Shows what was captured, up to a bound, and does not wait; says whether there may be more.
    ///
    /// # Errors
    /// The source cannot be used any more.
    fn read(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> io::Result<bool>;

    /// Wanted packets that found no room since the last call.
    fn newly_dropped(&mut self) -> u64;

    /// Readable while there is something to read.
    fn fd(&self) -> BorrowedFd<'_>;
}
