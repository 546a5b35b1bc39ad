//! The server: takes in what agents send, stores it, judges it, announces what is found.
//!
//! - **Guarantees**: what an agent was told is durable is in the write-ahead log and reaches the
//!   stores exactly once, whatever is killed when. Detection follows the order of the data
//!   contract: statistics, black list, white list, rules, threat intelligence.
//! - **Invariants**: the log is shortened only up to what both stores have. Configuration and rules
//!   change as one snapshot; a step of the pipeline sees one snapshot. Slow announcements, slow
//!   watchers and broken rules never hold detection up.
//! - **Not here**: HTTP and users (`yinglong-api`), storage engines, rule languages.

#![forbid(unsafe_code)]

mod correlated;
pub mod fleet;
pub mod gateway;
pub mod intake;
pub mod intelligence;
pub mod ledger;
pub mod live;
pub mod log;
pub mod metrics;
pub mod notify;
pub mod pipeline;
mod ports;
pub mod relations;
mod server;
pub mod settings;
pub mod stories;
mod training;
pub mod worker;

pub use server::{Error, EventBackend, Options, Server};
