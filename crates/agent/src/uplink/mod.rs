//! The line to the servers: sends what the spool holds, brings back settings and tasks.
//!
//! - **Guarantees**: a record leaves the spool only after a server has said that it is durable.
//!   Records arrive in order. A server that is gone or refuses costs nothing but spool space.
//! - **Invariants**: only servers of the pinned authority are talked to. At most
//!   [`WINDOW_BATCHES`] batches are unacknowledged; reading from the server never waits for sending.
//! - **Not here**: the spool (behind [`Outbox`]), what settings and tasks mean.

mod backoff;
mod dial;
mod refusal;
mod stream;
mod watched;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use yinglong_model::{config::AgentConfig, host::HostReport, id::Epoch};
use yinglong_pki::tls;
use yinglong_proto::v1;

pub(crate) use dial::dial;
pub use dial::{DEFAULT_PORT, DialError};
pub use refusal::Ended;
pub(crate) use watched::Rejected;

use crate::enrol::Identity;

/// Batches sent and not yet acknowledged; a server acknowledges at least every 200 ms.
pub const WINDOW_BATCHES: usize = 32;
/// Most records of a batch.
const BATCH_RECORDS: usize = 512;
/// Size of a batch, unless one record alone is larger.
const BATCH_BYTES: usize = 1 << 20;
/// A stream that lived so long was a success, so the next failure starts from a short pause.
const STABLE: Duration = Duration::from_secs(60);

/// Why the spool does not give or take.
pub type OutboxError = Box<dyn std::error::Error + Send + Sync>;

/// What the uplink needs of the spool. Records are at most `MAX_RECORD_BYTES` long.
pub trait Outbox: Send + Sync + 'static {
    /// Identity of the spool.
    fn epoch(&self) -> Epoch;

    /// First sequence number that is still there, or would be the next if there is none; from 1.
    fn first_seq(&self) -> u64;

    /// Records from exactly `from_seq` on, at most so many and about so many bytes, but at least
    /// one; empty if there are none. Reads from the page cache: short enough not to need a thread.
    ///
    /// # Errors
    /// The disk refuses, or records are damaged. The uplink asks again later; to go on past
    /// damaged records, [`first_seq`](Self::first_seq) must move.
    fn read(
        &self,
        from_seq: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Vec<u8>>, OutboxError>;

    /// Gives up records up to and including `up_to`.
    ///
    /// # Errors
    /// The disk refuses.
    fn release(&self, up_to: u64) -> Result<(), OutboxError>;

    /// The last sequence number, 0 if there is none; wakes when something was appended.
    fn appended(&self) -> watch::Receiver<u64>;
}

/// What the server asks for.
pub trait Inbox: Send + Sync + 'static {
    /// Follow these settings. Must not block.
    fn config(&self, config: AgentConfig);

    /// Verify and carry out this task. Must not block.
    fn task(&self, task: v1::Task);
}

/// State of the line, for people and for the agent's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Link {
    /// Not tried yet.
    #[default]
    Starting,
    /// Attached to this server.
    Connected {
        /// Its address.
        server: String,
    },
    /// Not attached; the spool grows.
    Disconnected {
        /// Why, in plain words.
        reason: String,
    },
}

/// Everything the uplink works with.
pub struct Uplink {
    /// Who this host is.
    pub identity: Identity,
    /// Servers in order of preference, `host:port`; may change any time.
    pub servers: watch::Receiver<Vec<String>>,
    /// The spool.
    pub outbox: Arc<dyn Outbox>,
    /// Takes settings and tasks.
    pub inbox: Arc<dyn Inbox>,
    /// Makes a host report; called when attaching and for every heartbeat. Must not block long.
    pub report: Arc<dyn Fn() -> HostReport + Send + Sync>,
    /// Notified when a report should go out at once.
    pub report_now: Arc<Notify>,
    /// Time between two reports without being asked; a minute.
    pub report_every: Duration,
    /// Longest pause between attempts; half a minute.
    pub longest_pause: Duration,
    /// Told when the line's state changes.
    pub link: watch::Sender<Link>,
}

impl Uplink {
    /// Keeps the line up; never returns, and may be dropped at any time without loss.
    ///
    /// # Errors
    /// The identity cannot be used for TLS.
    pub async fn run(mut self) -> Result<std::convert::Infallible, tls::Error> {
        let identity = &self.identity;
        let tls = Arc::new(tls::agent_config(identity.authority, Some(&identity.tls))?);
        let mut pauses = backoff::Pauses::new(self.longest_pause);
        let mut next = 0_usize;
        let mut failed_in_row = 0_usize;
        loop {
            let servers = self.servers.borrow_and_update().clone();
            if servers.is_empty() {
                self.down("no server is known; start the agent with --server HOST:PORT");
                if self.servers.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            next %= servers.len();
            let Some(server) = servers.get(next) else {
                continue;
            };
            let began = Instant::now();
            let ended = self.attach(server, Arc::clone(&tls)).await;
            let reason = refusal::in_words(&ended);
            tracing::warn!(%server, %reason, "not connected; events are kept in the spool");
            self.down(&reason);
            if began.elapsed() >= STABLE {
                pauses.reset();
                failed_in_row = 0;
            }
            next += 1;
            failed_in_row += 1;
            // The other servers are tried at once, then all of them after a pause.
            if failed_in_row >= servers.len() {
                failed_in_row = 0;
                let pause = pauses.next(rand::random());
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    // A new list is worth an attempt; without its sender nothing ever changes.
                    Ok(()) = self.servers.changed() => {}
                }
            }
        }
    }

    async fn attach(&self, server: &str, tls: Arc<rustls::ClientConfig>) -> Ended {
        let rejected = Rejected::default();
        let ended = match dial(server, tls, &rejected).await {
            Ok(channel) => stream::run(self, server, channel).await,
            Err(error) => Ended::Dial(error),
        };
        if rejected.get() {
            return Ended::CertificateRejected;
        }
        ended
    }

    fn down(&self, reason: &str) {
        self.link.send_replace(Link::Disconnected {
            reason: reason.to_owned(),
        });
    }
}
