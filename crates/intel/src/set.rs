//! Indicators of one or several feeds, compiled: built once, then only read.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
use yinglong_model::{Timestamp, rule::Level};

use crate::{
    Indicator, Kind, LABEL_BYTES, Value,
    table::{Table, Texts, TextsBuilder, mix_v4, mix_v6},
};

/// Most hits of one look-up; the worst are kept.
pub const MAX_HITS: usize = 8;
/// Most statements about one value that are kept, over all feeds of a set. A feed that repeats
/// itself more often than that (with other dates and labels) says nothing new.
const MAX_STATEMENTS: usize = 64;

/// A feed of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedId(u16);

/// The set has no room for another indicator: more than 4 GiB of texts, or 2^32 of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there is no room for more indicators; split the feed")]
pub struct Full;

/// What a feed says about an indicator. Most indicators of a feed share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Note {
    level: Level,
    /// Seconds since 1970; [`NEVER`] when it does not expire.
    until: u32,
    /// Seconds since 1970; 0 when it always was valid.
    from: u32,
    feed: u16,
    /// 0 to 100, or [`UNSTATED`].
    confidence: u8,
    /// Position in the labels.
    label: u32,
}

const NEVER: u32 = u32::MAX;
const UNSTATED: u8 = u8::MAX;

impl Note {
    /// The worst first, then the one that is valid longest.
    fn rank(&self) -> impl Ord + use<> {
        (
            self.level,
            std::cmp::Reverse(self.until),
            self.from,
            self.feed,
            self.label,
        )
    }
}

/// Takes indicators in.
#[derive(Debug, Default)]
pub struct Builder {
    feeds: Vec<Box<str>>,
    notes: Vec<Note>,
    known_notes: HashMap<Note, u32>,
    labels: Vec<Box<str>>,
    known_labels: HashMap<Box<str>, u32>,
    v4: Vec<([u8; 4], u32)>,
    v6: Vec<([u8; 16], u32)>,
    networks_v4: BTreeMap<u8, Vec<([u8; 4], u32)>>,
    networks_v6: BTreeMap<u8, Vec<([u8; 16], u32)>>,
    md5: Vec<([u8; 16], u32)>,
    sha1: Vec<([u8; 20], u32)>,
    sha256: Vec<([u8; 32], u32)>,
    domains: TextsBuilder,
    urls: TextsBuilder,
    hosts: TextsBuilder,
    names: TextsBuilder,
    paths: TextsBuilder,
    taken: u32,
}

impl Builder {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Begins a feed; the name is what hits are told with.
    ///
    /// # Errors
    /// There are 65,536 of them already.
    pub fn feed(&mut self, name: &str) -> Result<FeedId, Full> {
        let id = u16::try_from(self.feeds.len()).map_err(|_| Full)?;
        self.feeds.push(name.into());
        Ok(FeedId(id))
    }

    /// Adds an indicator of a feed.
    ///
    /// # Errors
    /// There is no room.
    pub fn add(&mut self, feed: FeedId, indicator: Indicator) -> Result<(), Full> {
        self.taken = self.taken.checked_add(1).ok_or(Full)?;
        let note = self.note(feed, &indicator)?;
        let fits = match indicator.value {
            Value::Ip(IpAddr::V4(address)) => push(&mut self.v4, mix_v4(address.into()), note),
            Value::Ip(IpAddr::V6(address)) => push(&mut self.v6, mix_v6(address.into()), note),
            Value::Cidr(IpNet::V4(net)) => {
                let table = self.networks_v4.entry(net.prefix_len()).or_default();
                push(table, mix_v4(net.network().into()), note)
            }
            Value::Cidr(IpNet::V6(net)) => {
                let table = self.networks_v6.entry(net.prefix_len()).or_default();
                push(table, mix_v6(net.network().into()), note)
            }
            Value::Md5(digest) => push(&mut self.md5, digest, note),
            Value::Sha1(digest) => push(&mut self.sha1, digest, note),
            Value::Sha256(digest) => push(&mut self.sha256, digest, note),
            Value::Domain(text) => self.domains.add(&text, note),
            Value::Url(ref text) => {
                let hosted = host(text)
                    .map(|(host, whole)| {
                        // What else is on the host of a bad page may be harmless.
                        let level = if whole {
                            indicator.level
                        } else {
                            indicator.level.max(Level::Hint)
                        };
                        let note = self.note(
                            feed,
                            &Indicator {
                                level,
                                ..indicator.clone()
                            },
                        )?;
                        Ok(self.hosts.add(&host, note))
                    })
                    .transpose()?;
                self.urls.add(text, note) && hosted != Some(false)
            }
            Value::Name(text) => self.names.add(&text, note),
            Value::Path(text) => self.paths.add(&text, note),
        };
        if fits { Ok(()) } else { Err(Full) }
    }

