//! Looks at a changed file: whose it is, how large, and its hashes.
//!
//! Follows no symbolic link, opens nothing but regular files, never waits for a pipe, and leaves
//! the access time alone.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use md5::Md5;
use sha2::{Digest, Sha256};
use yinglong_model::event::Mode;

use super::{capabilities, deep::Reach, generations::Generations};

/// Hashes of a file's content, in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hashes {
    pub(crate) md5: String,
    pub(crate) sha256: String,
}

/// Why there are no hashes: `data.hash_skipped`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skipped {
    TooLarge,
    NotRegular,
    Gone,
    Unreadable,
    /// Too many files waited to be hashed.
    Busy,
    /// What has the name is not what was executed, or may not be. Of executions only.
    Changed,
}

impl Skipped {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::NotRegular => "not_regular",
            Self::Gone => "gone",
            Self::Unreadable => "unreadable",
            Self::Busy => "busy",
            Self::Changed => "changed",
        }
    }
}

/// What a look showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Facts {
    /// Nothing has the name.
    Gone,
    /// A pipe, socket or device: not a file whose changes are observed.
    Special,
    Found {
        uid: u32,
        size: u64,
        hashes: Result<Hashes, Skipped>,
        /// Permission bits, with those for setuid, setgid and sticky.
        mode: Option<Mode>,
        /// What the file lets do who executes it.
        capabilities: Option<String>,
        /// Whether content or attributes changed since the last look at this file.
        changed: bool,
        /// Whether content changed since then.
        written: bool,
    },
}

/// Content of a file cannot have changed while all of this is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Version {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Whether a change from now on is certain to show in the times: the kernel's file clock
    /// moves every 10 ms at the latest.
    fn is_settled(&self) -> bool {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let (secs, nanos) = self.changed;
        let changed = Duration::new(
            u64::try_from(secs).unwrap_or_default(),
            u32::try_from(nanos).unwrap_or_default(),
        );
        now.checked_sub(changed)
            .is_some_and(|age| age > Duration::from_millis(20))
    }
}

/// When attributes and content changed last, as far as a look showed.
#[derive(Debug, Clone, Copy)]
struct Seen {
    changed: (i64, i64),
    modified: (i64, i64),
}

/// Inspects files and remembers what it saw, about 250 bytes for each of some thousand files.
#[derive(Debug)]
pub(super) struct Inspector {
    hashed: Generations<(u64, u64), (Version, Hashes)>,
    seen: Generations<(u64, u64), Seen>,
    started: (i64, i64),
}

impl Inspector {
    const MOST_HASHED: usize = 4_096;
    const MOST_SEEN: usize = 8_192;
    const CHUNK_BYTES: usize = 64 << 10;

    pub(super) fn new() -> Self {
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let secs = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        Self {
            hashed: Generations::new(Self::MOST_HASHED),
            seen: Generations::new(Self::MOST_SEEN),
            started: (secs, i64::from(now.subsec_nanos())),
        }
    }

    /// Looks at `path`, hashing at most `limit_bytes`. Gives hashing up when `stop` is set.
    pub(super) fn inspect(&mut self, path: &Path, limit_bytes: u64, stop: &AtomicBool) -> Facts {
        let reach = match Reach::of(path) {
            Ok(reach) => reach,
            Err(error) => return without_file(&error),
        };
        let path = reach.path();
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) => return without_file(&error),
        };
        if is_special(&metadata) {
            return Facts::Special;
        }
        let identity = (metadata.dev(), metadata.ino());
        let version = Version::of(&metadata);
        let (changed, written) = match self.seen.get(&identity) {
            Some(seen) => (
                seen.changed != version.changed,
                seen.modified != version.modified,
            ),
            None => (
                version.changed >= self.started,
                version.modified >= self.started,
            ),
        };
        let seen = Seen {
            changed: version.changed,
            modified: version.modified,
        };
        self.seen.insert(identity, seen);
        let hashes = match metadata.is_file() {
            false => Err(Skipped::NotRegular),
            true if metadata.size() > limit_bytes => Err(Skipped::TooLarge),
            true => match self.hashed.get(&identity) {
                Some((known, hashes)) if *known == version => Ok(hashes.clone()),
                _ => self.hash(path, limit_bytes, stop),
            },
        };
        Facts::Found {
            uid: metadata.uid(),
            size: metadata.size(),
            hashes,
            mode: Some(Mode::from_bits(metadata.mode())),
            capabilities: granted(path, &metadata),
            changed,
            written,
        }
    }

    fn hash(
        &mut self,
        path: &Path,
        limit_bytes: u64,
        stop: &AtomicBool,
    ) -> Result<Hashes, Skipped> {
        let mut file = open(path).map_err(|error| skipped(&error))?;
        let before = file.metadata().map_err(|error| skipped(&error))?;
        if !before.is_file() {
            return Err(Skipped::NotRegular);
        }
        let hashes = digest(&mut file, limit_bytes, stop)?;
        let (version, after) = (Version::of(&before), file.metadata());
        if version.is_settled() && after.is_ok_and(|after| Version::of(&after) == version) {
            let identity = (before.dev(), before.ino());
            self.hashed.insert(identity, (version, hashes.clone()));
        }
        Ok(hashes)
    }
}

