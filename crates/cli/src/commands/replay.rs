//! `yinglong replay`: recorded events through the engine of the server, without a server.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashSet},
    fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use serde::Serialize;
use yinglong_correlate::{Correlator, Limits, Match};
use yinglong_detect::{Element, Engine, Fields, Name, Sample, Scratch};
use yinglong_model::{AgentId, Timestamp, config::List, rule::Rule};
use yinglong_replay::{Reader, Record, View};
use yinglong_rules::{
    About, Compiled, Diagnostic,
    correlation::Correlation,
    sigma::{self, Mapping, Options},
    taxonomy::{self, Binding, Feed, LogSource},
};

use crate::output;

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

/// A rule that is not evaluated.
#[derive(Serialize)]
struct Refused {
    rule: String,
    title: String,
    file: String,
    reason: String,
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

/// What recordings have.
struct Recorded;

impl Mapping for Recorded {
    fn bindings(&self, source: &LogSource) -> Result<Vec<Binding>, String> {
        taxonomy::delivered(source, Feed::Recordings)
    }
}

/// Does what is asked.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut summary = Summary::default();
    let (rules, correlations) = load(args, &mut summary)?;
    summary.rules.loaded = rules.len() + correlations.len();
    summary.rules.refused = summary.refused.len();
    let mut replay = Replay::new(rules, &correlations, args.json);
    for file in files(&args.files, &|_| true)? {
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

fn load(args: &Args, summary: &mut Summary) -> anyhow::Result<(Vec<Compiled>, Vec<Correlation>)> {
    let lists: BTreeMap<String, Vec<String>> = match &args.lists {
        Some(file) => serde_json::from_str(&read(file)?)
            .with_context(|| format!("`{}` is not an object of lists", file.display()))?,
        None => BTreeMap::new(),
    };
    let mut classic: Vec<Rule> = Vec::new();
    let mut documents = Vec::new();
    let mut diagnostics: Vec<Diagnostic> = Vec::new();
    let mut take = |text: &str, name: &str| {
        if text.trim_start().starts_with(['[', '{']) {
            let (rules, found) = yinglong_rules::load(text);
            classic.extend(rules);
            diagnostics.extend(found);
        } else {
            let (parsed, found) = sigma::parse(text, name);
            documents.extend(parsed);
            diagnostics.extend(found);
        }
    };
    if args.rules.is_empty() {
        for (name, text) in yinglong_rules::default_rules() {
            take(text, name);
        }
    }
    let is_rule = |path: &Path| {
        let name = path.to_string_lossy();
        let rule = [".yml", ".yaml", ".json"]
            .iter()
            .any(|ending| name.ends_with(ending));
        rule && !name.ends_with(".test.json")
    };
    for file in files(&args.rules, &is_rule)? {
        match read(&file) {
            Ok(text) => take(&text, &file.display().to_string()),
            Err(error) => eprintln!("{}", output::line(&format!("{error:#}"))),
        }
    }
    let set = yinglong_rules::compile(&classic, &lists);
    let options = Options { site_lists: lists };
    let loaded = sigma::compile_with(&documents, &options, &Recorded);
    diagnostics.extend(set.diagnostics);
    diagnostics.extend(loaded.diagnostics);
    for diagnostic in diagnostics.iter().filter(|found| found.is_error()) {
        eprintln!("{}", output::line(&diagnostic.to_string()));
    }
    let refused = loaded.refused.into_iter().map(|refused| Refused {
        rule: refused.id,
        title: refused.title,
        file: refused.file,
        reason: refused.reason,
    });
    summary.refused.extend(refused);
    let mut rules = set.rules;
    rules.extend(loaded.rules);
    Ok((rules, loaded.correlations))
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
            let element = Element {
                class: view.class,
                system: view.system,
                fields: &recorded,
                count: None,
                learn: false,
            };
            found.clear();
            self.engine.matches(&element, &mut self.scratch, &mut found);
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

/// A view as rules see it.
struct Recording<'v>(&'v View);

impl Fields for Recording<'_> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name).map(Cow::Borrowed)
    }

    fn find(&self, name: &Name) -> Option<Cow<'_, str>> {
        // Records of one kind have their fields in one order.
        if let Some((known, value)) = self.0.fields.get(usize::from(name.place()))
            && known == name.as_str()
        {
            return Some(Cow::Borrowed(value));
        }
        let place = self
            .0
            .iter()
            .position(|(known, _)| known == name.as_str())?;
        name.note(u16::try_from(place).unwrap_or(Name::UNKNOWN));
        let (_, value) = self.0.fields.get(place)?;
        Some(Cow::Borrowed(value))
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        for (name, value) in self.0.iter() {
            visit(name, value);
        }
    }
}

/// Files that are named, and those below folders that are; sorted, each once. Links to folders are
/// not followed.
fn files(named: &[PathBuf], wanted: &dyn Fn(&Path) -> bool) -> anyhow::Result<Vec<PathBuf>> {
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

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))
}
