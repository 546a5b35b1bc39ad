//! Captured packets as the join sees them: who sent what to whom. Pure, over bytes of any origin.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, LaxNetSlice, LaxSlicedPacket, TcpHeaderSlice, UdpHeaderSlice, ip_number,
};

use crate::packets::{Frame, Way};

/// What a packet says about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Segment {
    /// Asks for a connection.
    Syn {
        /// Its initial sequence number.
        isn: u32,
    },
    /// Answers a request.
    Answer {
        /// Sequence number of the request.
        isn: u32,
        /// By a reset instead of a SYN of its own.
        refused: bool,
    },
    /// A UDP datagram, or the first fragment of one.
    Datagram,
}

/// A packet that concerns connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) way: Way,
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) segment: Segment,
}

/// Bytes that are no packet of the kind the capture asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// Reads a frame; `Ok(None)` is a packet that says nothing about a connection.
pub(super) fn parse(frame: &Frame<'_>) -> Result<Option<Packet>, Malformed> {
    let sliced = LaxSlicedPacket::from_ether_type(EtherType(frame.ether_type), frame.bytes);
    let net = sliced.net.ok_or(Malformed)?;
    let (source, destination, later_fragment) = match &net {
        LaxNetSlice::Ipv4(slice) => {
            let header = slice.header();
            (
                IpAddr::from(header.source()),
                IpAddr::from(header.destination()),
                header.fragments_offset().value() != 0,
            )
        }
        LaxNetSlice::Ipv6(slice) => {
            let header = slice.header();
            (
                IpAddr::from(header.source()),
                IpAddr::from(header.destination()),
                // Fragments of IPv6 carry no ports we could trust; whole packets are enough.
                slice.is_payload_fragmented(),
            )
        }
        LaxNetSlice::Arp(_) => return Ok(None),
    };
    let payload = net.ip_payload_ref().ok_or(Malformed)?;
    if later_fragment {
        return Ok(None);
    }

    let (ports, segment) = match payload.ip_number {
        ip_number::TCP => {
            let tcp = TcpHeaderSlice::from_slice(payload.payload).map_err(|_| Malformed)?;
            let Some(segment) = segment(&tcp) else {
                return Ok(None);
            };
            ((tcp.source_port(), tcp.destination_port()), segment)
        }
        ip_number::UDP => {
            let udp = UdpHeaderSlice::from_slice(payload.payload).map_err(|_| Malformed)?;
            (
                (udp.source_port(), udp.destination_port()),
                Segment::Datagram,
            )
        }
        _ => return Ok(None),
    };
    Ok(Some(Packet {
        way: frame.way,
        source: SocketAddr::new(source, ports.0),
        destination: SocketAddr::new(destination, ports.1),
        segment,
    }))
}

