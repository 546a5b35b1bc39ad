//! fanotify: marks on whole file systems, reported as directory handle and name, with the actor.
//!
//! Sees every change whoever makes it, without a race on new directories. Wants kernel 5.9 for
//! names, 5.15 for process descriptors and 5.17 (also 5.15.154 and 5.10.220) for the handle of the
//! object and renames in one event; each of the last two is done without where it is missing, and
//! then changes through hard links elsewhere are not seen ([`links`]). Wants CAP_SYS_ADMIN, and CAP_DAC_READ_SEARCH to turn
//! handles into paths.

mod directories;
mod links;
mod other_names;
mod parse;
mod search;
mod steps;
mod sys;

#[cfg(test)]
pub(super) use self::sys::filesystem_id;

use std::{
    collections::HashMap,
    ffi::OsStr,
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use nix::errno::Errno;
use yinglong_model::Timestamp;

use self::{
    directories::{Directories, Directory, Verdict},
    links::{Links, Parked},
    parse::Event,
    steps::{content_steps, exists, has_links, is_nameless, steps},
};
use super::{
    actors::Actors,
    change::{Actor, Batch, Kind, Note, Other, Step},
    mounts::{self, Mount},
    scan::Arrival,
    scope::{Look, Scope},
};

const MASK: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MODIFY
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_ATTRIB
    | libc::FAN_OPEN_EXEC
    | libc::FAN_ONDIR;
/// A rename as one event with both names, or as two events that nothing joins.
const RENAMED: u64 = libc::FAN_RENAME;
const MOVED: u64 = libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;

/// Read at a time: about 150 events, and as many process descriptors open for a moment.
const BUFFER_BYTES: usize = 16 << 10;
/// Reads before others get their turn.
const MOST_READS: usize = 64;

/// Why fanotify cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("fanotify is refused, it needs CAP_SYS_ADMIN")]
    Privilege,
    #[error("fanotify cannot report names, it needs kernel 5.9")]
    Kernel,
    #[error("file handles cannot be opened, that needs CAP_DAC_READ_SEARCH")]
    Handles,
    #[error("fanotify is refused: {0}")]
    Other(io::Error),
}

/// Finds the actor of an event. Asked only for what is reported: it reads `/proc`.
type FindActor<'a> = &'a mut dyn FnMut() -> Option<Arc<Actor>>;

/// The source.
#[derive(Debug)]
pub(super) struct Fanotify {
    group: OwnedFd,
    /// Whether events tell the handle of the object itself.
    targets: bool,
    directories: Directories,
    links: Links,
    scope: Arc<Scope>,
    /// Marked file systems by id, with the place they were marked at.
    marked: HashMap<u64, PathBuf>,
    buffer: Vec<u8>,
}

impl Fanotify {
    pub(super) fn open() -> Result<Self, Refused> {
        let base = libc::FAN_CLASS_NOTIF
            | libc::FAN_CLOEXEC
            | libc::FAN_NONBLOCK
            | libc::FAN_UNLIMITED_QUEUE
            | libc::FAN_REPORT_DFID_NAME;
        let targets = libc::FAN_REPORT_FID | libc::FAN_REPORT_TARGET_FID;
        let attempts = [
            (base | targets | libc::FAN_REPORT_PIDFD, true),
            (base | libc::FAN_REPORT_PIDFD, false),
            (base, false),
        ];
        let mut refused = Refused::Kernel;
        for (flags, targets) in attempts {
            match sys::init(flags) {
                Ok(group) => {
                    can_open_handles()?;
                    return Ok(Self {
                        group,
                        targets,
                        directories: Directories::new(),
                        links: Links::new(),
                        scope: Arc::default(),
                        marked: HashMap::new(),
                        buffer: vec![0; BUFFER_BYTES],
                    });
                }
                Err(error) => {
                    refused = match error.raw_os_error() {
                        Some(libc::EPERM) => Refused::Privilege,
                        Some(libc::EINVAL | libc::ENOSYS) => Refused::Kernel,
                        _ => Refused::Other(error),
                    };
                }
            }
        }
        Err(refused)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.group.as_fd()
    }

