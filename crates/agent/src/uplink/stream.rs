//! One attached stream.

use std::{collections::VecDeque, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, codec::CompressionEncoding, transport::Channel};
use yinglong_proto::{
    MAX_MESSAGE_BYTES, PROTOCOL,
    v1::{
        self, agent_message::Message as ToServer, fleet_client::FleetClient,
        server_message::Message as FromServer,
    },
};

use super::{BATCH_BYTES, BATCH_RECORDS, Ended, Link, Uplink, WINDOW_BATCHES};

const WELCOME_TIMEOUT: Duration = Duration::from_secs(20);
/// Records that come within so long travel together: one wakeup for many, and no one waits.
const GATHER: Duration = Duration::from_millis(10);
/// Messages handed to HTTP/2 and not yet taken; what waits longer waits in the spool.
const OUTGOING: usize = 4;

/// Attaches and stays until the stream ends.
pub(super) async fn run(uplink: &Uplink, server: &str, channel: Channel) -> Ended {
    match Stream::attach(uplink, channel).await {
        Ok(mut stream) => {
            tracing::info!(%server, "connected");
            uplink.link.send_replace(Link::Connected {
                server: server.to_owned(),
            });
            match stream.serve().await {
                Ok(never) => match never {},
                Err(ended) => ended,
            }
        }
        Err(ended) => ended,
    }
}

struct Stream<'a> {
    uplink: &'a Uplink,
    outgoing: mpsc::Sender<v1::AgentMessage>,
    inbound: Streaming<v1::ServerMessage>,
    /// Next sequence number to send.
    next: u64,
    /// Last sequence numbers of the batches that are not acknowledged, oldest first.
    window: VecDeque<u64>,
}

