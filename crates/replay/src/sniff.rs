//! Which format a recording is in, by its first bytes.

use crate::{audit, text};

/// Bytes of a recording that are looked at.
pub(crate) const SNIFFED_BYTES: usize = 64 << 10;

/// Lines that are looked at.
const SNIFFED_LINES: usize = 20;

/// Format of a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON, one document per line.
    JsonLines,
    /// JSON documents over several lines, or in an array.
    JsonDocuments,
    /// Windows event log.
    Evtx,
    /// Log of auditd.
    Audit,
    /// Text log of Linux.
    Text,
}

/// The format of what begins with these bytes, or what it looks like instead.
pub(crate) fn sniff(head: &[u8]) -> Result<Format, &'static str> {
    if head.starts_with(b"ElfFile\0") {
        return Ok(Format::Evtx);
    }
    if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") {
        return Err("it is UTF-16: convert it to UTF-8");
    }
    if head.starts_with(b"\x1f\x8b") || head.starts_with(b"PK\x03\x04") {
        return Err("it is compressed: unpack it");
    }
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
    if head.contains(&0) {
        return Err("it is neither text nor an event log of Windows");
    }
    let whole = String::from_utf8_lossy(head);
    let lines = || whole.lines().filter(|line| !line.trim().is_empty());
    let Some(first) = lines().next() else {
        return Ok(Format::Text);
    };
    let first = first.trim();
    // A first line cut off at the end of the head is a document of one line as well.
    let complete = serde_json::from_str::<serde_json::Value>(first).is_ok() || first.len() >= 4096;
    if first.starts_with('{') && complete {
        return Ok(Format::JsonLines);
    }
    let numbered = first.starts_with("Record ") && lines().nth(1).is_some_and(is_object);
    if first.starts_with('[') && lines().any(|line| line.contains('{'))
        || is_object(first)
        || numbered
        || first == "["
    {
        return Ok(Format::JsonDocuments);
    }
    let some = || lines().take(SNIFFED_LINES);
    if some().any(|line| audit::record(line).is_some()) {
        return Ok(Format::Audit);
    }
    if some().any(|line| text::line(line).is_some()) {
        return Ok(Format::Text);
    }
    Err("its first lines have none of their forms")
}

fn is_object(line: &str) -> bool {
    line.trim_start().starts_with('{')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(head: &str, expected: Format) {
        assert_eq!(sniff(head.as_bytes()), Ok(expected), "{head}");
    }

    #[test]
    fn formats_are_told_apart_by_content() {
        check("ElfFile\0rest", Format::Evtx);
        check("{\"a\":1}\n{\"a\":2}\n", Format::JsonLines);
        check("\u{feff}{\"a\":1}", Format::JsonLines);
        check("{\n  \"a\": 1\n}\n", Format::JsonDocuments);
        check("[{\"a\":1},\n{\"a\":2}]", Format::JsonDocuments);
        check("Record 1\n{\n \"Event\": {", Format::JsonDocuments);
        check(
            "type=CWD msg=audit(1700000000.123:7): cwd=\"/\"\n",
            Format::Audit,
        );
        check(
            "node=web type=CWD msg=audit(1700000000.123:7): cwd=\"/\"\n",
            Format::Audit,
        );
        check("Nov  5 10:00:00 web sshd[7]: hello", Format::Text);
        check(
            "2026-11-05T10:00:00.5+01:00 web sshd[7]: hello",
            Format::Text,
        );
        check("", Format::Text);
    }

    #[test]
    fn what_is_no_recording_is_named() {
        assert!(sniff(b"\x7fELF\0\0").is_err());
        assert!(sniff(b"\xff\xfe{\0").unwrap_err().contains("UTF-16"));
        assert!(sniff(b"\x1f\x8b\x08").unwrap_err().contains("unpack"));
        assert!(sniff(b"hello world\n").is_err());
    }
}
