//! Which predicates announce a rule, and in which order its parts are best decided.
//!
//! A *witness set* is a set of predicates of which at least one holds whenever the rule does. Only
//! rules with a true witness are looked at, so the engine takes the set that is expected to hold
//! least often. Expectations come from a sample; without one, from how many rules share a literal
//! and how long it is. They decide about speed only.

use super::{
    build::{List, NO_SET, Node, Parts},
    predicate::{Decide, KEYWORD, Predicate},
};

/// How often predicates are expected to hold, 0 to 1.
pub(crate) struct Expectations {
    often: Vec<f32>,
}

impl Expectations {
    /// Guesses.
    pub(crate) fn guess(parts: &Parts) -> Self {
        let often = parts
            .predicates
            .iter()
            .zip(&parts.uses)
            .map(|(predicate, uses)| guess(parts, predicate, *uses))
            .collect();
        Self { often }
    }

    /// What was observed where it was, and guesses for the rest. `held` is the number of sampled
    /// events each predicate held for, `None` where that was not tried.
    pub(crate) fn observed(parts: &Parts, held: &[Option<u32>], sampled: usize) -> Self {
        // A value that was never seen is taken for rarer than one seen once, not for impossible.
        let events = sampled as f32 + 1.0;
        let often = parts
            .predicates
            .iter()
            .zip(&parts.uses)
            .zip(held)
            .map(|((predicate, uses), held)| match held {
                Some(0) => 0.05 * guess(parts, predicate, *uses).min(0.2) / events.sqrt(),
                Some(held) => (*held as f32 / events).min(1.0),
                None => guess(parts, predicate, *uses),
            })
            .collect();
        Self { often }
    }

    fn of(&self, predicate: u32) -> f32 {
        self.often.get(predicate as usize).copied().unwrap_or(1.0)
    }
}

fn guess(parts: &Parts, predicate: &Predicate, uses: u32) -> f32 {
    // What many rules look for is what many programs do: their authors narrow it down elsewhere.
    let shared = uses as f32;
    match &predicate.decide {
        Decide::Literal(id) => {
            let length = parts.literals.text(*id).len().max(1) as f32;
            (0.004 * shared * (8.0 / length)).min(0.9)
        }
        Decide::Equal(_) => (0.003 * shared).min(0.9),
        Decide::Count(_) => 0.02,
        Decide::Network(_) | Decide::Parts(_) => 0.05,
        Decide::Regex(_) | Decide::Folded(_) | Decide::Cased(_) | Decide::Other { .. } => 0.1,
        Decide::Compare(..) | Decide::Time(..) | Decide::Empty | Decide::Null => 0.3,
        Decide::Exists(there) => {
            if *there {
                0.95
            } else {
                0.3
            }
        }
        Decide::Filled => 0.9,
    }
}

/// Whether a predicate can be decided when its value arrives, before any rule is looked at.
pub(crate) fn is_indexable(decide: &Decide) -> bool {
    match decide {
        Decide::Literal(_)
        | Decide::Equal(_)
        | Decide::Network(_)
        | Decide::Count(_)
        | Decide::Exists(_)
        | Decide::Null
        | Decide::Empty
        | Decide::Filled => true,
        Decide::Parts(_)
        | Decide::Folded(_)
        | Decide::Regex(_)
        | Decide::Cased(_)
        | Decide::Compare(..)
        | Decide::Other { .. }
        | Decide::Time(..) => false,
    }
}

/// Nanoseconds that looking at one candidate takes; measured with public rules, it depends on the
/// machine and hardly matters.
const CANDIDATE_NS: f32 = 100.0;

/// What searching each field takes per event.
pub(crate) struct SearchCosts {
    /// Nanoseconds, by field.
    pub(crate) fields: Vec<f32>,
    /// Nanoseconds for keywords: the values that no index is for.
    pub(crate) keyword: f32,
}

impl SearchCosts {
    fn of(&self, field: u32) -> f32 {
        if field == KEYWORD {
            return self.keyword;
        }
        self.fields.get(field as usize).copied().unwrap_or(0.0)
    }
}

