//! The database of rpm: the headers of the installed packages, in one of several containers.
//!
//! Fedora since 33, RHEL since 9 and what is built from them use SQLite; SUSE uses rpm's own "ndb".
//! The Berkeley DB of older systems is not read, and the sensor's status says so.

mod header;
mod ndb;

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{Package, Root, Stamp, state};
use crate::{
    inventory::{Collected, Error},
    sqlite::{Database, ReadAt, damaged, values},
};

/// Where databases lie: classic, and beside the system image (SUSE, newer Fedora).
const PLACES: [&str; 2] = ["/var/lib/rpm", "/usr/lib/sysimage/rpm"];

/// Of a header only the first so many bytes are read. Names and versions stand in front; lists of
/// files, which make headers large, behind.
const HEADER_LIMIT_BYTES: usize = 8 << 20;

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
            let read = headers(&file, wal.as_ref(), |header| add(header, list));
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

/// Calls `each` with every header of the table `Packages` of an SQLite database.
fn headers<F: ReadAt + ?Sized>(
    file: &F,
    wal: Option<&F>,
    mut each: impl FnMut(&[u8]),
) -> io::Result<()> {
    let database = Database::open(file, wal)?;
    let table = database.table("Packages")?;
    let table = table.ok_or_else(|| damaged("it has no table `Packages`"))?;
    database.rows(&table, i64::MIN, HEADER_LIMIT_BYTES, |_, record| {
        // The first column is the key, which SQLite keeps elsewhere.
        let header = values(record).nth(1);
        each(header.map(|value| value.bytes()).unwrap_or_default());
    })
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
