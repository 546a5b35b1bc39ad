//! `yinglong rules check`: what is wrong with rules in files, before a server gets them.

use std::{collections::HashMap, path::PathBuf};

use anyhow::bail;
use serde::Serialize;
use yinglong_detect::{Engine, Sample};
use yinglong_model::config::List;
use yinglong_rules::{Diagnostic, Place, taxonomy::Feed};

use crate::{
    output,
    ruleset::{self, Origin, Refused, Rules, Sources},
};

/// Checks rules in files; needs no server.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Sigma (.yml, .yaml) or classic rules (.json); folders are read with everything below them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Where events will come from.
    #[arg(long, value_enum, default_value_t = From::Agents)]
    feed: From,
    /// JSON file with named lists for placeholders: {"name": ["value"]}.
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
    /// Prints one line of JSON per finding, then one with the summary.
    #[arg(long)]
    json: bool,
}

/// Where events come from, as words of the command line.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum From {
    /// Agents, as a server gets them.
    Agents,
    /// Recordings, as `yinglong replay` reads them.
    Recordings,
}

impl From {
    pub(super) const fn feed(self) -> Feed {
        match self {
            Self::Agents => Feed::Agents,
            Self::Recordings => Feed::Recordings,
        }
    }
}

/// What is known after the check.
#[derive(Serialize)]
struct Summary {
    loaded: usize,
    disabled: usize,
    errors: usize,
    warnings: usize,
    unreadable: usize,
    refused: Vec<Refused>,
}

/// Does what is asked.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let lists = ruleset::lists(args.lists.as_deref())?;
    let sources = Sources::read(&args.paths)?;
    for error in &sources.unreadable {
        eprintln!("{}", output::line(error));
    }
    let mut set = sources.compile(lists, args.feed.feed());
    let (findings, loaded) = findings(&sources, &mut set);
    let errors = findings.iter().filter(|found| found.is_error()).count();
    set.refused.extend(sources.broken.iter().cloned());
    let summary = Summary {
        loaded: loaded + set.correlations.len(),
        disabled: sources.disabled(),
        errors,
        warnings: findings.len() - errors,
        unreadable: sources.unreadable.len(),
        refused: set.refused,
    };
    if args.json {
        output::json_lines(&findings)?;
        output::json_lines([&summary])?;
    } else {
        for finding in &findings {
            eprintln!("{}", output::line(&finding.to_string()));
        }
        let Summary {
            loaded,
            disabled,
            errors,
            warnings,
            ..
        } = summary;
        let refused = summary.refused.len();
        output::print(&format!(
            "{loaded} rules loaded, {refused} refused, {disabled} switched off; \
             {errors} errors, {warnings} warnings\n"
        ))?;
    }
    if errors > 0 || summary.unreadable > 0 {
        bail!(
            "{errors} errors, {} unreadable files; correct them before the rules are imported",
            summary.unreadable
        );
    }
    Ok(())
}

/// Everything there is to say, in the order of files and places, and how many rules run.
fn findings(sources: &Sources, set: &mut Rules) -> (Vec<Diagnostic>, usize) {
    let mut findings = std::mem::take(&mut set.diagnostics);
    findings.extend(twice(&sources.origins));
    for refused in &set.refused {
        let explained = findings.iter().any(|found| {
            found.is_error()
                && (found.rule == refused.title || found.rule == refused.rule)
                && found
                    .place
                    .as_ref()
                    .is_some_and(|place| place.file == refused.file)
        });
        if !explained {
            let reason = format!("this rule cannot fire: {}", refused.reason);
            let mut finding = Diagnostic::warning("logsource", reason);
            finding.rule.clone_from(&refused.title);
            finding.place = Some(refused.place.clone());
            findings.push(finding);
        }
    }
    let none = List::default();
    let rules = std::mem::take(&mut set.rules);
    let (engine, found) = Engine::new(rules, &none, &none, &Sample::default());
    for mut finding in found {
        let mut origins = sources.origins.iter();
        let origin = origins.find(|origin| origin.title == finding.rule);
        finding.place = origin.map(|origin| origin.place.clone());
        findings.push(finding);
    }
    for about in engine.always_evaluated() {
        let mut finding = Diagnostic::warning(
            "detection",
            "no text must be there for it to match, so it is looked at for every event of its \
             class; add a value or an expression with a fixed part of three letters or more",
        );
        finding.rule.clone_from(&about.name);
        finding.place = sources.origin(about).map(|origin| origin.place.clone());
        findings.push(finding);
    }
    findings.sort_by_cached_key(|finding| {
        let place = finding.place.as_ref();
        place.map(|place| (place.file.clone(), place.start))
    });
    (findings, engine.rule_count())
}

/// Rules with the id of another, where the loaders of the languages do not see both.
fn twice(origins: &[Origin]) -> Vec<Diagnostic> {
    let mut first: HashMap<&str, &Origin> = HashMap::new();
    let mut found = Vec::new();
    for origin in origins.iter().filter(|origin| !origin.id.is_empty()) {
        let Some(known) = first.get(origin.id.as_str()) else {
            first.insert(&origin.id, origin);
            continue;
        };
        if !origin.classic && !known.classic {
            continue;
        }
        let Place { file, line, .. } = &known.place;
        let reason = format!(
            "the rule at {file}:{line} has the id `{}`; ids are unique",
            origin.id
        );
        let mut finding = Diagnostic::error("id", reason);
        finding.rule.clone_from(&origin.title);
        finding.place = Some(origin.place.clone());
        found.push(finding);
    }
    found
}
