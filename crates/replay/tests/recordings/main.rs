//! Whole recordings, read from bytes.

mod evtx;
mod evtx_writer;
mod hostile;
mod json;
mod lines;

use std::{io::Cursor, path::Path};

use yinglong_model::Timestamp;
use yinglong_replay::{Error, Format, Reader, Record, Tally, View};

/// Everything a reader delivers, and its tally.
pub(crate) fn read(bytes: &[u8]) -> (Format, Vec<Record>, Tally) {
    let mut reader = open(bytes).expect("the format is known");
    let records: Vec<Record> = reader
        .by_ref()
        .map(|record| record.expect("bytes in memory can be read"))
        .collect();
    (reader.format(), records, reader.tally())
}

pub(crate) fn open(bytes: &[u8]) -> Result<Reader, Error> {
    let written = Timestamp::parse_rfc3339("2026-11-20T00:00:00Z").ok();
    let input = Box::new(Cursor::new(bytes.to_vec()));
    Reader::new(Path::new("test"), input, written)
}

pub(crate) fn view<'r>(record: &'r Record, class: &str) -> &'r View {
    let mut views = record.views.iter();
    let found = views.find(|view| view.class.as_str() == class);
    found.unwrap_or_else(|| panic!("no view {class} in {record:?}"))
}

pub(crate) fn check(view: &View, expected: &[(&str, &str)]) {
    for (name, value) in expected {
        assert_eq!(view.get(name), Some(*value), "{name} of {view:?}");
    }
}
