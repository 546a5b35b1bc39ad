//! The second best source: packets of this network namespace, and look-ups in `/proc` for whose they
//! are. For kernels without BTF or control groups version 2.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    io,
    net::{IpAddr, SocketAddr},
    os::fd::BorrowedFd,
    time::Duration,
};

use etherparse::{
    EtherType, LaxNetSlice, LaxSlicedPacket, TcpHeaderSlice, UdpHeaderSlice, ip_number,
};
use yinglong_model::event::{Direction, Protocol};

use super::record::{Asker, Record};
use crate::{
    network::{Attempt, Locals, Lookup},
    packets::{self, Frame, Kind, Wanted, Way},
};

const DNS_PORT: u16 = 53;

/// An open capture, with what finds owners.
pub(super) struct Capture {
    kind: Kind,
    packets: Box<dyn packets::Capture>,
    locals: Locals,
    lookup: Lookup,
    /// Stands in for the socket: its own end.
    secret: RandomState,
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
    pub(super) fn open(kind: Kind) -> io::Result<Self> {
        Ok(Self {
            kind,
            packets: kind.open(Wanted::Names)?,
            locals: Locals::default(),
            lookup: Lookup::default(),
            secret: RandomState::new(),
        })
    }

    /// Where packets come from.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Shows what was captured, up to a bound; says whether there may be more. `now` is the time
    /// since boot.
    pub(super) fn read(
        &mut self,
        now: Duration,
        mut each: impl FnMut(&Record<'_>),
    ) -> io::Result<bool> {
        let mut owners: HashMap<(Protocol, SocketAddr), Asker> = HashMap::new();
        let (locals, lookup, secret) = (&mut self.locals, &mut self.lookup, &self.secret);
        self.packets.read(&mut |frame| {
            let Some(heard) = dissect(&frame) else {
                return;
            };
            if !locals.contains(now, heard.local.ip()) {
                return;
            }
            let asker = heard.sent.then(|| {
                *owners
                    .entry((heard.protocol, heard.local))
                    .or_insert_with(|| owner(lookup, now, &heard))
            });
            each(&Record {
                at: now,
                cookie: secret.hash_one((heard.local, heard.protocol)),
                protocol: heard.protocol,
                server: heard.server,
                sent: heard.sent,
                asker,
                tcp_seq: heard.tcp_seq,
                length: heard.length,
                payload: heard.payload,
            });
        })
    }

    /// Readable while there are packets.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.packets.fd()
    }

    /// Packets the buffer had no room for since the last call.
    pub(super) fn newly_dropped(&mut self) -> u64 {
        self.packets.newly_dropped()
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
fn dissect<'a>(frame: &Frame<'a>) -> Option<Heard<'a>> {
    let way = frame.way;
    let sliced = LaxSlicedPacket::from_ether_type(EtherType(frame.ether_type), frame.bytes);
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
    use yinglong_model::Timestamp;

    use super::*;

    proptest! {
        #[test]
        fn no_frame_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for ether_type in [0x0800, 0x86dd, 0x8100] {
                let frame = Frame {
                    at: Timestamp::from_nanos(0),
                    way: Way::Looping,
                    ether_type,
                    bytes: &bytes,
                };
                let _ = dissect(&frame);
            }
        }
    }
}
