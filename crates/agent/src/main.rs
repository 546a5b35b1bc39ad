//! `yinglong-agent`: arguments in, one of the agent's parts running.

#![forbid(unsafe_code)]

use std::{
    io::IsTerminal as _,
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use tracing_subscriber::EnvFilter;
use yinglong_agent::{daemon, enrol, scanner, sensors::Loaded, worker};

/// Observes this host and reports to a Yinglong server.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct State {
    /// Folder of everything the agent keeps.
    #[arg(
        long,
        env = "YINGLONG_AGENT_STATE",
        default_value = "/var/lib/yinglong-agent"
    )]
    state: PathBuf,
}

#[derive(Debug, Args)]
struct Line {
    /// A server, HOST:PORT; repeat it for more, in order of preference.
    #[arg(
        long = "server",
        env = "YINGLONG_SERVER",
        required = true,
        value_delimiter = ','
    )]
    servers: Vec<String>,
    /// Size of the spool in bytes; events are dropped and counted when it is full.
    #[arg(long, default_value_t = worker::SPOOL_BYTES)]
    spool_bytes: u64,
    /// Program that scans files with YARA rules: yinglong-scanner beside this program unless named
    /// here; `off` for none.
    #[arg(long, env = "YINGLONG_SCANNER")]
    scanner: Option<PathBuf>,
    /// Folder of YARA rules to use instead of those built into the scanner.
    #[arg(long, env = "YINGLONG_YARA_RULES")]
    yara_rules: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Join this host to a server with a join token.
    Enrol {
        #[command(flatten)]
        state: State,
        /// The server, HOST:PORT.
        #[arg(long, env = "YINGLONG_SERVER")]
        server: String,
        /// The token; better given in the environment, where other users cannot see it.
        #[arg(long, env = "YINGLONG_TOKEN", hide_env_values = true)]
        token: String,
    },
    /// Keep a worker running; what the service runs.
    Daemon {
        #[command(flatten)]
        state: State,
        #[command(flatten)]
        line: Line,
    },
    /// Observe and report in this process, without a daemon.
    Run {
        #[command(flatten)]
        state: State,
        #[command(flatten)]
        line: Line,
        /// BPF programs held by the daemon, as JSON.
        #[arg(long, hide = true)]
        adopt: Option<String>,
        /// Started by the daemon.
        #[arg(long, hide = true)]
        supervised: bool,
    },
    /// Show what the running agent does.
    Status {
        #[command(flatten)]
        state: State,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env("YINGLONG_LOG").unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Enrol {
            state,
            server,
            token,
        } => {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let token = token.parse()?;
            let identity = runtime.block_on(enrol::enrol(&server, &token, &state.state))?;
            println!("joined as {}", identity.agent.id);
            Ok(())
        }
        Command::Daemon { state, line } => {
            let stop = Arc::new(AtomicBool::new(false));
            stop_on_signals(&stop)?;
            let mut arguments = vec!["--spool-bytes".to_owned(), line.spool_bytes.to_string()];
            for (option, path) in [
                ("--scanner", line.scanner),
                ("--yara-rules", line.yara_rules),
            ] {
                if let Some(path) = path {
                    let path = path.into_os_string().into_string();
                    let path = path.map_err(|path| anyhow::anyhow!("{path:?} is no text"))?;
                    arguments.extend([option.to_owned(), path]);
                }
            }
            for server in line.servers {
                arguments.extend(["--server".to_owned(), server]);
            }
            daemon::run(&state.state, &arguments, &stop)
        }
        Command::Run {
            state,
            line,
            adopt,
            supervised,
        } => {
            // A worker without its daemon would be in the way of the next one.
            if supervised {
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
            }
            let adopt = adopt
                .map(|text| serde_json::from_str::<Loaded>(&text))
                .transpose()
                .context("--adopt is given by the daemon only")?
                .unwrap_or_default();
            worker::run(worker::Options {
                state: state.state,
                scanner: scanner::Options::new(line.scanner.as_deref(), line.yara_rules.as_deref()),
                servers: line.servers,
                supervised,
                adopt,
                spool_bytes: line.spool_bytes,
            })
        }
        Command::Status { state, json } => status(&state, json),
    }
}

/// Sets the flag on SIGTERM and SIGINT.
fn stop_on_signals(stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::clone(stop);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let mut terminate = signal(SignalKind::terminate())?;
                let mut interrupt = signal(SignalKind::interrupt())?;
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                stop.store(true, Ordering::Release);
                std::io::Result::Ok(())
            })
        })?;
    Ok(())
}

fn status(state: &State, json: bool) -> anyhow::Result<()> {
    let path = worker::status_path(&state.state);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("no status in {}; is the agent running?", path.display()))?;
    if json {
        println!("{text}");
        return Ok(());
    }
    let status: worker::Status = serde_json::from_str(&text).context("the status is unreadable")?;
    let report = status.report;
    println!("agent    {} {}", status.agent_id, report.agent_version);
    println!("server   {}", status.link);
    println!(
        "host     {} {} ({})",
        report.hostname, report.ip, report.system
    );
    println!(
        "usage    {} ms CPU, {} KiB memory, {} events in the spool",
        report.usage.cpu_ms,
        report.usage.pss_bytes / 1024,
        report.usage.spool_events
    );
    for sensor in report.sensors {
        let state = if sensor.running {
            "observing"
        } else {
            "NOT OBSERVING"
        };
        println!(
            "{:<12} {state} by {} {}",
            sensor.stream, sensor.source, sensor.reason
        );
    }
    for (stream, books) in report.ledger.streams {
        println!(
            "{stream:<12} {} observed, {} spooled, {} filtered, {} dropped {}",
            books.emitted,
            books.spooled,
            books.filtered,
            books.dropped_total(),
            if books.balances() {
                ""
            } else {
                "DOES NOT BALANCE"
            }
        );
    }
    Ok(())
}
