//! What goes into a correlator and what comes out.

use std::{borrow::Cow, sync::Arc};

use yinglong_model::{AgentId, Timestamp};
use yinglong_rules::About;

/// Name of the host in group-by: its agent's id, unless the event itself has a field of that name.
pub const HOST: &str = "agent_id";

/// A rule matched an event.
#[derive(Clone, Copy)]
pub struct Match<'a> {
    /// Id of the rule.
    pub rule_id: &'a str,
    /// Host.
    pub agent: &'a AgentId,
    /// When it happened, by the host's clock.
    pub time: Timestamp,
    /// When the server took it in, by the server's clock. When stored events are judged again: the
    /// same as `time`.
    pub received: Timestamp,
    /// Value of a canonical field of the event; `None` when it is not there.
    pub values: &'a dyn Fn(&str) -> Option<Cow<'a, str>>,
    /// Id of the event, or whatever else names it: the same for every delivery, different for
    /// different events.
    pub reference: &'a str,
}

/// A correlation holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Fired {
    /// What people read about the correlation; `about.id` names it.
    pub about: Arc<About>,
    /// Group-by names and their values, in the order of the rule. A value of more than 512 bytes is
    /// its beginning and its SHA-256.
    pub group: Vec<(String, String)>,
    /// Host of the match that made it hold; where the group spans hosts, one of several.
    pub agent: AgentId,
    /// Time of the first match in the window.
    pub start: Timestamp,
    /// Time of the last match in the window.
    pub end: Timestamp,
    /// What was computed; for temporal kinds the number of members seen.
    pub value: f64,
    /// Number of matches in the window.
    pub count: usize,
    /// References of the events behind it in the order of time, with bounded number: the newest of
    /// each member, then the newest.
    pub references: Vec<String>,
    /// Identity of this firing: 32 hexadecimal digits, the same whenever it is computed from the
    /// same matches.
    pub reference: String,
    /// Whether it is to be an alert; otherwise it only served other correlations.
    pub alert: bool,
}
