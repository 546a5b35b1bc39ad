//! All rules of one class and system, compiled to be evaluated together.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};
use yinglong_model::{EventData, alert::Matched, event::System};
use yinglong_rules::{
    Class, Source,
    ir::{Field, View},
};

use super::{
    build::{NO_SET, Node, Parts},
    grams::{Frequencies, Grams},
    index::FieldIndex,
    predicate::{Decide, KEYWORD},
    run::Run,
    scratch::Scratch,
    witness::{self, Expectations, SearchCosts},
};
use crate::{Element, Name};

/// Compiled rules of one class and system.
pub(crate) struct Route {
    class: Class,
    pub(crate) system: System,
    pub(crate) parts: Parts,
    /// Parts of lists in the order in which they are decided.
    pub(crate) order: Vec<u32>,
    /// Each rule's number in the engine and the root of its condition, in the order of the rules.
    pub(crate) rules: Vec<(u32, u32)>,
    /// What is decided when a value arrives, by field.
    pub(crate) indexes: Vec<FieldIndex>,
    /// The same for keywords, for fields that no rule names.
    pub(crate) keyword: FieldIndex,
    /// Fields that have an index.
    pub(crate) scanned: Vec<u32>,
    /// Names of the fields, to ask elements for.
    pub(crate) names: Vec<Name>,
    /// Names of the fields whose index has the keywords, too.
    pub(crate) searched: FxHashSet<Arc<str>>,
    /// Indexed conditions on the count.
    pub(crate) counts: Vec<(u64, u32)>,
    /// Predicates that are decided by an index; what it does not report does not hold.
    pub(crate) indexed: Vec<bool>,
    /// Lists of literals that are decided together.
    pub(crate) sets: Vec<Set>,
    triggers: Triggers,
    /// Rules that are looked at for every event.
    pub(crate) always: Vec<u32>,
    /// Those of them that nothing can announce.
    pub(crate) unannounced: Vec<u32>,
}

/// Literals of one field of which one is enough.
pub(crate) struct Set {
    pub(crate) field: u32,
    pub(crate) grams: Grams,
}

/// Rules that each predicate announces.
#[derive(Default)]
struct Triggers {
    /// Where the rules of a predicate begin; one more than there are predicates.
    first: Vec<u32>,
    rules: Vec<u32>,
}

/// Fewer literals are decided one by one.
const SMALLEST_SET: usize = 6;

