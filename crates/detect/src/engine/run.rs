//! The evaluation of one event.

use std::borrow::Cow;

use yinglong_model::alert::Matched;
use yinglong_rules::ir::{Likeness, View};

use super::{
    build::{List, NO_SET, Node},
    index::Value,
    literals::Literals,
    predicate::{self, Decide, KEYWORD},
    route::Route,
    scratch::{Answer, Marks, Memo, Scratch},
};
use crate::{
    Element, Fields,
    element::base_name,
    fold::{fold, fold_into, unfolded},
};

/// One event on its way through the rules of a route.
pub(crate) struct Run<'r, 'e> {
    route: &'r Route,
    element: &'r Element<'e>,
    scratch: &'r mut Scratch,
}

impl<'r, 'e> Run<'r, 'e> {
    /// Begins an event.
    pub(crate) fn new(
        route: &'r Route,
        element: &'r Element<'e>,
        scratch: &'r mut Scratch,
    ) -> Self {
        let parts = &route.parts;
        scratch.values.clear(parts.fields.len());
        scratch
            .marks
            .begin(parts.predicates.len(), route.sets.len(), route.rules.len());
        if scratch.memos.len() != parts.fields.len() {
            scratch.memos.clear();
            scratch.memos.resize_with(parts.fields.len(), Memo::default);
        }
        Self::again(route, element, scratch)
    }

    /// Goes on with the event that was begun last.
    pub(crate) fn again(
        route: &'r Route,
        element: &'r Element<'e>,
        scratch: &'r mut Scratch,
    ) -> Self {
        Self {
            route,
            element,
            scratch,
        }
    }

    /// Appends the places of the rules that match, in their order.
    pub(crate) fn matches(mut self, found: &mut Vec<u32>) {
        self.scan(|_| {});
        let first = found.len();
        let candidates = std::mem::take(&mut self.scratch.marks.candidates);
        for place in candidates.iter().chain(&self.route.always) {
            let root = self.route.rules.get(*place as usize).map(|(_, root)| *root);
            if root.is_some_and(|root| self.holds(root)) {
                found.push(*place);
            }
        }
        self.scratch.marks.candidates = candidates;
        if let Some(new) = found.get_mut(first..) {
            new.sort_unstable();
        }
    }

    /// Decides what is indexed, and calls `each` with every predicate that holds.
    pub(crate) fn scan(&mut self, mut each: impl FnMut(u32)) {
        let route = self.route;
        for (number, id) in &route.counts {
            if self.element.learn || self.element.count == Some(*number) {
                let Scratch { marks, .. } = &mut *self.scratch;
                note(route, marks, &mut each, *id);
            }
        }
        for field in &route.scanned {
            self.scan_field(*field, &mut each);
        }
        if !route.keyword.is_empty() {
            self.scan_others(&mut each);
        }
    }

    fn scan_field(&mut self, field: u32, each: &mut impl FnMut(u32)) {
        let route = self.route;
        let Some(index) = route.indexes.get(field as usize) else {
            return;
        };
        let raw = self.raw(field);
        let Scratch {
            values,
            marks,
            memos,
            ..
        } = &mut *self.scratch;
        let literals = &route.parts.literals;
        let (Some(raw), Some(memo)) = (&raw, memos.get_mut(field as usize)) else {
            values.store(field, None);
            index.decide(None, literals, |id| {
                note(route, marks, each, id);
            });
            return;
        };
        let place = match memo.look_up(raw.as_bytes()) {
            Answer::Known(holds) => {
                for id in holds {
                    note(route, marks, each, *id);
                }
                return;
            }
            Answer::Ask(place) => Some(place),
            Answer::NotKept => None,
        };
        values.store(field, Some(raw));
        let folded = values.folded(field).unwrap_or_default();
        let value = Some(Value { raw, folded });
        let Some(place) = place else {
            index.decide(value, literals, |id| {
                note(route, marks, each, id);
            });
            return;
        };
        let mut holds: Vec<u32> = Vec::new();
        index.decide(value, literals, |id| {
            note(route, marks, each, id);
            // Another field may have settled a keyword before; here it holds all the same.
            if !holds.contains(&id) {
                holds.push(id);
            }
        });
        memo.remember(place, raw.as_bytes(), &holds);
    }

