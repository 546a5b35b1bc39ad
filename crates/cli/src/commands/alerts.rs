//! `yinglong alerts`: what was noticed, so far or from now on.

use std::io::{BufRead as _, BufReader};

use yinglong_api::{routes::alerts::Alerts, views::Alert};
use yinglong_model::{alert::Status, rule::Level};

use crate::{
    client::{Client, Target},
    commands::search::moment,
    output,
};

/// Lists alerts, or follows them.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Only alerts with this status.
    #[arg(long, value_enum)]
    status: Option<StatusName>,
    /// Only alerts of this level.
    #[arg(long, value_enum)]
    level: Option<LevelName>,
    /// Only alerts of this host: name, address or agent id.
    #[arg(long)]
    host: Option<String>,
    /// Only alerts with this text in source, info or description.
    #[arg(long)]
    text: Option<String>,
    /// Only alerts raised since: 15m, 12h, 7d, or a time like 2026-01-31T09:30:00Z.
    #[arg(long)]
    since: Option<String>,
    /// Alerts to show, 1 to 1000.
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Prints one line of JSON per alert.
    #[arg(long)]
    json: bool,
    /// Goes on with new alerts until interrupted; needs a whole terminal line each.
    #[arg(long)]
    follow: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum StatusName {
    Open,
    Handled,
    Ignored,
    Learned,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum LevelName {
    Danger,
    Suspicious,
    Hint,
}

/// What is wanted, resolved.
#[derive(Default)]
struct Wanted {
    status: Option<Status>,
    level: Option<Level>,
    agent_id: Option<String>,
    text: Option<String>,
}

impl Wanted {
    fn fits(&self, alert: &Alert) -> bool {
        let contains = |text: &String| {
            let text = text.to_lowercase();
            [&alert.source, &alert.info, &alert.description]
                .iter()
                .any(|field| field.to_lowercase().contains(&text))
        };
        self.status.is_none_or(|status| alert.status == status)
            && self.level.is_none_or(|level| alert.level == level)
            && self
                .agent_id
                .as_ref()
                .is_none_or(|agent| alert.agent_id.as_str() == agent)
            && self.text.as_ref().is_none_or(contains)
    }
}

/// Prints alerts, newest first; followed ones as they come.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.target.client()?;
    let wanted = Wanted {
        status: args.status.map(|status| match status {
            StatusName::Open => Status::Open,
            StatusName::Handled => Status::Handled,
            StatusName::Ignored => Status::Ignored,
            StatusName::Learned => Status::Learned,
        }),
        level: args.level.map(|level| match level {
            LevelName::Danger => Level::Danger,
            LevelName::Suspicious => Level::Suspicious,
            LevelName::Hint => Level::Hint,
        }),
        agent_id: match &args.host {
            Some(host) => Some(super::hosts::find(&client, host)?.agent_id.to_string()),
            None => None,
        },
        text: args.text.clone(),
    };
    let mut query = vec![("limit", args.limit.to_string())];
    let numbers = [
        (
            "status",
            wanted.status.map(|status| status.code().to_string()),
        ),
        ("level", wanted.level.map(|level| level.code().to_string())),
        ("agent_id", wanted.agent_id.clone()),
        ("text", wanted.text.clone()),
        ("since", args.since.as_deref().map(moment).transpose()?),
    ];
    query.extend(
        numbers
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    // The stream is opened first, so that nothing falls between it and the list.
    let stream = if args.follow {
        Some(open(&client)?)
    } else {
        None
    };
    let page: Alerts = client.get("/alerts", &query)?;
    let shown = page.alerts.len() as u64;
    if args.json {
        output::json_lines(page.alerts)?;
    } else {
        output::table(
            [
                "TIME", "LEVEL", "STATUS", "HOST", "SOURCE", "INFO", "COUNT", "ID",
            ],
            page.alerts.iter().map(row),
        )?;
        if page.total > shown {
            output::print(&format!(
                "{shown} of {} alerts; --limit shows more\n",
                page.total
            ))?;
        }
    }
    match stream {
        Some(stream) => follow(stream, &wanted, args.json),
        None => Ok(()),
    }
}

fn row(alert: &Alert) -> [String; 8] {
    [
        output::time(alert.raised_at),
        output::level(alert.level).to_owned(),
        output::status(alert.status).to_owned(),
        output::short(&alert.hostname, 24),
        output::short(&alert.source, 40),
        output::short(&alert.info, 80),
        alert.count.to_string(),
        alert.id.chars().take(12).collect(),
    ]
}

type Stream = BufReader<ureq::BodyReader<'static>>;

fn open(client: &Client) -> anyhow::Result<Stream> {
    let answer = client.open("/api/v1/stream", &[("kinds", "alerts".to_owned())])?;
    Ok(BufReader::new(answer.into_body().into_reader()))
}

/// Server-sent events: `event:` names what the next `data:` holds.
fn follow(stream: Stream, wanted: &Wanted, json: bool) -> anyhow::Result<()> {
    let mut event = String::new();
    for line in stream.lines() {
        let line = line?;
        if let Some(name) = line.strip_prefix("event:") {
            name.trim().clone_into(&mut event);
        } else if let Some(data) = line.strip_prefix("data:") {
            match event.as_str() {
                "alert" => {
                    let alert: Alert = serde_json::from_str(data)?;
                    if !wanted.fits(&alert) {
                        continue;
                    }
                    if json {
                        output::json_lines([alert])?;
                    } else {
                        output::print(&format!("{}\n", row(&alert).join("  ")))?;
                    }
                }
                "lagged" => eprintln!("yinglong: some alerts were missed; list them again"),
                _ => {}
            }
        }
    }
    anyhow::bail!("the server closed the stream; follow again when it runs")
}
