//! The default rules, built into the program.

use yinglong_model::rule::Rule;

use crate::{Diagnostic, load};

include!(concat!(env!("OUT_DIR"), "/default_rules.rs"));

/// The default rules as (file below `rules/`, JSON), ordered by file.
pub fn default_rules() -> &'static [(&'static str, &'static str)] {
    DEFAULT_RULES
}

/// The default rules, read. Diagnostics name the file in their path.
pub fn load_default() -> (Vec<Rule>, Vec<Diagnostic>) {
    let mut rules = Vec::new();
    let mut diagnostics = Vec::new();
    for (file, json) in default_rules() {
        let (loaded, found) = load(json);
        rules.extend(loaded);
        diagnostics.extend(found.into_iter().map(|mut diagnostic| {
            diagnostic.path = format!("{file}: {}", diagnostic.path);
            diagnostic
        }));
    }
    (rules, diagnostics)
}
