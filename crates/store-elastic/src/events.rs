//! The event store: what waits to be sent, and what is asked.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use yinglong_model::{Event, EventId, Timestamp};
use yinglong_store::{
    Error, EventStore, Kind, LogPosition, Query, Result,
    event_store::{HistogramBucket, Page, PageRequest, Usage},
};

use crate::{
    bulk::{self, Refused},
    client::Client,
    cluster::{self, Product},
    codec::Line,
    config::Options,
    schema::{index_end, index_patterns},
    search::Searcher,
};

/// What waits beyond this is sent before more is taken.
const PENDING_LIMIT_BYTES: usize = 16 << 20;

/// Events in a cluster of Elasticsearch or OpenSearch.
pub struct Elastic {
    client: Client,
    product: Product,
    prefix: String,
    patterns: String,
    node: String,
    retry_for: Duration,
    scan_for: Duration,
    answer_for: Duration,
    ingest: Mutex<Ingest>,
    /// Of the last commit.
    position: AtomicU64,
    refused: AtomicU64,
}

/// What is not committed yet.
#[derive(Default)]
struct Ingest {
    /// Not known to be stored.
    pending: Vec<Line>,
    pending_bytes: usize,
    /// Indexes that were written to since they were refreshed.
    touched: BTreeSet<String>,
    /// Position of the last batch taken.
    appended: LogPosition,
}

/// Sizes by index.
#[derive(Deserialize)]
struct Stats {
    #[serde(default)]
    indices: std::collections::BTreeMap<String, IndexStats>,
}

#[derive(Deserialize)]
struct IndexStats {
    #[serde(default)]
    primaries: Size,
    #[serde(default)]
    total: Size,
}

#[derive(Deserialize, Default)]
struct Size {
    #[serde(default)]
    docs: Docs,
    #[serde(default)]
    store: Stored,
}

#[derive(Deserialize, Default)]
struct Docs {
    #[serde(default)]
    count: u64,
}

#[derive(Deserialize, Default)]
struct Stored {
    #[serde(default)]
    size_in_bytes: u64,
}

impl fmt::Debug for Elastic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Elastic")
            .field("product", &self.product)
            .field("prefix", &self.prefix)
            .field("node", &self.node)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

impl Elastic {
    /// Connects to a cluster, and puts the index template and our own indexes in place.
    ///
    /// # Errors
    /// `Unavailable`: no node answers, or indexes of events are red. `Invalid`: the product or its
    /// version is not supported, the credentials are wrong or lack a right, an index of that name
    /// is somebody else's.
    pub fn open(options: &Options) -> Result<Self> {
        options.check()?;
        let client = Client::new(options)?;
        let product = cluster::product(&client)?;
        let prefix = options.index_prefix.clone();
        cluster::prepare(&client, &prefix)?;
        let position = cluster::read_position(&client, &prefix, &options.node)?;
        Ok(Self {
            client,
            product,
            patterns: index_patterns(&prefix).join(","),
            prefix,
            node: options.node.clone(),
            retry_for: options.retry_for,
            scan_for: options.scan_for,
            // The answer has to come back in time, too.
            answer_for: options.request_timeout.mul_f32(0.9),
            ingest: Mutex::new(Ingest {
                appended: position,
                ..Ingest::default()
            }),
            position: AtomicU64::new(position),
            refused: AtomicU64::new(0),
        })
    }

    /// What the cluster is.
    pub const fn product(&self) -> &Product {
        &self.product
    }

    /// Events that the cluster would never take, since this store was opened. Each is logged with
    /// its reason and kept as a text in the index `yinglong-refused`.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Events kept in `yinglong-refused`, of all nodes and times.
    ///
    /// # Errors
    /// The cluster does not answer.
    pub fn kept_refused(&self) -> Result<u64> {
        cluster::count_refused(&self.client)
    }

