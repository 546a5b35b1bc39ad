//! Hosts as the server knows them: the `client` collection.

use serde::{Deserialize, Serialize};

use crate::{AgentId, Ledger, Timestamp, event::System};

/// What an agent says about its host, at every heartbeat.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HostReport {
    /// Primary address: the source address of the route to the server.
    pub ip: String,
    /// All addresses, loopback left out.
    pub addresses: Vec<String>,
    /// Host name.
    pub hostname: String,
    /// Operating system family.
    pub platform: System,
    /// Distribution and kernel in one line.
    pub system: String,
    /// Tags from running processes: `web`, `db`.
    pub tags: Vec<String>,
    /// Web roots.
    pub path: Vec<String>,
    /// Version of the agent.
    pub agent_version: String,
    /// Identity of the current boot.
    pub boot_id: String,
    /// What observes this host.
    pub sensors: Vec<SensorStatus>,
    /// Books of the agent.
    pub ledger: Ledger,
    /// Resources the agent uses.
    pub usage: AgentUsage,
}

/// State of one sensor.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SensorStatus {
    /// Stream it feeds: `process`, `connection`, `file`, `loginlog`, `dns`, `syscall`, `exit`, `inventory`.
    pub stream: String,
    /// Source in use, for example `ebpf`, `proc-connector`, `fanotify`.
    pub source: String,
    /// Whether it observes now.
    pub running: bool,
    /// Why this source and not a better one, or why none; empty when it is the best one.
    pub reason: String,
}

/// What the agent costs its host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentUsage {
    /// CPU time used since the agent's start, in milliseconds.
    pub cpu_ms: u64,
    /// Proportional set size in bytes.
    pub pss_bytes: u64,
    /// Bytes waiting in the spool.
    pub spool_bytes: u64,
    /// Events waiting in the spool.
    pub spool_events: u64,
}

/// Whether a host can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Health {
    /// 0: heartbeats arrive.
    #[default]
    Healthy = 0,
    /// 1: no heartbeat for five minutes.
    Offline = 1,
    /// 2: heartbeats arrive, the task channel is blocked.
    Blocked = 2,
}

crate::numeric_code!(Health { Healthy = 0, Offline = 1, Blocked = 2 });

/// A host: one document of the `client` collection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Identity.
    pub agent_id: AgentId,
    /// Primary address.
    pub ip: String,
    /// Name.
    pub hostname: String,
    /// Web roots.
    pub path: Vec<String>,
    /// Distribution and kernel.
    pub system: String,
    /// First tag, as the classic system showed it; empty without one.
    #[serde(rename = "type")]
    pub kind: String,
    /// Last heartbeat.
    pub uptime: Timestamp,
    /// Reachability.
    pub health: Health,
    /// First contact.
    pub enrolled_at: Timestamp,
    /// The last report, complete.
    pub report: HostReport,
}
