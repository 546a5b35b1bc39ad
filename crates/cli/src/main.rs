//! `yinglong`: the server, and the command line that talks to one.
//!
//! Each command is one file in `commands`; adding one is a file and a line in [`Command`].

#![forbid(unsafe_code)]

mod client;
mod commands;
mod json_place;
mod output;
mod recording;
mod ruleset;
mod selftest;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Host intrusion detection: server, console and administration.
#[derive(Parser)]
#[command(name = "yinglong", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs the server and its console.
    Server(commands::server::Args),
    /// Looks at where events are kept.
    Store(commands::store::Args),
    /// Creates the first administrator.
    Setup(commands::setup::Args),
    /// Shows how the fleet is.
    Status(commands::status::Args),
    /// Lists alerts, or follows them.
    Alerts(commands::alerts::Args),
    /// Searches events, inventories and statistics.
    Search(commands::search::Args),
    /// Runs rules over the stored events of a server.
    Hunt(commands::hunt::Args),
    /// Lists hosts.
    Hosts(commands::hosts::ListArgs),
    /// Changes one host.
    Host(commands::hosts::Args),
    /// Makes and lists join tokens.
    Token(commands::token::Args),
    /// Shows and changes the configuration.
    Config(commands::config::Args),
    /// Lists, checks, imports and exports rules.
    Rules(commands::rules::Args),
    /// Manages feeds of threat intelligence.
    Intel(commands::intel::Args),
    /// Runs recorded events through rules, without a server.
    Replay(commands::replay::Args),
    /// Shows where every observed thing went.
    Ledger(commands::ledger::Args),
    /// Shows who changed what.
    Audit(commands::audit::Args),
    /// Prints the metrics.
    Metrics(commands::metrics::Args),
    /// Proves on this host that attacks are seen.
    Selftest(commands::selftest::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Server(args) => commands::server::run(args),
        Command::Store(args) => commands::store::run(&args),
        Command::Setup(args) => commands::setup::run(&args),
        Command::Status(args) => commands::status::run(&args),
        Command::Alerts(args) => commands::alerts::run(&args),
        Command::Search(args) => commands::search::run(&args),
        Command::Hunt(args) => commands::hunt::run(&args),
        Command::Hosts(args) => commands::hosts::list(&args),
        Command::Host(args) => commands::hosts::run(&args),
        Command::Token(args) => commands::token::run(&args),
        Command::Config(args) => commands::config::run(&args),
        Command::Rules(args) => commands::rules::run(&args),
        Command::Intel(args) => commands::intel::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
        Command::Ledger(args) => commands::ledger::run(&args),
        Command::Audit(args) => commands::audit::run(&args),
        Command::Metrics(args) => commands::metrics::run(&args),
        Command::Selftest(args) => commands::selftest::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("yinglong: {}", output::safe(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}
