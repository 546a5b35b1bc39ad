//! Tests of values, prepared so that each is decided at most once per event.

use std::net::IpAddr;

use ipnet::IpNet;
use regex::bytes::{Regex, RegexBuilder};
use yinglong_model::Timestamp;
use yinglong_rules::ir::{Comparison, Likeness, Number, Pattern, Piece, TimePart};

use super::{
    lazy::{Lazy, REGEX_BYTES, REGEX_CACHE_BYTES},
    literals::{Anchor, Literals},
};

/// A test of one value.
pub(crate) struct Predicate {
    /// Place of the field in the route, or [`KEYWORD`].
    pub(crate) field: u32,
    pub(crate) decide: Decide,
}

/// Field of predicates that any value of the event can satisfy.
pub(crate) const KEYWORD: u32 = u32::MAX;

/// How a predicate is decided.
pub(crate) enum Decide {
    /// Literal, by number, where its anchor allows.
    Literal(u32),
    /// The value equals the literal of that number.
    Equal(u32),
    /// Folded literals in this order, with anything between them.
    Parts(Box<[u32]>),
    /// An expression over the folded value: a pattern with `?`.
    Folded(Box<Regex>),
    /// An expression over the value.
    Regex(Box<Lazy>),
    /// An expression over the value that stands for a pattern in which case counts.
    Cased(Box<(Regex, Pattern)>),
    Network(IpNet),
    Compare(Comparison, Number),
    Exists(bool),
    Null,
    Empty,
    Filled,
    Other {
        field: u32,
        how: Likeness,
        cased: bool,
    },
    Time(TimePart, Comparison, Number),
    /// Decided when the event arrives.
    Count(u64),
}

/// Compiles what [`pattern_regex`] writes.
pub(crate) fn compile_pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text)
        .dot_matches_new_line(true)
        .size_limit(REGEX_BYTES)
        .dfa_size_limit(REGEX_CACHE_BYTES)
        .build()
}

/// A pattern as an expression that covers the whole value.
pub(crate) fn pattern_regex(pieces: &[Piece]) -> String {
    let mut text = String::from("^");
    for piece in pieces {
        match piece {
            Piece::Literal(literal) => text.push_str(&regex::escape(literal)),
            Piece::One => text.push('.'),
            Piece::Many => text.push_str(".*"),
        }
    }
    text.push('$');
    text
}

/// Whether the parts are in the text in their order; the first and the last only where their
/// anchors allow.
pub(crate) fn parts_in_order(parts: &[u32], literals: &Literals, text: &[u8]) -> bool {
    // An anchored end is taken off first, so that what is between is looked for only before it.
    let (inner, text) = match parts.split_last() {
        Some((last, inner)) if literals.anchor(*last) == Anchor::End => {
            match text.strip_suffix(literals.text(*last)) {
                Some(rest) => (inner, rest),
                None => return false,
            }
        }
        _ => (parts, text),
    };
    let mut rest = text;
    for part in inner {
        let Some(place) = literals.find(*part, rest) else {
            return false;
        };
        rest = rest
            .get(place + literals.text(*part).len()..)
            .unwrap_or_default();
    }
    true
}

/// Whether an address is in a network. An IPv4 address in its IPv6 form is that IPv4 address.
pub(crate) fn in_network(value: &str, network: &IpNet) -> bool {
    value
        .trim()
        .parse::<IpAddr>()
        .is_ok_and(|address| network.contains(&address.to_canonical()))
}

/// Whether a number compares so; hexadecimal numbers begin with `0x`.
pub(crate) fn compares(value: &str, comparison: Comparison, number: Number) -> bool {
    parse_number(value).is_some_and(|value| comparison.holds(value, number.get()))
}

fn parse_number(value: &str) -> Option<f64> {
    let value = value.trim();
    match value
        .strip_prefix("0x")
        .or_else(|| value.strip_prefix("0X"))
    {
        // Numbers beyond 2^53 lose their last digits, as all floating-point comparisons do.
        Some(digits) => u64::from_str_radix(digits, 16).ok().map(|n| n as f64),
        None => value.parse().ok(),
    }
}

/// Whether a part of a time compares so.
pub(crate) fn time_part(value: &str, part: TimePart, how: Comparison, number: Number) -> bool {
    part_of_time(value, part).is_some_and(|value| how.holds(value, number.get()))
}

/// Year 2262, the end of 64-bit nanoseconds since 1970.
const LATEST_SECS: f64 = 9.2e9;

