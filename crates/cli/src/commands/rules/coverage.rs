//! `yinglong rules coverage`: which techniques rules were shown to find.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::bail;
use serde_json::{Value, json};

use super::test;
use crate::{output, ruleset};

/// Prints an ATT&CK Navigator layer of what rules were shown to find; needs no server.
///
/// Only rules whose examples all passed count.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Rules with their examples, as for `rules test`.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Name of the layer.
    #[arg(long, default_value = "Yinglong")]
    name: String,
    /// JSON file with named lists for placeholders: {"name": ["value"]}.
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
}

/// Does what is asked.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    if args.paths.is_empty() {
        bail!(
            "the examples of the built-in rules are not in this program; give the folder `rules` of \
             the source tree"
        );
    }
    let lists = ruleset::lists(args.lists.as_deref())?;
    let (_, outcome) = test::examples(&args.paths, lists)?;
    let mut techniques: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for about in &outcome.proven {
        for technique in about.attack.iter().filter(|name| name.starts_with('T')) {
            techniques.entry(technique).or_default().push(&about.name);
        }
    }
    let text = serde_json::to_string_pretty(&layer(&args.name, &techniques))?;
    output::print(&format!("{text}\n"))?;
    let said = format!(
        "{} techniques by {} rules; {} failures and {} files without examples do not count",
        techniques.len(),
        outcome.proven.len(),
        outcome.failures.len(),
        outcome.untested.len()
    );
    eprintln!("{said}");
    Ok(())
}

/// A layer in format 4.5 of the ATT&CK Navigator.
fn layer(name: &str, techniques: &BTreeMap<&str, Vec<&str>>) -> Value {
    let entries = techniques.iter().map(|(technique, rules)| {
        json!({
            "techniqueID": technique,
            "score": rules.len(),
            "comment": rules.join("\n"),
            "enabled": true,
            "showSubtechniques": true,
        })
    });
    let most = techniques.values().map(Vec::len).max().unwrap_or(1);
    json!({
        "name": name,
        "versions": {"layer": "4.5", "navigator": "5.1.0"},
        "domain": "enterprise-attack",
        "description": "Techniques with at least one rule whose examples passed; the score is the \
            number of such rules.",
        "techniques": entries.collect::<Vec<_>>(),
        "gradient": {"colors": ["#d6eadf", "#1b7f5a"], "minValue": 0, "maxValue": most},
    })
}