/// What was chosen for the rules of a route.
pub(crate) struct Choice {
    /// A witness set for every rule; `None` for those that are looked at for every event.
    pub(crate) sets: Vec<Option<Vec<u32>>>,
    /// Places of the rules that can hold with every indexable predicate false.
    pub(crate) unannounced: Vec<u32>,
}

/// Chooses a witness set for every rule.
///
/// A field that few rules need a witness in is not searched at all: they get another witness, as
/// long as looking at more candidates takes less time than the search.
pub(crate) fn witnesses(
    parts: &Parts,
    expected: &Expectations,
    roots: &[u32],
    costs: &SearchCosts,
) -> Choice {
    let mut searched: Vec<u32> = (0..parts.fields.len())
        .filter_map(|field| u32::try_from(field).ok())
        .chain([KEYWORD])
        .collect();
    let field_of = |id: &u32| parts.predicates.get(*id as usize).map(|p| p.field);
    let mut chosen: Vec<Best> = roots
        .iter()
        .map(|root| best(parts, expected, &searched, *root))
        .collect();
    let unannounced = (0_u32..)
        .zip(&chosen)
        .filter(|(_, best)| best.is_none())
        .map(|(place, _)| place)
        .collect();
    let users = |field: u32, chosen: &[Best]| -> Vec<usize> {
        let uses = |best: &Best| {
            let set = best.as_ref().map(|(_, set)| set.iter());
            set.into_iter()
                .flatten()
                .any(|id| field_of(id) == Some(field))
        };
        let places = 0..chosen.len();
        places
            .filter(|place| chosen.get(*place).is_some_and(uses))
            .collect()
    };
    // Fields that few rules need first: what they lose makes the others more worth while.
    let mut order = searched.clone();
    order.sort_by_key(|field| users(*field, &chosen).len());
    for field in order {
        let without: Vec<u32> = searched.iter().copied().filter(|f| *f != field).collect();
        let often = |best: &Best| best.as_ref().map_or(1.0, |(cost, _)| *cost);
        let mut others = Vec::new();
        let mut more = 0.0;
        for place in users(field, &chosen) {
            let (Some(root), Some(now)) = (roots.get(place), chosen.get(place)) else {
                continue;
            };
            let other = best(parts, expected, &without, *root);
            more += (often(&other) - often(now)) * CANDIDATE_NS;
            if field == KEYWORD && other.is_none() {
                // Looked at always, the rule would search the values all the same.
                more += costs.keyword;
            }
            others.push((place, other));
            if more > costs.of(field) {
                break;
            }
        }
        if more <= costs.of(field) {
            searched = without;
            for (place, other) in others {
                if let Some(slot) = chosen.get_mut(place) {
                    *slot = other;
                }
            }
        }
    }
    let sets = chosen.into_iter().map(|best| {
        best.map(|(_, mut set)| {
            set.sort_unstable();
            set.dedup();
            set
        })
    });
    Choice {
        sets: sets.collect(),
        unannounced,
    }
}

/// How often a set is expected to hold, and the set.
type Best = Option<(f32, Vec<u32>)>;

fn best(parts: &Parts, expected: &Expectations, searched: &[u32], node: u32) -> Best {
    match *parts.nodes.get(node as usize)? {
        Node::Test(id) => {
            let predicate = parts.predicates.get(id as usize)?;
            let is_searched =
                matches!(predicate.decide, Decide::Count(_)) || searched.contains(&predicate.field);
            if !is_searched {
                return None;
            }
            if is_indexable(&predicate.decide) {
                return Some((expected.of(id), vec![id]));
            }
            let hints = parts.hints.get(&id)?;
            let cost = hints.iter().map(|hint| expected.of(*hint)).sum();
            Some((cost, hints.to_vec()))
        }
        Node::All(list) => kids(parts, list)
            .iter()
            .filter_map(|kid| best(parts, expected, searched, *kid))
            .min_by(|left, right| left.0.total_cmp(&right.0)),
        Node::Any(list) => {
            let mut cost = 0.0;
            let mut set = Vec::new();
            for kid in kids(parts, list) {
                let (more, of_kid) = best(parts, expected, searched, *kid)?;
                cost += more;
                set.extend(of_kid);
            }
            Some((cost, set))
        }
        Node::Not(_) => None,
        Node::Const(value) => (!value).then(|| (0.0, Vec::new())),
        Node::Written { part, .. } => best(parts, expected, searched, part),
    }
}

