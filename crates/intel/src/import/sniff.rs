//! Finding out what a file is from its beginning.

use super::{Format, plain};
use crate::Value;

/// Lines that are looked at.
const LINES: usize = 50;
/// Separators of columns, the likeliest first.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// What the beginning of a CSV file tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    /// Separator of columns.
    pub(super) separator: u8,
    /// Names, when a line has them.
    pub(super) names: Option<Vec<String>>,
    /// Columns that hold indicators, by position, when there are no names.
    pub(super) values: Vec<usize>,
}

/// The likeliest format.
pub(super) fn format(head: &[u8]) -> Format {
    let text = String::from_utf8_lossy(head);
    let start = text.trim_start();
    if start.starts_with('{') || looks_like_array(start) {
        let has = |key: &str| start.contains(key);
        let misp =
            has("\"Event\"") || has("\"Attribute\"") || has("\"to_ids\"") || has("\"response\"");
        let stix = has("\"spec_version\"")
            || has("\"bundle\"")
            || has("\"pattern\"")
            || has("\"objects\"");
        return if misp && !stix {
            Format::Misp
        } else {
            Format::Stix
        };
    }
    let lines: Vec<&str> = data_lines(&text);
    let plain = lines
        .iter()
        .filter(|line| plain::split(line).is_some_and(|(value, _)| Value::parse(value).is_ok()))
        .count();
    if plain * 2 > lines.len() {
        return Format::Plain;
    }
    let separated = SEPARATORS.iter().any(|separator| {
        let with = lines
            .iter()
            .filter(|line| line.as_bytes().contains(separator));
        with.count() * 2 > lines.len()
    });
    if separated {
        Format::Csv
    } else {
        Format::Plain
    }
}

/// `[2001:db8::1]:443` also begins with a bracket.
fn looks_like_array(start: &str) -> bool {
    let inside = start.strip_prefix('[').map(str::trim_start);
    inside.is_some_and(|inside| inside.starts_with(['{', ']']))
}

/// What the columns are.
pub(super) fn columns(head: &[u8]) -> Columns {
    let text = String::from_utf8_lossy(head);
    let lines = data_lines(&text);
    let separator = SEPARATORS
        .into_iter()
        .max_by_key(|separator| {
            let with = |line: &&&str| line.as_bytes().contains(separator);
            let tie = SEPARATORS.iter().rev().position(|known| known == separator);
            (lines.iter().filter(with).count(), tie)
        })
        .unwrap_or(b',');
    let rows: Vec<Vec<String>> = lines
        .iter()
        .filter_map(|line| cells(line, separator))
        .collect();
    let names = header(&text, separator, &rows);
    let width = rows.iter().map(Vec::len).max().unwrap_or_default();
    let hits = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.filter(|cell| Value::parse(cell).is_ok()).count()
    };
    // More than half of a column: a stray word with a dot in a description is no domain list.
    let values = (0..width).filter(|column| hits(*column) * 2 > rows.len());
    Columns {
        separator,
        values: if names.is_some() {
            Vec::new()
        } else {
            values.collect()
        },
        names,
    }
}

/// The first line with data if its words are names of columns, or the last comment before it:
/// several public feeds comment their header out.
fn header(text: &str, separator: u8, rows: &[Vec<String>]) -> Option<Vec<String>> {
    let known = |row: &Vec<String>| {
        row.len() > 1
            && row
                .iter()
                .any(|name| super::csv::Role::of(name) == Some(super::csv::Role::Any))
            || row
                .iter()
                .any(|name| matches!(super::csv::Role::of(name), Some(super::csv::Role::Value(_))))
    };
    let no_values = |row: &&Vec<String>| row.iter().all(|cell| Value::parse(cell).is_err());
    let first = rows.first().filter(no_values).filter(|row| known(row));
    let comments = text
        .lines()
        .take_while(|line| line.trim().is_empty() || line.trim_start().starts_with('#'));
    let comment = || {
        let last = comments
            .filter(|line| line.as_bytes().contains(&separator))
            .last()?;
        cells(last.trim_start().trim_start_matches('#').trim(), separator).filter(|row| known(row))
    };
    first.cloned().or_else(comment)
}

fn data_lines(text: &str) -> Vec<&str> {
    let whole = text
        .rfind('\n')
        .map_or(text, |end| text.get(..end).unwrap_or(text));
    whole
        .lines()
        .filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .take(LINES)
        .collect()
}

fn cells(line: &str, separator: u8) -> Option<Vec<String>> {
    let mut reader = super::csv::reader(line.as_bytes(), separator);
    let mut record = csv::StringRecord::new();
    let read = reader.read_record(&mut record).ok()?;
    read.then(|| record.iter().map(|cell| cell.trim().to_owned()).collect())
}
