//! The state store: one SQLite database in WAL mode, every commit synced.
//!
//! One connection writes, behind a lock it shares with the counters; readers have their own and
//! see the last commit, so they never wait for a flush.

mod alerts;
mod counters;
mod schema;
mod statistics;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Transaction};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use yinglong_model::{
    AgentId, Alert, InventoryType, Timestamp, alert::Status, host::Host, id::Epoch,
    inventory::Element, rule::Level, statistics::Statistic,
};
use yinglong_store::{
    Error, Kind, LogPosition, Query, Result, StateStore,
    query::Target,
    state_store::{AlertFilter, AuditEntry, Changes, Counted, Identity, Report, StoredInventory},
};

use self::counters::{Counters, integer, natural};
use crate::{error::sqlite, folder::Lock};

/// Connections kept for readers; more are opened when needed and closed after use.
const IDLE_READERS: usize = 4;
/// How long a reader waits for a checkpoint that needs the database for itself.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The state store of a folder.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    writer: Mutex<Writer>,
    readers: Mutex<Vec<Connection>>,
    _lock: Arc<Lock>,
}

#[derive(Debug)]
struct Writer {
    connection: Connection,
    counters: Counters,
    position: LogPosition,
}

impl State {
    pub(crate) fn open(dir: &Path, lock: Arc<Lock>) -> Result<Self> {
        let path = dir.join("state.db");
        let fail = |e| sqlite("open the state database", e);
        let mut connection = Connection::open(&path).map_err(fail)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(fail)?;
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .and_then(|()| connection.pragma_update(None, "synchronous", "FULL"))
            .map_err(fail)?;
        schema::migrate(&mut connection)?;
        let position = connection
            .query_row("SELECT value FROM meta WHERE key = 'position'", (), |row| {
                row.get(0)
            })
            .optional()
            .map_err(fail)?
            .map_or(0, natural);
        Ok(Self {
            path,
            writer: Mutex::new(Writer {
                connection,
                counters: Counters::default(),
                position,
            }),
            readers: Mutex::new(Vec::new()),
            _lock: lock,
        })
    }

    /// Nothing that can panic leaves the writer half changed, so a poisoned lock is usable.
    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs `work` in one transaction.
    fn write<T>(
        &self,
        what: &str,
        work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let mut writer = self.writer();
        let transaction = writer
            .connection
            .transaction()
            .map_err(|e| sqlite(what, e))?;
        let outcome = work(&transaction).map_err(|e| sqlite(what, e))?;
        transaction.commit().map_err(|e| sqlite(what, e))?;
        Ok(outcome)
    }

    /// Runs `work` on a connection of its own.
    fn read<T>(
        &self,
        what: &str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T> {
        let idle = || self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = idle().pop();
        let connection = match reader {
            Some(connection) => connection,
            None => Connection::open_with_flags(
                &self.path,
                OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
            )
            .and_then(|connection| {
                connection.busy_timeout(BUSY_TIMEOUT)?;
                Ok(connection)
            })
            .map_err(|e| sqlite(what, e))?,
        };
        let outcome = work(&connection).map_err(|e| sqlite(what, e))?;
        let mut idle = idle();
        if idle.len() < IDLE_READERS {
            idle.push(connection);
        }
        Ok(outcome)
    }

    /// Rows of one JSON column.
    fn read_json<T: DeserializeOwned>(
        &self,
        what: &str,
        sql: &str,
        parameters: impl rusqlite::Params,
    ) -> Result<Vec<T>> {
        let texts = self.read(what, |connection| {
            connection
                .prepare_cached(sql)?
                .query_map(parameters, |row| row.get::<_, String>(0))?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        texts.iter().map(|text| from_json(what, text)).collect()
    }
}

fn to_json<T: Serialize>(what: &str, value: &T) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|e| Error::caused(Kind::Invalid, format!("cannot {what}: it is no JSON"), e))
}

fn from_json<T: DeserializeOwned>(what: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| {
        Error::caused(
            Kind::Corrupt,
            format!("cannot {what}: a stored document is not what this version writes"),
            e,
        )
    })
}

