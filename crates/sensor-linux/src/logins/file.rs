//! Files that grow: wtmp, btmp, and the text logs of login programs.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use yinglong_model::{Timestamp, event::Login};
use yinglong_sensor::Outlet;

use super::{
    follow::{CHUNK_BYTES, Follower, Position},
    message::Messages,
    syslog,
    tamper::{Finding, Guard, Kind},
    told::{Batch, Told, Witness},
    utmp,
};

/// How far records may be out of order: clocks are set, by hand or by NTP after a start.
const DISORDER: Duration = Duration::from_secs(3600);

/// End of the name of the mark of what was seen of a file, beside that of the position.
const SEEN: &str = ".seen";

/// One file.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    witness: Witness,
    mark: String,
    format: Format,
    follower: Option<Follower>,
    marked: Option<(Position, Option<Guard>)>,
    /// The latest time it told of.
    newest: Option<Timestamp>,
    /// What is not later than this was told before somebody wrote the file anew.
    history: Option<Timestamp>,
    /// Whether the last attempt to read it failed, so that it is logged once.
    failing: bool,
    /// What was done to it in this run.
    pub(super) tampered: Option<Kind>,
    /// Since when it is left alone, see [`LogFile::is_settling`].
    waiting: Option<Instant>,
}

#[derive(Debug)]
enum Format {
    Records {
        /// Of successful logins, with boots and logouts among them; else of failed ones.
        success: bool,
        /// Time of the record before.
        before: Option<Timestamp>,
    },
    Log {
        messages: Messages,
        /// When the outcome before was told.
        before: Option<Timestamp>,
        /// Within a line that is too long.
        skipping: bool,
    },
}

impl LogFile {
    pub(super) fn wtmp(path: &Path) -> Self {
        let format = Format::Records {
            success: true,
            before: None,
        };
        Self::new(path, Witness::WTMP, "logins.wtmp".to_owned(), format)
    }

    pub(super) fn btmp(path: &Path) -> Self {
        let format = Format::Records {
            success: false,
            before: None,
        };
        Self::new(path, Witness::BTMP, "logins.btmp".to_owned(), format)
    }

    /// A text log; each has a number of its own.
    pub(super) fn log(path: &Path, number: usize) -> Self {
        let format = Format::Log {
            messages: Messages::default(),
            before: None,
            skipping: false,
        };
        let mark = format!("logins.auth:{}", path.display());
        Self::new(path, Witness::log(number), mark, format)
    }

    fn new(path: &Path, witness: Witness, mark: String, format: Format) -> Self {
        Self {
            path: path.to_owned(),
            witness,
            mark,
            format,
            follower: None,
            marked: None,
            newest: None,
            history: None,
            failing: false,
            tampered: None,
            waiting: None,
        }
    }

    pub(super) const fn is_log(&self) -> bool {
        matches!(self.format, Format::Log { .. })
    }

    /// Whether a text log was written to a moment ago. The journal tells some 250 ms later which of the
    /// lines are proof (`POST_CHANGE_TIMER_INTERVAL_USEC` of journald), and is to be heard first; but a
    /// busy log is not put off for more than two seconds.
    pub(super) fn is_settling(&mut self) -> bool {
        const QUIET: Duration = Duration::from_millis(700);
        const LONGEST: Duration = Duration::from_secs(2);
        let modified = fs::metadata(&self.path).and_then(|metadata| metadata.modified());
        let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        if !self.is_log() || age.is_ok_and(|age| age >= QUIET) || !self.path.exists() {
            self.waiting = None;
            return false;
        }
        self.waiting.get_or_insert_with(Instant::now).elapsed() < LONGEST
    }

    /// Reads what is new; says whether there may be more at once.
    pub(super) fn read(&mut self, outlet: &dyn Outlet, now: Timestamp, batch: &mut Batch) -> bool {
        let told = batch.told.len();
        match self.turn(outlet, now, batch) {
            Ok(more) => {
                self.failing = false;
                self.leave_out_history(told, batch);
                if !more {
                    self.history = None;
                }
                more
            }
            Err(error) => {
                if !self.failing {
                    tracing::warn!(path = %self.path.display(), %error, "logins cannot be read");
                }
                self.failing = true;
                false
            }
        }
    }

    fn turn(&mut self, outlet: &dyn Outlet, now: Timestamp, batch: &mut Batch) -> io::Result<bool> {
        let follower = match &mut self.follower {
            Some(follower) => follower,
            none => {
                let record_bytes = match self.format {
                    Format::Log { .. } => 1,
                    Format::Records { .. } => utmp::RECORD_BYTES as u64,
                };
                let marked = outlet.marked(&self.mark);
                let seen = outlet.marked(&format!("{}{SEEN}", self.mark));
                let (guard, newest) = seen.as_deref().map_or((None, None), seen_of);
                self.newest = newest;
                self.format.start(newest);
                none.insert(Follower::new(
                    &self.path,
                    marked.as_deref(),
                    guard,
                    record_bytes,
                )?)
            }
        };
        let before = self.newest;
        let (format, newest) = (&mut self.format, &mut self.newest);
        let mut erased = None;
        let turn = follower.turn(&mut |bytes| {
            let told = batch.told.len();
            let used = format.consume(bytes, self.witness, now, batch, &mut erased);
            let news = batch.told.get(told..).unwrap_or_default();
            *newest = news.iter().map(|told| told.at).max().max(*newest);
            used
        })?;
        let path = self.path.display();
        if turn.vanished {
            tracing::warn!(%path, "the file read before is gone; its end may not have been read");
        }
        if turn.cut {
            tracing::warn!(%path, "the rotated file ended within a record");
            batch.malformed += 1;
        }
        if let Some(kind) = turn.tampered.or(erased) {
            tracing::warn!(%path, kind = kind.as_str(), "a record of logins was tampered with");
            self.tampered = Some(kind);
            batch.tampered.push(Finding {
                path: self.path.clone(),
                kind,
            });
        }
        if turn.restarted {
            self.history = before;
        }
        Ok(turn.more)
    }

