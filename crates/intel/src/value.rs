//! What an indicator looks for, in the one form it is compared in.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use url::Url;

/// Longest domain, by RFC 1035, in bytes.
const DOMAIN_BYTES: usize = 253;
/// Longest URL that is kept, in bytes.
const URL_BYTES: usize = 4096;
/// Longest path that is kept, in bytes: `PATH_MAX` of Linux.
const PATH_BYTES: usize = 4096;
/// Widest networks that are taken. A feed that names a wider one holds a mistake, or addresses that
/// nobody can have; it would raise an alert for every other connection.
const WIDEST_V4: u8 = 8;
const WIDEST_V6: u8 = 16;

/// What kind of thing an indicator names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An address.
    Ip,
    /// A network.
    Cidr,
    /// A domain and everything below it.
    Domain,
    /// A URL.
    Url,
    /// MD5 of a file.
    Md5,
    /// SHA-1 of a file.
    Sha1,
    /// SHA-256 of a file.
    Sha256,
    /// Name of a file, in any folder.
    Name,
    /// Path of a file.
    Path,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Ip,
        Self::Cidr,
        Self::Domain,
        Self::Url,
        Self::Md5,
        Self::Sha1,
        Self::Sha256,
        Self::Name,
        Self::Path,
    ];

    /// Name used in documents and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Cidr => "cidr",
            Self::Domain => "domain",
            Self::Url => "url",
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Name => "name",
            Self::Path => "path",
        }
    }
}

/// Why a text is no indicator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Unusable {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// None of the kinds.
    #[error("it is no address, network, domain, URL, MD5, SHA-1 or SHA-256")]
    Unknown,
    /// Not what the feed says it is.
    #[error("it is not of the kind the feed says it is")]
    WrongKind,
    /// Too long to be one.
    #[error("it is too long")]
    TooLong,
    /// Names half the internet.
    #[error(
        "the network is wider than /8 (IPv4) or /16 (IPv6); nearly every connection would match"
    )]
    TooWide,
    /// A top-level domain.
    #[error("a single label would match everything below a top-level domain; write it with a dot")]
    OneLabel,
}

/// What an indicator looks for. Made by [`Value::parse`] and its relatives only, so that equal
/// things are equal: addresses canonical, networks cut to their prefix, names in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// An address; IPv4 in its IPv6 form is IPv4.
    Ip(IpAddr),
    /// A network narrower than one address and no wider than /8 or /16.
    Cidr(IpNet),
    /// Lower-case ASCII (punycode), without a final dot, of at least two labels.
    Domain(String),
    /// As the URL standard serialises it, without fragment.
    Url(String),
    /// MD5.
    Md5([u8; 16]),
    /// SHA-1.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
    /// File name in lower case.
    Name(String),
    /// File path in lower case, with slashes.
    Path(String),
}

