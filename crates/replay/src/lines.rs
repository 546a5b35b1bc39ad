//! Lines of bounded length.

use std::io::{self, BufRead};

/// What the next line is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// It is in the buffer, without its end.
    Read,
    /// It is longer than allowed and was left out.
    Oversized,
    /// There is none.
    End,
}

/// Reads a line of at most `limit` bytes into `line`.
pub(crate) fn next(
    input: &mut (impl BufRead + ?Sized),
    line: &mut Vec<u8>,
    limit: usize,
) -> io::Result<Line> {
    line.clear();
    let mut any = false;
    let mut oversized = false;
    loop {
        let available = match input.fill_buf() {
            Ok(available) => available,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if available.is_empty() {
            break;
        }
        any = true;
        let end = available.iter().position(|byte| *byte == b'\n');
        let part = available.get(..end.unwrap_or(available.len()));
        let part = part.unwrap_or_default();
        if line.len().saturating_add(part.len()) > limit {
            oversized = true;
            line.clear();
        }
        if !oversized {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            break;
        }
    }
    if oversized {
        return Ok(Line::Oversized);
    }
    if !any {
        return Ok(Line::End);
    }
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    Ok(Line::Read)
}

/// The text of a line; bytes that are not UTF-8 are replaced.
pub(crate) fn text(line: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8], limit: usize, buffer: usize) -> Vec<Option<String>> {
        let mut input = io::BufReader::with_capacity(buffer, text);
        let mut line = Vec::new();
        let mut found = Vec::new();
        loop {
            match next(&mut input, &mut line, limit).unwrap() {
                Line::Read => found.push(Some(String::from_utf8(line.clone()).unwrap())),
                Line::Oversized => found.push(None),
                Line::End => return found,
            }
        }
    }

    #[test]
    fn lines_end_with_and_without_carriage_return_and_at_the_end() {
        for buffer in [1, 2, 64] {
            let found = all(b"ab\r\n\nc", 10, buffer);
            let expected = ["ab", "", "c"].map(|line| Some(line.to_owned()));
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_line_that_is_too_long_is_left_out_and_the_next_is_read() {
        for buffer in [1, 3, 64] {
            let found = all(b"abcdefgh\nok\n", 4, buffer);
            assert_eq!(found, [None, Some("ok".to_owned())]);
        }
    }
}
