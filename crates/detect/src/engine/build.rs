//! From conditions to predicates and nodes: everything that several rules share exists once.

use rustc_hash::FxHashMap;
use yinglong_rules::ir::{Expr, Field, Pattern, Piece, Predicate as Written, Test};

use super::{
    lazy::{Flags, Lazy},
    literals::{Anchor, Literals},
    predicate::{Decide, KEYWORD, Predicate, compile_pattern, pattern_regex},
    required::required_literals,
};
use crate::fold::fold;

/// Part of a condition; parts of lists are consecutive in [`Parts::kids`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Node {
    Test(u32),
    All(List),
    Any(List),
    Not(u32),
    Const(bool),
    /// A part and the number of its author's words.
    Written {
        words: u32,
        part: u32,
    },
}

/// A stretch of [`Parts::kids`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct List {
    pub(crate) first: u32,
    pub(crate) length: u32,
    /// How many parts come first in the order of deciding and are not in the set.
    pub(crate) others: u32,
    /// Number of the set that decides the literals among the parts together, or [`NO_SET`].
    pub(crate) set: u32,
}

pub(crate) const NO_SET: u32 = u32::MAX;

/// What the author of a part wrote.
pub(crate) struct Words {
    pub(crate) field: String,
    pub(crate) condition: String,
    /// Place of the field whose value is shown.
    pub(crate) shows: u32,
}

/// Rules of one route, taken apart.
#[derive(Default)]
pub(crate) struct Parts {
    pub(crate) fields: Vec<Field>,
    pub(crate) predicates: Vec<Predicate>,
    pub(crate) literals: Literals,
    pub(crate) nodes: Vec<Node>,
    pub(crate) kids: Vec<u32>,
    pub(crate) words: Vec<Words>,
    /// Predicates one of which holds whenever the key does.
    pub(crate) hints: FxHashMap<u32, Box<[u32]>>,
    /// Number of places that use a predicate.
    pub(crate) uses: Vec<u32>,
}

/// Takes conditions apart.
#[derive(Default)]
pub(crate) struct Builder {
    parts: Parts,
    field_ids: FxHashMap<Field, u32>,
    literal_ids: FxHashMap<(Anchor, Box<[u8]>), u32>,
    predicate_ids: FxHashMap<u32, FxHashMap<Key, u32>>,
}

/// What makes two predicates of a field the same.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Literal(u32),
    Equal(u32),
    Parts(Box<[u32]>),
    Other(Test),
}

impl Builder {
    /// Takes one condition apart and returns its root.
    ///
    /// # Errors
    /// Says what cannot be prepared; parts taken before stay and harm nothing.
    pub(crate) fn condition(&mut self, expr: &Expr) -> Result<u32, String> {
        let node = match expr {
            Expr::Test(test) => Node::Test(self.test(test)?),
            Expr::All(parts) => Node::All(self.list(parts)?),
            Expr::Any(parts) => Node::Any(self.list(parts)?),
            Expr::Not(part) => Node::Not(self.condition(part)?),
            Expr::Const(value) => Node::Const(*value),
            Expr::Written(written) => {
                let part = self.condition(&written.expr)?;
                let shows = self.field(&Field::whole(&written.shows));
                let words = number(self.parts.words.len())?;
                self.parts.words.push(Words {
                    field: written.field.clone(),
                    condition: written.condition.clone(),
                    shows,
                });
                Node::Written { words, part }
            }
        };
        self.parts.nodes.push(node);
        number(self.parts.nodes.len() - 1)
    }

    /// Place of a field that is read outside conditions.
    pub(crate) fn field(&mut self, field: &Field) -> u32 {
        if let Some(id) = self.field_ids.get(field) {
            return *id;
        }
        let id = u32::try_from(self.parts.fields.len()).unwrap_or(KEYWORD);
        self.parts.fields.push(field.clone());
        self.field_ids.insert(field.clone(), id);
        id
    }

    /// What was built.
    pub(crate) fn finish(mut self) -> Parts {
        self.parts.literals.shrink();
        self.parts.nodes.shrink_to_fit();
        self.parts.kids.shrink_to_fit();
        self.parts.predicates.shrink_to_fit();
        self.parts
    }

