//! The second best source: packets of this network namespace, captured with libpcap, and look-ups in
//! `/proc` for whose they are. For kernels without BTF or control groups version 2.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use etherparse::{
    EtherType, LaxNetSlice, LaxSlicedPacket, TcpHeaderSlice, UdpHeaderSlice, ip_number,
};
use pcap::{Active, Linktype};
use yinglong_model::event::{Direction, Protocol};

use super::record::{Asker, Record};
use crate::network::{Attempt, Link, Locals, Lookup, Way, cooked};

/// A packet as the kernel side would keep it, with its headers.
const SNAPLEN_BYTES: i32 = 4096 + 128;
/// Ring between kernel and agent.
const BUFFER_BYTES: i32 = 4 << 20;
/// Longest time the kernel keeps a packet before it shows it.
const LATENCY_MS: i32 = 20;
/// Packets taken in one go.
const BATCH: usize = 8192;
/// `LINKTYPE_LINUX_SLL2`
const COOKED2: Linktype = Linktype(276);
/// The port of name servers, over IPv6 after extension headers, too. A loopback interface (always
/// number 1) shows each packet leaving and arriving.
const WANTED: &str = "port 53 or ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 60";
const WANTED_ONCE: &str =
    "not (ifindex 1 and outbound) and (port 53 or ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 60)";

const DNS_PORT: u16 = 53;

/// An open capture, with what finds owners.
pub(super) struct Capture {
    handle: pcap::Capture<Active>,
    link: Link,
    locals: Locals,
    lookup: Lookup,
    /// Stands in for the socket: its own end.
    secret: RandomState,
    dropped: u32,
}

/// What a packet says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Heard<'a> {
    sent: bool,
    protocol: Protocol,
    local: SocketAddr,
    server: SocketAddr,
    tcp_seq: u32,
    length: u32,
    payload: &'a [u8],
}

impl Capture {
    pub(super) fn open() -> Result<Self, pcap::Error> {
        let mut handle = pcap::Capture::from_device("any")?
            .snaplen(SNAPLEN_BYTES)
            .buffer_size(BUFFER_BYTES)
            .timeout(LATENCY_MS)
            .promisc(false)
            .open()?
            // A blocking read would not come back while nothing matches the filter.
            .setnonblock()?;
        let (link, wanted) = match handle.set_datalink(COOKED2) {
            Ok(()) => (Link::Cooked2, WANTED_ONCE),
            Err(_) => (Link::Cooked1, WANTED),
        };
        handle.filter(wanted, true)?;
        Ok(Self {
            handle,
            link,
            locals: Locals::default(),
            lookup: Lookup::default(),
            secret: RandomState::new(),
            dropped: 0,
        })
    }

    /// Shows what was captured, up to a bound; says whether there may be more. `now` is the time
    /// since boot.
    pub(super) fn read(
        &mut self,
        now: Duration,
        mut each: impl FnMut(&Record<'_>),
    ) -> Result<bool, pcap::Error> {
        let mut owners: HashMap<(Protocol, SocketAddr), Asker> = HashMap::new();
        for _ in 0..BATCH {
            let packet = match self.handle.next_packet() {
                Ok(packet) => packet,
                Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => return Ok(false),
                Err(error) => return Err(error),
            };
            let Some(heard) = dissect(self.link, packet.data) else {
                continue;
            };
            if !self.locals.contains(now, heard.local.ip()) {
                continue;
            }
            let asker = heard.sent.then(|| {
                *owners
                    .entry((heard.protocol, heard.local))
                    .or_insert_with(|| owner(&mut self.lookup, now, &heard))
            });
            each(&Record {
                at: now,
                cookie: self.secret.hash_one((heard.local, heard.protocol)),
                protocol: heard.protocol,
                server: heard.server,
                sent: heard.sent,
                asker,
                tcp_seq: heard.tcp_seq,
                length: heard.length,
                payload: heard.payload,
            });
        }
        Ok(true)
    }

    /// Packets the buffer had no room for since the last call.
    pub(super) fn newly_dropped(&mut self) -> u64 {
        let Ok(statistics) = self.handle.stats() else {
            return 0;
        };
        let new = statistics.dropped.wrapping_sub(self.dropped);
        self.dropped = statistics.dropped;
        u64::from(new)
    }
}

/// The process behind the socket, if it still has it; else one without pid.
fn owner(lookup: &mut Lookup, now: Duration, heard: &Heard<'_>) -> Asker {
    let attempt = Attempt {
        protocol: heard.protocol,
        dir: Direction::Out,
        local: heard.local,
        remote: heard.server,
        isn: 0,
    };
    let found = lookup.owners(now, &[attempt]).pop().flatten();
    Asker {
        pid: found.map_or(0, |owner| owner.pid),
        uid: found.map_or(0, |owner| owner.uid),
        start_boottime_ns: 0,
        cgroup_id: 0,
        resolver: false,
        comm: found.map_or([0; 16], |owner| owner.comm),
    }
}

/// Reads a frame; `None` when it is nothing between this host and a name server.
fn dissect(link: Link, frame: &[u8]) -> Option<Heard<'_>> {
    let (way, ether_type, rest) = cooked(link, frame)?;
    let sliced = LaxSlicedPacket::from_ether_type(EtherType(ether_type), rest);
    let net = sliced.net?;
    let (source, destination): (IpAddr, IpAddr) = match &net {
        LaxNetSlice::Ipv4(slice) => {
            let header = slice.header();
            if header.fragments_offset().value() != 0 {
                return None;
            }
            (header.source().into(), header.destination().into())
        }
        LaxNetSlice::Ipv6(slice) => {
            if slice.is_payload_fragmented() {
                return None;
            }
            let header = slice.header();
            (header.source().into(), header.destination().into())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    let ip = net.ip_payload_ref()?;
    let (protocol, ports, tcp_seq, header) = match ip.ip_number {
        ip_number::UDP => {
            let udp = UdpHeaderSlice::from_slice(ip.payload).ok()?;
            let ports = (udp.source_port(), udp.destination_port());
            (Protocol::Udp, ports, 0, udp.slice().len())
        }
        ip_number::TCP => {
            let tcp = TcpHeaderSlice::from_slice(ip.payload).ok()?;
            let ports = (tcp.source_port(), tcp.destination_port());
            (
                Protocol::Tcp,
                ports,
                tcp.sequence_number(),
                tcp.slice().len(),
            )
        }
        _ => return None,
    };
    let payload = ip.payload.get(header..).filter(|bytes| !bytes.is_empty())?;
    let from = SocketAddr::new(source, ports.0);
    let to = SocketAddr::new(destination, ports.1);
    let leaves = matches!(way, Way::Leaving | Way::Looping);
    let arrives = matches!(way, Way::Arriving | Way::Looping);
    let (sent, local, server) = match ports {
        (_, DNS_PORT) if leaves => (true, from, to),
        (DNS_PORT, _) if arrives => (false, to, from),
        _ => return None,
    };
    Some(Heard {
        sent,
        protocol,
        local,
        server,
        tcp_seq,
        length: u32::try_from(payload.len()).ok()?,
        payload,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_filters_compile() {
        for (link, wanted) in [(COOKED2, WANTED_ONCE), (Linktype::LINUX_SLL, WANTED)] {
            let dead = pcap::Capture::dead(link).unwrap();
            if let Err(error) = dead.compile(wanted, true) {
                panic!("{wanted}: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_frame_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = dissect(Link::Cooked1, &bytes);
            let mut framed = vec![8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 4, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0x45];
            framed.extend(bytes);
            let _ = dissect(Link::Cooked2, &framed);
        }
    }
}
