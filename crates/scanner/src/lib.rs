//! The scanner: looks at files with YARA rules, for the agent, in a process of its own.
//!
//! - **Guarantees**: one answer per request, in order; a file is never executed, followed through a
//!   link, or waited for; what cannot be scanned is answered with a reason.
//! - **Invariants**: memory, time per file and priority are limited before the first file is
//!   opened. The process ends when nobody is left to ask it.
//! - **Not here**: which files to scan and what to do with a match; the agent decides.

#![forbid(unsafe_code)]

pub mod inbox;
pub mod limits;
pub mod look;
pub mod rules;
pub mod serve;
