//! The worker: sensors, spool and uplink in one process, until told to stop.

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, watch},
};
use yinglong_model::{Timestamp, config::AgentConfig, host::HostReport};
use yinglong_proto::v1;
use yinglong_sensor::Context;
use yinglong_sensor_linux::attached::RingFill;

use crate::{
    bench::machine::{self, Memory},
    books::Books,
    enrol::{self, Identity},
    filter::Filter,
    outbox::SpoolOutbox,
    report::Reporter,
    rings::Rings,
    scanner,
    sensors::{self, Loaded, Sensors},
    spools::{self, Earlier},
    uplink::{Inbox, Link, Uplink},
};

/// Size of the spool in bytes unless told otherwise.
pub const SPOOL_BYTES: u64 = 1 << 30;
/// Time between two heartbeats. The server shows books as old as the last one.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);
/// Longest pause between attempts to reach a server.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A power cut loses at most so much.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// How often the status file is written.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);
/// Time to deliver what is left when the worker is told to stop.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How a worker is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of everything the agent keeps.
    pub state: PathBuf,
    /// Servers, `host:port`, in order of preference.
    pub servers: Vec<String>,
    /// A daemon started this worker: it belongs to the agent, too.
    pub supervised: bool,
    /// BPF programs that the daemon held for this worker.
    pub adopt: Loaded,
    /// Size of the spool in bytes.
    pub spool_bytes: u64,
    /// How files are scanned.
    pub scanner: scanner::Options,
}

/// What `yinglong-agent status` shows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// Identity of the agent.
    pub agent_id: String,
    /// State of the line, in plain words.
    pub link: String,
    /// Facts, sensors and books.
    pub report: HostReport,
    /// When this was written.
    pub written_at: Option<Timestamp>,
    /// When the worker started.
    pub started_at: Option<Timestamp>,
    /// Process id of the worker.
    pub pid: u32,
    /// Size of the spool when it is full, in bytes.
    pub spool_limit_bytes: u64,
    /// How full the rings between kernel and agent are, by stream.
    pub rings: BTreeMap<String, RingFill>,
    /// Memory of the worker.
    pub memory: Memory,
}

/// A status file older than this is of a worker that has ended or hangs.
pub const STATUS_STALE: Duration = Duration::from_secs(20);

/// Path of the status file.
pub fn status_path(state: &Path) -> PathBuf {
    state.join("status.json")
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// The host has not joined, or the state folder cannot be used.
pub fn run(options: Options) -> anyhow::Result<()> {
    let identity = enrol::load(&options.state)?.context(
        "this host has not joined; run: YINGLONG_TOKEN=... yinglong-agent enrol --server HOST:PORT",
    )?;
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let spools = spools::open(
        &options.state,
        boot.trim(),
        rand::random(),
        options.spool_bytes,
    )?;
    let books = Books::open(spools.current, spools.note.as_deref());
    let context = Context::default();
    let inbox = Arc::new(Settings {
        context: context.clone(),
        books: books.clone(),
        path: options.state.join("config.json"),
        detected_tags: Mutex::default(),
    });
    inbox.restore();

    let mut pids = vec![std::process::id()];
    if options.supervised {
        pids.push(nix::unistd::getppid().as_raw().unsigned_abs());
    }
    let sensor_options = sensors::Options {
        adopt: options.adopt.clone(),
        excluded_pids: pids,
    };
    let rings = Rings::default();
    let loaded = {
        let rings = rings.clone();
        move |loaded: &Loaded| {
            rings.loaded(loaded);
            announce(loaded);
        }
    };
    let sensors = Sensors::start(&context, &books, &sensor_options, loaded)
        .context("the sensors cannot be started")?;
    let scanner = scanner::start(&context, &books, &sensors.board(), options.scanner.clone())
        .context("the scanner's keeper cannot be started")?;
    let reporter = Arc::new(Reporter::new(
        context.clone(),
        books.clone(),
        sensors.board(),
        sensors.roots(),
    ));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let board = sensors.board();
    runtime.block_on(async {
        let line = Line::new(&identity, &options, &books, Arc::clone(&inbox), &reporter);
        tokio::select! {
            stopped = stop_signal() => stopped,
            ended = line.run(spools.earlier, board) => ended,
            () = keep_synced(&books) => Ok(()),
            () = keep_status(&options, &reporter, &inbox, &line, &rings) => Ok(()),
        }?;
        tracing::info!("stopping");
        context.stop();
        // The sensors' last observations go to the spool; the line gets a moment to deliver them.
        tokio::task::spawn_blocking(move || {
            sensors.join();
            if scanner.is_some_and(|keeper| keeper.join().is_err()) {
                tracing::error!("the scanner's keeper ended badly");
            }
        })
        .await?;
        let _ = tokio::time::timeout(LAST_WORDS, line.run_until_delivered(&books)).await;
        anyhow::Ok(())
    })?;
    books.spool().sync()?;
    Ok(())
}

/// Tells the daemon what was loaded into the kernel. Without a daemon nobody listens.
fn announce(loaded: &Loaded) {
    if let Ok(text) = serde_json::to_string(loaded) {
        let _ = writeln!(std::io::stdout(), "{text}");
    }
}

async fn stop_signal() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn keep_synced(books: &Books) {
    let mut ticks = tokio::time::interval(SYNC_INTERVAL);
    loop {
        ticks.tick().await;
        let spool = books.spool().clone();
        match tokio::task::spawn_blocking(move || spool.sync()).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the spool is not synced"
                );
            }
            Err(error) => tracing::error!(%error, "syncing the spool failed"),
        }
    }
}

