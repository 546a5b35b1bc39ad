//! A gateway with a server and a spool that live in memory.

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant, UNIX_EPOCH},
};

use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinHandle,
};
use yinglong_agent::{
    enrol::{self, Identity},
    uplink::{Inbox, Link, Outbox, OutboxError, Uplink},
};
use yinglong_model::{AgentId, Timestamp, config::AgentConfig, host::HostReport, id::Epoch};
use yinglong_pki::{Authority, JoinToken, Serial, TokenRecord, token};
use yinglong_proto::v1;
use yinglong_server::gateway::{
    Counters, Durable, Gateway, IncomingBatch, Intake, IntakeError, Joined, Options, RedeemError,
    Roster, Sessions,
};

pub(crate) fn now() -> Timestamp {
    Timestamp::from_secs(0).plus(UNIX_EPOCH.elapsed().unwrap())
}

pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "waited for: {what}"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

type Stored = HashMap<(AgentId, Epoch), Vec<(u64, Vec<u8>)>>;

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) stored: Mutex<Stored>,
    pub(crate) reports: Mutex<Vec<(AgentId, HostReport)>>,
}

impl Memory {
    pub(crate) fn of(&self, agent: &AgentId) -> Vec<(u64, Vec<u8>)> {
        let stored = self.stored.lock().unwrap();
        let found = stored.iter().find(|((id, _), _)| id == agent);
        found
            .map(|(_, records)| records.clone())
            .unwrap_or_default()
    }
}

impl Intake for Memory {
    fn acked(&self, agent: &AgentId, epoch: Epoch) -> u64 {
        let stored = self.stored.lock().unwrap();
        let records = stored.get(&(agent.clone(), epoch));
        records
            .and_then(|records| records.last())
            .map_or(0, |(seq, _)| *seq)
    }

    fn accept(
        &self,
        batch: IncomingBatch,
    ) -> Pin<Box<dyn Future<Output = Result<Durable, IntakeError>> + Send + '_>> {
        Box::pin(async move {
            let expected = self.acked(&batch.agent, batch.epoch) + 1;
            assert!(
                batch.first_seq == expected || batch.may_skip && batch.first_seq > expected,
                "batch at {} but {expected} is next",
                batch.first_seq
            );
            let last = batch.last_seq();
            let mut stored = self.stored.lock().unwrap();
            let records = stored.entry((batch.agent, batch.epoch)).or_default();
            records.extend((batch.first_seq..).zip(batch.records));
            let (durable, answer) = oneshot::channel();
            let _ = durable.send(Ok(last));
            Ok(answer)
        })
    }

    fn report(&self, agent: &AgentId, _: IpAddr, report: HostReport) {
        self.reports.lock().unwrap().push((agent.clone(), report));
    }

    fn task_result(&self, _: &AgentId, _: v1::TaskResult) {}
}

#[derive(Default)]
pub(crate) struct Members {
    pub(crate) tokens: Mutex<Vec<TokenRecord>>,
    pub(crate) revoked: Mutex<HashSet<AgentId>>,
    pub(crate) joined: Mutex<Vec<Joined>>,
    pub(crate) config: Mutex<AgentConfig>,
    pub(crate) revision: watch::Sender<u64>,
}

impl Roster for Members {
    fn is_revoked(&self, agent: &AgentId, _: &Serial) -> bool {
        self.revoked.lock().unwrap().contains(agent)
    }

    fn redeem_token(&self, secret: &[u8; 16]) -> Result<(), RedeemError> {
        token::redeem(self.tokens.lock().unwrap().iter_mut(), secret, now())?;
        Ok(())
    }

    fn enrolled(&self, joined: Joined) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        self.joined.lock().unwrap().push(joined);
        Ok(())
    }

    fn agent_config(&self, _: &AgentId) -> AgentConfig {
        self.config.lock().unwrap().clone()
    }

    fn revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }
}

/// One authority with what its servers share.
pub(crate) struct Site {
    dir: tempfile::TempDir,
    pub(crate) authority: Arc<Authority>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) members: Arc<Members>,
}

