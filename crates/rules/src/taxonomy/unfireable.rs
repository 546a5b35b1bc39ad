//! Whether a condition can hold at all, given what is delivered.
//!
//! A test of a field that nobody provides is decided before any event comes. From there the
//! condition is evaluated in three values: false, true, and open.

use std::collections::BTreeSet;

use super::{Feed, delivers, fields, provides};
use crate::{
    Class, Source,
    ir::{Expr, Field, Pattern, Piece, Predicate, Target, Test},
};

/// Says what of a condition can never matter in a feed, since nobody provides a field it tests.
/// Empty when everything can.
///
/// # Errors
/// The condition holds for no event, or for every event, because of that. The text names the
/// decisive fields.
pub fn unfireable(target: &Target, feed: Feed) -> Result<Vec<String>, String> {
    let observed = match target.class {
        Class::Source(Source::Event(kind)) => fields::observed(kind, target.system),
        Class::Source(Source::Inventory(_)) | Class::Log(_) => true,
    };
    if !observed || !delivers(target.class, feed) {
        let who = provider(feed);
        let (class, system) = (target.class.as_str(), target.system.as_str());
        return Err(format!("{who} provides events of {class} on {system}"));
    }
    let view = View { target, feed };
    let outlook = view.outlook(&target.condition, None);
    match outlook.value {
        Some(value) if !outlook.because.is_empty() => {
            let missing = view.missing(&outlook.because);
            Err(if value {
                format!("{missing}, so the rule would fire on every event")
            } else {
                missing
            })
        }
        Some(_) => Ok(Vec::new()),
        None => {
            let mut dead = Dead::default();
            view.find(&target.condition, None, true, &mut dead);
            Ok(view.warnings(&dead))
        }
    }
}

/// What is known about a part of a condition.
struct Outlook {
    /// Its value; `None` when that depends on the event.
    value: Option<bool>,
    /// Fields nobody provides that decide it, as the rule names them.
    because: BTreeSet<String>,
}

impl Outlook {
    fn open() -> Self {
        Self {
            value: None,
            because: BTreeSet::new(),
        }
    }
}

/// Fields that nobody provides, by what that does to a part that is decided.
#[derive(Default)]
struct Dead {
    /// Parts that never hold.
    never: BTreeSet<String>,
    /// Exclusions that never apply.
    filters: BTreeSet<String>,
    /// Parts that always hold.
    always: BTreeSet<String>,
}

struct View<'t> {
    target: &'t Target,
    feed: Feed,
}

