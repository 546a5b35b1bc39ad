//! Lists as they are documented: one entry after the other, each with its own expression.

use std::{borrow::Cow, net::IpAddr};

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};
use yinglong_detect::Element;
use yinglong_model::{EventType, InventoryType, config::List, event::System};
use yinglong_rules::{Class, Source};

/// A list, each entry compiled on its own; those that do not compile are left out.
pub(crate) struct Loop {
    process: Vec<(String, Regex)>,
    paths: Vec<(String, Regex)>,
    hashes: Vec<String>,
    jobs: Vec<(String, Regex)>,
    other: Vec<(String, Regex)>,
    networks: Vec<(String, IpNet)>,
}

impl Loop {
    pub(crate) fn new(list: &List) -> Self {
        let (hashes, paths): (Vec<String>, Vec<String>) = list
            .file
            .iter()
            .cloned()
            .partition(|entry| is_hash(entry.trim()));
        Self {
            process: compile(&list.process),
            paths: compile(&paths),
            hashes,
            jobs: compile(&list.file),
            other: compile(&list.other),
            networks: list
                .ip
                .iter()
                .filter_map(|entry| Some((entry.clone(), network(entry.trim())?)))
                .collect(),
        }
    }

    /// The first entry that matches, with the value it matched.
    pub(crate) fn find(&self, element: &Element<'_>) -> Option<(String, String)> {
        let Class::Source(source) = element.class else {
            return None;
        };
        match source {
            Source::Event(EventType::Process) => self
                .hash("md5", element)
                .or_else(|| found(&self.process, &["name", "exe", "command"], element)),
            Source::Event(EventType::Syscall | EventType::Exit) => {
                found(&self.process, &["name", "exe", "command"], element)
            }
            Source::Event(EventType::Connection) => self.in_network("remote_ip", element),
            Source::Event(EventType::Loginlog) => self.in_network("remote", element),
            Source::Event(EventType::File) => self
                .hash("hash", element)
                .or_else(|| found(&self.paths, &["path"], element)),
            Source::Inventory(InventoryType::Crontab) => found(&self.jobs, &["command"], element),
            Source::Event(EventType::Loss) => None,
            Source::Event(EventType::Dns) => found(&self.other, &["query"], element),
            Source::Inventory(InventoryType::Sshkey) => {
                found(&self.other, &["fingerprint"], element)
            }
            Source::Inventory(InventoryType::Container) => {
                found(&self.other, &["name", "image"], element)
            }
            Source::Inventory(_) => found(&self.other, &["name"], element),
        }
    }

    fn hash(&self, md5: &str, element: &Element<'_>) -> Option<(String, String)> {
        [md5, "sha256"].into_iter().find_map(|field| {
            let value = element.fields.get(field)?;
            let mut hashes = self.hashes.iter();
            let entry = hashes.find(|entry| entry.trim().eq_ignore_ascii_case(&value))?;
            Some((entry.clone(), value.into_owned()))
        })
    }

    fn in_network(&self, field: &str, element: &Element<'_>) -> Option<(String, String)> {
        let value = element.fields.get(field)?;
        let address = value.parse::<IpAddr>().ok()?.to_canonical();
        let mut networks = self.networks.iter();
        let (entry, _) = networks.find(|(_, network)| network.contains(&address))?;
        Some((entry.clone(), value.into_owned()))
    }
}

fn found(
    entries: &[(String, Regex)],
    fields: &[&str],
    element: &Element<'_>,
) -> Option<(String, String)> {
    let values: Vec<(bool, Cow<'_, str>)> = fields
        .iter()
        .filter_map(|field| {
            let is_program = matches!(*field, "name" | "exe");
            Some((is_program, element.fields.get(field)?))
        })
        .filter(|(_, value)| !value.is_empty())
        .collect();
    entries.iter().find_map(|(entry, regex)| {
        let (_, value) = values.iter().find(|(is_program, value)| {
            regex.is_match(value) || *is_program && regex.is_match(base(value, element.system))
        })?;
        Some((entry.clone(), value.clone().into_owned()))
    })
}

fn base(path: &str, system: System) -> &str {
    let separators: &[char] = match system {
        System::Linux => &['/'],
        System::Windows => &['/', '\\'],
    };
    path.rsplit(separators).next().unwrap_or("")
}

fn compile(entries: &[String]) -> Vec<(String, Regex)> {
    let compile = |entry: &String| {
        let regex = RegexBuilder::new(entry)
            .case_insensitive(true)
            .size_limit(10 << 20)
            .build();
        Some((entry.clone(), regex.ok()?))
    };
    let entries = entries.iter().filter(|entry| !entry.is_empty());
    entries.filter_map(compile).collect()
}

fn is_hash(entry: &str) -> bool {
    matches!(entry.len(), 32 | 64) && entry.bytes().all(|b| b.is_ascii_hexdigit())
}

fn network(text: &str) -> Option<IpNet> {
    match text.parse::<IpAddr>() {
        Ok(address) => Some(IpNet::from(address.to_canonical())),
        Err(_) => text.parse().ok(),
    }
}
