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
    /// The file lost bytes that were read: rotated by copying, or tampered with.
    pub(super) truncated: bool,
    /// A rotated file ended within a record.
    pub(super) cut: bool,
    /// The file that was read before cannot be found any more; its end may not have been read.
    pub(super) vanished: bool,
}

/// A file that is followed.
#[derive(Debug)]
pub(super) struct Follower {
    path: PathBuf,
    position: Position,
    file: Option<Arc<File>>,
}

impl Follower {
    /// Goes on at a mark, or begins at the end of the file when there is none. The end is the
    /// last multiple of `record_bytes`.
    ///
    /// # Errors
    /// There is no mark, and the file cannot be looked at.
    pub(super) fn new(path: &Path, marked: Option<&str>, record_bytes: u64) -> io::Result<Self> {
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
            file: None,
        })
    }

    /// Where the next read begins.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// Hands new bytes over. `consume` says how many of them it is done with; those that it
    /// leaves come again, with more behind them.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn turn(&mut self, consume: &mut dyn FnMut(&[u8]) -> usize) -> io::Result<Turn> {
        let mut turn = Turn::default();
        let mut buffer = Vec::new();
        let mut read_bytes = 0_u64;
        // Two files at most can be finished in a turn: a rotated one, and the one after it.
        let mut files_left = 2;
        loop {
            let Some(file) = self.file(&mut turn)? else {
                return Ok(turn);
            };
            // Asked before reading: what is then read to its end has got all it will ever get.
            let successor = self.successor()?;
            let size = file.metadata()?.len();
            if size < self.position.offset {
                turn.truncated = true;
                self.position.offset = 0;
            }
            let mut length = 0;
            if size > self.position.offset {
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
                    return Ok(turn);
                }
                continue;
            }
            let Some(successor) = successor.filter(|_| files_left > 0) else {
                return Ok(turn);
            };
            turn.cut |= length > 0;
            files_left -= 1;
            self.file = None;
            self.position = Position::start_of(successor);
        }
    }

    /// The open file, opened if need be: the one of the position wherever it was renamed to, or
    /// else the one at the path, from its start. `None` when there is none.
    fn file(&mut self, turn: &mut Turn) -> io::Result<Option<Arc<File>>> {
        if self.file.is_none() {
            let wanted = self.position.identity();
            let mut opened = open(&self.path)?.filter(|(_, identity)| *identity == wanted);
            if opened.is_none() && self.position != Position::default() {
                opened = self.renamed(wanted);
            }
            if opened.is_none() {
                opened = open(&self.path)?;
                if let Some((_, identity)) = &opened {
                    turn.vanished |= self.position != Position::default();
                    self.position = Position::start_of(*identity);
                }
            }
            self.file = opened.map(|(file, _)| Arc::new(file));
        }
        Ok(self.file.clone())
    }

    /// The file under the name rotation gave it: `wtmp.1`, `secure-20260131`.
    fn renamed(&self, wanted: (u64, u64)) -> Option<(File, (u64, u64))> {
        let name = self.path.file_name()?.to_str()?;
        for entry in fs::read_dir(self.path.parent()?).ok()?.flatten() {
            let other = entry.file_name();
            if other.to_str().is_some_and(|other| other.starts_with(name))
                && let Ok(Some(found)) = open(&entry.path())
                && found.1 == wanted
            {
                return Some(found);
            }
        }
        None
    }

    /// Another file at the path that has content. While it is empty, its writers may still have
    /// the old one open.
    fn successor(&self) -> io::Result<Option<(u64, u64)>> {
        Ok(regular(&self.path)?
            .filter(|metadata| metadata.len() > 0)
            .map(|metadata| identity(&metadata))
            .filter(|identity| *identity != self.position.identity()))
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

fn open(path: &Path) -> io::Result<Option<(File, (u64, u64))>> {
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
        let mut follower = Follower::new(&path, None, 1).unwrap();
        assert_eq!(lines(&mut follower).0, "");
        append(&path, "a\nb\nunfini");
        assert_eq!(lines(&mut follower).0, "a\nb\n");
        assert_eq!(lines(&mut follower).0, "");
        let mark = follower.position().to_string();
        append(&path, "shed\n");
        let mut next = Follower::new(&path, Some(&mark), 1).unwrap();
        assert_eq!(lines(&mut next).0, "unfinished\n");
    }

    #[test]
    fn a_file_that_appears_later_is_read_from_its_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let follower = Follower::new(&path, None, 1).unwrap();
        let mark = follower.position().to_string();
        for marked in [None, Some(mark.as_str())] {
            let mut follower = Follower::new(&path, marked, 1).unwrap();
            assert_eq!(lines(&mut follower), (String::new(), Turn::default()));
        }
        append(&path, "a\n");
        let mut follower = Follower::new(&path, Some(&mark), 1).unwrap();
        assert_eq!(lines(&mut follower), ("a\n".to_owned(), Turn::default()));
    }

    #[test]
    fn a_rotated_file_is_read_to_its_end_first_running_or_not_a11() {
        for (rotated, restarted) in [("log.1", true), ("log-20260131", true), ("log.1", false)] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("log");
            append(&path, "a\n");
            let mut follower = Follower::new(&path, Some("0:0:0"), 1).unwrap();
            assert_eq!(lines(&mut follower).0, "a\n");
            fs::rename(&path, dir.path().join(rotated)).unwrap();
            append(&path, "");
            append(&dir.path().join(rotated), "b\n");
            if restarted {
                let mark = follower.position().to_string();
                follower = Follower::new(&path, Some(&mark), 1).unwrap();
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
            assert!(turn.cut && !turn.truncated && !turn.vanished);
        }
    }

    #[test]
    fn truncation_and_a_file_that_vanished_are_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        append(&path, "a long line\n");
        let mut follower = Follower::new(&path, None, 1).unwrap();
        lines(&mut follower);
        fs::write(&path, "b\n").unwrap();
        let (text, turn) = lines(&mut follower);
        assert_eq!((text.as_str(), turn.truncated), ("b\n", true));

        let mark = "1:1:5";
        let mut follower = Follower::new(&path, Some(mark), 1).unwrap();
        let (text, turn) = lines(&mut follower);
        assert_eq!((text.as_str(), turn.vanished), ("b\n", true));
    }

    #[test]
    fn a_mark_that_makes_no_sense_is_no_mark() {
        for mark in ["", "1", "1:2", "1:2:3:4", "a:b:c", "-1:0:0"] {
            assert_eq!(mark.parse::<Position>(), Err(()), "{mark}");
        }
    }
}
