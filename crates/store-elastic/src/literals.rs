//! Which plain text a value must hold for a regular expression to be found in it.

use regex_syntax::hir::{Hir, HirKind};

/// What must be in a value, ignoring case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Needed {
    /// Nothing is known.
    Anything,
    /// This text, of ASCII characters.
    Text(String),
    /// All of these.
    All(Vec<Self>),
    /// One of these.
    Any(Vec<Self>),
}

/// Longer texts find no less when they are cut.
const LONGEST_TEXT: usize = 100;
/// Alternatives and parts beyond these are not told apart.
const MOST_PARTS: usize = 16;

/// What an expression needs. Beyond ASCII nothing is: case is folded differently here and there.
pub(crate) fn needed(expression: &str) -> Needed {
    regex_syntax::parse(expression).map_or(Needed::Anything, |hir| of(&hir))
}

fn of(hir: &Hir) -> Needed {
    match hir.kind() {
        HirKind::Literal(literal) => text(&literal.0),
        HirKind::Capture(capture) => of(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => of(&repetition.sub),
        HirKind::Concat(parts) => {
            let mut all: Vec<Needed> = Vec::new();
            for part in parts {
                match of(part) {
                    Needed::Anything => {}
                    Needed::All(more) => all.extend(more),
                    other => all.push(other),
                }
            }
            all.truncate(MOST_PARTS);
            one_or(all, Needed::All)
        }
        HirKind::Alternation(parts) if parts.len() <= MOST_PARTS => {
            let any: Vec<Needed> = parts.iter().map(of).collect();
            if any.contains(&Needed::Anything) {
                return Needed::Anything;
            }
            one_or(any, Needed::Any)
        }
        _ => Needed::Anything,
    }
}

/// The longest run of ASCII in a literal.
fn text(literal: &[u8]) -> Needed {
    let longest = literal
        .split(|byte| !byte.is_ascii())
        .max_by_key(|run| run.len())
        .and_then(|run| run.get(..run.len().min(LONGEST_TEXT)))
        .and_then(|run| std::str::from_utf8(run).ok())
        .unwrap_or_default();
    if longest.is_empty() {
        Needed::Anything
    } else {
        Needed::Text(longest.to_owned())
    }
}

fn one_or(mut parts: Vec<Needed>, several: fn(Vec<Needed>) -> Needed) -> Needed {
    match parts.len() {
        0 => Needed::Anything,
        1 => parts.remove(0),
        _ => several(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn t(text: &str) -> Needed {
        Needed::Text(text.to_owned())
    }

    #[test]
    fn what_is_needed_is_what_every_match_holds() {
        for (expression, expected) in [
            ("curl", t("curl")),
            ("^a\\.", t("a.")),
            (
                r"curl.*\|\s*sh",
                Needed::All(vec![t("curl"), t("|"), t("sh")]),
            ),
            (
                r":(22|80)$",
                Needed::All(vec![t(":"), Needed::Any(vec![t("22"), t("80")])]),
            ),
            ("(abc)+", t("abc")),
            ("(abc)*", Needed::Anything),
            ("abc|", Needed::Anything),
            (".*", Needed::Anything),
            ("ärger", t("rger")),
            ("агент", Needed::Anything),
            ("(?i)abc", Needed::Anything),
            ("[", Needed::Anything),
        ] {
            assert_eq!(needed(expression), expected, "{expression}");
        }
    }
}
