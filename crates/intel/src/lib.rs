//! Indicators of compromise: read from the files feeds come in, held in little memory, found in
//! constant time.
//!
//! - **Guarantees**: an import never panics and never gives up because of a bad line; what is left
//!   out is counted by reason and named up to a bound. A look-up finds exactly what was imported
//!   and is valid at the time asked about: there are no false hits from hashing.
//! - **Invariants**: an [`IndicatorSet`] never changes; a changed feed is a new set. Values are
//!   brought to one form ([`Value::parse`]) on both sides, so spelling does not matter.
//! - **Cost**: one hash and about two cache misses per look-up, whatever the number of indicators;
//!   for a network once per prefix length that occurs, for a domain once per label.
//! - **Not here**: fetching, storing and refreshing of feeds (the server), look-ups over HTTP.

#![forbid(unsafe_code)]

pub mod import;
mod set;
mod table;
mod value;

pub use set::{Builder, FeedId, Full, Hit, IndicatorSet, MAX_HITS, Stats, find};
pub use value::{Kind, Unusable, Value};

use yinglong_model::{Timestamp, rule::Level};

/// One indicator, as a feed states it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Indicator {
    /// What is looked for.
    pub value: Value,
    /// What the feed says about it; at most [`LABEL_BYTES`] are kept.
    pub label: String,
    /// How dangerous a hit is.
    pub level: Level,
    /// How sure the feed is, 0 to 100; `None` when it does not say.
    pub confidence: Option<u8>,
    /// Not a hit before.
    pub valid_from: Option<Timestamp>,
    /// Not a hit from then on.
    pub valid_until: Option<Timestamp>,
}

/// Longest label that is kept, in bytes.
pub const LABEL_BYTES: usize = 256;
