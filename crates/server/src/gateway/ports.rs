//! What the gateway needs of the server.

use std::{net::IpAddr, pin::Pin};

use tokio::sync::{oneshot, watch};
use yinglong_model::{AgentId, Timestamp, config::AgentConfig, host::HostReport, id::Epoch};
use yinglong_pki::{Serial, TokenError};
use yinglong_proto::v1;

/// Consecutive records of one agent, none of them acknowledged before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncomingBatch {
    /// Whose certificate the stream has.
    pub agent: AgentId,
    /// Identity of the agent's spool.
    pub epoch: Epoch,
    /// Sequence number of the first record.
    pub first_seq: u64,
    /// Encoded records, not yet looked into. Never empty.
    pub records: Vec<Vec<u8>>,
    /// When the batch arrived.
    pub received_at: Timestamp,
    /// The agent said when it attached that what is missing before this batch is gone.
    pub may_skip: bool,
}

impl IncomingBatch {
    /// Sequence number of the last record.
    pub fn last_seq(&self) -> u64 {
        let more = u64::try_from(self.records.len().saturating_sub(1)).unwrap_or(u64::MAX);
        self.first_seq.saturating_add(more)
    }
}

/// Resolves when a queued batch is durable, to the last sequence number that now is; dropping the
/// sender counts as failure.
pub type Durable = oneshot::Receiver<Result<u64, IntakeError>>;

/// Why a batch did not become durable. The agent keeps it and sends it again.
#[derive(Debug, thiserror::Error)]
#[error("the server cannot store events at the moment; the agent keeps them and tries again")]
pub struct IntakeError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where batches and reports go.
pub trait Intake: Send + Sync + 'static {
    /// Last durable sequence number of an agent's spool; 0 if there is none. Must not block.
    fn acked(&self, agent: &AgentId, epoch: Epoch) -> u64;

    /// Queues a batch; waits while the queue is full. Batches of one agent come in order, several
    /// before the first is durable.
    fn accept(
        &self,
        batch: IncomingBatch,
    ) -> Pin<Box<dyn Future<Output = Result<Durable, IntakeError>> + Send + '_>>;

    /// Takes a heartbeat; `peer` is the address the connection comes from. Must not block.
    fn report(&self, agent: &AgentId, peer: IpAddr, report: HostReport);

    /// Takes what became of a task. Must not block.
    fn task_result(&self, agent: &AgentId, result: v1::TaskResult);
}

/// A host that has just joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// Identity the gateway chose.
    pub agent: AgentId,
    /// Serial number of its certificate; what revocation names.
    pub serial: Serial,
    /// When that certificate expires.
    pub not_after: Timestamp,
    /// What the host calls itself.
    pub hostname: String,
    /// Where it connected from.
    pub peer: IpAddr,
}

/// Why a token was not redeemed.
#[derive(Debug, thiserror::Error)]
pub enum RedeemError {
    /// It does not let this host join.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The tokens cannot be read or written.
    #[error("the server cannot look up join tokens at the moment; see its log")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Who belongs to the fleet.
pub trait Roster: Send + Sync + 'static {
    /// Whether the agent or this certificate of it may not connect. Must not block.
    fn is_revoked(&self, agent: &AgentId, serial: &Serial) -> bool;

    /// Uses a join token once, durably. May block; called on a thread where that is allowed.
    ///
    /// # Errors
    /// The token does not work, or tokens cannot be looked up.
    fn redeem_token(&self, secret: &[u8; 16]) -> Result<(), RedeemError>;

    /// Records a host that joined, durably. May block, like `redeem_token`.
    ///
    /// # Errors
    /// It cannot be recorded; the host is told to try again.
    fn enrolled(&self, joined: Joined) -> Result<(), Box<dyn std::error::Error + Send + Sync>>;

    /// What the agent is to do. Must not block.
    fn agent_config(&self, agent: &AgentId) -> AgentConfig;

    /// Changes whenever [`agent_config`](Self::agent_config) or
    /// [`is_revoked`](Self::is_revoked) may answer differently.
    fn revision(&self) -> watch::Receiver<u64>;
}
