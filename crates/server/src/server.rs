//! Putting the parts together, and taking them apart again.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::watch;
use yinglong_model::{AgentId, Timestamp, id::Epoch};
use yinglong_pki::{Authority, JoinToken, TokenRecord, authority};
use yinglong_spool::Spool;
use yinglong_store::{EventStore, StateStore};

use crate::{
    fleet::Fleet,
    gateway::{self, Gateway, Sessions},
    intake::Intake,
    intelligence::{Answers, Intelligence},
    live::Live,
    log::Entry,
    notify::Notifier,
    ports::{Ports, now},
    settings::{self, Settings},
    stories,
    worker::{Progress, Worker},
};

/// How often silent hosts are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
/// How often old events are retired.
const RETIRE_INTERVAL: Duration = Duration::from_secs(3600);
/// Size of one segment of the write-ahead log.
const LOG_SEGMENT_BYTES: u64 = 32 << 20;

/// Where events are kept when not in the server's folder.
pub trait EventBackend: fmt::Debug + Send + Sync {
    /// Opens it for a write-ahead log, whose name is the same as long as the log is.
    ///
    /// # Errors
    /// It cannot be used now, or not at all; the message says what to do.
    fn open(&self, log: &str) -> yinglong_store::Result<Arc<dyn EventStore>>;
}

