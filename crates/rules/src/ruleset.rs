//! All stored rules together, in the form engines compile.

use std::collections::BTreeMap;

use yinglong_model::rule::Rule;

use crate::{
    Compiled, Diagnostic,
    check::check,
    correlation::Correlation,
    ir::Target,
    sigma::{self, Mapping, Options, stored},
    taxonomy::{self, Binding, Feed, LogSource},
};

/// Rules and correlations in force.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ruleset {
    /// Rules of both languages, in the order given, classic ones first.
    pub rules: Vec<Compiled>,
    /// Correlations over them.
    pub correlations: Vec<Correlation>,
    /// What is wrong. An error means that a rule is broken and left out; a warning also says which
    /// rules are left out because nothing they read is delivered.
    pub diagnostics: Vec<Diagnostic>,
}

/// What a feed delivers, for [`sigma::compile_with`].
#[derive(Debug, Clone, Copy)]
pub struct Delivered(pub Feed);

impl Mapping for Delivered {
    fn bindings(&self, source: &LogSource) -> Result<Vec<Binding>, String> {
        taxonomy::delivered(source, self.0)
    }

    fn fires(&self, target: &Target) -> Result<Vec<String>, String> {
        taxonomy::unfireable(target, self.0)
    }
}

/// Puts the enabled ones of stored rules together. `lists` are the values of placeholders in Sigma
/// rules, by name.
pub fn compile<'r>(
    rules: impl IntoIterator<Item = &'r Rule>,
    lists: &BTreeMap<String, Vec<String>>,
) -> Ruleset {
    let mut set = Ruleset::default();
    let mut documents = Vec::new();
    for rule in rules.into_iter().filter(|rule| rule.enabled) {
        if rule.sigma.is_empty() {
            let (checked, found) = check(rule);
            set.diagnostics.extend(found);
            set.rules.extend(checked.map(|checked| checked.compiled));
        } else {
            let (parsed, found) = sigma::parse(&rule.sigma, "");
            set.diagnostics.extend(found);
            documents.extend(parsed);
        }
    }
    let options = Options {
        site_lists: lists.clone(),
    };
    let loaded = sigma::compile_with(&documents, &options, &Delivered(Feed::Agents));
    set.diagnostics.extend(loaded.diagnostics);
    let explained: Vec<String> = set
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.is_error())
        .map(|diagnostic| diagnostic.rule.clone())
        .collect();
    for refused in loaded.refused {
        if explained.contains(&refused.title) {
            continue;
        }
        let reason = format!("this rule cannot fire: {}", refused.reason);
        let mut diagnostic = Diagnostic::warning("logsource", reason);
        diagnostic.rule = refused.title;
        set.diagnostics.push(diagnostic);
    }
    set.rules.extend(loaded.rules);
    set.correlations = loaded.correlations;
    set
}

/// Reads rules of either language: JSON of the classic system, or Sigma YAML. Broken ones are left
/// out, each with a diagnostic of severity error.
pub fn read(text: &str, file: &str) -> (Vec<Rule>, Vec<Diagnostic>) {
    let is_json = text.trim_start().starts_with(['[', '{']);
    if is_json {
        crate::load(text)
    } else {
        stored(text, file)
    }
}
