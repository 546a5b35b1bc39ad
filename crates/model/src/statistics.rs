//! How often and where something was reported: the `statistics` collection.

use serde::{Deserialize, Serialize};

use crate::{AgentId, EventData, EventType, InventoryType, Timestamp};

/// One counted value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistic {
    /// Event or inventory type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The counted value.
    pub info: String,
    /// Reports in the whole fleet.
    pub count: u64,
    /// Hosts that reported it, the first [`SERVER_LIST_LIMIT`] of them.
    pub server_list: Vec<AgentId>,
    /// Number of hosts that reported it.
    pub exist_count: u64,
    /// Last report.
    pub uptime: Timestamp,
}

/// Hosts listed by name; more are only counted, so that a hot value stays cheap.
pub const SERVER_LIST_LIMIT: usize = 100;

/// Field whose values are counted for an event type; `None` when none is.
pub const fn event_key(event_type: EventType) -> Option<&'static str> {
    match event_type {
        EventType::Process => Some("name"),
        EventType::Connection => Some("remote_ip"),
        EventType::Loginlog => Some("remote"),
        EventType::Dns => Some("query"),
        EventType::Syscall => Some("call_name"),
        EventType::Exit => Some("exit_name"),
        EventType::File | EventType::Loss => None,
    }
}

/// Field whose values are counted for an inventory type; `None` when none is.
pub const fn inventory_key(kind: InventoryType) -> Option<&'static str> {
    match kind {
        InventoryType::Userlist
        | InventoryType::Startup
        | InventoryType::Service
        | InventoryType::Module
        | InventoryType::Sudoer
        | InventoryType::Package => Some("name"),
        InventoryType::Listening => Some("address"),
        InventoryType::Crontab => Some("command"),
        InventoryType::Sshkey => Some("fingerprint"),
        InventoryType::Container => Some("image"),
        InventoryType::Processlist => None,
    }
}

/// Value of an event that is counted. Empty values are not.
pub fn event_value(data: &EventData) -> Option<String> {
    let value = data.field(event_key(data.event_type())?)?;
    if value.is_empty() {
        None
    } else {
        Some(value.into_owned())
    }
}
