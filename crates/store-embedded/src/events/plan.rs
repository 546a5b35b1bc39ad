//! How a query is answered from one index: terms find candidates, columns decide.
//!
//! The candidates of a condition on words are exactly its events. Other conditions are decided by
//! the column of their field: on every distinct value once when there are many candidates, on the
//! values of the candidates when there are few. Events with cut columns are candidates of
//! everything and decided on the stored event.

use std::{collections::HashMap, time::Instant};

use tantivy::{
    DocId, DocSet, SegmentReader, TERMINATED,
    columnar::StrColumn,
    query::{AllQuery, BooleanQuery, Query as IndexQuery, TermQuery, Weight},
    schema::IndexRecordOption,
    store::StoreReader,
};
use yinglong_model::{Event, EventData, EventType};
use yinglong_store::query::{Condition, HostKey, Key, Query, Target, Test, words};

use super::{
    partition::read_event,
    schema::{self, Fields, LONGEST_TERM_BYTES, column, host_path, word_term},
};

/// Events or values looked at between two looks at the clock.
const CLOCK_EVERY: u64 = 1024;
/// A distinct value read on its own costs about so many values read in a row.
const RANDOM_READ_COST: u64 = 32;

/// A query ready for indexes.
pub(super) struct Plan<'q> {
    query: &'q Query,
    fields: Fields,
    /// Finds the candidates.
    pub(super) base: Box<dyn IndexQuery>,
    /// All must hold for a candidate.
    filters: Vec<Filter<'q>>,
}

/// The value at one of the paths satisfies the test.
struct Filter<'q> {
    paths: Vec<&'q str>,
    test: &'q Test,
}

/// Whether a scan saw everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// Every event of the index.
    Everything,
    /// The deadline passed before.
    Part,
}

impl<'q> Plan<'q> {
    pub(super) fn new(query: &'q Query, fields: Fields) -> Self {
        let mut clauses: Vec<Box<dyn IndexQuery>> = Vec::new();
        let mut filters = Vec::new();
        if let Some(kind) = query.kind {
            clauses.push(term(fields, schema::TYPE, kind.as_str()));
        }
        for condition in &query.conditions {
            let paths = paths(query.kind, condition);
            let (words, decided) = candidates(&condition.test);
            if !words.is_empty() {
                clauses.push(any_path_has(fields, &paths, &words));
            }
            if !decided {
                filters.push(Filter {
                    paths,
                    test: &condition.test,
                });
            }
        }
        let base: Box<dyn IndexQuery> = match clauses.len() {
            0 => Box::new(AllQuery),
            1 => clauses.remove(0),
            _ => Box::new(BooleanQuery::intersection(clauses)),
        };
        Self {
            query,
            fields,
            base,
            filters,
        }
    }

    /// Calls `visit` with every matching event of a segment and its time, until it says stop or
    /// the deadline passes.
    pub(super) fn scan(
        &self,
        weight: &dyn Weight,
        segment: &SegmentReader,
        deadline: Option<Instant>,
        mut visit: impl FnMut(DocId, i64) -> tantivy::Result<()>,
    ) -> tantivy::Result<Seen> {
        let late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let times = segment.fast_fields().i64("time")?;
        let (since, until) = (
            self.query.since.map_or(i64::MIN, |time| time.nanos()),
            self.query.until.map_or(i64::MAX, |time| time.nanos()),
        );
        let bounded = self.query.until.is_some();
        if times.max_value() < since || (bounded && times.min_value() >= until) {
            return Ok(Seen::Everything);
        }
        let mut candidates = weight.scorer(segment, 1.0)?;
        let expected = u64::from(candidates.size_hint());
        let mut filters = Vec::with_capacity(self.filters.len());
        for filter in &self.filters {
            match SegmentFilter::open(segment, filter, expected, &late)? {
                Some(filter) => filters.push(filter),
                None => return Ok(Seen::Part),
            }
        }
        let long = segment.fast_fields().str(&column(schema::LONG))?;
        let mut store = None;
        let mut examined = 0_u64;
        let mut doc = candidates.doc();
        while doc != TERMINATED {
            if examined.is_multiple_of(CLOCK_EVERY) && late() {
                return Ok(Seen::Part);
            }
            examined += 1;
            let time = times.first(doc).unwrap_or_default();
            if time >= since && (!bounded || time < until) {
                let is_long = long
                    .as_ref()
                    .is_some_and(|column| column.ords().first(doc).is_some());
                let matches = if is_long {
                    self.stored_matches(segment, &mut store, doc)?
                } else {
                    all_hold(&mut filters, doc)?
                };
                if matches {
                    visit(doc, time)?;
                }
            }
            doc = candidates.advance();
        }
        Ok(Seen::Everything)
    }

    fn stored_matches(
        &self,
        segment: &SegmentReader,
        store: &mut Option<StoreReader>,
        doc: DocId,
    ) -> tantivy::Result<bool> {
        let store = match store {
            Some(store) => store,
            None => store.insert(segment.get_store_reader(1)?),
        };
        let event: Event = read_event(self.fields, &store.get(doc)?)?;
        Ok(self.query.matches(&event))
    }
}

