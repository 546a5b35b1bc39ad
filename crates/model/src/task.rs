//! Response tasks, their queue and results, servers and packages.

use serde::{Deserialize, Serialize};

use crate::{AgentId, Timestamp};

/// What an agent can be told to do. Names are the classic ones, additions after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskType {
    /// End processes by name, path or pid.
    Kill,
    /// Delete a file.
    Delete,
    /// Replace the agent by a newer package.
    Update,
    /// Read the configuration again.
    Reload,
    /// Stop, and stay stopped.
    Quit,
    /// Remove the agent.
    Uninstall,
    /// Run a command; refused unless enabled on the host itself.
    Exec,
    /// Move a file to the vault.
    Quarantine,
    /// Bring a file back from the vault.
    Restore,
    /// Cut the host off, but for the server.
    Isolate,
    /// End isolation.
    Release,
    /// Refuse a process, hash or address everywhere.
    Block,
}

/// A task as a person made it: the `task` collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Identity.
    pub id: String,
    /// What a person called it.
    pub name: String,
    /// What to do.
    #[serde(rename = "type")]
    pub kind: TaskType,
    /// Argument.
    pub command: String,
    /// Hosts it is for.
    pub host_list: Vec<AgentId>,
    /// When it was made.
    pub time: Timestamp,
}

/// A task waiting for one host: the `queue` collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueuedTask {
    /// The task.
    pub task_id: String,
    /// The host.
    pub agent_id: AgentId,
    /// The host's address.
    pub ip: String,
    /// What to do.
    #[serde(rename = "type")]
    pub kind: TaskType,
    /// Argument.
    pub command: String,
    /// When it was made.
    pub time: Timestamp,
}

/// What came of a task on one host: the `task_result` collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskResult {
    /// The task.
    pub task_id: String,
    /// The host.
    pub agent_id: AgentId,
    /// The host's address.
    pub ip: String,
    /// `true` when done, `false` when not.
    pub status: String,
    /// Output or reason.
    pub data: String,
    /// When it ended.
    pub time: Timestamp,
}

/// A server node: the `server` collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerNode {
    /// Address agents use, `ip:port`.
    pub netloc: String,
    /// Last sign of life.
    pub uptime: Timestamp,
}

/// A package agents are updated from: the `file` collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// `32` or `64`.
    pub platform: String,
    /// `linux` or `windows`.
    pub system: String,
    /// `agent`, `daemon` or `data`.
    #[serde(rename = "type")]
    pub kind: String,
    /// MD5, as the classic system has it.
    pub hash: String,
    /// SHA-256.
    pub sha256: String,
    /// Ed25519 signature of the content, base64.
    pub signature: String,
    /// Version.
    pub version: String,
    /// When it was stored.
    pub uptime: Timestamp,
}
