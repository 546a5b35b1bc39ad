//! Several values as one key: each with its length in front, so that different lists never give
//! the same key.

use sha2::{Digest, Sha256};

/// Values longer than this are kept as their beginning and their SHA-256.
const LONGEST_BYTES: usize = 512;
/// What is kept of the beginning of a long value.
const BEGINNING_BYTES: usize = 128;

/// Adds a value to a key.
pub(crate) fn push(key: &mut Vec<u8>, value: &str) {
    if value.len() <= LONGEST_BYTES {
        push_bytes(key, value.as_bytes());
        return;
    }
    let mut end = BEGINNING_BYTES;
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let digest = Sha256::digest(value.as_bytes());
    let mut short = value.get(..end).unwrap_or_default().to_owned();
    short.push_str("... sha256:");
    for byte in digest {
        short.push_str(&format!("{byte:02x}"));
    }
    push_bytes(key, short.as_bytes());
}

fn push_bytes(key: &mut Vec<u8>, value: &[u8]) {
    // `LONGEST_BYTES` fits.
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    key.extend_from_slice(&length.to_le_bytes());
    key.extend_from_slice(value);
}

/// The values of a key; `None` when the bytes are not a key.
pub(crate) fn split(mut key: &[u8]) -> Option<Vec<String>> {
    let mut values = Vec::new();
    while !key.is_empty() {
        let (length, rest) = key.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        values.push(String::from_utf8(value.to_vec()).ok()?);
        key = rest;
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(values: &[&str]) -> Vec<u8> {
        let mut key = Vec::new();
        values.iter().for_each(|value| push(&mut key, value));
        key
    }

    #[test]
    fn different_lists_never_give_the_same_key() {
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["", "a"]), key(&["a", ""]));
        assert_eq!(split(&key(&["ab", "", "c"])).unwrap(), ["ab", "", "c"]);
    }

    #[test]
    fn long_values_stay_apart_and_short() {
        let long = "龙".repeat(10_000);
        let other = format!("{long}x");
        assert_ne!(key(&[&long]), key(&[&other]));
        assert!(key(&[&long]).len() < LONGEST_BYTES);
        assert!(split(&key(&[&long])).unwrap()[0].starts_with("龙龙"));
    }

    #[test]
    fn bytes_that_are_no_key_are_refused() {
        assert_eq!(split(&[5, 0, b'a']), None);
        assert_eq!(split(&[1]), None);
        assert_eq!(split(&[1, 0, 0xff]), None);
    }
}
