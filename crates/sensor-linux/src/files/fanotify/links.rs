//! Watched names of files that are changed through a name that is not watched.
//!
//! The kernel reports a change under the name the file was opened by, which may be a hard link in
//! any other directory of the file system, the name of a file that had none when it was opened
//! (`O_TMPFILE`), or no name at all (file handles, the NFS server). Events tell the handle of the
//! file as well, so what is needed is which handles are those of watched files. A [`search`] through
//! the scope, when it is set, finds the handles of all of them, of which a number each is kept, and
//! the names of those that have several. What is made or moved there later is learnt from its event.
//!
//! A file that gets a further name while it is watched is noticed: the kernel reports that its count
//! of names changed, without a name, and then the name. Which watched names it has besides is not
//! told: another search finds them, and until then its changes wait here.
//!
//! All of it is bounded, and searches take no more than a twentieth of one processor's time.
//!
//! [`search`]: super::search

use std::{
    collections::{HashMap, HashSet},
    hash::{BuildHasher, RandomState},
    os::fd::BorrowedFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use yinglong_model::Timestamp;

use super::search::{Found, Search, Wanted};
use crate::files::{
    change::{Actor, Step},
    generations::Generations,
    scope::Scope,
};

/// A change of a file whose watched names are being looked for.
#[derive(Debug, Clone)]
pub(super) struct Parked {
    pub(super) steps: Vec<Step>,
    /// The name it was made through.
    pub(super) via: Option<Arc<Path>>,
    pub(super) actor: Option<Arc<Actor>>,
    pub(super) at: Timestamp,
}

#[derive(Debug, Default)]
struct Sought {
    /// The search in progress looks for it.
    asked: bool,
    parked: Vec<Parked>,
}

/// What is known of files with several names.
#[derive(Debug)]
pub(super) struct Links {
    names: Generations<Box<[u8]>, Vec<Arc<Path>>>,
    /// Files whose count of names changed lately, by a hash of their key.
    counted: Generations<u64, ()>,
    /// Watched files, by a hash of their key. A hash that two files share costs a search.
    watched: HashSet<u64>,
    /// Those that came since the search in progress began.
    came: Vec<u64>,
    /// A search has filled `watched` for this scope; until then any file may be a watched one.
    known: bool,
    /// There are more watched files than are known.
    beyond: bool,
    hasher: RandomState,
    sought: HashMap<Box<[u8]>, Sought>,
    parked: usize,
    search: Option<Search>,
    /// Files may have watched names that are not known.
    stale: bool,
    /// No search before this.
    rest_until: Option<Instant>,
}

/// What a search brought: a file, its watched names, and what happened to it meanwhile.
pub(super) type Answer = (Box<[u8]>, Vec<Parked>);

impl Links {
    const MOST_NAMED: usize = 4_096;
    const MOST_NAMES: usize = 8;
    const MOST_COUNTED: usize = 8_192;
    const MOST_SOUGHT: usize = 1_024;
    /// Watched files that are known, 16 bytes each.
    pub(super) const MOST_WATCHED: usize = 262_144;
    /// Changes that may wait for a search.
    const MOST_PARKED: usize = 4_096;
    const LEAST_REST: Duration = Duration::from_millis(50);
    /// A search rests this many times as long as it took.
    const REST: u32 = 20;
    /// How long to wait when no thread or descriptor is to be had.
    const NO_THREAD: Duration = Duration::from_secs(1);

    pub(super) fn new() -> Self {
        Self {
            names: Generations::new(Self::MOST_NAMED),
            counted: Generations::new(Self::MOST_COUNTED),
            watched: HashSet::new(),
            came: Vec::new(),
            known: false,
            beyond: false,
            hasher: RandomState::new(),
            sought: HashMap::new(),
            parked: 0,
            search: None,
            stale: false,
            rest_until: None,
        }
    }

    /// Starts over with another scope.
    pub(super) fn reset(&mut self) {
        self.names.clear();
        self.watched.clear();
        self.came.clear();
        self.known = false;
        self.beyond = false;
        self.search = None;
        self.rest_until = None;
        self.sought
            .values_mut()
            .for_each(|sought| sought.asked = false);
        self.stale = true;
    }

    /// Directories moved, and with them names nobody told.
    pub(super) fn refresh(&mut self) {
        self.stale = true;
    }

    /// A watched name of the file appeared.
    pub(super) fn came(&mut self, key: &[u8]) {
        let hash = self.hasher.hash_one(key);
        if self.watched.len() < Self::MOST_WATCHED {
            self.watched.insert(hash);
            if self.search.is_some() {
                self.came.push(hash);
            }
        } else {
            // Perhaps many of them are gone.
            self.stale |= self.search.is_none() && !self.beyond;
        }
    }

    /// A watched name of the file went away, the only one that is known.
    pub(super) fn went(&mut self, key: &[u8]) {
        if self.names.is_empty() || self.names.get(key).is_none() {
            self.watched.remove(&self.hasher.hash_one(key));
        }
    }

    /// Whether the file has a watched name.
    pub(super) fn is_watched(&self, key: &[u8]) -> bool {
        !self.known || self.watched.contains(&self.hasher.hash_one(key))
    }

    /// The file's count of names changed, or another of its attributes.
    pub(super) fn count_changed(&mut self, key: &[u8]) {
        self.counted.insert(self.hasher.hash_one(key), ());
    }

    /// Whether a name that appeared is a further name of a file that was there before.
    pub(super) fn is_link(&mut self, key: &[u8]) -> bool {
        !self.counted.is_empty() && self.counted.get(&self.hasher.hash_one(key)).is_some()
    }

    /// Whether anything is known of any file. Cheap, and mostly false.
    pub(super) fn is_idle(&self) -> bool {
        self.names.is_empty() && self.sought.is_empty()
    }

    /// Watched names of the file.
    pub(super) fn names(&mut self, key: &[u8]) -> Vec<Arc<Path>> {
        self.names.get(key).cloned().unwrap_or_default()
    }

    /// The file has the watched name `path`.
    pub(super) fn learn(&mut self, key: &[u8], path: Arc<Path>) {
        let mut names = self.names(key);
        if !names.contains(&path) && names.len() < Self::MOST_NAMES {
            names.push(path);
            self.names.insert(key.into(), names);
        }
    }

    /// The file has the watched name `path` no more.
    pub(super) fn forget(&mut self, key: &[u8], path: &Path) {
        if self.names.is_empty() {
            return;
        }
        let mut names = self.names(key);
        names.retain(|name| **name != *path);
        match names.is_empty() {
            true => drop(self.names.remove(key)),
            false => self.names.insert(key.into(), names),
        }
    }

    /// Whether the watched names of the file are being looked for.
    pub(super) fn is_sought(&self, key: &[u8]) -> bool {
        self.sought.contains_key(key)
    }

    /// Looks for the watched names of the file, which got a name or was changed without one.
    pub(super) fn seek(&mut self, key: &[u8]) {
        if let Some(sought) = self.sought.get_mut(key) {
            // A search in progress may have passed the new name.
            sought.asked = false;
        } else if self.sought.len() < Self::MOST_SOUGHT {
            self.sought.insert(key.into(), Sought::default());
        } else {
            // It is found all the same if it has several names by then, but its changes do not wait.
            self.stale = true;
        }
    }

    /// Lets a change of a sought file wait; gives it back when there is no room.
    #[must_use]
    pub(super) fn park(&mut self, key: &[u8], change: Parked) -> Option<Parked> {
        match self.sought.get_mut(key) {
            Some(sought) if self.parked < Self::MOST_PARKED => {
                self.parked += 1;
                sought.parked.push(change);
                None
            }
            _ => Some(change),
        }
    }

    /// Becomes readable when the search in progress has ended.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.search.as_ref().map(Search::fd)
    }

    /// When [`Links::tick`] wants to be called; besides, when a search has ended.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        if self.search.is_some() {
            return None;
        }
        let wanted = self.stale || self.sought.values().any(|sought| !sought.asked);
        wanted.then(|| self.rest_until.unwrap_or(now))
    }

    /// Starts a search when one is wanted, takes the answers of one that ended. `identity` gives
    /// device and number of the file of a key.
    pub(super) fn tick(
        &mut self,
        now: Instant,
        scope: &Arc<Scope>,
        identity: impl Fn(&[u8]) -> Option<(u64, u64)>,
    ) -> Vec<Answer> {
        let ended = self.search.as_ref().and_then(Search::answer);
        let answers = match ended {
            Some(found) => {
                let rest = found.took * Self::REST;
                self.rest_until = Some(now + rest.max(Self::LEAST_REST));
                self.search = None;
                self.found(found)
            }
            None => Vec::new(),
        };
        if self.search.is_none() && self.deadline(now).is_some_and(|at| at <= now) {
            let wanted: Vec<Wanted> = self
                .sought
                .iter_mut()
                .filter_map(|(key, sought)| {
                    sought.asked = true;
                    Some((identity(key)?, key.clone()))
                })
                .collect();
            self.stale = false;
            self.came.clear();
            self.search = Search::start(Arc::clone(scope), wanted, self.hasher.clone());
            if self.search.is_none() {
                self.stale = true;
                self.rest_until = Some(now + Self::NO_THREAD);
            }
        }
        answers
    }

    fn found(&mut self, found: Found) -> Vec<Answer> {
        self.known = true;
        self.beyond = found.watched.len() >= Self::MOST_WATCHED;
        self.watched = found.watched;
        self.watched.extend(self.came.drain(..));
        for (key, path) in found.names {
            self.learn(&key, path);
        }
        let asked: Vec<Box<[u8]>> = self
            .sought
            .iter()
            .filter(|(_, sought)| sought.asked)
            .map(|(key, _)| key.clone())
            .collect();
        let mut answers = Vec::new();
        for key in asked {
            let Some(sought) = self.sought.remove(&key) else {
                continue;
            };
            self.parked -= sought.parked.len();
            if self.names.get(&key).is_some() && !sought.parked.is_empty() {
                answers.push((key, sought.parked));
            }
        }
        answers
    }
}
