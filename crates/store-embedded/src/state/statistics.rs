//! The `statistics` collection, as readers see it: as of the last flush.

use rusqlite::Connection;
use yinglong_model::{
    AgentId, Timestamp,
    statistics::{SERVER_LIST_LIMIT, Statistic},
};
use yinglong_store::{Query, Result};

use super::{State, corrupt, counters::natural};

/// Most recent first; equally recent ones by type and value, so that every answer is the same.
pub(super) fn search(state: &State, query: &Query, limit: usize) -> Result<Vec<Statistic>> {
    let what = "search statistics";
    let found = state.read(what, |connection| {
        let mut select = connection.prepare_cached(
            "SELECT id, kind, info, count, exist_count, uptime FROM statistics
             WHERE ?1 IS NULL OR kind = ?1 ORDER BY uptime DESC, kind, info",
        )?;
        let mut rows = select.query([query.kind.map(|kind| kind.as_str())])?;
        let mut found = Vec::new();
        while found.len() < limit
            && let Some(row) = rows.next()?
        {
            let statistic = read(row)?;
            if query.matches_statistic(&statistic.1) {
                found.push(statistic);
            }
        }
        with_hosts(connection, found)
    })?;
    found.into_iter().map(|found| finish(what, found)).collect()
}

pub(super) fn one(state: &State, kind: &str, info: &str) -> Result<Option<Statistic>> {
    let what = "read a statistic";
    let found = state.read(what, |connection| {
        let mut select = connection.prepare_cached(
            "SELECT id, kind, info, count, exist_count, uptime FROM statistics
             WHERE kind = ? AND info = ?",
        )?;
        let found = select
            .query_map((kind, info), read)?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        with_hosts(connection, found)
    })?;
    found
        .into_iter()
        .next()
        .map(|found| finish(what, found))
        .transpose()
}

fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<(i64, Statistic)> {
    Ok((
        row.get(0)?,
        Statistic {
            kind: row.get(1)?,
            info: row.get(2)?,
            count: natural(row.get(3)?),
            server_list: Vec::new(),
            exist_count: natural(row.get(4)?),
            uptime: Timestamp::from_nanos(row.get(5)?),
        },
    ))
}

type WithHosts = (Statistic, Vec<String>);

fn with_hosts(
    connection: &Connection,
    found: Vec<(i64, Statistic)>,
) -> rusqlite::Result<Vec<WithHosts>> {
    let mut select = connection
        .prepare_cached("SELECT agent FROM statistic_hosts WHERE statistic = ? LIMIT ?")?;
    found
        .into_iter()
        .map(|(row, statistic)| {
            let limit = i64::try_from(SERVER_LIST_LIMIT).unwrap_or(i64::MAX);
            let hosts = select
                .query_map((row, limit), |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            Ok((statistic, hosts))
        })
        .collect()
}

fn finish(what: &str, (mut statistic, hosts): WithHosts) -> Result<Statistic> {
    statistic.server_list = hosts
        .into_iter()
        .map(|host| AgentId::try_from(host).map_err(|e| corrupt(what, e)))
        .collect::<Result<_>>()?;
    Ok(statistic)
}
