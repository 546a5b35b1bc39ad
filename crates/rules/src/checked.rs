//! The validated form of a rule: what an engine compiles. Plain data, no regular expressions yet.

use yinglong_model::{event::System, rule::Rule};

use crate::Source;

/// A rule that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compiled {
    /// The rule as stored, with `regexp` read as `regex`.
    pub rule: Rule,
    /// What it reads.
    pub source: Source,
    /// The one system it is for; `None` for all.
    pub system: Option<System>,
    /// Conditions, ordered by field. Never empty.
    pub conditions: Vec<Condition>,
}

/// A test of one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Field of the source.
    pub field: String,
    /// What must hold.
    pub test: Test,
}

/// What must hold for a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Test {
    /// `string`: equal, ignoring case.
    Equal(String),
    /// `regex`: found, ignoring case.
    Found(String),
    /// `non-regex`: the value is there and the pattern is not found, ignoring case.
    NotFound(String),
    /// `count`: the value was just reported for the n-th time in the fleet.
    Count(u64),
}

impl Test {
    /// Type and data as in the rule, for people who ask what matched.
    pub fn describe(&self) -> String {
        match self {
            Self::Equal(text) => format!("string {text}"),
            Self::Found(text) => format!("regex {text}"),
            Self::NotFound(text) => format!("non-regex {text}"),
            Self::Count(number) => format!("count {number}"),
        }
    }
}
