//! One indicator per line.

use std::io::{self, BufRead};

use super::{Facts, Sink, read_line};
use crate::Value;

/// Longest line, in bytes; longer than the longest URL that is taken.
const LINE_BYTES: usize = 16 << 10;

pub(super) fn read(reader: &mut impl BufRead, sink: &mut impl Sink) -> io::Result<()> {
    let mut line = Vec::new();
    while let Some(whole) = read_line(reader, &mut line, LINE_BYTES)? {
        sink.next_line();
        let text = String::from_utf8_lossy(&line);
        let Some((value, note)) = split(&text) else {
            continue;
        };
        if !whole {
            sink.refuse(value, "the line is too long");
            continue;
        }
        match Value::parse(value) {
            Ok(value) => {
                let facts = Facts {
                    label: note.to_owned(),
                    ..Facts::default()
                };
                if sink.add(value, &facts).is_err() {
                    break;
                }
            }
            Err(reason) => sink.refuse(value, &reason.to_string()),
        }
    }
    Ok(())
}

/// Value and comment of a line; `None` when there is nothing but comment.
pub(super) fn split(line: &str) -> Option<(&str, &str)> {
    let line = line.trim();
    if line.is_empty() || line.starts_with(['#', ';', '!']) || line.starts_with("//") {
        return None;
    }
    // A `#` inside a URL is not a comment; one after a blank is.
    let comment = line
        .char_indices()
        .zip(line.chars().skip(1))
        .find(|((_, c), next)| c.is_whitespace() && matches!(next, '#' | ';'))
        .map(|((at, _), _)| at);
    let (value, note) = line.split_at(comment.unwrap_or(line.len()));
    let note = note.trim().trim_start_matches(['#', ';']).trim();
    Some((without_hosts_address(value.trim()), note))
}

/// Lines of a hosts file name the address that a bad domain is sent to.
fn without_hosts_address(value: &str) -> &str {
    match value.split_once(char::is_whitespace) {
        Some(("0.0.0.0" | "127.0.0.1" | "::" | "::1", name)) => name.trim(),
        _ => value,
    }
}