    /// Logins that were told already stay in a file from which others were taken.
    fn leave_out_history(&self, from: usize, batch: &mut Batch) {
        let Some(history) = self.history else {
            return;
        };
        let mut place = 0;
        batch.told.retain(|told| {
            place += 1;
            place <= from || told.at > history
        });
    }

    /// Remembers how far it was read, if that changed.
    pub(super) fn remember(&mut self, outlet: &mut dyn Outlet) -> bool {
        let Some(follower) = &self.follower else {
            return false;
        };
        let (position, guard) = (follower.position(), follower.guard());
        let same = self.marked.is_some_and(|(known, before)| {
            let end = |guard: Option<Guard>| guard.map(|guard| guard.digest());
            known == position && end(before) == end(guard)
        });
        if same {
            return false;
        }
        outlet.mark(&self.mark, position.to_string());
        let newest = self.newest.map_or(0, Timestamp::nanos);
        let seen = guard.map_or_else(String::new, |guard| format!("{guard}:{newest}"));
        outlet.mark(&format!("{}{SEEN}", self.mark), seen);
        self.marked = Some((position, guard));
        true
    }
}

/// What an earlier run remembered, and the latest time it told of.
fn seen_of(mark: &str) -> (Option<Guard>, Option<Timestamp>) {
    let Some((guard, newest)) = mark.rsplit_once(':') else {
        return (None, None);
    };
    let newest = newest.parse().ok().filter(|nanos| *nanos != 0);
    (guard.parse().ok(), newest.map(Timestamp::from_nanos))
}

impl Format {
    fn start(&mut self, newest: Option<Timestamp>) {
        if let Self::Records { before, .. } = self {
            *before = newest;
        }
    }

    /// Takes whole records or lines from the bytes; says how many bytes that were.
    fn consume(
        &mut self,
        bytes: &[u8],
        witness: Witness,
        now: Timestamp,
        batch: &mut Batch,
        tampered: &mut Option<Kind>,
    ) -> usize {
        let (success, before) = match self {
            Self::Log {
                messages,
                before,
                skipping,
            } => {
                return lines(bytes, skipping, batch, &mut |line, batch| {
                    let told = from_line(line, messages, *before, witness, now);
                    *before = told.last().map(|told| told.at).or(*before);
                    batch.told.extend(told);
                });
            }
            Self::Records { success, before } => (*success, before),
        };
        let records = bytes.chunks_exact(utmp::RECORD_BYTES);
        let used = bytes.len() - records.remainder().len();
        for bytes in records {
            let Some(record) = utmp::parse(bytes) else {
                let erased = bytes.iter().all(|byte| *byte == 0);
                if erased {
                    *tampered = Some(Kind::Erased);
                }
                batch.malformed += 1;
                continue;
            };
            if is_backdated(&record, *before, now) {
                *tampered = Some(Kind::Backdated);
            }
            *before = Some(record.at);
            batch.told.extend(from_record(record, success, witness));
        }
        used
    }
}

/// Whether a record has a time long before that of the record in front of it. After a start the clock
/// may be wrong for a while, and whoever sets it leaves a record.
fn is_backdated(record: &utmp::Record, before: Option<Timestamp>, now: Timestamp) -> bool {
    let clock = (utmp::RUN_LVL..=utmp::OLD_TIME).contains(&record.kind) || record.kind == 0;
    let behind = |time: Timestamp| time.since(record.at) > DISORDER;
    !clock && behind(now) && before.is_some_and(behind)
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

fn from_line(
    line: &str,
    messages: &mut Messages,
    before: Option<Timestamp>,
    witness: Witness,
    now: Timestamp,
) -> Vec<Told> {
    let line = syslog::parse(line, now);
    let outcome = messages.outcome(line.program, line.message);
    outcome.map_or_else(Vec::new, |outcome| {
        outcome.told(line.at.unwrap_or(now), before, "auth.log", witness, false)
    })
}

/// wtmp also tells of boots and logouts; every record of btmp is a failure.
fn from_record(record: utmp::Record, success: bool, witness: Witness) -> Option<Told> {
    let counts = if success {
        record.kind == utmp::USER_PROCESS && !record.user.is_empty()
    } else {
        record.kind != 0
    };
    let file = if success { "wtmp" } else { "btmp" };
    counts.then(|| Told {
        at: record.at,
        within: None,
        login: Login {
            username: record.user,
            remote: record.remote,
            status: success,
            hostname: String::new(),
            tty: Some(record.line).filter(|line| !line.is_empty()),
            source: Some(file.to_owned()),
        },
        witness,
        forged: false,
    })
}
