//! Keeps one scanner going, asks it, and reports what it finds.

use std::{
    ffi::OsStr,
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    fcntl::{self, OFlag},
    sys::stat::Mode,
};
use yinglong_model::{
    DropReason, EventData, Observation, Timestamp,
    event::File,
    host::SensorStatus,
    scan::{Answer, Match, Request, unescape},
};
use yinglong_sensor::{Context, Outlet};

use super::{
    Options, STREAM,
    child::Scanner,
    queue::{Feed, Wanted},
    seen::{Identity, Seen},
};

/// Longest pause before a scanner that keeps dying is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A scanner that lived at least so long was no failure.
const STEADY: Duration = Duration::from_secs(60);
/// Executions come in crowds; they are looked at together.
const GATHER: Duration = Duration::from_millis(50);

/// Works until the agent stops.
pub(super) struct Keeper<O> {
    context: Context,
    feed: Feed,
    /// Books of files that were not scanned, and the status.
    outlet: O,
    /// Where matches go: they are file events like others, in the books of those.
    findings: O,
    program: PathBuf,
    options: Options,
    seen: Seen,
    scanner: Option<Scanner>,
    started: Instant,
    pause: Duration,
    /// How often the scanner died.
    deaths: u64,
    /// Files that are not tried again.
    given_up: u64,
    asked: u64,
}

impl<O: Outlet> Keeper<O> {
    pub(super) fn new(
        context: Context,
        feed: Feed,
        outlet: O,
        findings: O,
        program: PathBuf,
        options: Options,
    ) -> Self {
        Self {
            context,
            feed,
            outlet,
            findings,
            program,
            seen: Seen::default(),
            scanner: None,
            started: Instant::now(),
            pause: options.first_pause,
            options,
            deaths: 0,
            given_up: 0,
            asked: 0,
        }
    }

    pub(super) fn run(mut self) {
        self.revive();
        while !self.context.stopping() {
            let waited = Instant::now();
            if let Some(wanted) = self.feed.next(Context::PATIENCE) {
                if waited.elapsed() > GATHER {
                    thread::sleep(GATHER);
                }
                self.handle(&wanted);
            }
            let dropped = self.feed.dropped();
            self.outlet.lose(DropReason::ScanQueueFull, dropped);
            let kept = self.outlet.commit().and_then(|()| self.findings.commit());
            if let Err(error) = kept {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "what the scanner found cannot be kept");
            }
        }
    }

    /// Scans a file, unless that was done before or is of no use.
    fn handle(&mut self, wanted: &Wanted) {
        // What cannot be looked at under this name may be there for the scanner: it knows how
        // names of events are to be read. It is only not remembered.
        let facts = fs::symlink_metadata(&wanted.open).ok();
        if facts
            .as_ref()
            .is_some_and(|facts| !facts.is_file() || facts.size() == 0)
        {
            return;
        }
        let identity = facts
            .as_ref()
            .map(|facts| Identity::new(wanted.reason, facts));
        if let Some(file) = &identity
            && (self.seen.is_scanned(file) || self.seen.is_fatal(file) || self.is_own(wanted))
        {
            return;
        }
        let handed = match wanted.inside.then(|| place(&wanted.open)).transpose() {
            Ok(handed) => handed,
            // The process ended before its turn, or the file was a passing one.
            Err(error) if is_gone(&error) => return,
            Err(error) => {
                tracing::debug!(path = wanted.open, %error, "a file was not scanned");
                return self.outlet.lose(DropReason::ScanFailed, 1);
            }
        };
        // A death is the file's fault or an accident: a second try tells.
        for _ in 0..2 {
            let Some(answer) = self.ask(wanted, handed.as_ref()) else {
                if self.context.stopping() {
                    return;
                }
                if let Some(file) = identity {
                    self.seen.killed_by(file);
                }
                self.died();
                continue;
            };
            if let Some(file) = identity
                && !matches!(answer.skipped.as_deref(), Some("gone" | "unreadable"))
            {
                self.seen.scanned(file);
            }
            return self.tell(wanted, &answer);
        }
        self.given_up += 1;
        self.outlet.lose(DropReason::ScanFailed, 1);
        tracing::warn!(
            path = wanted.open,
            "the scanner died of this file; it is not scanned"
        );
        self.post_running();
    }

    /// Whether it is the scanner itself, which holds what its rules look for.
    fn is_own(&self, wanted: &Wanted) -> bool {
        let place = |path: &str| fs::metadata(path).ok().map(|f| (f.dev(), f.ino()));
        let own = self.program.to_str().and_then(place);
        own.is_some() && own == place(&wanted.open)
    }

    /// Asks the scanner; none when it died of it or cannot be had.
    fn ask(&mut self, wanted: &Wanted, handed: Option<&OwnedFd>) -> Option<Answer> {
        self.asked += 1;
        let request = Request {
            id: self.asked,
            path: wanted.open.clone(),
            reason: wanted.reason,
            handed: handed.is_some(),
        };
        if !self.is_alive() {
            self.died();
        }
        let within = self.options.answer_within;
        let scanner = self.scanner.as_mut()?;
        match scanner.ask(&request, handed, within, &self.context) {
            Ok(answer) => Some(answer),
            Err(error) => {
                if !self.context.stopping() {
                    tracing::warn!(
                        error = format!("{error:#}"),
                        path = wanted.open,
                        "the scanner failed"
                    );
                }
                None
            }
        }
    }

    fn is_alive(&mut self) -> bool {
        self.scanner.as_mut().is_some_and(Scanner::is_alive)
    }

    /// Counts a death and starts another scanner, after a pause.
    fn died(&mut self) {
        self.scanner = None;
        self.deaths += 1;
        if self.started.elapsed() >= STEADY {
            self.pause = self.options.first_pause;
        }
        self.rest();
        self.revive();
    }

    /// Starts a scanner, again and again until there is one or the agent stops.
    fn revive(&mut self) {
        while !self.context.stopping() {
            self.started = Instant::now();
            let mut command = Command::new(&self.program);
            command.args(&self.options.arguments);
            match Scanner::start(&mut command, &self.context) {
                Ok(scanner) => {
                    tracing::info!(pid = scanner.pid(), rules = scanner.rules, "scanning files");
                    self.scanner = Some(scanner);
                    return self.post_running();
                }
                Err(error) if !self.context.stopping() => {
                    let reason = format!("the scanner fails: {error:#}");
                    tracing::error!(reason, "files are not scanned; trying again");
                    self.post("none", false, reason);
                    self.rest();
                }
                Err(_) => return,
            }
        }
    }

    /// Waits before the next start, the longer the more often it failed. What waits to be scanned
    /// meanwhile fills the queue; what does not fit is counted.
    fn rest(&mut self) {
        let until = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        while Instant::now() < until && !self.context.stopping() {
            let left = until.saturating_duration_since(Instant::now());
            thread::sleep(left.min(Context::PATIENCE));
        }
    }

    /// Reports matches; counts what was not looked at.
    fn tell(&mut self, wanted: &Wanted, answer: &Answer) {
        match answer.skipped.as_deref() {
            None => {}
            // Settings say how large.
            Some("too_large") => self.outlet.filtered(1),
            Some("gone" | "not_regular") => {}
            Some(reason) => {
                tracing::debug!(path = wanted.open, reason, "a file was not scanned");
                self.outlet.lose(DropReason::ScanFailed, 1);
            }
        }
        if answer.matches.is_empty() {
            return;
        }
        for found in &answer.matches {
            tracing::info!(
                path = wanted.event.path,
                rule = found.rule,
                description = found.description,
                "a file matches"
            );
        }
        self.findings.emit(Observation::Event {
            occurred_at: Timestamp::from(SystemTime::now()),
            data: EventData::File(Box::new(event(&wanted.event, &answer.matches))),
        });
    }

    fn post_running(&mut self) {
        let Some(scanner) = &self.scanner else { return };
        let mut reasons = Vec::new();
        if !scanner.broken.is_empty() {
            reasons.push(format!("left out: {}", scanner.broken.join("; ")));
        }
        if self.deaths > 0 {
            reasons.push(format!("restarts: {}", self.deaths));
        }
        if self.given_up > 0 {
            reasons.push(format!(
                "files given up because it died of them: {}",
                self.given_up
            ));
        }
        self.post("yara-x", true, reasons.join(", "));
    }

    fn post(&mut self, source: &str, running: bool, reason: String) {
        self.outlet.status(SensorStatus {
            stream: STREAM.to_owned(),
            source: source.to_owned(),
            running,
            reason,
        });
    }
}

