//! libpcap, with its `any` device: a Linux "cooked" header in place of the link layer, version 2
//! (`LINKTYPE_LINUX_SLL2`), or version 1 from libpcap before 1.10.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use pcap::{Active, Linktype};
use yinglong_model::Timestamp;

use super::{Capture, Frame, Wanted, Way};

/// Ring between kernel and agent: about 40,000 requests.
const BUFFER_BYTES: i32 = 4 << 20;
/// Packets taken in one go.
const BATCH: usize = 32_768;
/// `LINKTYPE_LINUX_SLL2`
pub(super) const COOKED2: Linktype = Linktype(276);

/// Header in front of the network layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// 16 bytes: packet type, hardware type, address, protocol.
    Cooked1,
    /// 20 bytes: protocol, interface, hardware type, packet type, address.
    Cooked2,
}

impl Link {
    const fn header_bytes(self) -> usize {
        match self {
            Self::Cooked1 => 16,
            Self::Cooked2 => 20,
        }
    }
}

/// An open capture.
pub(super) struct Pcap {
    handle: pcap::Capture<Active>,
    link: Link,
    dropped: u32,
}

impl Pcap {
    /// # Errors
    /// libpcap's answer; needs `CAP_NET_RAW`.
    pub(super) fn open(wanted: Wanted) -> io::Result<Self> {
        let latency = i32::try_from(wanted.latency().as_millis()).unwrap_or(50);
        let snaplen = i32::try_from(wanted.snaplen_bytes()).unwrap_or(i32::MAX);
        let mut handle = pcap::Capture::from_device("any")
            .and_then(|device| {
                device
                    .snaplen(snaplen.saturating_add(20))
                    .buffer_size(BUFFER_BYTES)
                    .timeout(latency)
                    .promisc(false)
                    .open()
            })
            // A blocking read would not come back while nothing matches the filter.
            .and_then(pcap::Capture::setnonblock)
            .map_err(io::Error::other)?;
        let link = match handle.set_datalink(COOKED2) {
            Ok(()) => Link::Cooked2,
            Err(_) => Link::Cooked1,
        };
        let mut capture = Self {
            handle,
            link,
            dropped: 0,
        };
        capture.want(wanted)?;
        Ok(capture)
    }
}

impl Capture for Pcap {
    fn want(&mut self, wanted: Wanted) -> io::Result<()> {
        let filter = expression(wanted, self.link == Link::Cooked2);
        self.handle.filter(&filter, true).map_err(io::Error::other)
    }

    fn read(&mut self, each: &mut dyn FnMut(Frame<'_>)) -> io::Result<bool> {
        for _ in 0..BATCH {
            match self.handle.next_packet() {
                Ok(packet) => {
                    let time = packet.header.ts;
                    let nanos = time.tv_sec.saturating_mul(1_000_000_000)
                        + time.tv_usec.saturating_mul(1000);
                    let at = Timestamp::from_nanos(nanos);
                    // libpcap made the header itself: there is always one.
                    if let Some(frame) = cooked(self.link, at, packet.data) {
                        each(frame);
                    }
                }
                Err(pcap::Error::TimeoutExpired | pcap::Error::NoMorePackets) => return Ok(false),
                Err(error) => return Err(io::Error::other(error)),
            }
        }
        Ok(true)
    }

    /// (Only the drops are meaningful: libpcap counts what it received on a loopback interface
    /// twice.)
    fn newly_dropped(&mut self) -> u64 {
        let Ok(statistics) = self.handle.stats() else {
            return 0;
        };
        let new = statistics.dropped.wrapping_sub(self.dropped);
        self.dropped = statistics.dropped;
        u64::from(new)
    }

    fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: libpcap's own socket, open for as long as the handle.
        unsafe { BorrowedFd::borrow_raw(self.handle.as_raw_fd()) }
    }
}

