//! The Sigma rule language: YAML documents in, rules in the form of [`crate::ir`] out.
//!
//! [`parse`] reads the documents of a text, [`compile`] puts the documents of all texts together.
//!
//! - **Guarantees**: a document with an error is refused alone, with line, column and reason; what
//!   is loaded compiles in the engine; no text panics, and time is linear in its length.
//! - **Bounds**: 1 MiB and 200,000 values a document, 32 collections and 64 parentheses within each
//!   other, 1,000 parts of a condition, 100,000 tests a rule.
//! - **Language**: the Sigma specification 2.1 with filters and correlations; where it is silent,
//!   what pySigma and rsigma agree on. `docs/rules-sigma.md` says it all, with the differences.
//! - **Not here**: which log source is which class ([`crate::taxonomy`]), and matching.

mod chunk;
mod condition;
mod correlate;
mod detection;
mod document;
mod expr;
mod filters;
mod head;
mod link;
mod lower;
mod modifier;
mod report;
mod ruleset;
mod scalar;
mod stored;
mod text;
mod yaml;

#[cfg(test)]
mod tests;

pub use document::{Document, Kind, parse};
pub use ruleset::{Loaded, Mapping, Options, Refused, Taxonomy, compile, compile_with};
pub use stored::stored;
