//! Black and white lists: what an entry is compared with depends on the type of the element.
//!
//! - **Guarantees**: what is reported is the first entry of the list that matches; for files and
//!   executions a hash comes before a path. Lists of tens of thousands of entries cost about as much per element as
//!   short ones, as long as the patterns have a text in them: a pattern without one (`^..$`) is
//!   tried on every value.
//! - **Invariants**: an entry that does not compile is reported and left out; the others are as if it
//!   were not there.

use std::net::IpAddr;

use ipnet::IpNet;
use rustc_hash::FxHashMap;
use yinglong_model::{EventType, InventoryType, alert::Matched, config::List, rule::Level};
use yinglong_rules::{Diagnostic, Source, ir::Test, pattern};

use crate::{
    BLACKLIST, Detection, Element,
    detection::info,
    element::base_name,
    engine::{Flags, Networks, PatternScratch, Patterns, as_pattern, is_surely_small},
};

/// A compiled list.
pub(crate) struct Matcher {
    process: Part,
    file: Part,
    other: Part,
    /// First entry of each MD5 or SHA-256, lower case.
    hashes: FxHashMap<Box<str>, u32>,
    /// Whether entries of `file` are hashes; no paths are compared with those.
    is_hash: Vec<bool>,
    networks: Networks,
    /// Entries of addresses, by number.
    ip: Vec<String>,
}

/// Entries of one kind with their patterns.
struct Part {
    entries: Vec<String>,
    patterns: Patterns,
}

