//! `yinglong hunt`: rules over events that a server has stored already.
//!
//! Events come in pages of the search and are judged here, by the engine the server uses; only one
//! page is in memory. What counts of the fleet were at the time is not stored, and events come
//! newest first, so conditions on counts and correlations are not evaluated.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use serde::Serialize;
use serde_json::json;
use yinglong_api::{routes::events::Events, views::Event};
use yinglong_detect::{Element, Engine, Sample, Scratch};
use yinglong_model::{EventData, config::List};
use yinglong_rules::{
    About, Class, Source,
    ir::{Compiled, Expr, Test},
    taxonomy::Feed,
};

use super::search;
use crate::{
    client::Target,
    output,
    ruleset::{self, Sources},
};

/// Events of one request.
const PAGE: &str = "1000";

/// Runs rules over the stored events of a server.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Rules; folders are read with everything below them.
    #[arg(required = true, value_name = "RULE_FILE")]
    rules: Vec<PathBuf>,
    /// Only what happened since: 15m, 12h, 7d, or a time like 2026-01-31T09:30:00Z.
    #[arg(long)]
    since: Option<String>,
    /// Only what happened before; like --since.
    #[arg(long)]
    until: Option<String>,
    /// JSON file with named lists for placeholders: {"name": ["value"]}.
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
    /// Prints one line of JSON per match.
    #[arg(long)]
    json: bool,
}

/// A rule and the event it matches.
#[derive(Serialize)]
struct Found<'f> {
    rule: &'f str,
    title: &'f str,
    level: &'f str,
    event: &'f Event,
}

/// Does what is asked.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let lists = ruleset::lists(args.lists.as_deref())?;
    let sources = Sources::read(&args.rules)?;
    let set = sources.compile(lists, Feed::Agents);
    let refused = ruleset::report(&sources, &set);
    for correlation in &set.correlations {
        left_out(
            &correlation.about,
            "a correlation; its members are hunted for alone",
        );
    }
    let mut hunt = Hunt::new(set.rules);
    if hunt.classes.is_empty() {
        bail!("no rule can be hunted for; the reasons are above");
    }
    let mut fixed = vec![("limit", PAGE.to_owned())];
    for (name, value) in [("since", &args.since), ("until", &args.until)] {
        if let Some(value) = value {
            fixed.push((name, search::moment(value)?));
        }
    }
    let client = args.target.client()?;
    let (mut events, mut matches) = (0_u64, 0_u64);
    for class in hunt.classes.clone() {
        let mut cursor = None::<String>;
        loop {
            let mut query = fixed.clone();
            query.push(("q", format!("type:{}", class.as_str())));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let page: Events = client.get("/events", &query)?;
            if page.partial {
                eprintln!("yinglong: a search took too long and is incomplete; narrow --since");
            }
            for event in &page.events {
                events += 1;
                for about in hunt.judge(event)? {
                    matches += 1;
                    tell(&about, event, args.json)?;
                }
            }
            match page.next {
                Some(next) => cursor = Some(next),
                None => break,
            }
        }
    }
    eprintln!("{events} events looked at, {matches} matches");
    if refused {
        // What was found is printed, but nobody may take it for the answer of all rules.
        bail!("some rules were not hunted for; correct them, the reasons are above");
    }
    Ok(())
}

/// Rules that stored events can be judged by.
struct Hunt {
    engine: Engine,
    scratch: Scratch,
    abouts: Vec<std::sync::Arc<About>>,
    /// Types of events they read.
    classes: Vec<Class>,
    found: Vec<u32>,
}

impl Hunt {
    /// Leaves rules out that stored events say nothing about, and says so.
    fn new(mut rules: Vec<Compiled>) -> Self {
        rules.retain_mut(|rule| {
            rule.targets
                .retain(|target| matches!(target.class, Class::Source(Source::Event(_))));
            if rule.targets.is_empty() {
                left_out(&rule.about, "it reads inventories, not events");
                return false;
            }
            let counts = rule.targets.iter().any(|target| counts(&target.condition));
            if counts {
                left_out(
                    &rule.about,
                    "it asks how often a value was seen, which is not stored",
                );
            }
            !counts
        });
        let targets = rules.iter().flat_map(|rule| &rule.targets);
        let mut classes: Vec<Class> = targets.map(|target| target.class).collect();
        classes.sort_unstable();
        classes.dedup();
        let abouts = rules.iter().map(|rule| rule.about.clone()).collect();
        let none = List::default();
        let (engine, diagnostics) = Engine::new(rules, &none, &none, &Sample::default());
        for diagnostic in &diagnostics {
            eprintln!("{}", output::line(&diagnostic.to_string()));
        }
        Self {
            engine,
            scratch: Scratch::default(),
            abouts,
            classes,
            found: Vec::new(),
        }
    }

