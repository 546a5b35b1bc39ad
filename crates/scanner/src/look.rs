//! Looks at one file.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::{
            ffi::OsStrExt as _,
            fs::{FileTypeExt as _, OpenOptionsExt as _},
        },
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::fcntl::OFlag;
use yara_x::{MetaValue, Rule, Rules, ScanError, Scanner};
use yinglong_model::scan::{self, Answer, Match, Reason, Request};

/// Most rules named in one answer.
const MOST_MATCHES: usize = 64;
/// Enough matches of one pattern; rules that count further are not worth the memory.
const MOST_OF_A_PATTERN: usize = 10_000;

/// Limits for one file.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest file in bytes.
    pub bytes: u64,
    /// Longest time; the engine counts whole seconds.
    pub time: Duration,
}

/// Scans files one after the other.
pub struct Look<'r> {
    scanner: Scanner<'r>,
    limits: Limits,
    /// Kept between files: most are small.
    content: Vec<u8>,
}

impl<'r> Look<'r> {
    /// With these rules and limits.
    pub fn new(rules: &'r Rules, limits: Limits) -> Self {
        let mut scanner = Scanner::new(rules);
        scanner
            .set_timeout(limits.time)
            .max_matches_per_pattern(MOST_OF_A_PATTERN)
            .fast_scan(true);
        Self {
            scanner,
            limits,
            content: Vec::new(),
        }
    }

    /// Opens, reads and scans a file; `handed` is what came with the question.
    pub fn at(&mut self, request: &Request, handed: Option<OwnedFd>) -> Answer {
        let began = Instant::now();
        let mut answer = Answer {
            id: request.id,
            ..Answer::default()
        };
        self.content.clear();
        let file = match handed {
            Some(place) => open_handed(place),
            None => open_path(&request.path),
        };
        match read(file, self.limits.bytes, &mut self.content) {
            Ok(()) => {
                answer.bytes = self.content.len() as u64;
                match self.scan(request.reason) {
                    Ok(matches) => answer.matches = matches,
                    Err(ScanError::Timeout) => answer.skipped = Some("timeout".to_owned()),
                    Err(error) => {
                        tracing::warn!(%error, path = request.path, "a scan failed");
                        answer.skipped = Some("failed".to_owned());
                    }
                }
            }
            Err(reason) => answer.skipped = Some(reason.to_owned()),
        }
        // A large file does not hold memory for the small ones after it.
        self.content.shrink_to(1 << 20);
        answer.micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        answer
    }

    fn scan(&mut self, reason: Reason) -> Result<Vec<Match>, ScanError> {
        // Defined when the rules were compiled, so it can only be set.
        let set = self.scanner.set_global("reason", reason.as_str());
        debug_assert!(set.is_ok(), "`reason` is a text");
        let found = self.scanner.scan(&self.content)?;
        Ok(found
            .matching_rules()
            .take(MOST_MATCHES)
            .map(|rule| describe(&rule))
            .collect())
    }
}

fn describe(rule: &Rule<'_, '_>) -> Match {
    let mut found = Match {
        rule: rule.identifier().to_owned(),
        tags: rule.tags().map(|tag| tag.identifier().to_owned()).collect(),
        ..Match::default()
    };
    for (name, value) in rule.metadata() {
        match (name, value) {
            ("level", MetaValue::Integer(level)) => {
                found.level = u8::try_from(level.clamp(0, 2)).unwrap_or_default();
            }
            ("description", MetaValue::String(text)) => text.clone_into(&mut found.description),
            _ => {}
        }
    }
    found
}

/// Opens what a descriptor stands for.
fn open_handed(place: OwnedFd) -> io::Result<File> {
    let place = File::from(place);
    // Opening a device can do things, and a link is none of ours.
    if !place.metadata()?.is_file() {
        return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
    }
    File::options()
        .read(true)
        .custom_flags((OFlag::O_NONBLOCK | OFlag::O_NOCTTY).bits())
        .open(format!("/proc/self/fd/{}", place.as_raw_fd()))
}

/// Opens a file by its path as events show it.
fn open_path(path: &str) -> io::Result<File> {
    let mut file = open(Path::new(path));
    // Events show bytes that are not text as `\xNN`; a file is not safe from us by its name.
    if path.contains("\\x") && file.as_ref().is_err_and(is_gone) {
        file = open(Path::new(OsStr::from_bytes(&scan::unescape(path))));
    }
    file
}

/// Reads a regular file of at most `limit` bytes; otherwise tells why not.
fn read(file: io::Result<File>, limit: u64, content: &mut Vec<u8>) -> Result<(), &'static str> {
    let file = file.map_err(|error| why(&error))?;
    let facts = file.metadata().map_err(|error| why(&error))?;
    if !facts.is_file() {
        return Err("not_regular");
    }
    if facts.len() > limit {
        return Err("too_large");
    }
    // It may have grown since, or be of the kind that tells no size.
    file.take(limit.saturating_add(1))
        .read_to_end(content)
        .map_err(|error| why(&error))?;
    if content.len() as u64 > limit {
        content.clear();
        return Err("too_large");
    }
    Ok(())
}

/// Opens without following a link, waiting for a pipe's other end, or taking a terminal.
fn open(path: &Path) -> io::Result<File> {
    // Opening a device can do things: it is not tried. What changes in between is seen afterwards.
    let kind = std::fs::symlink_metadata(path)?.file_type();
    if kind.is_char_device() || kind.is_block_device() || kind.is_socket() {
        return Err(io::Error::from_raw_os_error(nix::libc::ELOOP));
    }
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    File::options()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn why(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        // A link, or something that cannot be opened for its kind.
        Some(nix::libc::ELOOP | nix::libc::ENXIO | nix::libc::EISDIR) => "not_regular",
        _ if is_gone(error) => "gone",
        _ => "unreadable",
    }
}
