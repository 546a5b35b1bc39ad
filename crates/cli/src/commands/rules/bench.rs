//! `yinglong rules bench`: how fast rules are over recorded events.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::bail;
use serde::Serialize;
use yinglong_detect::{Engine, Sample, Scratch};
use yinglong_model::config::List;
use yinglong_replay::{Reader, Record};
use yinglong_rules::taxonomy::Feed;

use crate::{
    output,
    recording::Recording,
    ruleset::{self, Sources},
};

/// Shortest time that is measured.
const SHORTEST: Duration = Duration::from_secs(1);
/// Records kept in memory; more would measure the memory.
const MOST_RECORDS: usize = 200_000;

/// Measures the engine alone over a recording, at least for a second; needs no server.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Rules; folders are read with everything below them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Recordings, as `yinglong replay` reads them.
    #[arg(long, required = true, value_name = "FILE")]
    events: Vec<PathBuf>,
    /// Rules to show.
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// JSON file with named lists for placeholders: {"name": ["value"]}.
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
    /// Prints one object of JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    rules: usize,
    /// Records of the recordings.
    records: usize,
    /// As how many classes they were looked at, once.
    elements: usize,
    /// How many times all of them were.
    rounds: u32,
    seconds: f64,
    elements_per_second: f64,
    /// Rules that match most, in one round.
    top: Vec<Top>,
}

#[derive(Serialize)]
struct Top {
    rule: String,
    title: String,
    matches: u64,
}

/// Does what is asked.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let lists = ruleset::lists(args.lists.as_deref())?;
    let sources = Sources::read(&args.paths)?;
    let set = sources.compile(lists, Feed::Recordings);
    ruleset::report(&sources, &set);
    let records = records(&args.events)?;
    let views: Vec<Recording<'_>> = records
        .iter()
        .flat_map(|record| record.views.iter().map(Recording))
        .collect();
    if views.is_empty() {
        bail!("the recordings have no events; nothing can be measured");
    }
    let abouts: Vec<_> = set.rules.iter().map(|rule| rule.about.clone()).collect();
    let mut sample = Sample::default();
    views.iter().for_each(|view| sample.keep(&view.element()));
    let none = List::default();
    let (engine, _) = Engine::new(set.rules, &none, &none, &sample);
    let (mut scratch, mut found) = (Scratch::default(), Vec::new());
    // The first round fills the memory of the engine, and counts.
    let mut matches = vec![0_u64; abouts.len()];
    for view in &views {
        found.clear();
        engine.matches(&view.element(), &mut scratch, &mut found);
        for number in &found {
            if let Some(count) = matches.get_mut(*number as usize) {
                *count += 1;
            }
        }
    }
    let (start, mut rounds) = (Instant::now(), 0_u32);
    while rounds == 0 || start.elapsed() < SHORTEST {
        for view in &views {
            found.clear();
            engine.matches(&view.element(), &mut scratch, &mut found);
        }
        rounds += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut top: Vec<Top> = abouts
        .iter()
        .zip(matches)
        .filter(|(_, matches)| *matches > 0)
        .map(|(about, matches)| Top {
            rule: about.id.clone(),
            title: about.name.clone(),
            matches,
        })
        .collect();
    top.sort_by(|a, b| {
        b.matches
            .cmp(&a.matches)
            .then_with(|| a.title.cmp(&b.title))
    });
    top.truncate(args.top);
    let report = Report {
        rules: engine.rule_count(),
        records: records.len(),
        elements: views.len(),
        rounds,
        seconds,
        elements_per_second: views.len() as f64 * f64::from(rounds) / seconds,
        top,
    };
    if args.json {
        return output::json_lines([report]);
    }
    output::print(&format!(
        "{} rules, {} records looked at as {} events, {} rounds in {:.2} s: {:.0} events/s\n",
        report.rules,
        report.records,
        report.elements,
        report.rounds,
        report.seconds,
        report.elements_per_second
    ))?;
    let rows = report.top.iter().map(|top| {
        [
            top.matches.to_string(),
            output::short(&top.rule, 48),
            output::short(&top.title, 64),
        ]
    });
    output::table(["MATCHES", "ID", "TITLE"], rows)
}

fn records(named: &[PathBuf]) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    for file in ruleset::files(named, &|_| true)? {
        for record in Reader::open(&file)? {
            if records.len() >= MOST_RECORDS {
                eprintln!("only the first {MOST_RECORDS} records are used");
                return Ok(records);
            }
            records.push(record?);
        }
    }
    Ok(records)
}