pub(crate) fn kids(parts: &Parts, list: List) -> &[u32] {
    let first = list.first as usize;
    parts
        .kids
        .get(first..first + list.length as usize)
        .unwrap_or_default()
}

/// How likely a part holds and what deciding it costs, in tests of a short literal.
#[derive(Clone, Copy)]
struct Outlook {
    holds: f32,
    cost: f32,
}

/// The order in which the parts of each list are decided: a permutation of [`Parts::kids`] within
/// each list. Parts that are cheap and likely to settle the list come first.
pub(crate) fn order(parts: &Parts, expected: &Expectations, indexed: &[bool]) -> Vec<u32> {
    let mut order = parts.kids.clone();
    let mut outlooks: Vec<Outlook> = Vec::with_capacity(parts.nodes.len());
    // Parts come before what they are part of.
    for node in &parts.nodes {
        let of = |id: u32, outlooks: &[Outlook]| {
            outlooks.get(id as usize).copied().unwrap_or(Outlook {
                holds: 0.5,
                cost: 1.0,
            })
        };
        let outlook = match *node {
            Node::Test(id) => Outlook {
                holds: expected.of(id),
                cost: cost(parts, id, indexed),
            },
            Node::Const(value) => Outlook {
                holds: if value { 1.0 } else { 0.0 },
                cost: 0.0,
            },
            Node::Not(part) => {
                let part = of(part, &outlooks);
                Outlook {
                    holds: 1.0 - part.holds,
                    cost: part.cost,
                }
            }
            Node::Written { part, .. } => of(part, &outlooks),
            Node::All(list) | Node::Any(list) => {
                let all = matches!(node, Node::All(_));
                let first = list.first as usize;
                let Some(kids) = order.get_mut(first..first + list.length as usize) else {
                    continue;
                };
                let settles = |id: u32| {
                    let outlook = of(id, &outlooks);
                    let chance = if all {
                        1.0 - outlook.holds
                    } else {
                        outlook.holds
                    };
                    outlook.cost / chance.max(1e-6)
                };
                let in_set = |id: u32| list.set != NO_SET && is_member(parts, id, indexed);
                kids.sort_by(|left, right| {
                    let sets = in_set(*left).cmp(&in_set(*right));
                    sets.then_with(|| settles(*left).total_cmp(&settles(*right)))
                });
                let (mut goes_on, mut cost) = (1.0_f32, 0.0_f32);
                for kid in kids.iter() {
                    let kid = of(*kid, &outlooks);
                    cost += goes_on * kid.cost;
                    goes_on *= if all { kid.holds } else { 1.0 - kid.holds };
                }
                if list.set != NO_SET {
                    cost = cost.min(SET_COST);
                }
                Outlook {
                    holds: if all { goes_on } else { 1.0 - goes_on },
                    cost,
                }
            }
        };
        outlooks.push(outlook);
    }
    order
}

/// Whether a part of a list that has a set is decided by the set.
pub(crate) fn is_member(parts: &Parts, node: u32, indexed: &[bool]) -> bool {
    let Some(Node::Test(id)) = parts.nodes.get(node as usize) else {
        return false;
    };
    let predicate = parts.predicates.get(*id as usize);
    predicate.is_some_and(|predicate| matches!(predicate.decide, Decide::Literal(_)))
        && !indexed.get(*id as usize).copied().unwrap_or(false)
}

const SET_COST: f32 = 8.0;

fn cost(parts: &Parts, id: u32, indexed: &[bool]) -> f32 {
    if indexed.get(id as usize).copied().unwrap_or(false) {
        return 0.1;
    }
    match parts.predicates.get(id as usize).map(|p| &p.decide) {
        Some(Decide::Regex(_) | Decide::Folded(_) | Decide::Cased(_)) => 20.0,
        Some(Decide::Parts(parts)) => parts.len() as f32,
        Some(Decide::Other { .. } | Decide::Network(_) | Decide::Time(..)) => 4.0,
        _ => 1.0,
    }
}
