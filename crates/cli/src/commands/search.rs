//! `yinglong search`: events, inventories and statistics in the search language.

use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use yinglong_api::{
    routes::events::{Elements, Events, Statistics},
    views::Event,
};
use yinglong_model::Timestamp;
use yinglong_store::{Query, query::Target as Kind};

use crate::{
    client::{Client, Target},
    output,
};

/// Most rows one request answers.
const PAGE: u32 = 1000;

/// Searches events, inventories and statistics.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// For example `type:process | name:bash`.
    query: String,
    /// Only what happened since: 15m, 12h, 7d, or a time like 2026-01-31T09:30:00Z.
    #[arg(long)]
    since: Option<String>,
    /// Only what happened before; like --since.
    #[arg(long)]
    until: Option<String>,
    /// Rows to show.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Prints one line of JSON per row.
    #[arg(long)]
    json: bool,
}

/// Asks the route that the query is for.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let query = Query::parse(&args.query).map_err(|error| match &error.suggestion {
        Some(name) => anyhow::anyhow!("{error}; did you mean `{name}`?"),
        None => anyhow::anyhow!("{error}; a query looks like `type:process | name:bash`"),
    })?;
    let client = args.target.client()?;
    if query.is_statistics() {
        statistics(&client, args)
    } else if matches!(query.kind, Some(Kind::Inventory(_))) {
        inventories(&client, args)
    } else {
        events(&client, args)
    }
}

fn events(client: &Client, args: &Args) -> anyhow::Result<()> {
    let mut fixed = vec![("q", args.query.clone())];
    for (name, value) in [("since", &args.since), ("until", &args.until)] {
        if let Some(value) = value {
            fixed.push((name, moment(value)?));
        }
    }
    let (mut left, mut cursor, mut rows) = (args.limit, None::<String>, Vec::new());
    while left > 0 {
        let mut query = fixed.clone();
        query.push(("limit", left.min(PAGE).to_string()));
        query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
        let page: Events = client.get("/events", &query)?;
        left = left.saturating_sub(u32::try_from(page.events.len()).unwrap_or(u32::MAX));
        if page.partial {
            eprintln!(
                "yinglong: the search took too long and is incomplete; narrow its time range"
            );
        }
        if args.json {
            output::json_lines(page.events)?;
        } else {
            rows.extend(page.events.iter().map(row));
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    if args.json {
        return Ok(());
    }
    output::table(["TIME", "HOST", "TYPE", "WHAT"], rows)
}

/// Time, host, type and summary of an event, safe to show.
pub(crate) fn row(event: &Event) -> [String; 4] {
    let field = |name: &str| match event.data.get(name) {
        Some(serde_json::Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let list = |name: &str| match event.data.get(name) {
        Some(serde_json::Value::Array(parts)) => {
            let texts: Vec<&str> = parts.iter().filter_map(serde_json::Value::as_str).collect();
            texts.join(",")
        }
        _ => String::new(),
    };
    let kind = event.kind.as_str();
    let what = match kind {
        "process" => format!("{} [{}] {}", field("name"), field("pid"), field("command")),
        "connection" => format!(
            "{} {} {} -> {} {}",
            field("dir"),
            field("protocol"),
            field("local"),
            field("remote"),
            field("name")
        ),
        "file" => format!("{} {} {}", field("action"), field("path"), field("user")),
        "dns" => format!(
            "{} {} {} {} {}",
            field("qtype"),
            field("query"),
            field("rcode"),
            list("answers"),
            field("name")
        ),
        "exit" => format!(
            "{} {} {} [{}]",
            field("signal"),
            field("exit_code"),
            field("name"),
            field("pid")
        ),
        "loss" => format!(
            "{} {} not recorded: {} {}",
            field("count"),
            field("stream"),
            field("reason"),
            [field("container_id"), field("cgroup"), field("user")]
                .join(" ")
                .trim()
        ),
        "syscall" => format!(
            "{} {} {} {} [{}]",
            field("call"),
            field("target"),
            if field("success") == "true" {
                "ok".to_owned()
            } else {
                field("errno")
            },
            field("name"),
            field("pid")
        ),
        _ => format!(
            "{} from {} status {}",
            field("username"),
            field("remote"),
            field("status")
        ),
    };
    [
        output::time(event.time),
        output::short(&event.hostname, 24),
        kind.to_owned(),
        output::short(&what, 160),
    ]
}

fn inventories(client: &Client, args: &Args) -> anyhow::Result<()> {
    let limit = args.limit.min(PAGE).to_string();
    let found: Elements = client.get(
        "/inventories",
        &[("q", args.query.clone()), ("limit", limit)],
    )?;
    if args.json {
        return output::json_lines(found.elements);
    }
    let rows = found.elements.iter().map(|element| {
        let fields: Vec<String> = element
            .data
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        [
            output::short(&element.hostname, 24),
            output::short(&element.ip, 40),
            output::short(&fields.join("  "), 160),
        ]
    });
    output::table(["HOST", "ADDRESS", "WHAT"], rows)
}

fn statistics(client: &Client, args: &Args) -> anyhow::Result<()> {
    let limit = args.limit.min(PAGE).to_string();
    let found: Statistics = client.get(
        "/statistics",
        &[("q", args.query.clone()), ("limit", limit)],
    )?;
    if args.json {
        return output::json_lines(found.statistics);
    }
    let rows = found.statistics.iter().map(|statistic| {
        [
            statistic.kind.clone(),
            output::short(&statistic.info, 120),
            statistic.count.to_string(),
            statistic.exist_count.to_string(),
            output::time(statistic.uptime),
        ]
    });
    output::table(["TYPE", "VALUE", "TIMES", "HOSTS", "LAST"], rows)
}

/// A point in time: RFC 3339, or so long ago.
pub(crate) fn moment(text: &str) -> anyhow::Result<String> {
    moment_at(text, Timestamp::from(SystemTime::now()))
}

fn moment_at(text: &str, now: Timestamp) -> anyhow::Result<String> {
    let ago = text.char_indices().last().and_then(|(last, unit)| {
        let number: u64 = text.get(..last)?.parse().ok()?;
        let unit_secs = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        number.checked_mul(unit_secs)
    });
    match ago {
        Some(secs) => Ok(now.minus(Duration::from_secs(secs)).to_string()),
        None => Timestamp::parse_rfc3339(text)
            .map(|time| time.to_string())
            .context("use 15m, 12h, 7d, or a time with its offset"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_absolute_or_ago() {
        let now = Timestamp::from_secs(1_764_000_000);
        for (text, expected) in [
            ("10s", Some("2025-11-24T15:59:50Z")),
            ("90m", Some("2025-11-24T14:30:00Z")),
            ("2h", Some("2025-11-24T14:00:00Z")),
            ("1d", Some("2025-11-23T16:00:00Z")),
            ("2026-01-31T09:30:00+01:00", Some("2026-01-31T08:30:00Z")),
            ("yesterday", None),
            ("", None),
            ("-5m", None),
            ("99999999999999999999d", None),
        ] {
            assert_eq!(moment_at(text, now).ok().as_deref(), expected, "{text}");
        }
    }
}