/// Working memory of one thread for one list.
#[derive(Default)]
pub(crate) struct ListScratch {
    process: PatternScratch,
    file: PatternScratch,
    other: PatternScratch,
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
        let mut refuse = |key: &str, index: usize, reason| {
            diagnostics.push(refused(document, key, index, reason));
        };
        let process = Part::new(&list.process, |i, reason| refuse("process", i, reason));
        let other = Part::new(&list.other, |i, reason| refuse("other", i, reason));
        let file = Part::new(&list.file, |i, reason| refuse("file", i, reason));
        let mut hashes = FxHashMap::default();
        let mut is_hash = Vec::with_capacity(list.file.len());
        for (number, entry) in (0_u32..).zip(&list.file) {
            let hash = as_hash(entry);
            is_hash.push(hash.is_some());
            if let Some(hash) = hash {
                hashes.entry(hash).or_insert(number);
            }
        }
        let mut networks = Networks::default();
        for (number, entry) in (0_u32..).zip(&list.ip) {
            match parse_network(entry.trim()) {
                Some(network) => networks.add(network, number),
                None => refuse(
                    "ip",
                    number as usize,
                    format!("`{entry}` is neither an address nor a network like 10.0.0.0/8"),
                ),
            }
        }
        Self {
            process,
            file,
            other,
            hashes,
            is_hash,
            networks,
            ip: list.ip.clone(),
        }
    }

    /// The first entry that matches, in the order of the list.
    pub(crate) fn find(
        &self,
        source: Source,
        element: &Element<'_>,
        scratch: &mut ListScratch,
    ) -> Option<Hit<'_>> {
        let any = |_| true;
        match source {
            Source::Event(kind @ (EventType::Process | EventType::Syscall | EventType::Exit)) => {
                let hash = (kind == EventType::Process).then(|| self.find_hash("md5", element));
                hash.flatten().or_else(|| {
                    let fields = ["name", "exe", "command"];
                    self.process
                        .find(&fields, element, &mut scratch.process, any)
                })
            }
            Source::Event(EventType::Connection) => self.find_network("remote_ip", element),
            Source::Event(EventType::Loginlog) => self.find_network("remote", element),
            Source::Event(EventType::Dns) => {
                self.other
                    .find(&["query"], element, &mut scratch.other, any)
            }
            // Nobody's doing, so nothing of it is on a list.
            Source::Event(EventType::Loss) => None,
            Source::Event(EventType::File) => self.find_hash("hash", element).or_else(|| {
                let is_path = |number: usize| self.is_hash.get(number) == Some(&false);
                self.file
                    .find(&["path"], element, &mut scratch.file, is_path)
            }),
            Source::Inventory(InventoryType::Crontab) => {
                self.file
                    .find(&["command"], element, &mut scratch.file, any)
            }
            // A key has no name; its comment is what anybody may write.
            Source::Inventory(InventoryType::Sshkey) => {
                self.other
                    .find(&["fingerprint"], element, &mut scratch.other, any)
            }
            Source::Inventory(InventoryType::Container) => {
                self.other
                    .find(&["name", "image"], element, &mut scratch.other, any)
            }
            Source::Inventory(_) => self.other.find(&["name"], element, &mut scratch.other, any),
        }
    }

    /// The entry that is the hash of a file or of an image; `md5` is the field that holds its MD5.
    fn find_hash(&self, md5: &'static str, element: &Element<'_>) -> Option<Hit<'_>> {
        if self.hashes.is_empty() {
            return None;
        }
        [md5, "sha256"].into_iter().find_map(|field| {
            let value = element.fields.get(field)?;
            let number = self.hashes.get(value.to_ascii_lowercase().as_str())?;
            Some(Hit {
                entry: self.file.entries.get(*number as usize)?,
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
        let address = value.parse::<IpAddr>().ok()?;
        let mut first: Option<u32> = None;
        self.networks.find_address(address, &mut |number| {
            first = Some(first.map_or(number, |first| first.min(number)));
        });
        Some(Hit {
            entry: self.ip.get(first? as usize)?,
            field,
            value: value.into_owned(),
        })
    }
}

impl Part {
    fn new(entries: &[String], mut refuse: impl FnMut(usize, String)) -> Self {
        let mut tests = Vec::with_capacity(entries.len());
        for (number, entry) in (0_u32..).zip(entries) {
            match test_of(entry) {
                Ok(test) => tests.push((number, test)),
                Err(reason) => refuse(number as usize, reason),
            }
        }
        Self {
            entries: entries.to_vec(),
            patterns: Patterns::new(tests, |number, reason| refuse(number as usize, reason)),
        }
    }

    /// The first entry of those asked for that is found in one of the fields, and the first of these
    /// fields. Fields that are empty are as if they were not there.
    fn find(
        &self,
        fields: &[&'static str],
        element: &Element<'_>,
        scratch: &mut PatternScratch,
        is_asked: impl Fn(usize) -> bool,
    ) -> Option<Hit<'_>> {
        if self.patterns.is_empty() {
            return None;
        }
        let mut first: Option<(u32, Hit<'_>)> = None;
        for field in fields {
            let value = element.fields.get(field).filter(|value| !value.is_empty());
            let Some(value) = value else { continue };
            let base = matches!(*field, "name" | "exe").then(|| base_name(&value, element.system));
            let base = base.filter(|base| base.len() < value.len());
            for text in [Some(&*value), base].into_iter().flatten() {
                let mut found = self.patterns.find(text, scratch);
                let Some(number) = found.find(|number| is_asked(*number as usize)) else {
                    continue;
                };
                // In the same entry an earlier field is the one to report.
                if first.as_ref().is_none_or(|(known, _)| number < *known)
                    && let Some(entry) = self.entries.get(number as usize)
                {
                    let value = value.clone().into_owned();
                    first = Some((
                        number,
                        Hit {
                            entry,
                            field,
                            value,
                        },
                    ));
                }
            }
        }
        first.map(|(_, hit)| hit)
    }
}

/// What an entry asks of a value.
fn test_of(entry: &str) -> Result<Test, String> {
    if entry.is_empty() {
        return Err("an empty pattern matches everything; remove it".to_owned());
    }
    let flags = Flags {
        ignore_case: true,
        ..Flags::default()
    };
    if let Some(pattern) = as_pattern(entry, flags) {
        let cased = false;
        return Ok(Test::Text { pattern, cased });
    }
    // The limit for entries is lower than the engine's.
    if !is_surely_small(entry, flags).unwrap_or(false) {
        pattern::compile(entry).map_err(|error| format!("not a regular expression: {error}"))?;
    }
    Ok(Test::Regex {
        pattern: entry.to_owned(),
        ignore_case: true,
        multi_line: false,
        dot_all: false,
    })
}

/// The hash that an entry of the file list is, lower case, if it is one rather than a pattern of
/// paths.
fn as_hash(entry: &str) -> Option<Box<str>> {
    let entry = entry.trim();
    let is_hash =
        matches!(entry.len(), 32 | 64) && entry.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| entry.to_ascii_lowercase().into_boxed_str())
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
