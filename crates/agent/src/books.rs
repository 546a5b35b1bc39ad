//! The agent's books: every observation of every sensor goes through here into the spool.
//!
//! A commit writes records, ledger and marks as one atomic unit, so after a kill at any point the
//! ledger, the spool and the sensors' positions agree with each other. What the spool has no room for
//! gives way by its worth ([`yinglong_model::worth`]), and every loss becomes an event ([`losses`]).

pub(crate) mod losses;
mod room;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use yinglong_model::{
    DropReason, Ledger, Observation, Timestamp, Worth,
    host::SensorStatus,
    ledger::{Origin, StreamLedger},
};
use yinglong_proto::{MAX_RECORD_BYTES, encode_record};
use yinglong_sensor::{Error, Outlet};
use yinglong_spool::Spool;

use self::{losses::Losses, room::Entry};
use crate::{filter::Filter, scanner::Feed, sensors::Board};

/// Stream whose marks say what was sent, not how far a source was read.
const INVENTORY: &str = "inventory";

/// What is remembered with every batch in the spool.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    ledger: Ledger,
    marks: BTreeMap<String, String>,
    /// Losses in the ledger that no event has told yet.
    #[serde(skip_serializing_if = "Losses::is_empty")]
    untold: Losses,
    /// When a sensor committed last.
    at: Option<Timestamp>,
}

/// Cheap to clone; all clones are the same books.
#[derive(Debug, Clone)]
pub struct Books(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    spool: Spool,
    note: Mutex<Note>,
    filter: RwLock<Arc<Filter>>,
    feed: OnceLock<Feed>,
    appended: watch::Sender<u64>,
    /// Wakes whoever tells losses; goes with the note.
    lost: Condvar,
    /// Nothing more is to be told.
    closed: AtomicBool,
}

impl Books {
    /// Opens the books that the spool holds; `note` is what opening it recovered. An unreadable
    /// note begins new books.
    pub fn open(spool: Spool, note: Option<&[u8]>) -> Self {
        let note = note.map_or_else(Note::default, |bytes| {
            serde_json::from_slice(bytes).unwrap_or_else(|error| {
                tracing::error!(%error, "the agent's books are unreadable; they start anew");
                Note::default()
            })
        });
        let (appended, _) = watch::channel(spool.last_seq());
        Self(Arc::new(Shared {
            spool,
            note: Mutex::new(note),
            filter: RwLock::default(),
            feed: OnceLock::new(),
            appended,
            lost: Condvar::new(),
            closed: AtomicBool::new(false),
        }))
    }

    /// An outlet for one sensor's stream, which tells its status to `board`.
    pub fn outlet(&self, stream: &'static str, board: Board) -> SpoolOutlet {
        SpoolOutlet {
            board,
            books: self.clone(),
            filter: self.filter(),
            stream,
            records: Vec::new(),
            changes: Vec::new(),
            losses: Losses::default(),
            // What a sensor finds lost at first was lost after its predecessor's last look.
            looked_at: self.lock().at.unwrap_or_else(now),
            full: false,
            marks: Vec::new(),
        }
    }

    /// Puts a filter in force.
    pub fn set_filter(&self, filter: Filter) {
        *self
            .0
            .filter
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(filter);
    }

    /// Lets the scanner see what is emitted from now on. There is one at most: a second is not
    /// told anything.
    pub fn set_feed(&self, feed: Feed) {
        if self.0.feed.set(feed).is_err() {
            tracing::error!("there is a scanner already");
        }
    }

    /// The ledger as of the last commit.
    pub fn ledger(&self) -> Ledger {
        self.lock().ledger.clone()
    }

    /// The queue behind the books.
    pub fn spool(&self) -> &Spool {
        &self.0.spool
    }

