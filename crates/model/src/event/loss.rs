//! What was not recorded.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::FieldValue;
use crate::{Timestamp, ledger::Origin};

/// Observations of one stream that were lost for one reason within a while. All events of this type
/// together tell as many losses as the books have (`crate::ledger`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Loss {
    /// Stream they belonged to: `process`, `connection` ...
    pub stream: String,
    /// Why: the name of a [`DropReason`](crate::DropReason).
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Nothing of them was lost before.
    pub from: Timestamp,
    /// Nothing of them was lost after.
    pub to: Timestamp,
    /// Container they came from, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Control group they came from, where it is known; `pid:[N]` for a process namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// User they came from, where nothing else tells whose they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

fields!(Loss: stream, reason, count, from, to, container_id, cgroup, user; derived:);

impl Loss {
    /// Puts in whose observations they were.
    #[must_use]
    pub fn of(mut self, origin: Origin) -> Self {
        self.container_id = origin.container_id;
        self.cgroup = origin.cgroup;
        self.user = origin.user;
        self
    }
}