async fn keep_status(
    options: &Options,
    reporter: &Reporter,
    settings: &Settings,
    line: &Line,
    rings: &Rings,
) {
    let started_at = Timestamp::from(SystemTime::now());
    let link = line.link.subscribe();
    let mut told = None;
    let mut ticks = tokio::time::interval(STATUS_INTERVAL);
    loop {
        ticks.tick().await;
        let words = match &*link.borrow() {
            Link::Starting => "starting".to_owned(),
            Link::Connected { server } => format!("connected to {server}"),
            Link::Disconnected { reason } => format!("not connected: {reason}"),
        };
        let status = Status {
            agent_id: line.agent_id.clone(),
            link: words,
            report: reporter.report(),
            written_at: Some(Timestamp::from(SystemTime::now())),
            started_at: Some(started_at),
            pid: std::process::id(),
            spool_limit_bytes: options.spool_bytes,
            rings: rings.fill(),
            memory: machine::memory(std::process::id()),
        };
        settings.detected(&status.report.tags);
        // What kind of host this is should be known at once, not a heartbeat later.
        let kind = (status.report.tags.clone(), status.report.path.clone());
        if told.as_ref() != Some(&kind) {
            told = Some(kind);
            line.report_now.notify_one();
        }
        let path = status_path(&options.state);
        let written = serde_json::to_vec(&status)
            .map_err(std::io::Error::from)
            .and_then(|text| replace(&path, &text));
        if let Err(error) = written {
            tracing::warn!(%error, path = %path.display(), "the status was not written");
        }
    }
}

/// Writes a file so that readers see the old or the new content, never half of it.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, content)?;
    fs::rename(new, path)
}

/// The line to the servers, for one spool after the other.
struct Line {
    agent_id: String,
    state: PathBuf,
    servers: watch::Sender<Vec<String>>,
    books: Books,
    inbox: Arc<Settings>,
    report: Arc<dyn Fn() -> HostReport + Send + Sync>,
    report_now: Arc<Notify>,
    link: watch::Sender<Link>,
}

impl Line {
    fn new(
        identity: &Identity,
        options: &Options,
        books: &Books,
        inbox: Arc<Settings>,
        reporter: &Arc<Reporter>,
    ) -> Self {
        let reporter = Arc::clone(reporter);
        Self {
            agent_id: identity.agent.id.to_string(),
            state: options.state.clone(),
            servers: watch::channel(options.servers.clone()).0,
            books: books.clone(),
            inbox,
            report: Arc::new(move || reporter.report()),
            report_now: Arc::default(),
            link: watch::channel(Link::default()).0,
        }
    }

