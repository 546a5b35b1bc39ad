//! One story: what happened below one root within one stretch of time.

use serde::{Deserialize, Serialize};
use yinglong_model::{AgentId, Timestamp, rule::Level};

use super::AlertNote;
use crate::reference::Reference;

/// Techniques one story lists.
const MOST_TECHNIQUES: usize = 64;
/// Alerts by which a repetition is recognised.
const REMEMBERED: usize = 64;
/// Bytes of a name in a title.
const NAME_BYTES: usize = 200;

/// A story as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Story {
    /// Identity: 32 hexadecimal digits, the same whenever the same alerts are told.
    pub id: String,
    /// Host.
    pub agent: AgentId,
    /// Time of the earliest alert.
    pub first: Timestamp,
    /// Time of the latest alert.
    pub last: Timestamp,
    /// The most dangerous of its alerts.
    pub level: Level,
    /// Number of alerts.
    pub alerts: u64,
    /// ATT&CK techniques of its alerts, sorted; at most 64.
    pub techniques: Vec<String>,
    /// What happened, in plain words.
    pub title: String,
    /// The same in Chinese.
    pub title_zh: String,
    /// Process id of the root, if a process is.
    pub root_pid: Option<u32>,
}

/// What a story is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Plot {
    /// What happened below a process.
    Tree { pid: u32, name: String },
    /// A login whose session did nothing yet.
    Login { user: String },
    /// A single alert.
    Alone,
}

/// A story as kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Kept {
    pub(crate) id: [u8; 16],
    pub(crate) agent: AgentId,
    pub(crate) plot: Plot,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    pub(crate) level: Level,
    pub(crate) alerts: u64,
    pub(crate) techniques: Vec<String>,
    /// Name of the worst alert, and the same in Chinese.
    pub(crate) worst: (String, String),
    /// The last alerts.
    pub(crate) recent: Vec<Reference>,
}

impl Kept {
    /// A story that begins with an alert, without it.
    pub(crate) fn begin(id: [u8; 16], plot: Plot, alert: &AlertNote<'_>) -> Self {
        Self {
            id,
            agent: alert.agent.clone(),
            plot,
            first: alert.time,
            last: alert.time,
            level: Level::Hint,
            alerts: 0,
            techniques: Vec::new(),
            worst: (String::new(), String::new()),
            recent: Vec::new(),
        }
    }

    /// Adds an alert; `false` when it was added before.
    pub(crate) fn add(&mut self, alert: &AlertNote<'_>) -> bool {
        let reference = Reference::parse(alert.reference);
        if self.recent.contains(&reference) {
            return false;
        }
        if self.recent.len() >= REMEMBERED {
            self.recent.remove(0);
        }
        self.recent.push(reference);
        if self.alerts == 0 || alert.level < self.level {
            self.level = alert.level;
            let zh = if alert.name_zh.is_empty() {
                alert.name
            } else {
                alert.name_zh
            };
            self.worst = (shortened(alert.name), shortened(zh));
        }
        self.alerts += 1;
        self.first = self.first.min(alert.time);
        self.last = self.last.max(alert.time);
        for technique in alert.techniques {
            if self.techniques.len() >= MOST_TECHNIQUES {
                break;
            }
            if let Err(place) = self.techniques.binary_search(technique) {
                self.techniques.insert(place, technique.clone());
            }
        }
        true
    }

    /// As people see it.
    pub(crate) fn told(&self) -> Story {
        let (title, title_zh) = self.titles();
        Story {
            id: format!("{:032x}", u128::from_be_bytes(self.id)),
            agent: self.agent.clone(),
            first: self.first,
            last: self.last,
            level: self.level,
            alerts: self.alerts,
            techniques: self.techniques.clone(),
            title,
            title_zh,
            root_pid: match self.plot {
                Plot::Tree { pid, .. } => Some(pid),
                _ => None,
            },
        }
    }

    fn titles(&self) -> (String, String) {
        let (worst, worst_zh) = &self.worst;
        let more = match self.alerts {
            0 | 1 => String::new(),
            2 => " and 1 more alert".to_owned(),
            alerts => format!(" and {} more alerts", alerts - 1),
        };
        let more_zh = match self.alerts {
            0 | 1 => String::new(),
            alerts => format!("等 {alerts} 条告警"),
        };
        match &self.plot {
            Plot::Tree { name, .. } if !name.is_empty() => (
                format!("{worst}{more} below {name}"),
                format!("{name} 进程树：{worst_zh}{more_zh}"),
            ),
            Plot::Login { user } => (
                format!("{worst}{more} in a session of {user}"),
                format!("{user} 的会话：{worst_zh}{more_zh}"),
            ),
            _ => (format!("{worst}{more}"), format!("{worst_zh}{more_zh}")),
        }
    }
}

/// The beginning of a name.
pub(crate) fn shortened(name: &str) -> String {
    let end = name
        .char_indices()
        .map(|(place, c)| place + c.len_utf8())
        .take_while(|end| *end <= NAME_BYTES)
        .last()
        .unwrap_or_default();
    name.get(..end).unwrap_or_default().to_owned()
}
