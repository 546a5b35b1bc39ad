//! `yinglong rules explain`: why rules do or do not match one event.

use std::{
    io::Cursor,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use serde_json::Value;
use yinglong_detect::{
    Element,
    example::Example,
    explain::{Part, Trace, trace},
};
use yinglong_model::event::System;
use yinglong_replay::{Reader, Record};
use yinglong_rules::{Compiled, taxonomy::Feed};

use crate::{
    output,
    recording::Recording,
    ruleset::{self, Sources},
};

/// Shows every part of the condition of rules with its truth for one event; needs no server.
#[derive(clap::Args)]
pub(super) struct Args {
    /// File with rules.
    #[arg(value_name = "RULE_FILE")]
    rules: PathBuf,
    /// The event as JSON: as exported, as Windows events, or as in the examples of rules.
    #[arg(long, value_name = "JSON", required_unless_present = "record")]
    event: Option<String>,
    /// A record of a recording, by the number that `yinglong replay` prints.
    #[arg(long, value_name = "FILE:NUMBER", conflicts_with = "event")]
    record: Option<String>,
    /// JSON file with named lists for placeholders: {"name": ["value"]}.
    #[arg(long, value_name = "FILE")]
    lists: Option<PathBuf>,
}

/// What is explained.
enum Subject {
    Example(Box<Example>),
    Record(Record),
}

/// Does what is asked.
pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let subject = subject(args)?;
    let feed = match subject {
        Subject::Example(_) => Feed::Agents,
        Subject::Record(_) => Feed::Recordings,
    };
    let lists = ruleset::lists(args.lists.as_deref())?;
    let sources = Sources::read(std::slice::from_ref(&args.rules))?;
    let set = sources.compile(lists, feed);
    ruleset::report(&sources, &set);
    for correlation in &set.correlations {
        let name = &correlation.about.name;
        let text = format!("`{name}` is about several events; its members are explained alone");
        eprintln!("{}", output::line(&text));
    }
    if set.rules.is_empty() {
        bail!("no rule of `{}` can be explained", args.rules.display());
    }
    for rule in &set.rules {
        match &subject {
            Subject::Example(example) => explain(rule, &[example.element()])?,
            Subject::Record(record) => {
                let views: Vec<Recording<'_>> = record.views.iter().map(Recording).collect();
                let elements: Vec<Element<'_>> = views.iter().map(Recording::element).collect();
                explain(rule, &elements)?;
            }
        }
    }
    Ok(())
}

fn subject(args: &Args) -> anyhow::Result<Subject> {
    if let Some(named) = &args.record {
        let parts = named.rsplit_once(':').and_then(|(file, number)| {
            let number: u64 = number.parse().ok()?;
            Some((file, number))
        });
        let (file, number) = parts.context("write --record FILE:NUMBER, as replay prints it")?;
        let reader = Reader::open(Path::new(file))?;
        let found = record(reader, Some(number))?;
        let found = found.with_context(|| format!("`{file}` has no record {number}"))?;
        return Ok(Subject::Record(found));
    }
    let text = args.event.as_deref().unwrap_or_default();
    let written: Value = serde_json::from_str(text).context("the event is not JSON")?;
    if written.get("fields").is_some() {
        let example = Example::read(&written);
        let example = example.map_err(|reason| anyhow!("the event cannot be used: {reason}"))?;
        return Ok(Subject::Example(Box::new(example)));
    }
    let input = Box::new(Cursor::new(serde_json::to_vec(&written)?));
    let found = record(Reader::new(Path::new("event"), input, None)?, None)?;
    let found = found.context(
        "the event is of no kind that is known; write it as exported: {\"type\": ..., \"data\": ...}",
    )?;
    Ok(Subject::Record(found))
}

fn record(reader: Reader, number: Option<u64>) -> anyhow::Result<Option<Record>> {
    for record in reader {
        let record = record?;
        if number.is_none_or(|number| record.number == number) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

fn explain(rule: &Compiled, elements: &[Element<'_>]) -> anyhow::Result<()> {
    let about = &rule.about;
    let mut text = output::line(&format!("{} ({})", about.name, about.id)) + "\n";
    let mut read = false;
    for element in elements {
        let traced = trace(rule, element);
        let traced = traced.map_err(|reason| anyhow!("`{}`: {reason}", about.name))?;
        let Some(traced) = traced else { continue };
        read = true;
        let verdict = if traced.holds {
            "matches"
        } else {
            "does not match"
        };
        let (class, system) = (element.class.as_str(), system(element.system));
        text += &format!("{verdict} this {class} event on {system}\n");
        show(&traced, 1, &mut text);
    }
    if !read {
        let reads = rule.targets.iter().map(|target| {
            let (class, system) = (target.class.as_str(), system(target.system));
            format!("{class} on {system}")
        });
        let has = elements.iter().map(|element| {
            let (class, system) = (element.class.as_str(), system(element.system));
            format!("{class} on {system}")
        });
        text += &format!(
            "does not match: it reads {}; this is {}\n",
            reads.collect::<Vec<_>>().join(", "),
            has.collect::<Vec<_>>().join(", ")
        );
    }
    output::print(&text)
}

/// One line per part, indented by depth.
fn show(trace: &Trace, depth: usize, text: &mut String) {
    let mut parts: &[Trace] = &[];
    let words = match &trace.part {
        Part::Test {
            field,
            condition,
            value,
            spans,
        } => {
            let field = field.as_deref().unwrap_or("keyword");
            let value = match value {
                Some(value) => format!("{value:?}"),
                None => "not set".to_owned(),
            };
            let spans = spans
                .iter()
                .map(|(start, end)| format!(" [{start}..{end}]"));
            format!("{field} {condition}: {value}{}", spans.collect::<String>())
        }
        Part::All(all) => {
            parts = all;
            "all of".to_owned()
        }
        Part::Any(any) => {
            parts = any;
            "any of".to_owned()
        }
        Part::Not(part) => {
            parts = std::slice::from_ref(&**part);
            "not".to_owned()
        }
        Part::Const => "decided by the rule itself".to_owned(),
        Part::Written {
            field,
            condition,
            part,
        } => {
            parts = std::slice::from_ref(&**part);
            format!("{field}: {condition}")
        }
    };
    let mark = if trace.holds { "true " } else { "false" };
    *text += &format!("{}{mark} {}\n", "  ".repeat(depth), output::line(&words));
    for part in parts {
        show(part, depth + 1, text);
    }
}

const fn system(system: System) -> &'static str {
    match system {
        System::Linux => "linux",
        System::Windows => "windows",
    }
}
