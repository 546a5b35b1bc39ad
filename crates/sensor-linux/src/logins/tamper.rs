//! Records of logins that lose or change what had been read.
//!
//! Such files only ever grow; they are replaced by rotation, which keeps the old content beside
//! them. What an intruder does to hide a login shows in one of these ways ([`Kind`]).
//!
//! - **Cheap**: of every file the last bytes that were read are remembered as a digest, 170 records or 4
//!   KiB of text, and compared when the file changed. What is altered further in front in place, and leaves
//!   the size as it was, is not noticed.
//! - **Rotation** is not tampering: the old file lies under a name that begins with that of the file
//!   (`wtmp.1`, `secure-20260131`), renamed or as a copy with the same bytes. A copy that was compressed at
//!   once cannot be compared; it counts when it was made since the last look. An intruder who leaves
//!   such a copy, or a whole one, is thus not told of.
//! - **What stays** after a file was shortened or replaced is not told as new logins again.

use std::{
    fmt,
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    str::FromStr,
    time::{Duration, SystemTime},
};

use sha2::{Digest, Sha256};
use yinglong_model::{EventData, Timestamp, event};

use crate::accounts::Accounts;

/// Bytes of a text log that are remembered.
const TEXT_BYTES: u64 = 4096;

/// Records of a file of records that are remembered.
const RECORDS: u64 = 170;

/// Times of files come from a clock that runs up to a tick behind.
const TICK: Duration = Duration::from_secs(1);

/// Ends of the names of compressed files.
const COMPRESSED: [&str; 5] = ["gz", "xz", "bz2", "zst", "lz4"];

/// What was done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It lost what had been read, at its end or all of it.
    Shortened,
    /// Records in it were overwritten with nothing.
    Erased,
    /// What had been read is something else now.
    Rewritten,
    /// A new record has a time long before the one in front of it.
    Backdated,
    /// Another file took its place, and it is nowhere beside it.
    Replaced,
    /// It was removed or moved away.
    Gone,
}

impl Kind {
    /// The word in the `action` of the event.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Shortened => "SHORTENED",
            Self::Erased => "ERASED",
            Self::Rewritten => "REWRITTEN",
            Self::Backdated => "BACKDATED",
            Self::Replaced => "REPLACED",
            Self::Gone => "GONE",
        }
    }
}

/// Tampering that was noticed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) path: PathBuf,
    pub(super) kind: Kind,
}

impl Finding {
    /// The event that tells of it: a change of a file. Who made it is not known.
    pub(super) fn event(&self, accounts: &Accounts) -> EventData {
        let metadata = fs::metadata(&self.path).ok();
        EventData::File(Box::new(event::File {
            action: format!("TAMPER|{}", self.kind.as_str()),
            path: crate::text::printable(self.path.as_os_str().as_encoded_bytes()),
            user: metadata
                .as_ref()
                .map(|metadata| accounts.name(metadata.uid()))
                .unwrap_or_default(),
            size: metadata.map(|metadata| metadata.len()),
            ..event::File::default()
        }))
    }
}

/// What is remembered of a file up to the place it was read to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Guard {
    /// How far it was read.
    pub(super) end: u64,
    /// Bytes in front of that which are remembered.
    length: u64,
    digest: u128,
    /// When the file was looked at last, by the clock of the host.
    pub(super) looked: Timestamp,
}

impl Guard {
    /// Remembers the bytes in front of `end`.
    ///
    /// # Errors
    /// The file cannot be read, or ends before.
    pub(super) fn of(file: &File, end: u64, record_bytes: u64) -> io::Result<Self> {
        let most = if record_bytes > 1 {
            record_bytes * RECORDS
        } else {
            TEXT_BYTES
        };
        let length = most.min(end);
        Ok(Self {
            end,
            length,
            digest: digest(&region(file, end - length, length)?),
            looked: clock(),
        })
    }

