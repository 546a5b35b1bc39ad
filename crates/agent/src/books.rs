//! The agent's books: every observation of every sensor goes through here into the spool.
//!
//! A commit writes records, ledger and marks as one atomic unit, so after a kill at any point the
//! ledger, the spool and the sensors' positions agree with each other.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::SystemTime,
};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use yinglong_model::{
    DropReason, Ledger, Observation, Timestamp, host::SensorStatus, ledger::StreamLedger,
};
use yinglong_proto::{MAX_RECORD_BYTES, encode_record};
use yinglong_sensor::{Error, Outlet};
use yinglong_spool::Spool;

use crate::{filter::Filter, scanner::Feed, sensors::Board};

/// Stream whose marks say what was sent, not how far a source was read.
const INVENTORY: &str = "inventory";

/// What is remembered with every batch in the spool.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    ledger: Ledger,
    marks: BTreeMap<String, String>,
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
        self.lock().ledger.stream("spool").lose(reason, count);
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
    ledger: StreamLedger,
    /// Records that wait for the commit.
    records: u64,
}

/// Outlet of one sensor.
#[derive(Debug)]
pub struct SpoolOutlet {
    books: Books,
    board: Board,
    filter: Arc<Filter>,
    stream: &'static str,
    records: Vec<Vec<u8>>,
    changes: Vec<Change>,
    marks: Vec<(String, String)>,
}

impl SpoolOutlet {
    /// The change of a stream. A sensor feeds two at most.
    fn change(&mut self, stream: &'static str) -> &mut Change {
        let known = self
            .changes
            .iter()
            .position(|change| change.stream == stream);
        let index = known.unwrap_or_else(|| {
            self.changes.push(Change {
                stream,
                ledger: StreamLedger::default(),
                records: 0,
            });
            self.changes.len() - 1
        });
        &mut self.changes[index]
    }

    fn leave_out(&mut self, stream: &'static str, count: u64) {
        let change = &mut self.change(stream).ledger;
        change.emitted += count;
        change.filtered += count;
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
        let record = encode_record(Timestamp::from(SystemTime::now()), &observation);
        if record.len() > MAX_RECORD_BYTES {
            return self.lose_of(stream, DropReason::TooLarge, 1);
        }
        let change = self.change(stream);
        change.ledger.emitted += 1;
        change.records += 1;
        self.records.push(record);
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        self.lose_of(self.stream, reason, count);
    }

    fn lose_of(&mut self, stream: &'static str, reason: DropReason, count: u64) {
        if count > 0 {
            self.change(stream).ledger.lose(reason, count);
        }
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
        if self.changes.is_empty() && self.marks.is_empty() {
            return Ok(());
        }
        let mut note = self.books.lock();
        let mut changes = std::mem::take(&mut self.changes);
        let mut records = std::mem::take(&mut self.records);
        loop {
            let count = records.len() as u64;
            let mut next = note.clone();
            next.marks.extend(self.marks.iter().cloned());
            for change in &changes {
                post(next.ledger.stream(change.stream), change);
            }
            let bytes = serde_json::to_vec(&next).map_err(|error| Error::Spool(error.into()))?;
            match self.books.0.spool.append(&records, &bytes) {
                Ok(last) => {
                    *note = next;
                    drop(note);
                    self.marks.clear();
                    self.books.0.appended.send_replace(last);
                    // The vector is kept: a busy sensor commits twenty times a second.
                    records.clear();
                    self.records = records;
                    return Ok(());
                }
                Err(error) if error.is_out_of_space() && !records.is_empty() => {
                    // What does not fit is lost, and the loss is written down in its place.
                    for change in &mut changes {
                        let ledger = note.ledger.stream(change.stream);
                        let lost = std::mem::take(&mut change.records);
                        *ledger.dropped.entry(DropReason::SpoolFull).or_default() += lost;
                    }
                    records.clear();
                    if self.stream == INVENTORY {
                        // A list counts as sent only when it was: it is offered again next time.
                        self.marks.clear();
                    }
                    tracing::warn!(
                        stream = self.stream,
                        count,
                        "the spool is full; events are dropped until the server takes some"
                    );
                }
                Err(error) if error.is_out_of_space() => {
                    // Not even the note fits: it stays in memory and goes with the next commit.
                    *note = next;
                    self.marks.clear();
                    return Ok(());
                }
                Err(error) => return Err(Error::Spool(Box::new(error))),
            }
        }
    }
}