    /// Watches `scope` from now on. Answers the mount points whose file system refused, with why.
    pub(super) fn watch(
        &mut self,
        scope: &Arc<Scope>,
        mounts: &[Mount],
    ) -> Vec<(PathBuf, io::Error)> {
        let mask = MASK | if self.targets { RENAMED } else { MOVED };
        let mut refused = Vec::new();
        let mut places = HashMap::<u64, Vec<PathBuf>>::new();
        for point in mounts::touched(mounts, scope) {
            let marked = sys::filesystem_id(&point).and_then(|fsid| {
                if !self.marked.contains_key(&fsid) {
                    sys::mark_filesystem(self.group.as_fd(), libc::FAN_MARK_ADD, mask, &point)?;
                }
                Ok(fsid)
            });
            match marked {
                Ok(fsid) => places.entry(fsid).or_default().push(point),
                Err(error) => refused.push((point, error)),
            }
        }
        for (fsid, point) in &self.marked {
            if !places.contains_key(fsid) {
                // It fails when the file system was unmounted, and the mark is gone with it.
                let remove = libc::FAN_MARK_REMOVE;
                let _ = sys::mark_filesystem(self.group.as_fd(), remove, mask, point);
            }
        }
        self.marked = places
            .iter()
            .filter_map(|(fsid, points)| Some((*fsid, points.first()?.clone())))
            .collect();
        self.scope = Arc::clone(scope);
        self.directories.set(Arc::clone(scope), places);
        if self.targets {
            self.links.reset();
        }
        refused
    }

