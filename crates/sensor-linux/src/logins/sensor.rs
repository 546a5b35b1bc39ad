//! The sensor: reads every source in turn, and commits events with positions.

use std::{path::Path, time::Duration};

use yinglong_model::{
    DropReason, EventData, Observation, Timestamp, event::Login, host::SensorStatus,
};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

use super::{
    Paths,
    duplicates::Duplicates,
    follow::{CHUNK_BYTES, Follower, Position},
    message::Messages,
    syslog, utmp,
};
use crate::{
    inventory::{Root, facts},
    standing::Standing,
};

/// Time between two looks at the files; looking costs one stat(2) per file.
const POLL: Duration = Duration::from_millis(200);

/// Mark of the logins that were reported a short while ago.
const RECENT_MARK: &str = "logins.recent";

/// Reads the files of logins.
pub(super) struct Reader {
    sources: Vec<Source>,
    duplicates: Duplicates,
    hostname: String,
}

/// One file.
struct Source {
    path: std::path::PathBuf,
    mark: String,
    format: Format,
    follower: Option<Follower>,
    marked: Option<Position>,
    /// Whether the last attempt to read it failed, so that it is logged once.
    failing: bool,
    /// Whether it lost bytes in this run, by a rotation that copies or by tampering.
    shortened: bool,
}

enum Format {
    Wtmp,
    Btmp,
    Log {
        messages: Messages,
        /// Within a line that is too long.
        skipping: bool,
    },
}

/// A login as one source tells of it.
struct Told {
    at: Timestamp,
    login: Login,
    source: usize,
}

/// What is read in one turn of all sources.
#[derive(Default)]
struct Batch {
    told: Vec<Told>,
    malformed: u64,
    too_large: u64,
}

impl Reader {
    pub(super) fn new(paths: Paths) -> Self {
        let source = |path: &Path, mark: String, format: Format| Source {
            path: path.to_owned(),
            mark,
            format,
            follower: None,
            marked: None,
            failing: false,
            shortened: false,
        };
        let mut sources = vec![
            source(&paths.wtmp, "logins.wtmp".to_owned(), Format::Wtmp),
            source(&paths.btmp, "logins.btmp".to_owned(), Format::Btmp),
        ];
        for path in &paths.auth {
            let format = Format::Log {
                messages: Messages::default(),
                skipping: false,
            };
            let mark = format!("logins.auth:{}", path.display());
            sources.push(source(path, mark, format));
        }
        Self {
            sources,
            duplicates: Duplicates::default(),
            hostname: String::new(),
        }
    }

    /// Reads what is new; says whether there may be more at once.
    fn pass(&mut self, outlet: &mut dyn Outlet, now: Timestamp) -> Result<bool, Error> {
        let mut batch = Batch::default();
        let mut more = false;
        for (index, source) in self.sources.iter_mut().enumerate() {
            match source.read(index, &*outlet, now, &mut batch) {
                Ok(has_more) => {
                    more |= has_more;
                    source.failing = false;
                }
                Err(error) => {
                    if !source.failing {
                        tracing::warn!(path = %source.path.display(), %error, "logins cannot be read");
                    }
                    source.failing = true;
                }
            }
        }
        batch.told.sort_by_key(|told| told.at);
        let mut changed = batch.malformed + batch.too_large > 0;
        let any = !batch.told.is_empty();
        for Told {
            at,
            mut login,
            source,
        } in batch.told
        {
            if self.duplicates.is_first(&login, at, source, now) {
                login.hostname.clone_from(&self.hostname);
                outlet.emit(Observation::Event {
                    occurred_at: at,
                    data: EventData::Loginlog(login),
                });
            }
        }
        if !more {
            self.duplicates.forget(now);
        }
        if any {
            outlet.mark(RECENT_MARK, self.duplicates.save());
        }
        if batch.malformed > 0 {
            outlet.lose(DropReason::Malformed, batch.malformed);
        }
        if batch.too_large > 0 {
            outlet.lose(DropReason::TooLarge, batch.too_large);
        }
        for source in &mut self.sources {
            let position = source.follower.as_ref().map(Follower::position);
            if position != source.marked
                && let Some(position) = position
            {
                outlet.mark(&source.mark, position.to_string());
                source.marked = Some(position);
                changed = true;
            }
        }
        if changed || any {
            outlet.commit()?;
        }
        Ok(more)
    }
}

