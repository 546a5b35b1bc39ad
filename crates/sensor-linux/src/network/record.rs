//! Records of `bpf/network.bpf.c` as sightings for the join. Pure, over bytes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use yinglong_model::event::{Direction, Protocol};

use super::join::{Attempt, Owner, Sighting, State};

/// Size of `struct connection_record`.
pub(super) const SIZE: usize = 112;

const CONNECT: u16 = 16;
const OUTCOME: u16 = 17;
const ESTABLISHED: u16 = 18;
const ACCEPT: u16 = 19;
const UDP_SEND: u16 = 20;

/// A record of the kernel side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Time since boot.
    pub(super) at: Duration,
    pub(super) attempt: Attempt,
    pub(super) sighting: Sighting,
}

/// Whether the kernel counts the record as an observation, sense or none.
pub(super) fn is_observation(bytes: &[u8]) -> bool {
    let kind = bytes.get(16..18).and_then(|kind| kind.try_into().ok());
    matches!(
        kind.map(u16::from_ne_bytes),
        Some(CONNECT | ACCEPT | UDP_SEND)
    )
}

/// Reads a record; `None` when it is none of ours.
pub(super) fn decode(bytes: &[u8]) -> Option<Record> {
    let mut reader = Reader(bytes);
    let _seq = reader.u64()?;
    let at_ns = reader.u64()?;
    let kind = reader.u16()?;
    let _flags = reader.u16()?;
    if usize::try_from(reader.u32()?) != Ok(SIZE) {
        return None;
    }
    let start_boottime_ns = reader.u64()?;
    let established_ns = reader.u64()?;
    let pid = reader.u32()?;
    let uid = reader.u32()?;
    let isn = reader.u32()?;
    let family = reader.u16()?;
    let local_port = reader.u16()?;
    let remote_port = reader.u16()?;
    let error = reader.u16()?;
    let _netns = reader.u32()?;
    let local = address(family, reader.array()?)?;
    let remote = address(family, reader.array()?)?;
    let comm = reader.array()?;

    let owner = Owner {
        pid,
        uid,
        start_boottime_ns,
        comm,
    };
    let (protocol, dir, sighting) = match kind {
        CONNECT => (Protocol::Tcp, Direction::Out, Sighting::Asked(owner)),
        OUTCOME => {
            let state = outcome(error);
            let owner = Some(owner);
            let ended = Sighting::Ended { state, owner };
            (Protocol::Tcp, Direction::Out, ended)
        }
        ESTABLISHED => (Protocol::Tcp, Direction::In, Sighting::Handshake),
        ACCEPT => {
            let waited = match established_ns {
                0 => 0,
                since => at_ns.saturating_sub(since),
            };
            let waited = Duration::from_nanos(waited);
            let accepted = Sighting::Accepted { owner, waited };
            (Protocol::Tcp, Direction::In, accepted)
        }
        UDP_SEND => (Protocol::Udp, Direction::Out, Sighting::Asked(owner)),
        _ => return None,
    };
    Some(Record {
        at: Duration::from_nanos(at_ns),
        attempt: Attempt {
            protocol,
            dir,
            local: SocketAddr::new(local, local_port),
            remote: SocketAddr::new(remote, remote_port),
            isn,
        },
        sighting,
    })
}

fn outcome(error: u16) -> Option<State> {
    match i32::from(error) {
        0 => Some(State::Established),
        libc::ECONNREFUSED => Some(State::Refused),
        libc::ETIMEDOUT => Some(State::Timeout),
        _ => None,
    }
}

/// A socket for both families writes IPv4 addresses as mapped IPv6 ones, packets never do.
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

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_ne_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_ne_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(kind: u16, family: u16, error: u16, local: [u8; 16]) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(9u64.to_ne_bytes());
        bytes.extend(7_000_000_000u64.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(0u16.to_ne_bytes());
        bytes.extend(112u32.to_ne_bytes());
        bytes.extend(5u64.to_ne_bytes());
        bytes.extend(1_000_000_000u64.to_ne_bytes());
        for word in [42u32, 1000, 0xdead_beef] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in [family, 4711, 443, error] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(1u32.to_ne_bytes());
        bytes.extend(local);
        bytes.extend(local);
        bytes.extend(*b"bash\0\0\0\0\0\0\0\0\0\0\0\0");
        bytes
    }

    #[test]
    fn every_kind_of_record_becomes_its_sighting() {
        let loopback = [127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let owner = Owner {
            pid: 42,
            uid: 1000,
            start_boottime_ns: 5,
            comm: *b"bash\0\0\0\0\0\0\0\0\0\0\0\0",
        };
        let ended = |state| Sighting::Ended {
            state,
            owner: Some(owner),
        };
        for (kind, error, sighting) in [
            (16, 0, Sighting::Asked(owner)),
            (17, 0, ended(Some(State::Established))),
            (17, 111, ended(Some(State::Refused))),
            (17, 110, ended(Some(State::Timeout))),
            (17, 113, ended(None)),
            (18, 0, Sighting::Handshake),
            (
                19,
                0,
                Sighting::Accepted {
                    owner,
                    waited: Duration::from_secs(6),
                },
            ),
            (20, 0, Sighting::Asked(owner)),
        ] {
            let decoded = decode(&record(kind, 2, error, loopback)).unwrap();
            assert_eq!(decoded.sighting, sighting);
            assert_eq!(decoded.attempt.local, "127.0.0.1:4711".parse().unwrap());
            assert_eq!(decoded.attempt.remote, "127.0.0.1:443".parse().unwrap());
            assert_eq!(decoded.attempt.isn, 0xdead_beef);
            assert_eq!(decoded.at, Duration::from_secs(7));
        }
        assert_eq!(decode(&record(21, 2, 0, loopback)), None);
        assert_eq!(decode(&record(16, 1, 0, loopback)), None);
    }

    #[test]
    fn m15_mapped_addresses_become_ipv4_and_others_stay_ipv6() {
        let mapped: Ipv6Addr = "::ffff:192.0.2.9".parse().unwrap();
        let decoded = decode(&record(16, 10, 0, mapped.octets())).unwrap();
        assert_eq!(decoded.attempt.local, "192.0.2.9:4711".parse().unwrap());
        let plain: Ipv6Addr = "2001:db8::9".parse().unwrap();
        let decoded = decode(&record(16, 10, 0, plain.octets())).unwrap();
        assert_eq!(decoded.attempt.local, "[2001:db8::9]:4711".parse().unwrap());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            let _ = decode(&bytes);
        }
    }
}