    /// Reads what is there. Answers whether there may be more.
    pub(super) fn read(
        &mut self,
        actors: &mut Actors,
        excluded: &[u32],
        batch: &mut Batch,
    ) -> io::Result<bool> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut answer = Ok(true);
        for _ in 0..MOST_READS {
            let length = match nix::unistd::read(self.group.as_fd(), &mut buffer) {
                Ok(0) | Err(Errno::EAGAIN) => {
                    answer = Ok(false);
                    break;
                }
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    answer = Err(error.into());
                    break;
                }
            };
            batch.reads += 1;
            actors.start_batch();
            let at = Timestamp::from(std::time::SystemTime::now());
            for event in parse::events(buffer.get(..length).unwrap_or_default()) {
                match event {
                    Ok(event) => self.take(&event, at, actors, excluded, batch),
                    Err(_) => batch.malformed += 1,
                }
            }
        }
        self.buffer = buffer;
        answer
    }

    /// Becomes readable when a search for names has ended.
    pub(super) fn search(&self) -> Option<BorrowedFd<'_>> {
        self.links.fd()
    }

    /// When [`Fanotify::tick`] wants to be called; besides, when a search for names has ended.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        self.links.deadline(now)
    }

    /// Reports changes whose names had to be looked for, and looks for others.
    pub(super) fn tick(&mut self, now: Instant, batch: &mut Batch) {
        let directories = &self.directories;
        let identity = |key: &[u8]| directories.identity(key);
        for (key, parked) in self.links.tick(now, &self.scope, identity) {
            for change in parked {
                self.tell_links(&key, &change, batch);
            }
        }
    }

    /// Takes an event: the change, and the execution of the file, which comes last when the kernel
    /// merged both: a program that runs cannot be written to.
    fn take(
        &mut self,
        event: &Event<'_>,
        at: Timestamp,
        actors: &mut Actors,
        excluded: &[u32],
        batch: &mut Batch,
    ) {
        let executed = event.mask & libc::FAN_OPEN_EXEC != 0;
        let change = event.mask & !(libc::FAN_OPEN_EXEC | libc::FAN_ONDIR);
        if executed && change == 0 {
            drop(event.pidfd.map(sys::adopt));
            drop(event.fd.and_then(sys::adopt));
        } else {
            self.take_change(event, at, actors, excluded, batch);
        }
        if executed {
            actors.executed(event.pid, event.name);
        }
    }

    fn take_change(
        &mut self,
        event: &Event<'_>,
        at: Timestamp,
        actors: &mut Actors,
        excluded: &[u32],
        batch: &mut Batch,
    ) {
        let process = event.pidfd.map(sys::adopt);
        drop(event.fd.and_then(sys::adopt));
        if event.mask & libc::FAN_Q_OVERFLOW != 0 {
            batch.overflowed += 1;
        }
        // Without process descriptors the kernel leaves open whether it still runs.
        let running = process.is_none_or(|process| process.is_some());
        let ours = excluded.contains(&event.pid);
        let mut actor = || match ours {
            true => None,
            false => actors.find(event.pid, running),
        };
        if let (Some(old), Some(new)) = (event.old, event.new) {
            let actor: Option<FindActor<'_>> = match ours {
                true => None,
                false => Some(&mut actor),
            };
            return self.take_rename(event, old, new, at, actor, batch);
        }
        let Some(key) = event.directory else {
            if !ours {
                self.take_nameless(event, at, &mut actor, batch);
            }
            return;
        };
        let directory = match self.directories.verdict(key) {
            Verdict::Inside(directory) => directory,
            Verdict::Outside => {
                self.follow_outside(event);
                if !ours {
                    self.take_outside(event, key, at, &mut actor, batch);
                }
                return;
            }
            Verdict::TooDeep => return self.count_too_deep(event, batch),
            Verdict::Gone => {
                if !self.directories.is_complete() {
                    batch.overflowed += 1;
                }
                return;
            }
        };
        let itself = matches!(event.name, b"" | b".");
        let path = match itself {
            true => directory.path.clone(),
            false => directory.path.join(OsStr::from_bytes(event.name)),
        };
        if event.mask & libc::FAN_ONDIR != 0 && !itself {
            self.follow(event, &path);
        }
        if ours || !self.watches(&directory, &path, itself) {
            return;
        }
        let path: Arc<Path> = path.into();
        let on_file = event.mask & libc::FAN_ONDIR == 0;
        if let Some(target) = event.target.filter(|_| on_file) {
            if is_nameless(event, &path) {
                return self.take_nameless(event, at, &mut actor, batch);
            }
            self.keep_links(event, target, &path);
            if !self.links.is_idle() {
                let change = Parked {
                    steps: content_steps(event.mask),
                    via: Some(Arc::clone(&path)),
                    actor: actor(),
                    at,
                };
                self.tell_or_park(target, change, batch);
            }
        }
        let actor = actor();
        for step in steps(event.mask, || self.exists_now(event.mask, &path)) {
            batch.notes.push(Note {
                path: Arc::clone(&path),
                step,
                actor: actor.clone(),
                at,
                other: None,
            });
        }
        let arrived = libc::FAN_ONDIR | libc::FAN_MOVED_TO;
        if event.mask & arrived == arrived && self.scope.look(&path) == Look::All {
            let arrival = Arrival::moved(path, None, actor, at);
            batch.arrivals.push(arrival);
        }
    }

    /// A rename, told as one event. `actor` is missing when it is not to be reported.
    fn take_rename(
        &mut self,
        event: &Event<'_>,
        old: (&[u8], &[u8]),
        new: (&[u8], &[u8]),
        at: Timestamp,
        actor: Option<FindActor<'_>>,
        batch: &mut Batch,
    ) {
        let from = self.place(old, batch);
        let to = self.place(new, batch);
        let is_directory = event.mask & libc::FAN_ONDIR != 0;
        if let Some(target) = event.target.filter(|_| is_directory) {
            let path = to.as_ref().map(|(path, _)| path.to_path_buf());
            // Files came with it, or names of files that have several changed.
            if path.is_some() && (from.is_none() || !self.links.is_idle()) {
                self.links.refresh();
            }
            self.directories.moved(target, path);
        }
        let from_watched = from.as_ref().is_some_and(|(_, watched)| *watched);
        let to_watched = to.as_ref().is_some_and(|(_, watched)| *watched);
        let (Some(actor), true) = (actor, from_watched || to_watched) else {
            return;
        };
        // A name that is not watched is told, if it can be found, as the other one.
        let elsewhere = |(key, name): (&[u8], &[u8])| {
            let directory = self.directories.path(key)?;
            Some(Arc::<Path>::from(directory.join(OsStr::from_bytes(name))))
        };
        let from = from.map(|(path, _)| path).or_else(|| elsewhere(old));
        let to = to.map(|(path, _)| path).or_else(|| elsewhere(new));
        if let Some(target) = event.target.filter(|_| !is_directory) {
            if let Some(from) = &from {
                self.links.forget(target, from);
            }
            match to.as_ref().filter(|_| to_watched) {
                Some(to) => {
                    self.links.came(target);
                    if has_links(to) {
                        self.links.learn(target, Arc::clone(to));
                    }
                }
                None => self.links.went(target),
            }
        }
        let actor = actor();
        let mut tell = |path: &Arc<Path>, kind, other| {
            batch.notes.push(Note {
                path: Arc::clone(path),
                step: Step::Changed(kind),
                actor: actor.clone(),
                at,
                other,
            });
        };
        if let Some(path) = from.as_ref().filter(|_| from_watched) {
            tell(path, Kind::Rename, to.clone().map(Other::New));
        }
        if let Some(path) = to.filter(|_| to_watched) {
            tell(&path, Kind::Create, from.clone().map(Other::Old));
            if is_directory && self.scope.look(&path) == Look::All {
                let arrival = Arrival::moved(path, from, actor, at);
                batch.arrivals.push(arrival);
            }
        }
    }

    /// The path of a name in a directory where something is watched, and whether it is.
    fn place(
        &mut self,
        (key, name): (&[u8], &[u8]),
        batch: &mut Batch,
    ) -> Option<(Arc<Path>, bool)> {
        let directory = match self.directories.verdict(key) {
            Verdict::Inside(directory) => directory,
            Verdict::Outside => return None,
            Verdict::TooDeep => {
                batch.too_deep += 1;
                return None;
            }
            Verdict::Gone => {
                if !self.directories.is_complete() {
                    batch.overflowed += 1;
                }
                return None;
            }
        };
        let path = directory.path.join(OsStr::from_bytes(name));
        let watched = self.watches(&directory, &path, false);
        Some((path.into(), watched))
    }

    /// A change where paths are too long to be kept.
    fn count_too_deep(&mut self, event: &Event<'_>, batch: &mut Batch) {
        batch.too_deep += 1;
        if let Some(target) = event.target
            && event.mask & libc::FAN_ONDIR != 0
            && event.mask & libc::FAN_CREATE != 0
        {
            self.directories.learn_too_deep(target);
        }
    }

    fn watches(&self, directory: &Directory, path: &Path, itself: bool) -> bool {
        match (itself, directory.look) {
            (false, Look::All) => true,
            (false, _) => self.scope.is_root(path),
            (true, _) => {
                let parent = path.parent().map(|parent| self.scope.look(parent));
                parent == Some(Look::All) || self.scope.is_root(path)
            }
        }
    }

    /// Keeps up with directories made, moved and removed where something is watched.
    fn follow(&mut self, event: &Event<'_>, path: &Path) {
        let is = |bits: u64| event.mask & bits != 0;
        match event.target {
            Some(target) => {
                if is(libc::FAN_CREATE) {
                    self.directories.learn(target, path.to_owned());
                }
                if is(libc::FAN_MOVED_TO) {
                    self.directories.moved(target, Some(path.to_owned()));
                }
                if is(libc::FAN_DELETE) {
                    self.directories.removed(target);
                }
            }
            None if is(libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO) => self.directories.relearn(),
            None if is(libc::FAN_CREATE) && !self.targets => self.directories.learn_path(path),
            None => {}
        }
    }

    /// The same where nothing is watched: what is made there is outside, what moves there left.
    fn follow_outside(&mut self, event: &Event<'_>) {
        if event.mask & libc::FAN_ONDIR == 0 {
            return;
        }
        if let Some(target) = event.target {
            if event.mask & libc::FAN_MOVED_TO != 0 {
                self.directories.moved(target, None);
            } else if event.mask & libc::FAN_CREATE != 0 {
                self.directories.learn_outside(target);
            }
        }
    }

    /// Whether a name that appeared and went away, in an order the kernel's merging hid, is there
    /// now. With the object's handle in the event a merged creation and removal are of one object.
    fn exists_now(&self, mask: u64, path: &Path) -> bool {
        (mask & MOVED != 0 || !self.targets) && exists(path)
    }
}

/// Reads `bytes` as what the descriptor gives.
#[cfg(fuzzing)]
pub(super) fn fuzz_events(bytes: &[u8]) {
    for event in parse::events(bytes).flatten() {
        let names = [event.old, event.new].into_iter().flatten();
        let keys = names.map(|(key, _)| key);
        for key in keys.chain(event.directory).chain(event.target) {
            assert!(parse::key_parts(key).is_some());
        }
        steps(event.mask, || true).for_each(drop);
    }
}

/// Tries once whether handles can be opened.
fn can_open_handles() -> Result<(), Refused> {
    let (kind, handle) = match sys::handle_of(Path::new("/")) {
        Ok(handle) => handle,
        // The root may lie on a file system without handles; those that have them still do.
        Err(_) => return Ok(()),
    };
    let mount = fs::File::open("/").map_err(Refused::Other)?;
    match sys::open_by_handle(mount.as_fd(), kind, &handle) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => Err(Refused::Handles),
        _ => Ok(()),
    }
}
