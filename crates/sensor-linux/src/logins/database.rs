//! Logins from databases of rows: wtmpdb(8) and lastlog2(8), which take the place of wtmp and lastlog.
//!
//! - **Formats**: SQLite, table `wtmp` with `Type`, `User`, `Login` (microseconds), `TTY`, `RemoteHost`,
//!   `Service` (wtmpdb 0.1 to 0.75); table `Lastlog2` with `Name`, `Time` (seconds), `TTY`, `RemoteHost`,
//!   `Service` (util-linux 2.40). Columns are found by name.
//! - **Reading**: nothing is locked, and nothing is told that was read while somebody wrote. Every login
//!   is a new row with a higher key, also in `Lastlog2`, where it replaces the account's older row.
//! - **Tampering**: the last 32 rows that were read are remembered as a digest; logging out does not
//!   change it. When they are not there any more, rows newer than the last one are told. Archives that
//!   `wtmpdb rotate` makes beside the database are no tampering.
//! - **Appearing later**: a database that is made from an old wtmp tells of what came after it only.

use std::{
    ffi::OsString,
    fmt,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest, Sha256};
use yinglong_model::{Timestamp, event::Login};

use super::{
    follow,
    tamper::{self, Finding, Kind},
    told::{Batch, Told, Witness},
};
use crate::sqlite::{self, ReadAt, Value};

/// Rows that are remembered.
const ROWS: i64 = 32;

/// Bytes of a row that are read.
const ROW_BYTES: usize = 4096;

/// `USER_PROCESS` of wtmpdb: somebody logged in; the others are boots and run levels.
const USER_PROCESS: i64 = 3;

/// Services whose sessions are no logins, as with the other witnesses.
const NO_LOGINS: [&str; 5] = ["sudo", "sudo-i", "cron", "crond", "systemd-user"];

/// Which database it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Wtmpdb,
    Lastlog2,
}

/// How far a database was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Position {
    /// Key of the last row.
    row: i64,
    /// The latest time of a login, in microseconds.
    latest: i64,
    /// Of the last rows; zero when nothing is remembered.
    digest: u64,
    /// When it was read, in nanoseconds.
    read: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            row,
            latest,
            digest,
            read,
        } = self;
        write!(f, "{row}:{latest}:{digest:016x}:{read}")
    }
}

/// A database that is followed.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) path: PathBuf,
    form: Form,
    position: Option<Position>,
    /// State of the files when they were read.
    seen: Option<Vec<Stamp>>,
    /// There was none at the last look; what is to be remembered of that.
    absent: Option<String>,
    pub(super) failing: Option<String>,
}

/// Device, inode, size, and times of the last changes in nanoseconds.
type Stamp = (u64, u64, u64, i64, i64);

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    key: i64,
    user: String,
    at_micros: i64,
    tty: String,
    remote: String,
    /// Whether it tells of a login.
    login: bool,
}

impl Database {
    /// Goes on from the mark of an earlier run.
    pub(super) fn new(path: &Path, form: Form, marked: Option<&str>) -> Self {
        Self {
            path: path.to_owned(),
            form,
            position: marked.and_then(restore),
            seen: None,
            absent: None,
            failing: None,
        }
    }

    /// What is to be remembered.
    pub(super) fn mark(&self) -> Option<String> {
        let absent = self.absent.clone();
        absent.or_else(|| Some(self.position?.to_string()))
    }

    /// Whether there is one.
    pub(super) fn is_there(&self) -> bool {
        self.absent.is_none() && self.position.is_some()
    }

    /// Reads what is new, if the files changed.
    pub(super) fn read(&mut self, now: Timestamp, batch: &mut Batch) {
        match self.look(now, batch) {
            Ok(()) => self.failing = None,
            Err(error) => {
                let error = error.to_string();
                if self.failing.as_ref() != Some(&error) {
                    tracing::warn!(path = %self.path.display(), error, "a database of logins cannot be read");
                }
                self.failing = Some(error);
            }
        }
    }