/// Paths of the values a condition looks at.
fn paths(kind: Option<Target>, condition: &Condition) -> Vec<&str> {
    match &condition.key {
        Key::Data(name) => vec![name],
        Key::Host(key) => vec![host_path(*key)],
        Key::All => {
            let mut paths: Vec<&str> = HostKey::ALL.into_iter().map(host_path).collect();
            match kind {
                Some(Target::Event(kind)) => paths.extend(EventData::field_names(kind)),
                _ => paths.extend(EventType::ALL.into_iter().flat_map(EventData::field_names)),
            }
            paths.sort_unstable();
            paths.dedup();
            paths
        }
    }
}

/// Words a matching value must have, and whether having them is already the whole test.
fn candidates(test: &Test) -> (Vec<String>, bool) {
    match test {
        Test::Words(words) => {
            let whole = words.iter().all(|word| word.len() <= LONGEST_TERM_BYTES);
            (words.clone(), whole)
        }
        Test::Exact(text) => (words(text), false),
        // Beyond ASCII, lower case of a text and of its words can differ (final sigma).
        Test::Same(text) if text.is_ascii() => (words(text), false),
        Test::Same(_) | Test::Regex(_) | Test::Number(_) => (Vec::new(), false),
    }
}

fn term(fields: Fields, path: &str, word: &str) -> Box<dyn IndexQuery> {
    Box::new(TermQuery::new(
        word_term(fields.data, path, word),
        IndexRecordOption::Basic,
    ))
}

/// One of the paths has all the words, or the event has cut columns.
fn any_path_has(fields: Fields, paths: &[&str], words: &[String]) -> Box<dyn IndexQuery> {
    let mut alternatives: Vec<Box<dyn IndexQuery>> = paths
        .iter()
        .map(|path| {
            let mut terms: Vec<Box<dyn IndexQuery>> =
                words.iter().map(|word| term(fields, path, word)).collect();
            if terms.len() == 1 {
                terms.remove(0)
            } else {
                Box::new(BooleanQuery::intersection(terms))
            }
        })
        .collect();
    alternatives.push(term(fields, schema::LONG, "1"));
    Box::new(BooleanQuery::union(alternatives))
}

/// A filter on one segment.
struct SegmentFilter<'q> {
    test: &'q Test,
    columns: Vec<Decided>,
}

/// A column, and what is known about its distinct values.
struct Decided {
    column: StrColumn,
    values: Values,
}

enum Values {
    /// One bit per distinct value.
    Every(Vec<u64>),
    /// Those looked at so far.
    Some(HashMap<u64, bool>),
}

impl<'q> SegmentFilter<'q> {
    /// `None` when the deadline passed.
    fn open(
        segment: &SegmentReader,
        filter: &Filter<'q>,
        expected: u64,
        late: &dyn Fn() -> bool,
    ) -> tantivy::Result<Option<Self>> {
        let mut columns = Vec::new();
        for path in &filter.paths {
            let Some(column) = segment.fast_fields().str(&column(path))? else {
                continue;
            };
            let values = if let Test::Exact(text) = filter.test {
                let mut only = Vec::new();
                if let Some(ord) = column.dictionary().term_ord(text)? {
                    set(&mut only, ord);
                }
                Values::Every(only)
            } else if expected.saturating_mul(RANDOM_READ_COST)
                < u64::try_from(column.num_terms()).unwrap_or(u64::MAX)
            {
                Values::Some(HashMap::new())
            } else {
                match decide_every(&column, filter.test, late)? {
                    Some(values) => values,
                    None => return Ok(None),
                }
            };
            columns.push(Decided { column, values });
        }
        Ok(Some(Self {
            test: filter.test,
            columns,
        }))
    }
}

fn decide_every(
    column: &StrColumn,
    test: &Test,
    late: &dyn Fn() -> bool,
) -> tantivy::Result<Option<Values>> {
    let mut bits = Vec::new();
    let mut values = column.dictionary().stream()?;
    let mut ord = 0_u64;
    while values.advance() {
        if ord.is_multiple_of(CLOCK_EVERY) && late() {
            return Ok(None);
        }
        if std::str::from_utf8(values.key()).is_ok_and(|value| test.holds(value)) {
            set(&mut bits, ord);
        }
        ord += 1;
    }
    Ok(Some(Values::Every(bits)))
}

fn all_hold(filters: &mut [SegmentFilter<'_>], doc: DocId) -> tantivy::Result<bool> {
    for filter in filters {
        let mut holds = false;
        for decided in &mut filter.columns {
            if let Some(ord) = decided.column.ords().first(doc)
                && decided.holds(filter.test, ord)?
            {
                holds = true;
                break;
            }
        }
        if !holds {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Decided {
    fn holds(&mut self, test: &Test, ord: u64) -> tantivy::Result<bool> {
        match &mut self.values {
            Values::Every(bits) => Ok(is_set(bits, ord)),
            Values::Some(known) => {
                if let Some(holds) = known.get(&ord) {
                    return Ok(*holds);
                }
                let mut value = String::new();
                let holds = self.column.ord_to_str(ord, &mut value)? && test.holds(&value);
                known.insert(ord, holds);
                Ok(holds)
            }
        }
    }
}

fn set(bits: &mut Vec<u64>, index: u64) {
    let word = usize::try_from(index / 64).unwrap_or(usize::MAX);
    if bits.len() <= word {
        bits.resize(word + 1, 0);
    }
    if let Some(bits) = bits.get_mut(word) {
        *bits |= 1 << (index % 64);
    }
}

fn is_set(bits: &[u64], index: u64) -> bool {
    usize::try_from(index / 64)
        .ok()
        .and_then(|word| bits.get(word))
        .is_some_and(|bits| bits & (1 << (index % 64)) != 0)
}
