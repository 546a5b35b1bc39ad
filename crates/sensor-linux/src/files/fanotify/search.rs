//! A walk through the watched directories for files with several names, in a thread of its own.

use std::{
    collections::{HashMap, HashSet},
    fs,
    hash::{BuildHasher, RandomState},
    io::PipeReader,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use super::{links::Links, parse::key_of, sys};
use crate::files::{
    deep::Reach,
    scope::{Look, Scope},
};

/// A file to look for, by device and number, with its key.
pub(super) type Wanted = ((u64, u64), Box<[u8]>);

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Every watched file, by a hash of its key.
    pub(super) watched: HashSet<u64>,
    /// Watched names of files that are wanted or have several.
    pub(super) names: Vec<(Box<[u8]>, Arc<Path>)>,
    /// How long it took.
    pub(super) took: Duration,
}

/// A search in progress. Dropping it gives it up.
#[derive(Debug)]
pub(super) struct Search {
    answer: Receiver<Found>,
    /// Its other end is closed by the thread when it ends.
    end: PipeReader,
    stop: Arc<AtomicBool>,
}

impl Search {
    /// Directory entries looked at in one search; some 3 us each.
    const MOST_ENTRIES: usize = 500_000;
    /// Names told by one search.
    const MOST_FOUND: usize = 4_096;

    /// `None` when there are no threads or descriptors to be had.
    pub(super) fn start(
        scope: Arc<Scope>,
        wanted: Vec<Wanted>,
        hasher: RandomState,
    ) -> Option<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let (sender, answer) = sync_channel(1);
        let (end, ending) = std::io::pipe().ok()?;
        let stop_too = Arc::clone(&stop);
        thread::Builder::new()
            .name("file-links".to_owned())
            .spawn(move || {
                let found = search(&scope, wanted, &hasher, &stop_too);
                // It fails when nobody waits for it any more.
                let _ = sender.send(found);
                drop(ending);
            })
            .ok()?;
        Some(Self { answer, end, stop })
    }

    /// Becomes readable when the search has ended.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// What was found, once, when the search has ended.
    pub(super) fn answer(&self) -> Option<Found> {
        use std::sync::mpsc::TryRecvError;
        match self.answer.try_recv() {
            Ok(found) => Some(found),
            Err(TryRecvError::Empty) => None,
            // The thread ended without an answer; its panic was reported by the hook.
            Err(TryRecvError::Disconnected) => Some(Found::default()),
        }
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn search(scope: &Scope, wanted: Vec<Wanted>, hasher: &RandomState, stop: &AtomicBool) -> Found {
    let started = Instant::now();
    let wanted: HashMap<(u64, u64), Box<[u8]>> = wanted.into_iter().collect();
    let mut names = Vec::new();
    let mut left: Vec<(PathBuf, bool)> = scope
        .roots()
        .iter()
        .map(|root| (root.path.clone(), root.recursive))
        .collect();
    let mut entries_left = Search::MOST_ENTRIES;
    let mut watched = HashSet::new();
    let mut fsids = HashMap::new();
    let mut take = |path: &Path, metadata: &fs::Metadata| {
        let Some(key) = key_of_file(path, metadata.dev(), &mut fsids) else {
            return;
        };
        if watched.len() < Links::MOST_WATCHED {
            watched.insert(hasher.hash_one(&*key));
        }
        let identity = (metadata.dev(), metadata.ino());
        let named = metadata.nlink() > 1 || wanted.contains_key(&identity);
        if named && names.len() < Search::MOST_FOUND {
            names.push((key, Arc::from(path)));
        }
    };
    while let Some((path, recursive)) = left.pop() {
        let Ok(reach) = Reach::of(&path) else {
            continue;
        };
        let Ok(entries) = fs::read_dir(reach.path()) else {
            // A root may be a single file.
            if let Ok(metadata) = fs::symlink_metadata(reach.path())
                && metadata.is_file()
            {
                take(&path, &metadata);
            }
            continue;
        };
        for entry in entries.flatten() {
            if entries_left == 0 || stop.load(Ordering::Relaxed) {
                left.clear();
                break;
            }
            entries_left -= 1;
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let path = path.join(entry.file_name());
            if kind.is_dir() && recursive && scope.look(&path) == Look::All {
                left.push((path, true));
            } else if kind.is_file()
                && let Ok(metadata) = entry.metadata()
            {
                take(&path, &metadata);
            }
        }
    }
    if entries_left == 0 {
        tracing::warn!(
            entries = Search::MOST_ENTRIES,
            "not all watched files were looked at for hard links"
        );
    }
    Found {
        watched,
        names,
        took: started.elapsed(),
    }
}

fn key_of_file(path: &Path, device: u64, fsids: &mut HashMap<u64, u64>) -> Option<Box<[u8]>> {
    let reach = Reach::of(path).ok()?;
    let (kind, handle) = sys::handle_of(reach.path()).ok()?;
    let fsid = match fsids.get(&device) {
        Some(fsid) => *fsid,
        None => {
            let fsid = sys::filesystem_id(reach.path()).ok()?;
            fsids.insert(device, fsid);
            fsid
        }
    };
    Some(key_of(fsid, kind, &handle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_files_with_several_names_and_those_that_are_wanted() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path().canonicalize().unwrap();
        fs::create_dir_all(base.join("in/sub")).unwrap();
        for name in ["in/single", "in/wanted", "in/sub/double", "apart"] {
            fs::write(base.join(name), "x").unwrap();
        }
        fs::hard_link(base.join("in/sub/double"), base.join("elsewhere")).unwrap();
        fs::hard_link(base.join("apart"), base.join("apart too")).unwrap();
        let metadata = fs::metadata(base.join("in/wanted")).unwrap();
        let wanted = vec![((metadata.dev(), metadata.ino()), Box::from(&b"key"[..]))];
        let entry = format!("{}/in/*", base.display());
        let scope = Scope::new(&[entry], &[], Path::to_owned);
        let hasher = RandomState::new();
        let found = search(&scope, wanted, &hasher, &AtomicBool::new(false));
        assert_eq!(found.watched.len(), 3);
        let mut names: Vec<_> = found.names.iter().map(|(_, path)| path.clone()).collect();
        names.sort();
        assert_eq!(
            names,
            [
                base.join("in/sub/double").into(),
                base.join("in/wanted").into()
            ] as [Arc<Path>; 2]
        );
        let stopped = search(&scope, Vec::new(), &hasher, &AtomicBool::new(true));
        assert!(stopped.names.is_empty() && stopped.watched.is_empty());
    }

    #[test]
    fn a_search_that_ends_wakes_who_waits_for_it() {
        let place = tempfile::tempdir().unwrap();
        let entry = format!("{}/*", place.path().display());
        let scope = Arc::new(Scope::new(&[entry], &[], Path::to_owned));
        let search = Search::start(scope, Vec::new(), RandomState::new()).unwrap();
        assert!(crate::ring::wait_for_any([Some(search.fd())], Duration::from_secs(60)).unwrap());
        assert!(search.answer().is_some());
    }
}
