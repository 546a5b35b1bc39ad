//! Rule languages: classic JSON documents and Sigma YAML in, validated rules and diagnostics out.
//! What follows is about the classic language; [`sigma`] says the same about the other.
//!
//! - **Guarantees**: a rule that passes [`load`] or [`check`] compiles in the engine; an invalid
//!   one is refused alone, with the place in the document and the reason; no input panics.
//! - **Invariants**: conditions name fields of their source only; every pattern compiles within
//!   [`pattern::SIZE_LIMIT_BYTES`] and runs in linear time; ids are unique within one load.
//! - **Formats**: one rule object, or an array of them (the classic `rules.json`). Types `string`,
//!   `regex`, `non-regex`, `count`; `regexp` is read as `regex`.
//! - **Not here**: matching (`yinglong-detect`), reading of files and folders (the caller).

#![forbid(unsafe_code)]

mod check;
mod checked;
mod class;
pub mod correlation;
mod diagnostic;
mod document;
mod embedded;
pub mod ir;
pub mod pattern;
mod ruleset;
pub mod sigma;
pub mod taxonomy;
mod vocabulary;

pub use check::check;
pub use checked::Checked;
pub use class::Class;
pub use diagnostic::{Diagnostic, Place, Severity};
pub use document::load;
pub use embedded::{default_rules, load_default};
pub use ir::{About, Compiled, Language};
pub use ruleset::{Delivered, Ruleset, compile, read};
pub use vocabulary::{Source, TYPES};
pub use yinglong_model::rule::Rule;
