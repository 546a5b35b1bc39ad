//! The file system collectors read: the host's own, or a directory that stands for it.
//!
//! Every read is bounded, nothing but regular files is opened, and below a directory that stands
//! for a host no symbolic link leads out of it.

use std::{
    collections::BTreeSet,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2},
    sys::stat::Mode,
};

use super::Error;

/// Files are read up to this size; no list of accounts or jobs that a person wrote is longer.
pub const FILE_LIMIT_BYTES: u64 = 4 << 20;

/// Names of a directory beyond this number are left out.
const ENTRY_LIMIT: usize = 65_536;

/// A root directory, and the files below it that were too large to be read whole.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    oversized: Mutex<BTreeSet<PathBuf>>,
}

impl Root {
    /// The host itself.
    pub fn host() -> Self {
        Self::at("/")
    }

    /// A directory that stands for the root of a host.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            oversized: Mutex::default(),
        }
    }

    /// Whether this is the host itself, so that its programs may be asked.
    pub fn is_host(&self) -> bool {
        self.path == Path::new("/")
    }

    /// Content of a regular file up to [`FILE_LIMIT_BYTES`]; `None` when there is no such file.
    ///
    /// # Errors
    /// It exists and cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>, Error> {
        let path = path.as_ref();
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let Some(file) = self.file(path)? else {
            return Ok(None);
        };
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT_BYTES + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > FILE_LIMIT_BYTES {
            bytes.truncate(FILE_LIMIT_BYTES as usize);
            self.flag_oversized(path, FILE_LIMIT_BYTES);
        }
        Ok(Some(bytes))
    }

    /// A regular file, open for reading; `None` when there is no such file. Its reader bounds it.
    ///
    /// # Errors
    /// It exists and cannot be read.
    pub(super) fn file(&self, path: &Path) -> Result<Option<File>, Error> {
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let Some(file) = self.locate(path).map_err(failed)? else {
            return Ok(None);
        };
        if !file.metadata().map_err(failed)?.is_file() {
            return Ok(None);
        }
        // Opened for real only now: opening a device or a pipe can have consequences.
        reopen(&file).map(Some).map_err(failed)
    }

    /// Notes that only the start of a file is read.
    pub(super) fn flag_oversized(&self, path: &Path, limit_bytes: u64) {
        if self.lock().insert(path.to_owned()) {
            tracing::warn!(path = %path.display(), limit_bytes, "only the start of the file is read");
        }
    }

    /// Content of a text file as [`Root::read`], with what is not UTF-8 replaced.
    ///
    /// # Errors
    /// As [`Root::read`].
    pub fn text(&self, path: impl AsRef<Path>) -> Result<Option<String>, Error> {
        Ok(self
            .read(path)?
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The first `limit_bytes` of a file of the kernel's; `None` when it cannot be read, as
    /// when its process has ended.
    pub fn peek(&self, path: impl AsRef<Path>, limit_bytes: u64) -> Option<Vec<u8>> {
        let file = self
            .open(
                path.as_ref(),
                OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY,
            )
            .ok()?;
        let mut bytes = Vec::new();
        // What was read before a process ended under the reader is still true.
        let _ = File::from(file).take(limit_bytes).read_to_end(&mut bytes);
        Some(bytes)
    }

    /// Full paths of a directory's entries, sorted; empty when there is no such directory.
    ///
    /// # Errors
    /// It exists and cannot be read.
    pub fn list(&self, path: impl AsRef<Path>) -> Result<Vec<PathBuf>, Error> {
        let path = path.as_ref();
        let failed = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let Some(directory) = self.locate(path).map_err(failed)? else {
            return Ok(Vec::new());
        };
        if !directory.metadata().map_err(failed)?.is_dir() {
            return Ok(Vec::new());
        }
        let mut entries = Vec::new();
        for entry in fs::read_dir(descriptor(&directory)).map_err(failed)? {
            entries.push(path.join(entry.map_err(failed)?.file_name()));
            if entries.len() == ENTRY_LIMIT {
                tracing::warn!(path = %path.display(), limit = ENTRY_LIMIT, "only some entries of the directory are looked at");
                break;
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// Target of a symbolic link, as written; `None` when it is not one.
    pub fn link(&self, path: impl AsRef<Path>) -> Option<PathBuf> {
        fs::read_link(self.below(path.as_ref())).ok()
    }

    /// What a path leads to; `None` when it leads nowhere.
    pub fn metadata(&self, path: impl AsRef<Path>) -> Option<Metadata> {
        self.locate(path.as_ref()).ok()??.metadata().ok()
    }

    /// The path without symbolic links; the path itself when it leads nowhere.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        let resolved = || {
            let file = self.locate(path).ok()??;
            let real = fs::read_link(descriptor(&file)).ok()?;
            let inside = real.strip_prefix(fs::canonicalize(&self.path).ok()?).ok()?;
            Some(Path::new("/").join(inside))
        };
        resolved().unwrap_or_else(|| path.to_owned())
    }

    /// Files that were too large to be read whole, in the order of their paths.
    pub fn oversized(&self) -> Vec<PathBuf> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<PathBuf>> {
        self.oversized
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn below(&self, path: &Path) -> PathBuf {
        self.path.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A handle that only names the file; `None` when there is none.
    fn locate(&self, path: &Path) -> io::Result<Option<File>> {
        match self.open(path, OFlag::O_PATH) {
            Ok(file) => Ok(Some(File::from(file))),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    fn open(&self, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
        let flags = flags | OFlag::O_CLOEXEC;
        if self.is_host() {
            return open(path, flags, Mode::empty());
        }
        let root = open(
            &self.path,
            OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?;
        let how = OpenHow::new()
            .flags(flags)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT);
        openat2(&root, path.strip_prefix("/").unwrap_or(path), how)
    }
}

fn descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

fn reopen(file: &File) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    Ok(File::from(open(
        descriptor(file).as_str(),
        flags,
        Mode::empty(),
    )?))
}

/// Last component of a path as text; empty when it has none.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_below_a_fixture_stay_inside_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/real")).unwrap();
        fs::write(dir.path().join("etc/real/a"), "inside").unwrap();
        symlink("/etc/real/a", dir.path().join("etc/absolute")).unwrap();
        symlink("../../../../etc/hostname", dir.path().join("etc/climbing")).unwrap();
        symlink("loop", dir.path().join("etc/loop")).unwrap();
        let root = Root::at(dir.path());
        assert_eq!(root.text("/etc/absolute").unwrap().unwrap(), "inside");
        assert_eq!(root.text("/etc/climbing").unwrap(), None);
        assert!(root.text("/etc/loop").is_err());
        assert_eq!(root.resolve("/etc/absolute"), Path::new("/etc/real/a"));
        assert_eq!(root.list("/etc").unwrap().len(), 4);
        assert!(root.list("/nowhere").unwrap().is_empty());
    }

    #[test]
    fn pipes_and_directories_are_not_read() {
        let dir = tempfile::tempdir().unwrap();
        nix::unistd::mkfifo(&dir.path().join("pipe"), Mode::S_IRWXU).unwrap();
        let root = Root::at(dir.path());
        assert_eq!(root.read("/pipe").unwrap(), None);
        assert_eq!(root.read("/").unwrap(), None);
    }

    #[test]
    fn a_huge_file_is_read_up_to_the_limit_and_flagged() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("huge")).unwrap();
        file.set_len(FILE_LIMIT_BYTES + 10).unwrap();
        let root = Root::at(dir.path());
        let bytes = root.read("/huge").unwrap().unwrap();
        assert_eq!(bytes.len() as u64, FILE_LIMIT_BYTES);
        assert_eq!(root.oversized(), [PathBuf::from("/huge")]);
    }
}
