//! Changes to files, stream `file`: what was created, written, renamed, removed or re-permitted,
//! by whom, and what the file holds now.
//!
//! - **Guarantees**: a change in a watched directory is reported within 200 ms (the bytes of a
//!   file that stays open are looked at once a second; who is gone is waited for until its end was
//!   reported; a hard link whose watched names have to be looked for takes as long as that does); no
//!   kind of change is lost, and of one path events keep their order. Symbolic links are never
//!   followed, pipes never waited for.
//! - **Invariants**: paths outside the scope are told apart by their directory's handle before
//!   anything is allocated for them. Every queue is bounded; a file that cannot be hashed in time
//!   is reported unhashed and says so (`hash_skipped`).
//! - **Sources**: [`fanotify`] marks on whole file systems, with the actor, and whatever name a
//!   file is changed through; [`inotify`] where that is refused, without both. `YINGLONG_FILE_SOURCE=inotify` forces the latter.
//! - **Not here**: filters of the configuration, content rules.

mod actors;
mod capabilities;
mod change;
mod coalesce;
mod deep;
mod deliver;
mod fanotify;
mod generations;
mod inotify;
mod inspect;
mod mounts;
mod roots;
mod scan;
mod scope;
mod service;
mod worker;

#[cfg(test)]
mod tests;

use std::env;

use yinglong_sensor::{Error, Sensor};

pub use self::roots::WebRoots;
use self::{actors::Actors, fanotify::Fanotify, inotify::Inotify, service::Service};
pub(crate) use self::{
    generations::Generations,
    inspect::{Hashes, Skipped, digest},
};
use crate::{accounts::Accounts, tree::Tree};

/// Where file changes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// fanotify, and inotify where it is refused.
    #[default]
    Best,
    /// inotify alone.
    Inotify,
}

/// How the sensor is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Processes whose changes are not reported: the agent's own. Only fanotify can tell.
    pub excluded_pids: Vec<u32>,
    /// Where changes come from.
    pub source: Source,
}

impl Default for Options {
    /// This process excluded; the source as `YINGLONG_FILE_SOURCE` has it.
    fn default() -> Self {
        let source = match env::var("YINGLONG_FILE_SOURCE").as_deref() {
            Ok("inotify") => Source::Inotify,
            _ => Source::Best,
        };
        Self {
            excluded_pids: vec![std::process::id()],
            source,
        }
    }
}

/// Opens the file sensor. What it watches follows `client.monitorPath` and `roots` while it runs.
///
/// # Errors
/// Neither fanotify nor inotify is to be had.
pub fn open(
    tree: Tree,
    accounts: Accounts,
    roots: WebRoots,
    options: Options,
) -> Result<Box<dyn Sensor>, Error> {
    let (fanotify, fallback) = match options.source {
        Source::Inotify => (None, "inotify was asked for".to_owned()),
        Source::Best => match Fanotify::open() {
            Ok(fanotify) => (Some(fanotify), String::new()),
            Err(refused) => (None, refused.to_string()),
        },
    };
    let inotify = match fanotify {
        Some(_) => None,
        None => Some(Inotify::open().map_err(|error| Error::Unavailable {
            source_name: "inotify",
            reason: format!(
                "{fallback}; inotify is refused too ({error}): raise fs.inotify.max_user_instances"
            ),
        })?),
    };
    Ok(Box::new(Service {
        fanotify,
        inotify,
        fallback,
        refused: Vec::new(),
        actors: Actors::new(tree, accounts.clone()),
        accounts,
        web_roots: roots,
        options,
        running: true,
    }))
}

/// Reads `bytes` as what a fanotify descriptor gives, and as a line of the mount table.
#[cfg(fuzzing)]
pub(crate) fn fuzz_events(bytes: &[u8]) {
    fanotify::fuzz_events(bytes);
    mounts::parse(bytes);
    capabilities::text(bytes);
}