/// How a server is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder of everything the server keeps.
    pub data: PathBuf,
    /// Where agents connect; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names and addresses agents and people use to reach this server.
    pub names: Vec<String>,
    /// Largest write-ahead log in bytes; agents keep their events when it is full.
    pub log_max_bytes: u64,
    /// Where events are kept; in the folder when `None`.
    pub events: Option<Arc<dyn EventBackend>>,
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder cannot be used.
    #[error("the data folder cannot be used")]
    Store(#[from] yinglong_store::Error),
    /// Events cannot be kept where they should be.
    #[error("the event store cannot be used")]
    Events(#[source] yinglong_store::Error),
    /// The write-ahead log cannot be used.
    #[error("the write-ahead log cannot be used")]
    Log(#[from] yinglong_spool::Error),
    /// Keys or certificates cannot be used.
    #[error("the server's keys cannot be used")]
    Keys(#[from] authority::Error),
    /// The configuration cannot be read.
    #[error("the configuration cannot be read")]
    Settings(#[from] settings::Error),
    /// Agents cannot connect.
    #[error("agents cannot connect")]
    Gateway(#[from] gateway::Error),
    /// The feeds of indicators cannot be used.
    #[error("the folder `indicators` cannot be used")]
    Feeds(#[source] std::io::Error),
    /// The operating system refused a thread.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
}

/// A running server.
pub struct Server {
    data: PathBuf,
    events: Arc<dyn EventStore>,
    state: Arc<dyn StateStore>,
    settings: Arc<Settings>,
    fleet: Arc<Fleet>,
    authority: Arc<Authority>,
    live: Live,
    notifier: Notifier,
    intelligence: Intelligence,
    progress: Arc<Progress>,
    log: Spool,
    sessions: Sessions,
    gateway_counters: Arc<gateway::Counters>,
    address: SocketAddr,
    started_at: Timestamp,
    stop: Arc<AtomicBool>,
    stop_gateway: watch::Sender<bool>,
    worker: Mutex<Option<thread::JoinHandle<()>>>,
    gateway: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

impl Server {
    /// Starts everything but the console. Must be called in a tokio runtime.
    ///
    /// # Errors
    /// See [`Error`]; nothing runs then.
    pub async fn start(options: Options) -> Result<Arc<Self>, Error> {
        let (own_events, state) = yinglong_store_embedded::Embedded::open(&options.data)?;
        let state: Arc<dyn StateStore> = Arc::new(state);
        let keys = options.data.join("keys");
        let authority = Arc::new(open_authority(&keys)?);
        let settings = Arc::new(Settings::open(Arc::clone(&state))?);
        let gateway_options = gateway::Options {
            listen: options.listen,
            names: options.names.clone(),
            ..gateway::Options::default()
        };
        let gateway = Gateway::bind(gateway_options, Arc::clone(&authority)).await?;
        let address = gateway.address();
        let servers = own_addresses(&options.names, address.port());
        let fleet = Fleet::open(Arc::clone(&state), Arc::clone(&settings), servers)?;
        let fleet = Arc::new(fleet);

        let log_options = yinglong_spool::Options {
            new_epoch: rand::random(),
            segment_bytes: LOG_SEGMENT_BYTES,
            max_bytes: options.log_max_bytes,
        };
        let (log, recovery) = Spool::open(&options.data.join("log"), log_options)?;
        if recovery.torn_bytes > 0 {
            tracing::warn!(
                bytes = recovery.torn_bytes,
                "the log ended in a batch that was never acknowledged; its agent sends it again"
            );
        }
        let events: Arc<dyn EventStore> = match &options.events {
            None => Arc::new(own_events),
            Some(backend) => {
                let here = own_events.usage()?.events;
                if here > 0 {
                    tracing::warn!(
                        events = here,
                        "events in the server's folder are not searched while they are kept elsewhere"
                    );
                }
                let name = format!("log-{:032x}", log.epoch());
                backend.open(&name).map_err(Error::Events)?
            }
        };
        let acked = acked(state.as_ref(), &log)?;
        let (intake, _) = Intake::start(log.clone(), acked);

        let notifier = Notifier::start(Arc::clone(&settings));
        let (live, progress) = (Live::default(), Arc::<Progress>::default());
        let stop = Arc::new(AtomicBool::new(false));
        let writing = Arc::<Mutex<()>>::default();
        let answers = Answers {
            state: Arc::downgrade(&state),
            settings: Arc::downgrade(&settings),
            live: live.clone(),
            notifier: notifier.clone(),
            progress: Arc::clone(&progress),
            writing: Arc::clone(&writing),
        };
        let intelligence = Intelligence::open(&options.data, answers).map_err(Error::Feeds)?;
        let worker = Worker {
            folder: options.data.clone(),
            log: log.clone(),
            events: Arc::clone(&events),
            state: Arc::clone(&state),
            settings: Arc::clone(&settings),
            live: live.clone(),
            notifier: notifier.clone(),
            intelligence: intelligence.clone(),
            writing,
            progress: Arc::clone(&progress),
            stop: Arc::clone(&stop),
        };
        let worker = thread::Builder::new()
            .name("pipeline".into())
            .spawn(move || worker.run())
            .map_err(Error::Thread)?;

        let (sessions, gateway_counters) = (gateway.sessions(), gateway.counters());
        let ports = Arc::new(Ports {
            intake,
            fleet: Arc::clone(&fleet),
            settings: Arc::clone(&settings),
            state: Arc::clone(&state),
        });
        let (stop_gateway, stopping) = watch::channel(false);
        let gateway = tokio::spawn(async move {
            let roster: Arc<dyn gateway::Roster> = Arc::clone(&ports) as _;
            if let Err(error) = gateway.run(ports, roster, stopping).await {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "agents cannot connect any more"
                );
            }
        });
        let server = Arc::new(Self {
            data: options.data,
            events,
            state,
            settings,
            fleet,
            authority,
            live,
            notifier,
            intelligence,
            progress,
            log,
            sessions,
            gateway_counters,
            address,
            started_at: now(),
            stop,
            stop_gateway,
            worker: Mutex::new(Some(worker)),
            gateway: Mutex::new(Some(gateway)),
        });
        tokio::spawn(housekeeping(Arc::downgrade(&server)));
        Ok(server)
    }

    /// Ends: agents are cut off first, then the pipeline works off its step and commits.
    pub async fn stop(&self) {
        self.stop_gateway.send_replace(true);
        let gateway = self
            .gateway
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(gateway) = gateway
            && let Err(error) = gateway.await
        {
            tracing::error!(%error, "the gateway ended badly");
        }
        self.flush();
        self.stop.store(true, Ordering::Release);
        let worker = self
            .worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(worker) = worker {
            // Joining waits for a commit, which may take seconds: not on a runtime thread.
            let joined = tokio::task::spawn_blocking(move || worker.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the pipeline ended badly");
            }
        }
    }

    fn flush(&self) {
        if let Err(error) = self.fleet.flush() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "hosts were not stored; trying again"
            );
        }
    }

    /// Folder of everything the server keeps.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Where agents connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When it was started.
    pub fn started_at(&self) -> Timestamp {
        self.started_at
    }

    /// Events.
    pub fn events(&self) -> &Arc<dyn EventStore> {
        &self.events
    }

    /// Everything else that is stored.
    pub fn state(&self) -> &Arc<dyn StateStore> {
        &self.state
    }

    /// Configuration and rules.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// Hosts.
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Keys and certificates.
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// What happens right now.
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// The announcer of alerts.
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Feeds of indicators and intelligence APIs.
    pub fn intelligence(&self) -> &Intelligence {
        &self.intelligence
    }

    /// What the pipeline has done.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// What the gateway has counted.
    pub fn gateway_counters(&self) -> &gateway::Counters {
        &self.gateway_counters
    }

    /// Connected agents.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// What the write-ahead log holds.
    pub fn log_usage(&self) -> yinglong_spool::Usage {
        self.log.usage()
    }

    /// Makes a join token; its secret is only ever in the answer.
    ///
    /// # Errors
    /// The store refuses.
    pub fn new_join_token(
        &self,
        lifetime: Duration,
        uses: u32,
    ) -> yinglong_store::Result<(JoinToken, TokenRecord)> {
        let token = JoinToken::generate(self.authority.pin());
        let record = self.fleet.new_token(&token, now(), lifetime, uses)?;
        Ok((token, record))
    }
}

/// Does what has to be done from time to time, as long as the server exists.
async fn housekeeping(server: std::sync::Weak<Server>) {
    let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
    let sweeps_per_retirement = RETIRE_INTERVAL.as_secs() / SWEEP_INTERVAL.as_secs();
    for tick in 0_u64.. {
        ticks.tick().await;
        let Some(server) = server.upgrade() else {
            return;
        };
        let work = tokio::task::spawn_blocking(move || {
            for host in server.fleet.sweep(now()) {
                tracing::warn!(host = %host.hostname, agent = %host.agent_id, "the agent is silent");
            }
            server.flush();
            if tick % sweeps_per_retirement == 0 {
                let days = server.settings.current().config.server.retention_days;
                let before = now().minus(Duration::from_secs(u64::from(days) * 86_400));
                match server.events.retire(before) {
                    Ok(0) => {}
                    Ok(events) => {
                        tracing::info!(events, days, "events past their retention were removed")
                    }
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "old events could not be removed"
                        );
                    }
                }
                match stories::retire(server.state.as_ref(), before) {
                    Ok(0) => {}
                    Ok(stories) => tracing::info!(stories, days, "old stories were removed"),
                    Err(error) => tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "old stories could not be removed; trying again in an hour"
                    ),
                }
            }
        });
        if let Err(error) = work.await {
            tracing::error!(%error, "housekeeping failed");
        }
    }
}

fn open_authority(dir: &Path) -> Result<Authority, authority::Error> {
    match Authority::open(dir) {
        Err(authority::Error::Missing(_)) => Authority::create(dir, now()),
        other => other,
    }
}

/// What agents are to leave out: the addresses they use to reach this server.
fn own_addresses(names: &[String], port: u16) -> Vec<String> {
    let mut servers: Vec<String> = names
        .iter()
        .filter_map(|name| name.parse().ok())
        .map(|ip: std::net::IpAddr| SocketAddr::new(ip, port).to_string())
        .collect();
    servers.push(format!("127.0.0.1:{port}"));
    servers.push(format!("[::1]:{port}"));
    servers
}

/// Last durable sequence numbers: what the state store has, and what the log has beyond.
fn acked(
    state: &dyn StateStore,
    log: &Spool,
) -> Result<HashMap<(AgentId, Epoch), u64>, yinglong_store::Error> {
    let mut acked: HashMap<(AgentId, Epoch), u64> = state
        .acked()?
        .into_iter()
        .map(|(agent, epoch, seq)| ((agent, epoch), seq))
        .collect();
    let mut next = state.position()? + 1;
    loop {
        match log.read(next, 256, 16 << 20) {
            Ok(entries) if entries.is_empty() => return Ok(acked),
            Ok(entries) => {
                for (position, bytes) in entries {
                    next = position + 1;
                    if let Some(entry) = Entry::decode(&bytes) {
                        let last = entry.last_seq();
                        let seq = acked.entry((entry.agent, entry.epoch)).or_default();
                        *seq = (*seq).max(last);
                    }
                }
            }
            Err(yinglong_spool::Error::Corrupt { last_lost, .. }) => next = last_lost + 1,
            Err(error) => {
                let kind = yinglong_store::Kind::Corrupt;
                return Err(yinglong_store::Error::caused(
                    kind,
                    "cannot read the log",
                    error,
                ));
            }
        }
    }
}
