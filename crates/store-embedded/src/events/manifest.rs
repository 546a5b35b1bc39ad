//! `partitions.json`: the log position up to which every partition is complete, and what is known
//! of each without opening it.
//!
//! A commit first commits the partitions, each with its own log position inside, then replaces
//! this file. After a crash in between, the log is read again from the older position here, and a
//! partition passes over what its own position says it has. A batch that spans two days is
//! therefore complete in both or finished by reading it again, and never doubled.

use std::{collections::BTreeMap, fs, io::ErrorKind, path::Path};

use serde::{Deserialize, Serialize};
use yinglong_store::{Error, Kind, LogPosition, Result};

use super::partition::Summary;
use crate::{error::io, folder::replace};

const FILE: &str = "partitions.json";
const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Manifest {
    version: u32,
    pub(super) position: LogPosition,
    pub(super) partitions: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    #[serde(flatten)]
    pub(super) summary: Summary,
    /// It may have been committed since this was written.
    pub(super) open: bool,
}

impl Manifest {
    /// A list without partitions.
    pub(super) const fn at(position: LogPosition) -> Self {
        Self {
            version: VERSION,
            position,
            partitions: BTreeMap::new(),
        }
    }
}

/// Reads the file. Without one, or when it is damaged, everything is found out anew: position 0
/// reads the whole log again, which partitions bear.
pub(super) fn read(dir: &Path) -> Result<Manifest> {
    let path = dir.join(FILE);
    let content = match fs::read(&path) {
        Ok(content) => content,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Manifest::at(0)),
        Err(e) => return Err(io("read", &path, e)),
    };
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    match serde_json::from_slice::<Version>(&content) {
        Ok(Version { version }) if version != VERSION => {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "`{}` has version {version}, this server reads version {VERSION}: start the \
                     server that wrote it, or upgrade this one",
                    path.display()
                ),
            ));
        }
        _ => {}
    }
    Ok(serde_json::from_slice(&content).unwrap_or_else(|error| {
        tracing::error!(path = %path.display(), %error, "list of event partitions is damaged, made anew");
        Manifest::at(0)
    }))
}

pub(super) fn write(dir: &Path, manifest: &Manifest) -> Result<()> {
    let path = dir.join(FILE);
    let content = serde_json::to_vec(manifest).map_err(|e| {
        Error::caused(
            Kind::Invalid,
            "cannot write the list of event partitions",
            e,
        )
    })?;
    replace(&path, &content).map_err(|e| io("write", &path, e))
}