    async fn run(&self, earlier: Option<Earlier>, board: sensors::Board) -> anyhow::Result<()> {
        if let Some(earlier) = earlier {
            tracing::info!(
                records = earlier.spool.usage().records,
                "delivering what an earlier boot left"
            );
            let outbox = SpoolOutbox::earlier(earlier.spool.clone(), &self.books);
            tokio::select! {
                ended = self.uplink(outbox)?.run() => ended.map(drop)?,
                () = delivered(|| earlier.is_delivered()) => {}
            }
            earlier.remove();
        }
        let mut changes = board.changes();
        let report_now = Arc::clone(&self.report_now);
        let watcher = async move {
            while changes.changed().await.is_ok() {
                report_now.notify_one();
            }
            std::future::pending().await
        };
        tokio::select! {
            ended = self.uplink(SpoolOutbox::current(&self.books))?.run() => ended.map(drop)?,
            () = watcher => {}
        }
        Ok(())
    }

    /// Delivers what is left.
    async fn run_until_delivered(&self, books: &Books) {
        let Ok(uplink) = self.uplink(SpoolOutbox::current(books)) else {
            return;
        };
        tokio::select! {
            _ = uplink.run() => {}
            () = delivered(|| books.spool().usage().records == 0) => {}
        }
    }

    fn uplink(&self, outbox: SpoolOutbox) -> anyhow::Result<Uplink> {
        Ok(Uplink {
            identity: enrol::load(&self.state)?.context("this host's identity is gone")?,
            servers: self.servers.subscribe(),
            outbox: Arc::new(outbox),
            inbox: Arc::clone(&self.inbox) as _,
            report: Arc::clone(&self.report),
            report_now: Arc::clone(&self.report_now),
            report_every: REPORT_INTERVAL,
            longest_pause: LONGEST_PAUSE,
            link: self.link.clone(),
        })
    }
}

async fn delivered(is_delivered: impl Fn() -> bool) {
    while !is_delivered() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Puts the server's settings in force, and remembers them for the next start.
struct Settings {
    context: Context,
    books: Books,
    path: PathBuf,
    /// Tags this host gives itself, beside those people gave it.
    detected_tags: Mutex<Vec<String>>,
}

impl Settings {
    /// Puts the remembered settings in force; defaults when there are none.
    fn restore(&self) {
        let remembered = fs::read(&self.path).ok();
        let config = remembered.and_then(|text| serde_json::from_slice(&text).ok());
        self.apply(config.unwrap_or_default());
    }

    fn apply(&self, config: AgentConfig) {
        let (filter, refused) = Filter::new(&config.filter);
        for entry in refused {
            tracing::warn!(entry, "a filter entry cannot be used and is left out");
        }
        self.books.set_filter(filter);
        self.context.set_config(self.tagged(config));
    }

    /// Takes in what kind of host this is by what runs on it.
    fn detected(&self, tags: &[String]) {
        let mut known = self
            .detected_tags
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *known != tags {
            *known = tags.to_vec();
            drop(known);
            let config = AgentConfig::clone(&self.context.config());
            self.context.set_config(self.tagged(config));
        }
    }

    fn tagged(&self, mut config: AgentConfig) -> AgentConfig {
        let detected = self
            .detected_tags
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for tag in detected.iter() {
            if !config.tags.contains(tag) {
                config.tags.push(tag.clone());
            }
        }
        config
    }
}

impl Inbox for Settings {
    fn config(&self, config: AgentConfig) {
        tracing::info!(revision = config.revision, "new settings");
        let written = serde_json::to_vec(&config)
            .map_err(std::io::Error::from)
            .and_then(|text| replace(&self.path, &text));
        if let Err(error) = written {
            tracing::warn!(%error, "the settings are in force but not remembered");
        }
        self.apply(config);
    }

    fn task(&self, _task: v1::Task) {
        tracing::warn!("the server sent a task; this version of the agent carries out none");
    }
}