    /// Looks for keywords in the values of fields that no rule of the route names.
    fn scan_others(&mut self, each: &mut impl FnMut(u32)) {
        let route = self.route;
        let Scratch {
            marks,
            folded,
            others,
            ..
        } = &mut *self.scratch;
        let mut place = 0;
        self.element.fields.each(&mut |name, raw| {
            if route.keyword.passes_over(raw) {
                place += 1;
                return;
            }
            let searched = others.is_searched(place, name, &route.searched);
            place += 1;
            if searched {
                return;
            }
            folded.clear();
            fold_into(raw, folded);
            let value = Some(Value { raw, folded });
            route.keyword.decide(value, &route.parts.literals, |id| {
                note(route, marks, each, id);
            });
        });
    }

    /// The value of a field, or the part of it that the view shows.
    fn raw(&self, field: u32) -> Option<Cow<'e, str>> {
        let fields: &'e dyn Fields = self.element.fields;
        let value = fields.find(self.route.names.get(field as usize)?)?;
        Some(match self.route.view(field) {
            View::Whole => value,
            View::BaseName => match value {
                Cow::Borrowed(path) => Cow::Borrowed(base_name(path, self.route.system)),
                Cow::Owned(path) => Cow::Owned(base_name(&path, self.route.system).to_owned()),
            },
            View::Barred => Cow::Owned(format!("|{value}|")),
        })
    }

    /// The folded value of a field.
    fn folded(&mut self, field: u32) -> Option<&[u8]> {
        if !self.scratch.values.is_known(field) {
            let raw = self.raw(field);
            self.scratch.values.store(field, raw.as_deref());
        }
        self.scratch.values.folded(field)
    }

    fn holds(&mut self, node: u32) -> bool {
        match self.route.parts.nodes.get(node as usize).copied() {
            Some(Node::Test(id)) => self.truth(id),
            Some(Node::All(list)) => self.ordered(list).iter().all(|kid| self.holds(*kid)),
            Some(Node::Any(list)) => {
                if list.set != NO_SET && self.set_holds(list.set) {
                    return true;
                }
                let others = self.ordered(list).get(..list.others as usize);
                others
                    .unwrap_or_default()
                    .iter()
                    .any(|kid| self.holds(*kid))
            }
            Some(Node::Not(part)) => !self.holds(part),
            Some(Node::Const(value)) => value,
            Some(Node::Written { part, .. }) => self.holds(part),
            None => false,
        }
    }

    fn ordered(&self, list: List) -> &'r [u32] {
        let first = list.first as usize;
        self.route
            .order
            .get(first..first + list.length as usize)
            .unwrap_or_default()
    }

    fn set_holds(&mut self, id: u32) -> bool {
        if let Some(known) = self.scratch.marks.set(id) {
            return known;
        }
        let route = self.route;
        let Some(set) = route.sets.get(id as usize) else {
            return false;
        };
        let literals = &route.parts.literals;
        let value = self.folded(set.field);
        let holds = value.is_some_and(|value| set.grams.any(value, literals));
        self.scratch.marks.note_set(id, holds);
        holds
    }

    /// Whether a predicate holds; decided once per event.
    fn truth(&mut self, id: u32) -> bool {
        if let Some(known) = self.scratch.marks.predicate(id) {
            return known;
        }
        let route = self.route;
        if route.indexed.get(id as usize).copied().unwrap_or(false) {
            return false;
        }
        let Some(predicate) = route.parts.predicates.get(id as usize) else {
            return false;
        };
        let hinted = match route.parts.hints.get(&id) {
            Some(hints) => hints.iter().any(|hint| self.truth(*hint)),
            None => true,
        };
        let holds = hinted && self.decide(predicate.field, &predicate.decide);
        self.scratch.marks.note_predicate(id, holds);
        holds
    }

    fn decide(&mut self, field: u32, decide: &Decide) -> bool {
        if field == KEYWORD {
            if !self.scratch.values.has_all() {
                self.scratch.values.store_all(self.element.fields);
            }
            let mut values = self.scratch.values.all();
            return values.any(|value| self.passes(decide, value));
        }
        match decide {
            Decide::Literal(_) | Decide::Equal(_) | Decide::Parts(_) | Decide::Folded(_) => {
                let literals = &self.route.parts.literals;
                let value = self.folded(field);
                value.is_some_and(|value| folded_passes(decide, literals, value))
            }
            Decide::Other {
                field: other,
                how,
                cased: true,
            } => match (self.raw(field), self.raw(*other)) {
                (Some(left), Some(right)) => alike(left.as_bytes(), right.as_bytes(), *how),
                _ => false,
            },
            Decide::Other {
                field: other, how, ..
            } => {
                self.folded(field);
                self.folded(*other);
                let values = &self.scratch.values;
                match (values.folded(field), values.folded(*other)) {
                    (Some(left), Some(right)) => alike(left, right, *how),
                    _ => false,
                }
            }
            Decide::Exists(there) => self.raw(field).is_some() == *there,
            Decide::Null => self.raw(field).is_none_or(|value| value.is_empty()),
            Decide::Count(number) => self.element.learn || self.element.count == Some(*number),
            _ => self
                .raw(field)
                .is_some_and(|value| raw_passes(decide, &value)),
        }
    }

    /// Whether a value that is there passes.
    fn passes(&self, decide: &Decide, value: Value<'_>) -> bool {
        folded_passes(decide, &self.route.parts.literals, value.folded)
            || raw_passes(decide, value.raw)
    }

    /// Everything that holds in the condition of a rule that matched.
    pub(crate) fn explain(mut self, place: u32) -> Vec<Matched> {
        let mut matched = Vec::new();
        if let Some((_, root)) = self.route.rules.get(place as usize) {
            self.collect(*root, &mut matched);
        }
        matched
    }

    fn collect(&mut self, node: u32, matched: &mut Vec<Matched>) {
        let route = self.route;
        match route.parts.nodes.get(node as usize).copied() {
            Some(Node::Test(id)) if self.truth(id) => matched.extend(self.matched(id)),
            Some(Node::All(list) | Node::Any(list)) => {
                for kid in super::witness::kids(&route.parts, list) {
                    if self.holds(*kid) {
                        self.collect(*kid, matched);
                    }
                }
            }
            Some(Node::Written { words, part }) if self.holds(part) => {
                let Some(words) = route.parts.words.get(words as usize) else {
                    return;
                };
                let value = self.element.fields.get(route.field_name(words.shows));
                matched.push(Matched {
                    field: words.field.clone(),
                    value: value.unwrap_or_default().into_owned(),
                    condition: words.condition.clone(),
                    spans: self.spans(part, words.shows),
                });
            }
            // What must not be there is no evidence.
            _ => {}
        }
    }

    fn matched(&mut self, id: u32) -> Option<Matched> {
        let route = self.route;
        let predicate = route.parts.predicates.get(id as usize)?;
        let condition = predicate.decide.describe(&route.parts.literals, |field| {
            route.field_name(field).to_owned()
        });
        if predicate.field == KEYWORD {
            let mut found = None;
            self.element.fields.each(&mut |name, text| {
                let folded = fold(text);
                let value = Value {
                    raw: text,
                    folded: &folded,
                };
                if found.is_none() && self.passes(&predicate.decide, value) {
                    found = Some(Matched {
                        field: name.to_owned(),
                        value: text.to_owned(),
                        condition: condition.clone(),
                        spans: self.span(&predicate.decide, value).into_iter().collect(),
                    });
                }
            });
            return found;
        }
        let name = route.field_name(predicate.field);
        let value = self.element.fields.get(name).unwrap_or_default();
        Some(Matched {
            field: name.to_owned(),
            value: value.into_owned(),
            condition,
            spans: self.spans_of(id),
        })
    }

    /// Where in the value that is shown the parts of a written condition were found.
    fn spans(&mut self, node: u32, shown: u32) -> Vec<(u32, u32)> {
        match self.route.parts.nodes.get(node as usize).copied() {
            Some(Node::Test(id)) if self.truth(id) => {
                let field = self
                    .route
                    .parts
                    .predicates
                    .get(id as usize)
                    .map(|p| p.field);
                let is_shown = field.is_some_and(|field| {
                    self.route.field_name(field) == self.route.field_name(shown)
                });
                if is_shown {
                    self.spans_of(id)
                } else {
                    Vec::new()
                }
            }
            Some(Node::All(list) | Node::Any(list)) => {
                let mut spans: Vec<(u32, u32)> = super::witness::kids(&self.route.parts, list)
                    .iter()
                    .flat_map(|kid| self.spans(*kid, shown))
                    .collect();
                spans.sort_unstable();
                spans.dedup();
                spans
            }
            _ => Vec::new(),
        }
    }

    fn spans_of(&mut self, id: u32) -> Vec<(u32, u32)> {
        let Some(predicate) = self.route.parts.predicates.get(id as usize) else {
            return Vec::new();
        };
        if predicate.field == KEYWORD {
            return Vec::new();
        }
        let Some(raw) = self.raw(predicate.field) else {
            return Vec::new();
        };
        let folded = fold(&raw);
        let value = Value {
            raw: &raw,
            folded: &folded,
        };
        let Some((start, end)) = self.span(&predicate.decide, value) else {
            return Vec::new();
        };
        // What was found in a view is shown in the whole value.
        let whole = self
            .element
            .fields
            .get(self.route.field_name(predicate.field))
            .unwrap_or_default();
        let length = whole.chars().count() as i64;
        let shift = match self.route.view(predicate.field) {
            View::Whole => 0,
            View::BaseName => length - base_name(&whole, self.route.system).chars().count() as i64,
            View::Barred => -1,
        };
        let shifted = |place: u32| {
            let place = (i64::from(place) + shift).clamp(0, length);
            u32::try_from(place).unwrap_or(u32::MAX)
        };
        vec![(shifted(start), shifted(end))]
    }

    /// First and last character of what a test finds in a value.
    fn span(&self, decide: &Decide, value: Value<'_>) -> Option<(u32, u32)> {
        let literals = &self.route.parts.literals;
        let text = value.raw;
        let folded = |start: usize, length: usize| unfolded(text, start, start + length);
        let (start, end) = match decide {
            Decide::Literal(id) => {
                let start = literals.find(*id, value.folded)?;
                folded(start, literals.text(*id).len())
            }
            Decide::Regex(regex) => regex.find(value.raw)?,
            Decide::Exists(_) | Decide::Null | Decide::Empty | Decide::Filled => return None,
            _ => (0, text.len()),
        };
        // People count characters, not bytes.
        let before = text.get(..start)?.chars().count();
        let within = text.get(start..end)?.chars().count();
        Some((
            u32::try_from(before).ok()?,
            u32::try_from(before + within).ok()?,
        ))
    }
}

