//! What helps to judge an alert: how common it is, who started it, what else happened.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use yinglong_model::{Event as StoredEvent, EventData, EventType, Timestamp};
use yinglong_store::{
    EventStore, Query,
    event_store::PageRequest,
    query::{Comparison, Condition, HostKey, Key, Relation, Target, Test},
};

use crate::{
    app::App,
    error::Result,
    views::{Event, Statistic},
};

/// How far nearby events are away.
const NEARBY: Duration = Duration::from_secs(60);
/// Nearby events shown before, and after.
const EACH_SIDE: usize = 10;
/// Longest chain of ancestors followed.
const GENERATIONS: usize = 12;
/// Longest time one look into the event store may take.
const TIME_LIMIT: Duration = Duration::from_secs(2);

/// What helps to judge an alert.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Context {
    /// How common the counted value is in the fleet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statistic: Option<Statistic>,
    /// The process itself, then its ancestors, nearest first.
    pub process_tree: Vec<ProcessNode>,
    /// What else happened on the host within a minute, oldest first, at most 20.
    pub nearby_events: Vec<Event>,
}

/// A process.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProcessNode {
    /// Process id, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u64>,
    /// Parent's process id, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ppid: Option<u64>,
    /// Executable.
    pub name: String,
    /// Command line, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// User, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// When it was executed, where the event is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub time: Option<Timestamp>,
    /// The event of its execution, where it is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

/// Collects the evidence.
pub(crate) fn of(app: &App, alert: &yinglong_model::Alert) -> Result<Context> {
    let events = app.server.events().as_ref();
    let host = Condition {
        key: Key::Host(HostKey::AgentId),
        test: Test::Same(alert.agent_id.to_string()),
    };
    let counted = Target::from_name(&alert.kind)
        .and_then(Target::statistics_key)
        .and_then(|key| field(&alert.raw, key));
    let statistic = match counted {
        Some(value) => app.server.state().statistic(&alert.kind, &value)?,
        None => None,
    };
    Ok(Context {
        statistic: statistic.map(Statistic::from),
        process_tree: if alert.kind == EventType::Process.as_str() {
            process_tree(events, &host, alert)?
        } else {
            Vec::new()
        },
        nearby_events: nearby(events, host, alert)?,
    })
}

/// Value of a field of an event, or of an inventory element.
fn field(raw: &Value, key: &str) -> Option<String> {
    match raw.get("data").unwrap_or(raw).get(key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn process_tree(
    events: &dyn EventStore,
    host: &Condition,
    alert: &yinglong_model::Alert,
) -> Result<Vec<ProcessNode>> {
    let data = alert.raw.get("data").unwrap_or(&alert.raw);
    let number = |key: &str| data.get(key).and_then(Value::as_u64);
    let text = |key: &str| field(&alert.raw, key);
    let mut tree = vec![ProcessNode {
        pid: number("pid"),
        ppid: number("ppid"),
        name: text("name").unwrap_or_default(),
        command: text("command"),
        user: text("user"),
        time: Some(alert.time),
        event_id: alert
            .raw
            .get("id")
            .and_then(Value::as_str)
            .map(str::to_owned),
    }];
    // What the agent saw when it happened; stored events add what they know.
    let seen: Vec<&str> = data
        .get("ancestors")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let mut pid = number("ppid").filter(|pid| *pid != 0);
    let mut before = alert.time;
    for generation in 0..GENERATIONS {
        let seen = seen.get(generation).copied();
        let found = match pid {
            Some(pid) => execution(events, host, pid, before)?,
            None => None,
        };
        // A pid is reused: what does not fit what the agent saw is another process.
        let found = found.filter(|(event, _)| {
            let EventData::Process(process) = &event.data else {
                return false;
            };
            seen.is_none_or(|seen| base_name(seen) == base_name(&process.name))
        });
        match (found, seen) {
            (Some((event, node)), _) => {
                before = event.time;
                pid = node.ppid.filter(|pid| *pid != 0);
                tree.push(node);
            }
            (None, Some(seen)) => {
                let command = text("parent_command").filter(|_| generation == 0);
                tree.push(ProcessNode {
                    pid: pid.take(),
                    name: seen.to_owned(),
                    command,
                    ..ProcessNode::default()
                });
            }
            (None, None) => break,
        }
    }
    Ok(tree)
}

/// The last execution of a pid before a time.
fn execution(
    events: &dyn EventStore,
    host: &Condition,
    pid: u64,
    before: Timestamp,
) -> Result<Option<(StoredEvent, ProcessNode)>> {
    let Ok(than) = i64::try_from(pid) else {
        return Ok(None);
    };
    let mut query = Query::of(Target::Event(EventType::Process)).until(Some(before));
    query.conditions = vec![
        host.clone(),
        Condition {
            key: Key::Data("pid".to_owned()),
            test: Test::Number(Comparison {
                relation: Relation::Equal,
                than,
            }),
        },
    ];
    let page = events.search(&query, &page(1))?;
    Ok(page.events.into_iter().next().map(|event| {
        let node = match &event.data {
            EventData::Process(process) => ProcessNode {
                pid: Some(process.pid.into()),
                ppid: Some(process.ppid.into()),
                name: process.name.clone(),
                command: Some(process.command.clone()),
                user: process.user.clone(),
                time: Some(event.time),
                event_id: Some(event.id.to_string()),
            },
            _ => ProcessNode::default(),
        };
        (event, node)
    }))
}

fn nearby(
    events: &dyn EventStore,
    host: Condition,
    alert: &yinglong_model::Alert,
) -> Result<Vec<Event>> {
    let around = Query {
        conditions: vec![host],
        ..Query::default()
    };
    let own = alert.raw.get("id").and_then(Value::as_str);
    let after_it = alert.time.plus(Duration::from_nanos(1));
    let before = around
        .clone()
        .since(Some(alert.time.minus(NEARBY)))
        .until(Some(after_it));
    let after = around
        .since(Some(after_it))
        .until(Some(alert.time.plus(NEARBY)));
    let other = |event: &StoredEvent| own != Some(event.id.as_str());
    // Searches answer newest first, so the nearest ones after the alert are the last of many.
    let mut found: Vec<StoredEvent> = events.search(&after, &page(1000))?.events;
    found.drain(..found.len().saturating_sub(EACH_SIDE));
    let earlier = events.search(&before, &page(EACH_SIDE + 1))?.events;
    found.extend(earlier.into_iter().filter(other).take(EACH_SIDE));
    found.reverse();
    Ok(found.into_iter().map(Event::from).collect())
}

fn page(limit: usize) -> PageRequest {
    PageRequest {
        limit,
        cursor: None,
        time_limit: TIME_LIMIT,
    }
}

fn base_name(path: &str) -> &str {
    path.rsplit(['/', '\\']).next().unwrap_or(path)
}
