//! The data folder: one owner at a time, one known version.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
};

use yinglong_store::{Error, Kind, Result};

use crate::error::io;

/// Version of the layout as a whole; parts have their own versions for smaller changes.
const VERSION: &str = "1";

/// The lock on a folder, held while this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Makes the folder if needed, locks it and checks its version.
pub(crate) fn take(dir: &Path) -> Result<Lock> {
    fs::create_dir_all(dir).map_err(|e| io("make the data folder", dir, e))?;
    let path = dir.join("LOCK");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| io("open the lock of the data folder", &path, e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut owner = String::new();
            // The owner is for the message only; without it the message is still right.
            let _ = file.read_to_string(&mut owner);
            return Err(Error::new(
                Kind::Conflict,
                format!(
                    "the data folder `{}` is in use by process {}: stop that server, or give this \
                     one another folder",
                    dir.display(),
                    owner.trim()
                ),
            ));
        }
        Err(TryLockError::Error(e)) => return Err(io("lock the data folder", &path, e)),
    }
    check_version(dir)?;
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(|e| io("write the lock of the data folder", &path, e))?;
    Ok(Lock { _file: file })
}

fn check_version(dir: &Path) -> Result<()> {
    let path = dir.join("VERSION");
    match fs::read_to_string(&path) {
        Ok(found) if found.trim() == VERSION => Ok(()),
        Ok(found) => Err(Error::new(
            Kind::Invalid,
            format!(
                "the data folder `{}` has version `{}`, this server reads version {VERSION}: \
                 start the server that wrote it, or upgrade this one",
                dir.display(),
                found.trim()
            ),
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            replace(&path, VERSION.as_bytes()).map_err(|e| io("write", &path, e))
        }
        Err(e) => Err(io("read", &path, e)),
    }
}

/// Replaces a small file so that a crash leaves the old or the new content, never a part.
pub(crate) fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    match path.parent() {
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}