    /// Tells the last sequence number in the spool, and wakes when it grows.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.0.appended.subscribe()
    }

    /// Counts records that were spooled but cannot be read back. Which streams they belonged to
    /// cannot be told any more, so they have a line of their own.
    pub fn lost_in_spool(&self, reason: DropReason, count: u64) {
        let mut note = self.lock();
        note.ledger.stream("spool").lose(reason, count);
        let at = now();
        note.untold
            .add("spool", reason, &Origin::default(), count, (at, at));
        drop(note);
        self.0.lost.notify_all();
    }

    /// Lets whoever tells losses tell the last ones and end.
    pub(crate) fn close(&self) {
        let note = self.lock();
        self.0.closed.store(true, Ordering::Release);
        drop(note);
        self.0.lost.notify_all();
    }

    fn filter(&self) -> Arc<Filter> {
        Arc::clone(&self.0.filter.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn lock(&self) -> MutexGuard<'_, Note> {
        self.0.note.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Books of one stream since the last commit.
#[derive(Debug)]
struct Change {
    stream: &'static str,
    /// What is spooled is counted when it is.
    ledger: StreamLedger,
}

/// Outlet of one sensor.
#[derive(Debug)]
pub struct SpoolOutlet {
    books: Books,
    board: Board,
    filter: Arc<Filter>,
    stream: &'static str,
    records: Vec<Entry>,
    changes: Vec<Change>,
    losses: Losses,
    /// When everything that was lost was known last.
    looked_at: Timestamp,
    /// That the spool has no room was said.
    full: bool,
    marks: Vec<(String, String)>,
}

/// The change of a stream. A sensor feeds two at most.
fn change_of<'a>(changes: &'a mut Vec<Change>, stream: &'static str) -> &'a mut StreamLedger {
    let known = changes.iter().position(|change| change.stream == stream);
    let index = known.unwrap_or_else(|| {
        changes.push(Change {
            stream,
            ledger: StreamLedger::default(),
        });
        changes.len() - 1
    });
    &mut changes[index].ledger
}

impl SpoolOutlet {
    fn leave_out(&mut self, stream: &'static str, count: u64) {
        let change = change_of(&mut self.changes, stream);
        change.emitted += count;
        change.filtered += count;
    }

    fn lost(&mut self, stream: &'static str, reason: DropReason, origin: &Origin, count: u64) {
        if count > 0 {
            change_of(&mut self.changes, stream).lose(reason, count);
            let time = (self.looked_at, now());
            self.losses.add(stream, reason, origin, count, time);
        }
    }
}

impl Outlet for SpoolOutlet {
    fn emit(&mut self, observation: Observation) {
        let stream = observation.stream();
        if let Observation::Event { data, .. } = &observation {
            if self.filter.excludes(data) {
                return self.leave_out(stream, 1);
            }
            if let Some(feed) = self.books.0.feed.get() {
                feed.see(data);
            }
        }
        let record = encode_record(now(), &observation);
        if record.len() > MAX_RECORD_BYTES {
            return self.lose_in(stream, DropReason::TooLarge, 1);
        }
        change_of(&mut self.changes, stream).emitted += 1;
        self.records.push(Entry {
            stream,
            worth: Worth::of(&observation),
            record,
        });
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        self.lose_in(self.stream, reason, count);
    }

    fn lose_in(&mut self, stream: &'static str, reason: DropReason, count: u64) {
        self.lost(stream, reason, &Origin::default(), count);
    }

    fn lose_of(&mut self, reason: DropReason, origin: &Origin, count: u64) {
        self.lost(self.stream, reason, origin, count);
    }

    fn filtered(&mut self, count: u64) {
        self.leave_out(self.stream, count);
    }

    fn mark(&mut self, name: &str, value: String) {
        self.marks.push((name.to_owned(), value));
    }

    fn status(&mut self, status: SensorStatus) {
        self.board.post(status);
    }

    fn marked(&self, name: &str) -> Option<String> {
        self.books.lock().marks.get(name).cloned()
    }

    fn commit(&mut self) -> Result<(), Error> {
        self.filter = self.books.filter();
        let nothing_new = self.changes.is_empty() && self.marks.is_empty();
        let at = now();
        let time = (std::mem::replace(&mut self.looked_at, at), at);
        if nothing_new {
            return Ok(());
        }
        let mut dropped = Dropped {
            changes: std::mem::take(&mut self.changes),
            losses: std::mem::take(&mut self.losses),
            time,
        };
        let mut records = std::mem::take(&mut self.records);
        let books = self.books.clone();
        let mut note = books.lock();
        for ((stream, reason), count) in room::make(&mut records, books.0.spool.room()) {
            self.tell_full(reason, count);
            dropped.add(stream, reason, count);
        }
        loop {
            let mut next = note.clone();
            next.marks.extend(self.marks.iter().cloned());
            next.untold.extend(dropped.losses.clone());
            next.at = Some(at);
            for change in &dropped.changes {
                post(next.ledger.stream(change.stream), change, &records);
            }
            let bytes = serde_json::to_vec(&next).map_err(|error| Error::Spool(error.into()))?;
            match books.0.spool.append(&records, &bytes) {
                Ok(last) => {
                    *note = next;
                    drop(note);
                    if !dropped.losses.is_empty() {
                        books.0.lost.notify_all();
                    }
                    self.marks.clear();
                    self.full &= records.is_empty();
                    books.0.appended.send_replace(last);
                    // The vector is kept: a busy sensor commits twenty times a second.
                    records.clear();
                    self.records = records;
                    return Ok(());
                }
                Err(error) if error.is_out_of_space() && !records.is_empty() => {
                    // What does not fit is lost, and the loss is written down in its place.
                    for (stream, count) in room::make_more(&mut records) {
                        self.tell_full(DropReason::SpoolFull, count);
                        dropped.add(stream, DropReason::SpoolFull, count);
                    }
                }
                Err(error) if error.is_out_of_space() => {
                    // Not even the note fits: it stays in memory and goes with the next commit.
                    *note = next;
                    drop(note);
                    books.0.lost.notify_all();
                    self.marks.clear();
                    return Ok(());
                }
                Err(error) => return Err(Error::Spool(Box::new(error))),
            }
        }
    }
}

impl SpoolOutlet {
    /// Something had no room. Said once until there is room again; the events say how much it is.
    fn tell_full(&mut self, reason: DropReason, count: u64) {
        if self.stream == INVENTORY {
            // A list counts as sent only when it was: it is offered again next time.
            self.marks.clear();
        }
        if !std::mem::replace(&mut self.full, true) {
            tracing::warn!(
                stream = self.stream,
                reason = reason.as_str(),
                count,
                "the spool is filling; events are dropped until the server takes some"
            );
        }
    }
}

/// What a commit has to leave out, beside what the sensor lost.
struct Dropped {
    changes: Vec<Change>,
    losses: Losses,
    /// Between this commit and the one before.
    time: (Timestamp, Timestamp),
}

impl Dropped {
    /// Enters what was emitted and is left out.
    fn add(&mut self, stream: &'static str, reason: DropReason, count: u64) {
        let change = change_of(&mut self.changes, stream);
        *change.dropped.entry(reason).or_default() += count;
        let nobody = Origin::default();
        self.losses.add(stream, reason, &nobody, count, self.time);
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Adds what happened since the last commit to a stream's books.
fn post(ledger: &mut StreamLedger, change: &Change, records: &[Entry]) {
    let own = records.iter().filter(|entry| entry.stream == change.stream);
    ledger.emitted += change.ledger.emitted;
    ledger.spooled += own.count() as u64;
    ledger.filtered += change.ledger.filtered;
    for (reason, count) in &change.ledger.dropped {
        *ledger.dropped.entry(*reason).or_default() += count;
    }
}

#[cfg(test)]
mod tests;