/// Notes that a predicate holds and makes the rules it announces candidates.
fn note(route: &Route, marks: &mut Marks, each: &mut impl FnMut(u32), id: u32) {
    if marks.note_predicate(id, true) {
        marks.add_candidates(route.triggered(id));
        each(id);
    }
}

/// Tests of folded values; others do not pass.
fn folded_passes(decide: &Decide, literals: &Literals, value: &[u8]) -> bool {
    match decide {
        Decide::Literal(id) => literals.find(*id, value).is_some(),
        Decide::Equal(id) => value == literals.text(*id),
        Decide::Parts(parts) => predicate::parts_in_order(parts, literals, value),
        Decide::Folded(regex) => regex.is_match(value),
        _ => false,
    }
}

/// Tests of values as they are; others do not pass.
fn raw_passes(decide: &Decide, value: &str) -> bool {
    match decide {
        Decide::Regex(regex) => regex.is_match(value),
        Decide::Cased(cased) => cased.0.is_match(value.as_bytes()),
        Decide::Network(network) => predicate::in_network(value, network),
        Decide::Compare(how, number) => predicate::compares(value, *how, *number),
        Decide::Time(part, how, number) => predicate::time_part(value, *part, *how, *number),
        Decide::Empty | Decide::Null => value.is_empty(),
        Decide::Filled => !value.is_empty(),
        Decide::Exists(there) => *there,
        _ => false,
    }
}

fn alike(left: &[u8], right: &[u8], how: Likeness) -> bool {
    match how {
        Likeness::Equal => left == right,
        Likeness::StartsWith => left.starts_with(right),
        Likeness::EndsWith => left.ends_with(right),
        Likeness::Contains => memchr::memmem::find(left, right).is_some(),
    }
}
