//! Which directory a handle means, and whether it is watched.
//!
//! Handles of watched directories are learnt before they are needed (when the scope is set, when
//! the kernel reports their creation), so that the last changes in a directory that is gone by
//! the time they are read still have a path. Others are asked for and remembered for a while.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::{
    fcntl::{OFlag, open},
    sys::stat::Mode,
};

use super::{
    parse::{key_of, key_parts},
    sys,
};
use crate::files::{
    actors::without_deleted,
    deep::{MOST_BYTES, Reach},
    generations::Generations,
    scope::{Look, Scope},
};

/// A directory in which something may be watched.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) path: PathBuf,
    pub(super) look: Look,
}

/// What a handle means.
#[derive(Debug)]
pub(super) enum Verdict {
    /// Nothing in it is watched.
    Outside,
    Inside(Arc<Directory>),
    /// Deeper than paths are kept.
    TooDeep,
    /// It is gone and was never known.
    Gone,
}

/// Known directories. All of it is bounded.
#[derive(Debug)]
pub(super) struct Directories {
    scope: Arc<Scope>,
    /// Where the file system of an id is mounted.
    mounts: HashMap<u64, Vec<PathBuf>>,
    inside: HashMap<Box<[u8]>, Arc<Directory>>,
    /// Inside, but removed or beyond the bound of `inside`.
    passing: Generations<Box<[u8]>, Arc<Directory>>,
    outside: Generations<Box<[u8]>, ()>,
    too_deep: Generations<Box<[u8]>, ()>,
    complete: bool,
}

impl Directories {
    /// Directories of the scope that are known by heart, about 150 bytes each.
    const MOST_INSIDE: usize = 32_768;
    const MOST_PASSING: usize = 2_048;
    const MOST_OUTSIDE: usize = 16_384;
    const MOST_TOO_DEEP: usize = 1_024;

    pub(super) fn new() -> Self {
        Self {
            scope: Arc::default(),
            mounts: HashMap::new(),
            inside: HashMap::new(),
            passing: Generations::new(Self::MOST_PASSING),
            outside: Generations::new(Self::MOST_OUTSIDE),
            too_deep: Generations::new(Self::MOST_TOO_DEEP),
            complete: false,
        }
    }

    /// Starts over with a scope, and the places where its file systems are mounted by their id.
    pub(super) fn set(&mut self, scope: Arc<Scope>, mounts: HashMap<u64, Vec<PathBuf>>) {
        self.scope = scope;
        self.mounts = mounts;
        self.relearn();
    }

    /// Forgets everything and learns the directories of the scope again.
    pub(super) fn relearn(&mut self) {
        self.inside.clear();
        self.passing.clear();
        self.outside.clear();
        self.too_deep.clear();
        self.complete = true;
        for root in self.scope.clone().roots() {
            self.learn_tree(&root.path, root.recursive);
        }
    }

