//! inotify: a watch on every directory, where fanotify cannot be used.
//!
//! Knows no actor. What happens in a new directory before its watch is set is found by reading
//! the directory afterwards; a file that was made and removed in that moment is missed.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use nix::{
    errno::Errno,
    sys::inotify::{AddWatchFlags, InitFlags, Inotify as Instance, InotifyEvent, WatchDescriptor},
};
use yinglong_model::Timestamp;

use super::{
    change::{Batch, Kind, Note, Other, Step},
    deep::{MOST_BYTES, Reach},
    scan::Arrival,
    scope::Root,
};

/// Reads before others get their turn; each is at most 4 KiB.
const MOST_READS: usize = 256;

/// The source.
#[derive(Debug)]
pub(super) struct Inotify {
    instance: Instance,
    roots: Vec<Root>,
    /// Devices that another source watches.
    foreign: HashSet<u64>,
    paths: HashMap<WatchDescriptor, PathBuf>,
    watches: HashMap<PathBuf, WatchDescriptor>,
    /// A directory that was moved away, until it is known where to.
    leaving: Option<(u32, PathBuf)>,
    /// The last name that was given up for another, with the cookie both halves have.
    renamed: Option<(u32, Arc<Path>)>,
    /// Directories for which there was no watch left.
    unwatched: u64,
    /// Of those, not yet told to the batch.
    untold: u64,
}

impl Inotify {
    pub(super) fn open() -> io::Result<Self> {
        Ok(Self {
            instance: Instance::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?,
            roots: Vec::new(),
            foreign: HashSet::new(),
            paths: HashMap::new(),
            watches: HashMap::new(),
            leaving: None,
            renamed: None,
            unwatched: 0,
            untold: 0,
        })
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.instance.as_fd()
    }

    /// Directories that cannot be watched because the limit of watches is reached.
    pub(super) fn unwatched(&self) -> u64 {
        self.unwatched
    }