fn part_of_time(value: &str, part: TimePart) -> Option<f64> {
    let value = value.trim();
    let at = match value.parse::<f64>() {
        // Seconds beyond 64 bits saturate, and times beyond the calendar are not times.
        Ok(seconds) if seconds.abs() < LATEST_SECS => {
            Timestamp::from_secs(seconds as i64).to_datetime()
        }
        Ok(_) => return None,
        Err(_) => {
            // Windows logs write a blank where RFC 3339 has a T, and leave UTC out.
            let mut text = value.replacen(' ', "T", 1);
            if !text.ends_with(['Z', 'z']) && !text.get(10..)?.contains(['+', '-']) {
                text.push('Z');
            }
            Timestamp::parse_rfc3339(&text).ok()?.to_datetime()
        }
    };
    Some(match part {
        TimePart::Minute => f64::from(at.minute()),
        TimePart::Hour => f64::from(at.hour()),
        TimePart::Day => f64::from(at.day()),
        TimePart::Week => f64::from(at.iso_week()),
        TimePart::Month => f64::from(u8::from(at.month())),
        TimePart::Year => f64::from(at.year()),
    })
}

impl Decide {
    /// The test in words, as explanations show it.
    pub(crate) fn describe(
        &self,
        literals: &Literals,
        field_name: impl Fn(u32) -> String,
    ) -> String {
        let text = |id: u32| String::from_utf8_lossy(literals.text(id)).into_owned();
        match self {
            Self::Literal(id) => match literals.anchor(*id) {
                Anchor::Any => format!("contains {}", text(*id)),
                Anchor::Start => format!("startswith {}", text(*id)),
                Anchor::End => format!("endswith {}", text(*id)),
            },
            Self::Equal(id) => format!("equals {}", text(*id)),
            Self::Parts(parts) => {
                let texts: Vec<String> = parts.iter().map(|id| text(*id)).collect();
                format!("contains {}", texts.join(" … "))
            }
            Self::Folded(regex) => format!("matches {}", regex.as_str()),
            Self::Regex(regex) => format!("regex {}", regex.as_str()),
            Self::Cased(cased) => format!("matches {}", cased.0.as_str()),
            Self::Network(network) => format!("in {network}"),
            Self::Compare(how, number) => format!("{} {number}", how.sign()),
            Self::Exists(true) => "exists".to_owned(),
            Self::Exists(false) => "does not exist".to_owned(),
            Self::Null => "is not set".to_owned(),
            Self::Empty => "is empty".to_owned(),
            Self::Filled => "is not empty".to_owned(),
            Self::Other { field, how, .. } => {
                let how = match how {
                    Likeness::Equal => "equals",
                    Likeness::StartsWith => "startswith",
                    Likeness::EndsWith => "endswith",
                    Likeness::Contains => "contains",
                };
                format!("{how} the value of {}", field_name(*field))
            }
            Self::Time(part, how, number) => {
                let part = match part {
                    TimePart::Minute => "minute",
                    TimePart::Hour => "hour",
                    TimePart::Day => "day",
                    TimePart::Week => "week",
                    TimePart::Month => "month",
                    TimePart::Year => "year",
                };
                format!("{part} {} {number}", how.sign())
            }
            Self::Count(number) => format!("count {number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_found_in_their_order_and_at_their_ends() {
        let mut literals = Literals::default();
        let start = literals.push(b"ab", Anchor::Start).unwrap();
        let middle = literals.push(b"cd", Anchor::Any).unwrap();
        let end = literals.push(b"dx", Anchor::End).unwrap();
        let check = |parts: &[u32], text: &str| parts_in_order(parts, &literals, text.as_bytes());
        assert!(check(&[start, middle, end], "ab-cd-dx"));
        assert!(check(&[start, middle], "abcd and more"));
        assert!(
            !check(&[start, middle, end], "abcdx"),
            "parts do not overlap"
        );
        assert!(!check(&[start, middle, end], "xab-cd-dx"));
        assert!(!check(&[start, middle, end], "ab-cd-dxx"));
    }

    #[test]
    fn numbers_and_times_are_read_as_logs_write_them() {
        let number = |n: f64| Number::new(n).unwrap();
        assert!(compares("0x3e7", Comparison::Equal, number(999.0)));
        assert!(compares(" 17 ", Comparison::Greater, number(16.5)));
        assert!(!compares("many", Comparison::NotEqual, number(1.0)));
        for text in [
            "2026-11-25T03:04:05Z",
            "2026-11-25 03:04:05.123",
            "1795575845",
        ] {
            for (part, value) in [
                (TimePart::Hour, 3.0),
                (TimePart::Minute, 4.0),
                (TimePart::Day, 25.0),
                (TimePart::Week, 48.0),
                (TimePart::Month, 11.0),
                (TimePart::Year, 2026.0),
            ] {
                let holds = time_part(text, part, Comparison::Equal, number(value));
                assert!(holds, "{text} {part:?}");
            }
        }
        assert!(!time_part(
            "soon",
            TimePart::Hour,
            Comparison::Less,
            number(24.0)
        ));
    }

    #[test]
    fn networks_contain_mapped_addresses() {
        let network = "10.0.0.0/8".parse().unwrap();
        assert!(in_network("::ffff:10.1.2.3", &network));
        assert!(!in_network("192.0.2.1", &network));
        assert!(!in_network("localhost", &network));
    }
}
