//! `yinglong intel`: feeds of indicators.

use std::{fs::File, path::PathBuf};

use anyhow::{Context as _, bail};
use yinglong_api::routes::intelligence::{Feed, FeedList, Lookup};

use crate::{client::Target, output};

/// Manages feeds of threat intelligence.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Puts a file of indicators in force, in place of the feed of that name.
    Import {
        #[command(flatten)]
        target: Target,
        /// List with an indicator per line, CSV, STIX bundle or MISP event.
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Name of the feed: a-z, 0-9, `.`, `_` and `-`.
        #[arg(long)]
        name: String,
        /// Format of the file; found out when absent.
        #[arg(long, value_parser = ["plain", "csv", "stix", "misp"])]
        format: Option<String>,
        /// Level of hits: 0 danger, 1 suspicious, 2 hint.
        #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
        level: Option<u8>,
        /// Days after which indicators expire that state no end.
        #[arg(long, value_name = "DAYS")]
        expires: Option<u32>,
    },
    /// Lists the feeds.
    List {
        #[command(flatten)]
        target: Target,
        /// Prints one line of JSON per feed.
        #[arg(long)]
        json: bool,
    },
    /// Removes a feed; its indicators match nothing from then on.
    Remove {
        #[command(flatten)]
        target: Target,
        /// Name of the feed.
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Shows what the feeds say about a value. Succeeds only if they know it.
    Lookup {
        #[command(flatten)]
        target: Target,
        /// Address, network, domain, URL, hash or path.
        #[arg(value_name = "VALUE")]
        value: String,
        /// Prints the answer as JSON.
        #[arg(long)]
        json: bool,
    },
}

/// Does what is asked.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.action {
        Action::Import {
            target,
            file,
            name,
            format,
            level,
            expires,
        } => {
            let opened =
                File::open(file).with_context(|| format!("cannot read `{}`", file.display()))?;
            let query: Vec<(&str, String)> = [
                format.clone().map(|format| ("format", format)),
                level.map(|level| ("level", level.to_string())),
                expires.map(|days| ("expires_days", days.to_string())),
            ]
            .into_iter()
            .flatten()
            .collect();
            let feed: Feed = target.client()?.upload(&path(name), &query, &opened)?;
            report(&feed)
        }
        Action::List { target, json } => {
            let FeedList { feeds } = target.client()?.get("/intelligence/feeds", &[])?;
            if *json {
                return output::json_lines(feeds);
            }
            let rows = feeds.iter().map(|feed| {
                [
                    output::short(&feed.name, 64),
                    output::short(&feed.format, 8),
                    output::level(feed.level).to_owned(),
                    feed.indicators.to_string(),
                    feed.expired.to_string(),
                    output::bytes(feed.memory_bytes),
                    output::time(feed.uploaded_at),
                    output::short(feed.problem.as_deref().unwrap_or_default(), 80),
                ]
            });
            let header = [
                "NAME",
                "FORMAT",
                "LEVEL",
                "INDICATORS",
                "EXPIRED",
                "MEMORY",
                "UPLOADED",
                "PROBLEM",
            ];
            output::table(header, rows)
        }
        Action::Remove { target, name } => target.client()?.delete(&path(name)),
        Action::Lookup {
            target,
            value,
            json,
        } => {
            let query = [("value", value.clone())];
            let found: Lookup = target.client()?.get("/intelligence/lookup", &query)?;
            let known = !found.hits.is_empty();
            if *json {
                output::json_lines([&found])?;
            } else {
                let rows = found.hits.iter().map(|hit| {
                    [
                        output::level(hit.level).to_owned(),
                        output::short(&hit.feed, 64),
                        output::short(&hit.indicator, 64),
                        hit.confidence
                            .map(|sure| sure.to_string())
                            .unwrap_or_default(),
                        hit.valid_until.map(output::time).unwrap_or_default(),
                        output::short(&hit.label, 80),
                    ]
                });
                if known {
                    output::table(
                        ["LEVEL", "FEED", "INDICATOR", "CONFIDENCE", "UNTIL", "LABEL"],
                        rows,
                    )?;
                }
            }
            if !known {
                bail!("no feed knows {} `{}`", found.kind, found.value);
            }
            Ok(())
        }
    }
}

fn report(feed: &Feed) -> anyhow::Result<()> {
    for found in &feed.diagnostics {
        let text = format!("line {}: {}: {}", found.line, found.text, found.reason);
        eprintln!("{}", output::line(&text));
    }
    let listed = feed.diagnostics.len() as u64;
    if feed.refused > listed {
        eprintln!("and {} more", feed.refused - listed);
    }
    for (reason, count) in &feed.skipped {
        eprintln!("{count} left out: {}", output::line(reason));
    }
    output::print(&format!(
        "{} indicators of feed {} ({}) in force, {} entries refused\n",
        feed.indicators,
        output::line(&feed.name),
        output::line(&feed.format),
        feed.refused
    ))
}

fn path(name: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(name.as_bytes()).collect();
    format!("/intelligence/feeds/{}", encoded.replace('+', "%20"))
}