    /// Watches `roots` from now on, except for what lies on a device of `foreign`.
    pub(super) fn watch(&mut self, roots: Vec<Root>, foreign: HashSet<u64>) {
        self.roots = roots;
        self.foreign = foreign;
        let unwanted: Vec<_> = self
            .watches
            .keys()
            .filter(|path| !self.wants(path))
            .cloned()
            .collect();
        for path in unwanted {
            self.forget(&path);
        }
        self.unwatched = 0;
        for root in self.roots.clone() {
            let mut left = vec![root.path];
            while let Some(path) = left.pop() {
                if !self.enter(&path) || !root.recursive {
                    continue;
                }
                let entries = Reach::of(&path).and_then(|reach| fs::read_dir(reach.path()));
                for entry in entries.into_iter().flatten().flatten() {
                    if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                        left.push(path.join(entry.file_name()));
                    }
                }
            }
        }
    }

    /// Finds roots that exist by now, gives up directories that moved out of sight, and counts
    /// those that could not be watched.
    pub(super) fn tick(&mut self, batch: &mut Batch) {
        if let Some((_, path)) = self.leaving.take() {
            self.forget_tree(&path);
        }
        for root in self.roots.clone() {
            if !self.watches.contains_key(&root.path) && self.enter(&root.path) {
                let path: Arc<Path> = root.path.into();
                batch.arrivals.push(Arrival::made(path, now()));
            }
        }
        batch.overflowed += std::mem::take(&mut self.untold);
    }

    /// Watches the directory `path` if it is one of ours. Answers whether it is watched.
    pub(super) fn enter(&mut self, path: &Path) -> bool {
        if self.watches.contains_key(path) {
            return true;
        }
        if !self.wants(path) {
            return false;
        }
        if path.as_os_str().len() > MOST_BYTES {
            self.unwatched += 1;
            self.untold += 1;
            return false;
        }
        let Ok(reach) = Reach::of(path) else {
            return false;
        };
        let Ok(metadata) = fs::symlink_metadata(reach.path()) else {
            return false;
        };
        if self.foreign.contains(&metadata.dev()) {
            return false;
        }
        let mask = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MODIFY
            | AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DONT_FOLLOW;
        match self.instance.add_watch(reach.path(), mask) {
            Ok(watch) => {
                if let Some(earlier) = self.paths.insert(watch, path.to_owned()) {
                    self.watches.remove(&earlier);
                }
                self.watches.insert(path.to_owned(), watch);
                true
            }
            Err(Errno::ENOSPC | Errno::ENOMEM) => {
                self.unwatched += 1;
                self.untold += 1;
                false
            }
            // It is gone again, or not ours to read.
            Err(_) => false,
        }
    }

    /// Reads what is there. Answers whether there may be more.
    pub(super) fn read(&mut self, batch: &mut Batch) -> io::Result<bool> {
        for _ in 0..MOST_READS {
            let events = match self.instance.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => return Ok(false),
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            batch.reads += 1;
            let at = now();
            for event in events {
                self.take(event, at, batch);
            }
        }
        Ok(true)
    }

    fn take(&mut self, event: InotifyEvent, at: Timestamp, batch: &mut Batch) {
        let is = |flag| event.mask.contains(flag);
        if is(AddWatchFlags::IN_Q_OVERFLOW) {
            batch.overflowed += 1;
            return;
        }
        if is(AddWatchFlags::IN_IGNORED) {
            if let Some(path) = self.paths.remove(&event.wd) {
                self.watches.remove(&path);
            }
            return;
        }
        let Some(directory) = self.paths.get(&event.wd) else {
            return;
        };
        // This follows both halves of a rename, so a second half that did not come never will.
        if is(AddWatchFlags::IN_MOVE_SELF)
            && let Some((_, path)) = self.leaving.take_if(|(_, path)| path == directory)
        {
            self.forget_tree(&path);
            return;
        }
        let (path, step) = match &event.name {
            Some(name) => (directory.join(name), step(event.mask)),
            None => {
                let path = directory.clone();
                if !self.is_topmost(&path) {
                    return;
                }
                if is(AddWatchFlags::IN_MOVE_SELF) {
                    self.forget_tree(&path);
                }
                (path, step(event.mask))
            }
        };
        let Some(step) = step else {
            return;
        };
        let path: Arc<Path> = path.into();
        let old = match is(AddWatchFlags::IN_MOVED_TO) {
            true => self.old_name(event.cookie, &path, batch),
            false => None,
        };
        if is(AddWatchFlags::IN_MOVED_FROM) {
            self.renamed = Some((event.cookie, Arc::clone(&path)));
        }
        batch.notes.push(Note {
            path: Arc::clone(&path),
            step,
            actor: None,
            at,
            other: old.clone().map(Other::Old),
        });
        if !is(AddWatchFlags::IN_ISDIR) {
            return;
        }
        if is(AddWatchFlags::IN_CREATE) && self.enter(&path) {
            batch.arrivals.push(Arrival::made(path, at));
        } else if is(AddWatchFlags::IN_MOVED_FROM) {
            if let Some((_, earlier)) = self.leaving.replace((event.cookie, path.to_path_buf())) {
                self.forget_tree(&earlier);
            }
        } else if is(AddWatchFlags::IN_MOVED_TO) {
            match self.leaving.take() {
                Some((cookie, from)) if cookie == event.cookie => self.rename(&from, &path),
                earlier => self.leaving = earlier,
            }
            if self.enter(&path) {
                batch.arrivals.push(Arrival::moved(path, old, None, at));
            }
        }
    }

    /// The name that became `new`, whose own note is told so. The halves of a rename follow each
    /// other closely, though others may come between them.
    fn old_name(&mut self, cookie: u32, new: &Arc<Path>, batch: &mut Batch) -> Option<Arc<Path>> {
        let (_, old) = self.renamed.take_if(|(other, _)| *other == cookie)?;
        let mut latest = batch.notes.iter_mut().rev().take(16);
        let half = latest.find(|note| note.path == old && note.step == Step::Changed(Kind::Rename));
        if let Some(half) = half {
            half.other = Some(Other::New(Arc::clone(new)));
        }
        Some(old)
    }

    fn wants(&self, path: &Path) -> bool {
        self.roots
            .iter()
            .any(|root| path == root.path || (root.recursive && path.starts_with(&root.path)))
    }

    /// Whether only its own watch tells of changes to `path` itself.
    fn is_topmost(&self, path: &Path) -> bool {
        let parent = path.parent();
        parent.is_none_or(|parent| !self.watches.contains_key(parent))
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        for (old, watch) in self.below(from) {
            self.watches.remove(&old);
            let rest = old.strip_prefix(from).unwrap_or(Path::new(""));
            let new: PathBuf = to.join(rest).components().collect();
            if self.wants(&new) {
                self.paths.insert(watch, new.clone());
                self.watches.insert(new, watch);
            } else {
                self.release(watch);
            }
        }
    }

    fn forget_tree(&mut self, path: &Path) {
        for (path, _) in self.below(path) {
            self.forget(&path);
        }
    }

    fn below(&self, path: &Path) -> Vec<(PathBuf, WatchDescriptor)> {
        self.watches
            .iter()
            .filter(|(watched, _)| watched.starts_with(path))
            .map(|(watched, watch)| (watched.clone(), *watch))
            .collect()
    }

    fn forget(&mut self, path: &Path) {
        if let Some(watch) = self.watches.remove(path) {
            self.release(watch);
        }
    }

    fn release(&mut self, watch: WatchDescriptor) {
        self.paths.remove(&watch);
        // It fails when the directory is gone, and the watch with it.
        let _ = self.instance.rm_watch(watch);
    }
}

fn step(mask: AddWatchFlags) -> Option<Step> {
    let kinds = [
        (AddWatchFlags::IN_CREATE, Step::Changed(Kind::Create)),
        (AddWatchFlags::IN_MOVED_TO, Step::Changed(Kind::Create)),
        (AddWatchFlags::IN_MODIFY, Step::Changed(Kind::Write)),
        (AddWatchFlags::IN_CLOSE_WRITE, Step::Closed),
        (AddWatchFlags::IN_ATTRIB, Step::Changed(Kind::Chmod)),
        (AddWatchFlags::IN_MOVED_FROM, Step::Changed(Kind::Rename)),
        (AddWatchFlags::IN_MOVE_SELF, Step::Changed(Kind::Rename)),
        (AddWatchFlags::IN_DELETE, Step::Changed(Kind::Remove)),
        (AddWatchFlags::IN_DELETE_SELF, Step::Changed(Kind::Remove)),
    ];
    kinds
        .into_iter()
        .find_map(|(flag, step)| mask.contains(flag).then_some(step))
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