    fn list(&mut self, parts: &[Expr]) -> Result<List, String> {
        let ids: Vec<u32> = parts
            .iter()
            .map(|part| self.condition(part))
            .collect::<Result<_, _>>()?;
        let first = number(self.parts.kids.len())?;
        self.parts.kids.extend(&ids);
        let length = number(ids.len())?;
        Ok(List {
            first,
            length,
            others: length,
            set: NO_SET,
        })
    }

    fn test(&mut self, written: &Written) -> Result<u32, String> {
        let field = match &written.field {
            Some(field) => self.field(field),
            None => KEYWORD,
        };
        match &written.test {
            Test::Text { pattern, cased } => self.text(field, pattern, *cased),
            Test::Regex {
                pattern,
                ignore_case,
                multi_line,
                dot_all,
            } => self.other(field, &written.test, |builder| {
                let flags = Flags {
                    ignore_case: *ignore_case,
                    multi_line: *multi_line,
                    dot_all: *dot_all,
                };
                let lazy = Lazy::new(pattern, flags)
                    .map_err(|error| format!("`{pattern}` does not compile: {error}"))?;
                let hints = required_literals(pattern, flags);
                Ok((Decide::Regex(Box::new(lazy)), builder.hint(field, hints)?))
            }),
            Test::Cidr(network) => self.simple(field, &written.test, Decide::Network(*network)),
            Test::Compare(how, number) => {
                self.simple(field, &written.test, Decide::Compare(*how, *number))
            }
            Test::Exists(there) => self.simple(field, &written.test, Decide::Exists(*there)),
            Test::Null => self.simple(field, &written.test, Decide::Null),
            Test::Other {
                field: other,
                how,
                cased,
            } => {
                let decide = Decide::Other {
                    field: self.field(other),
                    how: *how,
                    cased: *cased,
                };
                self.simple(field, &written.test, decide)
            }
            Test::Time(part, how, number) => {
                self.simple(field, &written.test, Decide::Time(*part, *how, *number))
            }
            Test::Count(number) => self.simple(field, &written.test, Decide::Count(*number)),
        }
    }

    fn text(&mut self, field: u32, pattern: &Pattern, cased: bool) -> Result<u32, String> {
        let test = Test::Text {
            pattern: pattern.clone(),
            cased,
        };
        let pieces = pattern.0.as_slice();
        match pieces {
            [] => return self.simple(field, &test, Decide::Empty),
            [Piece::Many] => return self.simple(field, &test, Decide::Exists(true)),
            [Piece::One, Piece::Many] => return self.simple(field, &test, Decide::Filled),
            _ => {}
        }
        if cased {
            return self.other(field, &test, |builder| {
                let text = pattern_regex(pieces);
                let compiled = compile_pattern(&text).map_err(|e| e.to_string())?;
                let hints = builder.hint(field, longest(pieces))?;
                Ok((Decide::Cased(Box::new((compiled, pattern.clone()))), hints))
            });
        }
        match pieces {
            [Piece::Literal(text)] => self.equal(field, text),
            [Piece::Many, Piece::Literal(text), Piece::Many] => {
                self.literal(field, text, Anchor::Any)
            }
            [Piece::Literal(text), Piece::Many] => self.literal(field, text, Anchor::Start),
            [Piece::Many, Piece::Literal(text)] => self.literal(field, text, Anchor::End),
            _ if pieces.contains(&Piece::One) => self.other(field, &test, |builder| {
                let folded: Vec<Piece> = pieces.iter().map(folded_piece).collect();
                let text = pattern_regex(&folded);
                let compiled = compile_pattern(&text).map_err(|e| e.to_string())?;
                let hints = builder.hint(field, longest(pieces))?;
                Ok((Decide::Folded(Box::new(compiled)), hints))
            }),
            _ => self.in_order(field, pieces),
        }
    }

    /// Literals with `Many` between them.
    fn in_order(&mut self, field: u32, pieces: &[Piece]) -> Result<u32, String> {
        let mut parts = Vec::with_capacity(pieces.len());
        for (place, piece) in pieces.iter().enumerate() {
            let Piece::Literal(text) = piece else {
                continue;
            };
            let anchor = match place {
                0 => Anchor::Start,
                last if last + 1 == pieces.len() => Anchor::End,
                _ => Anchor::Any,
            };
            parts.push(self.literal_id(&fold(text), anchor)?);
        }
        let key = Key::Parts(parts.clone().into_boxed_slice());
        if let Some(known) = self.known(field, &key) {
            return Ok(known);
        }
        // The rarest is likely the longest; each part is necessary on its own.
        let hint = parts
            .iter()
            .copied()
            .max_by_key(|id| self.parts.literals.text(*id).len());
        let id = self.add(field, key, Decide::Parts(parts.into_boxed_slice()))?;
        if let Some(literal) = hint {
            let hint = self.literal_predicate(field, literal)?;
            self.parts.hints.insert(id, Box::new([hint]));
        }
        Ok(id)
    }

