//! Conditions that every text an expression is found in fulfils and that cost little to test: how
//! long it is at least, and bytes that follow each other in it.
//!
//! Expressions without a literal worth looking for are run for every event that could matter to
//! their rules. Most of them ask for something rare all the same: 64 hexadecimal digits in a row,
//! or a dot before a quotation mark.

use regex_syntax::hir::{Class, Hir, HirKind};

/// What a text needs so that an expression can be found in it.
pub(crate) struct Gate {
    shortest_bytes: usize,
    needs: Needs,
}

enum Needs {
    Nothing,
    /// Bytes that follow each other, each of its set; the one at that place is one of a few.
    Places {
        sets: Box<[Bytes]>,
        rare: Rare,
        at: usize,
    },
    /// That many bytes in a row, all of one set.
    Run {
        set: Bytes,
        length: usize,
    },
}

/// One, two or three bytes, as they are searched for together.
#[derive(Clone, Copy)]
enum Rare {
    One(u8),
    Two(u8, u8),
    Three(u8, u8, u8),
}

/// A set of ASCII characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Bytes(u128);

/// Places looked at together; expressions repeat their parts up to thousands of times.
const MOST_PLACES: usize = 64;
/// A sequence is worth looking for if one in so many random places has it, as a power of two.
const RARE_BITS: f32 = 12.0;
/// Shorter runs of many characters are in most texts.
const SHORTEST_RUN: usize = 8;
/// Larger sets say little about a text.
const LARGEST_SET: u32 = 96;

impl Gate {
    /// What an expression needs.
    pub(crate) fn of(hir: &Hir) -> Self {
        let mut sequences = Sequences::default();
        sequences.add(hir);
        sequences.end();
        Self {
            shortest_bytes: hir.properties().minimum_len().unwrap_or(0),
            needs: Needs::of(&sequences.ended),
        }
    }

    /// Whether the expression may be found in the text; `false` is certain.
    #[inline]
    pub(crate) fn lets_through(&self, text: &[u8]) -> bool {
        text.len() >= self.shortest_bytes
            && match &self.needs {
                Needs::Nothing => true,
                Needs::Places { sets, rare, at } => has_places(text, sets, *rare, *at),
                Needs::Run { set, length } => has_run(text, *set, *length),
            }
    }
}

impl Needs {
    fn of(sequences: &[Vec<Bytes>]) -> Self {
        let rarest = sequences
            .iter()
            .filter_map(|sets| {
                let at = (0..sets.len()).min_by_key(|at| sets.get(*at).map(|set| set.size()))?;
                let rare = sets.get(at)?.rare()?;
                let bits: f32 = sets.iter().map(|set| set.bits()).sum();
                (bits >= RARE_BITS).then_some((bits, sets, rare, at))
            })
            .max_by(|left, right| left.0.total_cmp(&right.0));
        if let Some((_, sets, rare, at)) = rarest {
            return Self::Places {
                sets: sets.clone().into_boxed_slice(),
                rare,
                at,
            };
        }
        let longest = sequences
            .iter()
            .map(|sets| {
                let set = sets.iter().fold(Bytes::default(), |all, set| all.or(*set));
                (sets.len(), set)
            })
            .filter(|(length, set)| *length >= SHORTEST_RUN && set.size() <= LARGEST_SET)
            .max_by_key(|(length, _)| *length);
        match longest {
            Some((length, set)) => Self::Run { set, length },
            None => Self::Nothing,
        }
    }
}

impl Bytes {
    const fn has(self, byte: u8) -> bool {
        byte < 128 && self.0 >> byte & 1 == 1
    }

    const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn size(self) -> u32 {
        self.0.count_ones()
    }

    /// How much the set says about a byte.
    fn bits(self) -> f32 {
        8.0 - (self.size().max(1) as f32).log2()
    }

    /// The members, if they are few.
    fn rare(self) -> Option<Rare> {
        let mut members = (0..128_u8).filter(|byte| self.has(*byte));
        let first = members.next()?;
        let (second, third) = (members.next(), members.next());
        match (second, third, members.next()) {
            (None, ..) => Some(Rare::One(first)),
            (Some(second), None, _) => Some(Rare::Two(first, second)),
            (Some(second), Some(third), None) => Some(Rare::Three(first, second, third)),
            _ => None,
        }
    }

    /// The set of a class, if all its members are ASCII characters.
    fn of(class: &Class) -> Option<Self> {
        let ranges: Vec<(u32, u32)> = match class {
            Class::Unicode(class) => class
                .iter()
                .map(|range| (u32::from(range.start()), u32::from(range.end())))
                .collect(),
            Class::Bytes(class) => class
                .iter()
                .map(|range| (u32::from(range.start()), u32::from(range.end())))
                .collect(),
        };
        let mut set = 0_u128;
        for (start, end) in ranges {
            if end >= 128 {
                return None;
            }
            for member in start..=end {
                set |= 1 << member;
            }
        }
        (set != 0).then_some(Self(set))
    }
}

/// Sequences of ASCII characters that every match contains.
#[derive(Default)]
struct Sequences {
    now: Vec<Bytes>,
    ended: Vec<Vec<Bytes>>,
}

