//! Bytes a host gives us, as text for documents.

use std::fmt::Write as _;

/// The bytes as text: what is not UTF-8, and control characters, as `\xNN`.
pub fn printable(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    append_printable(&mut text, bytes);
    text
}

/// Appends [`printable`] text.
pub fn append_printable(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        if valid.contains(char::is_control) {
            for character in valid.chars() {
                if character.is_control() {
                    let mut buffer = [0; 4];
                    append_hex(text, character.encode_utf8(&mut buffer).as_bytes());
                } else {
                    text.push(character);
                }
            }
        } else {
            text.push_str(valid);
        }
        append_hex(text, chunk.invalid());
    }
}

/// An argument block, arguments ended by NUL, as a command line separated by spaces.
pub fn command_line(block: &[u8]) -> String {
    let block = block.strip_suffix(&[0]).unwrap_or(block);
    let mut text = String::with_capacity(block.len());
    for (index, argument) in block.split(|&byte| byte == 0).enumerate() {
        if index > 0 {
            text.push(' ');
        }
        append_printable(&mut text, argument);
    }
    text
}

/// Name of the file a path leads to.
pub fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn append_hex(text: &mut String, bytes: &[u8]) {
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "\\x{byte:02x}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_shown_is_escaped_and_the_rest_kept() {
        for (bytes, text) in [
            (&b"plain"[..], "plain"),
            (b"a\x01b\nc\td", "a\\x01b\\x0ac\\x09d"),
            ("应龙".as_bytes(), "应龙"),
            (b"\xff\xfe/x", "\\xff\\xfe/x"),
            ("a\u{85}".as_bytes(), "a\\xc2\\x85"),
            (b"\x7f", "\\x7f"),
            (b"", ""),
        ] {
            assert_eq!(printable(bytes), text);
        }
    }

    #[test]
    fn a_command_line_keeps_every_argument_in_its_place() {
        for (block, text) in [
            (&b"sh\0-c\0id\0"[..], "sh -c id"),
            (b"a\0\0b\0", "a  b"),
            (b"a\0\0", "a "),
            (b"cut", "cut"),
            (b"", ""),
            (b"\0", ""),
        ] {
            assert_eq!(command_line(block), text);
        }
    }

    #[test]
    fn a_base_name_is_what_follows_the_last_slash() {
        for (path, name) in [("/usr/bin/id", "id"), ("id", "id"), ("/", ""), ("", "")] {
            assert_eq!(base_name(path), name);
        }
    }
}
