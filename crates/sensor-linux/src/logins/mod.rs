//! Logins and failed attempts, from whatever a host keeps of them.
//!
//! - **Sources**: the audit subsystem, the journal, text logs, wtmp and btmp, the databases of
//!   wtmpdb and lastlog2. Any of them may be absent; those that appear later are read.
//! - **Guarantees**: what is written while an agent runs, or between two runs of it, is reported
//!   once (A11): the position in every source is committed together with the events read up to
//!   it. A rotated file is read to its end before the new one. A login that several sources tell of
//!   is one event: same account, same remote address, same outcome, at most two seconds apart; what one
//!   source tells three times is three. The audit subsystem keeps nothing for later: what it told while
//!   no agent ran is known from the others, and what its queue lost is counted.
//! - **Invariants**: on its very first start the sensor begins at the end of every source; years
//!   of history are no news. A source that appears later is read from its start.
//! - **Tampering**: a file that lost or changed what had been read is told as a file event with the
//!   action `TAMPER` and a word for the kind (`tamper.rs`); rotation is not.
//! - **Proof**: the kernel and journald say who wrote; any local user can write to a text log with
//!   logger(1). Where the journal is read, a line whose writer was an ordinary user is believed nowhere;
//!   elsewhere a line of a text log is no proof.
//! - **Formats**: `struct utmp` of utmp(5); lines of syslog with traditional or
//!   RFC 3339 time, and the bare lines of `sshd -E`; journalctl's JSON; `audit(TIME:SERIAL): ... msg='...'`;
//!   SQLite. Marks are `device:inode:offset`, a cursor, or a row; with a digest of what was read last.
//! - **Not here**: logouts, sessions that PAM opens for other services, what sudo runs (an execution).

mod audit;
mod database;
mod duplicates;
mod file;
mod follow;
#[doc(hidden)]
pub mod fuzzing;
mod journal;
mod message;
mod sensor;
mod syslog;
mod tamper;
mod told;
mod utmp;
mod zone;

use std::path::PathBuf;

use yinglong_sensor::{Error, Sensor};

pub use journal::Place as JournalPlace;

/// What the sensor needs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Files to read.
    pub paths: Paths,
    /// The journal of systemd, if it is to be read.
    pub journal: Option<JournalPlace>,
    /// Whether to listen to the audit subsystem.
    pub audit: bool,
}

impl Options {
    /// Everything a host may have, and the log that `YINGLONG_AUTH_LOG` names, if it is set.
    pub fn of_host() -> Self {
        Self {
            paths: Paths::of_host(),
            journal: Some(JournalPlace::default()),
            audit: true,
        }
    }
}

/// Files that tell of logins. Those that do not exist are waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Successful logins, utmp(5).
    pub wtmp: PathBuf,
    /// Failed logins, utmp(5).
    pub btmp: PathBuf,
    /// The last login of every account, lastlog(5): only looked at for tampering.
    pub lastlog: PathBuf,
    /// Text logs that sshd, login and su write to.
    pub auth: Vec<PathBuf>,
    /// Databases of wtmpdb(8).
    pub wtmpdb: Vec<PathBuf>,
    /// Databases of lastlog2(8).
    pub lastlog2: Vec<PathBuf>,
}

impl Default for Paths {
    /// The files of Debian and Red Hat; SUSE and Alpine have the log in `messages`.
    fn default() -> Self {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect();
        Self {
            wtmp: PathBuf::from("/var/log/wtmp"),
            btmp: PathBuf::from("/var/log/btmp"),
            lastlog: PathBuf::from("/var/log/lastlog"),
            auth: paths(&["/var/log/auth.log", "/var/log/secure", "/var/log/messages"]),
            wtmpdb: paths(&["/var/lib/wtmpdb/wtmp.db", "/var/log/wtmp.db"]),
            lastlog2: paths(&["/var/lib/lastlog/lastlog2.db"]),
        }
    }
}

impl Paths {
    /// The default files, and the one that `YINGLONG_AUTH_LOG` names, if it is set.
    pub fn of_host() -> Self {
        let mut paths = Self::default();
        if let Some(path) = std::env::var_os("YINGLONG_AUTH_LOG").filter(|path| !path.is_empty()) {
            let path = PathBuf::from(path);
            if !paths.auth.contains(&path) {
                paths.auth.push(path);
            }
        }
        paths
    }
}

/// Prepares the sensor.
///
/// # Errors
/// None of the directories of the files exists, so that nothing could ever appear in them, and neither
/// the journal nor the audit subsystem is to be read.
pub fn open(options: Options) -> Result<Box<dyn Sensor>, Error> {
    let paths = &options.paths;
    let possible = paths
        .auth
        .iter()
        .chain(&paths.wtmpdb)
        .chain(&paths.lastlog2)
        .chain([&paths.wtmp, &paths.btmp])
        .any(|path| path.parent().is_some_and(std::path::Path::is_dir));
    if !possible && options.journal.is_none() && !options.audit {
        return Err(Error::Unavailable {
            source_name: "logins",
            reason: format!(
                "there is no directory of `{}` or any other log; set YINGLONG_AUTH_LOG to the log of sshd",
                paths.wtmp.display()
            ),
        });
    }
    Ok(Box::new(sensor::Reader::new(options)))
}
