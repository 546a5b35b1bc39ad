//! JSON documents: our own events and those of Windows.

use std::io::{self, BufRead};

use serde_json::{Map, Value};
use yinglong_model::{EventData, Timestamp, event::System};
use yinglong_rules::{Class, Source};

use crate::{
    limits,
    lines::{self, Line},
    reader::Out,
    view::View,
    windows,
};

/// Reads one line; `false` after the last.
pub(crate) fn step_line(
    input: &mut impl BufRead,
    buffer: &mut Vec<u8>,
    number: &mut u64,
    out: &mut Out,
) -> io::Result<bool> {
    let line = lines::next(input, buffer, limits::DOCUMENT_BYTES)?;
    match line {
        Line::End => return Ok(false),
        Line::Oversized => {
            *number += 1;
            out.tally.oversized += 1;
        }
        Line::Read => {
            *number += 1;
            if !buffer.iter().all(u8::is_ascii_whitespace) {
                document(buffer, *number, out);
            }
        }
    }
    Ok(true)
}

/// Reads one document, whatever stands between it and the one before; `false` after the last.
pub(crate) fn step_document(
    input: &mut impl BufRead,
    buffer: &mut Vec<u8>,
    number: &mut u64,
    out: &mut Out,
) -> io::Result<bool> {
    buffer.clear();
    let mut nesting = Nesting::default();
    let mut oversized = false;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            if nesting.depth > 0 {
                out.tally.damaged += 1;
            }
            return Ok(false);
        }
        let mut used = 0;
        let mut complete = false;
        for byte in available {
            used += 1;
            let inside = nesting.depth > 0;
            nesting.take(*byte);
            if !inside && nesting.depth == 0 {
                continue;
            }
            if buffer.len() < limits::DOCUMENT_BYTES {
                buffer.push(*byte);
            } else {
                oversized = true;
            }
            if nesting.depth == 0 {
                complete = true;
                break;
            }
        }
        input.consume(used);
        if complete {
            break;
        }
    }
    *number += 1;
    if oversized {
        out.tally.oversized += 1;
    } else {
        document(buffer, *number, out);
    }
    Ok(true)
}

/// How deep in objects a text is.
#[derive(Default)]
struct Nesting {
    depth: u64,
    quoted: bool,
    escaped: bool,
}

impl Nesting {
    fn take(&mut self, byte: u8) {
        if self.quoted {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.quoted = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'{' => self.depth += 1,
            b'}' => self.depth = self.depth.saturating_sub(1),
            b'"' if self.depth > 0 => self.quoted = true,
            _ => {}
        }
    }
}

fn document(bytes: &[u8], number: u64, out: &mut Out) {
    let Ok(Value::Object(mut document)) = serde_json::from_slice(bytes) else {
        out.tally.damaged += 1;
        return;
    };
    // Documents of a search engine are wrapped.
    if let Some(Value::Object(wrapped)) = document.remove("_source") {
        document = wrapped;
    }
    if let Some((host, view)) = own(&document) {
        out.record(number, host, vec![view]);
    } else if let Some(event) = windows::flatten(&document) {
        let host = event.get("Computer").map(str::to_owned);
        out.record(number, host, windows::views(event));
    } else {
        out.tally.unknown += 1;
    }
}

/// One of our events, complete or in the classic form, which has fewer fields around the data.
fn own(document: &Map<String, Value>) -> Option<(Option<String>, View)> {
    if !document.contains_key("type") || !document.contains_key("data") {
        return None;
    }
    let inner: Map<String, Value> = ["type", "data"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), document.get(name)?.clone())))
        .collect();
    let data: EventData = serde_json::from_value(Value::Object(inner)).ok()?;
    let text = |name: &str| document.get(name).and_then(Value::as_str);
    let system = match text("system") {
        Some("windows") => System::Windows,
        Some("linux") | None => System::Linux,
        Some(_) => return None,
    };
    let time = text("time").and_then(|time| Timestamp::parse_rfc3339(time).ok());
    let source = Source::Event(data.event_type());
    let mut view = View::new(Class::Source(source), system, time);
    for name in source.rule_fields() {
        if let Some(value) = data.field(name) {
            view.push(name, value);
        }
    }
    let host = text("hostname").or_else(|| text("ip"));
    Some((host.map(str::to_owned), view))
}
