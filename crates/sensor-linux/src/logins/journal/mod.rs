//! Logins from the journal of systemd, read by `journalctl`, which knows every form its files ever had.
//!
//! - **Child**: `journalctl -f` is started with the place of the last entry that was read, ends with the
//!   agent, and is started again when it ends, after a pause that doubles up to a minute. It waits
//!   while nobody takes what it writes: nothing is lost and nothing piles up.
//! - **First start**: the newest entry there is, of whatever program, is the place to begin at.
//! - **Proof**: journald knows which process wrote, see [`entry::Entry::is_trusted`]. What an ordinary
//!   user wrote in the words of a login program is not reported, and the same line in a text log is
//!   not believed.

pub(super) mod entry;

use std::{
    fs,
    io::{self, Read},
    os::{fd::AsFd, unix::process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use yinglong_model::Timestamp;

use super::{
    message::Messages,
    told::{Batch, Told, Witness},
};
use entry::Entry;

/// Longest line, and bytes read at once. An entry has some 1,500 bytes; journalctl leaves out values of
/// more than 4 KiB.
const LINE_BYTES: usize = 64 << 10;

/// Bytes read in one turn, so that the other sources have theirs.
const TURN_BYTES: usize = 1 << 20;

/// Pause before the first new start, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Time between two looks for a journal that is not there.
const LOOK: Duration = Duration::from_secs(10);

/// What is kept of the last words of a child that failed.
const WORDS_BYTES: usize = 200;

/// Entries that are asked for: of the facilities `auth` and `authpriv` (syslog(3)), and of the programs,
/// wherever they are told to log to.
const MATCHES: [&str; 9] = [
    "SYSLOG_FACILITY=4",
    "SYSLOG_FACILITY=10",
    "+",
    "_COMM=sshd",
    "_COMM=sshd-session",
    "_COMM=sshd-auth",
    "_COMM=login",
    "_COMM=su",
    "_COMM=sudo",
];

/// Where the journal is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Programs that can read it, the first that exists being taken.
    pub programs: Vec<PathBuf>,
    /// Folders in which there is a folder for this host with the files.
    pub folders: Vec<PathBuf>,
    /// Whether the folders are to be named to the program; else it reads where it always does.
    pub named: bool,
}

impl Default for Place {
    fn default() -> Self {
        let paths = |paths: [&str; 2]| paths.map(PathBuf::from).to_vec();
        Self {
            programs: paths(["/usr/bin/journalctl", "/bin/journalctl"]),
            folders: paths(["/var/log/journal", "/run/log/journal"]),
            named: false,
        }
    }
}

impl Place {
    /// The program to read it with, if there is anything to read.
    pub(super) fn program(&self) -> Result<&Path, String> {
        let mut programs = self.programs.iter();
        let Some(program) = programs.find(|program| program.exists()) else {
            return Err("journal: there is no journalctl".to_owned());
        };
        if !self.folders.iter().any(|folder| has_files(folder)) {
            return Err("journal: there is none".to_owned());
        }
        Ok(program)
    }
}

/// Reads the journal.
#[derive(Debug)]
pub(super) struct Journal {
    place: Place,
    /// Place of the last entry that was read.
    cursor: Option<String>,
    /// Whether that was looked up, also if there was no entry.
    placed: bool,
    child: Option<Running>,
    start_at: Instant,
    pause: Duration,
    reason: Option<String>,
    messages: Messages,
}

/// A child that runs.
#[derive(Debug)]
struct Running {
    child: Child,
    since: Instant,
    /// Bytes that are not a whole line yet.
    pending: Vec<u8>,
    /// Within a line that is too long.
    skipping: bool,
    words: Vec<u8>,
}

impl Journal {
    /// Goes on behind the entry of an earlier run.
    pub(super) fn new(place: Place, marked: Option<String>) -> Self {
        Self {
            place,
            placed: marked.is_some(),
            cursor: marked.filter(|cursor| !cursor.is_empty()),
            child: None,
            start_at: Instant::now(),
            pause: PAUSE.0,
            reason: Some("journal: not read yet".to_owned()),
            messages: Messages::default(),
        }
    }

    /// What is to be remembered: the last entry that was read; empty when there was none at all.
    pub(super) fn mark(&self) -> Option<&str> {
        let cursor = self.cursor.as_deref().unwrap_or_default();
        self.placed.then_some(cursor)
    }

    /// Why nothing comes from here, if so.
    pub(super) fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Takes what has come; says whether there may be more at once.
    pub(super) fn read(&mut self, now: Timestamp, batch: &mut Batch) -> bool {
        let mut running = match self.child.take() {
            Some(running) => running,
            None if Instant::now() < self.start_at => return false,
            None => match self.start() {
                Ok(running) => running,
                Err(reason) => {
                    self.wait(reason, LOOK);
                    return false;
                }
            },
        };
        let mut taken = 0;
        let mut buffer = vec![0; LINE_BYTES];
        let ended = loop {
            match running.read(&mut buffer) {
                Ok(0) => break true,
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    running.lines(bytes, batch, &mut |line, batch| self.take(line, now, batch));
                    taken += length;
                    if taken >= TURN_BYTES {
                        self.child = Some(running);
                        return true;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break true,
            }
        };
        running.listen();
        if ended {
            self.end(running);
        } else {
            if self.placed {
                self.reason = None;
            }
            self.child = Some(running);
        }
        false
    }

    fn take(&mut self, line: &[u8], now: Timestamp, batch: &mut Batch) {
        let Some(entry) = entry::parse(line) else {
            batch.malformed += 1;
            return;
        };
        if !self.placed {
            self.cursor = Some(entry.cursor);
            return;
        }
        // The child begins with the entry that was read last.
        if self.cursor.as_ref() == Some(&entry.cursor) {
            return;
        }
        let told = told(&entry, &mut self.messages, now);
        batch.told.extend(told);
        self.cursor = Some(entry.cursor);
    }

    fn start(&mut self) -> Result<Running, String> {
        let program = match self.place.program() {
            Ok(program) => program,
            Err(reason) => {
                // Should there be one later, all of it is news.
                self.placed = true;
                return Err(reason);
            }
        };
        let mut command = Command::new(program);
        command.args(["--quiet", "--no-pager", "--output=json"]);
        if self.place.named {
            for folder in &self.place.folders {
                command.arg("--directory").arg(folder);
            }
        }
        if self.placed {
            command.args(["--follow", "--no-tail"]);
            if let Some(cursor) = &self.cursor {
                command.arg(format!("--cursor={cursor}"));
            }
            command.args(MATCHES);
        } else {
            command.arg("--lines=1");
        }
        Running::spawn(command).map_err(|error| format!("journal: journalctl: {error}"))
    }

    fn end(&mut self, mut running: Running) {
        let status = running.child.wait();
        if !self.placed && status.as_ref().is_ok_and(|status| status.success()) {
            // The place is known now, or there is no entry yet.
            self.placed = true;
            return;
        }
        if running.since.elapsed() >= PAUSE.1 {
            self.pause = PAUSE.0;
        }
        let words = String::from_utf8_lossy(&running.words);
        let words = words.trim().lines().last().unwrap_or_default();
        let ended = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        let reason = match words.is_empty() {
            true => format!("journal: journalctl ended: {ended}"),
            false => format!("journal: journalctl ended: {words}"),
        };
        tracing::warn!(reason, pause = ?self.pause, "the journal is not read; it is tried again");
        let pause = self.pause;
        self.pause = (pause * 2).min(PAUSE.1);
        self.wait(reason, pause);
    }

    fn wait(&mut self, reason: String, pause: Duration) {
        self.reason = Some(reason);
        self.start_at = Instant::now() + pause;
    }
}

/// What an entry tells.
pub(super) fn told(entry: &Entry, messages: &mut Messages, now: Timestamp) -> Vec<Told> {
    let program = entry.program();
    if program.is_empty() {
        return Vec::new();
    }
    let forged = !entry.is_trusted();
    let outcome = match forged {
        // What it says about connections is not remembered.
        true => Messages::default().outcome(program, &entry.message),
        false => messages.outcome(program, &entry.message),
    };
    let at = entry.at.unwrap_or(now);
    outcome.map_or_else(Vec::new, |outcome| {
        outcome.told(at, None, "journal", Witness::JOURNAL, forged)
    })
}

/// Whether there is a file of the journal in a folder, or in one below it.
fn has_files(folder: &Path) -> bool {
    let is_file = |path: &Path| path.extension().is_some_and(|end| end == "journal");
    let paths = |folder: &Path| {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path())
    };
    paths(folder).any(|path| is_file(&path) || paths(&path).any(|path| is_file(&path)))
}

impl Running {
    fn spawn(mut command: Command) -> io::Result<Self> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .env("LC_ALL", "C")
            .env("SYSTEMD_COLORS", "0");
        let parent = std::process::id();
        // SAFETY: between fork and exec only async-signal-safe calls are made: prctl(2) and getppid(2),
        // with numbers, touching no memory.
        unsafe {
            command.pre_exec(move || {
                // It ends with the thread that started it, that of the sensor.
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                    return Err(io::Error::last_os_error());
                }
                match libc::getppid().cast_unsigned() == parent {
                    true => Ok(()),
                    false => Err(io::ErrorKind::Other.into()),
                }
            });
        }
        let child = command.spawn()?;
        let running = Self {
            child,
            since: Instant::now(),
            pending: Vec::new(),
            skipping: false,
            words: Vec::new(),
        };
        // Whoever reads them has more to do than to wait.
        if let Some(output) = &running.child.stdout {
            without_waiting(output)?;
        }
        if let Some(words) = &running.child.stderr {
            without_waiting(words)?;
        }
        Ok(running)
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.child.stdout {
            Some(output) => output.read(buffer),
            None => Ok(0),
        }
    }

    /// Hands whole lines over. One that is too long is passed over and counted.
    fn lines(&mut self, bytes: &[u8], batch: &mut Batch, take: &mut dyn FnMut(&[u8], &mut Batch)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let whole = part.ends_with(b"\n");
            if !self.skipping && self.pending.len() + part.len() > LINE_BYTES {
                batch.too_large += 1;
                self.pending.clear();
                self.skipping = true;
            }
            if !self.skipping {
                self.pending.extend_from_slice(part);
                if whole {
                    take(&self.pending, batch);
                    self.pending.clear();
                }
            } else if whole {
                self.skipping = false;
            }
        }
    }

    /// Takes its complaints, so that it never waits for somebody to hear them.
    fn listen(&mut self) {
        let mut buffer = [0; 4096];
        let Some(words) = &mut self.child.stderr else {
            return;
        };
        while let Ok(length @ 1..) = words.read(&mut buffer) {
            self.words
                .extend_from_slice(buffer.get(..length).unwrap_or_default());
            let extra = self.words.len().saturating_sub(WORDS_BYTES);
            self.words.drain(..extra);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn without_waiting(pipe: &impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_retain(fcntl(pipe, FcntlArg::F_GETFL)?);
    fcntl(pipe, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

#[cfg(test)]
mod tests;