impl View<'_> {
    /// `written` is the author's name of the field when the part stands in his words.
    fn outlook(&self, expr: &Expr, written: Option<&str>) -> Outlook {
        match expr {
            Expr::Test(test) => self.test(test, written),
            Expr::All(parts) => self.joined(parts, written, false),
            Expr::Any(parts) => self.joined(parts, written, true),
            Expr::Not(part) => {
                let part = self.outlook(part, written);
                Outlook {
                    value: part.value.map(|value| !value),
                    ..part
                }
            }
            Expr::Const(value) => Outlook {
                value: Some(*value),
                because: BTreeSet::new(),
            },
            Expr::Written(part) => self.outlook(&part.expr, Some(&part.field)),
        }
    }

    /// Parts of which one with the value `decisive` decides the whole.
    fn joined(&self, parts: &[Expr], written: Option<&str>, decisive: bool) -> Outlook {
        let mut because = BTreeSet::new();
        let mut open = false;
        let mut decided: Option<BTreeSet<String>> = None;
        for part in parts {
            let part = self.outlook(part, written);
            match part.value {
                // The fewer fields decide, the better they explain.
                Some(value) if value == decisive => {
                    if decided
                        .as_ref()
                        .is_none_or(|least| part.because.len() < least.len())
                    {
                        decided = Some(part.because);
                    }
                }
                Some(_) => because.extend(part.because),
                None => open = true,
            }
        }
        if let Some(because) = decided {
            return Outlook {
                value: Some(decisive),
                because,
            };
        }
        if open {
            return Outlook::open();
        }
        Outlook {
            value: Some(!decisive),
            because,
        }
    }

    fn test(&self, predicate: &Predicate, written: Option<&str>) -> Outlook {
        let Some(field) = &predicate.field else {
            return Outlook::open();
        };
        let missing = if !self.provided(field)
            || self.no_such_digest(field, &predicate.test)
            || self.no_such_record(field, &predicate.test)
        {
            field
        } else if let Test::Other { field: other, .. } = &predicate.test
            && !self.provided(other)
        {
            other
        } else {
            return Outlook::open();
        };
        let name = if missing == field { written } else { None };
        let value = matches!(predicate.test, Test::Exists(false) | Test::Null);
        Outlook {
            value: Some(value),
            because: BTreeSet::from([self.name(name, missing)]),
        }
    }

    fn provided(&self, field: &Field) -> bool {
        provides(
            self.target.class,
            self.target.system,
            &field.name,
            self.feed,
        )
    }

    /// Agents make `hashes` of the digests they have; a test of another digest never holds there.
    fn no_such_digest(&self, field: &Field, test: &Test) -> bool {
        let Test::Text { pattern, .. } = test else {
            return false;
        };
        let known = ["MD5", "SHA256"];
        self.feed == Feed::Agents
            && &*field.name == "hashes"
            && digest_named(pattern).is_some_and(|digest| {
                let mut known = known.iter();
                !known.any(|known| known.eq_ignore_ascii_case(digest))
            })
    }

    /// Of the records of the audit log, system calls are SYSCALL ones only.
    fn no_such_record(&self, field: &Field, test: &Test) -> bool {
        let Test::Text { pattern, .. } = test else {
            return false;
        };
        let other = |pieces: &[Piece]| match pieces {
            [Piece::Literal(text)] => !text.eq_ignore_ascii_case("SYSCALL"),
            _ => false,
        };
        self.target.class == Class::SYSCALL && &*field.name == "record" && other(&pattern.0)
    }

    fn name(&self, written: Option<&str>, field: &Field) -> String {
        let sigma = || fields::sigma_name(self.target.class, self.target.system, &field.name);
        written.map_or_else(|| sigma().to_owned(), str::to_owned)
    }

    fn find(&self, expr: &Expr, written: Option<&str>, wanted: bool, dead: &mut Dead) {
        let outlook = self.outlook(expr, written);
        match (outlook.value, expr) {
            (_, Expr::Not(part)) => self.find(part, written, !wanted, dead),
            (_, Expr::Written(part)) => self.find(&part.expr, Some(&part.field), wanted, dead),
            (Some(value), _) => {
                let kind = match (value, wanted) {
                    (false, true) => &mut dead.never,
                    (false, false) => &mut dead.filters,
                    (true, _) => &mut dead.always,
                };
                kind.extend(outlook.because);
            }
            (None, Expr::All(parts) | Expr::Any(parts)) => {
                for part in parts {
                    self.find(part, written, wanted, dead);
                }
            }
            (None, Expr::Test(_) | Expr::Const(_)) => {}
        }
    }

    fn warnings(&self, dead: &Dead) -> Vec<String> {
        let kinds = [
            (&dead.never, "so the tests of it never hold"),
            (
                &dead.filters,
                "so what the rule excludes by it is not excluded",
            ),
            (&dead.always, "so the tests of its absence always hold"),
        ];
        kinds
            .into_iter()
            .filter(|(fields, _)| !fields.is_empty())
            .map(|(fields, effect)| format!("{}, {effect}", self.missing(fields)))
            .collect()
    }

    /// `no sensor provides field `OriginalFileName` on windows`.
    fn missing(&self, fields: &BTreeSet<String>) -> String {
        let noun = if fields.len() == 1 { "field" } else { "fields" };
        let names: Vec<String> = fields.iter().map(|name| format!("`{name}`")).collect();
        let who = provider(self.feed);
        let (names, system) = (names.join(", "), self.target.system.as_str());
        format!("{who} provides {noun} {names} on {system}")
    }
}

const fn provider(feed: Feed) -> &'static str {
    match feed {
        Feed::Agents => "no sensor",
        Feed::Recordings => "no reader of recordings",
    }
}

/// The name of a digest in a pattern such as `*IMPHASH=0123*`.
fn digest_named(pattern: &Pattern) -> Option<&str> {
    let literals = pattern.0.iter().filter_map(|piece| match piece {
        Piece::Literal(text) => Some(text.as_str()),
        Piece::One | Piece::Many => None,
    });
    let (name, _) = literals.into_iter().find_map(|text| text.split_once('='))?;
    name.rsplit(',').next()
}
