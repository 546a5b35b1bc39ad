//! `yinglong audit`: who changed what.

use yinglong_api::routes::administration::Audit;

use crate::{client::Target, output};

/// Shows who changed what.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Entries to show, 1 to 1000.
    #[arg(long, default_value_t = 100)]
    limit: u32,
    /// Prints one line of JSON per entry.
    #[arg(long)]
    json: bool,
}

/// Prints the newest entries.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let limit = [("limit", args.limit.to_string())];
    let Audit { entries } = args.target.client()?.get("/audit", &limit)?;
    if args.json {
        return output::json_lines(entries);
    }
    let rows = entries.iter().map(|entry| {
        [
            output::time(entry.at),
            output::short(&entry.actor, 32),
            output::short(&entry.address, 40),
            output::short(&entry.action, 24),
            output::short(&entry.subject, 48),
            output::short(&entry.detail.to_string(), 100),
        ]
    });
    output::table(["TIME", "WHO", "FROM", "WHAT", "ON", "DETAIL"], rows)
}
