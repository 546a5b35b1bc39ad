//! Folded literals in one buffer.

/// Where in a value a literal must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Anchor {
    /// Anywhere.
    Any,
    /// At the beginning.
    Start,
    /// At the end.
    End,
}

/// Literals by number.
#[derive(Default)]
pub(crate) struct Literals {
    bytes: Vec<u8>,
    list: Vec<Literal>,
}

#[derive(Clone, Copy)]
struct Literal {
    start: u32,
    length: u32,
    anchor: Anchor,
}

/// In shorter texts a plain loop is faster than setting a searcher up.
const LONG_TEXT_BYTES: usize = 1024;

impl Literals {
    /// Adds a literal and returns its number; `None` once there are 4 GiB of them.
    pub(crate) fn push(&mut self, text: &[u8], anchor: Anchor) -> Option<u32> {
        let id = u32::try_from(self.list.len()).ok()?;
        let start = u32::try_from(self.bytes.len()).ok()?;
        let length = u32::try_from(text.len()).ok()?;
        self.bytes.extend_from_slice(text);
        self.list.push(Literal {
            start,
            length,
            anchor,
        });
        Some(id)
    }

    #[inline]
    pub(crate) fn text(&self, id: u32) -> &[u8] {
        let Some(literal) = self.list.get(id as usize) else {
            return &[];
        };
        let start = literal.start as usize;
        self.bytes
            .get(start..start + literal.length as usize)
            .unwrap_or_default()
    }

    #[inline]
    pub(crate) fn anchor(&self, id: u32) -> Anchor {
        self.list
            .get(id as usize)
            .map_or(Anchor::Any, |literal| literal.anchor)
    }

    /// Place of the literal in a folded text, if it is where its anchor allows.
    pub(crate) fn find(&self, id: u32, text: &[u8]) -> Option<usize> {
        let literal = self.text(id);
        match self.anchor(id) {
            Anchor::Any => find(text, literal),
            Anchor::Start => text.starts_with(literal).then_some(0),
            Anchor::End => text.ends_with(literal).then(|| text.len() - literal.len()),
        }
    }

    /// Gives unused memory back.
    pub(crate) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
        self.list.shrink_to_fit();
    }
}

/// Place of `needle` in `text`. Linear in the length of long texts.
fn find(text: &[u8], needle: &[u8]) -> Option<usize> {
    let [first, rest @ ..] = needle else {
        return Some(0);
    };
    if text.len() >= LONG_TEXT_BYTES {
        return memchr::memmem::find(text, needle);
    }
    // The last byte differs where words begin alike, as options and paths do.
    let last = rest.last().unwrap_or(first);
    let end = text.len().checked_sub(needle.len())? + needle.len();
    let tail = text.get(needle.len() - 1..end)?;
    memchr::memchr_iter(*last, tail)
        .find(|place| text.get(*place..).is_some_and(|at| at.starts_with(needle)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_found_where_its_anchor_allows() {
        let mut literals = Literals::default();
        let cases = [
            ("bc", Anchor::Any, Some(1)),
            ("ab", Anchor::Start, Some(0)),
            ("bc", Anchor::Start, None),
            ("cd", Anchor::End, Some(2)),
            ("bc", Anchor::End, None),
            ("abcd", Anchor::Any, Some(0)),
            ("abcde", Anchor::Any, None),
            ("d", Anchor::Any, Some(3)),
        ];
        for (text, anchor, place) in cases {
            let id = literals.push(text.as_bytes(), anchor).unwrap();
            assert_eq!(literals.find(id, b"abcd"), place, "{text} {anchor:?}");
        }
    }

    #[test]
    fn long_texts_are_searched_like_short_ones() {
        let text = "ab".repeat(2000) + "needle";
        assert_eq!(find(text.as_bytes(), b"needle"), Some(4000));
        assert_eq!(find(b"xneedle", b"needle"), Some(1));
        assert_eq!(find(b"", b"needle"), None);
    }
}
