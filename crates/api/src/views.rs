//! Documents of the data contract as the API shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yinglong_model::{AgentId, EventType, Timestamp, alert, event, host, rule::Level, statistics};

/// Something that happened once on a host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Event {
    /// Identity, the same for every delivery.
    pub id: String,
    /// Host.
    #[schema(value_type = String)]
    pub agent_id: AgentId,
    /// Address of the host when the event was taken in.
    pub ip: String,
    /// Name of the host when the event was taken in.
    pub hostname: String,
    /// `linux` or `windows`.
    #[schema(value_type = String)]
    pub system: event::System,
    /// Position in the agent's spool.
    pub seq: u64,
    /// When it happened, by the host's clock.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// When the agent saw it, by the host's clock.
    #[schema(value_type = String, format = DateTime)]
    pub observed_at: Timestamp,
    /// When the server made it durable, by the server's clock.
    #[schema(value_type = String, format = DateTime)]
    pub ingested_at: Timestamp,
    /// `process`, `connection`, `file`, `loginlog`, `dns`, `syscall`, `exit` or `loss`.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: EventType,
    /// Fields of the type.
    #[schema(value_type = Object)]
    pub data: serde_json::Value,
}

impl From<yinglong_model::Event> for Event {
    fn from(event: yinglong_model::Event) -> Self {
        let kind = event.data.event_type();
        let data = match &event.data {
            event::EventData::Process(data) => serde_json::to_value(data),
            event::EventData::Connection(data) => serde_json::to_value(data),
            event::EventData::File(data) => serde_json::to_value(data),
            event::EventData::Loginlog(data) => serde_json::to_value(data),
            event::EventData::Dns(data) => serde_json::to_value(data),
            event::EventData::Syscall(data) => serde_json::to_value(data),
            event::EventData::Exit(data) => serde_json::to_value(data),
            event::EventData::Loss(data) => serde_json::to_value(data),
        };
        Self {
            id: event.id.to_string(),
            agent_id: event.agent_id,
            ip: event.ip,
            hostname: event.hostname,
            system: event.system,
            seq: event.seq,
            time: event.time,
            observed_at: event.observed_at,
            ingested_at: event.ingested_at,
            kind,
            data: data.unwrap_or_default(),
        }
    }
}

/// Something a rule, a list or the server itself noticed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Identity.
    pub id: String,
    /// Host.
    #[schema(value_type = String)]
    pub agent_id: AgentId,
    /// Address of the host when it was raised.
    pub ip: String,
    /// Name of the host when it was raised.
    pub hostname: String,
    /// Event or inventory type, or `abnormal`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Rule name, `blacklist`, `intelligence` or a server check.
    pub source: String,
    /// Rule id; empty for lists and checks.
    pub rule_id: String,
    /// 0 danger, 1 suspicious, 2 hint.
    #[schema(value_type = u8)]
    pub level: Level,
    /// Matched values, sorted, joined by a bar.
    pub info: String,
    /// What a match means.
    pub description: String,
    /// The same in Chinese; may be empty.
    pub description_zh: String,
    /// ATT&CK techniques.
    pub attack: Vec<String>,
    /// 0 open, 1 handled, 2 ignored, 4 observed in learn mode.
    #[schema(value_type = u8)]
    pub status: alert::Status,
    /// When the observed thing happened.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// When the alert was stored.
    #[schema(value_type = String, format = DateTime)]
    pub raised_at: Timestamp,
    /// Last status change or repetition.
    #[schema(value_type = String, format = DateTime)]
    pub uptime: Timestamp,
    /// How often it occurred since it was opened.
    pub count: u64,
    /// What matched.
    pub matched: Vec<Matched>,
    /// The event or inventory element.
    #[schema(value_type = Object)]
    pub raw: serde_json::Value,
    /// Story it belongs to; empty when there is none.
    #[serde(default)]
    pub story: String,
}

