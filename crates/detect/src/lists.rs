//! Black and white lists: what an entry is compared with depends on the type of the element.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;
use regex::Regex;
use yinglong_model::{EventType, InventoryType, alert::Matched, config::List, rule::Level};
use yinglong_rules::{Diagnostic, Source, pattern};

use crate::{BLACKLIST, Detection, Element, detection::info, element::base_name};

/// A compiled list.
pub(crate) struct Matcher {
    process: Vec<Pattern>,
    /// Paths.
    file: Vec<Pattern>,
    /// MD5 or SHA-256, lower case.
    hashes: Vec<(String, String)>,
    /// All of `file` as patterns, for commands of jobs.
    jobs: Vec<Pattern>,
    other: Vec<Pattern>,
    networks: Vec<(String, IpNet)>,
}

struct Pattern {
    entry: String,
    regex: Regex,
}

/// An entry that matched.
pub(crate) struct Hit<'m> {
    pub(crate) entry: &'m str,
    field: &'static str,
    value: String,
}

impl Hit<'_> {
    /// The alert of a black list hit.
    pub(crate) fn into_detection(self) -> Detection {
        let matched = vec![Matched {
            field: self.field.to_owned(),
            value: self.value,
            condition: format!("{BLACKLIST} {}", self.entry),
            spans: Vec::new(),
        }];
        Detection {
            source: BLACKLIST.to_owned(),
            rule_id: String::new(),
            level: Level::Danger,
            severity: "critical".to_owned(),
            info: info(&matched),
            description: format!("On the black list: {}", self.entry),
            description_zh: format!("命中黑名单：{}", self.entry),
            attack: Vec::new(),
            matched,
        }
    }
}

impl Matcher {
    pub(crate) fn new(document: &str, list: &List, diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut compile = |key: &str, entries: &[String]| -> Vec<Pattern> {
            let mut patterns = Vec::with_capacity(entries.len());
            for (index, entry) in entries.iter().enumerate() {
                match compile_entry(entry) {
                    Ok(regex) => patterns.push(Pattern {
                        entry: entry.clone(),
                        regex,
                    }),
                    Err(reason) => diagnostics.push(refused(document, key, index, reason)),
                }
            }
            patterns
        };
        let process = compile("process", &list.process);
        let other = compile("other", &list.other);
        let jobs = compile("file", &list.file);
        let (hashes, paths): (Vec<_>, Vec<_>) =
            list.file.iter().partition(|entry| is_hash(entry.trim()));
        let file = paths
            .into_iter()
            .filter_map(|entry| {
                Some(Pattern {
                    entry: entry.clone(),
                    regex: compile_entry(entry).ok()?,
                })
            })
            .collect();
        let mut networks = Vec::with_capacity(list.ip.len());
        for (index, entry) in list.ip.iter().enumerate() {
            match parse_network(entry.trim()) {
                Some(network) => networks.push((entry.clone(), network)),
                None => diagnostics.push(refused(
                    document,
                    "ip",
                    index,
                    format!("`{entry}` is neither an address nor a network like 10.0.0.0/8"),
                )),
            }
        }
        Self {
            process,
            file,
            hashes: hashes
                .into_iter()
                .map(|entry| (entry.clone(), entry.trim().to_ascii_lowercase()))
                .collect(),
            jobs,
            other,
            networks,
        }
    }

    /// The first entry that matches, in the order of the list.
    pub(crate) fn find(&self, source: Source, element: &Element<'_>) -> Option<Hit<'_>> {
        match source {
            Source::Event(EventType::Process | EventType::Syscall) => {
                let fields = ["name", "exe", "command"];
                find_pattern(&self.process, &fields, element)
            }
            Source::Event(EventType::Connection) => self.find_network("remote_ip", element),
            Source::Event(EventType::Loginlog) => self.find_network("remote", element),
            Source::Event(EventType::Dns) => find_pattern(&self.other, &["query"], element),
            Source::Event(EventType::File) => self
                .find_hash(element)
                .or_else(|| find_pattern(&self.file, &["path"], element)),
            Source::Inventory(InventoryType::Crontab) => {
                find_pattern(&self.jobs, &["command"], element)
            }
            Source::Inventory(_) => find_pattern(&self.other, &["name"], element),
        }
    }

    fn find_hash(&self, element: &Element<'_>) -> Option<Hit<'_>> {
        if self.hashes.is_empty() {
            return None;
        }
        ["hash", "sha256"].into_iter().find_map(|field| {
            let value = element.fields.get(field)?;
            let (entry, _) = self
                .hashes
                .iter()
                .find(|(_, hash)| hash.eq_ignore_ascii_case(&value))?;
            Some(Hit {
                entry,
                field,
                value: value.into_owned(),
            })
        })
    }

    fn find_network(&self, field: &'static str, element: &Element<'_>) -> Option<Hit<'_>> {
        if self.networks.is_empty() {
            return None;
        }
        let value = element.fields.get(field)?;
        let address = value.parse::<IpAddr>().ok()?.to_canonical();
        let (entry, _) = self
            .networks
            .iter()
            .find(|(_, network)| network.contains(&address))?;
        Some(Hit {
            entry,
            field,
            value: value.into_owned(),
        })
    }
}

fn find_pattern<'m>(
    patterns: &'m [Pattern],
    fields: &[&'static str],
    element: &Element<'_>,
) -> Option<Hit<'m>> {
    if patterns.is_empty() {
        return None;
    }
    let values: Vec<(&'static str, Cow<'_, str>)> = fields
        .iter()
        .filter_map(|field| Some((*field, element.fields.get(field)?)))
        .filter(|(_, value)| !value.is_empty())
        .collect();
    patterns.iter().find_map(|pattern| {
        let (field, value) = values.iter().find(|(field, value)| {
            let base = matches!(*field, "name" | "exe").then(|| base_name(value, element.system));
            pattern.regex.is_match(value) || base.is_some_and(|base| pattern.regex.is_match(base))
        })?;
        Some(Hit {
            entry: &pattern.entry,
            field,
            value: value.clone().into_owned(),
        })
    })
}

fn compile_entry(entry: &str) -> Result<Regex, String> {
    if entry.is_empty() {
        return Err("an empty pattern matches everything; remove it".to_owned());
    }
    pattern::compile(entry).map_err(|error| format!("not a regular expression: {error}"))
}

/// Whether an entry of the file list is a hash rather than a pattern of paths.
fn is_hash(entry: &str) -> bool {
    matches!(entry.len(), 32 | 64) && entry.bytes().all(|b| b.is_ascii_hexdigit())
}

/// An address, or a network; IPv4 in its IPv6 form means the same as without it.
fn parse_network(text: &str) -> Option<IpNet> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(IpNet::from(address.to_canonical()));
    }
    text.parse().ok()
}

fn refused(document: &str, key: &str, index: usize, reason: String) -> Diagnostic {
    let mut diagnostic = Diagnostic::error(format!("{document}.{key}[{index}]"), reason);
    document.clone_into(&mut diagnostic.rule);
    diagnostic
}