impl Value {
    /// Reads a value whose kind has to be found out. A file name cannot be told from a domain and
    /// is read as one; an address may have a port, which is dropped; the usual ways to make an
    /// indicator unclickable (`hxxp://`, `1[.]2[.]3[.]4`) are undone.
    ///
    /// # Errors
    /// See [`Unusable`].
    pub fn parse(text: &str) -> Result<Self, Unusable> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Unusable::Empty);
        }
        if text.len() > URL_BYTES {
            return Err(Unusable::TooLong);
        }
        let armed = refang(text);
        let text = armed.as_str();
        if let Some(found) = address(text) {
            return found;
        }
        if let Ok(hash) = Self::hash(text) {
            return Ok(hash);
        }
        if text.contains("://") {
            return Self::url(text);
        }
        if is_absolute(text) {
            return Self::path(text);
        }
        match Self::domain(text) {
            Err(Unusable::WrongKind) => Err(Unusable::Unknown),
            other => other,
        }
    }

    /// Reads a value that is said to be of a kind. Addresses and networks count as one kind, and so
    /// do names and paths of files.
    ///
    /// # Errors
    /// It is not, or cannot be used.
    pub fn parse_as(kind: Kind, text: &str) -> Result<Self, Unusable> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Unusable::Empty);
        }
        let value = match kind {
            Kind::Ip | Kind::Cidr => address(&refang(text)).ok_or(Unusable::WrongKind)??,
            Kind::Domain => Self::domain(&refang(text))?,
            Kind::Url => Self::url(&refang(text))?,
            Kind::Md5 | Kind::Sha1 | Kind::Sha256 => Self::hash(text)?,
            Kind::Name | Kind::Path if text.contains(['/', '\\']) => Self::path(text)?,
            Kind::Name | Kind::Path => Self::name(text)?,
        };
        let is_hash = matches!(kind, Kind::Md5 | Kind::Sha1 | Kind::Sha256);
        if is_hash && value.kind() != kind {
            return Err(Unusable::WrongKind);
        }
        Ok(value)
    }

    /// An address, as it is compared.
    pub fn ip(address: IpAddr) -> Self {
        Self::Ip(address.to_canonical())
    }

    /// A network; one of a single address is that address.
    ///
    /// # Errors
    /// It is too wide.
    pub fn network(network: IpNet) -> Result<Self, Unusable> {
        let network = match network {
            // ::ffff:a.b.c.d/n is a network of IPv4 addresses.
            IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.network().to_ipv4_mapped() {
                Some(v4) => ipnet::Ipv4Net::new(v4, v6.prefix_len() - 96)
                    .map_err(|_| Unusable::WrongKind)?
                    .into(),
                None => network,
            },
            other => other,
        };
        if network.prefix_len() == network.max_prefix_len() {
            return Ok(Self::ip(network.addr()));
        }
        let widest = match network {
            IpNet::V4(_) => WIDEST_V4,
            IpNet::V6(_) => WIDEST_V6,
        };
        if network.prefix_len() < widest {
            return Err(Unusable::TooWide);
        }
        Ok(Self::Cidr(network.trunc()))
    }

    /// A hash, told by its length.
    ///
    /// # Errors
    /// It has not 32, 40 or 64 hexadecimal digits.
    pub fn hash(text: &str) -> Result<Self, Unusable> {
        match text.len() {
            32 => unhex(text).map(Self::Md5),
            40 => unhex(text).map(Self::Sha1),
            64 => unhex(text).map(Self::Sha256),
            _ => None,
        }
        .ok_or(Unusable::WrongKind)
    }

    /// A domain. A leading `*.` or dot means the same as none: what is below matches anyway.
    ///
    /// # Errors
    /// It is none, or has a single label.
    pub fn domain(text: &str) -> Result<Self, Unusable> {
        let text = text.strip_prefix("*.").unwrap_or(text);
        let text = text.trim_start_matches('.').trim_end_matches('.');
        if text.len() > DOMAIN_BYTES {
            return Err(Unusable::TooLong);
        }
        let ascii = match url::Host::parse(text) {
            Ok(url::Host::Domain(domain)) => domain,
            _ => return Err(Unusable::WrongKind),
        };
        if ascii.len() > DOMAIN_BYTES {
            return Err(Unusable::TooLong);
        }
        let labels_fine = ascii.split('.').all(|label| {
            matches!(label.len(), 1..=63)
                && label
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        });
        if !labels_fine {
            return Err(Unusable::WrongKind);
        }
        if ascii.contains('.') {
            Ok(Self::Domain(ascii))
        } else {
            Err(Unusable::OneLabel)
        }
    }

    /// A URL.
    ///
    /// # Errors
    /// It is none, or has no host.
    pub fn url(text: &str) -> Result<Self, Unusable> {
        if text.len() > URL_BYTES {
            return Err(Unusable::TooLong);
        }
        let mut url = Url::parse(text).map_err(|_| Unusable::WrongKind)?;
        if !url.has_host() {
            return Err(Unusable::WrongKind);
        }
        url.set_fragment(None);
        if url.as_str().len() > URL_BYTES {
            return Err(Unusable::TooLong);
        }
        Ok(Self::Url(url.into()))
    }

    /// A file name.
    ///
    /// # Errors
    /// It is none.
    pub fn name(text: &str) -> Result<Self, Unusable> {
        if text.contains(['/', '\\']) || text.contains(char::is_control) {
            return Err(Unusable::WrongKind);
        }
        bounded(text.to_lowercase()).map(Self::Name)
    }

    /// A file path.
    ///
    /// # Errors
    /// It is not absolute.
    pub fn path(text: &str) -> Result<Self, Unusable> {
        if !is_absolute(text) || text.contains(char::is_control) {
            return Err(Unusable::WrongKind);
        }
        // Windows does not tell cases apart; on Linux a hit too many is better than one too few.
        bounded(text.to_lowercase().replace('\\', "/")).map(Self::Path)
    }

    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Ip(_) => Kind::Ip,
            Self::Cidr(_) => Kind::Cidr,
            Self::Domain(_) => Kind::Domain,
            Self::Url(_) => Kind::Url,
            Self::Md5(_) => Kind::Md5,
            Self::Sha1(_) => Kind::Sha1,
            Self::Sha256(_) => Kind::Sha256,
            Self::Name(_) => Kind::Name,
            Self::Path(_) => Kind::Path,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Cidr(network) => network.fmt(f),
            Self::Domain(text) | Self::Url(text) | Self::Name(text) | Self::Path(text) => {
                f.write_str(text)
            }
            Self::Md5(digest) => hex(f, digest),
            Self::Sha1(digest) => hex(f, digest),
            Self::Sha256(digest) => hex(f, digest),
        }
    }
}

fn bounded(text: String) -> Result<String, Unusable> {
    match text.len() {
        0 => Err(Unusable::Empty),
        1..=PATH_BYTES => Ok(text),
        _ => Err(Unusable::TooLong),
    }
}

fn is_absolute(text: &str) -> bool {
    let windows =
        matches!(text.as_bytes(), [drive, b':', b'\\' | b'/', ..] if drive.is_ascii_alphabetic());
    // Without a name there is nothing to find.
    (text.starts_with('/') && text.len() > 1) || (windows && text.len() > 3)
}

