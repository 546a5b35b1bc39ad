//! The event store: one tantivy index per day of arrival.
//!
//! - Partitions are days of `ingested_at`, not of event time, so that late events and wrong clocks
//!   never reopen old ones. Their oldest and newest event times are kept to pass over those a
//!   query cannot concern.
//! - At most two partitions have a writer: today, and yesterday while it drains. A third one
//!   closes the oldest.
//! - A partition that cannot be read is renamed to `<day>.corrupt`, reported in the log, and the
//!   others answer.

mod ingest;
mod manifest;
mod partition;
mod plan;
mod schema;
mod search;

use std::{
    collections::BTreeMap,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tantivy::TantivyError;
use yinglong_model::{Event, EventId, Timestamp};
use yinglong_store::{
    Error, EventStore, Kind, LogPosition, Query, Result,
    event_store::{HistogramBucket, Page, PageRequest, Usage},
};

use self::{
    ingest::Open,
    manifest::{Entry, Manifest},
    partition::{Partition, Summary},
    schema::Fields,
};
use crate::{
    error::{io, is_corruption, tantivy},
    folder::Lock,
};

/// Partitions with a writer at a time.
const WRITERS_LIMIT: usize = 2;
/// Events waiting for a commit, as JSON; with more of them, `append` commits by itself.
const PENDING_LIMIT_BYTES: usize = 32 << 20;
const CORRUPT: &str = "corrupt";
const RETIRED: &str = "retired";

/// The event store of a folder.
#[derive(Debug)]
pub struct Events {
    dir: PathBuf,
    partitions: RwLock<BTreeMap<String, Arc<Partition>>>,
    ingest: Mutex<Ingest>,
    position: AtomicU64,
    _lock: Arc<Lock>,
}

#[derive(Debug)]
struct Ingest {
    open: Vec<Open>,
    /// Batches up to here are appended.
    appended: LogPosition,
    /// What `partitions.json` says, or will say after the next commit.
    manifest: Manifest,
}

impl Events {
    pub(crate) fn open(dir: &Path, lock: Arc<Lock>) -> Result<Self> {
        let dir = dir.join("events");
        fs::create_dir_all(&dir).map_err(|e| io("make the event folder", &dir, e))?;
        let known = manifest::read(&dir)?;
        let events = Self {
            position: AtomicU64::new(known.position),
            partitions: RwLock::default(),
            ingest: Mutex::new(Ingest {
                open: Vec::new(),
                appended: known.position,
                manifest: Manifest::at(known.position),
            }),
            dir,
            _lock: lock,
        };
        for name in events.folders()? {
            events.adopt(&name, known.partitions.get(&name))?;
        }
        for lost in known
            .partitions
            .iter()
            .filter(|(name, entry)| entry.summary.events > 0 && events.partition(name).is_none())
        {
            tracing::error!(partition = %lost.0, events = lost.1.summary.events, "event partition is gone");
        }
        Ok(events)
    }

    /// Names of partition folders; what an interrupted removal left is removed.
    fn folders(&self) -> Result<Vec<String>> {
        let fail = |e| io("list event partitions", &self.dir, e);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if is_day(&name) {
                names.push(name);
            } else if name.ends_with(&format!(".{RETIRED}")) {
                fs::remove_dir_all(entry.path())
                    .map_err(|e| io("remove a retired event partition", &entry.path(), e))?;
            } else if name.contains(&format!(".{CORRUPT}")) {
                tracing::warn!(%name, "a damaged event partition is set aside and not searched");
            }
        }
        names.sort();
        Ok(names)
    }

    /// Takes over a partition found on disk. One that may have changed since the list of
    /// partitions was written is opened; the others when they are searched.
    fn adopt(&self, name: &str, known: Option<&Entry>) -> Result<()> {
        let summary = known.map_or(Summary::EMPTY, |entry| entry.summary);
        let path = self.dir.join(name);
        let partition = Arc::new(Partition::new(name.to_owned(), path.clone(), summary));
        self.insert(&partition);
        // A crash between making the folder and making the index in it.
        let unborn = fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_none());
        if known.is_none_or(|entry| entry.open)
            && !unborn
            && let Err(error) = partition.reload()
        {
            if !is_corruption(&error) {
                return Err(tantivy("open events", name, error));
            }
            self.set_aside(&partition, &error);
            return Ok(());
        }
        self.ingest().manifest.partitions.insert(
            name.to_owned(),
            Entry {
                summary: partition.summary(),
                open: false,
            },
        );
        Ok(())
    }

    fn ingest(&self) -> MutexGuard<'_, Ingest> {
        self.ingest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition(&self, name: &str) -> Option<Arc<Partition>> {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(name)
            .cloned()
    }

    fn all_partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    fn insert(&self, partition: &Arc<Partition>) {
        self.partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(partition.name().to_owned(), Arc::clone(partition));
    }

    fn remove(&self, name: &str) {
        self.partitions
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// Renames a damaged partition and goes on without it. If it is being written, a new one
    /// takes its place and gets what is pending.
    fn set_aside(&self, partition: &Arc<Partition>, error: &TantivyError) {
        self.set_aside_during(&mut self.ingest(), partition, error);
    }

    fn set_aside_during(
        &self,
        ingest: &mut Ingest,
        partition: &Arc<Partition>,
        error: &TantivyError,
    ) {
        let name = partition.name();
        // Two searches can meet the same damage; the second must not take the new partition.
        if !self
            .partition(name)
            .is_some_and(|current| Arc::ptr_eq(&current, partition))
        {
            return;
        }
        if let Some(open) = ingest.open.iter_mut().find(|open| open.name == name) {
            open.drop_writer();
        }
        let target = (0_u32..)
            .map(|n| match n {
                0 => self.dir.join(format!("{name}.{CORRUPT}")),
                n => self.dir.join(format!("{name}.{CORRUPT}.{n}")),
            })
            .find(|path| !path.exists())
            .unwrap_or_else(|| self.dir.join(format!("{name}.{CORRUPT}")));
        match fs::rename(partition.path(), &target) {
            Ok(()) => tracing::error!(
                partition = name, kept = %target.display(), events = partition.summary().events, %error,
                "event partition is damaged and set aside, the others are searched"
            ),
            Err(rename) => tracing::error!(
                partition = name, %rename, %error,
                "event partition is damaged and cannot be set aside, it is not searched"
            ),
        }
        ingest.manifest.partitions.remove(name);
        let reborn = ingest.open.iter().any(|open| open.name == name)
            && fs::create_dir_all(partition.path()).is_ok();
        if reborn {
            ingest.manifest.partitions.insert(
                name.to_owned(),
                Entry {
                    summary: Summary::EMPTY,
                    open: true,
                },
            );
            self.insert(&Arc::new(Partition::new(
                name.to_owned(),
                partition.path().to_owned(),
                Summary::EMPTY,
            )));
        } else {
            ingest.open.retain(|open| open.name != name);
            self.remove(name);
        }
    }

    /// Gives the partition of a day a writer.
    fn open_day(&self, ingest: &mut Ingest, name: &str) -> Result<()> {
        if ingest.open.iter().any(|open| open.name == name) {
            return Ok(());
        }
        while ingest.open.len() >= WRITERS_LIMIT {
            self.close_oldest(ingest)?;
        }
        let path = self.dir.join(name);
        fs::create_dir_all(&path).map_err(|e| io("make an event partition", &path, e))?;
        // The list says `open` before anything is committed, so that a crash finds it out anew.
        let summary = self
            .partition(name)
            .map_or(Summary::EMPTY, |partition| partition.summary());
        ingest.manifest.partitions.insert(
            name.to_owned(),
            Entry {
                summary,
                open: true,
            },
        );
        manifest::write(&self.dir, &ingest.manifest)?;
        let open = Open::new(name, &path);
        if let (Err(error), Some(partition)) = (&open, self.partition(name))
            && is_corruption(error)
        {
            self.set_aside_during(ingest, &partition, error);
            return self.open_day(ingest, name);
        }
        let open = open.map_err(|e| tantivy("write events", name, e))?;
        if self.partition(name).is_none() {
            self.insert(&Arc::new(Partition::new(name.to_owned(), path, summary)));
        }
        ingest.open.push(open);
        Ok(())
    }

    fn close_oldest(&self, ingest: &mut Ingest) -> Result<()> {
        let Some(index) = (0..ingest.open.len()).min_by_key(|index| &ingest.open[*index].name)
        else {
            return Ok(());
        };
        self.commit_one(ingest, index)?;
        let open = ingest.open.remove(index);
        if let Some(entry) = ingest.manifest.partitions.get_mut(&open.name) {
            entry.open = false;
        }
        let name = open.name.clone();
        open.close().map_err(|e| tantivy("close", &name, e))?;
        self.show(ingest, &name)
    }

    fn commit_one(&self, ingest: &mut Ingest, index: usize) -> Result<()> {
        let Some(name) = ingest
            .open
            .get(index)
            .filter(|open| open.is_dirty())
            .map(|open| open.name.clone())
        else {
            return Ok(());
        };
        self.write_to(ingest, &name, Open::commit)?;
        self.show(ingest, &name)
    }

    /// Does something with an open partition. When it turns out to be damaged, once more with the
    /// new one in its place.
    fn write_to(
        &self,
        ingest: &mut Ingest,
        name: &str,
        mut work: impl FnMut(&mut Open, Fields, &Path) -> tantivy::Result<()>,
    ) -> Result<()> {
        let mut again = true;
        loop {
            let (Some(partition), Some(open)) = (
                self.partition(name),
                ingest.open.iter_mut().find(|open| open.name == name),
            ) else {
                return Ok(());
            };
            match work(open, partition.fields(), partition.path()) {
                Err(error) if again && is_corruption(&error) => {
                    self.set_aside_during(ingest, &partition, &error);
                    again = false;
                }
                outcome => return outcome.map_err(|e| tantivy("write events", name, e)),
            }
        }
    }

    /// Makes what was committed searchable.
    fn show(&self, ingest: &mut Ingest, name: &str) -> Result<()> {
        let Some(partition) = self.partition(name) else {
            return Ok(());
        };
        match partition.reload() {
            Err(error) if is_corruption(&error) => {
                self.set_aside_during(ingest, &partition, &error);
                return Ok(());
            }
            outcome => outcome.map_err(|e| tantivy("show committed events", name, e))?,
        };
        if let Some(entry) = ingest.manifest.partitions.get_mut(name) {
            entry.summary = partition.summary();
        }
        Ok(())
    }

    fn commit_all(&self, ingest: &mut Ingest) -> Result<LogPosition> {
        for index in 0..ingest.open.len() {
            self.commit_one(ingest, index)?;
        }
        if ingest.appended > self.position() {
            ingest.manifest.position = ingest.appended;
            manifest::write(&self.dir, &ingest.manifest)?;
            self.position.store(ingest.appended, Ordering::Release);
        }
        Ok(self.position())
    }
}

