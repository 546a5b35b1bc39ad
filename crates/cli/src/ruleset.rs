//! Rules of files and folders, in both languages, for all commands that need no server.
//!
//! Reading and compiling are two steps: what is read knows its file and place, what is compiled is
//! what engines take. A file or rule that is broken is left out with its reason, and never keeps the
//! rest from being used.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::{Serialize, de::IgnoredAny};
use serde_json::Value;
use yinglong_model::rule::Rule;
use yinglong_rules::{
    About, Compiled, Delivered, Diagnostic, Place,
    correlation::Correlation,
    sigma::{self, Document, Mapping, Options},
    taxonomy::{self, Binding, Feed, LogSource},
};

use crate::{json_place, output};

/// Values of placeholders in Sigma rules, by name.
pub(crate) type Lists = BTreeMap<String, Vec<String>>;

/// Ending of the files with examples that lie beside rules.
const TESTS: &str = ".test.json";

/// Rules as written.
#[derive(Default)]
pub(crate) struct Sources {
    classic: Vec<Rule>,
    documents: Vec<Document>,
    /// What is wrong with them, each alone.
    diagnostics: Vec<Diagnostic>,
    /// Why files cannot be read, with their names.
    pub(crate) unreadable: Vec<String>,
    /// Rules of the classic language that are broken.
    pub(crate) broken: Vec<Refused>,
    /// Where they are, in the order read.
    pub(crate) origins: Vec<Origin>,
}

/// Where a rule is.
pub(crate) struct Origin {
    /// Its id; empty when it has none of its own.
    pub(crate) id: String,
    pub(crate) title: String,
    pub(crate) place: Place,
    pub(crate) classic: bool,
}

/// Rules as engines take them.
pub(crate) struct Rules {
    pub(crate) rules: Vec<Compiled>,
    pub(crate) correlations: Vec<Correlation>,
    pub(crate) refused: Vec<Refused>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// A rule that is not evaluated.
#[derive(Clone, Serialize)]
pub(crate) struct Refused {
    pub(crate) rule: String,
    pub(crate) title: String,
    pub(crate) file: String,
    pub(crate) reason: String,
    #[serde(skip)]
    pub(crate) place: Place,
}

/// What recordings have.
struct Recorded;

impl Mapping for Recorded {
    fn bindings(&self, source: &LogSource) -> Result<Vec<Binding>, String> {
        taxonomy::delivered(source, Feed::Recordings)
    }
}

impl Sources {
    /// The default rules.
    pub(crate) fn built_in() -> Self {
        let mut sources = Self::default();
        for (name, text) in yinglong_rules::default_rules() {
            sources.take(text, name);
        }
        sources
    }

    /// Rules of files, and of all files below folders.
    ///
    /// # Errors
    /// A named file or folder is not there. A file that cannot be read is among `unreadable`.
    pub(crate) fn read(named: &[PathBuf]) -> anyhow::Result<Self> {
        let mut sources = Self::default();
        for file in files(named, &is_rule)? {
            match read(&file) {
                Ok(text) => sources.take(&text, &file.display().to_string()),
                Err(error) => sources.unreadable.push(format!("{error:#}")),
            }
        }
        Ok(sources)
    }

    fn take(&mut self, text: &str, name: &str) {
        if text.trim_start().starts_with(['[', '{']) {
            let (rules, mut found) = yinglong_rules::load(text);
            for diagnostic in &mut found {
                let place = match serde_json::from_str::<IgnoredAny>(text) {
                    Ok(_) => json_place::find(text, name, &diagnostic.path),
                    Err(error) => {
                        json_place::line_and_column(text, name, error.line(), error.column())
                    }
                };
                diagnostic.place = Some(place);
            }
            self.broken.extend(broken(&found, name));
            self.origins.extend(origins(text, name, &rules));
            self.classic.extend(rules);
            self.diagnostics.extend(found);
        } else {
            let (parsed, found) = sigma::parse(text, name);
            let origin = |document: &Document| Origin {
                id: document.id().unwrap_or_default().to_owned(),
                title: document.title().to_owned(),
                place: document.place(),
                classic: false,
            };
            self.origins.extend(parsed.iter().map(origin));
            self.documents.extend(parsed);
            self.diagnostics.extend(found);
        }
    }

    /// Where a compiled rule is.
    pub(crate) fn origin(&self, about: &About) -> Option<&Origin> {
        let by_id = self.origins.iter().find(|origin| origin.id == about.id);
        by_id.or_else(|| {
            let mut origins = self.origins.iter();
            origins.find(|origin| origin.title == about.name)
        })
    }

    /// Rules that are switched off.
    pub(crate) fn disabled(&self) -> usize {
        self.classic.iter().filter(|rule| !rule.enabled).count()
    }

