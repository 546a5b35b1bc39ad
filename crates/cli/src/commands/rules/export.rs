//! `yinglong rules export`: the rules of a server as files, each language in its own form.
//!
//! - **Guarantees**: `yinglong rules import` of the folder gives the same set; nothing that is there
//!   already is overwritten.
//! - **Format**: `classic.json`, an array; `sigma/<title>.yml`, one document each; and `sigma.json`
//!   for Sigma rules that a document cannot tell whole, since Sigma has no word for switched off.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use yinglong_api::routes::rules::Rules;
use yinglong_rules::Rule;

use crate::{client::Target, output};

/// Characters of a file's name, the ending apart.
const NAME_CHARS: usize = 80;

/// Writes the rules of a server to files.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Folder to write to; it is made, or empty.
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Does what is asked.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let folder = &args.folder;
    let shown = folder.display();
    let client = args.target.client()?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make `{shown}`"))?;
    let mut there = fs::read_dir(folder).with_context(|| format!("cannot read `{shown}`"))?;
    if there.next().is_some() {
        bail!("`{shown}` is not empty; name a new folder, so that no rule of before stays in it");
    }
    let found: Rules = client.get("/rules", &[])?;
    let files = files(&found.rules)?;
    for (name, text) in &files {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)
                .with_context(|| format!("cannot make `{}`", parent.display()))?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
    }
    let (rules, files) = (found.rules.len(), files.len());
    output::print(&format!("{rules} rules written in {files} files\n"))
}

/// Names and texts of the files that rules become.
fn files(rules: &[Rule]) -> anyhow::Result<BTreeMap<String, String>> {
    let (sigma, classic): (Vec<_>, Vec<_>) = rules.iter().partition(|rule| !rule.sigma.is_empty());
    let mut files = BTreeMap::new();
    let mut names = HashSet::new();
    let mut with_state = Vec::new();
    for rule in sigma {
        if told_whole(rule) {
            files.insert(free_name(rule, &mut names), rule.sigma.clone());
        } else {
            with_state.push(rule);
        }
    }
    for (name, rules) in [("classic.json", classic), ("sigma.json", with_state)] {
        if !rules.is_empty() {
            let text = serde_json::to_string_pretty(&rules)? + "\n";
            files.insert(name.to_owned(), text);
        }
    }
    Ok(files)
}

/// Whether a rule's document alone is read as that rule.
fn told_whole(rule: &Rule) -> bool {
    yinglong_rules::read(&rule.sigma, "").0 == [rule.clone()]
}

/// A name no other rule has, also where capitals do not count.
fn free_name(rule: &Rule, names: &mut HashSet<String>) -> String {
    let base = match plain(&rule.meta.name) {
        name if name.is_empty() => plain(&rule.id),
        name => name,
    };
    let base = if base.is_empty() { "rule" } else { &base };
    let mut name = base.to_owned();
    let mut number = 2_usize;
    while !names.insert(name.clone()) {
        name = format!("{base}-{number}");
        number += 1;
    }
    let folder = Path::new("sigma");
    folder.join(name + ".yml").display().to_string()
}

/// Lower-case ASCII letters and digits, everything else as single dashes.
fn plain(text: &str) -> String {
    let mut name = String::new();
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            name.push(c.to_ascii_lowercase());
        } else if !name.is_empty() && !name.ends_with('-') {
            name.push('-');
        }
        if name.len() >= NAME_CHARS {
            break;
        }
    }
    name.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

    use super::*;
    use crate::commands::rules::import;

    /// What an import of exported rules gives, by id.
    fn again(rules: &[Rule]) -> (BTreeMap<String, Rule>, BTreeMap<String, String>) {
        let folder = tempfile::tempdir().unwrap();
        let files = files(rules).unwrap();
        for (name, text) in &files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let read = import::read(&[folder.path().to_owned()]).unwrap();
        assert_eq!(read.refused, 0, "{:?}", read.findings);
        let rules = read.rules.into_iter().map(|rule| (rule.id.clone(), rule));
        (rules.collect(), files)
    }

    fn by_id(rules: &[Rule]) -> BTreeMap<String, Rule> {
        rules.iter().map(|r| (r.id.clone(), r.clone())).collect()
    }

    #[test]
    fn all_default_rules_come_back_as_they_were() {
        let (rules, _) = yinglong_rules::load_default();
        let (back, files) = again(&rules);
        assert_eq!(back, by_id(&rules));
        let sigma = rules.iter().filter(|rule| !rule.sigma.is_empty()).count();
        // One file for all classic rules.
        assert_eq!(files.len(), sigma + 1);
    }

    #[test]
    fn what_sigma_has_no_word_for_comes_back_too() {
        let text = "title: 网络 ../../Odd\nid: 3f0f2a2e-5f3a-4a0e-9a44-6b8d7d1f0a01\n\
            logsource: {product: linux, category: process_creation}\n\
            detection: {s: {Image|endswith: /nc}, condition: s}\nlevel: high\n";
        let global = "action: global\ntitle: Two sources\nlevel: low\n\
            detection: {s: {Image|endswith: /nc}, condition: s}\n---\n\
            logsource: {product: linux, category: process_creation}\n---\n\
            logsource: {product: windows, category: process_creation}\n";
        let mut rules = yinglong_rules::read(text, "").0;
        let mut off = rules[0].clone();
        off.id.push_str("-2");
        off.enabled = false;
        rules.push(off);
        let nameless = text
            .replace("网络 ../../Odd", "网络")
            .replace("3f0f2a2e", "3f0f2a2f");
        rules.extend(yinglong_rules::read(&nameless, "").0);
        rules.extend(yinglong_rules::read(global, "").0);
        let same_title = text.replace("3f0f2a2e", "3f0f2a30");
        rules.extend(yinglong_rules::read(&same_title, "").0);
        let (back, files) = again(&rules);
        assert_eq!(back, by_id(&rules));
        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "sigma.json",
                "sigma/3f0f2a2f-5f3a-4a0e-9a44-6b8d7d1f0a01.yml",
                "sigma/odd-2.yml",
                "sigma/odd.yml",
                "sigma/two-sources.yml",
            ]
        );
    }
}