    fn note(&mut self, feed: FeedId, indicator: &Indicator) -> Result<u32, Full> {
        let seconds = |at: Timestamp| u32::try_from(at.secs().max(0)).unwrap_or(NEVER - 1);
        let note = Note {
            level: indicator.level,
            until: indicator.valid_until.map_or(NEVER, seconds),
            from: indicator.valid_from.map_or(0, seconds),
            feed: feed.0,
            confidence: indicator.confidence.map_or(UNSTATED, |sure| sure.min(100)),
            label: self.label(&indicator.label)?,
        };
        if let Some(known) = self.known_notes.get(&note) {
            return Ok(*known);
        }
        let id = u32::try_from(self.notes.len()).map_err(|_| Full)?;
        self.notes.push(note);
        self.known_notes.insert(note, id);
        Ok(id)
    }

    fn label(&mut self, label: &str) -> Result<u32, Full> {
        let label = label
            .get(..label.floor_char_boundary(LABEL_BYTES))
            .unwrap_or_default();
        if let Some(known) = self.known_labels.get(label) {
            return Ok(*known);
        }
        let id = u32::try_from(self.labels.len()).map_err(|_| Full)?;
        self.labels.push(label.into());
        self.known_labels.insert(label.into(), id);
        Ok(id)
    }

    /// Compiles. Takes about a second per two million indicators.
    pub fn finish(self) -> IndicatorSet {
        let Self { mut notes, .. } = self;
        let mut order: Vec<u32> = (0..).take(notes.len()).collect();
        let note_of = |id: u32| notes.get(id as usize).map(Note::rank);
        order.sort_unstable_by_key(|id| note_of(*id));
        let mut ranks = vec![0_u32; order.len()];
        for (rank, id) in (0..).zip(&order) {
            if let Some(slot) = ranks.get_mut(*id as usize) {
                *slot = rank;
            }
        }
        notes.sort_unstable_by_key(Note::rank);
        let rank = |id: u32| ranks.get(id as usize).copied().unwrap_or_default();
        let mut set = IndicatorSet {
            feeds: self.feeds.into(),
            labels: self.labels.into(),
            uses: Box::default(),
            v4: table(self.v4, rank),
            v6: table(self.v6, rank),
            networks_v4: tables(self.networks_v4, rank),
            networks_v6: tables(self.networks_v6, rank),
            md5: table(self.md5, rank),
            sha1: table(self.sha1, rank),
            sha256: table(self.sha256, rank),
            domains: self.domains.finish(MAX_STATEMENTS, rank),
            urls: self.urls.finish(MAX_STATEMENTS, rank),
            hosts: self.hosts.finish(MAX_STATEMENTS, rank),
            names: self.names.finish(MAX_STATEMENTS, rank),
            paths: self.paths.finish(MAX_STATEMENTS, rank),
            notes: notes.into(),
        };
        set.uses = set.count_uses();
        set
    }
}

/// The domain of a URL, and whether the URL is about all of it.
fn host(url: &str) -> Option<(String, bool)> {
    let url = url::Url::parse(url).ok()?;
    match Value::domain(url.domain()?) {
        Ok(Value::Domain(host)) => Some((host, url.path() == "/" && url.query().is_none())),
        _ => None,
    }
}

fn push<const N: usize>(entries: &mut Vec<([u8; N], u32)>, key: [u8; N], note: u32) -> bool {
    entries.push((key, note));
    true
}

fn table<const N: usize>(mut entries: Vec<([u8; N], u32)>, rank: impl Fn(u32) -> u32) -> Table<N> {
    for (_, note) in &mut entries {
        *note = rank(*note);
    }
    entries.sort_unstable();
    entries.dedup();
    let (mut run, mut last) = (0, None);
    entries.retain(|(key, _)| {
        run = if last == Some(*key) { run + 1 } else { 1 };
        last = Some(*key);
        run <= MAX_STATEMENTS
    });
    Table::new(entries)
}

