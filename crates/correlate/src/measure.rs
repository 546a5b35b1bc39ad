//! What is computed over the matches in a window, kept up to date as they come and go.
//!
//! Every measure is exact and does not depend on the order in which matches came and went, so that
//! a restored window says the same as one that was never away.

use crate::{
    order::Chain,
    plan::{Plan, Reckoning},
};

/// Places after the binary point that sums keep: about 6e-8.
const SUM_SCALE: f64 = (1_u64 << 24) as f64;
/// Largest magnitude of a number: as many of them as a group may hold still add up in an `i128`.
const LARGEST: f64 = (1_u128 << 80) as f64;

/// A number that can be summed; `None` when the text is none.
pub(crate) fn number(text: &str) -> Option<f64> {
    let value: f64 = text.trim().parse().ok()?;
    // Adding zero makes the two zeros one.
    number_is_fit(value).then_some(value + 0.0)
}

/// Whether a number can be summed.
pub(crate) fn number_is_fit(value: f64) -> bool {
    value.abs() <= LARGEST
}

/// State of a measure over the newest window.
#[derive(Debug)]
pub(crate) enum Measure {
    /// How many.
    Count(usize),
    /// How often each value, by its number; and how many values there are.
    Distinct { counts: Vec<u32>, distinct: usize },
    /// The sum in fixed point, and of how many.
    Sum { total: i128, count: usize },
    /// All numbers in order.
    Ranked(Vec<f64>),
    /// How often each member; and the sequences followed.
    Members {
        counts: Vec<u32>,
        chains: Vec<Chain>,
    },
}

/// What a measure says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reading {
    /// The number.
    pub(crate) value: f64,
    /// The condition of the correlation holds.
    pub(crate) holds: bool,
}

impl Measure {
    /// The measure of an empty window.
    pub(crate) fn new(plan: &Plan) -> Self {
        match &plan.reckoning {
            Reckoning::Count => Self::Count(0),
            Reckoning::Distinct => Self::Distinct {
                counts: Vec::new(),
                distinct: 0,
            },
            Reckoning::Sum | Reckoning::Average => Self::Sum { total: 0, count: 0 },
            Reckoning::Percentile(_) | Reckoning::Median => Self::Ranked(Vec::new()),
            Reckoning::Seen(_) => Self::Members {
                counts: vec![0; plan.members.len()],
                chains: Vec::new(),
            },
            Reckoning::Ordered(terms) => Self::Members {
                counts: vec![0; plan.members.len()],
                chains: terms
                    .iter()
                    .map(|term| Chain::new(term.present.len()))
                    .collect(),
            },
        }
    }

    /// A match comes into the window. Matches come in the order of their times.
    pub(crate) fn add(&mut self, plan: &Plan, time: i64, member: u16, value: u64) {
        match self {
            Self::Count(count) => *count += 1,
            Self::Distinct { counts, distinct } => {
                let place = usize::try_from(value).unwrap_or(usize::MAX);
                if place >= counts.len() && place < crate::Limits::MOST_MATCHES {
                    counts.resize(place + 1, 0);
                }
                if let Some(count) = counts.get_mut(place) {
                    *distinct += usize::from(*count == 0);
                    *count += 1;
                }
            }
            Self::Sum { total, count } => {
                *total += fixed(value);
                *count += 1;
            }
            Self::Ranked(sorted) => {
                let value = f64::from_bits(value);
                let place = sorted.partition_point(|other| *other <= value);
                sorted.insert(place, value);
            }
            Self::Members { counts, chains } => {
                if let Some(count) = counts.get_mut(usize::from(member)) {
                    *count += 1;
                }
                if let Reckoning::Ordered(terms) = &plan.reckoning {
                    for (chain, term) in chains.iter_mut().zip(terms) {
                        chain.take(term, member, time);
                    }
                }
            }
        }
    }