/// Day of arrival, the name of the partition.
fn day(event: &Event) -> String {
    let time = event.ingested_at.to_datetime();
    format!(
        "{:04}-{:02}-{:02}",
        time.year(),
        u8::from(time.month()),
        time.day()
    )
}

/// End of the day of a partition.
fn day_end(name: &str) -> Option<Timestamp> {
    let start = Timestamp::parse_rfc3339(&format!("{name}T00:00:00Z")).ok()?;
    Some(start.plus(Duration::from_secs(24 * 60 * 60)))
}

fn is_day(name: &str) -> bool {
    name.len() == "2026-01-31".len() && day_end(name).is_some()
}

impl EventStore for Events {
    fn append(&self, events: &[Event], position: LogPosition) -> Result<()> {
        let mut ingest = self.ingest();
        if position <= self.position() {
            return Ok(());
        }
        let mut days: BTreeMap<String, Vec<&Event>> = BTreeMap::new();
        for event in events {
            days.entry(day(event)).or_default().push(event);
        }
        for (name, events) in days {
            self.open_day(&mut ingest, &name)?;
            self.write_to(&mut ingest, &name, |open, fields, path| {
                open.add(fields, path, &events, position)
            })?;
        }
        ingest.appended = ingest.appended.max(position);
        let pending: usize = ingest.open.iter().map(Open::pending_bytes).sum();
        if pending > PENDING_LIMIT_BYTES {
            self.commit_all(&mut ingest)?;
        }
        Ok(())
    }

