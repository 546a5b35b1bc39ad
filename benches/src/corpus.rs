//! Public rules, and more like them.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// YAML of one rule.
pub struct Rule {
    pub id: String,
    pub text: String,
}

/// Unpacks the archive into a folder and reads the rules of a product (and category) from it.
pub fn read(archive: &Path, product: &str, category: Option<&str>) -> anyhow::Result<Vec<Rule>> {
    let folder = std::env::temp_dir().join(format!("yinglong-benches-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let unpacked = Command::new("tar")
        .arg("-xJf")
        .arg(archive)
        .arg("-C")
        .arg(&folder)
        .status()
        .context("tar is needed")?;
    if !unpacked.success() {
        bail!("`{}` cannot be unpacked", archive.display());
    }
    let rules = below(&folder, product, category);
    fs::remove_dir_all(&folder)?;
    rules
}

/// Our own rules of a product, and those for all. Every log source counts: both engines see the same
/// events, whatever they are called.
pub fn own(product: &str) -> anyhow::Result<Vec<Rule>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules");
    below(&folder, product, None)
}

/// Rules of files below a folder, in the order of their paths.
fn below(folder: &Path, product: &str, category: Option<&str>) -> anyhow::Result<Vec<Rule>> {
    let mut files = Vec::new();
    list(folder, &mut files)?;
    files.sort();
    let mut rules = Vec::new();
    for file in &files {
        let path = file.to_string_lossy();
        if path.contains("rules-placeholder") || path.contains("rules-compliance") {
            continue;
        }
        let text = fs::read_to_string(file)?;
        let Ok(parsed) = rsigma_parser::parse_sigma_yaml(&text) else {
            continue;
        };
        let Some(rule) = parsed.rules.first() else {
            continue;
        };
        let wanted = rule.logsource.product.as_deref() == Some(product)
            && category.is_none_or(|c| rule.logsource.category.as_deref() == Some(c));
        if let (true, Some(id)) = (wanted, &rule.id) {
            rules.push(Rule {
                id: id.clone(),
                text,
            });
        }
    }
    Ok(rules)
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "yml") {
            files.push(path);
        }
    }
    Ok(())
}

/// Literals used by at least this many rules are what new rules would use as well.
const POPULAR: usize = 5;

/// `count` rules: a stride sample of the base, or the base and copies whose rare literals are other
/// words of the same vocabulary. Popular literals, expressions and filters stay.
pub fn scale(base: &[Rule], count: usize) -> Vec<Rule> {
    if count <= base.len() {
        let stride = base.len() as f64 / count as f64;
        return (0..count)
            .map(|n| copy(&base[(n as f64 * stride) as usize], None))
            .collect();
    }
    let mut uses: HashMap<String, usize> = HashMap::new();
    let mut words: BTreeSet<String> = BTreeSet::new();
    for rule in base {
        let literals: BTreeSet<String> = lines(&rule.text)
            .filter_map(|line| {
                line.literal
                    .map(|(start, end)| line.text[start..end].to_owned())
            })
            .collect();
        for literal in literals {
            words.extend(runs(&literal).map(|(s, e)| literal[s..e].to_owned()));
            *uses.entry(literal).or_default() += 1;
        }
    }
    let words: Vec<String> = words.into_iter().collect();
    (0..count)
        .map(|n| {
            let rule = &base[n % base.len()];
            match n / base.len() {
                0 => copy(rule, None),
                round => copy(rule, Some((round, &uses, &words))),
            }
        })
        .collect()
}

type Renaming<'r> = (usize, &'r HashMap<String, usize>, &'r [String]);

fn copy(rule: &Rule, renaming: Option<Renaming<'_>>) -> Rule {
    let Some((round, uses, words)) = renaming else {
        return Rule {
            id: rule.id.clone(),
            text: rule.text.clone(),
        };
    };
    let id = format!("{:08x}{}", round, &rule.id[8.min(rule.id.len())..]);
    let mut text = String::with_capacity(rule.text.len() + 256);
    for line in lines(&rule.text) {
        let renamed = line.literal.and_then(|(start, end)| {
            let literal = &line.text[start..end];
            (uses.get(literal).copied().unwrap_or(0) < POPULAR)
                .then(|| (start, end, rename(literal, round, words)))
        });
        match renamed {
            Some((start, end, literal)) => {
                text.push_str(&line.text[..start]);
                text.push_str(&literal);
                text.push_str(&line.text[end..]);
            }
            None => text.push_str(&line.text.replace(&rule.id, &id)),
        }
        text.push('\n');
    }
    Rule { id, text }
}

/// Another word of the vocabulary for the longest one in a literal.
fn rename(literal: &str, round: usize, words: &[String]) -> String {
    let Some((start, end)) = runs(literal).max_by_key(|(s, e)| e - s) else {
        return literal.to_owned();
    };
    let word = &literal[start..end];
    let at = words
        .binary_search_by(|w| w.as_str().cmp(word))
        .unwrap_or(0);
    let other = &words[(at + round * 7919) % words.len()];
    let letter = char::from(b'a' + (round % 26) as u8);
    format!("{}{other}{letter}{}", &literal[..start], &literal[end..])
}

/// Words of four letters and more.
fn runs(text: &str) -> impl Iterator<Item = (usize, usize)> {
    let bytes = text.as_bytes();
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            while at < bytes.len() && !bytes[at].is_ascii_alphabetic() {
                at += 1;
            }
            let start = at;
            while at < bytes.len() && bytes[at].is_ascii_alphabetic() {
                at += 1;
            }
            if start == at {
                return None;
            }
            if at - start >= 4 {
                return Some((start, at));
            }
        }
    })
}

struct Line<'t> {
    text: &'t str,
    /// Where a value that may be renamed is.
    literal: Option<(usize, usize)>,
}

/// Lines of a rule with the values of its selections; those of filters and expressions are not marked.
fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let (mut in_detection, mut skipped, mut expression) = (false, false, false);
    text.lines().map(move |text| {
        let trimmed = text.trim_start();
        let indent = text.len() - trimmed.len();
        if indent == 0 && !trimmed.is_empty() && !trimmed.starts_with('#') {
            in_detection = trimmed.starts_with("detection:");
        }
        if in_detection && indent == 4 && !trimmed.starts_with('-') {
            skipped = trimmed.starts_with("filter") || trimmed.starts_with("condition");
        }
        if in_detection && trimmed.contains("|re") && trimmed.contains(':') {
            expression = true;
        } else if trimmed.contains(':') && !trimmed.starts_with("- '") {
            expression = false;
        }
        let value = trimmed
            .strip_prefix("- '")
            .or_else(|| trimmed.split_once(": '").map(|(_, value)| value));
        let literal = value
            .filter(|_| in_detection && !skipped && !expression)
            .and_then(|value| {
                let start = text.len() - value.len();
                let end = start + value.rfind('\'')?;
                Some((start, end))
            });
        Line { text, literal }
    })
}