fn corrupt(what: &str, error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::caused(
        Kind::Corrupt,
        format!("cannot {what}: restore `state.db` from a backup"),
        error,
    )
}

/// [`Changes`] in the form that goes into the database, made before the transaction begins.
struct Prepared {
    alerts: Vec<alerts::Row>,
    inventories: Vec<(String, &'static str, i64, String)>,
}

impl Prepared {
    fn new(changes: &Changes) -> Result<Self> {
        Ok(Self {
            alerts: changes
                .alerts
                .iter()
                .map(alerts::Row::new)
                .collect::<Result<_>>()?,
            inventories: changes
                .inventories
                .iter()
                .map(|(agent, kind, inventory)| {
                    Ok((
                        agent.to_string(),
                        kind.as_str(),
                        inventory.uptime.nanos(),
                        to_json("store an inventory", &inventory.data)?,
                    ))
                })
                .collect::<Result<_>>()?,
        })
    }

    fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for alert in &self.alerts {
            alert.write(transaction)?;
        }
        let mut replace =
            transaction.prepare_cached("INSERT OR REPLACE INTO inventories VALUES (?,?,?,?)")?;
        for inventory in &self.inventories {
            replace.execute((&inventory.0, inventory.1, inventory.2, &inventory.3))?;
        }
        Ok(())
    }
}

/// What belongs to the log: sequence numbers, totals, position.
fn write_progress(transaction: &Transaction<'_>, changes: &Changes) -> rusqlite::Result<()> {
    let mut acked = transaction.prepare_cached(
        "INSERT INTO acked VALUES (?,?,?)
         ON CONFLICT DO UPDATE SET seq = max(seq, excluded.seq)",
    )?;
    for (agent, epoch, seq) in &changes.acked {
        acked.execute((agent.as_str(), epoch.to_string(), integer(*seq)))?;
    }
    let mut stored = transaction.prepare_cached(
        "INSERT INTO stored VALUES (?,?,?)
         ON CONFLICT DO UPDATE SET count = count + excluded.count",
    )?;
    for (agent, stream, count) in &changes.stored {
        stored.execute((agent.as_str(), stream, integer(*count)))?;
    }
    transaction.execute(
        "INSERT OR REPLACE INTO meta VALUES ('position', ?)",
        [integer(changes.position)],
    )?;
    Ok(())
}

impl StateStore for State {
    fn count(&self, reports: &[Report]) -> Result<Vec<Counted>> {
        let mut writer = self.writer();
        let Writer {
            connection,
            counters,
            ..
        } = &mut *writer;
        let mut counted = Vec::with_capacity(reports.len());
        for report in reports {
            let value = counters
                .count(connection, report)
                .map_err(|e| sqlite("count a report", e))?;
            counted.push(value);
        }
        Ok(counted)
    }

    fn discard(&self) {
        self.writer().counters.forget_unflushed();
    }

    fn apply(&self, changes: &Changes) -> Result<()> {
        let fail = |e| sqlite("store changes", e);
        let prepared = Prepared::new(changes)?;
        let mut writer = self.writer();
        let Writer {
            connection,
            counters,
            position,
        } = &mut *writer;
        let advances = changes.position > *position;
        let from_log = !changes.acked.is_empty() || !changes.stored.is_empty();
        if !advances && from_log {
            counters.forget_unflushed();
            return Ok(());
        }
        let transaction = connection.transaction().map_err(fail)?;
        prepared.write(&transaction).map_err(fail)?;
        if !advances {
            return transaction.commit().map_err(fail);
        }
        write_progress(&transaction, changes).map_err(fail)?;
        let rows = counters.write(&transaction).map_err(fail)?;
        transaction.commit().map_err(fail)?;
        counters.flushed(rows);
        *position = changes.position;
        Ok(())
    }

