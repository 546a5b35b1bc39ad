//! Events: appended, searched, aggregated, retired.

use std::time::Duration;

use yinglong_model::{Event, EventId, EventType, Timestamp};

use crate::{LogPosition, Result, query::Query};

/// Where events live.
pub trait EventStore: Send + Sync {
    /// Adds events. They can be searched after the next [`EventStore::commit`], or earlier.
    /// `position` is the log position of the last of them; positions never decrease, and a batch
    /// at or before one already stored is passed over, so that reading the log again from
    /// [`EventStore::position`] stores every event once. The same batch must carry the same
    /// `ingested_at` every time: keep it in the log. An id that occurs twice since the last commit
    /// is stored once.
    ///
    /// # Errors
    /// After `Unavailable`, the same batch can be given again; nothing is stored twice or lost.
    fn append(&self, events: &[Event], position: LogPosition) -> Result<()>;

    /// Makes everything appended durable and searchable; returns the position reached.
    ///
    /// # Errors
    /// After `Unavailable`, what was appended is still held; commit again.
    fn commit(&self) -> Result<LogPosition>;

    /// Position of the last commit.
    fn position(&self) -> LogPosition;

    /// Events that match, newest first: by time, then by id, both falling.
    fn search(&self, query: &Query, page: &PageRequest) -> Result<Page>;

    /// One event.
    fn get(&self, id: &EventId) -> Result<Option<Event>>;

    /// Number of events that match.
    fn count(&self, query: &Query) -> Result<u64>;

    /// Number of matching events per interval and type, oldest first, empty intervals left out.
    fn histogram(&self, query: &Query, interval: Duration) -> Result<Vec<HistogramBucket>>;

    /// Most frequent values of a field among matching events, most frequent first, equally
    /// frequent ones by value. Absent and empty values are left out. Fields are those of queries,
    /// and `type`.
    fn top(&self, query: &Query, field: &str, limit: usize) -> Result<Vec<(String, u64)>>;

    /// Removes whole partitions whose newest event is older; returns how many events went.
    fn retire(&self, before: Timestamp) -> Result<u64>;

    /// Size.
    fn usage(&self) -> Result<Usage>;
}

/// Which part of a result is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Events wanted, 1 to 1000.
    pub limit: usize,
    /// Cursor of the previous page; `None` for the first.
    pub cursor: Option<String>,
    /// Longest time to search; what was found by then is returned, marked partial.
    pub time_limit: Duration,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self {
            limit: 50,
            cursor: None,
            time_limit: Duration::from_secs(10),
        }
    }
}

/// Part of a result.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// Events, newest first.
    pub events: Vec<Event>,
    /// Cursor of the next page; `None` at the end.
    pub next: Option<String>,
    /// The time limit ended the search: there may be more.
    pub partial: bool,
}

/// Events of one type in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramBucket {
    /// Start of the interval.
    pub start: Timestamp,
    /// Type.
    pub event_type: EventType,
    /// Number.
    pub count: u64,
}

/// Size of an event store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Events stored.
    pub events: u64,
    /// Bytes on disk.
    pub bytes: u64,
}
