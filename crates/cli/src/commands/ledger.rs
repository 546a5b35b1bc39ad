//! `yinglong ledger`: the books of every host and stream.

use yinglong_api::routes::administration::Ledger;

use crate::{client::Target, output};

/// Shows where every observed thing went.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// Prints one line of JSON per host.
    #[arg(long)]
    json: bool,
}

/// Prints the books.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let Ledger { hosts } = args.target.client()?.get("/ledger", &[])?;
    if args.json {
        return output::json_lines(hosts);
    }
    let rows = hosts.iter().flat_map(|host| {
        host.streams.iter().map(|(stream, books)| {
            let dropped: Vec<String> = books
                .dropped
                .iter()
                .map(|(reason, count)| format!("{reason}={count}"))
                .collect();
            [
                output::short(&host.hostname, 32),
                output::short(stream, 16),
                books.emitted.to_string(),
                books.filtered.to_string(),
                books.dropped.values().sum::<u64>().to_string(),
                books.stored.to_string(),
                books.in_flight.to_string(),
                if books.balanced { "yes" } else { "NO" }.to_owned(),
                output::short(&dropped.join(" "), 64),
            ]
        })
    });
    output::table(
        [
            "HOST",
            "STREAM",
            "OBSERVED",
            "FILTERED",
            "DROPPED",
            "STORED",
            "ON THE WAY",
            "BALANCED",
            "WHY",
        ],
        rows,
    )
}