    fn literal(&mut self, field: u32, text: &str, anchor: Anchor) -> Result<u32, String> {
        let literal = self.literal_id(&fold(text), anchor)?;
        self.literal_predicate(field, literal)
    }

    fn literal_predicate(&mut self, field: u32, literal: u32) -> Result<u32, String> {
        let key = Key::Literal(literal);
        match self.known(field, &key) {
            Some(known) => Ok(known),
            None => self.add(field, key, Decide::Literal(literal)),
        }
    }

    fn equal(&mut self, field: u32, text: &str) -> Result<u32, String> {
        let literal = self.literal_id(&fold(text), Anchor::Any)?;
        let key = Key::Equal(literal);
        match self.known(field, &key) {
            Some(known) => Ok(known),
            None => self.add(field, key, Decide::Equal(literal)),
        }
    }

    fn literal_id(&mut self, folded: &[u8], anchor: Anchor) -> Result<u32, String> {
        let key = (anchor, Box::from(folded));
        if let Some(id) = self.literal_ids.get(&key) {
            return Ok(*id);
        }
        let id = self
            .parts
            .literals
            .push(folded, anchor)
            .ok_or("there are more literals than fit into 4 GiB")?;
        self.literal_ids.insert(key, id);
        Ok(id)
    }

    /// Predicates of required literals.
    fn hint(
        &mut self,
        field: u32,
        literals: Option<Vec<String>>,
    ) -> Result<Option<Box<[u32]>>, String> {
        literals
            .map(|literals| {
                literals
                    .iter()
                    .map(|text| self.literal(field, text, Anchor::Any))
                    .collect()
            })
            .transpose()
    }

    fn simple(&mut self, field: u32, test: &Test, decide: Decide) -> Result<u32, String> {
        self.other(field, test, |_| Ok((decide, None)))
    }

    fn other(
        &mut self,
        field: u32,
        test: &Test,
        make: impl FnOnce(&mut Self) -> Result<(Decide, Option<Box<[u32]>>), String>,
    ) -> Result<u32, String> {
        let key = Key::Other(test.clone());
        if let Some(known) = self.known(field, &key) {
            return Ok(known);
        }
        let (decide, hints) = make(self)?;
        let id = self.add(field, key, decide)?;
        if let Some(hints) = hints.filter(|hints| !hints.is_empty()) {
            self.parts.hints.insert(id, hints);
        }
        Ok(id)
    }

    fn known(&mut self, field: u32, key: &Key) -> Option<u32> {
        let id = self.predicate_ids.get(&field)?.get(key).copied()?;
        if let Some(uses) = self.parts.uses.get_mut(id as usize) {
            *uses += 1;
        }
        Some(id)
    }

    fn add(&mut self, field: u32, key: Key, decide: Decide) -> Result<u32, String> {
        let id = number(self.parts.predicates.len())?;
        self.parts.predicates.push(Predicate { field, decide });
        self.parts.uses.push(1);
        self.predicate_ids.entry(field).or_default().insert(key, id);
        Ok(id)
    }
}

fn folded_piece(piece: &Piece) -> Piece {
    match piece {
        Piece::Literal(text) => Piece::Literal(String::from_utf8_lossy(&fold(text)).into_owned()),
        Piece::One => Piece::One,
        Piece::Many => Piece::Many,
    }
}

/// The longest literal of a pattern; one that holds everywhere is no help.
fn longest(pieces: &[Piece]) -> Option<Vec<String>> {
    let texts = pieces.iter().filter_map(|piece| match piece {
        Piece::Literal(text) => Some(text),
        Piece::One | Piece::Many => None,
    });
    texts
        .max_by_key(|text| text.len())
        .map(|text| vec![text.clone()])
}

fn number(length: usize) -> Result<u32, String> {
    u32::try_from(length).map_err(|_| "there are more than 2^32 parts of rules".to_owned())
}