    fn position(&self) -> Result<LogPosition> {
        Ok(self.writer().position)
    }

    fn acked(&self) -> Result<Vec<(AgentId, Epoch, u64)>> {
        let what = "read acknowledged sequence numbers";
        let rows = self.read(what, |connection| {
            connection
                .prepare_cached("SELECT agent, epoch, seq FROM acked ORDER BY agent, epoch")?
                .query_map((), |row| {
                    Ok((
                        row.get::<_, String>(0)?,
                        row.get::<_, String>(1)?,
                        natural(row.get(2)?),
                    ))
                })?
                .collect::<rusqlite::Result<Vec<_>>>()
        })?;
        rows.into_iter()
            .map(|(agent, epoch, seq)| {
                let agent = AgentId::try_from(agent).map_err(|e| corrupt(what, e))?;
                let epoch = u128::from_str_radix(&epoch, 16).map_err(|e| corrupt(what, e))?;
                Ok((agent, Epoch(epoch), seq))
            })
            .collect()
    }

    fn stored_totals(&self) -> Result<Vec<(AgentId, String, u64)>> {
        let what = "read stored totals";
        let rows = self.read(what, |connection| {
            connection
                .prepare_cached("SELECT agent, stream, count FROM stored ORDER BY agent, stream")?
                .query_map((), |row| {
                    Ok((row.get::<_, String>(0)?, row.get(1)?, natural(row.get(2)?)))
                })?
                .collect::<rusqlite::Result<Vec<(String, String, u64)>>>()
        })?;
        rows.into_iter()
            .map(|(agent, stream, count)| {
                let agent = AgentId::try_from(agent).map_err(|e| corrupt(what, e))?;
                Ok((agent, stream, count))
            })
            .collect()
    }

    fn statistics(&self, query: &Query, limit: usize) -> Result<Vec<Statistic>> {
        statistics::search(self, query, limit)
    }

    fn statistic(&self, kind: &str, info: &str) -> Result<Option<Statistic>> {
        statistics::one(self, kind, info)
    }

    fn alert_by_identity(&self, identity: &Identity) -> Result<Option<Alert>> {
        alerts::by_identity(self, identity)
    }

    fn alert(&self, id: &str) -> Result<Option<Alert>> {
        alerts::one(self, id)
    }

    fn alerts(&self, filter: &AlertFilter) -> Result<(Vec<Alert>, u64)> {
        alerts::search(self, filter)
    }

    fn set_alert_status(&self, ids: &[String], status: Status, now: Timestamp) -> Result<u64> {
        alerts::set_status(self, ids, status, now)
    }

    fn alerts_per_hour(
        &self,
        since: Timestamp,
        learned: bool,
    ) -> Result<Vec<(Timestamp, Level, u64)>> {
        alerts::per_hour(self, since, learned)
    }

    fn hosts(&self) -> Result<Vec<Host>> {
        self.read_json("read hosts", "SELECT json FROM hosts ORDER BY agent", ())
    }

    fn host(&self, agent: &AgentId) -> Result<Option<Host>> {
        let sql = "SELECT json FROM hosts WHERE agent = ?";
        Ok(self.read_json("read a host", sql, [agent.as_str()])?.pop())
    }

    fn put_host(&self, host: &Host) -> Result<()> {
        let what = "store a host";
        let json = to_json(what, host)?;
        self.write(what, |transaction| {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO hosts VALUES (?,?)")?
                .execute((host.agent_id.as_str(), &json))
                .map(drop)
        })
    }

    fn inventory(&self, agent: &AgentId, kind: InventoryType) -> Result<Option<StoredInventory>> {
        let what = "read an inventory";
        let found = self.read(what, |connection| {
            connection
                .prepare_cached(
                    "SELECT uptime, json FROM inventories WHERE agent = ? AND kind = ?",
                )?
                .query_row((agent.as_str(), kind.as_str()), |row| {
                    Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
                })
                .optional()
        })?;
        found
            .map(|(uptime, json)| {
                Ok(StoredInventory {
                    data: from_json(what, &json)?,
                    uptime: Timestamp::from_nanos(uptime),
                })
            })
            .transpose()
    }