fn is_gone(error: &io::Error) -> bool {
    let gone = [io::ErrorKind::NotFound, io::ErrorKind::NotADirectory];
    gone.contains(&error.kind()) || error.raw_os_error() == Some(nix::libc::ESRCH)
}

/// A descriptor of the place of a file that the scanner may not look for itself: it could do more
/// than read if it could look into processes. Nothing is opened for it, whatever the file is.
fn place(path: &str) -> io::Result<OwnedFd> {
    let place = |path: &Path| {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        fcntl::open(path, flags, Mode::empty()).map_err(io::Error::from)
    };
    match place(Path::new(path)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.contains("\\x") => {
            place(Path::new(OsStr::from_bytes(&unescape(path))))
        }
        placed => placed,
    }
}

/// The event of a match.
fn event(file: &File, matches: &[Match]) -> File {
    let rules: Vec<&str> = matches.iter().map(|found| found.rule.as_str()).collect();
    let mut tags: Vec<&str> = Vec::new();
    for tag in matches.iter().flat_map(|found| &found.tags) {
        if !tags.contains(&tag.as_str()) {
            tags.push(tag);
        }
    }
    tags.push(match matches.iter().map(|found| found.level).min() {
        None | Some(0) => "danger",
        Some(1) => "suspicious",
        Some(_) => "hint",
    });
    File {
        yara: Some(rules.join("|")),
        yara_tags: Some(tags.join("|")),
        ..file.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_every_rule_every_tag_once_and_the_gravest_level() {
        let found = |rule: &str, tag: &str, level| Match {
            rule: rule.into(),
            tags: vec!["webshell".into(), tag.into()],
            level,
            ..Match::default()
        };
        let file = event(
            &File::default(),
            &[found("a", "php", 2), found("b", "jsp", 1)],
        );
        assert_eq!(file.yara.as_deref(), Some("a|b"));
        assert_eq!(
            file.yara_tags.as_deref(),
            Some("webshell|php|jsp|suspicious")
        );
    }
}