    fn look(&mut self, now: Timestamp, batch: &mut Batch) -> io::Result<()> {
        let files = self.stamps();
        if files.is_empty() {
            self.miss(now, batch);
            return Ok(());
        }
        self.absent = None;
        if self.seen.as_ref() == Some(&files) || self.is_written() {
            return Ok(());
        }
        let rows = self.rows(
            self.position
                .map_or(i64::MIN, |at| at.row.saturating_sub(ROWS)),
        )?;
        let Some(rows) = rows else {
            // No table yet: no login yet.
            return Ok(());
        };
        let known = self.position.filter(|known| known.row > 0);
        let intact = known.is_none_or(|known| {
            let last = rows.iter().filter(|row| row.key <= known.row);
            // Rows of `Lastlog2` are replaced.
            self.form == Form::Lastlog2 || digest(last) == known.digest
        });
        let lower = known.is_some_and(|known| rows.iter().all(|row| row.key < known.row));
        let rows = match intact && !lower {
            true => Some(rows),
            false => self.rows(i64::MIN)?,
        };
        // What was written meanwhile may be half of it.
        if self.stamps() != files || self.is_written() {
            return Ok(());
        }
        self.seen = Some(files);
        let rows = rows.unwrap_or_default();
        if !intact && !self.is_archived() {
            batch.tampered.push(Finding {
                path: self.path.clone(),
                kind: self.kind(&rows),
            });
        }
        self.tell(&rows, intact && !lower, batch);
        self.settle(&rows, now);
        Ok(())
    }

    /// What was done to the rows that are remembered.
    fn kind(&self, rows: &[Row]) -> Kind {
        let last = self.position.map_or(0, |known| known.row);
        match rows.iter().any(|row| row.key == last) {
            true => Kind::Rewritten,
            false => Kind::Shortened,
        }
    }

    fn tell(&self, rows: &[Row], by_key: bool, batch: &mut Batch) {
        // The first look of the first run: what is there is no news.
        let Some(known) = self.position else {
            return;
        };
        let is_new = |row: &&Row| match by_key && known.row > 0 {
            true => row.key > known.row,
            false => row.at_micros > known.latest,
        };
        let (witness, source) = match self.form {
            Form::Wtmpdb => (Witness::WTMPDB, "wtmpdb"),
            Form::Lastlog2 => (Witness::LASTLOG2, "lastlog2"),
        };
        let news = rows.iter().filter(is_new).filter(|row| row.login);
        batch.told.extend(news.map(|row| Told {
            at: Timestamp::from_nanos(row.at_micros.saturating_mul(1000)),
            within: None,
            login: Login {
                username: row.user.clone(),
                remote: super::utmp::host(&row.remote),
                status: true,
                hostname: String::new(),
                tty: Some(row.tty.clone()).filter(|tty| !tty.is_empty()),
                source: Some(source.to_owned()),
            },
            witness,
            forged: false,
        }));
    }

    /// Remembers how far it was read.
    fn settle(&mut self, rows: &[Row], now: Timestamp) {
        let before = self.position.unwrap_or_default();
        let row = rows.iter().map(|row| row.key).max().unwrap_or_default();
        let latest = rows.iter().map(|row| row.at_micros).max();
        let first = row.saturating_sub(ROWS);
        self.position = Some(Position {
            row,
            latest: latest.unwrap_or_default().max(before.latest),
            digest: digest(rows.iter().filter(|row| row.key > first)),
            read: now.nanos(),
        });
    }

    /// There is no database.
    fn miss(&mut self, now: Timestamp, batch: &mut Batch) {
        let known = self.position.is_some_and(|known| known.row > 0);
        if known && self.absent.is_none() && tamper::siblings(&self.path).next().is_none() {
            batch.tampered.push(Finding {
                path: self.path.clone(),
                kind: Kind::Gone,
            });
        }
        // One that appears later may have been filled from an old wtmp.
        let position = Position {
            latest: now.nanos() / 1000,
            ..Position::default()
        };
        self.position = Some(position);
        self.seen = None;
        // Remembered is when it was first missed: the mark is not to change all the time.
        self.absent.get_or_insert_with(|| position.to_string());
    }

    /// Rows with a key above `after`, in the order of keys; `None` when there is no such table.
    fn rows(&self, after: i64) -> io::Result<Option<Vec<Row>>> {
        let Some((file, _)) = follow::open(&self.path)? else {
            return Ok(Some(Vec::new()));
        };
        let wal = follow::open(&self.beside("-wal"))?.map(|(file, _)| file);
        rows_of(&file, wal.as_ref(), self.form, after)
    }

    /// State of the database and its write-ahead log; nothing when there is no database.
    fn stamps(&self) -> Vec<Stamp> {
        let of = |path: PathBuf| fs::metadata(path).ok().filter(Metadata::is_file);
        let Some(database) = of(self.path.clone()) else {
            return Vec::new();
        };
        let files = [Some(database), of(self.beside("-wal"))];
        files
            .into_iter()
            .flatten()
            .map(|file| {
                let nanos = |secs: i64, nanos| secs.saturating_mul(1_000_000_000) + nanos;
                (
                    file.dev(),
                    file.ino(),
                    file.len(),
                    nanos(file.mtime(), file.mtime_nsec()),
                    nanos(file.ctime(), file.ctime_nsec()),
                )
            })
            .collect()
    }

