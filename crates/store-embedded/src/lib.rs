//! Both storage ports in one folder of one machine: tantivy for events, SQLite for everything
//! else. No other process is needed.
//!
//! - **Guarantees**: what a successful `commit` or `apply` covered survives a kill and a power
//!   cut; each remembers its log position in the same atomic step, so reading the log again from
//!   there stores everything exactly once. A full disk gives a retryable error and harms nothing.
//! - **Invariants**: one process uses a folder at a time. Types of tantivy and SQLite never leave
//!   this crate.
//! - **Formats**: `LOCK` (process id of the owner), `VERSION`, `state.db` (SQLite, its
//!   `user_version` numbers the schema), `events/partitions.json`, `events/YYYY-MM-DD/` (one
//!   tantivy index per day of arrival), `events/*.corrupt` (what could not be read, set aside).
//! - **Not here**: the write-ahead log, what a query means ([`yinglong_store::query`]).

#![forbid(unsafe_code)]

mod error;
mod events;
mod folder;
mod state;

use std::{path::Path, sync::Arc};

use yinglong_store::Result;

pub use events::Events;
pub use state::State;

/// Both stores of a folder.
#[derive(Debug)]
pub struct Embedded;

impl Embedded {
    /// Opens the folder, and makes it if needed. It stays locked until both stores are gone.
    ///
    /// # Errors
    /// `Conflict`: another process uses the folder; the message names it. `Invalid`: the folder
    /// was written by a newer version. `Corrupt`: its files cannot be read. `Unavailable`: the
    /// disk refuses.
    pub fn open(dir: &Path) -> Result<(Events, State)> {
        let lock = Arc::new(folder::take(dir)?);
        let state = State::open(dir, Arc::clone(&lock))?;
        let events = Events::open(dir, lock)?;
        Ok((events, state))
    }
}
