//! Records of `bpf/dns.bpf.c`. Pure, over bytes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use yinglong_model::event::Protocol;

/// Size of `struct dns_record`, without its payload.
const SIZE: usize = 120;

const SENT: u16 = 48;
const RECEIVED: u16 = 49;

/// `DNS_RESOLVER`
const RESOLVER: u8 = 1;

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) pid: u32,
    pub(super) uid: u32,
    /// 0 when unknown.
    pub(super) start_boottime_ns: u64,
    /// 0 when unknown.
    pub(super) cgroup_id: u64,
    /// It answers questions of others.
    pub(super) resolver: bool,
    /// Name of the task, padded with zeros.
    pub(super) comm: [u8; 16],
}

/// A packet to or from a name server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Time since boot.
    pub(super) at: Duration,
    /// Of the socket; unique until the next boot.
    pub(super) cookie: u64,
    pub(super) protocol: Protocol,
    /// The name server.
    pub(super) server: SocketAddr,
    /// From this host.
    pub(super) sent: bool,
    /// Present on what is sent, and on answers to what was not seen on its way out.
    pub(super) asker: Option<Asker>,
    /// Sequence number of the first byte; 0 for UDP.
    pub(super) tcp_seq: u32,
    /// Length of the payload on the wire.
    pub(super) length: u32,
    /// As much of it as was kept.
    pub(super) payload: &'a [u8],
}

/// Reads a record; `None` when it is none of ours.
pub(super) fn decode(bytes: &[u8]) -> Option<Record<'_>> {
    let (fixed, rest) = bytes.split_at_checked(SIZE)?;
    let size = usize::try_from(u32_at(fixed, 20)?).ok()?;
    // The room reserved for a payload may be larger than the payload.
    let payload = rest.get(..size.checked_sub(SIZE)?)?;
    let family = u16_at(fixed, 60)?;
    let remote_port = u16_at(fixed, 64)?;
    let protocol = match i32::from(*fixed.get(66)?) {
        libc::IPPROTO_UDP => Protocol::Udp,
        libc::IPPROTO_TCP => Protocol::Tcp,
        _ => return None,
    };
    let flags = *fixed.get(67)?;
    let sent = match u16_at(fixed, 16)? {
        SENT => true,
        RECEIVED => false,
        _ => return None,
    };
    let pid = u32_at(fixed, 48)?;
    let asker = Asker {
        pid,
        uid: u32_at(fixed, 52)?,
        start_boottime_ns: u64_at(fixed, 40)?,
        cgroup_id: u64_at(fixed, 32)?,
        resolver: flags & RESOLVER != 0,
        comm: array_at(fixed, 104)?,
    };
    Some(Record {
        at: Duration::from_nanos(u64_at(fixed, 8)?),
        cookie: u64_at(fixed, 24)?,
        protocol,
        server: SocketAddr::new(address(family, array_at(fixed, 88)?)?, remote_port),
        sent,
        asker: (sent || pid != 0).then_some(asker),
        tcp_seq: u32_at(fixed, 56)?,
        length: u32_at(fixed, 68)?,
        payload,
    })
}

/// A socket for both families writes IPv4 addresses as mapped IPv6 ones.
fn address(family: u16, bytes: [u8; 16]) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => {
            let [a, b, c, d, ..] = bytes;
            Some(Ipv4Addr::new(a, b, c, d).into())
        }
        libc::AF_INET6 => Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical()),
        _ => None,
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_ne_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_ne_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u16, family: u16, remote: [u8; 16], payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(1u64.to_ne_bytes());
        bytes.extend(7_000_000_000u64.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        let size = u32::try_from(SIZE + payload.len()).unwrap();
        bytes.extend(size.to_ne_bytes());
        for word in [99u64, 5, 1234] {
            bytes.extend(word.to_ne_bytes());
        }
        let pid = if kind == SENT { 42 } else { 0 };
        for word in [pid, 1000, 0xdead_beef_u32] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [family, 4711, 53] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend([17, 1]);
        bytes.extend(500u32.to_ne_bytes());
        bytes.extend([0; 16]);
        bytes.extend(remote);
        bytes.extend(*b"curl\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes.extend(payload);
        // Room that was not needed.
        bytes.extend([0xff; 30]);
        bytes
    }

    #[test]
    fn what_is_sent_names_its_process_and_what_is_received_does_not() {
        let mapped: Ipv6Addr = "::ffff:192.0.2.53".parse().unwrap();
        let bytes = record(SENT, 10, mapped.octets(), b"question");
        let sent = decode(&bytes).unwrap();
        let asker = sent.asker.unwrap();
        assert_eq!((asker.pid, asker.uid, asker.resolver), (42, 1000, true));
        assert_eq!((asker.cgroup_id, asker.start_boottime_ns), (5, 1234));
        assert_eq!(sent.server, "192.0.2.53:53".parse().unwrap());
        assert_eq!((sent.cookie, sent.length), (99, 500));
        assert_eq!(sent.payload, b"question");
        let bytes = record(RECEIVED, 2, [9; 16], b"");
        let received = decode(&bytes).unwrap();
        assert_eq!((received.sent, received.asker), (false, None));
        assert_eq!(received.server, "9.9.9.9:53".parse().unwrap());
        assert_eq!(decode(&record(50, 2, [9; 16], b"")), None);
        assert_eq!(decode(&record(SENT, 1, [9; 16], b"")), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..260)) {
            let _ = decode(&bytes);
        }
    }
}