    /// Rules that match an event.
    fn judge(&mut self, event: &Event) -> anyhow::Result<Vec<std::sync::Arc<About>>> {
        let stored = json!({"type": event.kind, "data": event.data});
        let data: EventData = serde_json::from_value(stored)
            .with_context(|| format!("the server answered the event {} this program cannot read; use programs of one version", event.id))?;
        let element = Element {
            class: Class::from(data.event_type()),
            system: event.system,
            fields: &data,
            count: None,
            learn: false,
        };
        self.found.clear();
        self.engine
            .matches(&element, &mut self.scratch, &mut self.found);
        let abouts = self.found.iter();
        Ok(abouts
            .filter_map(|number| self.abouts.get(*number as usize).cloned())
            .collect())
    }
}

fn left_out(about: &About, why: &str) {
    let text = format!("left out: {}: {why}", about.name);
    eprintln!("{}", output::line(&text));
}

/// Whether a condition asks for counts of the fleet.
fn counts(expr: &Expr) -> bool {
    match expr {
        Expr::Test(predicate) => matches!(predicate.test, Test::Count(_)),
        Expr::All(parts) | Expr::Any(parts) => parts.iter().any(counts),
        Expr::Not(part) => counts(part),
        Expr::Const(_) => false,
        Expr::Written(written) => counts(&written.expr),
    }
}

fn tell(about: &About, event: &Event, json: bool) -> anyhow::Result<()> {
    if json {
        return output::json_lines([Found {
            rule: &about.id,
            title: &about.name,
            level: &about.severity,
            event,
        }]);
    }
    let [time, host, kind, what] = search::row(event);
    let text = format!(
        "{time}  {host}  {kind}  {}: {}: {what}",
        about.severity, about.name
    );
    output::print(&format!("{}\n", output::line(&text)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

    use yinglong_rules::ir::Target as Reads;

    use super::*;

    fn event(command: &str) -> Event {
        let time = "2026-11-25T10:00:00Z";
        serde_json::from_value(json!({
            "id": "1", "agent_id": "00000000000000000000000000000001", "ip": "192.0.2.1",
            "hostname": "web-1", "system": "linux", "seq": 1, "time": time, "observed_at": time,
            "ingested_at": time, "type": "process",
            "data": {"name": "/usr/bin/cat", "command": command},
        }))
        .unwrap()
    }

    fn rules(text: &str) -> Vec<Compiled> {
        let (rules, found) = yinglong_rules::read(text, "");
        assert_eq!(found, []);
        yinglong_rules::compile(&rules, &ruleset::Lists::new()).rules
    }

    const RULE: &str = "title: Accounts\nid: 0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4b01\n\
        logsource: {product: linux, category: process_creation}\n\
        detection: {s: {CommandLine|contains: /etc/shadow}, condition: s}\nlevel: high\n";

    #[test]
    fn stored_events_are_judged_as_new_ones_are() {
        let mut hunt = Hunt::new(rules(RULE));
        assert_eq!(hunt.classes, [Class::PROCESS]);
        let found = hunt.judge(&event("cat /etc/shadow")).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].name, "Accounts");
        assert!(hunt.judge(&event("cat /etc/hosts")).unwrap().is_empty());
    }

    #[test]
    fn rules_that_stored_events_cannot_answer_are_left_out() {
        let mut all = rules(RULE);
        let mut inventory = all[0].clone();
        inventory.targets = vec![Reads {
            class: Source::from_name("crontab").unwrap().into(),
            ..all[0].targets[0].clone()
        }];
        all.push(inventory);
        let first_seen = yinglong_rules::default_rules();
        let first_seen = first_seen
            .iter()
            .find(|(file, _)| file.ends_with("process-first-seen.json"));
        all.extend(rules(first_seen.unwrap().1));
        assert!(all.len() > 2);
        assert_eq!(Hunt::new(all).abouts.len(), 1);
    }
}
