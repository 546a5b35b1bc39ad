//! `package`: installed packages, as the databases of the package managers have them.
//!
//! Nothing is asked of the managers themselves: their programs could be replaced, and may not be
//! there in an image. A database is read again only when it changed, see [`stamp`].

mod apk;
mod dpkg;
mod rpm;

use std::{
    io::{BufReader, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use yinglong_model::Timestamp;

use super::{Collected, Error, Root, element, root::file_name};

/// A database is read up to this size. The largest `status` files, of desktops with 5,000 packages,
/// have some 8 MiB.
const DATABASE_LIMIT_BYTES: u64 = 64 << 20;

/// Longest line that matters, in bytes; dependencies and lists of files may be longer.
const LINE_LIMIT_BYTES: usize = 4096;

/// A package in the words of every manager.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Package {
    name: String,
    version: String,
    arch: String,
    vendor: String,
    /// What it was built from; empty when that has the package's own name.
    source: String,
    installed: Option<Timestamp>,
}

impl Package {
    /// Without a name it is none.
    fn add_to(self, list: &mut Collected, manager: &str) {
        if self.name.is_empty() {
            return;
        }
        let installed = self.installed.map(|time| time.to_string());
        list.push(element([
            ("name", self.name),
            ("version", self.version),
            ("arch", self.arch),
            ("vendor", self.vendor),
            ("source", self.source),
            ("manager", manager.to_owned()),
            ("installtime", installed.unwrap_or_default()),
        ]));
    }
}

/// Collects the packages of every manager that has a database here.
///
/// # Errors
/// A database exists and cannot be read.
pub fn collect(root: &Root) -> Result<Collected, Error> {
    let mut list = Collected::default();
    for path in dpkg::databases(root)? {
        read(root, &path, |reader| {
            dpkg::parse(reader, |mut package, shared| {
                package.installed = dpkg::installed_at(root, &package, shared);
                package.add_to(&mut list, "dpkg");
            })
        })?;
    }
    for path in apk::databases(root) {
        read(root, &path, |reader| {
            apk::parse(reader, |package| package.add_to(&mut list, "apk"))
        })?;
    }
    rpm::collect(root, &mut list)?;
    if list.unreadable > 0 {
        let unreadable = list.unreadable;
        list.notes.push(format!(
            "{unreadable} entries of rpm's database make no sense"
        ));
    }
    list.sort();
    Ok(list)
}

/// Which databases there are and in what state: while it is the same, so are the packages.
pub(super) type Stamp = Vec<(PathBuf, u64, u64, i64, i64)>;

/// Looks at the databases without reading them.
///
/// # Errors
/// A directory of databases exists and cannot be read.
pub(super) fn stamp(root: &Root) -> Result<Stamp, Error> {
    let mut paths = dpkg::databases(root)?;
    paths.extend(apk::databases(root));
    let mut stamp: Stamp = paths
        .into_iter()
        .filter_map(|path| state(root, path))
        .collect();
    stamp.extend(rpm::stamp(root));
    Ok(stamp)
}

fn state(root: &Root, path: PathBuf) -> Option<(PathBuf, u64, u64, i64, i64)> {
    let m = root.metadata(&path)?;
    Some((path, m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
}

fn read(
    root: &Root,
    path: &Path,
    parse: impl FnOnce(BufReader<std::io::Take<std::fs::File>>) -> std::io::Result<()>,
) -> Result<(), Error> {
    let Some(file) = root.file(path)? else {
        return Ok(());
    };
    if root
        .metadata(path)
        .is_some_and(|m| m.len() > DATABASE_LIMIT_BYTES)
    {
        root.flag_oversized(path, DATABASE_LIMIT_BYTES);
    }
    parse(BufReader::new(file.take(DATABASE_LIMIT_BYTES))).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{fixture, rows};

    const FIELDS: [&str; 6] = ["name", "version", "arch", "vendor", "source", "manager"];

    /// As dpkg of Debian 12 writes it.
    const STATUS: &str = "Package: libc6\nStatus: install ok installed\nPriority: optional\n\
        Maintainer: GNU Libc Maintainers <debian-glibc@lists.debian.org>\nArchitecture: amd64\n\
        Multi-Arch: same\nSource: glibc\nVersion: 2.36-9+deb12u14\n\
        Description: GNU C Library\n Version: not this one\n .\n\n\
        Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n\
        Package: never\nStatus: purge ok not-installed\n\n\
        Package: half\nStatus: install reinstreq half-installed\nArchitecture: all\nVersion: 2:1~x\n\n\n";

    #[test]
    fn packages_of_debian_and_of_images_without_dpkg_are_listed() {
        let dir = fixture(&[
            ("var/lib/dpkg/status", STATUS),
            ("var/lib/dpkg/info/libc6:amd64.list", "/.\n"),
            // Distroless images have one file for each package, and no `Status`.
            (
                "var/lib/dpkg/status.d/tzdata",
                "Package: tzdata\nVersion: 2024b-0\nArchitecture: all\nMaintainer: M <m@x>\n",
            ),
            ("var/lib/dpkg/status.d/tzdata.md5sums", "Package: no\n"),
        ]);
        let list = collect(&Root::at(dir.path())).unwrap().elements;
        assert_eq!(
            rows(&list, &FIELDS),
            [
                "half|2:1~x|all|||dpkg",
                "libc6|2.36-9+deb12u14|amd64|GNU Libc Maintainers <debian-glibc@lists.debian.org>|glibc|dpkg",
                "tzdata|2024b-0|all|M <m@x>||dpkg",
            ]
        );
        assert!(
            list[1].contains_key("installtime"),
            "its list of files has a time"
        );
        assert!(!list[0].contains_key("installtime"));
    }

    #[test]
    fn packages_of_alpine_are_listed() {
        // As apk-tools 2 writes it, apk_db_fdb(5): a letter, a colon, a value.
        let dir = fixture(&[(
            "lib/apk/db/installed",
            "C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=\nP:alpine-baselayout\nV:3.6.5-r0\nA:x86_64\nS:8515\n\
             I:315392\nT:Alpine base dir structure\nU:https://git.alpinelinux.org\nL:GPL-2.0-only\n\
             o:alpine-baselayout\nm:Natanael Copa <ncopa@alpinelinux.org>\nt:1714981135\n\
             F:dev\nF:etc\nR:motd\nZ:Q1SLkS9hBidUbPwwrw+XR0Whv3ww8=\n\n\
             P:busybox-binsh\nV:1.36.1-r29\nA:x86_64\no:busybox\nF:bin\n\n",
        )]);
        let list = collect(&Root::at(dir.path())).unwrap().elements;
        assert_eq!(
            rows(&list, &FIELDS),
            [
                "alpine-baselayout|3.6.5-r0|x86_64|Natanael Copa <ncopa@alpinelinux.org>||apk",
                "busybox-binsh|1.36.1-r29|x86_64||busybox|apk",
            ]
        );
    }

    #[test]
    fn the_stamp_changes_with_the_database_only() {
        let dir = fixture(&[("var/lib/dpkg/status", STATUS)]);
        let root = Root::at(dir.path());
        let before = stamp(&root).unwrap();
        assert_eq!(stamp(&root).unwrap(), before);
        std::fs::write(dir.path().join("var/lib/dpkg/status"), "").unwrap();
        assert_ne!(stamp(&root).unwrap(), before);
        assert!(stamp(&Root::at(dir.path().join("var"))).unwrap().is_empty());
    }

    #[test]
    fn more_packages_than_a_list_holds_are_counted() {
        let status = "Package: a\n\n".repeat(super::super::ELEMENT_LIMIT + 7);
        let dir = fixture(&[("var/lib/dpkg/status", &status)]);
        let list = collect(&Root::at(dir.path())).unwrap();
        assert_eq!(list.elements.len(), super::super::ELEMENT_LIMIT);
        assert_eq!(list.left_out, 7);
    }

    #[test]
    fn the_packages_of_this_very_host_are_those_dpkg_names() {
        let Ok(known) = std::process::Command::new("dpkg-query")
            .args([
                "-W",
                "-f",
                "${db:Status-Status} ${Package} ${Version} ${Architecture}\n",
            ])
            .output()
        else {
            eprintln!("SKIPPED the_packages_of_this_very_host: no dpkg-query on this machine");
            return;
        };
        let known = String::from_utf8(known.stdout).unwrap();
        let mut known: Vec<String> = known
            .lines()
            .filter_map(|line| line.strip_prefix("installed "))
            .map(str::to_owned)
            .collect();
        known.sort();
        let list = collect(&Root::host()).unwrap().elements;
        let mut found: Vec<String> = rows(&list, &["name", "version", "arch", "manager"])
            .iter()
            .filter_map(|row| row.strip_suffix("|dpkg"))
            .map(|row| row.replace('|', " "))
            .collect();
        found.sort();
        assert_eq!(found, known);
        let timed = list.iter().filter(|e| e.contains_key("installtime"));
        assert_eq!(
            timed.count(),
            known.len(),
            "dpkg keeps a list of files of each"
        );
    }
}
