//! The commands, and what several of them share.

pub(crate) mod bench;
pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod enrol;
pub(crate) mod record;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod status;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::bail;
use clap::ValueEnum;
use yinglong_agent::{document::Host, local, worker};
use yinglong_model::{Ledger, Observation, config::AgentConfig};
use yinglong_sensor_linux::inventory::{self, Root};

#[derive(Debug, clap::Args)]
pub(crate) struct State {
    /// Folder of everything the agent keeps.
    #[arg(
        long,
        env = "YINGLONG_AGENT_STATE",
        default_value = "/var/lib/yinglong-agent"
    )]
    pub(crate) state: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Line {
    /// A server, HOST:PORT; repeat it for more, in order of preference.
    #[arg(long = "server", env = "YINGLONG_SERVER", value_delimiter = ',')]
    pub(crate) servers: Vec<String>,
    /// Size of the spool in bytes; events are dropped and counted when it is full.
    #[arg(long, default_value_t = worker::SPOOL_BYTES)]
    pub(crate) spool_bytes: u64,
    /// Program that scans files with YARA rules: yinglong-scanner beside this program unless named
    /// here; `off` for none.
    #[arg(long, env = "YINGLONG_SCANNER")]
    pub(crate) scanner: Option<PathBuf>,
    /// Folder of YARA rules to use instead of those built into the scanner.
    #[arg(long, env = "YINGLONG_YARA_RULES")]
    pub(crate) yara_rules: Option<PathBuf>,
}

impl Line {
    /// Refuses a line to nowhere.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if self.servers.is_empty() {
            bail!("no server is named; add --server HOST:PORT, or set YINGLONG_SERVER");
        }
        Ok(())
    }
}

/// A stream that can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Stream {
    /// Executions.
    Process,
    /// Connections.
    Connection,
    /// Changes of files.
    File,
    /// Logins.
    Loginlog,
    /// Questions to the domain name system.
    Dns,
    /// System calls that matter for security.
    Syscall,
    /// Ends of processes.
    Exit,
    /// Reports of losses.
    Loss,
    /// Lists of what the host has.
    Inventory,
}

impl Stream {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Connection => "connection",
            Self::File => "file",
            Self::Loginlog => "loginlog",
            Self::Dns => "dns",
            Self::Syscall => "syscall",
            Self::Exit => "exit",
            Self::Loss => "loss",
            Self::Inventory => "inventory",
        }
    }

    pub(crate) fn has(self, observation: &Observation) -> bool {
        self.as_str() == observation.stream()
    }
}

/// Which configuration is followed without a server.
#[derive(Debug, clap::Args)]
pub(crate) struct Follow {
    #[command(flatten)]
    pub(crate) state: State,
    /// Agent configuration to follow, JSON; without it, what the server gave last, or the defaults.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Leave nothing out: also private peers, UDP, and what the filter excludes.
    #[arg(long)]
    pub(crate) unfiltered: bool,
    /// Also watch this directory and everything below it; repeat it for more.
    #[arg(long = "watch", value_name = "DIR")]
    pub(crate) watched: Vec<PathBuf>,
}

impl Follow {
    /// Refuses what would have no effect: with a server, the server's configuration is followed.
    pub(crate) fn refuse(&self, without: &str) -> anyhow::Result<()> {
        if self.config.is_some() || self.unfiltered || !self.watched.is_empty() {
            bail!(
                "--config, --unfiltered and --watch work with {without} only; otherwise the server's \
                 configuration is followed"
            );
        }
        Ok(())
    }

    pub(crate) fn config(&self) -> anyhow::Result<AgentConfig> {
        let remembered = self.state.state.join("config.json");
        let mut config = match &self.config {
            Some(path) => local::config(path)?,
            None if remembered.is_file() => local::config(&remembered)?,
            None => AgentConfig::default(),
        };
        if self.unfiltered {
            config.client.lan = true;
            config.client.udp = true;
            config.client.web_inbound = true;
            config.client.ignored_ports.clear();
            config.filter.process.clear();
            config.filter.file.clear();
            config.filter.ip.clear();
            config.servers.clear();
        }
        for folder in &self.watched {
            let Some(folder) = folder.to_str() else {
                bail!("{} is no text and cannot be watched", folder.display());
            };
            let entry = format!("{}/*", folder.trim_end_matches('/'));
            config.client.monitor_path.push(entry);
        }
        Ok(config)
    }
}

/// This host, for documents.
pub(crate) fn host() -> Host {
    let facts = inventory::facts(&Root::at(Path::new("/")));
    Host {
        hostname: facts.hostname,
        ip: facts.addresses.into_iter().next().unwrap_or_default(),
    }
}

/// Books as lines of text.
pub(crate) fn books(ledger: &Ledger) -> String {
    let mut text = String::new();
    for (stream, books) in &ledger.streams {
        let dropped: Vec<_> = books.dropped.iter().collect();
        let reasons: Vec<_> = dropped
            .iter()
            .map(|(reason, count)| format!("{} {count}", reason.as_str()))
            .collect();
        let reasons = match reasons.is_empty() {
            true => String::new(),
            false => format!(" ({})", reasons.join(", ")),
        };
        let balance = match books.balances() {
            true => "",
            false => "  DOES NOT BALANCE",
        };
        text.push_str(&format!(
            "{stream:<12} {} observed = {} spooled + {} filtered + {} dropped{reasons}{balance}\n",
            books.emitted,
            books.spooled,
            books.filtered,
            books.dropped_total(),
        ));
    }
    text
}

/// Writes to standard output; an end of the pipe is an error like any other, not a panic.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A flag that SIGTERM and SIGINT set.
pub(crate) fn stop_on_signals() -> anyhow::Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Before anything else is done: a signal that comes early is not to end us.
    let (mut terminate, mut interrupt) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
        )
    };
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                flag.store(true, Ordering::Release);
            });
        })?;
    Ok(stop)
}

/// Whether whoever reads our output has gone, as `head` does.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>();
        io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    })
}
