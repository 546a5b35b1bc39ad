//! Who made a change.

use std::{collections::HashMap, fs, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use super::change::{Actor, display};
use crate::{accounts::Accounts, tree::Tree};

/// Names processes. What `/proc` says while the process runs is the truth of the moment; of one
/// that has ended only the tree knows, and sometimes only a little later.
#[derive(Debug)]
pub(super) struct Actors {
    tree: Tree,
    accounts: Accounts,
    recent: HashMap<u32, Arc<Actor>>,
}

impl Actors {
    const MOST_RECENT: usize = 256;

    pub(super) fn new(tree: Tree, accounts: Accounts) -> Self {
        Self {
            tree,
            accounts,
            recent: HashMap::new(),
        }
    }

    /// Forgets what was found: from here on a pid may mean another process.
    pub(super) fn start_batch(&mut self) {
        self.recent.clear();
    }

    /// The process `pid`; `running` says that it was not reaped when the event was read.
    pub(super) fn find(&mut self, pid: u32, running: bool) -> Option<Arc<Actor>> {
        if pid == 0 {
            return None;
        }
        if let Some(actor) = self.recent.get(&pid) {
            return Some(Arc::clone(actor));
        }
        let actor = running
            .then(|| self.look(pid))
            .flatten()
            .or_else(|| self.remember(pid))
            .unwrap_or(Actor {
                pid,
                ..Actor::default()
            });
        let actor = Arc::new(actor);
        if self.recent.len() >= Self::MOST_RECENT {
            self.recent.clear();
        }
        self.recent.insert(pid, Arc::clone(&actor));
        Some(actor)
    }

    /// The actor with its name, if the tree has learnt it by now.
    pub(super) fn complete(&self, actor: &Arc<Actor>) -> Arc<Actor> {
        if actor.name.is_some() {
            return Arc::clone(actor);
        }
        self.remember(actor.pid)
            .map_or_else(|| Arc::clone(actor), Arc::new)
    }

    fn remember(&self, pid: u32) -> Option<Actor> {
        let entry = self.tree.find(pid)?;
        Some(Actor {
            pid,
            // A kernel thread has no executable.
            name: Some(entry.name.clone()).filter(|name| !name.is_empty()),
            user: Some(self.accounts.name(entry.uid)),
        })
    }

    fn look(&self, pid: u32) -> Option<Actor> {
        let status = fs::read(format!("/proc/{pid}/status")).ok()?;
        let executable = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(Actor {
            pid,
            name: Some(display(without_deleted(&executable))),
            user: effective_uid(&status).map(|uid| self.accounts.name(uid)),
        })
    }
}

/// The second number of the `Uid:` line. The owner of `/proc/<pid>` would not do: it is root for
/// every process that changed its user.
fn effective_uid(status: &[u8]) -> Option<u32> {
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"Uid:"))?;
    let line = std::str::from_utf8(line).ok()?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The path a link of `/proc` shows, without the mark the kernel adds once the name is gone.
pub(super) fn without_deleted(link: &Path) -> &Path {
    let bytes = link.as_os_str().as_bytes();
    match bytes.strip_suffix(b" (deleted)") {
        Some(path) => Path::new(std::ffi::OsStr::from_bytes(path)),
        None => link,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_user_is_read_from_the_status() {
        assert_eq!(effective_uid(b"Name:\tx\nUid:\t1000\t33\t0\t0\n"), Some(33));
        assert_eq!(effective_uid(b"Name:\tUid:\n"), None);
        assert_eq!(effective_uid(b"Uid:\t\xff\n"), None);
    }

    #[test]
    fn a_running_process_is_named_and_a_reaped_one_keeps_its_pid() {
        let mut actors = Actors::new(Tree::default(), Accounts::default());
        let own = std::process::id();
        let actor = actors.find(own, true).unwrap();
        let executable = std::env::current_exe().unwrap();
        assert_eq!(actor.name.as_deref(), executable.to_str());
        assert!(actor.user.is_some());
        let nobody = actors.find(u32::MAX, false).unwrap();
        assert_eq!((nobody.pid, nobody.name.as_ref()), (u32::MAX, None));
        assert_eq!(actors.find(0, true), None);
    }
}