    fn commit(&self) -> Result<LogPosition> {
        self.commit_all(&mut self.ingest())
    }

    fn position(&self) -> LogPosition {
        self.position.load(Ordering::Acquire)
    }

    fn search(&self, query: &Query, page: &PageRequest) -> Result<Page> {
        search::page(self, query, page)
    }

    fn get(&self, id: &EventId) -> Result<Option<Event>> {
        search::get(self, id)
    }

    fn count(&self, query: &Query) -> Result<u64> {
        search::count(self, query)
    }

    fn histogram(&self, query: &Query, interval: Duration) -> Result<Vec<HistogramBucket>> {
        search::histogram(self, query, interval)
    }

    fn top(&self, query: &Query, field: &str, limit: usize) -> Result<Vec<(String, u64)>> {
        search::top(self, query, field, limit)
    }

    /// An event cannot have happened after the day it arrived: a host with a clock in the future
    /// does not keep a partition for ever.
    fn retire(&self, before: Timestamp) -> Result<u64> {
        let mut ingest = self.ingest();
        let mut gone = 0;
        for partition in self.all_partitions() {
            let name = partition.name();
            let summary = partition.summary();
            let newest = day_end(name).map_or(summary.newest, |end| end.min(summary.newest));
            let pending = ingest
                .open
                .iter()
                .any(|open| open.name == name && open.is_dirty());
            if newest >= before || summary.events == 0 || pending {
                continue;
            }
            if let Some(index) = ingest.open.iter().position(|open| open.name == name) {
                let open = ingest.open.remove(index);
                open.close().map_err(|e| tantivy("close", name, e))?;
            }
            let target = self.dir.join(format!("{name}.{RETIRED}"));
            fs::rename(partition.path(), &target)
                .map_err(|e| io("retire an event partition", partition.path(), e))?;
            self.remove(name);
            ingest.manifest.partitions.remove(name);
            gone += summary.events;
            manifest::write(&self.dir, &ingest.manifest)?;
            fs::remove_dir_all(&target)
                .map_err(|e| io("remove a retired event partition", &target, e))?;
        }
        Ok(gone)
    }

    fn usage(&self) -> Result<Usage> {
        let events = self
            .all_partitions()
            .iter()
            .map(|partition| partition.summary().events)
            .sum();
        let bytes = size(&self.dir).map_err(|e| io("measure events", &self.dir, e))?;
        Ok(Usage { events, bytes })
    }
}

/// Bytes of all files below a folder; files that vanish meanwhile count nothing.
fn size(dir: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let found = entry.metadata().and_then(|metadata| {
            if metadata.is_dir() {
                size(&entry.path())
            } else {
                Ok(metadata.len())
            }
        });
        match found {
            Ok(found) => bytes += found,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    Ok(bytes)
}

/// A query asks for events, not for anything else.
fn check(query: &Query) -> Result<()> {
    use yinglong_store::query::Target;
    let reason = match query.kind {
        Some(Target::Inventory(kind)) => {
            format!("{} is an inventory type: search inventories", kind.as_str())
        }
        _ if query.is_statistics() => "count and exist_count ask for statistics".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Invalid, reason))
}