    /// What happened to the remembered bytes, if something did.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn compare(&self, file: &File, record_bytes: u64) -> io::Result<Option<Kind>> {
        let bytes = match region(file, self.end - self.length, self.length) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Some(Kind::Shortened));
            }
            Err(error) => return Err(error),
        };
        if digest(&bytes) == self.digest {
            return Ok(None);
        }
        let size = usize::try_from(record_bytes).unwrap_or(usize::MAX).max(1);
        let erased = size > 1
            && bytes
                .chunks_exact(size)
                .any(|record| record.iter().all(|byte| *byte == 0));
        Ok(Some(match erased {
            true => Kind::Erased,
            false => Kind::Rewritten,
        }))
    }

    /// What tells it from others.
    pub(super) const fn digest(&self) -> u128 {
        self.digest
    }

    /// Whether a copy of what was read lies beside the file, as rotation leaves it.
    pub(super) fn is_copied(&self, path: &Path) -> bool {
        siblings(path).any(|other| {
            let Ok(Some((file, _))) = super::follow::open(&other) else {
                return false;
            };
            let compressed = other
                .extension()
                .is_some_and(|end| COMPRESSED.iter().any(|known| end == *known));
            if compressed {
                let changed = file.metadata().map(|metadata| {
                    Timestamp::from_nanos(
                        metadata
                            .ctime()
                            .saturating_mul(1_000_000_000)
                            .saturating_add(metadata.ctime_nsec()),
                    )
                });
                return changed.is_ok_and(|changed| changed.plus(TICK) >= self.looked);
            }
            region(&file, self.end - self.length, self.length)
                .is_ok_and(|bytes| digest(&bytes) == self.digest)
        })
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            end,
            length,
            digest,
            looked,
        } = self;
        write!(f, "{end}:{length}:{digest:032x}:{}", looked.nanos())
    }
}

impl FromStr for Guard {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let mut part = || parts.next().ok_or(());
        let guard = Self {
            end: part()?.parse().map_err(|_| ())?,
            length: part()?.parse().map_err(|_| ())?,
            digest: u128::from_str_radix(part()?, 16).map_err(|_| ())?,
            looked: Timestamp::from_nanos(part()?.parse().map_err(|_| ())?),
        };
        let longest = TEXT_BYTES.max(RECORDS * super::utmp::RECORD_BYTES as u64);
        let sensible = guard.length <= guard.end && guard.length <= longest;
        if sensible && parts.next().is_none() {
            Ok(guard)
        } else {
            Err(())
        }
    }
}

/// Other files whose names begin with that of the file, as rotation names them.
pub(super) fn siblings(path: &Path) -> impl Iterator<Item = PathBuf> {
    let name = path.file_name().unwrap_or_default().to_owned();
    let entries = path.parent().and_then(|folder| fs::read_dir(folder).ok());
    entries
        .into_iter()
        .flatten()
        .flatten()
        .filter(move |entry| {
            let other = entry.file_name();
            let other = other.as_encoded_bytes();
            other.len() > name.len() && other.starts_with(name.as_encoded_bytes())
        })
        .map(|entry| entry.path())
}

