//! Tables of `state.db`, and how older files reach them.

use rusqlite::Connection;
use yinglong_store::{Error, Kind, Result};

use crate::error::sqlite;

/// Steps from version n to n + 1. Append only: files in the field have run the first ones.
const MIGRATIONS: &[&str] = &[
    "
CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE acked (
    agent TEXT NOT NULL, epoch TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (agent, epoch)
) WITHOUT ROWID;
CREATE TABLE stored (
    agent TEXT NOT NULL, stream TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (agent, stream)
) WITHOUT ROWID;
-- A row id stands for (kind, info) in statistic_hosts, because info can be a long command.
CREATE TABLE statistics (
    id INTEGER PRIMARY KEY, kind TEXT NOT NULL, info TEXT NOT NULL,
    count INTEGER NOT NULL, exist_count INTEGER NOT NULL, uptime INTEGER NOT NULL,
    UNIQUE (kind, info)
);
CREATE TABLE statistic_hosts (
    statistic INTEGER NOT NULL, agent TEXT NOT NULL,
    PRIMARY KEY (statistic, agent)
) WITHOUT ROWID;
-- search: source, info and description in lower case, for text filters.
CREATE TABLE alerts (
    id TEXT PRIMARY KEY, agent TEXT NOT NULL, source TEXT NOT NULL, kind TEXT NOT NULL,
    info TEXT NOT NULL, level INTEGER NOT NULL, status INTEGER NOT NULL,
    raised_at INTEGER NOT NULL, search TEXT NOT NULL, json TEXT NOT NULL
);
CREATE INDEX alerts_identity ON alerts (agent, kind, source, info, raised_at);
CREATE INDEX alerts_time ON alerts (raised_at, id);
CREATE TABLE hosts (agent TEXT PRIMARY KEY, json TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE inventories (
    agent TEXT NOT NULL, kind TEXT NOT NULL, uptime INTEGER NOT NULL, json TEXT NOT NULL,
    PRIMARY KEY (agent, kind)
);
CREATE TABLE documents (
    collection TEXT NOT NULL, key TEXT NOT NULL, json TEXT NOT NULL,
    PRIMARY KEY (collection, key)
);
CREATE TABLE audit (id INTEGER PRIMARY KEY AUTOINCREMENT, json TEXT NOT NULL);
",
    "
ALTER TABLE alerts ADD COLUMN story TEXT NOT NULL DEFAULT '';
CREATE INDEX alerts_story ON alerts (story) WHERE story <> '';
",
];

/// Brings a database to the newest version.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let fail = |e| sqlite("prepare the state database", e);
    let version: i64 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(fail)?;
    let done = usize::try_from(version)
        .ok()
        .filter(|done| *done <= MIGRATIONS.len());
    let Some(done) = done else {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "`state.db` has version {version}, this server reads up to {}: start the server \
                 that wrote it, or upgrade this one",
                MIGRATIONS.len()
            ),
        ));
    };
    for (index, step) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction().map_err(fail)?;
        transaction.execute_batch(step).map_err(fail)?;
        transaction
            .pragma_update(
                None,
                "user_version",
                i64::try_from(index + 1).unwrap_or(i64::MAX),
            )
            .map_err(fail)?;
        transaction.commit().map_err(fail)?;
    }
    Ok(())
}