/// `None` when the text is neither address nor network.
fn address(text: &str) -> Option<Result<Value, Unusable>> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(Ok(Value::ip(address)));
    }
    if let Ok(network) = text.parse::<IpNet>() {
        return Some(Value::network(network));
    }
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        let (inside, port) = inner;
        let has_port = port.is_empty() || is_port(port.strip_prefix(':')?);
        let address = inside.parse::<Ipv6Addr>().ok().filter(|_| has_port)?;
        return Some(Ok(Value::ip(address.into())));
    }
    let (host, port) = text.split_once(':')?;
    let address = host.parse::<Ipv4Addr>().ok().filter(|_| is_port(port))?;
    Some(Ok(Value::ip(address.into())))
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

fn refang(text: &str) -> String {
    let mut armed = text
        .replace("[.]", ".")
        .replace("(.)", ".")
        .replace("[dot]", ".")
        .replace("[:]", ":")
        .replace("[://]", "://");
    let scheme = armed
        .get(..4)
        .is_some_and(|s| s.eq_ignore_ascii_case("hxxp"));
    if scheme {
        armed.replace_range(..4, "http");
    }
    armed
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut digest = [0; N];
    let mut pairs = text.as_bytes().chunks_exact(2);
    for (byte, pair) in digest.iter_mut().zip(&mut pairs) {
        let [high, low] = pair else { return None };
        let high = char::from(*high).to_digit(16)?;
        let low = char::from(*low).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(digest)
}

fn hex(f: &mut fmt::Formatter<'_>, digest: &[u8]) -> fmt::Result {
    digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_to_one_form() {
        let check = |text: &str, kind: Kind, shown: &str| {
            let value = Value::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(
                (value.kind(), value.to_string().as_str()),
                (kind, shown),
                "{text}"
            );
            // What is shown reads as the same again.
            assert_eq!(Value::parse(&value.to_string()), Ok(value), "{text}");
        };
        check("198.51.100.7", Kind::Ip, "198.51.100.7");
        check(" 198[.]51[.]100[.]7 ", Kind::Ip, "198.51.100.7");
        check("198.51.100.7:443", Kind::Ip, "198.51.100.7");
        check("::ffff:198.51.100.7", Kind::Ip, "198.51.100.7");
        check("198.51.100.7/32", Kind::Ip, "198.51.100.7");
        check("2001:DB8::1", Kind::Ip, "2001:db8::1");
        check("[2001:db8::1]:443", Kind::Ip, "2001:db8::1");
        check("198.51.100.77/24", Kind::Cidr, "198.51.100.0/24");
        check("::ffff:198.51.100.0/120", Kind::Cidr, "198.51.100.0/24");
        check("2001:db8::1/32", Kind::Cidr, "2001:db8::/32");
        check("Evil.Example.", Kind::Domain, "evil.example");
        check("*.evil.example", Kind::Domain, "evil.example");
        check("evil[.]example", Kind::Domain, "evil.example");
        check("bücher.example", Kind::Domain, "xn--bcher-kva.example");
        check(
            "hxxp://Evil.example:80/A?b#c",
            Kind::Url,
            "http://evil.example/A?b",
        );
        check(
            "D41D8CD98F00B204E9800998ECF8427E",
            Kind::Md5,
            "d41d8cd98f00b204e9800998ecf8427e",
        );
        check(&"a".repeat(40), Kind::Sha1, &"a".repeat(40));
        check(&"0".repeat(64), Kind::Sha256, &"0".repeat(64));
        check("/tmp/.X/Miner", Kind::Path, "/tmp/.x/miner");
        check("C:\\Windows\\evil.exe", Kind::Path, "c:/windows/evil.exe");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (text, reason) in [
            ("", Unusable::Empty),
            ("0.0.0.0/0", Unusable::TooWide),
            ("10.0.0.0/7", Unusable::TooWide),
            ("::/0", Unusable::TooWide),
            ("com", Unusable::OneLabel),
            ("not an indicator", Unusable::Unknown),
            ("a..b", Unusable::Unknown),
            ("http://", Unusable::WrongKind),
            ("198.51.100.7:99999", Unusable::Unknown),
            ("zz1d8cd98f00b204e9800998ecf8427e", Unusable::OneLabel),
        ] {
            assert_eq!(Value::parse(text), Err(reason), "{text}");
        }
        assert_eq!(Value::parse(&"a".repeat(9000)), Err(Unusable::TooLong));
    }

    #[test]
    fn a_stated_kind_is_held_against_the_value() {
        assert_eq!(
            Value::parse_as(Kind::Name, "Invoice.EXE"),
            Ok(Value::Name("invoice.exe".into()))
        );
        assert_eq!(
            Value::parse_as(Kind::Name, "/tmp/x"),
            Ok(Value::Path("/tmp/x".into()))
        );
        for (kind, text) in [
            (Kind::Sha256, "d41d8cd98f00b204e9800998ecf8427e"),
            (Kind::Ip, "evil.example"),
            (Kind::Domain, "198.51.100.7"),
            (Kind::Path, "relative/path"),
        ] {
            assert_eq!(
                Value::parse_as(kind, text),
                Err(Unusable::WrongKind),
                "{text}"
            );
        }
    }
}