    /// A match leaves the window. Sequences need not be told: they know when they started.
    pub(crate) fn remove(&mut self, member: u16, value: u64) {
        match self {
            Self::Count(count) => *count = count.saturating_sub(1),
            Self::Distinct { counts, distinct } => {
                let place = usize::try_from(value).unwrap_or(usize::MAX);
                if let Some(count) = counts.get_mut(place).filter(|count| **count > 0) {
                    *count -= 1;
                    *distinct -= usize::from(*count == 0);
                }
            }
            Self::Sum { total, count } => {
                *total -= fixed(value);
                *count = count.saturating_sub(1);
            }
            Self::Ranked(sorted) => {
                let value = f64::from_bits(value);
                let place = sorted.partition_point(|other| *other < value);
                if place < sorted.len() {
                    sorted.remove(place);
                }
            }
            Self::Members { counts, .. } => {
                if let Some(count) = counts.get_mut(usize::from(member)) {
                    *count = count.saturating_sub(1);
                }
            }
        }
    }

    /// What it says about a window that is not empty and starts at `start`.
    pub(crate) fn read(&self, plan: &Plan, start: i64) -> Reading {
        let value = match (self, &plan.reckoning) {
            (Self::Count(count), _) => *count as f64,
            (Self::Distinct { distinct, .. }, _) => *distinct as f64,
            (Self::Sum { total, count }, Reckoning::Average) => {
                *total as f64 / SUM_SCALE / (*count).max(1) as f64
            }
            (Self::Sum { total, .. }, _) => *total as f64 / SUM_SCALE,
            (Self::Ranked(sorted), Reckoning::Percentile(percent)) => percentile(sorted, *percent),
            (Self::Ranked(sorted), _) => median(sorted),
            (Self::Members { counts, chains }, reckoning) => {
                let seen = counts.iter().filter(|count| **count > 0).count() as f64;
                let holds = match reckoning {
                    Reckoning::Ordered(terms) => terms.iter().zip(chains).any(|(term, chain)| {
                        chain.lies_after(start)
                            && !term.absent.iter().any(|place| is_seen(counts, *place))
                    }),
                    Reckoning::Seen(Some(expr)) => crate::plan::holds(expr, counts),
                    _ if plan.bounds.is_empty() => counts.iter().all(|count| *count > 0),
                    _ => true,
                };
                return Reading {
                    value: seen,
                    holds: holds && plan.within_bounds(seen),
                };
            }
        };
        Reading {
            value,
            holds: plan.within_bounds(value),
        }
    }

    /// Memory outside the value itself, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Count(_) | Self::Sum { .. } => 0,
            Self::Distinct { counts, .. } => counts.len() * size_of::<u32>(),
            Self::Ranked(sorted) => sorted.len() * size_of::<f64>(),
            Self::Members { counts, chains } => {
                counts.len() * size_of::<u32>()
                    + chains
                        .iter()
                        .map(|chain| size_of::<Chain>() + chain.heap_bytes())
                        .sum::<usize>()
            }
        }
    }
}

fn is_seen(counts: &[u32], place: u16) -> bool {
    counts
        .get(usize::from(place))
        .is_some_and(|count| *count > 0)
}

/// In range for every number that [`number`] gives.
fn fixed(value: u64) -> i128 {
    (f64::from_bits(value) * SUM_SCALE).round() as i128
}

/// The smallest value that at least `percent` of the values do not exceed (nearest rank).
fn percentile(sorted: &[f64], percent: f64) -> f64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.clamp(1, sorted.len().max(1)) - 1)
        .copied()
        .unwrap_or_default()
}

/// The middle value, or the mean of the two in the middle.
fn median(sorted: &[f64]) -> f64 {
    let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        at(middle)
    } else {
        f64::midpoint(at(middle.saturating_sub(1)), at(middle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank_and_the_median_is_the_middle() {
        let sorted = [1.0, 2.0, 3.0, 4.0];
        for (percent, expected) in [(0.0, 1.0), (25.0, 1.0), (26.0, 2.0), (100.0, 4.0)] {
            assert_eq!(percentile(&sorted, percent), expected, "{percent}");
        }
        assert_eq!(median(&sorted), 2.5);
        assert_eq!(median(&sorted[..3]), 2.0);
    }

    #[test]
    fn only_numbers_that_can_be_summed_are_numbers() {
        assert_eq!(number(" 12.5 "), Some(12.5));
        assert_eq!(number("-0").map(f64::to_bits), Some(0));
        for text in ["", "12 kB", "NaN", "inf", "1e300"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
