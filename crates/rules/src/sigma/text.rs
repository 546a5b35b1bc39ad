//! Values: wildcards with their escapes, placeholders, dashes and encodings.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::{
    ir::{Pattern, Piece},
    sigma::modifier::Utf16,
};

/// Characters that begin an option of a Windows command; `windash` takes each for any other.
pub(crate) const DASHES: [char; 5] = ['-', '/', '\u{2013}', '\u{2014}', '\u{2015}'];

/// Dashes that are written out in all their forms, 125 at most; a value with more becomes a regular
/// expression, since the forms grow with the power of five.
pub(crate) const DASHES_WRITTEN: usize = 3;

/// Pieces of a value: `*` and `?` are wildcards; a backslash before one of them, or before a
/// backslash, makes it a plain character; any other backslash is one.
pub(crate) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let wildcard = match c {
            '\\' => {
                match characters.next_if(|next| matches!(next, '*' | '?' | '\\')) {
                    Some(escaped) => literal.push(escaped),
                    None => literal.push('\\'),
                }
                continue;
            }
            '*' => Piece::Many,
            '?' => Piece::One,
            _ => {
                literal.push(c);
                continue;
            }
        };
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(wildcard);
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    Pattern::tidy(pieces).0
}

/// Part of a value with placeholders.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part<'t> {
    /// As written, escapes of wildcards included.
    Text(String),
    /// Name between two percent signs.
    Placeholder(&'t str),
}

/// Parts of a value: `%name%` is a placeholder, `\%` a plain percent sign.
pub(crate) fn placeholders(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['%', '\\']) {
        let (before, from) = rest.split_at(at);
        plain.push_str(before);
        if let Some(after) = from.strip_prefix("\\%") {
            plain.push('%');
            rest = after;
        } else if let Some(after) = from.strip_prefix('%') {
            match after.split_once('%') {
                Some((name, after)) if is_name(name) => {
                    if !plain.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut plain)));
                    }
                    parts.push(Part::Placeholder(name));
                    rest = after;
                }
                _ => {
                    plain.push('%');
                    rest = after;
                }
            }
        } else {
            // A backslash, with what it escapes, so that `\\%` is a backslash and a placeholder.
            let mut escaped = from.chars();
            plain.extend(escaped.by_ref().take(1));
            if let Some(after) = escaped.as_str().strip_prefix('\\') {
                plain.push('\\');
                rest = after;
            } else {
                rest = escaped.as_str();
            }
        }
    }
    plain.push_str(rest);
    if !plain.is_empty() {
        parts.push(Part::Text(plain));
    }
    parts
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .chars()
            .all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ' '))
}

/// Dashes in the literals of a value.
pub(crate) fn dashes(pieces: &[Piece]) -> usize {
    let literals = pieces.iter().filter_map(|piece| match piece {
        Piece::Literal(text) => Some(text),
        Piece::One | Piece::Many => None,
    });
    literals
        .map(|text| text.chars().filter(|c| DASHES.contains(c)).count())
        .sum()
}

/// Every form of a value with each dash taken for each other. Callers look at [`dashes`] first.
pub(crate) fn windash(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    let mut forms: Vec<Vec<Piece>> = vec![Vec::new()];
    for piece in pieces {
        let Piece::Literal(text) = piece else {
            for form in &mut forms {
                form.push(piece.clone());
            }
            continue;
        };
        let mut texts = vec![String::with_capacity(text.len())];
        for c in text.chars() {
            if DASHES.contains(&c) {
                texts = texts
                    .iter()
                    .flat_map(|text| DASHES.map(|dash| format!("{text}{dash}")))
                    .collect();
            } else {
                for text in &mut texts {
                    text.push(c);
                }
            }
        }
        forms = forms
            .iter()
            .flat_map(|form| {
                texts.iter().map(|text| {
                    let mut form = form.clone();
                    form.push(Piece::Literal(text.clone()));
                    form
                })
            })
            .collect();
    }
    forms
}

/// A pattern as a regular expression in which each dash stands for any dash. For a flag set where
/// `.` matches line ends.
pub(crate) fn windash_regex(pattern: &Pattern) -> String {
    let mut regex = String::new();
    let pieces = pattern.0.as_slice();
    let (open_start, pieces) = match pieces {
        [Piece::Many, rest @ ..] => (true, rest),
        all => (false, all),
    };
    let (open_end, pieces) = match pieces {
        [rest @ .., Piece::Many] => (true, rest),
        all => (false, all),
    };
    if !open_start {
        regex.push_str(r"\A");
    }
    let mut one = [0_u8; 4];
    for piece in pieces {
        match piece {
            Piece::Literal(text) => {
                for c in text.chars() {
                    if DASHES.contains(&c) {
                        regex.push_str("[-/\u{2013}\u{2014}\u{2015}]");
                    } else {
                        regex.push_str(&regex::escape(c.encode_utf8(&mut one)));
                    }
                }
            }
            Piece::One => regex.push('.'),
            Piece::Many => regex.push_str(".*"),
        }
    }
    if !open_end {
        regex.push_str(r"\z");
    }
    regex
}

/// Bytes of a text in UTF-16.
pub(crate) fn utf16(text: &str, how: Utf16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() * 2 + 2);
    if how == Utf16::Marked {
        bytes.extend([0xff, 0xfe]);
    }
    for unit in text.encode_utf16() {
        bytes.extend(match how {
            Utf16::Big => unit.to_be_bytes(),
            Utf16::Little | Utf16::Marked => unit.to_le_bytes(),
        });
    }
    bytes
}

/// Bytes encoded alone, with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// What is the same in the Base64 of any text that contains the bytes, for each of the three places
/// they can begin at in a group of three. Characters that also hold bits of the neighbours are left
/// out. Fewer when nothing is left.
pub(crate) fn base64_offsets(bytes: &[u8]) -> Vec<String> {
    let mut parts = Vec::with_capacity(3);
    for shift in 0..3_usize {
        let mut shifted = vec![0; shift];
        shifted.extend_from_slice(bytes);
        // A character has six bits: from the first that begins within the bytes to the last that
        // ends within them.
        let first = (shift * 8).div_ceil(6);
        let last = shifted.len() * 8 / 6;
        let encoded = STANDARD.encode(&shifted);
        if let Some(part) = encoded.get(first..last)
            && !part.is_empty()
        {
            parts.push(part.to_owned());
        }
    }
    parts
}
