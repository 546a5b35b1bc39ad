//! EVTX files: chunks of 64 KiB, each readable for itself.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use evtx::{EvtxChunkData, EvtxParser, IntoIterChunks, ParserSettings};
use serde_json::Value;
use yinglong_model::Timestamp;

use crate::{
    limits,
    reader::{Input, Out},
    windows,
};

/// An open file.
pub(crate) struct Evtx {
    chunks: IntoIterChunks<Box<dyn Input>>,
    settings: Arc<ParserSettings>,
}

impl Evtx {
    /// `None` when the head of the file cannot be read.
    pub(crate) fn new(input: Box<dyn Input>) -> Option<Self> {
        let settings = ParserSettings::default().indent(false);
        let parser = EvtxParser::from_read_seek(input).ok()?;
        let parser = parser.with_configuration(settings.clone());
        Some(Self {
            chunks: parser.into_chunks(),
            settings: Arc::new(settings),
        })
    }

    /// Reads one chunk; `false` after the last.
    pub(crate) fn step(&mut self, out: &mut Out) -> bool {
        let Some(chunk) = self.chunks.next() else {
            return false;
        };
        let Ok(chunk) = chunk else {
            out.tally.damaged += 1;
            return true;
        };
        let settings = Arc::clone(&self.settings);
        // The parser is third-party code over bytes of strangers: should it trip over a chunk after
        // all, that costs this chunk.
        match catch_unwind(AssertUnwindSafe(|| records(chunk, settings))) {
            Ok(found) => {
                for record in found {
                    deliver(record, out);
                }
            }
            Err(_) => out.tally.damaged += 1,
        }
        true
    }
}

enum Found {
    Record(u64, Timestamp, Value),
    Damaged,
    Oversized,
}

fn records(mut chunk: EvtxChunkData, settings: Arc<ParserSettings>) -> VecDeque<Found> {
    let mut found = VecDeque::new();
    let Ok(mut chunk) = chunk.parse(settings) else {
        found.push_back(Found::Damaged);
        return found;
    };
    for record in chunk.iter() {
        let json = record.and_then(evtx::EvtxRecord::into_json);
        found.push_back(match json {
            Ok(json) if json.data.len() > limits::DOCUMENT_BYTES => Found::Oversized,
            Ok(json) => match serde_json::from_str(&json.data) {
                Ok(value) => {
                    let nanos = i64::try_from(json.timestamp.as_nanosecond()).unwrap_or_default();
                    Found::Record(json.event_record_id, Timestamp::from_nanos(nanos), value)
                }
                Err(_) => Found::Damaged,
            },
            Err(_) => Found::Damaged,
        });
    }
    found
}

fn deliver(found: Found, out: &mut Out) {
    let (number, written, value) = match found {
        Found::Record(number, written, value) => (number, written, value),
        Found::Damaged => {
            out.tally.damaged += 1;
            return;
        }
        Found::Oversized => {
            out.tally.oversized += 1;
            return;
        }
    };
    let event = value.as_object().and_then(windows::flatten);
    let Some(mut event) = event else {
        out.tally.unknown += 1;
        return;
    };
    event.time = event.time.or(Some(written));
    let host = event.get("Computer").map(str::to_owned);
    out.record(number, host, windows::views(event));
}
