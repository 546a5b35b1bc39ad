//! What of an event is looked up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use yinglong_intel::{IndicatorSet, Kind, Value};
use yinglong_model::EventData;

/// A value of an event, and the field it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    pub(super) field: &'static str,
    /// As it stands in the event.
    pub(super) text: String,
    pub(super) value: Value,
}

impl Subject {
    fn address(field: &'static str, text: &str) -> Option<Self> {
        let address = text.parse::<IpAddr>().ok()?.to_canonical();
        is_public(address).then(|| Self {
            field,
            text: text.to_owned(),
            value: Value::ip(address),
        })
    }

    fn hash(field: &'static str, text: &str) -> Option<Self> {
        Some(Self {
            field,
            text: text.to_owned(),
            value: Value::hash(text).ok()?,
        })
    }

    fn domain(field: &'static str, text: &str) -> Option<Self> {
        Some(Self {
            field,
            text: text.to_owned(),
            value: Value::domain(text).ok()?,
        })
    }

    fn file(field: &'static str, text: &str) -> Option<Self> {
        Some(Self {
            field,
            text: text.to_owned(),
            value: Value::path(text).or_else(|_| Value::name(text)).ok()?,
        })
    }
}

/// What an API is asked about: the public address of a connection or login, the hash of a file or of
/// what was executed.
pub(super) fn asked(data: &EventData) -> Option<Subject> {
    match data {
        EventData::Connection(connection) => Subject::address("remote_ip", &connection.remote_ip),
        EventData::Loginlog(login) => Subject::address("remote", &login.remote),
        EventData::File(file) => Subject::hash("hash", &file.hash)
            .or_else(|| Subject::hash("sha256", file.sha256.as_deref()?)),
        EventData::Process(process) => {
            Subject::hash("md5", process.md5.as_deref().unwrap_or_default())
                .or_else(|| Subject::hash("sha256", process.sha256.as_deref()?))
        }
        EventData::Dns(_) | EventData::Syscall(_) | EventData::Exit(_) | EventData::Loss(_) => None,
    }
}

/// What is looked for in feeds: the same, every hash there is, and the names of files and of hosts if
/// a feed has such indicators.
pub(super) fn looked_up(data: &EventData, sets: &[std::sync::Arc<IndicatorSet>]) -> Vec<Subject> {
    let names = || {
        sets.iter()
            .any(|set| set.has(Kind::Name) || set.has(Kind::Path))
    };
    let subjects = match data {
        EventData::Connection(_) | EventData::Loginlog(_) => [asked(data), None, None],
        EventData::Dns(dns) => {
            let domains =
                |set: &std::sync::Arc<IndicatorSet>| set.has(Kind::Domain) || set.has(Kind::Url);
            let wanted = sets.iter().any(domains);
            let name = wanted
                .then(|| Subject::domain("query", &dns.query))
                .flatten();
            [name, None, None]
        }
        EventData::Syscall(_) | EventData::Exit(_) | EventData::Loss(_) => [None, None, None],
        EventData::File(file) => [
            Subject::hash("hash", &file.hash),
            file.sha256
                .as_deref()
                .and_then(|hash| Subject::hash("sha256", hash)),
            names().then(|| Subject::file("path", &file.path)).flatten(),
        ],
        EventData::Process(process) => [
            process
                .md5
                .as_deref()
                .and_then(|hash| Subject::hash("md5", hash)),
            process
                .sha256
                .as_deref()
                .and_then(|hash| Subject::hash("sha256", hash)),
            names()
                .then(|| Subject::file("name", &process.name))
                .flatten(),
        ],
    };
    subjects.into_iter().flatten().collect()
}

/// Whether an address can belong to a stranger. What cannot is nobody's business outside, and no
/// feed knows anything about it.
pub(super) fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// By the IANA special-purpose registry (RFC 6890).
fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    let special = address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        // Carrier-grade NAT, RFC 6598.
        || (a == 100 && b & 0xc0 == 64)
        // Protocol assignments, RFC 6890; benchmarks, RFC 2544.
        || (a, b, c) == (192, 0, 0)
        || (a == 198 && b & 0xfe == 18)
        // Reserved, and broadcast.
        || a >= 240;
    !special
}

