//! The agent: observes its host and brings what it saw to a server.
//!
//! - **Guarantees**: an observation is spooled, filtered or counted as dropped, and the books say
//!   which, across kills of the worker at any point. A host without a server keeps observing.
//! - **Invariants**: sensors write to the spool through [`books`] only; a record leaves the spool
//!   only after a server said that it is durable. The agent listens on no port.
//! - **Not here**: sensors themselves, detection, anything of the server.

#![forbid(unsafe_code)]

pub mod bench;
pub mod books;
pub mod daemon;
pub mod doctor;
pub mod document;
pub mod enrol;
pub mod filter;
pub mod local;
mod outbox;
pub mod report;
pub mod rings;
pub mod scanner;
pub mod sensors;
pub mod spools;
pub mod uplink;
pub mod worker;
