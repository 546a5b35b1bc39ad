//! Where the cluster is, and how to be let in.

use std::{fmt, path::PathBuf, time::Duration};

use url::{Host, Url};
use yinglong_store::{Error, Kind, Result};
use zeroize::Zeroizing;

/// How to reach a cluster and what to keep there.
#[derive(Debug, Clone)]
pub struct Options {
    /// Addresses of nodes of the cluster, without credentials. Another one is taken when one does
    /// not answer.
    pub(crate) urls: Vec<Url>,
    /// Who we are there.
    pub credentials: Credentials,
    /// Certificates, PEM, of the authorities that sign the cluster's; those of the public web when
    /// `None`.
    pub ca_file: Option<PathBuf>,
    /// Name of the write-ahead log that is read into this store. The position in that log is kept
    /// under it, so a new log needs a new name.
    pub node: String,
    /// What the names of the monthly indexes begin with: `monitor` by the data contract.
    pub index_prefix: String,
    /// Longest time one request may take.
    pub request_timeout: Duration,
    /// Longest time a write is tried again before it is given back as unavailable.
    pub retry_for: Duration,
    /// Longest time to read events one by one for a count, where the cluster cannot count exactly.
    pub scan_for: Duration,
}

/// Who we are for the cluster. Its secrets are never shown.
#[derive(Clone, Default)]
pub enum Credentials {
    /// Nobody: the cluster asks for nothing.
    #[default]
    None,
    /// A user and the password.
    Basic {
        /// Name of the user.
        user: String,
        /// The password.
        password: Zeroizing<String>,
    },
    /// An API key as the cluster gives it out: `encoded`, base64 of id and key.
    ApiKey(Zeroizing<String>),
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Basic { user, .. } => write!(f, "Basic {{ user: {user:?}, password: *** }}"),
            Self::ApiKey(_) => f.write_str("ApiKey(***)"),
        }
    }
}

impl Credentials {
    /// Reads `user:password`, or `ApiKey` and the key, from a text of one line.
    ///
    /// # Errors
    /// `Invalid`: it is neither; the message does not repeat it.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if let Some(key) = text.strip_prefix("ApiKey ") {
            return Ok(Self::ApiKey(Zeroizing::new(key.trim().to_owned())));
        }
        match text.split_once(':') {
            Some((user, password)) if !user.is_empty() && !text.contains('\n') => Ok(Self::Basic {
                user: user.to_owned(),
                password: Zeroizing::new(password.to_owned()),
            }),
            _ => Err(Error::new(
                Kind::Invalid,
                "credentials are one line, `user:password` or `ApiKey` and the encoded key",
            )),
        }
    }
}

impl Options {
    /// A cluster at these addresses (`https://host:9200`), separated by commas. A user and a
    /// password in an address become the credentials.
    ///
    /// # Errors
    /// `Invalid`: something is no address of a cluster; the message does not repeat it, for it may
    /// hold a password.
    pub fn new(addresses: &str, node: &str) -> Result<Self> {
        let invalid = |reason: String| Error::new(Kind::Invalid, reason);
        let mut credentials = Credentials::None;
        let mut urls = Vec::new();
        for (number, address) in (1..).zip(addresses.split(',')) {
            let mut url = Url::parse(address.trim()).map_err(|error| {
                invalid(format!(
                    "address {number} of the event store is no address ({error}): \
                     write one like https://search-1:9200"
                ))
            })?;
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
                return Err(invalid(format!(
                    "address {number} of the event store has neither http nor https: \
                     write one like https://search-1:9200"
                )));
            }
            if let Some(password) = url.password() {
                credentials = Credentials::Basic {
                    user: decoded(url.username()),
                    password: Zeroizing::new(decoded(password)),
                };
            }
            // Cannot fail for http and https.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url.set_query(None);
            url.set_fragment(None);
            urls.push(url);
        }
        if !is_name(node) {
            return Err(invalid(format!(
                "`{node}` cannot name a node: use up to 128 letters, digits, `.`, `_` and `-`"
            )));
        }
        Ok(Self {
            urls,
            credentials,
            ca_file: None,
            node: node.to_owned(),
            index_prefix: "monitor".to_owned(),
            request_timeout: Duration::from_secs(30),
            retry_for: Duration::from_secs(10),
            scan_for: Duration::from_secs(60),
        })
    }

    /// Credentials must not cross a network in clear, and names must be names.
    pub(crate) fn check(&self) -> Result<()> {
        let has_secret = !matches!(self.credentials, Credentials::None);
        for url in &self.urls {
            if has_secret && url.scheme() == "http" && !is_this_machine(url) {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "credentials for {url} would cross the network in clear: use https there"
                    ),
                ));
            }
        }
        let prefix = &self.index_prefix;
        let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !is_name(prefix) || !prefix.chars().all(lower) || prefix.starts_with('-') {
            return Err(Error::new(
                Kind::Invalid,
                format!("index names cannot begin with `{prefix}`: use lower-case letters"),
            ));
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=128).contains(&text.len()) && text.chars().all(allowed)
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// A part of an address with its percent signs resolved.
fn decoded(part: &str) -> String {
    let query = format!("x={}", part.replace('+', "%2B"));
    url::form_urlencoded::parse(query.as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_out_of_addresses_and_never_shown() {
        let options = Options::new("https://us%40r:p%2Bw+d@search:9200,https://b", "n").unwrap();
        match &options.credentials {
            Credentials::Basic { user, password } => {
                assert_eq!((user.as_str(), password.as_str()), ("us@r", "p+w+d"));
            }
            other => panic!("{other:?}"),
        }
        let mut shown = format!("{options:?}");
        let key = Credentials::ApiKey(Zeroizing::new("c2VjcmV0".to_owned()));
        shown.push_str(&format!("{key:?}"));
        for secret in ["p+w+d", "p%2Bw", "c2VjcmV0"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        let error = Options::new("https://u:geheim@:x", "n").unwrap_err();
        assert!(!error.to_string().contains("geheim"), "{error}");
    }

    #[test]
    fn credentials_are_read_from_one_line() {
        let read = |text: &str| Credentials::parse(text);
        assert!(matches!(read("ApiKey abc=\n"), Ok(Credentials::ApiKey(key)) if *key == "abc="));
        let Ok(Credentials::Basic { user, password }) = read("writer:a:b\n") else {
            panic!("a colon may be in a password");
        };
        assert_eq!((user.as_str(), password.as_str()), ("writer", "a:b"));
        for bad in ["", "geheim", ":geheim", "a:geheim\nb:c"] {
            let error = read(bad).unwrap_err();
            assert!(!error.to_string().contains("geheim"), "{error}");
        }
    }

    #[test]
    fn credentials_need_https_beyond_this_machine() {
        let check = |address: &str| Options::new(address, "n").unwrap().check();
        assert!(check("http://u:p@127.0.0.1:9200").is_ok());
        assert!(check("http://u:p@[::1]:9200").is_ok());
        assert!(check("https://u:p@search:9200").is_ok());
        assert!(check("http://search:9200").is_ok());
        assert!(check("http://u:p@search:9200").is_err());
    }

    #[test]
    fn names_that_cannot_be_are_refused() {
        for node in ["", "a/b", "../x", &"n".repeat(129)] {
            assert!(Options::new("http://localhost", node).is_err(), "{node}");
        }
        for prefix in ["", "Monitor", "-x", "a*", "a,b"] {
            let mut options = Options::new("http://localhost", "n").unwrap();
            options.index_prefix = prefix.to_owned();
            assert!(options.check().is_err(), "{prefix}");
        }
        assert!(Options::new("ftp://localhost", "n").is_err());
    }
}
