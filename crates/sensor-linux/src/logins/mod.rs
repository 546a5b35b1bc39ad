//! Logins and failed attempts, from the records of login programs and the log of sshd.
//!
//! - **Guarantees**: what is written while an agent runs, or between two runs of it, is reported
//!   once (A11): the position in every file is committed together with the events read up to
//!   it. A rotated file is read to its end before the new one. A login that several sources tell of
//!   is one event: same account, same remote address, same outcome, at most two seconds apart.
//! - **Invariants**: on its very first start the sensor begins at the end of every file; years
//!   of history are no news. A file that appears later is read from its start.
//! - **Formats**: `struct utmp` of utmp(5) in wtmp and btmp; lines of syslog with traditional or
//!   RFC 3339 time, and the bare lines of `sshd -E`. Marks are `device:inode:offset`.
//! - **Not here**: the journal (a host that logs only there is covered by wtmp and btmp where its
//!   programs still write them), wtmpdb, logouts, sessions that PAM opens for other services.
//!   Any local user can write to the log with logger(1), so a line of a log is no proof.

mod duplicates;
mod follow;
mod message;
mod sensor;
mod syslog;
mod utmp;
mod zone;

use std::path::PathBuf;

use yinglong_sensor::{Error, Sensor};

/// What the sensor needs.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Files to read.
    pub paths: Paths,
}

/// Files that tell of logins. Those that do not exist are waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// Successful logins, utmp(5).
    pub wtmp: PathBuf,
    /// Failed logins, utmp(5).
    pub btmp: PathBuf,
    /// Text logs that sshd, login and su write to.
    pub auth: Vec<PathBuf>,
}

impl Default for Paths {
    /// The files of Debian and Red Hat; SUSE and Alpine have the log in `messages`.
    fn default() -> Self {
        Self {
            wtmp: PathBuf::from("/var/log/wtmp"),
            btmp: PathBuf::from("/var/log/btmp"),
            auth: ["/var/log/auth.log", "/var/log/secure", "/var/log/messages"]
                .map(PathBuf::from)
                .to_vec(),
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
/// None of the directories of the files exists, so that nothing could ever appear in them.
pub fn open(options: Options) -> Result<Box<dyn Sensor>, Error> {
    let paths = &options.paths;
    let possible = paths
        .auth
        .iter()
        .chain([&paths.wtmp, &paths.btmp])
        .any(|path| path.parent().is_some_and(std::path::Path::is_dir));
    if !possible {
        return Err(Error::Unavailable {
            source_name: "logins",
            reason: format!(
                "there is no directory of `{}` or any other log; set YINGLONG_AUTH_LOG to the log of sshd",
                paths.wtmp.display()
            ),
        });
    }
    Ok(Box::new(sensor::Reader::new(options.paths)))
}
