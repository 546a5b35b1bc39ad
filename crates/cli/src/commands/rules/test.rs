//! `yinglong rules test`: rules against the examples that lie beside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde_json::Value;
use yinglong_detect::{Engine, Sample, Scratch, example::Example};
use yinglong_model::config::List;
use yinglong_rules::{About, taxonomy::Feed};

use crate::{
    output,
    ruleset::{self, Sources},
};

/// Runs the examples beside rules; needs no server.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Rules, each `x.yml` or `x.json` with its examples in `x.test.json`; folders are read with
    /// everything below them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Elements no rule may match, one of JSON per line.
    #[arg(long, value_name = "FILE")]
    quiet: Vec<PathBuf>,
    /// Matches of quiet elements that are put up with.
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    quiet_matches: usize,
    /// JSON file with named lists for placeholders: {"name": ["value"]}.
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
}

/// Examples of one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Examples {
    r#match: Vec<Value>,
    near_miss: Vec<Value>,
}

/// What became of the examples.
#[derive(Default)]
pub(super) struct Outcome {
    /// Rules that matched what they must, in files without a failure.
    pub(super) proven: Vec<Arc<About>>,
    /// One line each.
    pub(super) failures: Vec<String>,
    /// Files without examples.
    pub(super) untested: Vec<String>,
    files: usize,
    examples: usize,
}

/// Rules that are ready to be asked.
pub(super) struct Bench {
    engine: Engine,
    scratch: Scratch,
    abouts: Vec<Arc<About>>,
    found: Vec<u32>,
}

/// Does what is asked.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let lists = ruleset::lists(args.lists.as_deref())?;
    let (mut bench, mut outcome) = examples(&args.paths, lists)?;
    let mut matches = Vec::new();
    for file in &args.quiet {
        bench.quiet(file, &mut matches, &mut outcome)?;
    }
    let quiet = matches.len();
    if quiet > args.quiet_matches {
        outcome.failures.append(&mut matches);
    }
    for failure in &outcome.failures {
        eprintln!("{}", output::line(failure));
    }
    for file in &outcome.untested {
        eprintln!(
            "{}",
            output::line(&format!("{file}: no examples beside it"))
        );
    }
    output::print(&format!(
        "{} files, {} examples, {} failures; {} files without examples, {quiet} quiet matches\n",
        outcome.files,
        outcome.examples,
        outcome.failures.len(),
        outcome.untested.len()
    ))?;
    if !outcome.failures.is_empty() {
        bail!("{} failures; they are above", outcome.failures.len());
    }
    Ok(())
}

/// Runs the examples beside all rules of files and folders; the rules are evaluated together.
pub(super) fn examples(
    paths: &[PathBuf],
    lists: ruleset::Lists,
) -> anyhow::Result<(Bench, Outcome)> {
    let sources = Sources::read(paths)?;
    let set = sources.compile(lists, Feed::Agents);
    let mut outcome = Outcome {
        failures: sources.unreadable.clone(),
        ..Outcome::default()
    };
    let errors = set.diagnostics.iter().filter(|found| found.is_error());
    outcome.failures.extend(errors.map(ToString::to_string));
    let mut of_file: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for rule in &set.rules {
        if let Some(origin) = sources.origin(&rule.about) {
            let ids = of_file.entry(&origin.place.file).or_default();
            ids.insert(rule.about.id.clone());
        }
    }
    let mut bench = Bench {
        abouts: set.rules.iter().map(|rule| rule.about.clone()).collect(),
        engine: {
            let none = List::default();
            let (engine, found) = Engine::new(set.rules, &none, &none, &Sample::default());
            outcome
                .failures
                .extend(found.iter().map(ToString::to_string));
            engine
        },
        scratch: Scratch::default(),
        found: Vec::new(),
    };
    for file in ruleset::files(paths, &ruleset::is_rule)? {
        let shown = file.display().to_string();
        let tests = file.with_extension("test.json");
        if !tests.exists() {
            outcome.untested.push(shown);
            continue;
        }
        let Some(ids) = of_file.get(shown.as_str()) else {
            let refused = set.refused.iter().find(|refused| refused.file == shown);
            let reason = refused.map_or("its errors are above", |refused| &refused.reason);
            let failure = format!("{shown}: no rule of it can be tested: {reason}");
            outcome.failures.push(failure);
            continue;
        };
        outcome.files += 1;
        if let Err(error) = bench.file(&tests, ids, &mut outcome) {
            outcome.failures.push(format!("{error:#}"));
        }
    }
    Ok((bench, outcome))
}

impl Bench {
    /// Rules that match an element.
    fn matching(&mut self, written: &Value) -> Result<Vec<Arc<About>>, String> {
        let example = Example::read(written)?;
        self.found.clear();
        let element = example.element();
        self.engine
            .matches(&element, &mut self.scratch, &mut self.found);
        let abouts = self.found.iter();
        Ok(abouts
            .filter_map(|number| self.abouts.get(*number as usize).cloned())
            .collect())
    }

    fn file(
        &mut self,
        tests: &Path,
        ids: &BTreeSet<String>,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let shown = tests.display();
        let examples: Examples = serde_json::from_str(&ruleset::read(tests)?)
            .with_context(|| format!("{shown}: not an object with `match` and `near_miss`"))?;
        let mut proven: BTreeMap<String, Arc<About>> = BTreeMap::new();
        let mut failures = Vec::new();
        for (key, wanted, elements) in [
            ("match", true, &examples.r#match),
            ("near_miss", false, &examples.near_miss),
        ] {
            if elements.is_empty() {
                failures.push(format!("{shown}: no {key}"));
            }
            for (number, written) in elements.iter().enumerate() {
                outcome.examples += 1;
                let mut matching = match self.matching(written) {
                    Ok(matching) => matching,
                    Err(reason) => {
                        failures.push(format!("{shown}: {key}[{number}]: {reason}"));
                        continue;
                    }
                };
                matching.retain(|about| ids.contains(&about.id));
                if matching.is_empty() == wanted {
                    let said = if wanted {
                        "is not matched"
                    } else {
                        "is matched"
                    };
                    failures.push(format!("{shown}: {key}[{number}] {said}: {written}"));
                }
                if wanted {
                    proven.extend(matching.into_iter().map(|about| (about.id.clone(), about)));
                }
            }
        }
        if failures.is_empty() {
            outcome.proven.extend(proven.into_values());
        }
        outcome.failures.append(&mut failures);
        Ok(())
    }

    /// Runs quiet elements, and adds a line per match.
    fn quiet(
        &mut self,
        file: &Path,
        matches: &mut Vec<String>,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let shown = file.display();
        let opened = File::open(file).with_context(|| format!("cannot read `{shown}`"))?;
        for (number, line) in (1..).zip(BufReader::new(opened).lines()) {
            let line = line.with_context(|| format!("cannot read `{shown}`"))?;
            if line.trim().is_empty() {
                continue;
            }
            outcome.examples += 1;
            let written: Result<Value, _> = serde_json::from_str(&line);
            let matching = written
                .map_err(|error| error.to_string())
                .and_then(|written| self.matching(&written));
            match matching {
                Ok(abouts) => matches.extend(
                    abouts
                        .iter()
                        .map(|about| format!("{shown}:{number}: `{}` matches: {line}", about.name)),
                ),
                Err(reason) => outcome.failures.push(format!("{shown}:{number}: {reason}")),
            }
        }
        Ok(())
    }
}
