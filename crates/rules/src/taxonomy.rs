//! The mapping table: which classes a Sigma log source reads, and what its fields are called there.

use yinglong_model::event::System;

use crate::{Class, ir::Expr};

/// Log source of a Sigma rule, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct LogSource {
    /// For example `windows`.
    pub product: Option<String>,
    /// For example `process_creation`.
    pub category: Option<String>,
    /// For example `security`.
    pub service: Option<String>,
}

/// One class that a log source reads.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Class.
    pub class: Class,
    /// System.
    pub system: System,
    /// What must hold besides the rule's own condition, since the class is wider than the source.
    pub condition: Option<Expr>,
}

impl Binding {
    /// Canonical name of a field; the name itself when the class keeps it.
    pub fn field(&self, name: &str) -> String {
        name.to_owned()
    }
}

/// The classes a log source reads.
///
/// # Errors
/// No sensor and no reader provides it; the text says why, and what there is instead.
pub fn bindings(source: &LogSource) -> Result<Vec<Binding>, String> {
    Err(format!("nothing provides {source:?}"))
}