    fn ingest(&self) -> MutexGuard<'_, Ingest> {
        // Whatever a panic left there is still to be sent.
        self.ingest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn searcher(&self) -> Searcher<'_> {
        Searcher {
            client: &self.client,
            patterns: &self.patterns,
            scan_for: self.scan_for,
            answer_for: self.answer_for,
        }
    }

    /// Sends everything that waits.
    fn flush(&self, ingest: &mut Ingest) -> Result<()> {
        if ingest.pending.is_empty() {
            return Ok(());
        }
        for line in &ingest.pending {
            if !ingest.touched.contains(&line.index) {
                ingest.touched.insert(line.index.clone());
            }
        }
        let mut refused = Vec::new();
        let outcome = bulk::send(
            &self.client,
            &mut ingest.pending,
            &mut refused,
            self.retry_for,
        );
        ingest.pending_bytes = ingest.pending.iter().map(Line::bytes).sum();
        for Refused { line, reason } in refused {
            self.refused.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                id = line.id,
                index = line.index,
                reason,
                "the cluster refuses an event for good"
            );
            let document = String::from_utf8_lossy(&line.document);
            if let Err(error) = cluster::keep_refused(&self.client, &line.id, &reason, &document) {
                tracing::error!(id = line.id, %error, "a refused event could not be kept either");
            }
        }
        outcome
    }

    fn refresh(&self, ingest: &mut Ingest) -> Result<()> {
        if ingest.touched.is_empty() {
            return Ok(());
        }
        let names: Vec<&str> = ingest.touched.iter().map(String::as_str).collect();
        // An index may have been retired since.
        let path = format!("/{}/_refresh?ignore_unavailable=true", names.join(","));
        self.client
            .post::<Value>(&path, b"{}")
            .map_err(|failure| failure.during("make events searchable"))?;
        ingest.touched.clear();
        Ok(())
    }

    fn stats(&self, what: &str) -> Result<Stats> {
        let path = format!(
            "/{}/_stats/docs,store?ignore_unavailable=true&allow_no_indices=true",
            self.patterns
        );
        self.client
            .get(&path)
            .map_err(|failure| failure.during(what))
    }
}

impl EventStore for Elastic {
    fn append(&self, events: &[Event], position: LogPosition) -> Result<()> {
        let mut ingest = self.ingest();
        if position <= ingest.appended {
            return Ok(());
        }
        // Room is made first, so that a batch is taken whole or not at all.
        if ingest.pending_bytes > PENDING_LIMIT_BYTES {
            self.flush(&mut ingest)?;
        }
        let mut lines = Vec::with_capacity(events.len());
        for event in events {
            lines.push(Line::new(&self.prefix, event).map_err(|error| {
                Error::caused(
                    Kind::Invalid,
                    format!("event {} cannot be written as JSON", event.id),
                    error,
                )
            })?);
        }
        ingest.pending_bytes += lines.iter().map(Line::bytes).sum::<usize>();
        ingest.pending.extend(lines);
        ingest.appended = position;
        Ok(())
    }

    fn commit(&self) -> Result<LogPosition> {
        let mut ingest = self.ingest();
        self.flush(&mut ingest)?;
        self.refresh(&mut ingest)?;
        if ingest.appended > self.position() {
            cluster::write_position(&self.client, &self.prefix, &self.node, ingest.appended)?;
            self.position.store(ingest.appended, Ordering::Release);
        }
        Ok(self.position())
    }

    fn position(&self) -> LogPosition {
        self.position.load(Ordering::Acquire)
    }

    fn search(&self, query: &Query, page: &PageRequest) -> Result<Page> {
        self.searcher().page(query, page)
    }

    fn get(&self, id: &EventId) -> Result<Option<Event>> {
        self.searcher().get(id)
    }

    fn count(&self, query: &Query) -> Result<u64> {
        self.searcher().count(query)
    }

    fn histogram(&self, query: &Query, interval: Duration) -> Result<Vec<HistogramBucket>> {
        self.searcher().histogram(query, interval)
    }

    fn top(&self, query: &Query, field: &str, limit: usize) -> Result<Vec<(String, u64)>> {
        self.searcher().top(query, field, limit)
    }

    /// A partition is a month. It goes when the whole month is older, not when its newest event is:
    /// another node may be writing to it.
    fn retire(&self, before: Timestamp) -> Result<u64> {
        let mut gone = 0;
        for (name, stats) in self.stats("look for old events")?.indices {
            if index_end(&self.prefix, &name).is_none_or(|end| end > before) {
                continue;
            }
            match self.client.delete(&format!("/{name}")) {
                Ok(()) => gone += stats.primaries.docs.count,
                // Another node retired it.
                Err(failure) if failure.status() == Some(404) => {}
                Err(failure) => return Err(failure.during("retire old events")),
            }
        }
        Ok(gone)
    }

    fn usage(&self) -> Result<Usage> {
        let mut usage = Usage::default();
        for (name, stats) in self.stats("measure events")?.indices {
            if index_end(&self.prefix, &name).is_some() {
                usage.events += stats.primaries.docs.count;
                usage.bytes += stats.total.store.size_in_bytes;
            }
        }
        Ok(usage)
    }
}
