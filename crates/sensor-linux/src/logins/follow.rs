//! Follows a growing file across rotation, truncation and restarts.

use std::{
    fmt,
    fs::{self, File, Metadata, OpenOptions},
    io,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use super::tamper::{self, Guard, Kind};

/// Bytes handed over at once, and with that the longest line.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// Bytes read in one go, so that the other files have their turn.
const TURN_BYTES: u64 = 256 << 10;

/// Place in a file; all zero for a file that did not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Position {
    device: u64,
    inode: u64,
    offset: u64,
}

impl Position {
    const fn start_of(identity: (u64, u64)) -> Self {
        Self {
            device: identity.0,
            inode: identity.1,
            offset: 0,
        }
    }

    const fn identity(self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.device, self.inode, self.offset)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':').map(|part| part.parse().map_err(|_| ()));
        let mut part = || parts.next().ok_or(())?;
        let position = Self {
            device: part()?,
            inode: part()?,
            offset: part()?,
        };
        if parts.next().is_none() {
            Ok(position)
        } else {
            Err(())
        }
    }
}

/// What came of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Turn {
    /// There may be more to read at once.
    pub(super) more: bool,
    /// The file is read from its start, and holds what was read before.
    pub(super) restarted: bool,
    /// A rotated file ended within a record.
    pub(super) cut: bool,
    /// The file that was read before cannot be found any more; its end may not have been read.
    pub(super) vanished: bool,
    /// What was done to the file that no rotation does.
    pub(super) tampered: Option<Kind>,
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    position: Position,
    record_bytes: u64,
    file: Option<Arc<File>>,
    /// What is remembered of what was read.
    guard: Option<Guard>,
    /// Size and times of the file when it was last compared with that.
    compared: Option<Stamp>,
    /// There is nothing at the path: whether that was told as tampering, or is rotation that has not
    /// made a new file yet.
    absent: Option<bool>,
}

/// Size, time of the last change of content, and of the last change at all.
type Stamp = (u64, i64, i64, i64, i64);

fn stamp(metadata: &Metadata) -> Stamp {
    (
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec(),
        metadata.ctime(),
        metadata.ctime_nsec(),
    )
}

impl Follower {
    /// Goes on at a mark, or begins at the end of the file when there is none. The end is the
    /// last multiple of `record_bytes`. `guard` is what [`Follower::guard`] was then.
    ///
    /// # Errors
    /// There is no mark, and the file cannot be looked at.
    pub(super) fn new(
        path: &Path,
        marked: Option<&str>,
        guard: Option<Guard>,
        record_bytes: u64,
    ) -> io::Result<Self> {
        let position = match marked.and_then(|mark| mark.parse().ok()) {
            Some(position) => position,
            None => regular(path)?.map_or_else(Position::default, |metadata| Position {
                offset: metadata.len() - metadata.len() % record_bytes.max(1),
                ..Position::start_of(identity(&metadata))
            }),
        };
        Ok(Self {
            path: path.to_owned(),
            position,
            record_bytes,
            file: None,
            guard: guard.filter(|guard| guard.end == position.offset),
            compared: None,
            absent: None,
        })
    }

    /// Where the next read begins.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// What is remembered of what was read, to be kept with the position.
    pub(super) const fn guard(&self) -> Option<Guard> {
        self.guard
    }

