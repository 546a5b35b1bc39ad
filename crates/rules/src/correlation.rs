//! Correlation rules: what must hold for several matches together.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    About,
    ir::{Comparison, Number},
};

/// A correlation over matches of other rules.
#[derive(Debug, Clone, PartialEq)]
pub struct Correlation {
    /// What people read about it.
    pub about: Arc<About>,
    /// What is computed over the matches in the window.
    pub kind: CorrelationKind,
    /// Ids of the rules (or correlations) whose matches are taken, in the order written.
    pub members: Vec<Member>,
    /// Names under which values are grouped, as written; each member says which of its fields has it.
    pub group_by: Vec<String>,
    /// Length of the window.
    pub timespan: Duration,
    /// What must hold for the computed number, all of it. For temporal kinds: for the number of
    /// members seen; empty means all of them.
    pub bounds: Vec<(Comparison, Number)>,
    /// Condition over members for the extended temporal kinds: names of members joined by `and`,
    /// `or` and `not`. `None` when only `bounds` counts.
    pub condition: Option<MemberExpr>,
    /// Matches of the members raise alerts of their own, too.
    pub generate: bool,
}

/// One rule whose matches are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Id of the rule.
    pub id: String,
    /// Name under which the correlation refers to it.
    pub name: String,
    /// Canonical fields of the matching event, by the group-by name or aggregated name they stand
    /// for. A name maps to several when the rule reads several classes; the first that is there counts.
    pub fields: BTreeMap<String, Vec<String>>,
}

/// What is computed over the matches in a window.
#[derive(Debug, Clone, PartialEq)]
pub enum CorrelationKind {
    /// Number of matches.
    EventCount,
    /// Number of different combinations of the values of these names.
    ValueCount(Vec<String>),
    /// Sum of the values of a name.
    ValueSum(String),
    /// Mean of the values of a name.
    ValueAvg(String),
    /// Value below which that percentage (0 to 100) of the values of a name lies.
    ValuePercentile(String, Number),
    /// Middle of the values of a name.
    ValueMedian(String),
    /// All members matched.
    Temporal,
    /// All members matched, in their order.
    TemporalOrdered,
}

/// A condition over members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberExpr {
    /// The member of that place in [`Correlation::members`] matched in the window.
    Seen(usize),
    /// Every part.
    All(Vec<MemberExpr>),
    /// One part.
    Any(Vec<MemberExpr>),
    /// Not the part.
    Not(Box<MemberExpr>),
}