/// Adds what happened since the last commit to a stream's books.
fn post(ledger: &mut StreamLedger, change: &Change) {
    ledger.emitted += change.ledger.emitted;
    ledger.spooled += change.records;
    ledger.filtered += change.ledger.filtered;
    for (reason, count) in &change.ledger.dropped {
        *ledger.dropped.entry(*reason).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use yinglong_model::{
        EventData, config,
        event::{Exit, Process},
    };
    use yinglong_spool::Options;

    use super::*;

    fn open(dir: &Path, max_bytes: u64) -> Books {
        let options = Options {
            new_epoch: 1,
            segment_bytes: 1 << 20,
            max_bytes,
        };
        let (spool, recovery) = Spool::open(dir, options).unwrap();
        Books::open(spool, recovery.note.as_deref())
    }

    fn execution(name: &str) -> Observation {
        let process = Process {
            name: name.into(),
            ..Process::default()
        };
        Observation::Event {
            occurred_at: Timestamp::from_secs(1),
            data: EventData::Process(Box::new(process)),
        }
    }

    #[test]
    fn books_marks_and_records_are_the_same_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let books = open(dir.path(), 1 << 20);
        let mut outlet = books.outlet("process", Board::default());
        outlet.emit(execution("/bin/a"));
        outlet.lose(DropReason::RingFull, 3);
        outlet.mark("process.ring", "17".into());
        outlet.commit().unwrap();
        outlet.emit(execution("/bin/never-committed"));
        let before = books.ledger();
        drop((outlet, books));

        let books = open(dir.path(), 1 << 20);
        assert_eq!(books.ledger(), before);
        let ledger = &before.streams["process"];
        assert_eq!(
            (ledger.emitted, ledger.spooled, ledger.dropped_total()),
            (4, 1, 3)
        );
        assert!(ledger.balances());
        assert_eq!(
            books
                .outlet("process", Board::default())
                .marked("process.ring")
                .as_deref(),
            Some("17")
        );
        assert_eq!(books.spool().usage().records, 1);
    }

    #[test]
    fn a_sensor_that_feeds_two_streams_has_books_of_both() {
        let dir = tempfile::tempdir().unwrap();
        let books = open(dir.path(), 1 << 20);
        let mut outlet = books.outlet("process", Board::default());
        let document = config::Filter {
            process: vec!["^/bin/true$".into()],
            ..Default::default()
        };
        books.set_filter(Filter::new(&document).0);
        outlet.commit().unwrap();
        let end = |name: &str| Observation::Event {
            occurred_at: Timestamp::from_secs(1),
            data: EventData::Exit(Box::new(Exit {
                name: name.into(),
                ..Exit::default()
            })),
        };
        outlet.emit(execution("/bin/a"));
        outlet.emit(end("/bin/a"));
        outlet.emit(end("/bin/true"));
        outlet.lose_of("exit", DropReason::RingFull, 5);
        outlet.lose(DropReason::RingFull, 2);
        outlet.commit().unwrap();
        let streams = books.ledger().streams;
        let of = |name: &str| {
            let books = &streams[name];
            assert!(books.balances(), "{name}");
            (
                books.emitted,
                books.spooled,
                books.filtered,
                books.dropped_total(),
            )
        };
        assert_eq!(of("process"), (3, 1, 0, 2));
        assert_eq!(of("exit"), (7, 1, 1, 5));
        assert_eq!(streams.len(), 2);
    }

    #[test]
    fn a_full_spool_is_in_the_books_of_every_stream_it_drops_from() {
        let dir = tempfile::tempdir().unwrap();
        let books = open(dir.path(), 4096);
        let mut outlet = books.outlet("process", Board::default());
        for _ in 0..100 {
            outlet.emit(execution("/bin/a"));
            outlet.emit(Observation::Event {
                occurred_at: Timestamp::from_secs(1),
                data: EventData::Exit(Box::default()),
            });
            outlet.commit().unwrap();
        }
        for name in ["process", "exit"] {
            let ledger = books.ledger().streams[name].clone();
            assert_eq!(ledger.emitted, 100, "{name}");
            assert!(ledger.balances() && ledger.dropped[&DropReason::SpoolFull] > 0);
        }
    }

    #[test]
    fn what_the_filter_excludes_is_counted_and_a_new_filter_counts_from_the_next_commit() {
        let dir = tempfile::tempdir().unwrap();
        let books = open(dir.path(), 1 << 20);
        let mut outlet = books.outlet("process", Board::default());
        let document = config::Filter {
            process: vec!["^/bin/true$".into()],
            ..Default::default()
        };
        books.set_filter(Filter::new(&document).0);
        outlet.commit().unwrap();
        outlet.emit(execution("/bin/true"));
        outlet.emit(execution("/bin/id"));
        outlet.commit().unwrap();
        let ledger = books.ledger().streams["process"].clone();
        assert_eq!((ledger.emitted, ledger.spooled, ledger.filtered), (2, 1, 1));
    }

    #[test]
    fn t04_a_full_spool_drops_and_counts_and_takes_events_again_after_release() {
        let dir = tempfile::tempdir().unwrap();
        let books = open(dir.path(), 4096);
        let mut outlet = books.outlet("process", Board::default());
        for n in 0..100 {
            outlet.emit(execution(&format!("/bin/{n}")));
            outlet.commit().unwrap();
        }
        let ledger = books.ledger().streams["process"].clone();
        assert_eq!(ledger.emitted, 100);
        assert!(ledger.spooled > 0 && ledger.balances());
        assert_eq!(ledger.dropped[&DropReason::SpoolFull], 100 - ledger.spooled);

        books.spool().release(u64::MAX - 1).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let books = open(dir.path(), 1 << 20);
        let mut outlet = books.outlet("process", Board::default());
        outlet.emit(execution("/bin/again"));
        outlet.commit().unwrap();
        assert_eq!(books.ledger().streams["process"].spooled, 1);
    }

    #[test]
    fn an_oversized_event_is_counted_and_the_others_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let books = open(dir.path(), 64 << 20);
        let mut outlet = books.outlet("process", Board::default());
        outlet.emit(execution("/bin/a"));
        outlet.emit(execution(&"x".repeat(MAX_RECORD_BYTES + 1)));
        outlet.emit(execution("/bin/b"));
        outlet.commit().unwrap();
        let ledger = books.ledger().streams["process"].clone();
        assert_eq!(ledger.dropped[&DropReason::TooLarge], 1);
        assert_eq!(ledger.spooled, 2);
        assert!(ledger.balances());
    }
}
