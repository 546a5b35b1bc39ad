//! References to contributing events, kept small: most are ids of 32 hexadecimal digits.

use std::fmt;

/// What a match points at.
#[derive(Debug, Clone)]
pub(crate) enum Reference {
    /// 32 lower-case hexadecimal digits: the id of an event.
    Hex([u8; 16]),
    /// Any other text.
    Text(Box<str>),
    /// A correlation that fired, with what it points at itself.
    Firing(Box<Firing>),
}

/// A correlation that fired, as a member of another.
#[derive(Debug, Clone)]
pub(crate) struct Firing {
    /// Its identity.
    pub(crate) id: [u8; 16],
    /// Events behind it; never firings.
    pub(crate) leaves: Vec<Reference>,
}

/// Identity of what is pointed at; what stands behind a firing does not count.
impl PartialEq for Reference {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Hex(left), Self::Hex(right)) => left == right,
            (Self::Text(left), Self::Text(right)) => left == right,
            (Self::Firing(left), Self::Firing(right)) => left.id == right.id,
            _ => false,
        }
    }
}

impl Reference {
    /// The shortest form of a text.
    pub(crate) fn parse(text: &str) -> Self {
        match unhex(text) {
            Some(bytes) => Self::Hex(bytes),
            None => Self::Text(text.into()),
        }
    }

    /// Events it stands for.
    pub(crate) fn leaves(&self) -> &[Self] {
        match self {
            Self::Firing(firing) => &firing.leaves,
            leaf => std::slice::from_ref(leaf),
        }
    }

    /// Memory outside the value itself, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Hex(_) => 0,
            Self::Text(text) => text.len(),
            Self::Firing(firing) => {
                size_of::<Firing>()
                    + firing
                        .leaves
                        .iter()
                        .map(|leaf| size_of::<Self>() + leaf.heap_bytes())
                        .sum::<usize>()
            }
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hex(bytes) => write!(f, "{:032x}", u128::from_be_bytes(*bytes)),
            Self::Text(text) => f.write_str(text),
            Self::Firing(firing) => write!(f, "{:032x}", u128::from_be_bytes(firing.id)),
        }
    }
}

fn unhex(text: &str) -> Option<[u8; 16]> {
    let plain = text.len() == 32
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !plain {
        return None;
    }
    u128::from_str_radix(text, 16).ok().map(u128::to_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_as_it_was_written() {
        for text in [
            "",
            "0123456789abcdef0123456789abcdef",
            "0123456789ABCDEF0123456789ABCDEF",
            "+123456789abcdef0123456789abcdef",
            "evtx:Security:4625:77",
        ] {
            assert_eq!(Reference::parse(text).to_string(), text);
        }
    }

    #[test]
    fn an_event_id_takes_no_memory_of_its_own() {
        let id = Reference::parse("0123456789abcdef0123456789abcdef");
        assert_eq!(id.heap_bytes(), 0);
        assert!(size_of::<Reference>() <= 24);
    }
}