/// What can be told about `path` without reading it.
pub(super) fn glance(path: &Path) -> Facts {
    let reach = match Reach::of(path) {
        Ok(reach) => reach,
        Err(error) => return without_file(&error),
    };
    let path = reach.path();
    match fs::symlink_metadata(path) {
        Err(error) => without_file(&error),
        Ok(metadata) if is_special(&metadata) => Facts::Special,
        Ok(metadata) => Facts::Found {
            uid: metadata.uid(),
            size: metadata.size(),
            hashes: Err(match metadata.is_file() {
                true => Skipped::Busy,
                false => Skipped::NotRegular,
            }),
            mode: Some(Mode::from_bits(metadata.mode())),
            capabilities: granted(path, &metadata),
            changed: true,
            written: true,
        },
    }
}

/// Only who executes a file gets its capabilities, so that most files are not asked.
fn granted(path: &Path, metadata: &Metadata) -> Option<String> {
    (metadata.is_file() && metadata.mode() & 0o111 != 0)
        .then(|| capabilities::of(path))
        .flatten()
}

fn without_file(error: &io::Error) -> Facts {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Facts::Gone,
        _ => Facts::Found {
            uid: u32::MAX,
            size: 0,
            hashes: Err(Skipped::Unreadable),
            mode: None,
            capabilities: None,
            changed: true,
            written: true,
        },
    }
}

fn is_special(metadata: &Metadata) -> bool {
    let kind = metadata.file_type();
    kind.is_fifo() || kind.is_socket() || kind.is_char_device() || kind.is_block_device()
}

/// Without O_NOATIME where the file is not ours and CAP_FOWNER is missing.
fn open(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC | libc::O_NOCTTY;
    let open = |flags| OpenOptions::new().read(true).custom_flags(flags).open(path);
    match open(flags | libc::O_NOATIME) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => open(flags),
        other => other,
    }
}

fn skipped(error: &io::Error) -> Skipped {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound | io::ErrorKind::NotADirectory, _) => Skipped::Gone,
        (_, Some(libc::ELOOP)) => Skipped::NotRegular,
        _ => Skipped::Unreadable,
    }
}

/// Hashes what is left to read, at most `limit_bytes`. Gives up when `stop` is set.
pub(crate) fn digest(
    file: &mut impl Read,
    limit_bytes: u64,
    stop: &AtomicBool,
) -> Result<Hashes, Skipped> {
    let (mut md5, mut sha256) = (Md5::new(), Sha256::new());
    let mut chunk = vec![0; Inspector::CHUNK_BYTES];
    let mut total = 0_u64;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Skipped::Busy);
        }
        let read = match file.read(&mut chunk) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return Err(Skipped::Unreadable),
        };
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            break;
        }
        total = total.saturating_add(bytes.len() as u64);
        if total > limit_bytes {
            // It grew while it was read.
            return Err(Skipped::TooLarge);
        }
        md5.update(bytes);
        sha256.update(bytes);
    }
    Ok(Hashes {
        md5: hex(&md5.finalize()),
        sha256: hex(&sha256.finalize()),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC_MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
    const ABC_SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn look(path: &Path, limit: u64) -> Facts {
        Inspector::new().inspect(path, limit, &AtomicBool::new(false))
    }

    fn hashes(facts: Facts) -> Result<Hashes, Skipped> {
        match facts {
            Facts::Found { hashes, .. } => hashes,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn m19_hashes_up_to_the_limit_and_says_why_not() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("abc");
        fs::write(&path, "abc").unwrap();
        let expected = Hashes {
            md5: ABC_MD5.into(),
            sha256: ABC_SHA256.into(),
        };
        assert_eq!(hashes(look(&path, 3)), Ok(expected));
        assert_eq!(hashes(look(&path, 2)), Err(Skipped::TooLarge));
        assert_eq!(hashes(look(place.path(), 99)), Err(Skipped::NotRegular));
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert_eq!(hashes(look(&link, 99)), Err(Skipped::NotRegular));
        assert_eq!(look(&place.path().join("none"), 99), Facts::Gone);
        let pipe = place.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(look(&pipe, 99), Facts::Special);
        let endless = digest(&mut io::repeat(0), 1 << 20, &AtomicBool::new(false));
        assert_eq!(endless, Err(Skipped::TooLarge));
    }

    #[test]
    fn a_file_is_hashed_again_when_its_content_changed() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        let mut inspector = Inspector::new();
        let stop = AtomicBool::new(false);
        let mut seen = Vec::new();
        for content in ["abc", "abd", "abd", "abc"] {
            fs::write(&path, content).unwrap();
            let hashes = hashes(inspector.inspect(&path, 99, &stop)).unwrap();
            assert_eq!(hashes.md5 == ABC_MD5, content == "abc");
            seen.push(hashes);
        }
        assert_eq!(seen[1], seen[2]);
    }

    #[test]
    fn a_second_look_at_an_untouched_file_shows_no_change() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("f");
        let mut inspector = Inspector::new();
        let stop = AtomicBool::new(false);
        fs::write(&path, "abc").unwrap();
        let changed = |inspector: &mut Inspector| match inspector.inspect(&path, 99, &stop) {
            Facts::Found { changed, .. } => changed,
            other => panic!("{other:?}"),
        };
        changed(&mut inspector);
        assert!(!changed(&mut inspector));
        inspector.started = (0, 0);
        inspector.seen.clear();
        assert!(changed(&mut inspector));
    }
}
