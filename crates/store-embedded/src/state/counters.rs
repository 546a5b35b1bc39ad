//! Counters held in memory between two flushes.
//!
//! A counter is read from the database when it is first needed, changed in memory, and written
//! with the next flush. Nothing in memory changes while a flush may still fail, so a failed one
//! neither loses nor doubles anything. Which hosts reported a value is asked of the database once
//! per (value, host) and remembered.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, Transaction};
use yinglong_model::{AgentId, Timestamp};
use yinglong_store::state_store::{Counted, Report};

/// What is kept in memory after a flush.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Values.
    entries: usize,
    /// (value, host) pairs.
    members: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 200_000,
            members: 1_000_000,
        }
    }
}

/// All counters in memory.
#[derive(Debug, Default)]
pub(super) struct Counters {
    limits: Limits,
    entries: HashMap<(String, String), Entry>,
    agents: HashMap<AgentId, u32>,
    members: usize,
    round: u64,
}

#[derive(Debug)]
struct Entry {
    /// Row in the database; `None` before the first flush.
    row: Option<i64>,
    count: u64,
    exist_count: u64,
    uptime: Timestamp,
    /// Hosts known to have reported it.
    members: HashSet<u32>,
    /// Those of them that the database does not know yet.
    new_members: Vec<AgentId>,
    dirty: bool,
    /// Flush before which it was last used.
    round: u64,
}

impl Counters {
    /// Counts one report.
    pub(super) fn count(
        &mut self,
        connection: &Connection,
        report: &Report,
    ) -> rusqlite::Result<Counted> {
        let key = (report.kind.clone(), report.info.clone());
        if !self.entries.contains_key(&key) {
            let entry = load(connection, &key.0, &key.1)?;
            self.entries.insert(key.clone(), entry);
        }
        let next = u32::try_from(self.agents.len()).unwrap_or(u32::MAX);
        let agent = *self.agents.entry(report.agent.clone()).or_insert(next);
        let entry = self
            .entries
            .get_mut(&key)
            .expect("inserted above when it was missing");
        if !entry.members.contains(&agent) {
            let known = match entry.row {
                Some(row) => is_member(connection, row, &report.agent)?,
                None => false,
            };
            entry.members.insert(agent);
            self.members += 1;
            if !known {
                entry.exist_count += 1;
                entry.new_members.push(report.agent.clone());
            }
        }
        entry.count += 1;
        entry.uptime = entry.uptime.max(report.at);
        entry.dirty = true;
        entry.round = self.round;
        Ok(Counted {
            count: entry.count,
            exist_count: entry.exist_count,
        })
    }

    /// Writes what changed since the last flush; returns the rows of new values. Memory stays as
    /// it is until [`Counters::flushed`].
    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<Rows> {
        let mut insert = transaction.prepare_cached(
            "INSERT INTO statistics (kind, info, count, exist_count, uptime) VALUES (?,?,?,?,?)",
        )?;
        let mut update = transaction.prepare_cached(
            "UPDATE statistics SET count = ?, exist_count = ?, uptime = ? WHERE id = ?",
        )?;
        let mut add_host =
            transaction.prepare_cached("INSERT OR IGNORE INTO statistic_hosts VALUES (?,?)")?;
        let mut rows = Vec::new();
        for (key, entry) in self.entries.iter().filter(|(_, entry)| entry.dirty) {
            let (count, hosts) = (integer(entry.count), integer(entry.exist_count));
            let uptime = entry.uptime.nanos();
            let row = match entry.row {
                Some(row) => {
                    update.execute((count, hosts, uptime, row))?;
                    row
                }
                None => {
                    let row = insert.insert((&key.0, &key.1, count, hosts, uptime))?;
                    rows.push((key.clone(), row));
                    row
                }
            };
            for agent in &entry.new_members {
                add_host.execute((row, agent.as_str()))?;
            }
        }
        Ok(rows)
    }