/// One condition that was true.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Matched {
    /// Field.
    pub field: String,
    /// Its value.
    pub value: String,
    /// Condition type and data, as in the rule.
    pub condition: String,
    /// Where in the value it was found: first character and the one after the last, from 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spans: Vec<[u32; 2]>,
}

impl From<alert::Alert> for Alert {
    fn from(alert: alert::Alert) -> Self {
        let matched = alert.matched.into_iter();
        Self {
            id: alert.id,
            agent_id: alert.agent_id,
            ip: alert.ip,
            hostname: alert.hostname,
            kind: alert.kind,
            source: alert.source,
            rule_id: alert.rule_id,
            level: alert.level,
            info: alert.info,
            description: alert.description,
            description_zh: alert.description_zh,
            attack: alert.attack,
            status: alert.status,
            time: alert.time,
            raised_at: alert.raised_at,
            uptime: alert.uptime,
            count: alert.count,
            matched: matched
                .map(|m| Matched {
                    field: m.field,
                    value: m.value,
                    condition: m.condition,
                    spans: m.spans.into_iter().map(<[u32; 2]>::from).collect(),
                })
                .collect(),
            raw: alert.raw,
            story: alert.story,
        }
    }
}

/// A counted value.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Statistic {
    /// Event or inventory type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The value.
    pub info: String,
    /// Reports in the whole fleet.
    pub count: u64,
    /// Hosts that reported it, the first hundred of them.
    #[schema(value_type = Vec<String>)]
    pub server_list: Vec<AgentId>,
    /// Number of hosts that reported it.
    pub exist_count: u64,
    /// Last report.
    #[schema(value_type = String, format = DateTime)]
    pub uptime: Timestamp,
}

impl From<statistics::Statistic> for Statistic {
    fn from(statistic: statistics::Statistic) -> Self {
        Self {
            kind: statistic.kind,
            info: statistic.info,
            count: statistic.count,
            server_list: statistic.server_list,
            exist_count: statistic.exist_count,
            uptime: statistic.uptime,
        }
    }
}

/// A host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Host {
    /// Identity.
    #[schema(value_type = String)]
    pub agent_id: AgentId,
    /// Primary address.
    pub ip: String,
    /// Name.
    pub hostname: String,
    /// Distribution and kernel.
    pub system: String,
    /// First tag; empty without one.
    #[serde(rename = "type")]
    pub kind: String,
    /// Tags from running processes.
    pub tags: Vec<String>,
    /// Web roots.
    pub path: Vec<String>,
    /// 0 healthy, 1 offline, 2 blocked.
    #[schema(value_type = u8)]
    pub health: host::Health,
    /// Last heartbeat.
    #[schema(value_type = String, format = DateTime)]
    pub uptime: Timestamp,
    /// First contact.
    #[schema(value_type = String, format = DateTime)]
    pub enrolled_at: Timestamp,
    /// Version of the agent.
    pub agent_version: String,
    /// What observes this host.
    pub sensors: Vec<Sensor>,
    /// Open alerts.
    pub open_alerts: u64,
}

/// State of a sensor.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Sensor {
    /// Stream it feeds.
    pub stream: String,
    /// Source in use.
    pub source: String,
    /// Whether it observes now.
    pub running: bool,
    /// Why this source, or why none.
    pub reason: String,
    /// Rung of the ladder of sources this one is, 1 being the best; absent where the stream has no
    /// ladder, or the sensor does not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rung: Option<u8>,
    /// What is missing on that rung, in English; empty when nothing is.
    pub consequence: String,
}

impl From<&host::SensorStatus> for Sensor {
    fn from(status: &host::SensorStatus) -> Self {
        let rung = status.rung();
        Self {
            stream: status.stream.clone(),
            source: status.source.clone(),
            running: status.running,
            reason: status.reason.clone(),
            rung: rung.map(|rung| rung.number),
            consequence: rung.map_or("", |rung| rung.consequence).to_owned(),
        }
    }
}

