//! Partitions that are being written.
//!
//! Everything since the last commit is also held in memory, because an index writer that met a
//! full disk has lost it: a new writer is then given the same events again.

use std::{
    collections::HashSet,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use tantivy::{IndexWriter, TantivyError, indexer::IndexWriterOptions};
use yinglong_model::{Event, EventId};
use yinglong_store::LogPosition;

use super::{
    partition::{committed_position, damaged, guarded, open_or_create},
    schema::{Fields, document},
};

/// Memory of an index writer before it writes a segment.
const ARENA_BYTES: usize = 50 << 20;

/// A partition with a writer.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) name: String,
    /// Absent after a failure, until [`Open::revive`].
    writer: Option<Writer>,
    /// Events since the last commit: position of their batch, JSON.
    pending: Vec<(LogPosition, Vec<u8>)>,
    pending_ids: HashSet<EventId>,
    pending_bytes: usize,
    /// Batches up to here are committed or pending.
    appended: LogPosition,
}

struct Writer(IndexWriter);

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Writer")
    }
}

impl Open {
    /// Opens a partition for writing, and makes it if needed.
    pub(super) fn new(name: &str, path: &Path) -> tantivy::Result<Self> {
        let (writer, position) = writer(path)?;
        Ok(Self {
            name: name.to_owned(),
            writer: Some(writer),
            pending: Vec::new(),
            pending_ids: HashSet::new(),
            pending_bytes: 0,
            appended: position,
        })
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.pending.is_empty()
    }

    pub(super) const fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Takes a batch, unless it has it. An event of which the id is pending is passed over.
    pub(super) fn add(
        &mut self,
        fields: Fields,
        path: &Path,
        events: &[&Event],
        position: LogPosition,
    ) -> tantivy::Result<()> {
        if position <= self.appended {
            return Ok(());
        }
        self.revive(fields, path)?;
        // Serialised before anything is taken, so that a batch is taken whole or not at all.
        let mut batch = Vec::with_capacity(events.len());
        for event in events {
            let json = serde_json::to_vec(event)
                .map_err(|e| TantivyError::InvalidArgument(format!("event is no JSON: {e}")))?;
            batch.push((*event, json));
        }
        self.appended = position;
        let mut outcome = Ok(());
        for (event, json) in batch {
            if !self.pending_ids.insert(event.id.clone()) {
                continue;
            }
            if let Some(Writer(writer)) = &self.writer
                && let Err(error) = writer.add_document(document(fields, event, &json))
            {
                self.writer = None;
                outcome = Err(error);
            }
            self.pending_bytes += json.len();
            self.pending.push((position, json));
        }
        outcome
    }

    /// Makes what is pending durable, in one step with its log position. A writer can have failed
    /// in its own thread long ago and tell only now, so a failure is tried again with a new one.
    pub(super) fn commit(&mut self, fields: Fields, path: &Path) -> tantivy::Result<()> {
        if !self.is_dirty() {
            return Ok(());
        }
        if self.writer.is_some() && self.try_commit().is_ok() {
            return Ok(());
        }
        self.revive(fields, path)?;
        self.try_commit()
    }

    fn try_commit(&mut self) -> tantivy::Result<()> {
        let position = self.appended.to_string();
        let Some(Writer(writer)) = &mut self.writer else {
            return Ok(());
        };
        let outcome = uninterrupted(|| {
            let mut prepared = writer.prepare_commit()?;
            prepared.set_payload(&position);
            prepared.commit().map(drop)
        });
        match outcome {
            Ok(()) => self.forget_pending(),
            Err(_) => self.writer = None,
        }
        outcome
    }

    /// Gives up the writer; what is pending goes to the next one.
    pub(super) fn drop_writer(&mut self) {
        self.writer = None;
    }

    fn forget_pending(&mut self) {
        self.pending = Vec::new();
        self.pending_ids = HashSet::new();
        self.pending_bytes = 0;
    }

    /// Replaces a failed writer and gives it what is pending. A commit that failed may have
    /// reached the disk all the same: what its position covers is not given again.
    fn revive(&mut self, fields: Fields, path: &Path) -> tantivy::Result<()> {
        if self.writer.is_some() {
            return Ok(());
        }
        let (writer, committed) = writer(path)?;
        self.pending.retain(|(position, _)| *position > committed);
        for (_, json) in &self.pending {
            let event: Event = serde_json::from_slice(json)
                .map_err(|e| damaged(format!("a pending event is unreadable: {e}")))?;
            writer.0.add_document(document(fields, &event, json))?;
        }
        self.writer = Some(writer);
        Ok(())
    }

    /// Ends writing; running merges are waited for.
    pub(super) fn close(self) -> tantivy::Result<()> {
        match self.writer {
            Some(Writer(writer)) => uninterrupted(|| writer.wait_merging_threads()),
            None => Ok(()),
        }
    }
}

/// Runs work of a writer. A panic there is no sign of damaged files: the writer is given up.
fn uninterrupted<T>(work: impl FnOnce() -> tantivy::Result<T>) -> tantivy::Result<T> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(TantivyError::ErrorInThread("a writer panicked".to_owned())))
}

fn writer(path: &Path) -> tantivy::Result<(Writer, LogPosition)> {
    guarded(|| {
        let index = open_or_create(path)?;
        let position = committed_position(&index)?;
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .memory_budget_per_thread(ARENA_BYTES)
            .num_merge_threads(1)
            .build();
        Ok((Writer(index.writer_with_options(options)?), position))
    })
}
