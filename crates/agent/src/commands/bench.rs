//! `yinglong-agent bench`: what the agent costs this machine and what it misses.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::bail;
use clap::{Subcommand, ValueEnum};
use yinglong_agent::bench::{
    self, Plan, Watcher, churn, idle,
    storm::{self, Kind, Order},
};

use super::{print, stop_on_signals};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The same storm, alternately without and with the agent's sensors.
    Storm(Storm),
    /// Small storms of every kind for a long time: whether the agent's memory grows.
    Churn(Churn),
    /// What the agent costs while nothing happens.
    Idle(Idle),
    /// The storm itself, in a process of its own.
    #[command(hide = true)]
    Work { order: String },
    /// The measured agent.
    #[command(hide = true)]
    Observe {
        state: PathBuf,
        watched: PathBuf,
        /// Let go of what is in the spool whenever asked.
        #[arg(long)]
        release: bool,
    },
}

/// Starts its own sensors with a temporary folder and tells no server. Needs root, as the agent does.
/// Ends with status 1 when the agent missed an operation.
#[derive(Debug, clap::Args)]
struct Storm {
    /// What to do over and over.
    kind: Stormy,
    /// Operations per storm.
    #[arg(long, default_value_t = 10_000)]
    count: u32,
    /// Storms per watcher, in turns.
    #[arg(long, default_value_t = 3)]
    runs: u32,
    /// Workers, each pinned to a processor; as many as there are processors, up to 16, unless given.
    #[arg(long)]
    workers: Option<usize>,
    /// Who watches besides the agent: none is the baseline. Peers are used if they are installed
    /// and have something to say about this kind of storm, and are left as they were.
    #[arg(long, value_delimiter = ',', default_value = "none")]
    beside: Vec<Beside>,
    /// As JSON, with every run.
    #[arg(long)]
    json: bool,
}

/// Ends with status 1 when the agent lost something, or its books do not balance.
#[derive(Debug, clap::Args)]
struct Churn {
    /// How long, in minutes.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1440))]
    minutes: u32,
    /// Operations of each kind per round; a round follows the other by a second.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    count: u32,
    /// As JSON, with every look.
    #[arg(long)]
    json: bool,
}

/// Figures are worth what the machine is quiet: what the agent observed meanwhile is told.
#[derive(Debug, clap::Args)]
struct Idle {
    /// How long, in seconds.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// As JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Stormy {
    /// Execute a program that does nothing.
    Exec,
    /// Create, write, close and remove a file.
    File,
    /// Connect over loopback and reset.
    Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Beside {
    /// Nobody watches.
    None,
    /// auditd with one rule.
    Auditd,
    /// bpftrace with one probe.
    Bpftrace,
    /// fatrace, which prints what fanotify tells.
    Fatrace,
    /// tcpdump, which writes down requests for connections.
    Tcpdump,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Storm(storm) => measure(storm),
        What::Work { order } => {
            let order: Order = serde_json::from_str(order)?;
            print(&format!(
                "{}\n",
                serde_json::to_string(&storm::work(&order)?)?
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        What::Churn(churn) => endure(churn),
        What::Idle(idle) => watch(idle),
        What::Observe {
            state,
            watched,
            release,
        } => {
            let (input, output) = (std::io::stdin().lock(), std::io::stdout().lock());
            bench::serve(state, watched, *release, input, output)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Time for first lists, which are no part of idling.
const SETTLE: Duration = Duration::from_secs(5);

fn watch(args: &Idle) -> anyhow::Result<ExitCode> {
    let idle = idle::idle(SETTLE, Duration::from_secs(u64::from(args.seconds)))?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&idle)?))?;
    } else {
        print(&idle.table())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn endure(args: &Churn) -> anyhow::Result<ExitCode> {
    let stop = stop_on_signals()?;
    let plan = churn::Plan {
        time: Duration::from_secs(60 * u64::from(args.minutes)),
        count: args.count,
        workers: storm::cpus()?.len().min(16),
    };
    let churn = churn::churn(&plan, &stop, &|line| eprintln!("{line}"))?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&churn)?))?;
    } else {
        print(&churn.table())?;
    }
    Ok(match churn.drops.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn measure(args: &Storm) -> anyhow::Result<ExitCode> {
    if args.count == 0 || args.count > storm::MOST || args.runs == 0 {
        bail!(
            "--count must be from 1 to {}, and --runs at least 1",
            storm::MOST
        );
    }
    let stop = stop_on_signals()?;
    let cpus = storm::cpus()?.len();
    let mut watchers = vec![Watcher::None, Watcher::Agent];
    for beside in &args.beside {
        let watcher = match beside {
            Beside::None => Watcher::None,
            Beside::Auditd => Watcher::Auditd,
            Beside::Bpftrace => Watcher::Bpftrace,
            Beside::Fatrace => Watcher::Fatrace,
            Beside::Tcpdump => Watcher::Tcpdump,
        };
        if !watchers.contains(&watcher) {
            watchers.push(watcher);
        }
    }
    let plan = Plan {
        kind: match args.kind {
            Stormy::Exec => Kind::Exec,
            Stormy::File => Kind::File,
            Stormy::Connect => Kind::Connect,
        },
        count: args.count,
        runs: args.runs,
        workers: args.workers.unwrap_or(cpus.min(16)).clamp(1, 1024),
        watchers,
    };
    let report = bench::run(&plan, &stop, &|line| eprintln!("{line}"))?;
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else {
        print(&report.table())?;
    }
    Ok(match report.lost_by_agent() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