impl Host {
    pub(crate) fn new(host: &host::Host, open_alerts: u64) -> Self {
        let report = &host.report;
        let sensors = report.sensors.iter().map(Sensor::from);
        Self {
            agent_id: host.agent_id.clone(),
            ip: host.ip.clone(),
            hostname: host.hostname.clone(),
            system: host.system.clone(),
            kind: host.kind.clone(),
            tags: report.tags.clone(),
            path: host.path.clone(),
            health: host.health,
            uptime: host.uptime,
            enrolled_at: host.enrolled_at,
            agent_version: report.agent_version.clone(),
            sensors: sensors.collect(),
            open_alerts,
        }
    }
}

/// What the agent costs its host.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentUsage {
    /// CPU time since the agent's start, in milliseconds.
    pub cpu_ms: u64,
    /// Proportional set size in bytes.
    pub pss_bytes: u64,
    /// Bytes waiting in the spool.
    pub spool_bytes: u64,
    /// Events waiting in the spool.
    pub spool_events: u64,
}

/// Books of one stream of one host.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
pub struct Books {
    /// Observed on the host.
    pub emitted: u64,
    /// Written to the agent's spool.
    pub spooled: u64,
    /// Left out by configuration.
    pub filtered: u64,
    /// Lost, by reason.
    pub dropped: std::collections::BTreeMap<String, u64>,
    /// Stored here.
    pub stored: u64,
    /// Spooled, not yet stored.
    pub in_flight: u64,
    /// Whether every observed item is explained.
    pub balanced: bool,
}

impl From<yinglong_server::ledger::Stream> for Books {
    fn from(stream: yinglong_server::ledger::Stream) -> Self {
        let dropped = stream.dropped.into_iter();
        Self {
            emitted: stream.emitted,
            spooled: stream.spooled,
            filtered: stream.filtered,
            dropped: dropped
                .map(|(reason, count)| (reason.as_str().to_owned(), count))
                .collect(),
            stored: stream.stored,
            in_flight: stream.in_flight,
            balanced: stream.balanced,
        }
    }
}

#[cfg(test)]
mod tests {
    use yinglong_model::{EventData, EventId, id::Epoch};

    use super::*;

    #[test]
    fn an_event_looks_like_the_stored_document() {
        let agent_id = AgentId::from_bits(1);
        let event = yinglong_model::Event {
            id: EventId::derive(&agent_id, Epoch(1), 1),
            agent_id,
            ip: "192.0.2.1".into(),
            hostname: "web-1".into(),
            system: event::System::Linux,
            seq: 1,
            time: Timestamp::from_secs(1),
            observed_at: Timestamp::from_secs(2),
            ingested_at: Timestamp::from_secs(3),
            data: EventData::Process(Box::default()),
        };
        let stored = serde_json::to_value(&event).unwrap();
        assert_eq!(serde_json::to_value(Event::from(event)).unwrap(), stored);
    }

    #[test]
    fn an_alert_looks_like_the_stored_document() {
        let alert = alert::Alert {
            id: "a".into(),
            agent_id: AgentId::from_bits(1),
            ip: "192.0.2.1".into(),
            hostname: "web-1".into(),
            kind: "process".into(),
            source: "rule".into(),
            rule_id: "rule-1".into(),
            level: Level::Danger,
            info: "i".into(),
            description: "d".into(),
            description_zh: "z".into(),
            attack: vec!["T1059".into()],
            status: alert::Status::Learned,
            time: Timestamp::from_secs(1),
            raised_at: Timestamp::from_secs(2),
            uptime: Timestamp::from_secs(3),
            count: 4,
            matched: vec![alert::Matched {
                field: "name".into(),
                value: "v".into(),
                condition: "string v".into(),
                spans: Vec::new(),
            }],
            raw: serde_json::json!({"x": 1}),
            story: "s".into(),
        };
        let stored = serde_json::to_value(&alert).unwrap();
        assert_eq!(serde_json::to_value(Alert::from(alert)).unwrap(), stored);
    }
}
