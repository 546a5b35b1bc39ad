//! `yinglong metrics`: Prometheus text.

use crate::{client::Target, output};

/// Prints the metrics.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
}

/// Prints them as the server renders them.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let mut answer = args.target.client()?.open("/metrics", &[])?;
    output::print(&answer.body_mut().read_to_string()?)
}