/// The narrowest networks first.
fn tables<const N: usize>(
    by_length: BTreeMap<u8, Vec<([u8; N], u32)>>,
    rank: impl Fn(u32) -> u32,
) -> Box<[(u8, Table<N>)]> {
    let narrowest_first = by_length.into_iter().rev();
    narrowest_first
        .map(|(length, entries)| (length, table(entries, &rank)))
        .collect()
}

/// Indicators that can be looked up. Immutable, to be shared between threads.
#[derive(Debug, Default)]
pub struct IndicatorSet {
    feeds: Box<[Box<str>]>,
    labels: Box<[Box<str>]>,
    /// By rank: the worst first.
    notes: Box<[Note]>,
    /// Indicators each note is about.
    uses: Box<[u32]>,
    v4: Table<4>,
    v6: Table<16>,
    networks_v4: Box<[(u8, Table<4>)]>,
    networks_v6: Box<[(u8, Table<16>)]>,
    md5: Table<16>,
    sha1: Table<20>,
    sha256: Table<32>,
    domains: Texts,
    urls: Texts,
    /// Of the URLs, for what only knows the name of a host.
    hosts: Texts,
    names: Texts,
    paths: Texts,
}

/// One feed's statement about what was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hit<'a> {
    /// Feed.
    pub feed: &'a str,
    /// Indicator that matched: the value itself, or the network or domain it lies in.
    pub indicator: Value,
    /// How dangerous.
    pub level: Level,
    /// How sure the feed is, 0 to 100, when it says.
    pub confidence: Option<u8>,
    /// What the feed says.
    pub label: &'a str,
    /// When the statement ends, in whole seconds.
    pub valid_until: Option<Timestamp>,
}

/// How much a set holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stats {
    /// Indicators by kind; one that several feeds name counts for each.
    pub kinds: BTreeMap<Kind, u64>,
    /// Indicators in all.
    pub indicators: u64,
    /// Memory in bytes.
    pub bytes: u64,
}

