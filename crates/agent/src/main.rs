//! `yinglong-agent`: arguments in, one of the agent's parts running.
//!
//! Each command is one file in `commands`; adding one is a file and a line in [`Command`].

#![forbid(unsafe_code)]

mod commands;

use std::{io::IsTerminal as _, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

/// Observes this host and reports to a Yinglong server.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join this host to a server with a join token.
    Enrol(commands::enrol::Args),
    /// Keep a worker running; what the service runs.
    Daemon(commands::daemon::Args),
    /// Observe and report in this process, without a daemon; with --debug, print instead of report.
    Run(commands::run::Args),
    /// Show what the running agent does.
    Status(commands::status::Args),
    /// Examine what this host offers the agent, what is missing, and what to do about it.
    Doctor(commands::doctor::Args),
    /// Write what happens on this host into a file that `yinglong replay` reads.
    Record(commands::record::Args),
    /// Show which events of a recording this agent's filter keeps.
    Replay(commands::replay::Args),
    /// Measure on this machine what the agent costs and what it misses.
    Bench(commands::bench::Args),
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("YINGLONG_LOG").unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    yinglong_sensor_linux::heap::stay_small();
    yinglong_sensor_linux::name_service::stay_within_this_program();
    let done = |()| ExitCode::SUCCESS;
    let outcome = match Arguments::parse().command {
        Command::Enrol(args) => commands::enrol::run(&args).map(done),
        Command::Daemon(args) => commands::daemon::run(args).map(done),
        Command::Run(args) => commands::run::run(args).map(done),
        Command::Status(args) => commands::status::run(&args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Record(args) => commands::record::run(&args).map(done),
        Command::Replay(args) => commands::replay::run(&args).map(done),
        Command::Bench(args) => commands::bench::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) if commands::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
