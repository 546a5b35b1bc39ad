//! Reading of one recording.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
    time::UNIX_EPOCH,
};

use yinglong_model::Timestamp;

use crate::{
    Error, Format, Record, View,
    audit::{self, Events, Parents},
    evtx::Evtx,
    json, limits,
    lines::{self, Line},
    sniff::{SNIFFED_BYTES, sniff},
    text,
};

/// What recordings are read from.
pub trait Input: Read + Seek + Send {}

impl<T: Read + Seek + Send> Input for T {}

/// What became of the content of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Records that were delivered.
    pub records: u64,
    /// Lines, documents, records and chunks that cannot be read.
    pub damaged: u64,
    /// Those beyond the [limits].
    pub oversized: u64,
    /// Those that can be read and are of nothing that is known.
    pub unknown: u64,
}

/// Reads the records of one recording, in its order. The events of an audit log come when their last
/// record was read, at the latest [`limits::OPEN_AUDIT_EVENTS`] events later.
pub struct Reader {
    format: Format,
    source: Source,
    out: Out,
    ended: bool,
}

/// Where records are put.
pub(crate) struct Out {
    pub(crate) tally: Tally,
    file: Arc<Path>,
    pending: VecDeque<Record>,
}

impl Out {
    pub(crate) fn record(&mut self, number: u64, host: Option<String>, views: Vec<View>) {
        self.pending.push_back(Record {
            file: Arc::clone(&self.file),
            number,
            host,
            views,
        });
    }
}

type Text = BufReader<Box<dyn Input>>;

enum Source {
    Json(Text, Position),
    Evtx(Box<Evtx>),
    Audit(Text, Position, Box<(Events, Parents)>),
    Text(Text, Position, Option<Timestamp>),
    Nothing,
}

/// Buffer of a line or document, and the number of the last one.
#[derive(Default)]
struct Position {
    buffer: Vec<u8>,
    number: u64,
}

impl Reader {
    /// Opens a file.
    ///
    /// # Errors
    /// It cannot be opened or read, or is in no format that is known.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|source| Error::Open {
            path: path.to_owned(),
            source,
        })?;
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        let since = modified
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let written = since.map(|since| Timestamp::from_nanos(0).plus(since));
        Self::new(path, Box::new(file), written)
    }

    /// Reads what is given under the name `path`. `written` is when it was written last; times
    /// without a year are of the year before that.
    ///
    /// # Errors
    /// It cannot be read, or is in no format that is known.
    pub fn new(
        path: &Path,
        mut input: Box<dyn Input>,
        written: Option<Timestamp>,
    ) -> Result<Self, Error> {
        let file: Arc<Path> = Arc::from(path);
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let head = head(&mut input).map_err(failed)?;
        let unknown = |hint| Error::Format {
            path: path.to_owned(),
            hint,
        };
        let format = sniff(&head).map_err(unknown)?;
        let mark = head.starts_with(b"\xef\xbb\xbf");
        let start = SeekFrom::Start(if mark { 3 } else { 0 });
        input.seek(start).map_err(failed)?;
        let position = Position::default();
        let text = |input| BufReader::with_capacity(SNIFFED_BYTES, input);
        let source = match format {
            Format::JsonLines | Format::JsonDocuments => Source::Json(text(input), position),
            Format::Evtx => {
                let evtx = Evtx::new(input).ok_or_else(|| unknown("its head is damaged"))?;
                Source::Evtx(Box::new(evtx))
            }
            Format::Audit => Source::Audit(text(input), position, Box::default()),
            Format::Text => Source::Text(text(input), position, written),
        };
        Ok(Self {
            format,
            source,
            out: Out {
                tally: Tally::default(),
                file,
                pending: VecDeque::new(),
            },
            ended: false,
        })
    }

    /// Format that was found.
    pub const fn format(&self) -> Format {
        self.format
    }

    /// What became of what was read so far.
    pub const fn tally(&self) -> Tally {
        self.out.tally
    }

    /// Reads a little more; `false` at the end.
    fn step(&mut self) -> io::Result<bool> {
        let out = &mut self.out;
        match &mut self.source {
            Source::Json(input, Position { buffer, number }) => {
                if self.format == Format::JsonLines {
                    json::step_line(input, buffer, number, out)
                } else {
                    json::step_document(input, buffer, number, out)
                }
            }
            Source::Evtx(evtx) => Ok(evtx.step(out)),
            Source::Audit(input, position, state) => {
                let (events, parents) = &mut **state;
                audit_step(input, position, events, parents, out)
            }
            Source::Text(input, position, written) => text_step(input, position, *written, out),
            Source::Nothing => Ok(false),
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.out.pending.pop_front() {
                self.out.tally.records += 1;
                return Some(Ok(record));
            }
            if self.ended {
                return None;
            }
            match self.step() {
                Ok(more) => self.ended = !more,
                Err(source) => {
                    self.ended = true;
                    self.source = Source::Nothing;
                    let path = self.out.file.to_path_buf();
                    return Some(Err(Error::Read { path, source }));
                }
            }
        }
    }
}

fn head(input: &mut Box<dyn Input>) -> io::Result<Vec<u8>> {
    let mut head = Vec::new();
    let limit = u64::try_from(SNIFFED_BYTES).unwrap_or(u64::MAX);
    input.by_ref().take(limit).read_to_end(&mut head)?;
    Ok(head)
}

fn audit_step(
    input: &mut Text,
    position: &mut Position,
    events: &mut Events,
    parents: &mut Parents,
    out: &mut Out,
) -> io::Result<bool> {
    let line = lines::next(input, &mut position.buffer, limits::LINE_BYTES)?;
    let complete = match line {
        Line::End => match events.finish() {
            Some(event) => vec![event],
            None => return Ok(false),
        },
        Line::Oversized => {
            position.number += 1;
            out.tally.oversized += 1;
            return Ok(true);
        }
        Line::Read => {
            position.number += 1;
            let line = lines::text(&position.buffer);
            match audit::record(&line) {
                Some(raw) => events.take(position.number, raw, line.len()),
                None => {
                    out.tally.damaged += u64::from(!line.trim().is_empty());
                    return Ok(true);
                }
            }
        }
    };
    for event in complete {
        let host = event.records.first().and_then(|first| first.node.clone());
        let views = audit::views(&event, parents);
        out.record(event.number, host, views);
    }
    Ok(true)
}

fn text_step(
    input: &mut Text,
    position: &mut Position,
    written: Option<Timestamp>,
    out: &mut Out,
) -> io::Result<bool> {
    match lines::next(input, &mut position.buffer, limits::LINE_BYTES)? {
        Line::End => return Ok(false),
        Line::Oversized => {
            position.number += 1;
            out.tally.oversized += 1;
        }
        Line::Read => {
            position.number += 1;
            let line = lines::text(&position.buffer);
            match text::line(&line) {
                Some(found) => {
                    let host = Some(found.host.to_owned());
                    out.record(position.number, host, text::views(&found, written));
                }
                None => out.tally.damaged += u64::from(!line.trim().is_empty()),
            }
        }
    }
    Ok(true)
}
