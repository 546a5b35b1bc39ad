//! Reading of feeds: plain lists, CSV, STIX 2.1 bundles, MISP events.
//!
//! Every reader takes what it can use and says of the rest why not. Memory is bounded by one line,
//! one CSV record or one JSON object, each of which is bounded by the size of the file.

mod csv;
mod json;
mod misp;
mod plain;
mod sniff;
mod stix;

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read},
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use yinglong_model::{Timestamp, rule::Level};

pub use stix::pattern;

use crate::{Indicator, Kind, Value};

/// Bytes at the beginning of a file by which its format is found out.
const HEAD_BYTES: usize = 64 << 10;
/// Longest text of a diagnostic, in bytes.
const TEXT_BYTES: usize = 200;

/// Formats of feeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// One indicator per line; comments after `#`, `;` or `//`; hosts files.
    Plain,
    /// Comma, semicolon, tab or bar separated, with or without a header.
    Csv,
    /// STIX 2.0 or 2.1 bundle, TAXII envelope, or single objects.
    Stix,
    /// MISP event export.
    Misp,
}

impl Format {
    /// Names, for messages.
    pub const NAMES: &str = "plain, csv, stix, misp";

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Csv => "csv",
            Self::Stix => "stix",
            Self::Misp => "misp",
        }
    }
}

/// A name that is no format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no format; there are {names}", names = Format::NAMES)]
pub struct UnknownFormat(String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        [Self::Plain, Self::Csv, Self::Stix, Self::Misp]
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| UnknownFormat(shortened(text)))
    }
}

/// How a feed is read.
#[derive(Debug, Clone)]
pub struct Options {
    /// Format; found out when `None`.
    pub format: Option<Format>,
    /// Level of hits when the feed has none of its own.
    pub level: Level,
    /// End of indicators that state none.
    pub valid_until: Option<Timestamp>,
    /// Bytes that are read at most.
    pub max_bytes: u64,
    /// Indicators that are taken at most.
    pub max_indicators: u64,
    /// Diagnostics that are listed at most; all are counted.
    pub max_diagnostics: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: None,
            level: Level::Danger,
            valid_until: None,
            max_bytes: 1 << 30,
            max_indicators: 20_000_000,
            max_diagnostics: 100,
        }
    }
}

/// Something in a feed that was not taken as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Line of the file, or number of the object or attribute in it, from 1.
    pub line: u64,
    /// The text, shortened.
    pub text: String,
    /// What is wrong.
    pub reason: String,
}

/// What became of a feed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The format that was read.
    pub format: Option<Format>,
    /// Indicators taken.
    pub taken: u64,
    /// Entries that could not be used.
    pub refused: u64,
    /// Entries left out on purpose, by reason: `revoked`, `not to_ids`, ...
    pub skipped: BTreeMap<String, u64>,
    /// The first of the refused.
    pub diagnostics: Vec<Diagnostic>,
    /// Why reading ended before the end of the file; what was taken before is good.
    pub ended_early: Option<String>,
}

/// Reads a feed and hands each indicator to `take`, which says whether it has room for more.
/// Never panics, whatever the bytes.
///
/// # Errors
/// The bytes cannot be read. Everything else is in the report.
pub fn import(
    reader: impl Read,
    options: &Options,
    take: impl FnMut(Indicator) -> bool,
) -> io::Result<Report> {
    let mut reader = reader.take(options.max_bytes.saturating_add(1));
    let mut head = Vec::new();
    reader
        .by_ref()
        .take(HEAD_BYTES as u64)
        .read_to_end(&mut head)?;
    if let Some(rest) = head.strip_prefix(b"\xef\xbb\xbf") {
        head = rest.to_vec();
    }
    let format = options.format.unwrap_or_else(|| sniff::format(&head));
    let columns = sniff::columns(&head);
    let mut reader = BufReader::new(io::Cursor::new(head).chain(reader));
    let mut intake = Intake {
        options,
        take,
        report: Report {
            format: Some(format),
            ..Report::default()
        },
        line: 0,
    };
    match format {
        Format::Plain => plain::read(&mut reader, &mut intake)?,
        Format::Csv => csv::read(&mut reader, &columns, &mut intake)?,
        Format::Stix => stix::read(&mut reader, &mut intake)?,
        Format::Misp => misp::read(&mut reader, &mut intake)?,
    }
    let mut report = intake.report;
    // A byte beyond the limit was there to be read.
    if reader.into_inner().into_inner().1.limit() == 0 && report.ended_early.is_none() {
        report.ended_early = Some(format!(
            "the feed is larger than {} bytes; split it",
            options.max_bytes
        ));
    }
    Ok(report)
}

