//! `yinglong replay`: recorded events through the engine of the server, without a server.

use std::{
    borrow::Cow,
    collections::HashSet,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::bail;
use serde::Serialize;
use yinglong_correlate::{Correlator, Limits, Match};
use yinglong_detect::{Engine, Sample, Scratch};
use yinglong_model::{AgentId, Timestamp, config::List};
use yinglong_replay::{Reader, Record, View};
use yinglong_rules::{About, Compiled, correlation::Correlation, taxonomy::Feed};

use crate::{
    output,
    recording::Recording,
    ruleset::{self, Refused, Sources},
};

/// Runs recorded events through rules: exported events, EVTX, Windows events in JSON, auditd and
/// text logs. Needs no server.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Recordings; folders are read with everything below them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Rules in Sigma (.yml, .yaml) or classic (.json); folders are read with everything below them.
    /// Without it, the default rules.
    #[arg(long, value_name = "DIR")]
    rules: Vec<PathBuf>,
    /// JSON file with named lists for placeholders: {"name": ["value"]}.
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
    /// Prints one line of JSON per match, then one with the summary.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Matched<'m> {
    file: &'m str,
    record: u64,
    rule: &'m str,
    title: &'m str,
    level: &'m str,
}

#[derive(Serialize, Default)]
struct Counts {
    loaded: usize,
    refused: usize,
}

#[derive(Serialize, Default)]
struct Summary {
    records: u64,
    matches: u64,
    /// Records and parts of files that cannot be read.
    damaged: u64,
    /// Files that cannot be read.
    unreadable: Vec<String>,
    rules: Counts,
    refused: Vec<Refused>,
}

/// Does what is asked.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut summary = Summary::default();
    let lists = ruleset::lists(args.lists.as_deref())?;
    let sources = if args.rules.is_empty() {
        Sources::built_in()
    } else {
        Sources::read(&args.rules)?
    };
    let set = sources.compile(lists, Feed::Recordings);
    for error in &sources.unreadable {
        eprintln!("{}", output::line(error));
    }
    for diagnostic in set.diagnostics.iter().filter(|found| found.is_error()) {
        eprintln!("{}", output::line(&diagnostic.to_string()));
    }
    summary.rules.loaded = set.rules.len() + set.correlations.len();
    summary.rules.refused = set.refused.len();
    summary.refused = set.refused;
    let mut replay = Replay::new(set.rules, &set.correlations, args.json);
    for file in ruleset::files(&args.files, &|_| true)? {
        let shown = file.display().to_string();
        if let Err(error) = replay.file(&file, &mut summary) {
            eprintln!("{}", output::line(&format!("{shown}: {error:#}")));
            summary.unreadable.push(shown);
        }
    }
    if args.json {
        output::json_lines([&summary])?;
    } else {
        output::print(&format!(
            "{} records, {} matches; {} rules evaluated, {} refused, {} damaged records\n",
            summary.records,
            summary.matches,
            summary.rules.loaded,
            summary.rules.refused,
            summary.damaged
        ))?;
        for refused in &summary.refused {
            let text = format!("refused: {}: {}", refused.title, refused.reason);
            eprintln!("{}", output::line(&text));
        }
    }
    if !summary.unreadable.is_empty() {
        bail!(
            "{} files cannot be read; the reasons are above",
            summary.unreadable.len()
        );
    }
    Ok(())
}

/// Engine and memory of a replay.
struct Replay {
    engine: Engine,
    scratch: Scratch,
    correlator: Correlator,
    abouts: Vec<std::sync::Arc<About>>,
    json: bool,
}

impl Replay {
    fn new(rules: Vec<Compiled>, correlations: &[Correlation], json: bool) -> Self {
        let abouts = rules.iter().map(|rule| rule.about.clone()).collect();
        let none = List::default();
        let (engine, found) = Engine::new(rules, &none, &none, &Sample::default());
        let (correlator, more) = Correlator::new(correlations, &|_| true, Limits::default());
        for diagnostic in found.iter().chain(&more) {
            eprintln!("{}", output::line(&diagnostic.to_string()));
        }
        Self {
            engine,
            scratch: Scratch::default(),
            correlator,
            abouts,
            json,
        }
    }

    fn file(&mut self, file: &Path, summary: &mut Summary) -> anyhow::Result<()> {
        let mut reader = Reader::open(file)?;
        let mut ended = Ok(());
        for record in &mut reader {
            match record {
                Ok(record) => self.record(&record, summary)?,
                Err(error) => {
                    ended = Err(error.into());
                    break;
                }
            }
        }
        let tally = reader.tally();
        summary.damaged += tally.damaged + tally.oversized;
        ended
    }

    fn record(&mut self, record: &Record, summary: &mut Summary) -> anyhow::Result<()> {
        summary.records += 1;
        let file = record.file.display().to_string();
        let mut told: HashSet<String> = HashSet::new();
        let mut found = Vec::new();
        for view in &record.views {
            let recorded = Recording(view);
            found.clear();
            self.engine
                .matches(&recorded.element(), &mut self.scratch, &mut found);
            for number in &found {
                let Some(about) = self.abouts.get(*number as usize).cloned() else {
                    continue;
                };
                let silent = self.correlator.silences(&about.id);
                if !silent && told.insert(about.id.clone()) {
                    summary.matches += 1;
                    self.tell(&file, record.number, &about)?;
                }
                if !self.correlator.takes(&about.id) {
                    continue;
                }
                for correlated in self.correlate(record, view, &file, &about.id) {
                    if told.insert(correlated.id.clone()) {
                        summary.matches += 1;
                        self.tell(&file, record.number, &correlated)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn correlate(
        &mut self,
        record: &Record,
        view: &View,
        file: &str,
        rule: &str,
    ) -> Vec<std::sync::Arc<About>> {
        // Hosts are told apart by their names here; a recording knows no agents.
        let mut hasher = DefaultHasher::new();
        record.host.hash(&mut hasher);
        let agent = AgentId::from_bits(u128::from(hasher.finish()));
        let time = view.time.unwrap_or(Timestamp::from_secs(0));
        let fired = self.correlator.observe(&Match {
            rule_id: rule,
            agent: &agent,
            time,
            received: time,
            values: &|name| match name {
                "hostname" => record.host.as_deref().map(Cow::Borrowed),
                name => view.get(name).map(Cow::Borrowed),
            },
            reference: &format!("{file}:{}", record.number),
        });
        let alerts = fired.into_iter().filter(|fired| fired.alert);
        alerts.map(|fired| fired.about).collect()
    }

    fn tell(&self, file: &str, record: u64, about: &About) -> anyhow::Result<()> {
        if self.json {
            return output::json_lines([Matched {
                file,
                record,
                rule: &about.id,
                title: &about.name,
                level: &about.severity,
            }]);
        }
        let text = format!("{file}:{record}: {}: {}", about.severity, about.name);
        output::print(&format!("{}\n", output::line(&text)))
    }
}