impl Route {
    /// Compiles. `rules` are numbers in the engine with the roots of conditions in `parts`.
    /// `sample` are events of this class and system.
    pub(crate) fn new(
        class: Class,
        system: System,
        parts: Parts,
        rules: Vec<(u32, u32)>,
        sample: &[Element<'_>],
    ) -> Self {
        let names = parts.fields.iter();
        let names = names.map(|field| Name::new(Arc::clone(&field.name)));
        let mut route = Self {
            class,
            system,
            names: names.collect(),
            searched: FxHashSet::default(),
            order: parts.kids.clone(),
            rules,
            indexes: Vec::new(),
            keyword: FieldIndex::default(),
            scanned: Vec::new(),
            counts: Vec::new(),
            indexed: Vec::new(),
            sets: Vec::new(),
            triggers: Triggers::default(),
            always: Vec::new(),
            unannounced: Vec::new(),
            parts,
        };
        let frequencies = route.frequencies(sample);
        let expected = if sample.is_empty() {
            Expectations::guess(&route.parts)
        } else {
            let held = route.observe(sample, &frequencies);
            Expectations::observed(&route.parts, &held, sample.len())
        };
        let costs = route.search_costs(sample);
        route.choose(&expected, &frequencies, &costs);
        route.parts.hints.shrink_to_fit();
        route.parts.uses = Vec::new();
        route
    }

    /// Appends the numbers of the rules that match, in the order of the rules.
    pub(crate) fn matches(
        &self,
        element: &Element<'_>,
        scratch: &mut Scratch,
        found: &mut Vec<u32>,
    ) {
        Run::new(self, element, scratch).matches(found);
    }

    /// What made a rule match; call it before the scratch is used for another event.
    pub(crate) fn explain(
        &self,
        element: &Element<'_>,
        scratch: &mut Scratch,
        place: u32,
    ) -> Vec<Matched> {
        Run::again(self, element, scratch).explain(place)
    }

    pub(crate) fn triggered(&self, predicate: u32) -> &[u32] {
        let place = predicate as usize;
        match (
            self.triggers.first.get(place),
            self.triggers.first.get(place + 1),
        ) {
            (Some(first), Some(end)) => self
                .triggers
                .rules
                .get(*first as usize..*end as usize)
                .unwrap_or_default(),
            _ => &[],
        }
    }

    /// Name of a field as explanations show it.
    pub(crate) fn field_name(&self, field: u32) -> &str {
        self.parts
            .fields
            .get(field as usize)
            .map_or("", |field| &field.name)
    }

    pub(crate) fn view(&self, field: u32) -> View {
        self.parts
            .fields
            .get(field as usize)
            .map_or(View::Whole, |field| field.view)
    }

    /// Grams of the sampled values of all fields.
    fn frequencies(&self, sample: &[Element<'_>]) -> Frequencies {
        let mut frequencies = Frequencies::new();
        let mut folded = Vec::new();
        for element in sample {
            for field in &self.parts.fields {
                if let Some(value) = element.fields.get(&field.name) {
                    folded.clear();
                    crate::fold::fold_into(&value, &mut folded);
                    frequencies.add(&folded);
                }
            }
        }
        frequencies
    }

    /// How often each predicate held in the sample.
    fn observe(&mut self, sample: &[Element<'_>], frequencies: &Frequencies) -> Vec<Option<u32>> {
        let indexable: Vec<bool> = self
            .parts
            .predicates
            .iter()
            .map(|predicate| {
                // The sample does not know what will be new tomorrow.
                witness::is_indexable(&predicate.decide)
                    && !matches!(predicate.decide, Decide::Count(_))
            })
            .collect();
        self.index(indexable, frequencies);
        let mut held = vec![0_u32; self.parts.predicates.len()];
        let mut scratch = Scratch::default();
        for element in sample {
            Run::new(self, element, &mut scratch).scan(|id| {
                if let Some(count) = held.get_mut(id as usize) {
                    *count += 1;
                }
            });
        }
        held.into_iter()
            .zip(&self.indexed)
            .map(|(count, indexed)| indexed.then_some(count))
            .collect()
    }

    /// What searching each field takes, from the lengths of its values and how many of them repeat.
    fn search_costs(&self, sample: &[Element<'_>]) -> SearchCosts {
        /// Fetching a value and finding it among those remembered.
        const REMEMBERED_NS: f32 = 40.0;
        const BYTE_NS: f32 = 1.2;
        /// Taken for a value of which no sample is known.
        const UNKNOWN_BYTES: f32 = 60.0;
        let mut all_bytes = 0.0;
        let fields = self
            .parts
            .fields
            .iter()
            .map(|field| {
                let mut bytes = 0;
                let mut distinct: FxHashSet<String> = FxHashSet::default();
                for element in sample {
                    if let Some(value) = element.fields.get(&field.name) {
                        bytes += value.len();
                        distinct.insert(value.into_owned());
                    }
                }
                if sample.is_empty() {
                    return REMEMBERED_NS + BYTE_NS * UNKNOWN_BYTES;
                }
                let mean = bytes as f32 / sample.len() as f32;
                all_bytes += mean;
                let new = distinct.len() as f32 / sample.len() as f32;
                REMEMBERED_NS + new * BYTE_NS * mean
            })
            .collect();
        SearchCosts {
            fields,
            keyword: REMEMBERED_NS + BYTE_NS * (all_bytes + UNKNOWN_BYTES),
        }
    }

    fn choose(&mut self, expected: &Expectations, frequencies: &Frequencies, costs: &SearchCosts) {
        let mut wanted = vec![false; self.parts.predicates.len()];
        let mut announced: Vec<(u32, u32)> = Vec::new();
        self.always.clear();
        let roots: Vec<u32> = self.rules.iter().map(|(_, root)| *root).collect();
        let choice = witness::witnesses(&self.parts, expected, &roots, costs);
        self.unannounced = choice.unannounced;
        for (place, set) in (0_u32..).zip(choice.sets) {
            match set {
                Some(set) => {
                    for id in set {
                        if let Some(wanted) = wanted.get_mut(id as usize) {
                            *wanted = true;
                        }
                        announced.push((id, place));
                    }
                }
                None => self.always.push(place),
            }
        }
        self.triggers = Triggers::new(announced, self.parts.predicates.len());
        self.index(wanted, frequencies);
        self.make_sets(frequencies);
        self.order = witness::order(&self.parts, expected, &self.indexed);
    }

    fn index(&mut self, wanted: Vec<bool>, frequencies: &Frequencies) {
        let mut by_field: Vec<Vec<u32>> = vec![Vec::new(); self.parts.fields.len()];
        let mut keywords = Vec::new();
        self.counts.clear();
        for (id, predicate) in self.parts.predicates.iter().enumerate() {
            if !wanted.get(id).copied().unwrap_or(false) {
                continue;
            }
            let id = u32::try_from(id).unwrap_or(u32::MAX);
            if let Decide::Count(number) = predicate.decide {
                self.counts.push((number, id));
            } else if predicate.field == KEYWORD {
                keywords.push(id);
            } else if let Some(of_field) = by_field.get_mut(predicate.field as usize) {
                of_field.push(id);
            }
        }
        self.searched.clear();
        self.indexes = Vec::with_capacity(by_field.len());
        for (field, ids) in self.parts.fields.iter().zip(by_field) {
            // One pass finds keywords and what rules look for in this field.
            let searched = !keywords.is_empty() && is_visited(self.class, field);
            if searched {
                self.searched.insert(Arc::clone(&field.name));
            }
            let more = keywords.iter().copied().filter(|_| searched);
            let ids = ids.into_iter().chain(more);
            self.indexes
                .push(FieldIndex::new(&self.parts, ids, frequencies));
        }
        self.keyword = FieldIndex::new(&self.parts, keywords.into_iter(), frequencies);
        self.scanned = self
            .indexes
            .iter()
            .enumerate()
            .filter(|(_, index)| !index.is_empty())
            .filter_map(|(field, _)| u32::try_from(field).ok())
            .collect();
        self.indexed = wanted;
    }

    /// Finds the lists with many literals over one field that no index decides.
    fn make_sets(&mut self, frequencies: &Frequencies) {
        let mut known: FxHashMap<Vec<u32>, u32> = FxHashMap::default();
        let mut sets = Vec::new();
        for place in 0..self.parts.nodes.len() {
            let Some(Node::Any(list)) = self.parts.nodes.get(place).copied() else {
                continue;
            };
            let members: Vec<u32> = witness::kids(&self.parts, list)
                .iter()
                .copied()
                .filter(|kid| witness::is_member(&self.parts, *kid, &self.indexed))
                .filter_map(|kid| match self.parts.nodes.get(kid as usize) {
                    Some(Node::Test(id)) => Some(*id),
                    _ => None,
                })
                .collect();
            let field = |id: &u32| self.parts.predicates.get(*id as usize).map(|p| p.field);
            let first = members.first().and_then(field);
            let one_field = members.iter().all(|id| field(id) == first);
            let (Some(first), true, true) = (first, one_field, members.len() >= SMALLEST_SET)
            else {
                continue;
            };
            if first == KEYWORD {
                continue;
            }
            let others = list.length - u32::try_from(members.len()).unwrap_or(0);
            let set = *known.entry(members).or_insert_with_key(|members| {
                let wanted: Vec<(u32, u32)> = members
                    .iter()
                    .filter_map(|id| match self.parts.predicates.get(*id as usize)?.decide {
                        Decide::Literal(literal) => Some((literal, *id)),
                        _ => None,
                    })
                    .collect();
                let grams = Grams::new(&self.parts.literals, &wanted, frequencies);
                sets.push(Set {
                    field: first,
                    grams,
                });
                u32::try_from(sets.len() - 1).unwrap_or(NO_SET)
            });
            if let Some(Node::Any(list)) = self.parts.nodes.get_mut(place) {
                list.set = set;
                list.others = others;
            }
        }
        self.sets = sets;
    }
}

/// Whether elements show the field when they are asked for all of them.
fn is_visited(class: Class, field: &Field) -> bool {
    field.view == View::Whole
        && match class {
            Class::Source(Source::Event(kind)) => {
                EventData::field_names(kind).contains(&&*field.name)
            }
            Class::Source(Source::Inventory(_)) | Class::Log(_) => true,
        }
}

impl Triggers {
    fn new(mut announced: Vec<(u32, u32)>, predicates: usize) -> Self {
        announced.sort_unstable();
        announced.dedup();
        let mut first = Vec::with_capacity(predicates + 1);
        let mut rules = Vec::with_capacity(announced.len());
        let mut announced = announced.into_iter().peekable();
        for id in 0..predicates {
            first.push(u32::try_from(rules.len()).unwrap_or(u32::MAX));
            while let Some((_, rule)) = announced.next_if(|(of, _)| *of as usize == id) {
                rules.push(rule);
            }
        }
        first.push(u32::try_from(rules.len()).unwrap_or(u32::MAX));
        Self { first, rules }
    }
}
