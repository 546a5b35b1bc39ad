//! The `notice` collection.

use rusqlite::{OptionalExtension, Transaction, types::Value};
use yinglong_model::{Alert, Timestamp, alert::Status, rule::Level};
use yinglong_store::{
    Result,
    state_store::{AlertFilter, Identity},
};

use super::{State, counters::natural, from_json, to_json};
use crate::error::sqlite;

const NANOS_PER_HOUR: i64 = 3_600_000_000_000;

/// An alert as a row.
pub(super) struct Row {
    id: String,
    agent: String,
    source: String,
    kind: String,
    info: String,
    level: u8,
    status: u8,
    raised_at: i64,
    search: String,
    json: String,
    story: String,
}

impl Row {
    pub(super) fn new(alert: &Alert) -> Result<Self> {
        Ok(Self {
            id: alert.id.clone(),
            agent: alert.agent_id.to_string(),
            source: alert.source.clone(),
            kind: alert.kind.clone(),
            info: alert.info.clone(),
            level: alert.level.code(),
            status: alert.status.code(),
            raised_at: alert.raised_at.nanos(),
            // A control character between the parts: no search text reaches across it by accident.
            search: [&alert.source, &alert.info, &alert.description]
                .map(|text| text.to_lowercase())
                .join("\u{1}"),
            json: to_json("store an alert", alert)?,
            story: alert.story.clone(),
        })
    }

    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        transaction
            .prepare_cached("INSERT OR REPLACE INTO alerts VALUES (?,?,?,?,?,?,?,?,?,?,?)")?
            .execute((
                &self.id,
                &self.agent,
                &self.source,
                &self.kind,
                &self.info,
                self.level,
                self.status,
                self.raised_at,
                &self.search,
                &self.json,
                &self.story,
            ))
            .map(drop)
    }
}

pub(super) fn by_identity(state: &State, identity: &Identity) -> Result<Option<Alert>> {
    let found: Vec<Alert> = state.read_json(
        "look up an alert",
        "SELECT json FROM alerts WHERE agent = ? AND kind = ? AND source = ? AND info = ?
         ORDER BY raised_at DESC, id DESC LIMIT 1",
        (
            identity.agent.as_str(),
            &identity.kind,
            &identity.source,
            &identity.info,
        ),
    )?;
    Ok(found.into_iter().next())
}

pub(super) fn one(state: &State, id: &str) -> Result<Option<Alert>> {
    let sql = "SELECT json FROM alerts WHERE id = ?";
    Ok(state.read_json("read an alert", sql, [id])?.pop())
}

pub(super) fn search(state: &State, filter: &AlertFilter) -> Result<(Vec<Alert>, u64)> {
    let what = "search alerts";
    let (condition, mut parameters) = condition(filter);
    let total = state.read(what, |connection| {
        connection
            .prepare_cached(&format!("SELECT count(*) FROM alerts WHERE {condition}"))?
            .query_row(rusqlite::params_from_iter(&parameters), |row| row.get(0))
    })?;
    for number in [filter.limit, filter.offset] {
        parameters.push(Value::Integer(i64::try_from(number).unwrap_or(i64::MAX)));
    }
    let alerts = state.read_json(
        what,
        &format!(
            "SELECT json FROM alerts WHERE {condition}
             ORDER BY raised_at DESC, id DESC LIMIT ? OFFSET ?"
        ),
        rusqlite::params_from_iter(parameters),
    )?;
    Ok((alerts, natural(total)))
}

/// The filter as SQL; values are parameters, never text.
fn condition(filter: &AlertFilter) -> (String, Vec<Value>) {
    let mut parts = vec!["1"];
    let mut parameters = Vec::new();
    let mut add = |part: &'static str, value: Value| {
        parts.push(part);
        parameters.push(value);
    };
    if let Some(status) = filter.status {
        add("status = ?", Value::Integer(status.code().into()));
    }
    if let Some(level) = filter.level {
        add("level = ?", Value::Integer(level.code().into()));
    }
    if let Some(agent) = &filter.agent {
        add("agent = ?", Value::Text(agent.to_string()));
    }
    if let Some(kind) = &filter.kind {
        add("kind = ?", Value::Text(kind.clone()));
    }
    if let Some(story) = &filter.story {
        add("story = ?", Value::Text(story.clone()));
    }
    if let Some(text) = &filter.text {
        add("instr(search, ?) > 0", Value::Text(text.to_lowercase()));
    }
    if let Some(since) = filter.since {
        add("raised_at >= ?", Value::Integer(since.nanos()));
    }
    (parts.join(" AND "), parameters)
}

pub(super) fn set_status(
    state: &State,
    ids: &[String],
    status: Status,
    now: Timestamp,
) -> Result<u64> {
    let what = "change the status of alerts";
    let mut writer = state.writer();
    let transaction = writer
        .connection
        .transaction()
        .map_err(|e| sqlite(what, e))?;
    let mut changed = 0;
    for id in ids {
        let json: Option<String> = transaction
            .prepare_cached("SELECT json FROM alerts WHERE id = ? AND status <> ?")
            .and_then(|mut select| {
                select
                    .query_row((id, status.code()), |row| row.get(0))
                    .optional()
            })
            .map_err(|e| sqlite(what, e))?;
        let Some(json) = json else { continue };
        let mut alert: Alert = from_json(what, &json)?;
        alert.status = status;
        alert.uptime = now;
        Row::new(&alert)?
            .write(&transaction)
            .map_err(|e| sqlite(what, e))?;
        changed += 1;
    }
    transaction.commit().map_err(|e| sqlite(what, e))?;
    Ok(changed)
}

pub(super) fn per_hour(
    state: &State,
    since: Timestamp,
    learned: bool,
) -> Result<Vec<(Timestamp, Level, u64)>> {
    let rows = state.read("count alerts per hour", |connection| {
        connection
            .prepare_cached(
                // SQLite rounds towards zero; times before 1970 do not occur here.
                "SELECT raised_at / ?1 * ?1, level, count(*) FROM alerts
                 WHERE raised_at >= ?2 AND (?4 OR status <> ?3) GROUP BY 1, 2 ORDER BY 1, 2",
            )?
            .query_map(
                (
                    NANOS_PER_HOUR,
                    since.nanos(),
                    Status::Learned.code(),
                    learned,
                ),
                |row| {
                    Ok((
                        Timestamp::from_nanos(row.get(0)?),
                        row.get::<_, u8>(1)?,
                        natural(row.get(2)?),
                    ))
                },
            )?
            .collect::<rusqlite::Result<Vec<_>>>()
    })?;
    Ok(rows
        .into_iter()
        .filter_map(|(start, level, count)| Some((start, Level::from_code(level)?, count)))
        .collect())
}
