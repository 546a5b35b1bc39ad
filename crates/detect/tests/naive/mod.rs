//! The shortest evaluator of the intermediate form that follows its documentation word by word.

use std::{collections::BTreeMap, net::IpAddr};

use regex::RegexBuilder;
use yinglong_model::event::System;
use yinglong_rules::ir::{Expr, Field, Likeness, Piece, Predicate, Test, View};

/// One event with everything a test can ask for.
pub(crate) struct Event<'e> {
    pub(crate) values: &'e BTreeMap<String, String>,
    pub(crate) system: System,
    pub(crate) count: Option<u64>,
    pub(crate) learn: bool,
}

impl Event<'_> {
    pub(crate) fn holds(&self, expr: &Expr) -> bool {
        match expr {
            Expr::Test(predicate) => self.test(predicate),
            Expr::All(parts) => parts.iter().all(|part| self.holds(part)),
            Expr::Any(parts) => parts.iter().any(|part| self.holds(part)),
            Expr::Not(part) => !self.holds(part),
            Expr::Const(value) => *value,
            Expr::Written(written) => self.holds(&written.expr),
        }
    }

    fn value(&self, field: &Field) -> Option<String> {
        let value = self.values.get(&*field.name)?;
        Some(match field.view {
            View::Whole => value.clone(),
            View::BaseName => {
                let separators: &[char] = match self.system {
                    System::Linux => &['/'],
                    System::Windows => &['/', '\\'],
                };
                value.rsplit(separators).next().unwrap_or("").to_owned()
            }
            View::Barred => format!("|{value}|"),
        })
    }

    fn test(&self, predicate: &Predicate) -> bool {
        let Some(field) = &predicate.field else {
            return self
                .values
                .values()
                .any(|value| self.passes(&predicate.test, Some(value)));
        };
        self.passes(&predicate.test, self.value(field).as_deref())
    }

    fn passes(&self, test: &Test, value: Option<&str>) -> bool {
        match (test, value) {
            (Test::Exists(there), value) => value.is_some() == *there,
            (Test::Null, value) => value.is_none_or(str::is_empty),
            (Test::Count(number), _) => self.learn || self.count == Some(*number),
            (_, None) => false,
            (Test::Text { pattern, cased }, Some(value)) => {
                let lower = |text: &str| if *cased { text.to_owned() } else { lower(text) };
                let pieces: Vec<Piece> = pattern
                    .0
                    .iter()
                    .map(|piece| match piece {
                        Piece::Literal(text) => Piece::Literal(lower(text)),
                        other => other.clone(),
                    })
                    .collect();
                glob(&pieces, &lower(value))
            }
            (
                Test::Regex {
                    pattern,
                    ignore_case,
                    multi_line,
                    dot_all,
                },
                Some(value),
            ) => RegexBuilder::new(pattern)
                .case_insensitive(*ignore_case)
                .multi_line(*multi_line)
                .dot_matches_new_line(*dot_all)
                .build()
                .expect("generated patterns compile")
                .is_match(value),
            (Test::Cidr(network), Some(value)) => value
                .parse::<IpAddr>()
                .is_ok_and(|address| network.contains(&address.to_canonical())),
            (Test::Compare(how, number), Some(value)) => value
                .parse::<f64>()
                .is_ok_and(|value| how.holds(value, number.get())),
            (Test::Other { field, how, cased }, Some(value)) => {
                let Some(other) = self.value(field) else {
                    return false;
                };
                let (value, other) = if *cased {
                    (value.to_owned(), other)
                } else {
                    (lower(value), lower(&other))
                };
                match how {
                    Likeness::Equal => value == other,
                    Likeness::StartsWith => value.starts_with(&other),
                    Likeness::EndsWith => value.ends_with(&other),
                    Likeness::Contains => value.contains(&other),
                }
            }
            (Test::Time(..), Some(_)) => unreachable!("not generated"),
        }
    }
}

/// The long s is an s and the I with a dot is itself, as they are for regular expressions that ignore
/// case.
fn lower(text: &str) -> String {
    let text = text.replace('ſ', "s");
    text.chars()
        .flat_map(|character| match character {
            'İ' => vec![character],
            _ => character.to_lowercase().collect(),
        })
        .collect()
}

/// Tries every way a pattern can cover a text.
fn glob(pieces: &[Piece], text: &str) -> bool {
    match pieces {
        [] => text.is_empty(),
        [Piece::Literal(literal), rest @ ..] => text
            .strip_prefix(literal.as_str())
            .is_some_and(|text| glob(rest, text)),
        [Piece::One, rest @ ..] => {
            let mut chars = text.chars();
            chars.next().is_some() && glob(rest, chars.as_str())
        }
        [Piece::Many, rest @ ..] => {
            let places = text.char_indices().map(|(place, _)| place);
            places
                .chain([text.len()])
                .any(|place| glob(rest, text.get(place..).unwrap_or("")))
        }
    }
}