/// ECN bits may be set in a request; they play no part here.
fn segment(tcp: &TcpHeaderSlice<'_>) -> Option<Segment> {
    let answered = tcp.acknowledgment_number().wrapping_sub(1);
    match (tcp.syn(), tcp.ack(), tcp.rst()) {
        (true, false, false) => Some(Segment::Syn {
            isn: tcp.sequence_number(),
        }),
        (true, true, false) => Some(Segment::Answer {
            isn: answered,
            refused: false,
        }),
        // A reset that answers a request has the sequence number 0 (RFC 9293, 3.5.2).
        (false, true, true) if tcp.sequence_number() == 0 => Some(Segment::Answer {
            isn: answered,
            refused: true,
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::{Ipv6Header, TcpHeader};
    use proptest::prelude::*;
    use yinglong_model::Timestamp;

    use super::*;

    const SYN: u8 = 0x02;
    const RST: u8 = 0x04;
    const ACK: u8 = 0x10;
    const ECE: u8 = 0x40;
    const CWR: u8 = 0x80;

    const IPV4: u16 = 0x0800;
    const IPV6: u16 = 0x86dd;

    fn read(ether_type: u16, bytes: &[u8]) -> Result<Option<Packet>, Malformed> {
        parse(&Frame {
            at: Timestamp::from_nanos(0),
            way: Way::Leaving,
            ether_type,
            bytes,
        })
    }

    fn tcp(flags: u8, seq: u32, ack: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(40000u16.to_be_bytes());
        bytes.extend(443u16.to_be_bytes());
        bytes.extend(seq.to_be_bytes());
        bytes.extend(ack.to_be_bytes());
        bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        bytes
    }

    fn ipv4(options: &[u8], fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let words = 5 + options.len() / 4;
        let total = u16::try_from(words * 4 + payload.len()).unwrap();
        let mut bytes = vec![0x40 | u8::try_from(words).unwrap(), 0];
        bytes.extend(total.to_be_bytes());
        bytes.extend([0, 1]);
        bytes.extend(fragment.to_be_bytes());
        bytes.extend([64, protocol, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7]);
        bytes.extend(options);
        bytes.extend(payload);
        bytes
    }

    fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0];
        bytes.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        bytes.extend([next, 64]);
        bytes.extend(
            "2001:db8::1"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        bytes.extend(
            "2001:db8::2"
                .parse::<std::net::Ipv6Addr>()
                .unwrap()
                .octets(),
        );
        bytes.extend(payload);
        bytes
    }

    #[track_caller]
    fn check_segment(ether_type: u16, bytes: &[u8], expected: Option<Segment>) {
        let packet = read(ether_type, bytes).unwrap();
        assert_eq!(packet.map(|packet| packet.segment), expected);
    }

    #[test]
    fn m08_a_syn_is_seen_with_and_without_ecn() {
        for extra in [0, ECE, CWR, ECE | CWR] {
            let bytes = ipv4(&[], 0, 6, &tcp(SYN | extra, 77, 0));
            check_segment(IPV4, &bytes, Some(Segment::Syn { isn: 77 }));
        }
    }

    #[test]
    fn answers_name_the_request_and_other_segments_say_nothing() {
        for (flags, seq, ack, expected) in [
            (SYN | ACK, 5, 78, Some((77, false))),
            (RST | ACK, 0, 78, Some((77, true))),
            (RST | ACK, 0, 0, Some((u32::MAX, true))),
            (RST | ACK, 9, 78, None),
            (RST, 0, 78, None),
            (ACK, 1, 1, None),
            (SYN | RST, 1, 1, None),
        ] {
            let bytes = ipv4(&[], 0, 6, &tcp(flags, seq, ack));
            let expected = expected.map(|(isn, refused)| Segment::Answer { isn, refused });
            check_segment(IPV4, &bytes, expected);
        }
    }

    #[test]
    fn ipv4_options_are_stepped_over() {
        let bytes = ipv4(&[1; 8], 0, 6, &tcp(SYN, 1, 0));
        let packet = read(IPV4, &bytes).unwrap().unwrap();
        assert_eq!(packet.way, Way::Leaving);
        assert_eq!(packet.source, "192.0.2.1:40000".parse().unwrap());
        assert_eq!(packet.destination, "198.51.100.7:443".parse().unwrap());
    }

    #[test]
    fn m15_ipv6_extension_headers_are_stepped_over() {
        // Hop-by-hop options, then destination options, then TCP.
        let mut payload = vec![60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4, 0, 0, 0, 0];
        payload.extend(tcp(SYN, 3, 0));
        let packet = read(IPV6, &ipv6(0, &payload)).unwrap().unwrap();
        assert_eq!(packet.source, "[2001:db8::1]:40000".parse().unwrap());
        assert_eq!(packet.segment, Segment::Syn { isn: 3 });
    }

    #[test]
    fn a_datagram_is_counted_once_by_its_first_fragment() {
        let udp = [0, 53, 0x9c, 0x40, 0xff, 0xff, 0, 0];
        let first = ipv4(&[], 0x2000, 17, &udp);
        check_segment(IPV4, &first, Some(Segment::Datagram));
        let later = ipv4(&[], 0x2010, 17, &udp);
        check_segment(IPV4, &later, None);
    }

    #[test]
    fn cut_off_packets_are_malformed_and_foreign_protocols_say_nothing() {
        let whole = ipv4(&[], 0, 6, &tcp(SYN, 1, 0));
        for length in 0..whole.len() {
            assert_eq!(read(IPV4, &whole[..length]), Err(Malformed), "{length}");
        }
        let icmp = ipv4(&[], 0, 1, &[8, 0, 0, 0, 0, 0, 0, 0]);
        check_segment(IPV4, &icmp, None);
    }

    #[test]
    fn agrees_with_an_independent_builder_of_packets() {
        let mut tcp = TcpHeader::new(1, 2, 3, 4);
        tcp.syn = true;
        tcp.ece = true;
        let ip = Ipv6Header {
            payload_length: tcp.header_len_u16(),
            next_header: ip_number::TCP,
            ..Ipv6Header::default()
        };
        let mut bytes = ip.to_bytes().to_vec();
        bytes.extend(tcp.to_bytes());
        check_segment(IPV6, &bytes, Some(Segment::Syn { isn: 3 }));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>, ether_type: u16, six: Option<bool>) {
            let known = six.map(|six| if six { IPV6 } else { IPV4 });
            let _ = read(known.unwrap_or(ether_type), &bytes);
        }

        #[test]
        fn no_damage_to_a_packet_makes_the_parser_panic(
            at in 0usize..60, byte: u8, cut in 0usize..100, six: bool,
        ) {
            let tcp = tcp(SYN, 1, 0);
            let (ether_type, mut bytes) = if six {
                (IPV6, ipv6(6, &tcp))
            } else {
                (IPV4, ipv4(&[1; 8], 0, 6, &tcp))
            };
            if let Some(slot) = bytes.get_mut(at) {
                *slot = byte;
            }
            bytes.truncate(cut);
            let _ = read(ether_type, &bytes);
        }
    }
}
