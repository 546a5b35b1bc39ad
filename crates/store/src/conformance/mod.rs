//! Tests that every backend passes. They panic, as tests do, with what went wrong.
//!
//! A backend's test gives a function that makes empty storage; what it returns opens that storage,
//! again and again, the store opened before being gone by then.

// Failing is what these functions are for.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

mod events;
mod sample;
mod state;

use crate::{EventStore, StateStore};

pub use events::{check_query, event_store_conformance};
pub use sample::{Random, event, events, query_text};
pub use state::state_store_conformance;

/// Opens an event store on the same storage each time.
pub type OpenEvents = Box<dyn Fn() -> Box<dyn EventStore>>;

/// Opens a state store on the same storage each time.
pub type OpenState = Box<dyn Fn() -> Box<dyn StateStore>>;
