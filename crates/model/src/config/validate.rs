//! Checks that run before a configuration document is stored.

use ipnet::IpNet;
use regex::RegexBuilder;
use url::Url;

use super::{Client, Config, Filter, Intelligence, List, Notice, Server};

/// Keys whose values never leave the server and are never written to a log.
pub const SECRET_KEYS: &[(&str, &str)] = &[("server", "privatekey"), ("web", "tfakey")];

/// Bytes a compiled pattern may use; a larger one would stall whoever runs it.
const PATTERN_SIZE_LIMIT: usize = 10 << 20;

/// Why a configuration document is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{document}.{key}: {reason}")]
pub struct Invalid {
    /// Document.
    pub document: &'static str,
    /// Key in it.
    pub key: String,
    /// What is wrong and what would be right.
    pub reason: String,
}

type Check = Result<(), Invalid>;

fn invalid(document: &'static str, key: impl Into<String>, reason: impl Into<String>) -> Check {
    Err(Invalid {
        document,
        key: key.into(),
        reason: reason.into(),
    })
}

impl Config {
    /// Checks every document.
    ///
    /// # Errors
    /// The first key whose value cannot work, with the reason.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.client.validate()?;
        self.server.validate()?;
        self.intelligence.validate()?;
        self.notice.validate()?;
        self.whitelist.validate("whitelist")?;
        self.blacklist.validate("blacklist")?;
        self.filter.validate()
    }
}

impl Client {
    fn validate(&self) -> Check {
        range("client", "cycle", self.cycle, 1, 1440)?;
        for (index, path) in self.monitor_path.iter().enumerate() {
            let placeholder = path.starts_with('%');
            let windows = path.as_bytes().get(1) == Some(&b':');
            if !placeholder && !windows && !path.starts_with('/') {
                return invalid(
                    "client",
                    format!("monitorPath[{index}]"),
                    format!(
                        "`{path}` is not absolute; write a full path, `%web%`, `%windows%` or `%system32%`"
                    ),
                );
            }
        }
        Ok(())
    }
}

impl Server {
    fn validate(&self) -> Check {
        range("server", "retentionDays", self.retention_days, 1, 3650)?;
        if self.privatekey.is_empty() {
            Ok(())
        } else {
            invalid(
                "server",
                "privatekey",
                "private keys are kept in the data folder only; leave it empty",
            )
        }
    }
}

impl Intelligence {
    fn validate(&self) -> Check {
        pattern("intelligence", "regex", &self.regex)?;
        template("intelligence", "ipapi", &self.ipapi, "{$ip}")?;
        template("intelligence", "fileapi", &self.fileapi, "{$hash}")?;
        if self.switch && self.ipapi.is_empty() && self.fileapi.is_empty() {
            return invalid(
                "intelligence",
                "switch",
                "set ipapi or fileapi before switching it on",
            );
        }
        Ok(())
    }
}

impl Notice {
    fn validate(&self) -> Check {
        template("notice", "api", &self.api, "{$info}")?;
        if self.switch && self.api.is_empty() {
            return invalid("notice", "switch", "set api before switching it on");
        }
        Ok(())
    }
}

impl List {
    fn validate(&self, document: &'static str) -> Check {
        patterns(document, "file", &self.file)?;
        patterns(document, "process", &self.process)?;
        patterns(document, "other", &self.other)?;
        networks(document, &self.ip)
    }
}

impl Filter {
    fn validate(&self) -> Check {
        patterns("filter", "file", &self.file)?;
        patterns("filter", "process", &self.process)?;
        networks("filter", &self.ip)
    }
}

fn range(document: &'static str, key: &str, value: u32, low: u32, high: u32) -> Check {
    if (low..=high).contains(&value) {
        Ok(())
    } else {
        invalid(
            document,
            key,
            format!("{value} is not between {low} and {high}"),
        )
    }
}

fn pattern(document: &'static str, key: &str, text: &str) -> Check {
    if text.is_empty() {
        return invalid(
            document,
            key,
            "an empty pattern matches everything; remove it",
        );
    }
    match RegexBuilder::new(text)
        .case_insensitive(true)
        .size_limit(PATTERN_SIZE_LIMIT)
        .build()
    {
        Ok(_) => Ok(()),
        Err(error) => invalid(document, key, format!("not a regular expression: {error}")),
    }
}

fn patterns(document: &'static str, key: &str, list: &[String]) -> Check {
    list.iter()
        .enumerate()
        .try_for_each(|(i, text)| pattern(document, &format!("{key}[{i}]"), text))
}

fn networks(document: &'static str, list: &[String]) -> Check {
    for (index, text) in list.iter().enumerate() {
        if text.parse::<IpNet>().is_err() && text.parse::<std::net::IpAddr>().is_err() {
            let reason = format!("`{text}` is neither an address nor a network like 10.0.0.0/8");
            return invalid(document, format!("ip[{index}]"), reason);
        }
    }
    Ok(())
}

fn template(document: &'static str, key: &str, text: &str, placeholder: &str) -> Check {
    if text.is_empty() {
        return Ok(());
    }
    if !text.contains(placeholder) {
        return invalid(document, key, format!("the URL has no {placeholder}"));
    }
    match Url::parse(&text.replace(placeholder, "x")) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(()),
        Ok(_) => invalid(document, key, "the URL must start with http:// or https://"),
        Err(error) => invalid(document, key, format!("not a URL: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(change: impl FnOnce(&mut Config)) -> Option<String> {
        let mut config = Config::default();
        change(&mut config);
        config
            .validate()
            .err()
            .map(|e| format!("{}.{}", e.document, e.key))
    }

    #[test]
    fn defaults_are_valid_and_have_the_contract_keys() {
        assert_eq!(Config::default().validate(), Ok(()));
        let document = serde_json::to_value(Config::default()).unwrap();
        assert_eq!(document["client"]["cycle"], 2);
        assert_eq!(document["client"]["monitorPath"][2], "%web%");
        assert_eq!(document["server"]["learn"], true);
        assert_eq!(document["intelligence"]["regex"], "black");
        for kind in Config::TYPES {
            assert!(document.get(kind).is_some(), "{kind}");
        }
    }

    #[test]
    fn names_the_key_that_cannot_work() {
        type Change = fn(&mut Config);
        let cases: &[(&str, Change)] = &[
            ("client.cycle", |c| c.client.cycle = 0),
            ("client.monitorPath[0]", |c| {
                c.client.monitor_path = vec!["etc".into()]
            }),
            ("server.privatekey", |c| c.server.privatekey = "x".into()),
            ("server.retentionDays", |c| c.server.retention_days = 0),
            ("intelligence.regex", |c| c.intelligence.regex = "(".into()),
            ("intelligence.ipapi", |c| {
                c.intelligence.ipapi = "http://x/".into()
            }),
            ("notice.api", |c| c.notice.api = "ftp://x/{$info}".into()),
            ("notice.switch", |c| c.notice.switch = true),
            ("whitelist.process[1]", |c| {
                c.whitelist.process = vec!["a".into(), "[".into()]
            }),
            ("blacklist.ip[0]", |c| {
                c.blacklist.ip = vec!["10.0.0.0/33".into()]
            }),
            ("filter.file[0]", |c| c.filter.file = vec![String::new()]),
        ];
        for (expected, change) in cases {
            assert_eq!(key_of(*change).as_deref(), Some(*expected));
        }
    }

    #[test]
    fn a_misspelt_key_is_refused() {
        assert!(serde_json::from_str::<Client>(r#"{"cylce": 5}"#).is_err());
    }
}
