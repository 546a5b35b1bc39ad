//! The one intermediate form of all rule languages: what an engine compiles.
//!
//! Plain data without regular expressions or automata. Text is kept as written; whether case counts
//! is said with each test, and engines fold both sides the same way.

use std::{fmt, sync::Arc};

use ipnet::IpNet;
use yinglong_model::{event::System, rule::Level};

use crate::Class;

/// A rule that passed every check, whatever language it was written in.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// What people read about it.
    pub about: Arc<About>,
    /// What it reads, and what must hold there. Never empty; the same class and system once.
    pub targets: Vec<Target>,
}

/// What people read about a rule: everything of an alert that does not depend on the event.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct About {
    /// Stable identity.
    pub id: String,
    /// Name or title, the `source` of its alerts.
    pub name: String,
    /// How dangerous a match is.
    pub level: Level,
    /// The level in the words of the rule's own language (`critical`, `high`, ...).
    pub severity: String,
    /// What a match means.
    pub description: String,
    /// The same in Chinese, when the rule has it.
    pub description_zh: String,
    /// ATT&CK techniques, for example `T1059.004`.
    pub attack: Vec<String>,
    /// Known harmless causes.
    pub false_positives: Vec<String>,
    /// Fields that say what an alert is about, in canonical names; empty means those that matched.
    /// Their values make the identity of the alert, so that what differs in them is told apart.
    pub identity: Vec<String>,
    /// Language.
    pub language: Language,
}

/// Language a rule is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum Language {
    /// JSON of the classic system.
    #[default]
    Classic,
    /// Sigma YAML.
    Sigma,
}

/// A condition over one class of events.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// What is read.
    pub class: Class,
    /// On which systems; a rule for all systems has one target for each.
    pub system: System,
    /// What must hold.
    pub condition: Expr,
}

/// What must hold.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// One test.
    Test(Predicate),
    /// Every part. Holds when there are none.
    All(Vec<Expr>),
    /// One part at least. Does not hold when there are none.
    Any(Vec<Expr>),
    /// Not the part.
    Not(Box<Expr>),
    /// Decided already.
    Const(bool),
    /// A part as its author wrote it: an explanation names it instead of its tests.
    Written(Box<Written>),
}

/// A part of a condition with the words of its author.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// Field as the rule names it.
    pub field: String,
    /// Condition as the rule writes it, for example `regex ^nginx$`.
    pub condition: String,
    /// Canonical field whose value an explanation shows.
    pub shows: String,
    /// What must hold.
    pub expr: Expr,
}

/// A test of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Predicate {
    /// Where the value is; `None` for a keyword, which may be in any value of the event.
    pub field: Option<Field>,
    /// What must hold.
    pub test: Test,
}

/// A value of an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field {
    /// Canonical name: the contract's where it has one.
    pub name: Arc<str>,
    /// Which part of the value.
    pub view: View,
}

impl Field {
    /// The whole value of a field.
    pub fn whole(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            view: View::Whole,
        }
    }
}

/// Part of a value that is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum View {
    /// All of it.
    Whole,
    /// What follows the last separator of a path.
    BaseName,
    /// The value between two bars, so that one of several words joined by bars is found as `|word|`.
    Barred,
}

/// What must hold for a value. Unless said otherwise a value that is not there fails.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Test {
    /// The whole value is as the pattern says.
    Text {
        /// Pattern.
        pattern: Pattern,
        /// Upper and lower case differ.
        cased: bool,
    },
    /// A regular expression is found in the value.
    Regex {
        /// Expression in the syntax of the `regex` crate.
        pattern: String,
        /// Upper and lower case are the same.
        ignore_case: bool,
        /// `^` and `$` match at lines.
        multi_line: bool,
        /// `.` matches line ends.
        dot_all: bool,
    },
    /// The value is an address in the network.
    Cidr(IpNet),
    /// The value is a number that compares so.
    Compare(Comparison, Number),
    /// The field is there (`true`) or is not (`false`), whatever its value.
    Exists(bool),
    /// The field is not there, or has no value.
    Null,
    /// The value compares so with that of another field; both must be there.
    Other {
        /// The other field.
        field: Field,
        /// How they compare.
        how: Likeness,
        /// Upper and lower case differ.
        cased: bool,
    },
    /// Part of a time (RFC 3339 or seconds since 1970, read as UTC) compares so.
    Time(TimePart, Comparison, Number),
    /// The value was just reported for the n-th time in the fleet; holds for every counted value
    /// in learn mode.
    Count(u64),
}

/// A pattern of the whole value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern(pub Vec<Piece>);

/// Piece of a pattern. Two literals or two `Many` never follow each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Piece {
    /// This text; never empty.
    Literal(String),
    /// One character.
    One,
    /// Any characters, or none.
    Many,
}

impl Pattern {
    /// A value equal to a text.
    pub fn equal(text: impl Into<String>) -> Self {
        Self::tidy([Piece::Literal(text.into())])
    }

    /// A value that contains a text.
    pub fn contains(text: impl Into<String>) -> Self {
        Self::tidy([Piece::Many, Piece::Literal(text.into()), Piece::Many])
    }

    /// A value that is not empty.
    pub fn filled() -> Self {
        Self(vec![Piece::One, Piece::Many])
    }

    /// Joins literals and repeated `Many`, and drops empty literals.
    pub fn tidy(pieces: impl IntoIterator<Item = Piece>) -> Self {
        let mut tidy: Vec<Piece> = Vec::new();
        for piece in pieces {
            match (tidy.last_mut(), piece) {
                (_, Piece::Literal(text)) if text.is_empty() => {}
                (Some(Piece::Literal(last)), Piece::Literal(text)) => last.push_str(&text),
                (Some(Piece::Many), Piece::Many) => {}
                (_, piece) => tidy.push(piece),
            }
        }
        Self(tidy)
    }
}

/// How two texts compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Likeness {
    /// Equal.
    Equal,
    /// Begins with the other.
    StartsWith,
    /// Ends with the other.
    EndsWith,
    /// Contains the other.
    Contains,
}

/// How two numbers compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Comparison {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// Less.
    Less,
    /// Less or equal.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or equal.
    GreaterOrEqual,
}

impl Comparison {
    /// Whether `left` compares so with `right`.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Self::Equal => left == right,
            Self::NotEqual => left != right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }

    /// The sign people write.
    pub const fn sign(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
        }
    }
}

/// A finite number that can be hashed and compared for identity.
#[derive(Clone, Copy)]
pub struct Number(f64);

impl Number {
    /// A finite number; `None` for others.
    pub fn new(value: f64) -> Option<Self> {
        // Adding zero makes the two zeros one.
        value.is_finite().then_some(Self(value + 0.0))
    }

    /// Its value.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Number {}

impl std::hash::Hash for Number {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

impl fmt::Debug for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Part of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimePart {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// Day of the month, 1 to 31.
    Day,
    /// ISO 8601 week, 1 to 53.
    Week,
    /// 1 to 12.
    Month,
    /// Four digits.
    Year,
}
