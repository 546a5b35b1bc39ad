//! `yinglong selftest`: proves on this host that attacks are seen.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use serde_json::Value;
use yinglong_model::Timestamp;

use crate::{
    client::{Client, Target},
    output,
    selftest::{self, Host, Outcome, Plan, Sighting, Watch},
};

/// Does harmless, marked things an attacker would do on this host, and waits for their alerts.
///
/// Needs root, a server and an agent on this host. Everything it makes is removed again: files,
/// an account without a usable password, a scheduled job that never runs.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Leaves out what is only seen once per inventory cycle.
    #[arg(long)]
    quick: bool,
    /// Prints one line of JSON per behaviour.
    #[arg(long)]
    json: bool,
}

/// Runs the self-test; fails when something was missed.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        bail!("the self-test creates files and an account; run it as root");
    }
    let client = args.target.client()?;
    let console = Console::of_this_host(client)?;
    let plan = console.plan(args.quick)?;
    let outcomes = selftest::run(&plan, &console, |outcome| {
        if !args.json {
            eprintln!("{:<4} {}", verdict(outcome), outcome.behaviour);
        }
    });
    if args.json {
        output::json_lines(&outcomes)?;
    } else {
        table(&outcomes)?;
    }
    let missed = outcomes
        .iter()
        .filter(|outcome| outcome.is_missed())
        .count();
    if missed > 0 {
        bail!(
            "{missed} of {} behaviours were missed; look at `yinglong hosts`, `yinglong ledger` \
             and the agent's log",
            outcomes.len()
        );
    }
    Ok(())
}

fn verdict(outcome: &Outcome) -> &'static str {
    match outcome {
        _ if outcome.skipped.is_some() => "skip",
        _ if outcome.is_missed() => "MISS",
        _ => "ok",
    }
}

fn table(outcomes: &[Outcome]) -> anyhow::Result<()> {
    let yes = |seen: bool| if seen { "yes" } else { "NO" };
    let rows = outcomes.iter().map(|outcome| {
        let note = outcome.skipped.as_ref().or(outcome.error.as_ref());
        let (event, alert) = match outcome.skipped {
            Some(_) => ("-", "-"),
            None => (yes(outcome.event), yes(outcome.alert)),
        };
        let latency = outcome
            .latency_ms
            .map_or("-".to_owned(), |ms| format!("{ms} ms"));
        [
            outcome.behaviour.to_owned(),
            outcome.technique.to_owned(),
            event.to_owned(),
            alert.to_owned(),
            latency,
            note.cloned().unwrap_or_default(),
        ]
    });
    output::table(
        [
            "behaviour",
            "technique",
            "event",
            "alert",
            "latency",
            "note",
        ],
        rows,
    )
}

/// The server, asked about this host.
struct Console {
    client: Client,
    agent_id: String,
    host: Value,
}

impl Console {
    fn of_this_host(client: Client) -> anyhow::Result<Self> {
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let answer: Value = client.get("/hosts", &[])?;
        let newest = answer["hosts"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|host| host["hostname"] == own.trim() && host["health"] == 0)
            .max_by_key(|host| host["uptime"].as_str().map(str::to_owned))
            .with_context(|| {
                format!(
                    "no healthy agent of this host ({}) reports to the server",
                    own.trim()
                )
            })?;
        let agent_id = newest["agent_id"].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            host: newest.clone(),
            client,
            agent_id,
        })
    }

    fn plan(&self, quick: bool) -> anyhow::Result<Plan> {
        let config: Value = self.client.get("/config", &[])?;
        let settings = &config["client"];
        let texts = |value: &Value| -> Vec<String> {
            let list = value.as_array().into_iter().flatten();
            list.filter_map(Value::as_str).map(str::to_owned).collect()
        };
        let cycle = settings["cycle"]
            .as_u64()
            .context("the server tells no cycle")?;
        Ok(Plan {
            host: Host {
                web_roots: texts(&self.host["path"])
                    .into_iter()
                    .map(PathBuf::from)
                    .collect(),
                lan: settings["lan"] == true,
                dns: settings["dns"] != false,
                monitored: texts(&settings["monitorPath"]),
            },
            cycle: Duration::from_secs(cycle * 60),
            quick,
            run: rand::random(),
        })
    }
}

impl Watch for Console {
    fn alert(&self, rule: &str, text: &str) -> anyhow::Result<Option<Sighting>> {
        let query = [
            ("text", text.to_owned()),
            ("agent_id", self.agent_id.clone()),
            ("limit", "20".to_owned()),
        ];
        let answer: Value = self.client.get("/alerts", &query)?;
        let mut alerts = answer["alerts"].as_array().into_iter().flatten();
        let Some(alert) = alerts.find(|alert| alert["rule_id"] == rule) else {
            return Ok(None);
        };
        let happened = alert["time"].as_str().context("an alert has no time")?;
        let waited = Timestamp::from(SystemTime::now()).since(Timestamp::parse_rfc3339(happened)?);
        let latency_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        Ok(Some(Sighting { latency_ms }))
    }

    fn event(&self, query: &str) -> anyhow::Result<bool> {
        let query = [("q", query.to_owned()), ("limit", "1".to_owned())];
        let answer: Value = self.client.get("/events", &query)?;
        Ok(answer["events"]
            .as_array()
            .is_some_and(|events| !events.is_empty()))
    }

    fn inventory(&self, kind: &str, word: &str) -> anyhow::Result<bool> {
        let path = format!("/hosts/{}/inventories/{kind}", self.agent_id);
        let answer: Value = self.client.get(&path, &[])?;
        Ok(answer["data"].to_string().contains(word))
    }
}