impl Sequences {
    fn end(&mut self) {
        if !self.now.is_empty() {
            self.ended.push(std::mem::take(&mut self.now));
        }
    }

    fn push(&mut self, set: Bytes) {
        if self.now.len() == MOST_PLACES {
            self.end();
        }
        self.now.push(set);
    }

    fn add(&mut self, hir: &Hir) {
        match hir.kind() {
            // A place between characters does not interrupt them.
            HirKind::Look(_) | HirKind::Empty => {}
            HirKind::Capture(capture) => self.add(&capture.sub),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.add(part)),
            HirKind::Literal(literal) => {
                for byte in &literal.0 {
                    if byte.is_ascii() {
                        self.push(Bytes(1 << byte));
                    } else {
                        self.end();
                    }
                }
            }
            HirKind::Class(class) => match Bytes::of(class) {
                Some(set) => self.push(set),
                None => self.end(),
            },
            HirKind::Repetition(repetition) => {
                let fixed = repetition.max == Some(repetition.min);
                let copies = (repetition.min as usize).min(MOST_PLACES);
                match repetition.sub.kind() {
                    HirKind::Class(class) => match Bytes::of(class) {
                        Some(set) => {
                            (0..copies).for_each(|_| self.push(set));
                            if !fixed || repetition.min as usize > copies {
                                // What follows is preceded by the last of them.
                                self.end();
                                (0..copies).for_each(|_| self.push(set));
                            }
                        }
                        None => self.end(),
                    },
                    _ => self.end(),
                }
            }
            HirKind::Alternation(_) => self.end(),
        }
    }
}

fn has_places(text: &[u8], sets: &[Bytes], rare: Rare, at: usize) -> bool {
    let fits = |place: usize| {
        let bytes = place
            .checked_sub(at)
            .and_then(|start| text.get(start..start + sets.len()));
        bytes.is_some_and(|bytes| bytes.iter().zip(sets).all(|(byte, set)| set.has(*byte)))
    };
    match rare {
        Rare::One(a) => memchr::memchr_iter(a, text).any(fits),
        Rare::Two(a, b) => memchr::memchr2_iter(a, b, text).any(fits),
        Rare::Three(a, b, c) => memchr::memchr3_iter(a, b, c, text).any(fits),
    }
}

fn has_run(text: &[u8], set: Bytes, length: usize) -> bool {
    let mut start = 0;
    // A byte that is not of the set rules out every stretch that contains it.
    while let Some(stretch) = text.get(start..start + length) {
        match stretch.iter().rposition(|byte| !set.has(*byte)) {
            Some(at) => start += at + 1,
            None => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lazy::{Flags, parse};

    fn gate(pattern: &str) -> Gate {
        Gate::of(&parse(pattern, Flags::default()).unwrap())
    }

    #[test]
    fn texts_without_what_an_expression_needs_are_turned_away() {
        let check = |pattern: &str, through: &[&str], away: &[&str]| {
            let gate = gate(pattern);
            for text in through {
                assert!(gate.lets_through(text.as_bytes()), "{pattern} {text}");
            }
            for text in away {
                assert!(!gate.lets_through(text.as_bytes()), "{pattern} {text}");
            }
        };
        check(
            r#"[a-z0-9]{1,6}\.[ "']"#,
            &["run x. now", "call \"a.b.\""],
            &["run x.exe", "a.b.c", ".", ""],
        );
        let digits = "0123456789abcdef0123456789abcdef";
        check(
            "[0-9a-f]{32}",
            &[digits, &format!("hash {digits} x")],
            &[&digits[1..], "0123456789abcdef-0123456789abcdef"],
        );
        check(".{40,}", &[&"é".repeat(40)], &[&"x".repeat(39)]);
        check(r"\bno\b|yes", &["anything"], &["x"]);
        check("(?i)[k-m]{9}", &["klmklmklm"], &["klm"]);
    }

    #[test]
    fn whatever_an_expression_is_found_in_is_let_through() {
        use proptest::prelude::*;
        let piece = prop_oneof![
            Just("a"),
            Just("[ab]"),
            Just("[a-c]{2}"),
            Just("b{1,3}"),
            Just("."),
            Just(r"\."),
            Just("(?:a|bc)"),
            Just("(c)?"),
            Just("c*"),
            Just(r"\b"),
            Just("é"),
            Just("[aé]"),
            Just("[a-c.]{9,}"),
            Just("$"),
            Just(r"\w{2,5}"),
            Just("(?:ab){2}"),
        ];
        let pattern = prop::collection::vec(piece, 1..6).prop_map(|pieces| pieces.concat());
        let text =
            prop::collection::vec(prop::sample::select(vec!['a', 'b', 'c', '.', 'é']), 0..30)
                .prop_map(|chars| chars.into_iter().collect::<String>());
        proptest!(ProptestConfig::with_cases(4000), |(pattern in pattern, text in text)| {
            let found = regex::bytes::Regex::new(&pattern).unwrap().is_match(text.as_bytes());
            prop_assert!(!found || gate(&pattern).lets_through(text.as_bytes()));
        });
    }
}
