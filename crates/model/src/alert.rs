//! Alerts: the `notice` collection.

use serde::{Deserialize, Serialize};

use crate::{AgentId, Timestamp, rule::Level};

/// Where an alert stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum Status {
    /// 0: nobody has dealt with it.
    #[default]
    Open = 0,
    /// 1: dealt with.
    Handled = 1,
    /// 2: harmless; its identity stays silent.
    Ignored = 2,
    /// 4: observed in learn mode.
    Learned = 4,
}

crate::numeric_code!(Status { Open = 0, Handled = 1, Ignored = 2, Learned = 4 });

/// One alert. Its identity is (host, rule or list, type, info).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Hash of the identity and of the time it was opened.
    pub id: String,
    /// Host.
    pub agent_id: AgentId,
    /// Host's address when it was raised.
    pub ip: String,
    /// Host's name when it was raised.
    pub hostname: String,
    /// Event or inventory type; `abnormal` for what the server itself notices.
    #[serde(rename = "type")]
    pub kind: String,
    /// Rule name, `blacklist`, `intelligence` or a server check.
    pub source: String,
    /// Rule id, empty for lists and checks.
    pub rule_id: String,
    /// How dangerous.
    pub level: Level,
    /// Matched values, sorted, joined by a bar.
    pub info: String,
    /// What a match means.
    pub description: String,
    /// The same in Chinese, when the rule has it.
    #[serde(default)]
    pub description_zh: String,
    /// ATT&CK techniques.
    #[serde(default)]
    pub attack: Vec<String>,
    /// Where it stands.
    pub status: Status,
    /// When the observed thing happened.
    pub time: Timestamp,
    /// When the alert was stored.
    pub raised_at: Timestamp,
    /// Last status change or repetition.
    pub uptime: Timestamp,
    /// How often the identity occurred since it was opened.
    pub count: u64,
    /// What matched: field and value.
    #[serde(default)]
    pub matched: Vec<Matched>,
    /// The event or inventory element, as JSON.
    pub raw: serde_json::Value,
    /// Story it belongs to; empty for alerts of servers that told none.
    #[serde(default)]
    pub story: String,
}

/// One condition that was true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// Field.
    pub field: String,
    /// Its value.
    pub value: String,
    /// Condition type and data, as in the rule.
    pub condition: String,
    /// Where in the value it was found: first character and the one after the last, from 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<(u32, u32)>,
}
