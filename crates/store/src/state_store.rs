//! Everything that is not an event: counters, alerts, hosts, inventories, documents.

use serde_json::Value;
use yinglong_model::{
    AgentId, Alert, InventoryType, Timestamp, alert::Status, host::Host, id::Epoch,
    inventory::Element, rule::Level, statistics::Statistic,
};

use crate::{LogPosition, Result, query::Query};

/// Where state lives.
pub trait StateStore: Send + Sync {
    /// Counts reports and returns, for each, the values *after* it, in order. What is counted is
    /// kept in memory and made durable by the next [`StateStore::apply`] that moves the position.
    /// Records at or before [`StateStore::position`] are already counted: do not count them again.
    fn count(&self, reports: &[Report]) -> Result<Vec<Counted>>;

    /// Forgets what was counted since the last [`StateStore::apply`]: the step failed and will be
    /// taken again as a whole.
    fn discard(&self);

    /// Makes counters and changes durable in one atomic step, together with the log position.
    ///
    /// Changes whose position is not beyond [`StateStore::position`] are either from outside the
    /// log (`acked` and `stored` are empty: an intelligence answer, a server check), then alerts
    /// and inventories are stored and the position and the counters stay as they are; or they are
    /// a batch read again, then nothing is stored and what was counted since the last
    /// `apply` is forgotten, because it is in the store already.
    ///
    /// # Errors
    /// After `Unavailable`, counters are still held; apply the same changes again.
    fn apply(&self, changes: &Changes) -> Result<()>;

    /// Log position of the last [`StateStore::apply`].
    fn position(&self) -> Result<LogPosition>;

    /// Last sequence number of each (agent, epoch) among records up to [`StateStore::position`].
    fn acked(&self) -> Result<Vec<(AgentId, Epoch, u64)>>;

    /// Sums of [`Changes::stored`] per (agent, stream), for the ledger.
    fn stored_totals(&self) -> Result<Vec<(AgentId, String, u64)>>;

    /// Counted values, as of the last [`StateStore::apply`], that match `count:` and `exist_count:` conditions, most recent first.
    fn statistics(&self, query: &Query, limit: usize) -> Result<Vec<Statistic>>;

    /// One counted value.
    fn statistic(&self, kind: &str, info: &str) -> Result<Option<Statistic>>;

    /// The newest alert of an identity.
    fn alert_by_identity(&self, identity: &Identity) -> Result<Option<Alert>>;

    /// One alert.
    fn alert(&self, id: &str) -> Result<Option<Alert>>;

    /// Alerts that match, newest first, and how many there are in all.
    fn alerts(&self, filter: &AlertFilter) -> Result<(Vec<Alert>, u64)>;

    /// Moves alerts to a status; returns how many changed.
    fn set_alert_status(&self, ids: &[String], status: Status, now: Timestamp) -> Result<u64>;

    /// Alerts per hour since a time: (start of the hour, level, number), oldest first. Those of
    /// learn mode are counted only when `learned` asks for them.
    fn alerts_per_hour(
        &self,
        since: Timestamp,
        learned: bool,
    ) -> Result<Vec<(Timestamp, Level, u64)>>;

    /// Every host.
    fn hosts(&self) -> Result<Vec<Host>>;

    /// One host.
    fn host(&self, agent: &AgentId) -> Result<Option<Host>>;

    /// Stores a host.
    fn put_host(&self, host: &Host) -> Result<()>;

    /// Inventory of a host; `None` when it never sent one.
    fn inventory(&self, agent: &AgentId, kind: InventoryType) -> Result<Option<StoredInventory>>;

    /// Inventory elements of all hosts that match, with their host.
    fn search_inventories(&self, query: &Query, limit: usize) -> Result<Vec<(AgentId, Element)>>;

    /// A document of a collection (`config`, `rules`, `users`, `sessions`, `tokens`, `agents`,
    /// `server`, `file`, `task`, ...).
    fn document(&self, collection: &str, key: &str) -> Result<Option<Value>>;

    /// All documents of a collection, by key.
    fn documents(&self, collection: &str) -> Result<Vec<(String, Value)>>;

    /// Stores documents of a collection in one atomic step; `None` removes.
    fn put_documents(&self, collection: &str, changes: &[(String, Option<Value>)]) -> Result<()>;

    /// Adds to the audit log.
    fn audit(&self, entry: &AuditEntry) -> Result<()>;

    /// Newest audit entries.
    fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>>;
}

/// One report of a counted value by a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Event or inventory type.
    pub kind: String,
    /// Value.
    pub info: String,
    /// Reporting host.
    pub agent: AgentId,
    /// When.
    pub at: Timestamp,
}

/// Values after a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Reports in the whole fleet, this one included.
    pub count: u64,
    /// Hosts that reported it, this one included.
    pub exist_count: u64,
}

/// What one batch of the log changes besides counters.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Log position of the last record of the batch.
    pub position: LogPosition,
    /// Last sequence number per (agent, epoch) in the batch.
    pub acked: Vec<(AgentId, Epoch, u64)>,
    /// New alerts, and changed ones, whole.
    pub alerts: Vec<Alert>,
    /// Inventories to replace.
    pub inventories: Vec<(AgentId, InventoryType, StoredInventory)>,
    /// Events stored per (agent, stream), to be added to the totals of the ledger.
    pub stored: Vec<(AgentId, String, u64)>,
}

/// An inventory with the time it was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredInventory {
    /// Elements.
    pub data: Vec<Element>,
    /// When the agent took it.
    pub uptime: Timestamp,
}

/// What makes two alerts the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Host.
    pub agent: AgentId,
    /// Rule or list.
    pub source: String,
    /// Event or inventory type.
    pub kind: String,
    /// Matched values.
    pub info: String,
}

/// Which alerts are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertFilter {
    /// Status; all when `None`.
    pub status: Option<Status>,
    /// Level; all when `None`.
    pub level: Option<Level>,
    /// Host; all when `None`.
    pub agent: Option<AgentId>,
    /// Type; all when `None`.
    pub kind: Option<String>,
    /// Story; all when `None`.
    pub story: Option<String>,
    /// Text contained in source, info or description, ignoring case.
    pub text: Option<String>,
    /// Raised at or after.
    pub since: Option<Timestamp>,
    /// Alerts to skip.
    pub offset: usize,
    /// Alerts wanted.
    pub limit: usize,
}

/// One change a person or the system made.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AuditEntry {
    /// When.
    pub at: Timestamp,
    /// Who: a user name, or `system`.
    pub actor: String,
    /// From where; empty for the system.
    pub address: String,
    /// What: for example `config.update`.
    pub action: String,
    /// On what.
    pub subject: String,
    /// State before and after, without secrets.
    pub detail: Value,
}