    fn search_inventories(&self, query: &Query, limit: usize) -> Result<Vec<(AgentId, Element)>> {
        let what = "search inventories";
        let kinds: Vec<InventoryType> = match query.kind {
            Some(Target::Inventory(kind)) => vec![kind],
            None => InventoryType::ALL.to_vec(),
            Some(Target::Event(kind)) => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!("{} is an event type: search events", kind.as_str()),
                ));
            }
        };
        let on_host = query
            .conditions
            .iter()
            .any(|condition| matches!(condition.key, yinglong_store::query::Key::Host(_)));
        let mut found = Vec::new();
        for kind in kinds {
            let rows = self.read(what, |connection| {
                connection
                    .prepare_cached(
                        "SELECT agent, uptime, json FROM inventories WHERE kind = ? ORDER BY agent",
                    )?
                    .query_map([kind.as_str()], |row| {
                        Ok((
                            row.get::<_, String>(0)?,
                            Timestamp::from_nanos(row.get(1)?),
                            row.get::<_, String>(2)?,
                        ))
                    })?
                    .collect::<rusqlite::Result<Vec<_>>>()
            })?;
            for (agent, uptime, json) in rows {
                let agent = AgentId::try_from(agent).map_err(|e| corrupt(what, e))?;
                if !query.covers(uptime) {
                    continue;
                }
                if on_host
                    && !self
                        .host(&agent)?
                        .is_some_and(|host| query.matches_host(&host))
                {
                    continue;
                }
                let elements: Vec<Element> = from_json(what, &json)?;
                for element in elements {
                    if found.len() == limit {
                        return Ok(found);
                    }
                    if query.matches_element(&element) {
                        found.push((agent.clone(), element));
                    }
                }
            }
        }
        Ok(found)
    }

    fn document(&self, collection: &str, key: &str) -> Result<Option<Value>> {
        let sql = "SELECT json FROM documents WHERE collection = ? AND key = ?";
        Ok(self
            .read_json("read a document", sql, [collection, key])?
            .pop())
    }

    fn documents(&self, collection: &str) -> Result<Vec<(String, Value)>> {
        let what = "read documents";
        let rows = self.read(what, |connection| {
            connection
                .prepare_cached(
                    "SELECT key, json FROM documents WHERE collection = ? ORDER BY key",
                )?
                .query_map([collection], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<rusqlite::Result<Vec<(String, String)>>>()
        })?;
        rows.into_iter()
            .map(|(key, json)| Ok((key, from_json(what, &json)?)))
            .collect()
    }

    fn put_documents(&self, collection: &str, changes: &[(String, Option<Value>)]) -> Result<()> {
        self.write("store documents", |transaction| {
            let mut put =
                transaction.prepare_cached("INSERT OR REPLACE INTO documents VALUES (?,?,?)")?;
            let mut remove = transaction
                .prepare_cached("DELETE FROM documents WHERE collection = ? AND key = ?")?;
            for (key, value) in changes {
                match value {
                    Some(value) => put.execute((collection, key, value.to_string()))?,
                    None => remove.execute((collection, key))?,
                };
            }
            Ok(())
        })
    }

    fn audit(&self, entry: &AuditEntry) -> Result<()> {
        let what = "write the audit log";
        let json = to_json(what, entry)?;
        self.write(what, |transaction| {
            transaction
                .prepare_cached("INSERT INTO audit (json) VALUES (?)")?
                .execute([&json])
                .map(drop)
        })
    }

    fn audit_log(&self, limit: usize) -> Result<Vec<AuditEntry>> {
        self.read_json(
            "read the audit log",
            "SELECT json FROM audit ORDER BY id DESC LIMIT ?",
            [i64::try_from(limit).unwrap_or(i64::MAX)],
        )
    }
}