/// Global unicast only, without documentation (RFC 3849, RFC 9637); an address that carries one of
/// IPv4 (NAT64, 6to4) is what that one is.
fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded =
        |high: u16, low: u16| is_public_v4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match (a, b) {
        (0x64, 0xff9b) => [c, d, e, f] == [0; 4] && embedded(g, h),
        (0x2002, high) => embedded(high, c),
        (0x2001, 0x0db8) => false,
        (0x3fff, b) if b < 0x1000 => false,
        _ => a & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use yinglong_model::event::{Connection, File, Login, Process};

    use super::*;

    #[test]
    fn s20_only_addresses_of_strangers_are_public() {
        for (address, public) in [
            ("8.8.8.8", true),
            ("::ffff:8.8.8.8", true),
            ("100.63.255.255", true),
            ("100.64.0.0", false),
            ("100.127.255.255", false),
            ("100.128.0.0", true),
            ("10.0.0.1", false),
            ("172.16.0.1", false),
            ("172.32.0.1", true),
            ("192.168.1.1", false),
            ("::ffff:192.168.1.1", false),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("224.0.0.1", false),
            ("255.255.255.255", false),
            ("0.0.0.0", false),
            ("192.0.2.1", false),
            ("198.51.100.1", false),
            ("203.0.113.1", false),
            ("198.18.0.1", false),
            ("2606:4700::1111", true),
            ("::1", false),
            ("::", false),
            ("fe80::1", false),
            ("fc00::1", false),
            ("fd12::1", false),
            ("ff02::1", false),
            ("2001:db8::1", false),
            ("3fff::1", false),
            ("3fff:1000::1", true),
            ("64:ff9b::808:808", true),
            ("64:ff9b::a00:1", false),
            ("2002:808:808::1", true),
            ("2002:a00:1::1", false),
        ] {
            assert_eq!(is_public(address.parse().unwrap()), public, "{address}");
        }
    }

    #[test]
    fn each_type_of_event_is_asked_about_its_own_field() {
        let check = |data: EventData, expected: Option<(&str, &str)>| {
            let found = asked(&data);
            let found = found
                .as_ref()
                .map(|subject| (subject.field, subject.text.as_str()));
            assert_eq!(found, expected);
        };
        let connection = |remote_ip: &str| {
            EventData::Connection(Connection {
                remote_ip: remote_ip.into(),
                ..Connection::default()
            })
        };
        check(connection("8.8.8.8"), Some(("remote_ip", "8.8.8.8")));
        check(connection("10.0.0.1"), None);
        check(connection("nonsense"), None);
        let login = Login {
            remote: "9.9.9.9".into(),
            ..Login::default()
        };
        check(EventData::Loginlog(login), Some(("remote", "9.9.9.9")));
        check(EventData::Loginlog(Login::default()), None);
        let md5 = "d41d8cd98f00b204e9800998ecf8427e";
        let file = File {
            hash: md5.into(),
            ..File::default()
        };
        check(EventData::File(Box::new(file)), Some(("hash", md5)));
        let sha256 = "ab".repeat(32);
        let file = File {
            sha256: Some(sha256.clone()),
            ..File::default()
        };
        check(EventData::File(Box::new(file)), Some(("sha256", &sha256)));
        check(EventData::File(Box::default()), None);
        check(EventData::Process(Box::default()), None);
        let process = |md5: Option<&str>| {
            EventData::Process(Box::new(Process {
                md5: md5.map(str::to_owned),
                sha256: Some(sha256.clone()),
                ..Process::default()
            }))
        };
        check(process(Some(md5)), Some(("md5", md5)));
        check(process(None), Some(("sha256", &sha256)));
        let found = looked_up(&process(Some(md5)), &[]);
        let fields: Vec<&str> = found.iter().map(|subject| subject.field).collect();
        assert_eq!(fields, ["md5", "sha256"]);
    }
}
