//! Readers of recorded events: what was written down earlier, in the form rules read.
//!
//! - **Formats**: event documents as exported (JSON, one per line or in an array), Windows events as
//!   JSON in several notations, EVTX files, logs of auditd, text logs of Linux. The format is found
//!   by content, never by the name of the file.
//! - **Guarantees**: a file is read as a stream; memory is bounded by [`limits`] whatever is in it. No
//!   content panics or ends the reading: what cannot be read is counted in [`Tally`] and left out.
//! - **Views**: a record is looked at as each class it belongs to. An EVTX record is one of its
//!   channel with all its fields, and, where the taxonomy says so, a process, a connection or a file
//!   with the names that events of agents have.
//! - **Not here**: rules, their evaluation, alerts; log formats of applications.

#![forbid(unsafe_code)]

mod audit;
mod error;
mod evtx;
mod json;
pub mod limits;
mod lines;
pub mod page;
mod reader;
mod sniff;
mod text;
mod view;
mod windows;

pub use error::Error;
pub use reader::{Input, Reader, Tally};
pub use sniff::Format;
pub use view::{Record, View};