impl Site {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(&dir.path().join("pki"), now()).unwrap();
        Self {
            dir,
            authority: Arc::new(authority),
            memory: Arc::default(),
            members: Arc::default(),
        }
    }

    pub(crate) async fn server(&self) -> Server {
        self.server_at(([127, 0, 0, 1], 0).into()).await
    }

    pub(crate) async fn server_at(&self, listen: SocketAddr) -> Server {
        let options = Options {
            listen,
            check_every: Duration::from_millis(50),
            enrolments_per_minute: 20,
            ..Options::default()
        };
        let gateway = Gateway::bind(options, Arc::clone(&self.authority))
            .await
            .unwrap();
        let (stop, stopping) = watch::channel(false);
        let (memory, members) = (self.memory.clone(), self.members.clone());
        Server {
            address: gateway.address(),
            sessions: gateway.sessions(),
            counters: gateway.counters(),
            stop,
            running: tokio::spawn(async move {
                gateway.run(memory, members, stopping).await.unwrap();
            }),
        }
    }

    pub(crate) fn token(&self, lifetime: Duration, uses: u32) -> JoinToken {
        let token = JoinToken::generate(self.authority.pin());
        let record = TokenRecord::new(&token, now(), lifetime, uses);
        self.members.tokens.lock().unwrap().push(record);
        token
    }

    pub(crate) fn state_dir(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) async fn enrolled(&self, server: &Server, name: &str) -> Identity {
        let token = self.token(Duration::from_secs(60), 1);
        let state = self.state_dir(name);
        enrol::enrol(&server.address.to_string(), &token, &state)
            .await
            .unwrap()
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) sessions: Sessions,
    pub(crate) counters: Arc<Counters>,
    pub(crate) stop: watch::Sender<bool>,
    running: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.running.await.unwrap();
    }

    pub(crate) fn count(&self, name: &str) -> u64 {
        let counters = self.counters.snapshot();
        counters.iter().find(|(found, _)| *found == name).unwrap().1
    }
}

/// A spool in memory.
pub(crate) struct Queue {
    records: Mutex<(u64, Vec<Vec<u8>>)>,
    last: watch::Sender<u64>,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            records: Mutex::new((1, Vec::new())),
            last: watch::Sender::new(0),
        }
    }
}

impl Queue {
    pub(crate) fn append(&self, records: impl IntoIterator<Item = Vec<u8>>) {
        let mut inner = self.records.lock().unwrap();
        inner.1.extend(records);
        let last = inner.0 - 1 + inner.1.len() as u64;
        drop(inner);
        self.last.send_replace(last);
    }

    pub(crate) fn len(&self) -> usize {
        self.records.lock().unwrap().1.len()
    }
}

impl Outbox for Queue {
    fn epoch(&self) -> Epoch {
        Epoch(7)
    }

    fn first_seq(&self) -> u64 {
        self.records.lock().unwrap().0
    }

    fn read(&self, from: u64, records: usize, _: usize) -> Result<Vec<Vec<u8>>, OutboxError> {
        let inner = self.records.lock().unwrap();
        let skip = usize::try_from(from.saturating_sub(inner.0))?;
        Ok(inner.1.iter().skip(skip).take(records).cloned().collect())
    }

    fn release(&self, up_to: u64) -> Result<(), OutboxError> {
        let mut inner = self.records.lock().unwrap();
        while inner.0 <= up_to && !inner.1.is_empty() {
            inner.1.remove(0);
            inner.0 += 1;
        }
        Ok(())
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

#[derive(Default)]
pub(crate) struct Settings(pub Mutex<Vec<AgentConfig>>);

impl Inbox for Settings {
    fn config(&self, config: AgentConfig) {
        self.0.lock().unwrap().push(config);
    }

    fn task(&self, _: v1::Task) {}
}

/// An agent: its line only.
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) queue: Arc<Queue>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) link: watch::Receiver<Link>,
    pub(crate) servers: watch::Sender<Vec<String>>,
    pub(crate) report_now: Arc<Notify>,
    running: JoinHandle<()>,
}

impl Agent {
    pub(crate) fn start(identity: Identity, servers: &[SocketAddr]) -> Self {
        let addresses = servers.iter().map(SocketAddr::to_string).collect();
        let (servers, servers_rx) = watch::channel(addresses);
        let (link, link_rx) = watch::channel(Link::default());
        let id = identity.agent.id.clone();
        let (queue, settings) = (Arc::<Queue>::default(), Arc::<Settings>::default());
        let report_now = Arc::<Notify>::default();
        let uplink = Uplink {
            identity,
            servers: servers_rx,
            outbox: queue.clone(),
            inbox: settings.clone(),
            report: Arc::new(HostReport::default),
            report_now: report_now.clone(),
            report_every: Duration::from_secs(60),
            longest_pause: Duration::from_millis(100),
            link,
        };
        Self {
            id,
            queue,
            settings,
            link: link_rx,
            servers,
            report_now,
            running: tokio::spawn(async move {
                uplink.run().await.unwrap();
            }),
        }
    }

    pub(crate) async fn connected(&self) {
        until("the agent to connect", || {
            matches!(*self.link.borrow(), Link::Connected { .. })
        })
        .await;
    }

    pub(crate) async fn refused_with(&self, words: &str) {
        let mut link = self.link.clone();
        let refused = link.wait_for(|link| match link {
            Link::Disconnected { reason } => reason.contains(words),
            _ => false,
        });
        let waited = tokio::time::timeout(Duration::from_secs(30), refused)
            .await
            .is_ok();
        assert!(
            waited,
            "waited for `{words}`, got {:?}",
            *self.link.borrow()
        );
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.running.abort();
    }
}