    /// Whether somebody is writing, or died of it: then SQLite keeps the old pages in a journal, which
    /// the next who writes puts back.
    fn is_written(&self) -> bool {
        let journal = follow::open(&self.beside("-journal"));
        let Ok(Some((file, _))) = journal else {
            return false;
        };
        let mut head = [0; 8];
        // One that is over is empty, or begins with zeros.
        file.read_at(0, &mut head).is_ok() && head != [0; 8]
    }

    fn beside(&self, end: &str) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(end);
        PathBuf::from(name)
    }

    /// Whether an archive was made since the last look: `wtmp_20260131.db`.
    fn is_archived(&self) -> bool {
        let since = self.position.map_or(0, |known| known.read);
        let since = Timestamp::from_nanos(since).minus(Duration::from_secs(1));
        let stem = self.path.file_stem().unwrap_or_default();
        let entries = self
            .path
            .parent()
            .and_then(|folder| fs::read_dir(folder).ok());
        entries.into_iter().flatten().flatten().any(|entry| {
            let name = entry.file_name();
            let begins = name
                .as_encoded_bytes()
                .strip_prefix(stem.as_encoded_bytes())
                .is_some_and(|rest| rest.starts_with(b"_") && rest.ends_with(b".db"));
            begins
                && entry.metadata().is_ok_and(|metadata| {
                    let secs = metadata.ctime().saturating_mul(1_000_000_000);
                    Timestamp::from_nanos(secs + metadata.ctime_nsec()) >= since
                })
        })
    }
}

fn restore(mark: &str) -> Option<Position> {
    let mut parts = mark.split(':');
    let position = Position {
        row: parts.next()?.parse().ok()?,
        latest: parts.next()?.parse().ok()?,
        digest: u64::from_str_radix(parts.next()?, 16).ok()?,
        read: parts.next()?.parse().ok()?,
    };
    parts.next().is_none().then_some(position)
}

fn rows_of<F: ReadAt + ?Sized>(
    file: &F,
    wal: Option<&F>,
    form: Form,
    after: i64,
) -> io::Result<Option<Vec<Row>>> {
    let (name, user, time) = match form {
        Form::Wtmpdb => ("wtmp", "user", "login"),
        Form::Lastlog2 => ("Lastlog2", "name", "time"),
    };
    let database = sqlite::Database::open(file, wal)?;
    let Some(table) = database.table(name)? else {
        return Ok(None);
    };
    let places = ["type", user, time, "tty", "remotehost", "service"].map(|c| table.column(c));
    let [kind, user, time, tty, remote, service] = places;
    let mut rows = Vec::new();
    database.rows(&table, after, ROW_BYTES, |key, record| {
        let values: Vec<Value<'_>> = sqlite::values(record).take(32).collect();
        let value = |place: Option<usize>| {
            let value = place.and_then(|place| values.get(place));
            value.copied().unwrap_or(Value::Null)
        };
        let text = |place| String::from_utf8_lossy(value(place).bytes()).into_owned();
        let Some(at) = value(time).integer() else {
            return;
        };
        let user = text(user);
        let kind = value(kind).integer();
        let is_login = form == Form::Lastlog2 || kind == Some(USER_PROCESS);
        let service = text(service);
        rows.push(Row {
            key,
            login: is_login && !user.is_empty() && !NO_LOGINS.contains(&service.as_str()),
            user,
            at_micros: match form {
                Form::Wtmpdb => at,
                Form::Lastlog2 => at.saturating_mul(1_000_000),
            },
            tty: text(tty),
            remote: text(remote),
        });
    })?;
    Ok(Some(rows))
}

/// Reads the tables of both forms, for whoever feeds it with made-up files.
pub(super) fn try_all(file: &[u8], wal: Option<&[u8]>) {
    for form in [Form::Wtmpdb, Form::Lastlog2] {
        let _ = rows_of(file, wal, form, 0);
    }
}

fn digest<'a>(rows: impl Iterator<Item = &'a Row>) -> u64 {
    let mut digest = Sha256::new();
    for row in rows {
        digest.update(row.key.to_be_bytes());
        digest.update(row.at_micros.to_be_bytes());
        digest.update(row.user.as_bytes());
        digest.update([0]);
    }
    let digest = digest.finalize();
    let digest = digest.iter().take(8);
    digest.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests;