/// What the cooked header says of what follows it.
fn cooked(link: Link, at: Timestamp, frame: &[u8]) -> Option<Frame<'_>> {
    let word = |at: usize| {
        let bytes = frame.get(at..at + 2)?;
        bytes.try_into().ok().map(u16::from_be_bytes)
    };
    let (packet_type, hardware, ether_type) = match link {
        Link::Cooked1 => (word(0)?, word(2)?, word(14)?),
        Link::Cooked2 => (u16::from(*frame.get(10)?), word(8)?, word(0)?),
    };
    Some(Frame {
        at,
        way: Way::of(hardware, packet_type),
        ether_type,
        bytes: frame.get(link.header_bytes()..)?,
    })
}

#[cfg(fuzzing)]
pub(super) fn fuzz_frames(bytes: &[u8]) -> impl Iterator<Item = Frame<'_>> {
    let links = [Link::Cooked1, Link::Cooked2].into_iter();
    let frames = links.filter_map(|link| cooked(link, Timestamp::default(), bytes));
    frames.inspect(move |frame| assert!(frame.bytes.len() < bytes.len()))
}

/// The filter in libpcap's language; `interfaces`: whether the header names them.
///
/// `tcp[..]` knows IPv4 only; for IPv6 the flags are 53 bytes into the packet when TCP follows at
/// once, and packets with extension headers are taken whole.
pub(super) fn expression(wanted: Wanted, interfaces: bool) -> String {
    let terms: Vec<&str> = match wanted {
        Wanted::Requests { answers, udp } => {
            // Flags: 0x02 SYN, 0x04 RST, 0x10 ACK; ECN bits (0xc0) may have any value.
            let mut terms = match answers {
                true => vec![
                    "(tcp[13] & 0x06 = 0x02)",
                    "(ip6[6] = 6 and ip6[53] & 0x06 = 0x02)",
                ],
                false => vec![
                    "(tcp[13] & 0x16 = 0x02)",
                    "(ip6[6] = 6 and ip6[53] & 0x16 = 0x02)",
                ],
            };
            terms.extend([
                "(tcp[13] & 0x14 = 0x14 and tcp[4:4] = 0)",
                "(ip6[6] = 6 and ip6[53] & 0x14 = 0x14 and ip6[44:4] = 0)",
                "(ip6[6] = 0 or ip6[6] = 43 or ip6[6] = 44 or ip6[6] = 51 or ip6[6] = 60)",
            ]);
            if udp {
                terms.extend(["(udp and ip[6:2] & 0x1fff = 0)", "(ip6[6] = 17)"]);
            }
            terms
        }
        Wanted::Names => vec!["port 53", "ip6[6] = 0", "ip6[6] = 43", "ip6[6] = 60"],
    };
    let wanted = terms.join(" or ");
    if interfaces {
        // A loopback interface (always number 1) shows each packet leaving and arriving.
        format!("not (ifindex 1 and outbound) and ({wanted})")
    } else {
        wanted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packets::tests::EVERYTHING;

    #[test]
    fn every_filter_compiles_for_its_link_type() {
        for wanted in EVERYTHING {
            for (link, interfaces) in [(COOKED2, true), (Linktype::LINUX_SLL, false)] {
                let dead = pcap::Capture::dead(link).unwrap();
                let expression = expression(wanted, interfaces);
                if let Err(error) = dead.compile(&expression, true) {
                    panic!("{expression}: {error}");
                }
            }
        }
    }

    #[test]
    fn both_versions_of_the_cooked_header_are_understood() {
        let two = [
            0x86, 0xdd, 0, 0, 0, 0, 0, 2, 0, 1, 4, 6, 1, 2, 3, 4, 5, 6, 0, 0, 99,
        ];
        let one = [0, 4, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0x86, 0xdd, 99];
        let at = Timestamp::from_nanos(5);
        for (link, frame) in [(Link::Cooked2, &two[..]), (Link::Cooked1, &one)] {
            let expected = Frame {
                at,
                way: Way::Leaving,
                ether_type: 0x86dd,
                bytes: &[99],
            };
            assert_eq!(cooked(link, at, frame), Some(expected));
            assert_eq!(cooked(link, at, &frame[..link.header_bytes() - 1]), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, old: bool) {
            let link = if old { Link::Cooked1 } else { Link::Cooked2 };
            let _ = cooked(link, Timestamp::from_nanos(0), &bytes);
        }
    }
}
