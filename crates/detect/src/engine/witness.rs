//! Which predicates announce a rule, and in which order its parts are best decided.
//!
//! A *witness set* is a set of predicates of which at least one holds whenever the rule does. Only
//! rules with a true witness are looked at, so the engine takes the set that is expected to hold
//! least often. Expectations come from a sample; without one, from how many rules share a literal
//! and how long it is. They decide about speed only.

use super::{
    build::{List, NO_SET, Node, Parts},
    predicate::{Decide, Predicate},
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

/// The best witness set of a condition; `None` when it can hold with every predicate false.
pub(crate) fn witness(parts: &Parts, expected: &Expectations, root: u32) -> Option<Vec<u32>> {
    best(parts, expected, root).map(|(_, mut set)| {
        set.sort_unstable();
        set.dedup();
        set
    })
}

fn best(parts: &Parts, expected: &Expectations, node: u32) -> Option<(f32, Vec<u32>)> {
    match *parts.nodes.get(node as usize)? {
        Node::Test(id) => {
            let predicate = parts.predicates.get(id as usize)?;
            if is_indexable(&predicate.decide) {
                return Some((expected.of(id), vec![id]));
            }
            let hints = parts.hints.get(&id)?;
            let cost = hints.iter().map(|hint| expected.of(*hint)).sum();
            Some((cost, hints.to_vec()))
        }
        Node::All(list) => kids(parts, list)
            .iter()
            .filter_map(|kid| best(parts, expected, *kid))
            .min_by(|left, right| left.0.total_cmp(&right.0)),
        Node::Any(list) => {
            let mut cost = 0.0;
            let mut set = Vec::new();
            for kid in kids(parts, list) {
                let (more, of_kid) = best(parts, expected, *kid)?;
                cost += more;
                set.extend(of_kid);
            }
            Some((cost, set))
        }
        Node::Not(_) => None,
        Node::Const(value) => (!value).then(|| (0.0, Vec::new())),
        Node::Written { part, .. } => best(parts, expected, part),
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