impl IndicatorSet {
    /// Every feed's statement about a value that is valid at a time: the worst first, at most one
    /// per feed and [`MAX_HITS`]. An address is also looked for in networks, a domain below
    /// domains, a URL by its host as well, and a path by its file name as well.
    pub fn look_up(&self, value: &Value, at: Timestamp) -> Vec<Hit<'_>> {
        let mut hits = Vec::new();
        self.collect(value, at, &mut hits);
        worst(hits)
    }

    fn collect<'a>(&'a self, value: &Value, at: Timestamp, hits: &mut Vec<Hit<'a>>) {
        match value {
            Value::Ip(address) => self.collect_address(*address, at, hits),
            // A network is found as it was written only.
            Value::Cidr(IpNet::V4(net)) => {
                let same = self
                    .networks_v4
                    .iter()
                    .filter(|(n, _)| *n == net.prefix_len());
                for (_, table) in same {
                    let found = table.get(mix_v4(net.network().into()));
                    self.take(found.map(|(_, note)| note), at, value, hits);
                }
            }
            Value::Cidr(IpNet::V6(net)) => {
                let same = self
                    .networks_v6
                    .iter()
                    .filter(|(n, _)| *n == net.prefix_len());
                for (_, table) in same {
                    let found = table.get(mix_v6(net.network().into()));
                    self.take(found.map(|(_, note)| note), at, value, hits);
                }
            }
            Value::Md5(digest) => self.take(values(&self.md5, *digest), at, value, hits),
            Value::Sha1(digest) => self.take(values(&self.sha1, *digest), at, value, hits),
            Value::Sha256(digest) => self.take(values(&self.sha256, *digest), at, value, hits),
            Value::Domain(domain) => {
                self.collect_domain(domain, at, hits);
                self.take(self.hosts.get(domain), at, value, hits);
            }
            Value::Url(text) => {
                self.take(self.urls.get(text), at, value, hits);
                let url = url::Url::parse(text).ok();
                match url.as_ref().and_then(url::Url::host) {
                    Some(url::Host::Domain(domain)) => self.collect_domain(domain, at, hits),
                    Some(url::Host::Ipv4(address)) => {
                        self.collect_address(address.into(), at, hits);
                    }
                    Some(url::Host::Ipv6(address)) => {
                        self.collect_address(IpAddr::V6(address).to_canonical(), at, hits);
                    }
                    None => {}
                }
            }
            Value::Name(name) => self.take(self.names.get(name), at, value, hits),
            Value::Path(path) => {
                self.take(self.paths.get(path), at, value, hits);
                let name = path.rsplit('/').next().unwrap_or_default();
                if self.names.len() > 0 && !name.is_empty() {
                    let found = self.names.get(name);
                    self.take(found, at, &Value::Name(name.to_owned()), hits);
                }
            }
        }
    }

    fn collect_address<'a>(&'a self, address: IpAddr, at: Timestamp, hits: &mut Vec<Hit<'a>>) {
        let whole = Value::Ip(address);
        match address {
            IpAddr::V4(address) => {
                let bits = u32::from(address);
                self.take(values(&self.v4, mix_v4(bits)), at, &whole, hits);
                for (length, table) in &self.networks_v4 {
                    let mask = u32::MAX.checked_shl(32 - u32::from(*length)).unwrap_or(0);
                    let found = values(table, mix_v4(bits & mask));
                    self.take_network(found, address.into(), *length, at, hits);
                }
            }
            IpAddr::V6(address) => {
                let bits = u128::from(address);
                self.take(values(&self.v6, mix_v6(bits)), at, &whole, hits);
                for (length, table) in &self.networks_v6 {
                    let mask = u128::MAX.checked_shl(128 - u32::from(*length)).unwrap_or(0);
                    let found = values(table, mix_v6(bits & mask));
                    self.take_network(found, address.into(), *length, at, hits);
                }
            }
        }
    }

    fn take_network<'a>(
        &'a self,
        found: impl Iterator<Item = u32>,
        address: IpAddr,
        length: u8,
        at: Timestamp,
        hits: &mut Vec<Hit<'a>>,
    ) {
        let mut found = found.peekable();
        if found.peek().is_none() {
            return;
        }
        if let Ok(network) = IpNet::new(address, length) {
            self.take(found, at, &Value::Cidr(network.trunc()), hits);
        }
    }

    fn collect_domain<'a>(&'a self, domain: &str, at: Timestamp, hits: &mut Vec<Hit<'a>>) {
        if self.domains.len() == 0 {
            return;
        }
        // The last label alone is never an indicator.
        let dots = domain.rmatch_indices('.').map(|(dot, _)| dot + 1);
        for start in dots.chain([0]).skip(1) {
            let suffix = domain.get(start..).unwrap_or_default();
            let mut found = self.domains.get(suffix).peekable();
            if found.peek().is_some() {
                self.take(found, at, &Value::Domain(suffix.to_owned()), hits);
            }
        }
    }

    fn take<'a>(
        &'a self,
        found: impl Iterator<Item = u32>,
        at: Timestamp,
        indicator: &Value,
        hits: &mut Vec<Hit<'a>>,
    ) {
        let at = at.secs();
        for note in found.filter_map(|id| self.notes.get(id as usize)) {
            let expired = note.until != NEVER && at >= i64::from(note.until);
            let early = note.from != 0 && at < i64::from(note.from);
            if expired || early {
                continue;
            }
            hits.push(Hit {
                feed: self
                    .feeds
                    .get(usize::from(note.feed))
                    .map_or("", AsRef::as_ref),
                indicator: indicator.clone(),
                level: note.level,
                confidence: (note.confidence != UNSTATED).then_some(note.confidence),
                label: self
                    .labels
                    .get(note.label as usize)
                    .map_or("", AsRef::as_ref),
                valid_until: (note.until != NEVER)
                    .then(|| Timestamp::from_secs(i64::from(note.until))),
            });
        }
    }

    /// Whether there are indicators of a kind.
    pub fn has(&self, kind: Kind) -> bool {
        match kind {
            Kind::Ip => self.v4.len() + self.v6.len() > 0,
            Kind::Cidr => !self.networks_v4.is_empty() || !self.networks_v6.is_empty(),
            Kind::Domain => self.domains.len() > 0,
            Kind::Url => self.urls.len() > 0,
            Kind::Md5 => self.md5.len() > 0,
            Kind::Sha1 => self.sha1.len() > 0,
            Kind::Sha256 => self.sha256.len() > 0,
            Kind::Name => self.names.len() > 0,
            Kind::Path => self.paths.len() > 0,
        }
    }

    /// How much there is.
    pub fn stats(&self) -> Stats {
        let networks = |tables: &mut dyn Iterator<Item = usize>| tables.sum::<usize>();
        let kinds = [
            (Kind::Ip, self.v4.len() + self.v6.len()),
            (
                Kind::Cidr,
                networks(&mut self.networks_v4.iter().map(|(_, table)| table.len()))
                    + networks(&mut self.networks_v6.iter().map(|(_, table)| table.len())),
            ),
            (Kind::Domain, self.domains.len()),
            (Kind::Url, self.urls.len()),
            (Kind::Md5, self.md5.len()),
            (Kind::Sha1, self.sha1.len()),
            (Kind::Sha256, self.sha256.len()),
            (Kind::Name, self.names.len()),
            (Kind::Path, self.paths.len()),
        ];
        let labels: usize = self
            .labels
            .iter()
            .map(|label| label.len() + size_of_val(label))
            .sum();
        let bytes = self.v4.bytes()
            + self.v6.bytes()
            + networks(&mut self.networks_v4.iter().map(|(_, table)| table.bytes()))
            + networks(&mut self.networks_v6.iter().map(|(_, table)| table.bytes()))
            + self.domains.bytes()
            + self.urls.bytes()
            + self.hosts.bytes()
            + self.names.bytes()
            + self.paths.bytes()
            + self.md5.bytes()
            + self.sha1.bytes()
            + self.sha256.bytes()
            + self.notes.len() * (size_of::<Note>() + size_of::<u32>())
            + labels;
        Stats {
            indicators: kinds.iter().map(|(_, count)| *count as u64).sum(),
            kinds: kinds
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(kind, count)| (kind, count as u64))
                .collect(),
            bytes: bytes as u64,
        }
    }

    /// Indicators that have expired at a time: they are held, and never hit.
    pub fn expired(&self, at: Timestamp) -> u64 {
        let notes = self.notes.iter().zip(&self.uses);
        notes
            .filter(|(note, _)| note.until != NEVER && at.secs() >= i64::from(note.until))
            .map(|(_, uses)| u64::from(*uses))
            .sum()
    }

    fn count_uses(&self) -> Box<[u32]> {
        let mut uses = vec![0_u32; self.notes.len()];
        let networks_v4 = self
            .networks_v4
            .iter()
            .flat_map(|(_, table)| table.values());
        let networks_v6 = self
            .networks_v6
            .iter()
            .flat_map(|(_, table)| table.values());
        let digests = (self.md5.values().iter())
            .chain(self.sha1.values())
            .chain(self.sha256.values());
        let texts = (self.domains.values().iter())
            .chain(self.urls.values())
            .chain(self.names.values())
            .chain(self.paths.values());
        let addresses = self.v4.values().iter().chain(self.v6.values());
        for note in addresses
            .chain(networks_v4)
            .chain(networks_v6)
            .chain(digests)
            .chain(texts)
        {
            if let Some(count) = uses.get_mut(*note as usize) {
                *count += 1;
            }
        }
        uses.into()
    }
}

fn values<const N: usize>(table: &Table<N>, key: [u8; N]) -> impl Iterator<Item = u32> {
    table.get(key).map(|(_, note)| note)
}

/// Looks a value up in several sets, as [`IndicatorSet::look_up`] does in one.
pub fn find<'a>(sets: &'a [Arc<IndicatorSet>], value: &Value, at: Timestamp) -> Vec<Hit<'a>> {
    let mut hits = Vec::new();
    for set in sets {
        set.collect(value, at, &mut hits);
    }
    worst(hits)
}

/// The worst statement of each feed, the worst feed first.
fn worst(mut hits: Vec<Hit<'_>>) -> Vec<Hit<'_>> {
    hits.sort_by_key(|hit| hit.level);
    let mut kept: Vec<Hit<'_>> = Vec::new();
    for hit in hits {
        if kept.len() == MAX_HITS {
            break;
        }
        if !kept.iter().any(|known| known.feed == hit.feed) {
            kept.push(hit);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