    /// Whether every watched directory is known, so that an unknown one is certainly outside.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    pub(super) fn verdict(&mut self, key: &[u8]) -> Verdict {
        if let Some(directory) = self.inside.get(key) {
            return Verdict::Inside(Arc::clone(directory));
        }
        if self.outside.get(key).is_some() {
            return Verdict::Outside;
        }
        if let Some(directory) = self.passing.get(key) {
            return Verdict::Inside(Arc::clone(directory));
        }
        if self.too_deep.get(key).is_some() {
            return Verdict::TooDeep;
        }
        match self.resolve(key) {
            Some(path) => self.learn(key, path),
            None => Verdict::Gone,
        }
    }

    /// The path of the directory `key`, which may be outside. To be asked seldom: it opens files.
    pub(super) fn path(&self, key: &[u8]) -> Option<PathBuf> {
        let known = self.inside.get(key).map(|known| known.path.clone());
        known.or_else(|| self.resolve(key))
    }

    /// Whether `path`, a name anywhere, now is the file of the handle `key`.
    pub(super) fn is_of(path: &Path, key: &[u8]) -> bool {
        let Some((_, kind, handle)) = key_parts(key) else {
            return false;
        };
        let found = Reach::of(path).and_then(|reach| sys::handle_of(reach.path()));
        found.is_ok_and(|(found_kind, found)| found_kind == kind && found == handle)
    }

    /// Device and number of the file of a handle, whatever its name.
    pub(super) fn identity(&self, key: &[u8]) -> Option<(u64, u64)> {
        let file = self.open_any(key)?;
        let metadata = fs::metadata(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()?;
        Some((metadata.dev(), metadata.ino()))
    }

    fn open_any(&self, key: &[u8]) -> Option<OwnedFd> {
        let (fsid, kind, handle) = key_parts(key)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        self.mounts.get(&fsid)?.iter().find_map(|point| {
            let mount = open(point, flags, Mode::empty()).ok()?;
            sys::open_by_handle(mount.as_fd(), kind, handle).ok()
        })
    }

    /// Remembers that `key` is the directory `path`.
    pub(super) fn learn(&mut self, key: &[u8], path: PathBuf) -> Verdict {
        let look = self.scope.look(&path);
        if look == Look::Nothing {
            self.learn_outside(key);
            return Verdict::Outside;
        }
        if path.as_os_str().len() > MOST_BYTES {
            self.too_deep.insert(key.into(), ());
            return Verdict::TooDeep;
        }
        let directory = Arc::new(Directory { path, look });
        if self.inside.len() < Self::MOST_INSIDE {
            self.inside.insert(key.into(), Arc::clone(&directory));
        } else {
            self.complete = false;
            self.passing.insert(key.into(), Arc::clone(&directory));
        }
        Verdict::Inside(directory)
    }

    pub(super) fn learn_outside(&mut self, key: &[u8]) {
        self.outside.insert(key.into(), ());
    }

    /// Remembers that `key` is a directory below one that is too deep already.
    pub(super) fn learn_too_deep(&mut self, key: &[u8]) {
        self.too_deep.insert(key.into(), ());
    }

    /// Learns a directory from its path, for kernels that do not tell its handle.
    pub(super) fn learn_path(&mut self, path: &Path) {
        if let (Ok(fsid), Ok((kind, handle))) = (sys::filesystem_id(path), sys::handle_of(path)) {
            self.learn(&key_of(fsid, kind, &handle), path.to_owned());
        }
    }

    /// Keeps a removed directory for the events still in the queue.
    pub(super) fn removed(&mut self, key: &[u8]) {
        if let Some((key, directory)) = self.inside.remove_entry(key) {
            self.passing.insert(key, directory);
        }
    }

    /// Follows a directory to its new place, with everything below it.
    pub(super) fn moved(&mut self, key: &[u8], to: Option<PathBuf>) {
        if let Some(to) = &to {
            self.make_way(key, to);
        }
        let Some(from) = self.inside.get(key).map(|known| known.path.clone()) else {
            if let Some(to) = to {
                // It comes from outside, and what is below it was outside too.
                self.outside.clear();
                self.learn_tree(&to, true);
            }
            return;
        };
        let below: Vec<_> = self
            .inside
            .iter()
            .filter_map(|(key, known)| {
                let rest = known.path.strip_prefix(&from).ok()?;
                Some((key.clone(), rest.to_owned()))
            })
            .collect();
        for (key, rest) in below {
            self.inside.remove(&key);
            if let Some(to) = &to {
                let path: PathBuf = to.join(rest).components().collect();
                self.learn(&key, path);
            }
        }
        self.passing.clear();
    }

    /// Forgets what was at the new place of the directory `key`: an empty directory that is gone, or
    /// one that was exchanged with it, whose own move comes next.
    fn make_way(&mut self, key: &[u8], to: &Path) {
        let below: Vec<_> = self
            .inside
            .iter()
            .filter(|(other, known)| &***other != key && known.path.starts_with(to))
            .map(|(other, _)| other.clone())
            .collect();
        for other in below {
            self.inside.remove(&other);
        }
    }

    /// Learns `path` and, as far as they are watched, the directories below it.
    fn learn_tree(&mut self, path: &Path, recursive: bool) {
        let mut fsids = HashMap::new();
        let mut visited = HashSet::new();
        let mut left = vec![path.to_owned()];
        while let Some(path) = left.pop() {
            let Ok(reach) = Reach::of(&path) else {
                continue;
            };
            let Ok(metadata) = fs::symlink_metadata(reach.path()) else {
                continue;
            };
            if !metadata.is_dir() || !visited.insert((metadata.dev(), metadata.ino())) {
                continue;
            }
            let fsid = *fsids
                .entry(metadata.dev())
                .or_insert_with(|| sys::filesystem_id(reach.path()).unwrap_or(0));
            if !self.mounts.contains_key(&fsid) {
                continue;
            }
            let mut inside = true;
            if let Ok((kind, handle)) = sys::handle_of(reach.path()) {
                let verdict = self.learn(&key_of(fsid, kind, &handle), path.clone());
                inside = matches!(verdict, Verdict::Inside(_));
            }
            if !self.complete {
                return;
            }
            let entries = (recursive && inside)
                .then(|| fs::read_dir(reach.path()).ok())
                .flatten();
            for entry in entries.into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push(path.join(entry.file_name()));
                }
            }
        }
    }

    /// Asks the kernel where the directory of a handle is. The mount point is opened for the
    /// moment only: an open descriptor would keep people from unmounting it.
    fn resolve(&self, key: &[u8]) -> Option<PathBuf> {
        let (fsid, kind, handle) = key_parts(key)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut found = None;
        for point in self.mounts.get(&fsid)? {
            let Ok(mount) = open(point, flags, Mode::empty()) else {
                continue;
            };
            let Ok(directory) = sys::open_by_handle(mount.as_fd(), kind, handle) else {
                continue;
            };
            let link = format!("/proc/self/fd/{}", directory.as_raw_fd());
            let Ok(path) = fs::read_link(link) else {
                continue;
            };
            let gone = fs::metadata(format!("/proc/self/fd/{}", directory.as_raw_fd()))
                .is_ok_and(|metadata| metadata.nlink() == 0);
            let path = if gone { without_deleted(&path) } else { &path };
            // A directory that cannot be reached through this mount shows a path within the file
            // system instead, which must not be taken for one of ours.
            if !path.starts_with(point) {
                continue;
            }
            let watched = self.scope.look(path) != Look::Nothing;
            if found.is_none() || watched {
                found = Some(path.to_owned());
            }
            if watched {
                break;
            }
        }
        found
    }
}