    /// Compiles them for what a feed delivers.
    pub(crate) fn compile(&self, lists: Lists, feed: Feed) -> Rules {
        let set = yinglong_rules::compile(&self.classic, &lists);
        let options = Options { site_lists: lists };
        let mapping: &dyn Mapping = match feed {
            Feed::Agents => &Delivered(Feed::Agents),
            Feed::Recordings => &Recorded,
        };
        let loaded = sigma::compile_with(&self.documents, &options, mapping);
        let mut diagnostics = self.diagnostics.clone();
        diagnostics.extend(set.diagnostics);
        diagnostics.extend(loaded.diagnostics);
        let refused = loaded.refused.into_iter().map(|refused| Refused {
            rule: refused.id,
            title: refused.title,
            file: refused.file,
            reason: refused.reason,
            place: refused.place,
        });
        let mut rules = set.rules;
        rules.extend(loaded.rules);
        Rules {
            rules,
            correlations: loaded.correlations,
            refused: refused.collect(),
            diagnostics,
        }
    }
}

/// Rules of a text of the classic language with errors, each with the first.
fn broken(found: &[Diagnostic], file: &str) -> Vec<Refused> {
    let mut broken: Vec<(&str, Refused)> = Vec::new();
    for diagnostic in found.iter().filter(|found| found.is_error()) {
        let element = match diagnostic.path.split_once(']') {
            Some((element, _)) if element.starts_with('[') => element,
            _ => "",
        };
        if broken.last().is_none_or(|(last, _)| *last != element) {
            let refused = Refused {
                rule: String::new(),
                title: diagnostic.rule.clone(),
                file: file.to_owned(),
                reason: format!("{}: {}", diagnostic.path, diagnostic.reason),
                place: diagnostic
                    .place
                    .clone()
                    .unwrap_or_else(|| json_place::find("", file, "")),
            };
            broken.push((element, refused));
        }
    }
    broken.into_iter().map(|(_, refused)| refused).collect()
}

/// Where the rules of a text of the classic language are that can be used.
fn origins(text: &str, name: &str, rules: &[Rule]) -> Vec<Origin> {
    let written: Value = serde_json::from_str(text).unwrap_or_default();
    let path_of = |rule: &Rule| {
        let written = written.as_array()?;
        let place = written.iter().position(|value| {
            let id = value.get("id").and_then(Value::as_str).unwrap_or_default();
            let named = value.pointer("/meta/name").and_then(Value::as_str);
            id == rule.id || (id.is_empty() && named == Some(&rule.meta.name))
        })?;
        Some(format!("[{place}]"))
    };
    let origin = |rule: &Rule| Origin {
        id: rule.id.clone(),
        title: rule.meta.name.clone(),
        place: json_place::find(text, name, &path_of(rule).unwrap_or_default()),
        classic: true,
    };
    rules.iter().map(origin).collect()
}

/// Says what of rules is left out, and why: one line each on standard error. Returns whether anything is.
pub(crate) fn report(sources: &Sources, rules: &Rules) -> bool {
    let errors = rules.diagnostics.iter().filter(|found| found.is_error());
    let refused = rules.refused.iter();
    let lines = sources
        .unreadable
        .iter()
        .cloned()
        .chain(errors.map(ToString::to_string))
        .chain(refused.map(|refused| format!("refused: {}: {}", refused.title, refused.reason)));
    let mut any = false;
    for line in lines {
        any = true;
        eprintln!("{}", output::line(&line));
    }
    any
}

/// Named lists of a file: `{"name": ["value"]}`.
///
/// # Errors
/// The file cannot be read, or is something else.
pub(crate) fn lists(file: Option<&Path>) -> anyhow::Result<Lists> {
    let Some(file) = file else {
        return Ok(Lists::new());
    };
    serde_json::from_str(&read(file)?)
        .with_context(|| format!("`{}` is not an object of lists", file.display()))
}

/// Whether a file below a folder is one with rules.
pub(crate) fn is_rule(path: &Path) -> bool {
    let name = path.to_string_lossy();
    let rule = [".yml", ".yaml", ".json"]
        .iter()
        .any(|ending| name.ends_with(ending));
    rule && !name.ends_with(TESTS)
}

/// Files that are named, and those below folders that are; sorted, each once. Links to folders are
/// not followed.
pub(crate) fn files(
    named: &[PathBuf],
    wanted: &dyn Fn(&Path) -> bool,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = Vec::new();
    for path in named {
        let kind =
            fs::metadata(path).with_context(|| format!("cannot read `{}`", path.display()))?;
        if kind.is_dir() {
            folders.push(path.clone());
        } else {
            found.push(path.clone());
        }
    }
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            let kind = entry.file_type()?;
            if kind.is_dir() && !hidden {
                folders.push(entry.path());
            } else if !kind.is_dir() && !hidden && wanted(&entry.path()) {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Text of a file.
///
/// # Errors
/// It cannot be read.
pub(crate) fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}
