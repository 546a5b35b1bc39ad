//! Records of wtmp and btmp: `struct utmp` of glibc's bits/utmp.h.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use yinglong_model::Timestamp;

/// Where the members of the structure lie.
#[derive(Debug, Clone, Copy)]
struct Layout {
    size: usize,
    secs: usize,
    micros: usize,
    address: usize,
    /// Whether seconds and microseconds have 64 bits.
    wide: bool,
}

/// Architectures that kept 32-bit times in the file, for programs of 32 bits: x86, arm, ppc,
/// s390, mips, riscv.
const NARROW: Layout = Layout {
    size: 384,
    secs: 340,
    micros: 344,
    address: 348,
    wide: false,
};

/// Architectures that never had programs of 32 bits.
const WIDE: Layout = Layout {
    size: 400,
    secs: 344,
    micros: 352,
    address: 360,
    wide: true,
};

const HERE: Layout = if cfg!(any(target_arch = "aarch64", target_arch = "loongarch64")) {
    WIDE
} else {
    NARROW
};

/// Size of a record in the files of this host.
pub(super) const RECORD_BYTES: usize = HERE.size;

/// `RUN_LVL`, the first of those that tell of starts and of the clock: 1 to 4.
pub(super) const RUN_LVL: i16 = 1;

/// `OLD_TIME`, the last of them.
pub(super) const OLD_TIME: i16 = 4;

/// `USER_PROCESS`: somebody is logged in.
pub(super) const USER_PROCESS: i16 = 7;

/// `ACCOUNTING`, the highest type there is.
const LAST_TYPE: i16 = 9;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: i16,
    pub(super) line: String,
    pub(super) user: String,
    /// Address without port, or a name when there is only that; empty for a local login.
    pub(super) remote: String,
    pub(super) at: Timestamp,
}

/// Reads a record; `None` when it cannot be one, such as one that was wiped.
pub(super) fn parse(bytes: &[u8]) -> Option<Record> {
    parse_as(HERE, bytes)
}

fn parse_as(layout: Layout, bytes: &[u8]) -> Option<Record> {
    if bytes.len() != layout.size {
        return None;
    }
    let kind = i16::from_ne_bytes(array(bytes, 0)?);
    let wiped = bytes.iter().all(|byte| *byte == 0);
    if wiped || !(0..=LAST_TYPE).contains(&kind) {
        return None;
    }
    let (secs, micros) = if layout.wide {
        (
            i64::from_ne_bytes(array(bytes, layout.secs)?),
            i64::from_ne_bytes(array(bytes, layout.micros)?),
        )
    } else {
        // Read without sign, the 32 bits last until 2106.
        (
            i64::from(u32::from_ne_bytes(array(bytes, layout.secs)?)),
            i64::from(u32::from_ne_bytes(array(bytes, layout.micros)?)),
        )
    };
    let nanos = secs
        .saturating_mul(1_000_000_000)
        .saturating_add(micros.clamp(0, 999_999) * 1000);
    let remote = match address(array(bytes, layout.address)?) {
        Some(ip) => ip.to_string(),
        None => host(&text(bytes.get(76..332)?)),
    };
    Some(Record {
        kind,
        line: text(bytes.get(8..40)?),
        user: text(bytes.get(44..76)?),
        remote,
        at: Timestamp::from_nanos(nanos),
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Text up to its end mark, which a full member does not have.
fn text(bytes: &[u8]) -> String {
    let used = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(used).into_owned()
}

/// `ut_addr_v6`: an IPv4 address is in the first word alone.
fn address(bytes: [u8; 16]) -> Option<IpAddr> {
    let [a, b, c, d, rest @ ..] = bytes;
    if rest.iter().any(|byte| *byte != 0) {
        Some(IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical())
    } else if [a, b, c, d] != [0; 4] {
        Some(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
    } else {
        None
    }
}

/// Host as text: displays and terminal multiplexers are local.
pub(super) fn host(text: &str) -> String {
    let first = text.split_ascii_whitespace().next().unwrap_or_default();
    if first.starts_with(':') || first.starts_with("tmux(") {
        return String::new();
    }
    match first.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        Err(_) => first.to_owned(),
    }
}

/// A record as login programs write it.
#[cfg(test)]
pub(super) fn record(kind: i16, user: &str, host: &str, at: Timestamp) -> Vec<u8> {
    record_as(HERE, kind, user, host, at)
}

#[cfg(test)]
fn record_as(layout: Layout, kind: i16, user: &str, host: &str, at: Timestamp) -> Vec<u8> {
    let mut bytes = vec![0; layout.size];
    let mut put = |at: usize, content: &[u8]| {
        bytes[at..at + content.len()].copy_from_slice(content);
    };
    put(0, &kind.to_ne_bytes());
    put(8, b"pts/3");
    put(44, user.as_bytes());
    put(76, host.as_bytes());
    let micros = at.nanos() / 1000;
    if layout.wide {
        put(layout.secs, &(micros / 1_000_000).to_ne_bytes());
        put(layout.micros, &(micros % 1_000_000).to_ne_bytes());
    } else {
        put(layout.secs, &((micros / 1_000_000) as u32).to_ne_bytes());
        put(layout.micros, &((micros % 1_000_000) as u32).to_ne_bytes());
    }
    match host.parse() {
        Ok(IpAddr::V4(ip)) => put(layout.address, &ip.octets()),
        Ok(IpAddr::V6(ip)) => put(layout.address, &ip.octets()),
        Err(_) => {}
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_layouts_are_read() {
        let at = Timestamp::from_nanos(1_764_000_000_123_456_000);
        for layout in [NARROW, WIDE] {
            for (host, remote) in [
                ("192.0.2.1", "192.0.2.1"),
                ("2001:db8::1", "2001:db8::1"),
                ("::ffff:192.0.2.1", "192.0.2.1"),
                (":0", ""),
                ("tmux(77).%0", ""),
                ("box.example", "box.example"),
                ("", ""),
            ] {
                let bytes = record_as(layout, USER_PROCESS, "probe1", host, at);
                let expected = Record {
                    kind: USER_PROCESS,
                    line: "pts/3".to_owned(),
                    user: "probe1".to_owned(),
                    remote: remote.to_owned(),
                    at,
                };
                assert_eq!(parse_as(layout, &bytes), Some(expected), "{host}");
            }
        }
    }

    #[test]
    fn a_wiped_or_senseless_record_is_none() {
        assert_eq!(parse(&[0; RECORD_BYTES]), None);
        assert_eq!(parse(&[0xff; RECORD_BYTES]), None);
        assert_eq!(parse(&[1; RECORD_BYTES - 1]), None);
        let late = record(USER_PROCESS, "a", "", Timestamp::from_secs(3_000_000_000));
        assert_eq!(parse(&late).unwrap().at.secs(), 3_000_000_000);
    }

    proptest! {
        #[test]
        fn no_record_can_stop_the_sensor(
            kind in 0_i16..12,
            mut bytes in proptest::collection::vec(any::<u8>(), RECORD_BYTES),
        ) {
            bytes[..2].copy_from_slice(&kind.to_ne_bytes());
            if let Some(record) = parse(&bytes) {
                prop_assert!(!record.user.contains('\0'));
            }
            let _ = parse_as(WIDE, &bytes);
        }
    }
}
