//! From failures of requests to errors of the port.

use yinglong_store::{Error, Kind};

/// Why a request has no useful answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// No connection, or it broke, or it took too long.
    #[error("{node} does not answer")]
    Unreachable {
        node: String,
        #[source]
        source: Box<ureq::Error>,
    },
    /// The time was over before any node was asked.
    #[error("no node answered in time")]
    Late,
    /// The cluster says no.
    #[error("the cluster answered {status} {kind}: {reason}")]
    Refused {
        status: u16,
        kind: String,
        reason: String,
    },
    /// The answer is larger than we take.
    #[error("the answer is too large")]
    AnswerTooLarge,
    /// The answer is not what was asked for.
    #[error("the answer is not what this cluster's version should give")]
    Garbled(#[source] serde_json::Error),
    /// Some shards did not answer, so the answer is not whole.
    #[error("{missing} of {total} shards did not answer{reason}")]
    Shards {
        missing: u64,
        total: u64,
        reason: String,
    },
}

impl Failure {
    /// Status of the answer, when there was one.
    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether the cluster gave an error of that type.
    pub(crate) fn is_kind(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { kind, .. } if kind == wanted)
    }

    /// Whether the same request may soon work.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Late | Self::Shards { .. } => true,
            Self::Refused { status, kind, .. } => is_passing(*status, kind),
            Self::AnswerTooLarge | Self::Garbled(_) => false,
        }
    }

    /// Whether parts of an index are just starting, as they do for moments when it is new.
    pub(crate) const fn is_starting(&self) -> bool {
        matches!(
            self,
            Self::Shards { .. } | Self::Refused { status: 503, .. }
        )
    }

    /// As an error of the port, of something that was to be done.
    pub(crate) fn during(self, what: &str) -> Error {
        let (kind, remedy) = match &self {
            Self::Unreachable { .. } | Self::Late => (
                Kind::Unavailable,
                "no node of the cluster answers; check that it runs, its address and its certificate",
            ),
            Self::Shards { .. } => (
                Kind::Unavailable,
                "look at the cluster's health; with a node missing, start it",
            ),
            Self::AnswerTooLarge => (Kind::Invalid, "ask for less at once"),
            Self::Garbled(_) => (Kind::Corrupt, "check what answers at that address"),
            Self::Refused { status, kind, .. } => advice(*status, kind),
        };
        let message = match &self {
            Self::Refused { .. } | Self::Shards { .. } => {
                format!("cannot {what}: {self}; {remedy}")
            }
            _ => format!("cannot {what}: {remedy}"),
        };
        Error::caused(kind, message, self)
    }
}

/// Whether trying again soon may help, by the status and the type of an error.
pub(crate) fn is_passing(status: u16, kind: &str) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504) || kind == "cluster_block_exception"
}

/// What to do about a refusal.
pub(crate) fn advice(status: u16, kind: &str) -> (Kind, &'static str) {
    match (status, kind) {
        (_, "cluster_block_exception") => (
            Kind::Unavailable,
            "the index is read-only, as a full disk makes it: free disk space, then lift \
             index.blocks.read_only_allow_delete if the cluster does not",
        ),
        (_, "validation_exception") => (
            Kind::Unavailable,
            "a limit of the cluster is reached: remove old indexes or add a node",
        ),
        (401, _) => (
            Kind::Invalid,
            "check the user and password, or the API key, of the event store",
        ),
        (403, _) => (
            Kind::Invalid,
            "give that user the rights that docs/storage-elastic.md lists",
        ),
        (404, _) => (
            Kind::Unavailable,
            "allow the cluster to make the indexes (action.auto_create_index)",
        ),
        (429, _) => (
            Kind::Unavailable,
            "the cluster has too much to do: try again later, or add nodes",
        ),
        (500.., _) => (Kind::Unavailable, "look at the cluster's log"),
        _ => (Kind::Invalid, "look at the reason"),
    }
}
