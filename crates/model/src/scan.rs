//! What the agent and its scanner tell each other: one JSON document per line.
//!
//! The scanner first says [`Line::Ready`], then [`Line::Answer`] for each [`Request`], in order.

use serde::{Deserialize, Serialize};

/// Why a file is scanned. Rules see it as the text variable `reason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// It was written into a web root.
    Web,
    /// It was executed.
    Exec,
}

impl Reason {
    /// Name in documents and for rules.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Exec => "exec",
        }
    }
}

/// A file to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Given back in the answer.
    pub id: u64,
    /// Absolute path, as events show it: bytes that are not text as `\xNN`.
    pub path: String,
    /// Why.
    pub reason: Reason,
}

/// What the scanner says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "lowercase")]
pub enum Line {
    /// It can be asked from now on.
    Ready {
        /// Number of rules in force.
        rules: usize,
        /// Files of rules that are left out, each with what is wrong.
        broken: Vec<String>,
    },
    /// About one file.
    Answer(Answer),
}

/// What was found in a file.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// That of the request.
    pub id: u64,
    /// Rules that matched.
    pub matches: Vec<Match>,
    /// Why the file was not scanned to its end: `too_large`, `not_regular`, `gone`, `unreadable`,
    /// `timeout`, `failed`, `malformed`.
    pub skipped: Option<String>,
    /// Bytes looked at.
    pub bytes: u64,
    /// Time it took.
    pub micros: u64,
}

/// A rule that matched.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Match {
    /// Its name.
    pub rule: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its `level`: 0 danger, 1 suspicious, 2 hint; 0 when it has none.
    pub level: u8,
    /// Its `description`.
    pub description: String,
}
