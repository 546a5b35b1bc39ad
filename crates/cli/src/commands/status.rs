//! `yinglong status`: the dashboard in a few lines.

use yinglong_api::routes::{overview::Overview, session::Status};

use crate::{
    client::Target,
    output::{self, bytes},
};

/// Shows how the fleet is.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Prints one line of JSON.
    #[arg(long)]
    json: bool,
}

/// Prints the dashboard's numbers.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.target.client()?;
    let overview: Overview = client.get("/overview", &[])?;
    if args.json {
        return output::json_lines([overview]);
    }
    let status: Status = client.get("/status", &[])?;
    let Overview {
        hosts,
        alerts,
        events,
        ledger,
        server,
        ..
    } = &overview;
    let mut rows = vec![
        (
            "server",
            format!(
                "{}, up since {}, {} of memory",
                server.version,
                output::time(server.started_at),
                bytes(server.rss_bytes)
            ),
        ),
        (
            "hosts",
            format!(
                "{}: {} healthy, {} offline, {} blocked",
                hosts.total, hosts.healthy, hosts.offline, hosts.blocked
            ),
        ),
        (
            "open alerts",
            format!(
                "{} danger, {} suspicious, {} hint",
                alerts.open.danger, alerts.open.suspicious, alerts.open.hint
            ),
        ),
        (
            "other alerts",
            format!("{} learned; {} raised today", alerts.learned, alerts.today),
        ),
        (
            "events",
            format!("{} stored in {}", events.stored, bytes(events.bytes)),
        ),
        (
            "books",
            format!(
                "{} observed, {} stored, {} filtered, {} dropped",
                ledger.emitted, ledger.stored, ledger.filtered, ledger.dropped
            ),
        ),
        (
            "mode",
            if overview.learn {
                "learning: alerts are kept, none is raised"
            } else {
                "alerting"
            }
            .to_owned(),
        ),
    ];
    if status.setup_required {
        rows.push((
            "setup",
            "no administrator yet; run `yinglong setup`".to_owned(),
        ));
    }
    for (name, value) in rows {
        output::print(&format!("{name:<13} {}\n", output::line(&value)))?;
    }
    Ok(())
}