/// Reading is over: there is no room for more, or the file is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Enough;

type Flow = Result<(), Enough>;

/// What a feed says about an indicator beside its value.
#[derive(Debug, Clone, Default)]
struct Facts {
    label: String,
    level: Option<Level>,
    confidence: Option<u8>,
    valid_from: Option<Timestamp>,
    valid_until: Option<Timestamp>,
}

/// Where readers put what they find.
struct Intake<'o, T> {
    options: &'o Options,
    take: T,
    report: Report,
    /// Line, object or attribute that is being read.
    line: u64,
}

/// The same for readers, whatever `take` is.
trait Sink {
    fn next_line(&mut self);
    fn at(&mut self, line: u64);
    fn add(&mut self, value: Value, facts: &Facts) -> Flow;
    fn refuse(&mut self, text: &str, reason: &str);
    fn skip(&mut self, reason: &str);
    fn end_early(&mut self, reason: String);
}

impl<T: FnMut(Indicator) -> bool> Sink for Intake<'_, T> {
    fn at(&mut self, line: u64) {
        self.line = line;
    }

    fn next_line(&mut self) {
        self.line += 1;
    }

    fn add(&mut self, value: Value, facts: &Facts) -> Flow {
        if self.report.taken >= self.options.max_indicators {
            let most = self.options.max_indicators;
            self.end_early(format!(
                "there are more than {most} indicators; split the feed"
            ));
            return Err(Enough);
        }
        let level = facts.level.unwrap_or(self.options.level);
        let indicator = Indicator {
            // A file name alone says little: every other invoice is called so.
            level: if value.kind() == Kind::Name {
                level.max(Level::Hint)
            } else {
                level
            },
            value,
            label: facts.label.clone(),
            confidence: facts.confidence,
            valid_from: facts.valid_from,
            valid_until: facts.valid_until.or(self.options.valid_until),
        };
        if !(self.take)(indicator) {
            self.end_early("there is no room for more indicators; split the feed".to_owned());
            return Err(Enough);
        }
        self.report.taken += 1;
        Ok(())
    }

    fn refuse(&mut self, text: &str, reason: &str) {
        self.report.refused += 1;
        if self.report.diagnostics.len() < self.options.max_diagnostics {
            self.report.diagnostics.push(Diagnostic {
                line: self.line,
                text: shortened(text),
                reason: shortened(reason),
            });
        }
    }

    fn skip(&mut self, reason: &str) {
        match self.report.skipped.get_mut(reason) {
            Some(count) => *count += 1,
            None => drop(self.report.skipped.insert(reason.to_owned(), 1)),
        }
    }

    fn end_early(&mut self, reason: String) {
        self.report.ended_early.get_or_insert(reason);
    }
}

fn shortened(text: &str) -> String {
    let cut = text
        .get(..text.floor_char_boundary(TEXT_BYTES))
        .unwrap_or_default();
    if cut.len() < text.len() {
        format!("{cut}…")
    } else {
        cut.to_owned()
    }
}

/// Reads a line of at most `most` bytes; the rest of a longer one is passed over. `None` at the
/// end; otherwise whether the line was whole.
fn read_line(
    reader: &mut impl BufRead,
    line: &mut Vec<u8>,
    most: usize,
) -> io::Result<Option<bool>> {
    line.clear();
    let (mut read_any, mut whole) = (false, true);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(read_any.then_some(whole));
        }
        read_any = true;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let part = buffer
            .get(..end.unwrap_or(buffer.len()))
            .unwrap_or_default();
        let room = most.saturating_sub(line.len());
        whole &= part.len() <= room;
        line.extend_from_slice(part.get(..room.min(part.len())).unwrap_or_default());
        let used = part.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            return Ok(Some(whole));
        }
    }
}

#[cfg(test)]
mod tests;
