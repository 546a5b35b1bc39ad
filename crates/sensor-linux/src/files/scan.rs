//! Reports what a directory holds that arrived with content: moved in, or filled before a watch
//! could be set on it.

use std::{
    collections::VecDeque,
    fs::{self, ReadDir},
    path::Path,
    sync::Arc,
};

use yinglong_model::Timestamp;

use super::{
    change::{Actor, Kind, Note, Other, Step},
    deep::Reach,
};

/// A directory that may hold files nobody reported.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    path: Arc<Path>,
    actor: Option<Arc<Actor>>,
    at: Timestamp,
    /// Made a moment ago, so that its files were written and not only moved.
    fresh: bool,
    /// Where it was before.
    from: Option<Arc<Path>>,
}

impl Arrival {
    /// A directory that was moved here with all it holds, from `from` if that is known.
    pub(super) fn moved(
        path: Arc<Path>,
        from: Option<Arc<Path>>,
        actor: Option<Arc<Actor>>,
        at: Timestamp,
    ) -> Self {
        Self {
            path,
            actor,
            at,
            fresh: false,
            from,
        }
    }

    /// A directory that was made a moment ago.
    pub(super) fn made(path: Arc<Path>, at: Timestamp) -> Self {
        Self {
            path,
            actor: None,
            at,
            fresh: true,
            from: None,
        }
    }
}

/// Walks arrived directories a piece at a time.
#[derive(Debug, Default)]
pub(super) struct Scanner {
    left: VecDeque<Arrival>,
    current: Option<(Arrival, ReadDir)>,
}

impl Scanner {
    /// Entries looked at in one piece.
    const PIECE: usize = 512;

    pub(super) fn add(&mut self, arrivals: impl IntoIterator<Item = Arrival>) {
        self.left.extend(arrivals);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.left.is_empty() && self.current.is_none()
    }

    /// Looks at a piece. `enter` is called for each directory before it is read, and says whether
    /// it is to be.
    pub(super) fn step(&mut self, enter: &mut dyn FnMut(&Path) -> bool, notes: &mut Vec<Note>) {
        for _ in 0..Self::PIECE {
            let Some((arrival, entries)) = self.current.as_mut() else {
                let Some(arrival) = self.left.pop_front() else {
                    return;
                };
                if !enter(&arrival.path) {
                    continue;
                }
                // A directory that is gone again, or that we may not read, holds nothing for us.
                self.current = Reach::of(&arrival.path)
                    .and_then(|reach| fs::read_dir(reach.path()))
                    .ok()
                    .map(|entries| (arrival, entries));
                continue;
            };
            let Some(entry) = entries.next() else {
                self.current = None;
                continue;
            };
            let Ok(entry) = entry else {
                continue;
            };
            let path: Arc<Path> = arrival.path.join(entry.file_name()).into();
            let from = arrival.from.as_ref();
            let from: Option<Arc<Path>> = from.map(|from| from.join(entry.file_name()).into());
            let mut tell = |kind| {
                notes.push(Note {
                    path: Arc::clone(&path),
                    step: Step::Changed(kind),
                    actor: arrival.actor.clone(),
                    at: arrival.at,
                    other: from.clone().map(Other::Old),
                });
            };
            tell(Kind::Create);
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            let written =
                arrival.fresh && kind.is_file() && entry.metadata().is_ok_and(|m| m.len() > 0);
            if written {
                tell(Kind::Write);
            }
            if kind.is_dir() {
                self.left.push_back(Arrival {
                    path,
                    from,
                    ..arrival.clone()
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_everything_below_once_and_follows_no_link() {
        let place = tempfile::tempdir().unwrap();
        let base = place.path();
        fs::create_dir_all(base.join("a/b")).unwrap();
        fs::write(base.join("a/b/full"), "x").unwrap();
        fs::write(base.join("a/empty"), "").unwrap();
        std::os::unix::fs::symlink("/", base.join("a/link")).unwrap();
        let mut scanner = Scanner::default();
        scanner.add([Arrival::made(base.into(), Timestamp::default())]);
        let (mut entered, mut notes) = (Vec::new(), Vec::new());
        while !scanner.is_idle() {
            let mut enter = |path: &Path| {
                entered.push(path.to_owned());
                true
            };
            scanner.step(&mut enter, &mut notes);
        }
        assert_eq!(entered, [base.into(), base.join("a"), base.join("a/b")]);
        let mut told: Vec<_> = notes
            .iter()
            .map(|note| (note.path.strip_prefix(base).unwrap(), note.step))
            .collect();
        told.sort_by_key(|(path, _)| *path);
        let (create, write) = (Step::Changed(Kind::Create), Step::Changed(Kind::Write));
        let expected = [
            ("a", create),
            ("a/b", create),
            ("a/b/full", create),
            ("a/b/full", write),
            ("a/empty", create),
            ("a/link", create),
        ];
        assert_eq!(told, expected.map(|(path, step)| (Path::new(path), step)));
    }
}
