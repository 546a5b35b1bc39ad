//! One attached agent, from its hello to the end of its stream.

use std::{
    collections::VecDeque,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot::error::TryRecvError},
    time::Instant,
};
use tonic::{Code, Status, Streaming};
use yinglong_model::{config::AgentConfig, host::HostReport, id::Epoch};
use yinglong_pki::AgentIdentity;
use yinglong_proto::{
    MAX_RECORD_BYTES, PROTOCOL,
    v1::{self, agent_message::Message as FromAgent, server_message::Message as ToAgent},
};

use super::{
    Counters, Cut, Durable, IncomingBatch, Intake, IntakeError, Roster,
    counters::{Open, add},
    cursor::{Cursor, Refusal},
    now,
    sessions::Registration,
};

/// Time for the first message after attaching.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Time an agent gets to take a message before its stream is cut.
const TAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for batches of an ended stream to become durable, before the next stream may begin.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Batches of one agent that may be queued and not yet durable; bounds the memory one agent takes.
const IN_FLIGHT: usize = 64;

type Queueing = Pin<Box<dyn Future<Output = Result<Durable, IntakeError>> + Send>>;

/// What a stream needs.
pub(super) struct Session {
    pub(super) intake: Arc<dyn Intake>,
    pub(super) roster: Arc<dyn Roster>,
    pub(super) counters: Arc<Counters>,
    pub(super) idle_timeout: Duration,
    pub(super) check_every: Duration,
    pub(super) peer: IpAddr,
    pub(super) identity: AgentIdentity,
    pub(super) out: mpsc::Sender<Result<v1::ServerMessage, Status>>,
}

/// What a revoked agent is told.
pub(super) fn revoked() -> Status {
    Status::permission_denied("this host was revoked; enrol it again with a new join token")
}

/// Position of a stream.
struct Progress {
    epoch: Epoch,
    cursor: Cursor,
    /// A batch that waits for room in the intake; nothing is read meanwhile.
    queueing: Option<Queueing>,
    /// Batches that are queued, oldest first.
    in_flight: VecDeque<Durable>,
    sent_config: AgentConfig,
}

