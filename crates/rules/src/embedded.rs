//! The default rules, built into the program.

use yinglong_model::rule::Rule;

use crate::{Diagnostic, read};

include!(concat!(env!("OUT_DIR"), "/default_rules.rs"));

/// The default rules as (file below `rules/`, text in JSON or YAML), ordered by file.
pub fn default_rules() -> &'static [(&'static str, &'static str)] {
    DEFAULT_RULES
}

/// The default rules of both languages, as they are stored. Diagnostics name the file.
pub fn load_default() -> (Vec<Rule>, Vec<Diagnostic>) {
    let mut rules = Vec::new();
    let mut diagnostics = Vec::new();
    for (file, text) in default_rules() {
        let (loaded, found) = read(text, file);
        rules.extend(loaded);
        diagnostics.extend(found.into_iter().map(|mut diagnostic| {
            diagnostic.path = format!("{file}: {}", diagnostic.path);
            diagnostic
        }));
    }
    (rules, diagnostics)
}
