//! The two ports of storage, and the query language both backends answer.
//!
//! - **Guarantees**: a write that returned is durable, or will be written again from the
//!   write-ahead log: every backend remembers the log position up to which it is complete, in the
//!   same atomic step as the data. Writing again changes nothing.
//! - **Invariants**: backends never see query text, only parsed [`query::Query`]s, so the same
//!   query means the same everywhere.
//! - **Not here**: the write-ahead log (`yinglong-spool`), any backend, alert decisions.

#![forbid(unsafe_code)]

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod event_store;
pub mod query;
pub mod state_store;

pub use event_store::EventStore;
pub use query::Query;
pub use state_store::StateStore;

/// Position in the write-ahead log: sequence number of a record there; 0 is before the first.
pub type LogPosition = u64;

/// What kind of failure it was; callers branch on this, never on text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The named thing does not exist.
    NotFound,
    /// Somebody else holds it, or changed it in between.
    Conflict,
    /// The request makes no sense.
    Invalid,
    /// The backend cannot answer now; trying again may work.
    Unavailable,
    /// Stored data cannot be read.
    Corrupt,
}

/// Why a store could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// A failure without a deeper cause; the message says what to do next.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            source: None,
        }
    }

    /// A failure caused by another.
    pub fn caused(
        kind: Kind,
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self {
            kind,
            message: message.into(),
            source: Some(source.into()),
        }
    }

    /// What kind of failure it was.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the same call may work later.
    pub const fn is_retryable(&self) -> bool {
        matches!(self.kind, Kind::Unavailable)
    }
}

/// Outcome of a store call.
pub type Result<T> = std::result::Result<T, Error>;
