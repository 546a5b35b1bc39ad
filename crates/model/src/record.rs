//! What travels from an agent to a server: observations with their place in the spool.

use crate::{EventData, Inventory, Timestamp};

/// Something a sensor saw.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "nearly all observations are events; a box would cost each of them an allocation"
)]
pub enum Observation {
    /// An event; `occurred_at` is the host's clock.
    Event {
        /// When it happened.
        occurred_at: Timestamp,
        /// What happened.
        data: EventData,
    },
    /// A complete inventory that differs from the last one sent.
    Inventory(Inventory),
}

impl Observation {
    /// Stream whose books it belongs to.
    pub const fn stream(&self) -> &'static str {
        match self {
            Self::Event { data, .. } => data.event_type().as_str(),
            Self::Inventory(_) => "inventory",
        }
    }
}

/// An observation in the spool. The sequence number is its place there, dense from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Place in the spool.
    pub seq: u64,
    /// When the agent took it from its source.
    pub observed_at: Timestamp,
    /// What was seen.
    pub observation: Observation,
}
