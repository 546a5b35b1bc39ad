//! Members in their order: which sequences satisfy a condition, and whether one lies in a window.

use yinglong_rules::correlation::MemberExpr;

/// Most alternatives a condition may stand for.
const MOST_TERMS: usize = 64;
/// Time of what has not been seen.
const NEVER: i64 = i64::MIN;

/// One way to satisfy an ordered condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Term {
    /// Places of members that must be seen, each after the one before.
    pub(crate) present: Vec<u16>,
    /// Places of members that must not be seen.
    pub(crate) absent: Vec<u16>,
}

/// The ways to satisfy a condition; `None` when there are more than can be followed.
pub(crate) fn terms(expr: &MemberExpr) -> Option<Vec<Term>> {
    let mut terms = expand(expr, true)?;
    for term in &mut terms {
        term.present.sort_unstable();
        term.absent.sort_unstable();
    }
    terms.retain(|term| !term.present.iter().any(|place| term.absent.contains(place)));
    Some(terms)
}

/// All ways to choose `count` of the first `members` places.
pub(crate) fn choices(members: usize, count: usize) -> Option<Vec<Term>> {
    let mut chosen: Vec<Vec<u16>> = vec![Vec::new()];
    for place in 0..members {
        let place = u16::try_from(place).ok()?;
        let with: Vec<Vec<u16>> = chosen
            .iter()
            .filter(|choice| choice.len() < count)
            .map(|choice| choice.iter().copied().chain([place]).collect())
            .collect();
        chosen.extend(with);
        if chosen.len() > 1 << 14 {
            return None;
        }
    }
    chosen.retain(|choice| choice.len() == count);
    (chosen.len() <= MOST_TERMS).then(|| {
        chosen
            .into_iter()
            .map(|present| Term {
                present,
                absent: Vec::new(),
            })
            .collect()
    })
}

fn expand(expr: &MemberExpr, holds: bool) -> Option<Vec<Term>> {
    match expr {
        MemberExpr::Seen(place) => {
            let place = vec![u16::try_from(*place).ok()?];
            let (present, absent) = if holds {
                (place, Vec::new())
            } else {
                (Vec::new(), place)
            };
            Some(vec![Term { present, absent }])
        }
        MemberExpr::Not(part) => expand(part, !holds),
        MemberExpr::All(parts) if holds => every(parts, holds),
        MemberExpr::Any(parts) if !holds => every(parts, holds),
        MemberExpr::All(parts) | MemberExpr::Any(parts) => {
            let mut terms = Vec::new();
            for part in parts {
                terms.extend(expand(part, holds)?);
            }
            (terms.len() <= MOST_TERMS).then_some(terms)
        }
    }
}

fn every(parts: &[MemberExpr], holds: bool) -> Option<Vec<Term>> {
    let mut terms = vec![Term {
        present: Vec::new(),
        absent: Vec::new(),
    }];
    for part in parts {
        let further = expand(part, holds)?;
        let mut joined = Vec::new();
        for left in &terms {
            for right in &further {
                let mut term = left.clone();
                add(&mut term.present, &right.present);
                add(&mut term.absent, &right.absent);
                joined.push(term);
            }
        }
        if joined.len() > MOST_TERMS {
            return None;
        }
        terms = joined;
    }
    Some(terms)
}

fn add(places: &mut Vec<u16>, further: &[u16]) {
    for place in further {
        if !places.contains(place) {
            places.push(*place);
        }
    }
}

/// Follows one sequence of members while matches arrive in the order of time.
///
/// For each place of the sequence it knows the latest start of a sequence up to there; the sequence
/// lies in a window exactly if the latest start of the whole does. Matches at the same time are in
/// any order: many logs know seconds only.
#[derive(Debug, Clone)]
pub(crate) struct Chain {
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy)]
struct Step {
    /// Latest start of a sequence that ends here.
    start: i64,
    /// When its member was last seen.
    seen: i64,
}

impl Chain {
    /// Nothing seen yet.
    pub(crate) fn new(length: usize) -> Self {
        let unseen = Step {
            start: NEVER,
            seen: NEVER,
        };
        Self {
            steps: vec![unseen; length],
        }
    }

    /// Takes a match of a member; `time` is not before that of any match taken.
    pub(crate) fn take(&mut self, term: &Term, member: u16, time: i64) {
        let Some(place) = term.present.iter().position(|m| *m == member) else {
            return;
        };
        let mut start = match place.checked_sub(1) {
            None => time,
            Some(before) => self.steps.get(before).map_or(NEVER, |step| step.start),
        };
        if let Some(step) = self.steps.get_mut(place) {
            step.start = step.start.max(start);
            step.seen = time;
            start = step.start;
        }
        for step in self.steps.iter_mut().skip(place + 1) {
            if step.seen != time || step.start >= start {
                break;
            }
            step.start = start;
        }
    }

    /// Whether the whole sequence lies in a window that starts then.
    pub(crate) fn lies_after(&self, start: i64) -> bool {
        self.steps
            .last()
            .is_none_or(|step| step.start != NEVER && step.start >= start)
    }

    /// Memory in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.steps.len() * size_of::<Step>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MemberExpr::{All, Any, Not, Seen};

    #[test]
    fn a_condition_becomes_the_ways_to_satisfy_it() {
        let expr = All(vec![
            Any(vec![Seen(2), Seen(0)]),
            Not(Box::new(Any(vec![Seen(1), Seen(3)]))),
        ]);
        let term = |present: &[u16]| Term {
            present: present.into(),
            absent: vec![1, 3],
        };
        assert_eq!(terms(&expr).unwrap(), [term(&[2]), term(&[0])]);
    }

    #[test]
    fn a_way_that_contradicts_itself_is_none() {
        assert_eq!(
            terms(&All(vec![Seen(0), Not(Box::new(Seen(0)))])).unwrap(),
            []
        );
    }

    #[test]
    fn a_condition_with_too_many_ways_is_refused() {
        let pair = |place| Any(vec![Seen(place), Seen(place + 1)]);
        assert_eq!(terms(&All((0..20).map(|n| pair(2 * n)).collect())), None);
        assert_eq!(choices(30, 15), None);
        assert_eq!(choices(3, 2).unwrap().len(), 3);
    }

    #[test]
    fn the_same_moment_counts_as_in_order() {
        let term = Term {
            present: vec![0, 1, 2],
            absent: Vec::new(),
        };
        let mut chain = Chain::new(3);
        for (member, time) in [(0, 10), (2, 20), (1, 20)] {
            chain.take(&term, member, time);
        }
        assert!(chain.lies_after(10));
        assert!(!chain.lies_after(11));
    }
}
