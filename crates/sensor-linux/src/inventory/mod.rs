//! Inventories: what this host has, as complete lists, sent when they changed.
//!
//! - **Guarantees**: a list is sent when it differs from the last one that reached the spool, and
//!   also when it became empty; a restart resends nothing that did not change (A16). A collector
//!   that fails leaves the others working and the server's list as it was.
//! - **Invariants**: collectors read below a [`Root`] and never write; parsers are pure; every read
//!   is bounded. The only programs that are run are web servers' own `-V`, once per version of
//!   the program, see [`webroot`].
//! - **Not here**: the inside of containers (their services and web roots are not looked into; their processes
//!   are listed as the host sees them), sockets of other network namespaces.

pub mod container;
pub mod crontab;
pub mod facts;
mod lines;
pub mod listening;
pub mod module;
pub mod package;
mod pattern;
pub mod processes;
mod root;
mod scripts;
mod sensor;
pub mod service;
pub mod sshkey;
pub mod startup;
pub mod sudoer;
mod units;
pub mod users;
pub mod webroot;

use std::path::PathBuf;

use yinglong_model::inventory::Element;

pub use facts::{HostFacts, facts};
pub use root::{FILE_LIMIT_BYTES, Root};
pub use sensor::{Options, open};

/// Longest value of a field, in bytes.
const VALUE_LIMIT_BYTES: usize = 32 << 10;

/// Why a list could not be collected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory exists and cannot be read.
    #[error("cannot read `{path}`; is the agent running as root?", path = path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Answer of the operating system.
        #[source]
        source: std::io::Error,
    },
    /// A database is not what its name says, or was changed while it was read.
    #[error("`{path}` is not understood; the list stays as it was", path = path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
}

/// Elements of a list beyond this number are left out, so that a list fits a record.
const ELEMENT_LIMIT: usize = 20_000;

/// A list while it is collected.
#[derive(Debug, Default)]
pub struct Collected {
    /// What is in it, at most [`ELEMENT_LIMIT`].
    pub elements: Vec<Element>,
    /// What would be in it beyond that.
    pub left_out: usize,
    /// What could not be made sense of.
    pub unreadable: usize,
    /// What could not be looked at, and why.
    pub notes: Vec<String>,
}

impl Collected {
    fn push(&mut self, element: Element) {
        if self.elements.len() < ELEMENT_LIMIT {
            self.elements.push(element);
        } else {
            self.left_out += 1;
        }
    }

    /// Sorts what stands in no order of its own, so that a rewritten database changes nothing.
    fn sort(&mut self) {
        let key = |e: &Element| ["name", "version", "arch"].map(|field| e.get(field).cloned());
        self.elements.sort_by_cached_key(key);
    }
}

impl From<Vec<Element>> for Collected {
    fn from(mut elements: Vec<Element>) -> Self {
        let left_out = elements.len().saturating_sub(ELEMENT_LIMIT);
        elements.truncate(ELEMENT_LIMIT);
        Self {
            elements,
            left_out,
            ..Self::default()
        }
    }
}

/// An element of its fields; empty ones are left out, too long ones end early.
fn element<const N: usize>(fields: [(&str, String); N]) -> Element {
    fields
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, mut value)| {
            value.truncate(value.floor_char_boundary(VALUE_LIMIT_BYTES));
            (name.to_owned(), value)
        })
        .collect()
}

/// A directory with the given files, to stand for a host.
#[cfg(test)]
fn fixture(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

/// Some fields of every element, joined by bars.
#[cfg(test)]
fn rows(list: &[Element], fields: &[&str]) -> Vec<String> {
    let value = |e: &Element, field: &&str| e.get(*field).cloned().unwrap_or_default();
    list.iter()
        .map(|e| {
            let values: Vec<String> = fields.iter().map(|field| value(e, field)).collect();
            values.join("|")
        })
        .collect()
}