/// Now, by the clock that times of files come from.
pub(super) fn clock() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn region(file: &File, offset: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

fn digest(bytes: &[u8]) -> u128 {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .take(16)
        .fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// The classic record of last logins, which is written in place: it may not shrink or vanish.
#[derive(Debug)]
pub(super) struct Lastlog {
    path: PathBuf,
    known: Option<Known>,
    gone: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    identity: (u64, u64),
    size: u64,
}

impl Lastlog {
    /// Goes on from what an earlier run knew.
    pub(super) fn new(path: &Path, marked: Option<&str>) -> Self {
        let known = marked.and_then(|mark| {
            let mut parts = mark.split(':').map(|part| part.parse().ok());
            let mut part = || parts.next().flatten();
            Some(Known {
                identity: (part()?, part()?),
                size: part()?,
            })
        });
        Self {
            path: path.to_owned(),
            known,
            gone: false,
        }
    }

    /// What is to be remembered.
    pub(super) fn mark(&self) -> Option<String> {
        self.known.map(|known| {
            let (device, inode) = known.identity;
            format!("{device}:{inode}:{}", known.size)
        })
    }

    /// What happened since the last look.
    pub(super) fn look(&mut self) -> Option<Kind> {
        let identity = |metadata: &fs::Metadata| (metadata.dev(), metadata.ino());
        let now = fs::metadata(&self.path)
            .ok()
            .filter(fs::Metadata::is_file)
            .map(|metadata| Known {
                identity: identity(&metadata),
                size: metadata.len(),
            });
        let before = self.known;
        let moved = |known: &Known| {
            siblings(&self.path)
                .filter_map(|other| fs::metadata(other).ok())
                .any(|metadata| identity(&metadata) == known.identity)
        };
        let kind = match (before, now) {
            (Some(known), None) if known.size > 0 && !self.gone => {
                self.gone = true;
                (!moved(&known)).then_some(Kind::Gone)
            }
            (Some(known), Some(now)) if now.size < known.size && !self.gone => {
                let same = known.identity == now.identity;
                match same {
                    true => Some(Kind::Shortened),
                    false => (!moved(&known)).then_some(Kind::Replaced),
                }
            }
            _ => None,
        };
        if now.is_some() {
            self.known = now;
            self.gone = false;
        }
        kind
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_notices_what_changed_and_reads_back_from_its_mark() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        fs::write(&path, b"abcdef").unwrap();
        let file = File::open(&path).unwrap();
        let guard = Guard::of(&file, 6, 1).unwrap();
        assert_eq!(guard.to_string().parse(), Ok(guard));
        assert_eq!(guard.compare(&file, 1).unwrap(), None);
        fs::write(&path, b"abcdefgh").unwrap();
        assert_eq!(guard.compare(&file, 1).unwrap(), None, "it only grew");
        fs::write(&path, b"abXdefgh").unwrap();
        assert_eq!(guard.compare(&file, 1).unwrap(), Some(Kind::Rewritten));
        fs::write(&path, b"ab\0\0efgh").unwrap();
        assert_eq!(guard.compare(&file, 2).unwrap(), Some(Kind::Erased));
        fs::write(&path, b"abcde").unwrap();
        assert_eq!(guard.compare(&file, 1).unwrap(), Some(Kind::Shortened));
        for mark in ["", "1:2:3:4", "1:1:x:4", "1:1:1:1:1", "99999999:999999:1:1"] {
            assert_eq!(mark.parse::<Guard>(), Err(()), "{mark}");
        }
    }

    #[test]
    fn a_copy_beside_it_counts_when_it_has_the_same_bytes_or_is_compressed_and_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wtmp");
        fs::write(&path, b"abcdef").unwrap();
        let guard = Guard::of(&File::open(&path).unwrap(), 6, 1).unwrap();
        assert!(!guard.is_copied(&path), "the file itself is no copy");
        fs::write(dir.path().join("wtmp.1"), b"abcdeX").unwrap();
        fs::write(dir.path().join("other"), b"abcdef").unwrap();
        assert!(!guard.is_copied(&path));
        fs::write(dir.path().join("wtmp.2"), b"abcdefg").unwrap();
        assert!(guard.is_copied(&path));

        fs::remove_file(dir.path().join("wtmp.2")).unwrap();
        fs::write(dir.path().join("wtmp.1.gz"), b"packed").unwrap();
        assert!(guard.is_copied(&path));
        let later = Guard {
            looked: guard.looked.plus(Duration::from_secs(3600)),
            ..guard
        };
        assert!(!later.is_copied(&path), "an older one tells nothing");
    }

    #[test]
    fn lastlog_may_grow_and_be_written_but_not_shrink_or_vanish() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lastlog");
        let mut lastlog = Lastlog::new(&path, None);
        assert_eq!(lastlog.look(), None);
        fs::write(&path, b"123456").unwrap();
        assert_eq!(lastlog.look(), None);
        fs::write(&path, b"12345").unwrap();
        assert_eq!(lastlog.look(), Some(Kind::Shortened));
        assert_eq!(lastlog.look(), None, "told once");

        let mark = lastlog.mark();
        fs::remove_file(&path).unwrap();
        let mut lastlog = Lastlog::new(&path, mark.as_deref());
        assert_eq!(lastlog.look(), Some(Kind::Gone));
        assert_eq!(lastlog.look(), None);
        fs::write(&path, b"1").unwrap();
        assert_eq!(lastlog.look(), None, "that it was gone is told");
        fs::rename(&path, dir.path().join("lastlog.migrated")).unwrap();
        assert_eq!(lastlog.look(), None, "moved to a name beside it");
        assert!(Lastlog::new(&path, Some("1:x:2")).mark().is_none());
    }
}
