//! The database of rpm: the headers of the installed packages, in one of several containers.
//!
//! Fedora since 33, RHEL since 9 and what is built from them use SQLite; SUSE uses rpm's own "ndb".
//! The Berkeley DB of older systems is not read, and the sensor's status says so.

mod header;
mod ndb;
mod sqlite;

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::{Package, Root, Stamp, state};
use crate::inventory::{Collected, Error};

/// Where databases lie: classic, and beside the system image (SUSE, newer Fedora).
const PLACES: [&str; 2] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];

/// Of a header only the first so many bytes are read. Names and versions stand in front; lists of
/// files, which make headers large, behind.
const HEADER_LIMIT_BYTES: usize = 8 << 20;

/// Reads bytes of a place in a file.
trait ReadAt {
    /// Fills the buffer; a file that ends before is an error.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..start.checked_add(buffer.len())?))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Folders of databases, each once.
fn folders(root: &Root) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = PLACES
        .iter()
        .filter(|path| root.metadata(path).is_some())
        .map(|path| root.resolve(path))
        .collect();
    folders.dedup();
    folders
}

/// State of the files the packages are in.
pub(super) fn stamp(root: &Root) -> Stamp {
    folders(root)
        .iter()
        .flat_map(|folder| {
            [
                "rpmdb.sqlite",
                "rpmdb.sqlite-wal",
                "Packages.db",
                "Packages",
            ]
            .map(|name| folder.join(name))
        })
        .filter_map(|path| state(root, path))
        .collect()
}

/// Adds every package.
///
/// # Errors
/// A database cannot be read, or is damaged.
pub(super) fn collect(root: &Root, list: &mut Collected) -> Result<(), Error> {
    for folder in folders(root) {
        let path = folder.join("rpmdb.sqlite");
        if let Some(file) = root.file(&path)? {
            let wal = root.file(&folder.join("rpmdb.sqlite-wal"))?;
            let read = sqlite::headers(&file, wal.as_ref(), |header| add(header, list));
            read.map_err(|source| failed(&path, source))?;
            continue;
        }
        let path = folder.join("Packages.db");
        if let Some(file) = root.file(&path)? {
            let read = ndb::headers(&file, |header| add(header, list));
            read.map_err(|source| failed(&path, source))?;
            continue;
        }
        let path = folder.join("Packages");
        if root.metadata(&path).is_some() {
            list.notes.push(format!(
                "packages of rpm are not read, {} is a Berkeley DB; update rpm, or run `rpmdb \
                 --rebuilddb` where it has a newer form",
                path.display()
            ));
        }
    }
    Ok(())
}

fn failed(path: &Path, source: io::Error) -> Error {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            Error::Damaged { path, source }
        }
        _ => Error::Read { path, source },
    }
}

fn add(header: &[u8], list: &mut Collected) {
    // What is no header is one package less; the others still count.
    match header::parse(header) {
        Some(package) => package.add_to(list, "rpm"),
        None => list.unreadable += 1,
    }
}

#[cfg(test)]
mod tests;
