//! fanotify: marks on whole file systems, reported as directory handle and name, with the actor.
//!
//! Sees every change whoever makes it, without a race on new directories. Wants kernel 5.9 for
//! names, 5.15 for process descriptors and 5.17 for the handle of the object; each of the last two
//! is done without where it is missing. Wants CAP_SYS_ADMIN, and CAP_DAC_READ_SEARCH to turn
//! handles into paths.

mod directories;
mod parse;
mod sys;

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
};

use nix::errno::Errno;
use yinglong_model::Timestamp;

use self::{
    directories::{Directories, Directory, Verdict},
    parse::Event,
};
use super::{
    actors::Actors,
    change::{Batch, Kind, Note, Step},
    mounts::{self, Mount},
    scan::Arrival,
    scope::{Look, Scope},
};

const MASK: u64 = libc::FAN_CREATE
    | libc::FAN_DELETE
    | libc::FAN_MOVED_FROM
    | libc::FAN_MOVED_TO
    | libc::FAN_MODIFY
    | libc::FAN_CLOSE_WRITE
    | libc::FAN_ATTRIB
    | libc::FAN_ONDIR;

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

/// The source.
#[derive(Debug)]
pub(super) struct Fanotify {
    group: OwnedFd,
    /// Whether events tell the handle of the object itself.
    targets: bool,
    directories: Directories,
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
        let mut refused = Vec::new();
        let mut places = HashMap::<u64, Vec<PathBuf>>::new();
        for point in mounts::touched(mounts, scope) {
            let marked = sys::filesystem_id(&point).and_then(|fsid| {
                if !self.marked.contains_key(&fsid) {
                    sys::mark_filesystem(self.group.as_fd(), libc::FAN_MARK_ADD, MASK, &point)?;
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
                let _ = sys::mark_filesystem(self.group.as_fd(), remove, MASK, point);
            }
        }
        self.marked = places
            .iter()
            .filter_map(|(fsid, points)| Some((*fsid, points.first()?.clone())))
            .collect();
        self.scope = Arc::clone(scope);
        self.directories.set(Arc::clone(scope), places);
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

    fn take(
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
        let Some(key) = event.directory else {
            return;
        };
        let directory = match self.directories.verdict(key) {
            Verdict::Inside(directory) => directory,
            Verdict::Outside => return self.follow_outside(event),
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
        if excluded.contains(&event.pid) || !self.watches(&directory, &path, itself) {
            return;
        }
        // Without process descriptors the kernel leaves open whether it still runs.
        let running = process.is_none_or(|process| process.is_some());
        let actor = actors.find(event.pid, running);
        let path: Arc<Path> = path.into();
        let arrived = libc::FAN_ONDIR | libc::FAN_MOVED_TO;
        for step in steps(event.mask, || self.exists_now(event.mask, &path)) {
            batch.notes.push(Note {
                path: Arc::clone(&path),
                step,
                actor: actor.clone(),
                at,
            });
        }
        if event.mask & arrived == arrived && self.scope.look(&path) == Look::All {
            batch.arrivals.push(Arrival::moved(path, actor, at));
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
        let moves = libc::FAN_MOVED_FROM | libc::FAN_MOVED_TO;
        (mask & moves != 0 || !self.targets) && fs::symlink_metadata(path).is_ok()
    }
}

/// The steps of a merged event in the most likely order. `exists` is asked only when the name both
/// appeared and went away.
fn steps(mask: u64, exists: impl FnOnce() -> bool) -> impl Iterator<Item = Step> {
    let has = |bits: u64| mask & bits != 0;
    let gone = [
        has(libc::FAN_MOVED_FROM).then_some(Step::Changed(Kind::Rename)),
        has(libc::FAN_DELETE).then_some(Step::Changed(Kind::Remove)),
    ];
    let there = [
        has(libc::FAN_CREATE | libc::FAN_MOVED_TO).then_some(Step::Changed(Kind::Create)),
        has(libc::FAN_MODIFY).then_some(Step::Changed(Kind::Write)),
        has(libc::FAN_CLOSE_WRITE).then_some(Step::Closed),
        has(libc::FAN_ATTRIB).then_some(Step::Changed(Kind::Chmod)),
    ];
    let both = gone.iter().any(Option::is_some) && there[0].is_some();
    let gone_first = both && exists();
    let (early, late) = match gone_first {
        true => (gone.to_vec(), there.to_vec()),
        false => (there.to_vec(), gone.to_vec()),
    };
    early.into_iter().chain(late).flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merged_event_is_told_in_the_order_that_fits_what_is_left() {
        use Kind::{Chmod, Create, Remove, Rename, Write};
        let check = |mask, exists: bool, expected: &[Step]| {
            let told: Vec<_> = steps(mask, || exists).collect();
            assert_eq!(told, expected);
        };
        let changed = Step::Changed;
        let life = libc::FAN_CREATE | libc::FAN_MODIFY | libc::FAN_CLOSE_WRITE | libc::FAN_DELETE;
        check(
            life,
            false,
            &[
                changed(Create),
                changed(Write),
                Step::Closed,
                changed(Remove),
            ],
        );
        check(
            life,
            true,
            &[
                changed(Remove),
                changed(Create),
                changed(Write),
                Step::Closed,
            ],
        );
        check(
            libc::FAN_ATTRIB | libc::FAN_MOVED_FROM,
            true,
            &[changed(Chmod), changed(Rename)],
        );
        check(libc::FAN_Q_OVERFLOW, false, &[]);
    }
}
