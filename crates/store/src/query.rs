//! The search language: `type:process | ip:192.0.2.1 | name:x`.
//!
//! Conditions are joined by a bar and must all hold; within a condition the first `:` splits key
//! and value. `type:` is required. A bar in a value, in a regular expression too, is written
//! `\|`; every other backslash stands for itself.
//!
//! | condition | holds when |
//! |---|---|
//! | `key:value` | events: every word of the value is a word of the field ([`words`]); inventories: the field is the value |
//! | `key.keyword:value` | the field is the value, letter by letter |
//! | `key:/re/` | the regular expression is found in the field, ignoring case |
//! | `pid:>100` (`>=`, `<`, `<=`) | the field is a number in the range |
//! | `all:value` and its other forms | one field, of the data or of the host, satisfies it |
//! | `ip:` `hostname:` `agent_id:` `system:` | the host's value is the value, ignoring case |
//! | `count:<3`, `exist_count:>=10` | statistics: reported so often, by so many hosts |
//!
//! A key of the data can be written `data.key`, which reaches `data.hostname` of logins. The time
//! range is no condition: [`Query::since`] and [`Query::until`] set it.
//!
//! [`Query::matches`] and its siblings are the meaning of a query; backends may only be faster.

mod fields;
mod matching;
mod parse;
mod words;

use std::{fmt, sync::Arc};

use yinglong_model::{EventType, InventoryType, Timestamp};

pub use fields::{HOST_KEYS, fields, nearest};
pub use parse::ParseError;
pub use words::{each_word, words};

/// A parsed search. The default one matches every event of every type.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {
    /// What is searched; every event type when `None`.
    pub kind: Option<Target>,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// Only what happened at or after.
    pub since: Option<Timestamp>,
    /// Only what happened before.
    pub until: Option<Timestamp>,
    /// Statistics: how often it was reported.
    pub count: Vec<Comparison>,
    /// Statistics: by how many hosts.
    pub exist_count: Vec<Comparison>,
}

/// What a query searches: the value of `type:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Target {
    /// Events of a type.
    Event(EventType),
    /// Elements of inventories of a type.
    Inventory(InventoryType),
}

impl Target {
    /// Name in a query.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event(kind) => kind.as_str(),
            Self::Inventory(kind) => kind.as_str(),
        }
    }

    /// The target of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|target| target.as_str() == name)
    }

    /// Every target, events first.
    pub fn all() -> impl Iterator<Item = Self> {
        EventType::ALL
            .into_iter()
            .map(Self::Event)
            .chain(InventoryType::ALL.into_iter().map(Self::Inventory))
    }

    /// Field whose values statistics count; `None` when none is.
    pub const fn statistics_key(self) -> Option<&'static str> {
        match self {
            Self::Event(kind) => yinglong_model::statistics::event_key(kind),
            Self::Inventory(kind) => yinglong_model::statistics::inventory_key(kind),
        }
    }
}

/// One condition.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// Which value is looked at.
    pub key: Key,
    /// What must be true of it.
    pub test: Test,
}

/// Which value a condition looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// Any field, of the data or of the host.
    All,
    /// A value of the host.
    Host(HostKey),
    /// A field of the data, without `data.`.
    Data(String),
}

/// A value of the host that every event and inventory carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HostKey {
    /// Primary address.
    Ip,
    /// Name.
    Hostname,
    /// Identity.
    AgentId,
    /// Operating system family.
    System,
}

impl HostKey {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ip, Self::Hostname, Self::AgentId, Self::System];

    /// Name in a query and in documents.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Hostname => "hostname",
            Self::AgentId => "agent_id",
            Self::System => "system",
        }
    }
}

/// What must be true of a value. A value that is absent satisfies nothing.
#[derive(Debug, Clone, PartialEq)]
pub enum Test {
    /// All these [`words`] are among its words.
    Words(Vec<String>),
    /// It is this text.
    Exact(String),
    /// It is this text, which is lower-case, ignoring case.
    Same(String),
    /// The regular expression is found in it, ignoring case.
    Regex(Pattern),
    /// It is a whole number for which the comparison holds.
    Number(Comparison),
}

/// A comparison with a whole number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Comparison {
    /// How the value must relate to `than`.
    pub relation: Relation,
    /// What it is compared with.
    pub than: i64,
}

/// How two numbers relate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// A bare number.
    Equal,
    /// `>=`
    GreaterOrEqual,
    /// `>`
    Greater,
}

impl Comparison {
    /// Whether it holds for a value.
    pub const fn holds(self, value: i64) -> bool {
        match self.relation {
            Relation::Less => value < self.than,
            Relation::LessOrEqual => value <= self.than,
            Relation::Equal => value == self.than,
            Relation::GreaterOrEqual => value >= self.than,
            Relation::Greater => value > self.than,
        }
    }
}

/// A compiled regular expression; two are equal when their texts are.
#[derive(Clone)]
pub struct Pattern(Arc<regex::Regex>);

impl Pattern {
    /// Compiled size in bytes an expression may reach, so that a search cannot exhaust memory.
    const SIZE_LIMIT_BYTES: usize = 1 << 20;

    /// Compiles an expression that ignores case.
    ///
    /// # Errors
    /// The expression is invalid or becomes too large.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        regex::RegexBuilder::new(text)
            .case_insensitive(true)
            .size_limit(Self::SIZE_LIMIT_BYTES)
            .build()
            .map(|regex| Self(Arc::new(regex)))
    }

    /// Whether it is found in a text.
    pub fn is_match(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The expression.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.as_str())
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Query {
    /// Parses query text.
    ///
    /// # Errors
    /// The text is no query; the error says where, why, and what may have been meant.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::query(text)
    }

    /// Everything of one type.
    pub fn of(kind: Target) -> Self {
        Self {
            kind: Some(kind),
            ..Self::default()
        }
    }

    /// The same query, from a time on; `None` removes the bound.
    #[must_use]
    pub fn since(mut self, since: Option<Timestamp>) -> Self {
        self.since = since;
        self
    }

    /// The same query, up to but without a time; `None` removes the bound.
    #[must_use]
    pub fn until(mut self, until: Option<Timestamp>) -> Self {
        self.until = until;
        self
    }

    /// Whether it asks for statistics rather than for events or inventories.
    pub fn is_statistics(&self) -> bool {
        !self.count.is_empty() || !self.exist_count.is_empty()
    }

    /// Whether a time lies in its range.
    pub fn covers(&self, time: Timestamp) -> bool {
        self.since.is_none_or(|since| time >= since) && self.until.is_none_or(|until| time < until)
    }
}