    /// Notes that the transaction of [`Counters::write`] is durable, and frees memory.
    pub(super) fn flushed(&mut self, rows: Rows) {
        for (key, row) in rows {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.row = Some(row);
            }
        }
        for entry in self.entries.values_mut().filter(|entry| entry.dirty) {
            entry.dirty = false;
            entry.new_members = Vec::new();
        }
        self.round += 1;
        if self.entries.len() > self.limits.entries || self.members > self.limits.members {
            self.evict();
        }
    }

    /// Forgets what was counted since the last flush.
    pub(super) fn forget_unflushed(&mut self) {
        self.entries.retain(|_, entry| !entry.dirty);
        self.members = self.entries.values().map(|entry| entry.members.len()).sum();
    }

    /// Drops the less recently used half. Everything is flushed, so the database has it.
    fn evict(&mut self) {
        let mut rounds: Vec<u64> = self.entries.values().map(|entry| entry.round).collect();
        let middle = rounds.len() / 2;
        let (_, median, _) = rounds.select_nth_unstable(middle);
        let median = *median;
        self.entries.retain(|_, entry| entry.round > median);
        self.members = self.entries.values().map(|entry| entry.members.len()).sum();
        if self.members > self.limits.members {
            self.entries.clear();
            self.members = 0;
        }
        if self.entries.is_empty() {
            self.agents.clear();
        }
    }
}

/// Rows that a flush gave to new values.
pub(super) type Rows = Vec<((String, String), i64)>;

fn load(connection: &Connection, kind: &str, info: &str) -> rusqlite::Result<Entry> {
    let stored = connection
        .prepare_cached(
            "SELECT id, count, exist_count, uptime FROM statistics WHERE kind = ? AND info = ?",
        )?
        .query_row((kind, info), |row| {
            Ok(Entry {
                row: Some(row.get(0)?),
                count: natural(row.get(1)?),
                exist_count: natural(row.get(2)?),
                uptime: Timestamp::from_nanos(row.get(3)?),
                members: HashSet::new(),
                new_members: Vec::new(),
                dirty: false,
                round: 0,
            })
        })
        .optional()?;
    Ok(stored.unwrap_or(Entry {
        row: None,
        count: 0,
        exist_count: 0,
        uptime: Timestamp::from_nanos(i64::MIN),
        members: HashSet::new(),
        new_members: Vec::new(),
        dirty: false,
        round: 0,
    }))
}

fn is_member(connection: &Connection, row: i64, agent: &AgentId) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM statistic_hosts WHERE statistic = ? AND agent = ?")?
        .exists((row, agent.as_str()))
}

/// SQLite has signed integers only; counts never come near the end of either range.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_was_forgotten_is_counted_on_from_the_database() {
        let mut connection = Connection::open_in_memory().unwrap();
        super::super::schema::migrate(&mut connection).unwrap();
        let mut counters = Counters {
            limits: Limits {
                entries: 5,
                members: 12,
            },
            ..Counters::default()
        };
        let mut expected: HashMap<u64, (u64, HashSet<u64>)> = HashMap::new();
        let mut seed = 1_u64;
        for step in 0..2000_i64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (value, host) = ((seed >> 33) % 20, (seed >> 40) % 7);
            let report = Report {
                kind: "process".into(),
                info: value.to_string(),
                agent: AgentId::from_bits(host.into()),
                at: Timestamp::from_secs(step),
            };
            let counted = counters.count(&connection, &report).unwrap();
            let (count, hosts) = expected.entry(value).or_default();
            *count += 1;
            hosts.insert(host);
            assert_eq!(counted.count, *count);
            assert_eq!(counted.exist_count, hosts.len() as u64);
            if seed.is_multiple_of(3) {
                let transaction = connection.transaction().unwrap();
                let rows = counters.write(&transaction).unwrap();
                // Every other flush fails: nothing may be lost or doubled.
                if seed.is_multiple_of(2) {
                    transaction.commit().unwrap();
                    counters.flushed(rows);
                    assert!(counters.entries.len() <= 5 && counters.members <= 12);
                }
            }
        }
    }
}
