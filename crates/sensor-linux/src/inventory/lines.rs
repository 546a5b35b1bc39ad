//! Lines of large files, one at a time, each bounded.

use std::io::{self, BufRead, Read};

/// Calls `each` for every line of `reader`, without its end and as text with what is not UTF-8
/// replaced. Of a line longer than `limit_bytes` only the start is handed over; the rest is
/// passed over.
///
/// # Errors
/// The reader's own.
pub(super) fn each_line(
    mut reader: impl BufRead,
    limit_bytes: usize,
    mut each: impl FnMut(&str),
) -> io::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let mut part = (&mut reader).take(limit_bytes as u64 + 1);
        if part.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let whole = line.last() == Some(&b'\n');
        if whole {
            line.pop();
        }
        line.truncate(limit_bytes);
        each(String::from_utf8_lossy(&line).trim_end_matches('\r'));
        if !whole {
            skip_line(&mut reader)?;
        }
    }
}

/// Passes over what is left of a line, holding no more of it than the reader does.
fn skip_line(reader: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let used = end.map_or(buffer.len(), |end| end + 1);
        let done = end.is_some() || buffer.is_empty();
        reader.consume(used);
        if done {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(bytes: &[u8], limit_bytes: usize) -> Vec<String> {
        let mut lines = Vec::new();
        // A small buffer, so that lines are in several of its fillings.
        let reader = io::BufReader::with_capacity(3, bytes);
        each_line(reader, limit_bytes, |line| lines.push(line.to_owned())).unwrap();
        lines
    }

    #[test]
    fn a_long_line_ends_early_and_the_next_one_is_whole() {
        assert_eq!(lines(b"abcdefgh\nij\r\n\nk", 4), ["abcd", "ij", "", "k"]);
        assert_eq!(lines(b"abcd\nij", 4), ["abcd", "ij"]);
        assert_eq!(lines(b"abcdefgh", 4), ["abcd"]);
        assert!(lines(b"", 4).is_empty());
    }

    proptest! {
        #[test]
        fn every_line_of_any_file_is_handed_over_once_a17(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), any::<u8>()], 0..200),
        ) {
            let mut parts: Vec<_> = bytes.split(|byte| *byte == b'\n').collect();
            if parts.last().is_some_and(|last| last.is_empty()) {
                parts.pop();
            }
            prop_assert_eq!(lines(&bytes, 10).len(), parts.len());
        }
    }
}
