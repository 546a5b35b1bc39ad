//! `yinglong-agent status`: what the running agent does.

use std::process::ExitCode;

use anyhow::Context as _;
use yinglong_agent::worker;

use super::{State, books};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: State,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let path = worker::status_path(&args.state.state);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("no status in {}; is the agent running?", path.display()))?;
    if args.json {
        println!("{text}");
        return Ok(ExitCode::SUCCESS);
    }
    let status: worker::Status = serde_json::from_str(&text).context("the status is unreadable")?;
    print!("{}", books(&status.report.ledger));
    Ok(ExitCode::SUCCESS)
}
