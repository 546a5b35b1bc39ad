//! `yinglong-scanner`: limits itself, then answers what the agent asks.

#![forbid(unsafe_code)]

use std::{io, os::fd::AsFd as _, path::PathBuf, process::ExitCode, time::Duration};

use clap::Parser;
use tracing_subscriber::EnvFilter;
use yinglong_scanner::{inbox::Inbox, limits, look, rules, serve};

/// Scans files with YARA rules. Started by yinglong-agent; reads questions from standard input.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Folder of rules (*.yar, *.yara) to use instead of those built in.
    #[arg(long, env = "YINGLONG_YARA_RULES")]
    rules: Option<PathBuf>,
    /// Most memory, in MiB.
    #[arg(long, env = "YINGLONG_SCANNER_MEMORY", default_value_t = 512, value_parser = clap::value_parser!(u64).range(64..=65_536))]
    memory_mib: u64,
    /// Largest file that is scanned, in bytes.
    #[arg(long, env = "YINGLONG_SCANNER_BYTES", default_value_t = 10 << 20)]
    max_bytes: u64,
    /// Longest time for one file, in seconds.
    #[arg(long, env = "YINGLONG_SCANNER_SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=300))]
    seconds: u64,
    /// Share of one processor it may take on average, in percent.
    #[arg(long, env = "YINGLONG_SCANNER_CPU", default_value_t = 25, value_parser = clap::value_parser!(u8).range(1..=100))]
    cpu_percent: u8,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("YINGLONG_LOG").unwrap_or_else(|_| EnvFilter::new("warn")),
        )
        .with_ansi(false)
        .with_writer(io::stderr)
        .init();
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    limits::confine(arguments.memory_mib << 20)?;
    let loaded = rules::load(arguments.rules.as_deref())?;
    for complaint in &loaded.broken {
        tracing::warn!(complaint, "a file of rules is left out");
    }
    let limits = look::Limits {
        bytes: arguments.max_bytes,
        time: Duration::from_secs(arguments.seconds),
    };
    let answered = serve::serve(
        &loaded,
        limits,
        arguments.cpu_percent,
        Inbox::new(io::stdin().as_fd().try_clone_to_owned()?),
        io::stdout().lock(),
    );
    match answered {
        // The agent is gone: that is how this process ends.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
