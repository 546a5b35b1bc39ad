//! Which files were scanned already, and which ones end the scanner.

use std::{fs::Metadata, num::NonZeroUsize, os::unix::fs::MetadataExt as _};

use lru::LruCache;
use yinglong_model::scan::Reason;

/// Most files remembered as scanned: what a busy server executes in a day.
const MOST_SCANNED: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");
/// Most files remembered as fatal.
const MOST_FATAL: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");
/// A file that ended the scanner so often is not tried again.
const STRIKES: u8 = 2;

/// One content of one file, as far as the file system tells. Nobody but the superuser can change a
/// file and keep all of it: `ctime` cannot be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Identity {
    reason: Reason,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// Of a file that is scanned for a reason: rules may look at it.
    pub(super) fn new(reason: Reason, facts: &Metadata) -> Self {
        Self {
            reason,
            device: facts.dev(),
            inode: facts.ino(),
            size: facts.size(),
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
        }
    }
}

/// What the keeper remembers of files.
#[derive(Debug)]
pub(super) struct Seen {
    scanned: LruCache<Identity, ()>,
    fatal: LruCache<Identity, u8>,
}

impl Default for Seen {
    fn default() -> Self {
        // Filled on demand: a quiet host remembers little.
        let mut scanned = LruCache::unbounded();
        scanned.resize(MOST_SCANNED);
        Self {
            scanned,
            fatal: LruCache::new(MOST_FATAL),
        }
    }
}

impl Seen {
    /// Whether it was scanned; it is remembered the longer for it.
    pub(super) fn is_scanned(&mut self, file: &Identity) -> bool {
        self.scanned.get(file).is_some()
    }

    /// It was scanned.
    pub(super) fn scanned(&mut self, file: Identity) {
        self.scanned.put(file, ());
    }

    /// The scanner died of it.
    pub(super) fn killed_by(&mut self, file: Identity) {
        let strikes = self.fatal.get_or_insert_mut(file, || 0);
        *strikes = strikes.saturating_add(1);
    }

    /// Whether it is not worth another scanner.
    pub(super) fn is_fatal(&mut self, file: &Identity) -> bool {
        self.fatal.get(file).is_some_and(|count| *count >= STRIKES)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn number(inode: u64) -> Identity {
        Identity {
            reason: Reason::Web,
            device: 1,
            inode,
            size: 1,
            modified: (0, 0),
            changed: (0, 0),
        }
    }

    #[test]
    fn a_file_that_changed_is_another_file_and_so_is_one_asked_about_for_another_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let facts = fs::metadata(&path).unwrap();
        let mut seen = Seen::default();
        seen.scanned(Identity::new(Reason::Web, &facts));
        assert!(seen.is_scanned(&Identity::new(Reason::Web, &facts)));
        assert!(!seen.is_scanned(&Identity::new(Reason::Exec, &facts)));
        fs::write(&path, "longer").unwrap();
        let facts = fs::metadata(&path).unwrap();
        assert!(!seen.is_scanned(&Identity::new(Reason::Web, &facts)));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_is_forgotten_first() {
        let mut seen = Seen::default();
        for inode in 0..=MOST_SCANNED.get() as u64 {
            seen.scanned(number(inode));
        }
        assert!(!seen.is_scanned(&number(0)));
        assert!(seen.is_scanned(&number(1)));
        assert_eq!(seen.scanned.len(), MOST_SCANNED.get());
    }

    #[test]
    fn two_deaths_are_enough() {
        let mut seen = Seen::default();
        seen.killed_by(number(1));
        assert!(!seen.is_fatal(&number(1)));
        seen.killed_by(number(1));
        assert!(seen.is_fatal(&number(1)));
        assert!(!seen.is_fatal(&number(2)));
    }
}
