//! Files only their owner can read, written whole or not at all.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Largest file [`read_private`] takes; keys and certificates are far smaller.
const MAX_BYTES: u64 = 1 << 20;

/// Why a private file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be written.
    #[error("cannot write `{}`; check the folder's owner and free space", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be read.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is there already and must not be replaced.
    #[error("`{}` exists already and is not replaced; move it away first", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// Others than the owner may use it.
    #[error("`{}` is open to others (mode {mode:o}); run chmod 600 on it", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is larger than any key or certificate.
    #[error("`{}` is larger than 1 MiB and cannot be a key or a certificate", path.display())]
    TooLarge {
        /// Which file.
        path: PathBuf,
    },
}

/// What to do with a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Put the new one in its place.
    Replace,
    /// Leave it and fail.
    Keep,
}

/// Makes a folder that only its owner can enter, with its parents.
///
/// # Errors
/// The folder cannot be made.
pub fn private_dir(path: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| Error::Write {
            path: path.to_owned(),
            source,
        })
}

/// Writes a file of mode 0600; after a crash it is there completely or not at all.
///
/// # Errors
/// It cannot be written, or it exists and is to be kept.
pub fn write_private(path: &Path, content: &[u8], existing: Existing) -> Result<(), Error> {
    let failed = |source| Error::Write {
        path: path.to_owned(),
        source,
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished = parent.join(name);
    remove_if_there(&unfinished).map_err(failed)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    match existing {
        Existing::Replace => fs::rename(&unfinished, path).map_err(failed)?,
        Existing::Keep => {
            // A hard link, unlike a rename, fails if the name is taken.
            let linked = fs::hard_link(&unfinished, path);
            remove_if_there(&unfinished).map_err(failed)?;
            linked.map_err(|source| match source.kind() {
                io::ErrorKind::AlreadyExists => Error::Exists {
                    path: path.to_owned(),
                },
                _ => failed(source),
            })?;
        }
    }
    sync_dir(parent).map_err(failed)
}

/// Makes the names in a folder survive a power cut.
///
/// # Errors
/// As `fsync` has them.
pub fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Reads a file that only its owner may use; nothing if it is not there.
///
/// # Errors
/// It cannot be read, others may use it, or it is larger than 1 MiB.
pub fn read_private(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let failed = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(Error::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut content = Vec::new();
    file.take(MAX_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(failed)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(Error::TooLarge {
            path: path.to_owned(),
        });
    }
    Ok(Some(content))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_has_mode_0600_and_comes_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"one", Existing::Keep).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        assert_eq!(read_private(&path).unwrap().unwrap(), b"one");
        write_private(&path, b"two", Existing::Replace).unwrap();
        assert_eq!(read_private(&path).unwrap().unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_kept_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"one", Existing::Keep).unwrap();
        let again = write_private(&path, b"two", Existing::Keep);
        assert!(matches!(again, Err(Error::Exists { .. })), "{again:?}");
        assert_eq!(read_private(&path).unwrap().unwrap(), b"one");
    }

    #[test]
    fn a_file_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"one", Existing::Keep).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let read = read_private(&path);
        assert!(
            matches!(read, Err(Error::Exposed { mode: 0o640, .. })),
            "{read:?}"
        );
    }

    #[test]
    fn what_a_crash_left_behind_does_not_disturb() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key.new"), b"ha").unwrap();
        let path = dir.path().join("key");
        write_private(&path, b"one", Existing::Keep).unwrap();
        assert_eq!(read_private(&path).unwrap().unwrap(), b"one");
    }
}