impl<'a> Stream<'a> {
    async fn attach(uplink: &'a Uplink, channel: Channel) -> Result<Self, Ended> {
        let hello = v1::Hello {
            protocol: PROTOCOL,
            epoch: uplink.outbox.epoch().0.to_be_bytes().to_vec(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            first_seq: uplink.outbox.first_seq(),
            report: report(uplink)?,
        };
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        // Into an empty channel that nobody has closed.
        let _ = outgoing.try_send(message(ToServer::Hello(hello)));
        let mut client = FleetClient::new(channel)
            .accept_compressed(CompressionEncoding::Zstd)
            .send_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let greeting = async {
            let mut inbound = client
                .attach(ReceiverStream::new(messages))
                .await?
                .into_inner();
            let first = inbound.message().await?;
            Ok::<_, Status>((inbound, first.and_then(|first| first.message)))
        };
        let (inbound, first) = tokio::time::timeout(WELCOME_TIMEOUT, greeting)
            .await
            .map_err(|_| Ended::NoWelcome)?
            .map_err(|status| Ended::Status(Box::new(status)))?;
        let Some(FromServer::Welcome(welcome)) = first else {
            return Err(Ended::NoWelcome);
        };
        let (acked, last) = (welcome.acked_seq, *uplink.outbox.appended().borrow());
        if acked > last {
            return Err(Ended::SpoolTurnedBack { acked, last });
        }
        let mut stream = Self {
            uplink,
            outgoing,
            inbound,
            next: acked.saturating_add(1).max(uplink.outbox.first_seq()),
            window: VecDeque::new(),
        };
        stream.acknowledged(acked)?;
        Ok(stream)
    }

    async fn serve(&mut self) -> Result<std::convert::Infallible, Ended> {
        let (uplink, outgoing) = (self.uplink, self.outgoing.clone());
        let mut appended = uplink.outbox.appended();
        // What is there already goes at once.
        appended.mark_changed();
        let mut report_at = Instant::now() + uplink.report_every;
        let (mut waiting, mut gather_until) = (false, Instant::now());
        loop {
            let room = self.window.len() < WINDOW_BATCHES;
            tokio::select! {
                message = self.inbound.message() => {
                    let message = message.map_err(|status| Ended::Status(Box::new(status)))?;
                    self.take(message.ok_or(Ended::Closed)?)?;
                }
                changed = appended.changed(), if !waiting => {
                    if changed.is_err() {
                        return Err(Ended::Outbox("the spool was closed".into()));
                    }
                    waiting = true;
                    gather_until = Instant::now();
                    let last = *appended.borrow_and_update();
                    let there = last.saturating_add(1).saturating_sub(self.next);
                    if there < BATCH_RECORDS as u64 {
                        gather_until += GATHER;
                    }
                }
                permit = ready(&outgoing, gather_until), if waiting && room => {
                    let permit = permit.map_err(|_| Ended::Closed)?;
                    match next_batch(uplink, self.next)? {
                        Some((batch, last)) => {
                            permit.send(message(ToServer::Batch(batch)));
                            self.window.push_back(last);
                            self.next = last.saturating_add(1);
                        }
                        None => waiting = false,
                    }
                }
                () = sleep_until(report_at) => {
                    self.send_report()?;
                    report_at = Instant::now() + uplink.report_every;
                }
                () = uplink.report_now.notified() => {
                    self.send_report()?;
                    report_at = Instant::now() + uplink.report_every;
                }
            }
        }
    }

    fn take(&mut self, message: v1::ServerMessage) -> Result<(), Ended> {
        match message.message {
            Some(FromServer::AckedSeq(acked)) => self.acknowledged(acked)?,
            Some(FromServer::Config(json)) => match serde_json::from_slice(&json) {
                Ok(config) => self.uplink.inbox.config(config),
                // The settings in force stay in force.
                Err(error) => {
                    tracing::error!(%error, "the server's settings make no sense; update the agent");
                }
            },
            Some(FromServer::Task(task)) => self.uplink.inbox.task(task),
            // A newer server may say things this agent does not know yet.
            Some(FromServer::Welcome(_)) | None => {}
        }
        Ok(())
    }

    fn acknowledged(&mut self, acked: u64) -> Result<(), Ended> {
        // Never more than was sent, whatever the server says.
        let acked = acked.min(self.next.saturating_sub(1));
        while self.window.front().is_some_and(|last| *last <= acked) {
            self.window.pop_front();
        }
        self.uplink.outbox.release(acked).map_err(Ended::Outbox)
    }

    fn send_report(&self) -> Result<(), Ended> {
        let report = message(ToServer::Report(report(self.uplink)?));
        match self.outgoing.try_send(report) {
            Ok(()) => Ok(()),
            // Batches are on their way, which tells the server as much as a heartbeat would.
            Err(mpsc::error::TrySendError::Full(_)) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Ended::Closed),
        }
    }
}

/// Room for one message, not before `not_before`.
async fn ready(
    outgoing: &mpsc::Sender<v1::AgentMessage>,
    not_before: Instant,
) -> Result<mpsc::Permit<'_, v1::AgentMessage>, mpsc::error::SendError<()>> {
    sleep_until(not_before).await;
    outgoing.reserve().await
}

/// The records from `next` on, with the sequence number of the last; none if there are none.
fn next_batch(uplink: &Uplink, next: u64) -> Result<Option<(v1::Batch, u64)>, Ended> {
    let read = uplink.outbox.read(next, BATCH_RECORDS, BATCH_BYTES);
    // Records that were dropped meanwhile must not shift the numbers of those that follow.
    if uplink.outbox.first_seq() > next {
        return Err(Ended::SpoolSkipped);
    }
    let records = read.map_err(Ended::Outbox)?;
    let Ok(count @ 1..) = u64::try_from(records.len()) else {
        return Ok(None);
    };
    let batch = v1::Batch {
        first_seq: next,
        records,
    };
    Ok(Some((batch, next.saturating_add(count - 1))))
}

fn report(uplink: &Uplink) -> Result<Vec<u8>, Ended> {
    serde_json::to_vec(&(uplink.report)()).map_err(Ended::Report)
}

fn message(message: ToServer) -> v1::AgentMessage {
    v1::AgentMessage {
        message: Some(message),
    }
}