impl Sensor for Reader {
    fn stream(&self) -> &'static str {
        "loginlog"
    }

    fn status(&self) -> SensorStatus {
        let readable = |source: &&Source| std::fs::File::open(&source.path).is_ok();
        let (present, missing): (Vec<_>, Vec<_>) = self.sources.iter().partition(readable);
        let names = |sources: &[&Source]| {
            let names: Vec<_> = sources
                .iter()
                .filter_map(|source| Some(source.path.file_name()?.to_string_lossy()))
                .collect();
            names.join("+")
        };
        let logs = present
            .iter()
            .any(|s| matches!(s.format, Format::Log { .. }));
        let reason = if present.is_empty() {
            format!("none of {} exists yet", names(&missing))
        } else if logs {
            String::new()
        } else {
            "no text log of sshd; set YINGLONG_AUTH_LOG to it if there is one".to_owned()
        };
        let shortened: Vec<_> = self.sources.iter().filter(|s| s.shortened).collect();
        let mut reasons = vec![reason];
        if !shortened.is_empty() {
            reasons.push(format!("{} lost what had been read", names(&shortened)));
        }
        reasons.retain(|reason| !reason.is_empty());
        SensorStatus {
            stream: self.stream().to_owned(),
            source: names(&present),
            running: true,
            reason: reasons.join("; "),
        }
    }

    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let now = Timestamp::from(std::time::SystemTime::now());
        let saved = outlet.marked(RECENT_MARK).unwrap_or_default();
        self.duplicates = Duplicates::restore(&saved, now);
        self.hostname = facts::hostname(&Root::host());
        let mut standing = Standing::default();
        while !context.stopping() {
            standing.look(self, outlet);
            let now = Timestamp::from(std::time::SystemTime::now());
            if !self.pass(outlet, now)? {
                std::thread::sleep(POLL);
            }
        }
        Ok(())
    }
}

impl Source {
    /// Reads what is new in this file; says whether there may be more at once.
    fn read(
        &mut self,
        index: usize,
        outlet: &dyn Outlet,
        now: Timestamp,
        batch: &mut Batch,
    ) -> std::io::Result<bool> {
        let follower = match &mut self.follower {
            Some(follower) => follower,
            none => {
                let record_bytes = match self.format {
                    Format::Log { .. } => 1,
                    Format::Wtmp | Format::Btmp => utmp::RECORD_BYTES as u64,
                };
                let marked = outlet.marked(&self.mark);
                none.insert(Follower::new(&self.path, marked.as_deref(), record_bytes)?)
            }
        };
        let format = &mut self.format;
        let turn = follower.turn(&mut |bytes| format.consume(bytes, index, now, batch))?;
        let path = self.path.display();
        if turn.truncated {
            self.shortened = true;
            tracing::warn!(%path, "the file was shortened; it is read from its start");
        }
        if turn.vanished {
            tracing::warn!(%path, "the file read before is gone; its end may not have been read");
        }
        if turn.cut {
            tracing::warn!(%path, "the rotated file ended within a record");
            batch.malformed += 1;
        }
        Ok(turn.more)
    }
}

impl Format {
    /// Takes whole records or lines from the bytes; says how many bytes that were.
    fn consume(&mut self, bytes: &[u8], source: usize, now: Timestamp, batch: &mut Batch) -> usize {
        let success = match self {
            Self::Log { messages, skipping } => {
                return lines(bytes, skipping, batch, &mut |line, batch| {
                    batch.told.extend(from_line(line, messages, source, now));
                });
            }
            Self::Wtmp => true,
            Self::Btmp => false,
        };
        let records = bytes.chunks_exact(utmp::RECORD_BYTES);
        let used = bytes.len() - records.remainder().len();
        for record in records {
            match utmp::parse(record) {
                Some(record) => batch.told.extend(from_record(record, success, source)),
                None => {
                    tracing::warn!("a record of logins was wiped or makes no sense");
                    batch.malformed += 1;
                }
            }
        }
        used
    }
}

/// Hands whole lines over. One that does not fit the buffer is passed over and counted.
fn lines(
    bytes: &[u8],
    skipping: &mut bool,
    batch: &mut Batch,
    take: &mut dyn FnMut(&str, &mut Batch),
) -> usize {
    let mut used = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let whole = line.ends_with(b"\n");
        if !whole && !*skipping && (used > 0 || line.len() < CHUNK_BYTES) {
            break;
        }
        used += line.len();
        if !whole {
            if !*skipping {
                batch.too_large += 1;
            }
            *skipping = true;
        } else if *skipping {
            *skipping = false;
        } else {
            take(&String::from_utf8_lossy(line), batch);
        }
    }
    used
}

fn from_line(line: &str, messages: &mut Messages, source: usize, now: Timestamp) -> Vec<Told> {
    let line = syslog::parse(line, now);
    let Some(outcome) = messages.outcome(line.program, line.message) else {
        return Vec::new();
    };
    let told = || Told {
        at: line.at.unwrap_or(now),
        login: Login {
            username: outcome.username.clone(),
            remote: outcome.remote.clone(),
            status: outcome.status,
            hostname: String::new(),
            tty: Some(outcome.tty.clone()).filter(|tty| !tty.is_empty()),
            source: Some("auth.log".to_owned()),
        },
        source,
    };
    (0..outcome.times).map(|_| told()).collect()
}

/// wtmp also tells of boots and logouts; every record of btmp is a failure.
fn from_record(record: utmp::Record, success: bool, source: usize) -> Option<Told> {
    let counts = if success {
        record.kind == utmp::USER_PROCESS && !record.user.is_empty()
    } else {
        record.kind != 0
    };
    let file = if success { "wtmp" } else { "btmp" };
    counts.then(|| Told {
        at: record.at,
        login: Login {
            username: record.user,
            remote: record.remote,
            status: success,
            hostname: String::new(),
            tty: Some(record.line).filter(|line| !line.is_empty()),
            source: Some(file.to_owned()),
        },
        source,
    })
}

#[cfg(test)]
mod tests;