    /// Hands new bytes over. `consume` says how many of them it is done with; those that it
    /// leaves come again, with more behind them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn turn(&mut self, consume: &mut dyn FnMut(&[u8]) -> usize) -> io::Result<Turn> {
        let mut turn = Turn::default();
        self.advance(&mut turn, consume)?;
        self.remember()?;
        Ok(turn)
    }

    fn advance(
        &mut self,
        turn: &mut Turn,
        consume: &mut dyn FnMut(&[u8]) -> usize,
    ) -> io::Result<()> {
        let mut buffer = Vec::new();
        let mut read_bytes = 0_u64;
        // Two files at most can be finished in a turn: a rotated one, and the one after it.
        let mut files_left = 2;
        loop {
            let Some(file) = self.file(turn)? else {
                return Ok(());
            };
            // Asked before reading: what is then read to its end has got all it will ever get.
            let successor = self.successor(turn)?;
            let metadata = file.metadata()?;
            self.compare(&file, &metadata, turn)?;
            let mut length = 0;
            if metadata.len() > self.position.offset {
                buffer.resize(CHUNK_BYTES, 0);
                length = file.read_at(&mut buffer, self.position.offset)?;
            }
            let bytes = buffer.get(..length).unwrap_or_default();
            let used = consume(bytes).min(length) as u64;
            self.position.offset += used;
            read_bytes += used;
            if used > 0 {
                if read_bytes >= TURN_BYTES {
                    turn.more = true;
                    return Ok(());
                }
                continue;
            }
            let Some(successor) = successor.filter(|_| files_left > 0) else {
                return Ok(());
            };
            turn.cut |= length > 0;
            files_left -= 1;
            if self.has_read() && self.absent != Some(true) && !self.is_rotated() {
                turn.tampered = Some(Kind::Replaced);
                turn.restarted = true;
            }
            self.start(successor);
        }
    }

    /// Looks whether the part that was read is still what it was, if the file changed.
    fn compare(&mut self, file: &File, metadata: &Metadata, turn: &mut Turn) -> io::Result<()> {
        let stamp = stamp(metadata);
        if self.compared == Some(stamp) {
            return Ok(());
        }
        self.compared = Some(stamp);
        let kind = match self.guard {
            _ if metadata.len() < self.position.offset => Some(Kind::Shortened),
            Some(guard) if guard.end == self.position.offset => {
                guard.compare(file, self.record_bytes)?
            }
            _ => None,
        };
        let Some(kind) = kind else {
            return Ok(());
        };
        // Emptied behind a copy, and perhaps filled again up to where it was read.
        let copied = self.guard.is_none_or(|guard| guard.is_copied(&self.path));
        if !copied {
            turn.tampered = Some(kind);
        }
        // Records have times that tell which of them are news; what was changed in a text is not read again.
        if copied || kind == Kind::Shortened || self.record_bytes > 1 {
            turn.restarted |= !copied || kind != Kind::Shortened;
            self.position.offset = 0;
        }
        self.guard = None;
        Ok(())
    }

    /// Renews what is remembered when the position moved.
    fn remember(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let end = self.position.offset;
        if self.guard.is_none_or(|guard| guard.end != end) {
            self.guard = match Guard::of(file, end, self.record_bytes) {
                Ok(guard) => Some(guard),
                // It became shorter just now; the next turn finds out.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => None,
                Err(error) => return Err(error),
            };
        }
        Ok(())
    }

    /// The open file, opened if need be: the one of the position wherever it was renamed to, or
    /// else the one at the path, from its start. `None` when there is none.
    fn file(&mut self, turn: &mut Turn) -> io::Result<Option<Arc<File>>> {
        if self.file.is_some() {
            return Ok(self.file.clone());
        }
        let wanted = self.position.identity();
        let known = self.position != Position::default();
        let there = open(&self.path)?;
        let same = there
            .as_ref()
            .is_some_and(|(_, identity)| *identity == wanted);
        let mut opened = if same { there } else { None };
        if let (Some((file, identity)), Some(_)) = (&opened, self.absent) {
            // The number of one that was removed may be given to the next.
            if file.metadata()?.len() < self.position.offset {
                self.start(*identity);
            }
        }
        if opened.is_none() && known && self.absent.is_none() {
            opened = self.renamed(wanted);
        }
        if opened.is_none() {
            opened = open(&self.path)?;
            if let Some((_, identity)) = &opened {
                turn.vanished |= known && self.absent.is_none();
                if self.has_read() && self.absent.is_none() && !self.is_rotated() {
                    turn.tampered = Some(Kind::Replaced);
                    turn.restarted = true;
                }
                self.start(*identity);
            } else if known {
                self.miss(turn);
            }
        }
        self.file = opened.map(|(file, _)| Arc::new(file));
        Ok(self.file.clone())
    }

    /// There is nothing at the path.
    fn miss(&mut self, turn: &mut Turn) {
        if self.absent.is_none() {
            let gone = self.has_read() && !self.is_rotated();
            if gone {
                turn.tampered = Some(Kind::Gone);
            }
            self.absent = Some(gone);
        }
    }

    fn start(&mut self, identity: (u64, u64)) {
        self.file = None;
        self.position = Position::start_of(identity);
        self.guard = None;
        self.compared = None;
        self.absent = None;
    }

    const fn has_read(&self) -> bool {
        self.position.offset > 0 && self.guard.is_some()
    }

    /// Whether rotation took the file that was read: it is beside the path, renamed, copied or packed.
    fn is_rotated(&self) -> bool {
        self.renamed(self.position.identity()).is_some()
            || self.guard.is_none_or(|guard| guard.is_copied(&self.path))
    }

    /// The file under the name rotation gave it: `wtmp.1`, `secure-20260131`.
    fn renamed(&self, wanted: (u64, u64)) -> Option<(File, (u64, u64))> {
        tamper::siblings(&self.path)
            .filter_map(|other| open(&other).ok().flatten())
            .find(|(_, identity)| *identity == wanted)
    }

    /// Another file at the path that has content. While it is empty, its writers may still have
    /// the old one open.
    fn successor(&mut self, turn: &mut Turn) -> io::Result<Option<(u64, u64)>> {
        let Some(metadata) = regular(&self.path)? else {
            self.miss(turn);
            return Ok(None);
        };
        let there = identity(&metadata);
        if there != self.position.identity() {
            return Ok(Some(there).filter(|_| metadata.len() > 0));
        }
        self.absent = None;
        if let Some(guard) = &mut self.guard {
            guard.looked = tamper::clock();
        }
        Ok(None)
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// What is known of a regular file; `None` when there is none.
fn regular(path: &Path) -> io::Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some(metadata).filter(Metadata::is_file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a regular file for reading, and tells which it is; `None` when there is none.
pub(super) fn open(path: &Path) -> io::Result<Option<(File, (u64, u64))>> {
    if regular(path)?.is_none() {
        return Ok(None);
    }
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path);
    match opened {
        Ok(file) => {
            let identity = identity(&file.metadata()?);
            Ok(Some((file, identity)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Whole lines that are new.
    fn lines(follower: &mut Follower) -> (String, Turn) {
        let mut text = String::new();
        let turn = follower
            .turn(&mut |bytes| {
                let used = bytes
                    .iter()
                    .rposition(|b| *b == b'\n')
                    .map_or(0, |end| end + 1);
                text.push_str(std::str::from_utf8(&bytes[..used]).unwrap());
                used
            })
            .unwrap();
        (text, turn)
    }

    #[test]
    fn begins_at_the_end_and_resumes_at_the_mark_a11() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, "history\n");
        let mut follower = Follower::new(&path, None, None, 1).unwrap();
        assert_eq!(lines(&mut follower).0, "");
        append(&path, "a\nb\nunfini");
        assert_eq!(lines(&mut follower).0, "a\nb\n");
        assert_eq!(lines(&mut follower).0, "");
        let mark = follower.position().to_string();
        append(&path, "shed\n");
        let mut next = Follower::new(&path, Some(&mark), None, 1).unwrap();
        assert_eq!(lines(&mut next).0, "unfinished\n");
    }

    #[test]
    fn a_file_that_appears_later_is_read_from_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let follower = Follower::new(&path, None, None, 1).unwrap();
        let mark = follower.position().to_string();
        for marked in [None, Some(mark.as_str())] {
            let mut follower = Follower::new(&path, marked, None, 1).unwrap();
            assert_eq!(lines(&mut follower), (String::new(), Turn::default()));
        }
        append(&path, "a\n");
        let mut follower = Follower::new(&path, Some(&mark), None, 1).unwrap();
        assert_eq!(lines(&mut follower), ("a\n".to_owned(), Turn::default()));
    }

    #[test]
    fn a_rotated_file_is_read_to_its_end_first_running_or_not_a11() {
        for (rotated, restarted) in [("log.1", true), ("log-20260131", true), ("log.1", false)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            append(&path, "a\n");
            let mut follower = Follower::new(&path, Some("0:0:0"), None, 1).unwrap();
            assert_eq!(lines(&mut follower).0, "a\n");
            fs::rename(&path, dir.path().join(rotated)).unwrap();
            append(&path, "");
            append(&dir.path().join(rotated), "b\n");
            if restarted {
                let mark = follower.position().to_string();
                follower = Follower::new(&path, Some(&mark), None, 1).unwrap();
            }
            assert_eq!(
                lines(&mut follower).0,
                "b\n",
                "the writer still has the old file"
            );
            append(&dir.path().join(rotated), "c\nd");
            append(&path, "e\n");
            let (text, turn) = lines(&mut follower);
            assert_eq!(text, "c\ne\n");
            assert!(turn.cut && !turn.vanished && turn.tampered.is_none());
        }
    }

    /// A follower that has read `abc` and a newline of `log` in a directory of its own.
    fn read(dir: &Path) -> (PathBuf, Follower) {
        let path = dir.join("log");
        append(&path, "abc\n");
        let mut follower = Follower::new(&path, Some("0:0:0"), None, 1).unwrap();
        assert_eq!(lines(&mut follower).0, "abc\n");
        (path, follower)
    }

    fn again(follower: &Follower) -> Follower {
        let mark = follower.position().to_string();
        Follower::new(&follower.path, Some(&mark), follower.guard(), 1).unwrap()
    }

    #[test]
    fn what_no_rotation_does_is_told_once_running_or_not() {
        type Change = fn(&Path);
        let cases: [(Kind, &str, Change); 6] = [
            (Kind::Shortened, "d\n", |path| {
                fs::write(path, "d\n").unwrap()
            }),
            (Kind::Shortened, "", |path| fs::write(path, "").unwrap()),
            (Kind::Rewritten, "d\n", |path| {
                fs::write(path, "aXc\nd\n").unwrap();
            }),
            (Kind::Gone, "", |path| fs::remove_file(path).unwrap()),
            (Kind::Gone, "", |path| {
                let away = path.with_file_name("elsewhere");
                fs::rename(path, away).unwrap();
            }),
            (Kind::Replaced, "aXc\nd\n", |path| {
                let new = path.with_file_name("new");
                fs::write(&new, "aXc\nd\n").unwrap();
                fs::rename(new, path).unwrap();
            }),
        ];
        for (kind, text, change) in cases {
            for restarted in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let (path, mut follower) = read(dir.path());
                if restarted {
                    follower = again(&follower);
                }
                change(&path);
                let (read, turn) = lines(&mut follower);
                let case = format!("{kind:?} {restarted}");
                assert_eq!((read.as_str(), turn.tampered), (text, Some(kind)), "{case}");
                assert_eq!(lines(&mut follower).1, Turn::default(), "{case}");
                if kind == Kind::Gone {
                    append(&path, "e\n");
                    let (read, turn) = lines(&mut follower);
                    assert_eq!((read.as_str(), turn.tampered), ("e\n", None), "{case}");
                }
            }
        }
    }

    #[test]
    fn rotation_is_not_tampering_whichever_way_it_is_done() {
        type Change = fn(&Path);
        let cases: [(&str, Change); 6] = [
            ("rename, create", |path| {
                fs::rename(path, path.with_file_name("log.1")).unwrap();
                fs::write(path, "").unwrap();
            }),
            ("rename, nothing new", |path| {
                fs::rename(path, path.with_file_name("log-20260131")).unwrap();
            }),
            ("rename, compress, create", |path| {
                fs::rename(path, path.with_file_name("log.1")).unwrap();
                fs::write(path, "").unwrap();
                fs::write(path.with_file_name("log.1.gz"), "packed").unwrap();
                fs::remove_file(path.with_file_name("log.1")).unwrap();
            }),
            ("copy, truncate", |path| {
                fs::copy(path, path.with_file_name("log.1")).unwrap();
                fs::write(path, "").unwrap();
            }),
            ("copy, truncate, compress", |path| {
                fs::write(path.with_file_name("log.1.xz"), "packed").unwrap();
                fs::write(path, "").unwrap();
            }),
            ("copy, write on", |path| {
                fs::copy(path, path.with_file_name("log.1")).unwrap();
                append(path, "");
            }),
        ];
        for (case, change) in cases {
            for restarted in [false, true] {
                let dir = tempfile::tempdir().unwrap();
                let (path, mut follower) = read(dir.path());
                if restarted {
                    follower = again(&follower);
                }
                change(&path);
                let (text, turn) = lines(&mut follower);
                assert_eq!(
                    (text.as_str(), turn.tampered),
                    ("", None),
                    "{case} {restarted}"
                );
                append(&path, "new\n");
                let (text, turn) = lines(&mut follower);
                assert_eq!(
                    (text.as_str(), turn.tampered),
                    ("new\n", None),
                    "{case} {restarted}"
                );
            }
        }
    }

    #[test]
    fn a_file_that_vanished_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, "b\n");
        let mut follower = Follower::new(&path, Some("1:1:5"), None, 1).unwrap();
        let (text, turn) = lines(&mut follower);
        assert_eq!((text.as_str(), turn.vanished), ("b\n", true));
        assert_eq!(turn.tampered, None, "nothing is known of what was read");
    }

    #[test]
    fn a_mark_that_makes_no_sense_is_no_mark() {
        for mark in ["", "1", "1:2", "1:2:3:4", "a:b:c", "-1:0:0"] {
            assert_eq!(mark.parse::<Position>(), Err(()), "{mark}");
        }
    }
}