impl Session {
    pub(super) async fn run(
        self,
        mut registration: Registration,
        mut inbound: Streaming<v1::AgentMessage>,
    ) {
        let _open = Open::new(
            Arc::clone(&self.counters),
            (|counters| &counters.streams_open) as fn(&Counters) -> &AtomicU64,
        );
        let agent = &self.identity.id;
        if let Some(mut predecessor) = registration.predecessor.take() {
            tracing::warn!(%agent, peer = %self.peer, "a second stream replaces the first");
            let ended = async { while predecessor.changed().await.is_ok() {} };
            if tokio::time::timeout(DRAIN_TIMEOUT, ended).await.is_err() {
                let busy = "the previous stream is still being stored; try again shortly";
                self.end(Status::unavailable(busy)).await;
                return;
            }
        }
        let mut progress = match self.greet(&mut registration, &mut inbound).await {
            Ok(progress) => progress,
            Err(status) => {
                tracing::warn!(%agent, peer = %self.peer, reason = status.message(), "not attached");
                return self.end(status).await;
            }
        };
        tracing::info!(%agent, peer = %self.peer, "attached");
        let ended = self
            .serve(&mut registration, &mut inbound, &mut progress)
            .await;
        match &ended {
            Ok(()) => tracing::info!(%agent, "the agent ended its stream"),
            Err(status) => tracing::warn!(%agent, reason = status.message(), "stream ended"),
        }
        if let Err(status) = ended {
            self.end(status).await;
        }
        // The next stream of this agent starts from what is durable, so wait for that to settle.
        drop(progress.queueing);
        let settle = async {
            for durable in progress.in_flight {
                let _ = durable.await;
            }
        };
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, settle).await;
    }

    /// Takes the hello and answers it.
    async fn greet(
        &self,
        registration: &mut Registration,
        inbound: &mut Streaming<v1::AgentMessage>,
    ) -> Result<Progress, Status> {
        let first = tokio::select! {
            first = tokio::time::timeout(HELLO_TIMEOUT, inbound.message()) => first,
            cut = registration.cut.wait_for(Option::is_some) => {
                return Err(self.cut(cut.ok().and_then(|cut| *cut)));
            }
        };
        let first = first
            .map_err(|_| Status::deadline_exceeded("no hello within ten seconds"))?
            .map_err(|status| self.bad_frame(status))?;
        let Some(FromAgent::Hello(hello)) = first.and_then(|first| first.message) else {
            return Err(self.nonsense("the first message is not a hello"));
        };
        if hello.protocol == 0 {
            return Err(self.nonsense("the hello has no protocol version"));
        }
        let epoch = <[u8; 16]>::try_from(hello.epoch.as_slice())
            .map_err(|_| self.nonsense("an epoch has 16 bytes"))?;
        let epoch = Epoch(u128::from_be_bytes(epoch));
        self.report(&hello.report)?;
        let agent = &self.identity.id;
        let acked = self.intake.acked(agent, epoch);
        let (cursor, lost) = Cursor::start(acked, hello.first_seq);
        if lost > 0 {
            add(&self.counters.records_lost, lost);
            tracing::warn!(
                %agent, %epoch, lost, acked, first_seq = hello.first_seq,
                "the agent's spool no longer has records this server never got"
            );
        }
        let welcome = v1::Welcome {
            protocol: hello.protocol.min(PROTOCOL),
            acked_seq: acked,
        };
        self.send(ToAgent::Welcome(welcome)).await?;
        let config = self.roster.agent_config(agent);
        self.send_config(&config).await?;
        Ok(Progress {
            epoch,
            cursor,
            queueing: None,
            in_flight: VecDeque::new(),
            sent_config: config,
        })
    }

    async fn serve(
        &self,
        registration: &mut Registration,
        inbound: &mut Streaming<v1::AgentMessage>,
        progress: &mut Progress,
    ) -> Result<(), Status> {
        let mut revision = self.roster.revision();
        let mut check = tokio::time::interval(self.check_every);
        check.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut last_heard = Instant::now();
        loop {
            let may_read = progress.queueing.is_none() && progress.in_flight.len() < IN_FLIGHT;
            tokio::select! {
                // The guard must not live while other branches wait.
                cut = async { registration.cut.wait_for(Option::is_some).await.ok().and_then(|cut| *cut) } => {
                    return Err(self.cut(cut));
                }
                settled = settled(&mut progress.in_flight) => {
                    self.acknowledge(settled, &mut progress.in_flight).await?;
                }
                queued = queued(&mut progress.queueing) => {
                    progress.queueing = None;
                    progress.in_flight.push_back(queued.map_err(|error| self.failed(error))?);
                }
                message = inbound.message(), if may_read => {
                    let message = message.map_err(|status| self.bad_frame(status))?;
                    let Some(message) = message else { return Ok(()) };
                    last_heard = Instant::now();
                    self.take(message, progress)?;
                }
                Some(message) = registration.outgoing.recv() => {
                    self.send_message(message).await?;
                }
                changed = revision.changed() => {
                    if changed.is_err() {
                        return Err(self.cut(Some(Cut::Stopping)));
                    }
                    self.check_revoked()?;
                    let config = self.roster.agent_config(&self.identity.id);
                    if config != progress.sent_config {
                        self.send_config(&config).await?;
                        progress.sent_config = config;
                    }
                }
                _ = check.tick() => {
                    self.check_revoked()?;
                    // Not while we are the one who does not read.
                    if may_read && last_heard.elapsed() > self.idle_timeout {
                        add(&self.counters.cut_idle, 1);
                        return Err(Status::deadline_exceeded("no message for too long"));
                    }
                }
            }
        }
    }

    fn take(&self, message: v1::AgentMessage, progress: &mut Progress) -> Result<(), Status> {
        match message.message {
            Some(FromAgent::Batch(batch)) => self.take_batch(batch, progress),
            Some(FromAgent::Report(report)) => self.report(&report),
            Some(FromAgent::TaskResult(result)) => {
                self.intake.task_result(&self.identity.id, result);
                Ok(())
            }
            Some(FromAgent::Hello(_)) => Err(self.nonsense("a second hello")),
            // A newer agent may say things this server does not know yet.
            None => Ok(()),
        }
    }

    fn take_batch(&self, batch: v1::Batch, progress: &mut Progress) -> Result<(), Status> {
        let mut records = batch.records;
        let admission = progress
            .cursor
            .admit(batch.first_seq, records.len())
            .map_err(|refusal| match refusal {
                Refusal::Malformed => self.nonsense(&refusal.to_string()),
                Refusal::Gap { .. } => {
                    add(&self.counters.batches_gap, 1);
                    Status::failed_precondition(refusal.to_string())
                }
            })?;
        if records.iter().any(|record| record.len() > MAX_RECORD_BYTES) {
            return Err(self.nonsense("a record is larger than 4 MiB; update the agent"));
        }
        let skipped = u64::try_from(admission.skip).unwrap_or(u64::MAX);
        add(&self.counters.duplicates, skipped);
        records.drain(..admission.skip.min(records.len()));
        if records.is_empty() {
            return Ok(());
        }
        add(&self.counters.batches, 1);
        add(
            &self.counters.records,
            records.len().try_into().unwrap_or(u64::MAX),
        );
        let batch = IncomingBatch {
            agent: self.identity.id.clone(),
            epoch: progress.epoch,
            first_seq: batch.first_seq.saturating_add(skipped),
            records,
            received_at: now(),
            may_skip: admission.may_skip,
        };
        let intake = Arc::clone(&self.intake);
        progress.queueing = Some(Box::pin(async move { intake.accept(batch).await }));
        Ok(())
    }

    /// Tells the agent what is durable: once for all batches that became so together.
    async fn acknowledge(
        &self,
        first: Result<u64, IntakeError>,
        in_flight: &mut VecDeque<Durable>,
    ) -> Result<(), Status> {
        in_flight.pop_front();
        let mut acked = first.map_err(|error| self.failed(error))?;
        while let Some(durable) = in_flight.front_mut() {
            let settled = match durable.try_recv() {
                Ok(settled) => settled,
                Err(TryRecvError::Empty) => break,
                Err(dropped @ TryRecvError::Closed) => Err(IntakeError(Box::new(dropped))),
            };
            in_flight.pop_front();
            acked = settled.map_err(|error| self.failed(error))?;
        }
        self.send(ToAgent::AckedSeq(acked)).await
    }

    fn report(&self, json: &[u8]) -> Result<(), Status> {
        let report: HostReport = serde_json::from_slice(json)
            .map_err(|error| self.nonsense(&format!("the host report is not one: {error}")))?;
        self.intake.report(&self.identity.id, self.peer, report);
        Ok(())
    }

    fn check_revoked(&self) -> Result<(), Status> {
        let AgentIdentity { id, serial, .. } = &self.identity;
        if self.roster.is_revoked(id, serial) {
            return Err(self.cut(Some(Cut::Revoked)));
        }
        Ok(())
    }

    async fn send_config(&self, config: &AgentConfig) -> Result<(), Status> {
        let json = serde_json::to_vec(config)
            .map_err(|error| Status::internal(format!("the settings cannot be sent: {error}")))?;
        self.send(ToAgent::Config(json)).await
    }

    async fn send(&self, message: ToAgent) -> Result<(), Status> {
        let message = Some(message);
        self.send_message(v1::ServerMessage { message }).await
    }

    async fn send_message(&self, message: v1::ServerMessage) -> Result<(), Status> {
        let sent = self.out.send_timeout(Ok(message), TAKE_TIMEOUT).await;
        sent.map_err(|_| {
            add(&self.counters.cut_idle, 1);
            Status::deadline_exceeded("the agent does not take messages")
        })
    }

    async fn end(&self, status: Status) {
        // The agent may be gone already, or not read; then nobody needs to know why.
        let _ = self.out.send_timeout(Err(status), TAKE_TIMEOUT).await;
    }

    fn cut(&self, cut: Option<Cut>) -> Status {
        match cut {
            Some(Cut::Revoked) => {
                add(&self.counters.refused_revoked, 1);
                revoked()
            }
            Some(Cut::Replaced) => {
                add(&self.counters.replaced, 1);
                Status::aborted(
                    "another stream of the same agent took over; is the agent's state folder \
                     copied to two hosts?",
                )
            }
            Some(Cut::Stopping) | None => Status::unavailable("the server is stopping"),
        }
    }

    fn failed(&self, error: IntakeError) -> Status {
        add(&self.counters.batches_failed, 1);
        tracing::error!(
            agent = %self.identity.id, error = &error as &dyn std::error::Error,
            "a batch was not stored"
        );
        Status::unavailable(error.to_string())
    }

    fn nonsense(&self, what: &str) -> Status {
        add(&self.counters.frames_bad, 1);
        Status::invalid_argument(what)
    }

    /// What the transport says about a message it could not read.
    fn bad_frame(&self, status: Status) -> Status {
        match status.code() {
            Code::OutOfRange | Code::ResourceExhausted => {
                self.nonsense("a message is larger than 8 MiB; update the agent")
            }
            Code::Internal | Code::InvalidArgument | Code::DataLoss | Code::Unimplemented => {
                self.nonsense("a message cannot be decoded; update the agent")
            }
            _ => status,
        }
    }
}

/// The oldest queued batch, once it is durable or failed; never if there is none.
async fn settled(in_flight: &mut VecDeque<Durable>) -> Result<u64, IntakeError> {
    match in_flight.front_mut() {
        Some(durable) => durable
            .await
            .unwrap_or_else(|dropped| Err(IntakeError(Box::new(dropped)))),
        None => std::future::pending().await,
    }
}

/// The batch that waits for room, once it has it; never if there is none.
async fn queued(queueing: &mut Option<Queueing>) -> Result<Durable, IntakeError> {
    match queueing {
        Some(queueing) => queueing.await,
        None => std::future::pending().await,
    }
}
