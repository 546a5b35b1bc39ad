//! Paths longer than a system call takes.
//!
//! The kernel takes 4,095 bytes at a time (`PATH_MAX` of `linux/limits.h`), but directories made
//! one within the other reach any depth, and what lies there is as good a hiding place as any.

use std::{
    ffi::OsStr,
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
};

use nix::{
    fcntl::{OFlag, open, openat},
    sys::stat::Mode,
};

/// Longest path that is known by heart, in bytes. What lies deeper is counted, not reported: a few
/// thousand such paths would take the memory of the agent otherwise.
pub(super) const MOST_BYTES: usize = 8 << 10;

/// Longest piece that is resolved in one call, in bytes; with room for `/proc/self/fd/N/`.
const PIECE_BYTES: usize = 3_840;

/// A path that system calls take, for as long as this lives.
#[derive(Debug)]
pub(super) struct Reach {
    /// Where `path` leads through.
    _directory: Option<OwnedFd>,
    path: PathBuf,
}

impl Reach {
    /// Of `path`, which is absolute. Nothing is looked at when it is short.
    ///
    /// # Errors
    /// A directory on the way of a long path is gone, or may not be searched.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let mut rest = path.as_os_str().as_bytes();
        let mut directory: Option<OwnedFd> = None;
        while rest.len() > PIECE_BYTES {
            let most = rest.get(..PIECE_BYTES).unwrap_or_default();
            let Some(slash) = most.iter().rposition(|byte| *byte == b'/') else {
                return Err(io::ErrorKind::InvalidFilename.into());
            };
            let (piece, after) = rest.split_at_checked(slash).unwrap_or_default();
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let piece = OsStr::from_bytes(piece);
            directory = Some(match &directory {
                None => open(piece, flags, Mode::empty())?,
                Some(above) => openat(above, piece, flags, Mode::empty())?,
            });
            // The slash would make the rest an absolute path.
            rest = after.get(1..).unwrap_or_default();
        }
        let rest = Path::new(OsStr::from_bytes(rest));
        let path = match &directory {
            None => rest.to_owned(),
            Some(above) => Path::new("/proc/self/fd")
                .join(above.as_raw_fd().to_string())
                .join(rest),
        };
        Ok(Self {
            _directory: directory,
            path,
        })
    }

    /// What to hand to a system call.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use nix::sys::stat::mkdirat;

    use super::*;

    #[test]
    fn a_file_below_more_than_the_kernel_takes_at_once_is_reached() {
        let place = tempfile::tempdir().unwrap();
        let mut path = place.path().canonicalize().unwrap();
        assert_eq!(Reach::of(&path).unwrap().path(), path);
        let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
        let mut at = open(&path, flags, Mode::empty()).unwrap();
        let name = "d".repeat(200);
        while path.as_os_str().len() < 10_000 {
            mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
            at = openat(&at, name.as_str(), flags, Mode::empty()).unwrap();
            path.push(&name);
        }
        path.push("file");
        assert!(fs::write(&path, "x").is_err());
        fs::write(Reach::of(&path).unwrap().path(), "x").unwrap();
        assert_eq!(fs::read(Reach::of(&path).unwrap().path()).unwrap(), b"x");
        let beside = Path::new("/none").join(path.strip_prefix("/").unwrap());
        assert!(Reach::of(&beside).is_err());
    }
}
