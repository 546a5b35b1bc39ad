//! One day of arrival: one index.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use tantivy::{
    Index, IndexReader, IndexSettings, ReloadPolicy, Searcher, TantivyDocument, TantivyError,
    directory::{MmapDirectory, error::OpenReadError},
    error::DataCorruption,
    schema::Value,
    store::{Compressor, ZstdCompressor},
    tokenizer::TextAnalyzer,
};
use yinglong_model::{Event, Timestamp};
use yinglong_store::LogPosition;

use super::schema::{self, Fields, Words};

const ZSTD_LEVEL: i32 = 3;
/// Larger blocks compress better; one block is read per result.
const STORE_BLOCK_BYTES: usize = 64 << 10;
/// Blocks kept decompressed per segment.
const STORE_CACHE_BLOCKS: usize = 4;

/// What is known of a partition without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Summary {
    /// Events.
    pub(super) events: u64,
    /// Oldest event time.
    pub(super) oldest: Timestamp,
    /// Newest event time.
    pub(super) newest: Timestamp,
}

impl Summary {
    pub(super) const EMPTY: Self = Self {
        events: 0,
        oldest: Timestamp::from_nanos(i64::MAX),
        newest: Timestamp::from_nanos(i64::MIN),
    };
}

/// A partition; its index is opened when it is first needed.
#[derive(Debug)]
pub(super) struct Partition {
    name: String,
    path: PathBuf,
    fields: Fields,
    opened: Mutex<Opened>,
}

struct Opened {
    reader: Option<IndexReader>,
    summary: Summary,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened")
            .field("summary", &self.summary)
            .finish_non_exhaustive()
    }
}

impl Partition {
    pub(super) fn new(name: String, path: PathBuf, summary: Summary) -> Self {
        Self {
            name,
            path,
            fields: schema::schema().1,
            opened: Mutex::new(Opened {
                reader: None,
                summary,
            }),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn fields(&self) -> Fields {
        self.fields
    }

    pub(super) fn summary(&self) -> Summary {
        self.lock().summary
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A view of what was committed at the last [`Partition::reload`].
    pub(super) fn searcher(&self) -> tantivy::Result<Searcher> {
        if let Some(reader) = &self.lock().reader {
            return Ok(reader.searcher());
        }
        self.reload()
    }

    /// Shows what is committed now, and takes its summary.
    pub(super) fn reload(&self) -> tantivy::Result<Searcher> {
        let mut opened = self.lock();
        let reader = match opened.reader.take() {
            Some(reader) => reader,
            None => guarded(|| {
                let index = open_existing(&self.path)?;
                index
                    .reader_builder()
                    .reload_policy(ReloadPolicy::Manual)
                    .doc_store_cache_num_blocks(STORE_CACHE_BLOCKS)
                    .try_into()
            })?,
        };
        let (searcher, summary) = guarded(|| {
            reader.reload()?;
            let searcher = reader.searcher();
            let summary = summarize(&searcher)?;
            Ok((searcher, summary))
        })?;
        opened.reader = Some(reader);
        opened.summary = summary;
        Ok(searcher)
    }
}

fn summarize(searcher: &Searcher) -> tantivy::Result<Summary> {
    let mut summary = Summary::EMPTY;
    for segment in searcher.segment_readers() {
        if segment.num_docs() == 0 {
            continue;
        }
        let times = segment.fast_fields().i64("time")?;
        summary.events += u64::from(segment.num_docs());
        summary.oldest = summary.oldest.min(Timestamp::from_nanos(times.min_value()));
        summary.newest = summary.newest.max(Timestamp::from_nanos(times.max_value()));
    }
    Ok(summary)
}

/// Runs work that reads index files. tantivy panics on some damage, and calls some internal
/// errors; that is damage, not our end.
pub(super) fn guarded<T>(work: impl FnOnce() -> tantivy::Result<T>) -> tantivy::Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Err(TantivyError::InternalError(reason))) => Err(damaged(reason)),
        Ok(outcome) => outcome,
        Err(panic) => {
            let reason = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("unknown");
            Err(damaged(format!("reading it panicked: {reason}")))
        }
    }
}

/// An error that says the files are bad.
pub(super) fn damaged(comment: String) -> TantivyError {
    TantivyError::DataCorruption(DataCorruption::comment_only(comment))
}

fn open_existing(path: &Path) -> tantivy::Result<Index> {
    if !path.join("meta.json").exists() {
        return Err(TantivyError::OpenReadError(
            OpenReadError::FileDoesNotExist(path.join("meta.json")),
        ));
    }
    open_or_create(path)
}

/// Opens the index of a folder, or makes one.
pub(super) fn open_or_create(path: &Path) -> tantivy::Result<Index> {
    let index = Index::builder()
        .schema(schema::schema().0)
        .settings(IndexSettings {
            docstore_compression: Compressor::Zstd(ZstdCompressor {
                compression_level: Some(ZSTD_LEVEL),
            }),
            docstore_compress_dedicated_thread: false,
            docstore_blocksize: STORE_BLOCK_BYTES,
            ..IndexSettings::default()
        })
        .open_or_create(MmapDirectory::open(path)?)?;
    index
        .tokenizers()
        .register(schema::WORDS, TextAnalyzer::from(Words::default()));
    Ok(index)
}

/// Log position of the last commit of an index; 0 before the first.
pub(super) fn committed_position(index: &Index) -> tantivy::Result<LogPosition> {
    match index.load_metas()?.payload {
        None => Ok(0),
        Some(payload) => payload
            .parse()
            .map_err(|_| damaged(format!("commit payload `{payload}` is no log position"))),
    }
}

/// The event of a stored document.
pub(super) fn read_event(fields: Fields, document: &TantivyDocument) -> tantivy::Result<Event> {
    let json = document
        .get_first(fields.event)
        .and_then(|value| value.as_bytes())
        .ok_or_else(|| damaged("a document has no event".to_owned()))?;
    serde_json::from_slice(json).map_err(|e| damaged(format!("a stored event is unreadable: {e}")))
}
