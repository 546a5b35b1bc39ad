//! Who made a change.

use std::{
    collections::HashMap,
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    change::{Actor, display},
    coalesce::Group,
    generations::Generations,
};
use crate::{
    accounts::Accounts,
    text::base_name,
    tree::{Progress, Tree, read_stat},
};

/// Names processes. What `/proc` says while the process runs is the truth of the moment; of one
/// that has ended only the tree knows, and only a little later: asked at once, it may have heard of
/// the fork and not of the execution, and name the parent's program.
///
/// A process that changes a file and becomes another program at once would be taken for the latter.
/// Executions come through the same queue as changes, in order, and tell that one came between.
#[derive(Debug)]
pub(super) struct Actors {
    tree: Tree,
    accounts: Accounts,
    recent: HashMap<u32, Arc<Actor>>,
    /// What to set when a process becomes another program, for all its actors so far.
    told: Generations<u32, Arc<AtomicBool>>,
    /// File name of the program each process executed last.
    programs: Generations<u32, Box<[u8]>>,
}

impl Actors {
    const MOST_RECENT: usize = 256;
    const MOST_TOLD: usize = 1_024;
    const MOST_PROGRAMS: usize = 4_096;

    pub(super) fn new(tree: Tree, accounts: Accounts) -> Self {
        Self {
            tree,
            accounts,
            recent: HashMap::new(),
            told: Generations::new(Self::MOST_TOLD),
            programs: Generations::new(Self::MOST_PROGRAMS),
        }
    }

    /// The process executed a file of that name, or its program interpreter of that name was loaded.
    pub(super) fn executed(&mut self, pid: u32, name: &[u8]) {
        if is_loader(name) {
            return;
        }
        self.recent.remove(&pid);
        if let Some(superseded) = self.told.remove(&pid) {
            superseded.store(true, Ordering::Relaxed);
        }
        self.programs.insert(pid, name.into());
    }

    /// Forgets what was found: from here on a pid may mean another process.
    pub(super) fn start_batch(&mut self) {
        self.recent.clear();
    }

    /// The process `pid`; `running` says that it was not reaped when the event was read. One that
    /// has ended is named by [`Actors::complete`].
    pub(super) fn find(&mut self, pid: u32, running: bool) -> Option<Arc<Actor>> {
        if pid == 0 {
            return None;
        }
        if let Some(actor) = self.recent.get(&pid) {
            return Some(Arc::clone(actor));
        }
        let seen = running.then(|| self.look(pid)).flatten();
        let mut actor = seen.unwrap_or_else(|| Actor {
            pid,
            // One that has ended and was not waited for yet has no executable any more. A kernel
            // thread never had one.
            gone: !running || !is_kernel_thread(pid),
            ..Actor::default()
        });
        actor.program = self.programs.get(&pid).cloned();
        match self.told.get(&pid) {
            Some(superseded) => actor.superseded = Arc::clone(superseded),
            None => self.told.insert(pid, Arc::clone(&actor.superseded)),
        }
        let actor = Arc::new(actor);
        if self.recent.len() >= Self::MOST_RECENT {
            self.recent.clear();
        }
        self.recent.insert(pid, Arc::clone(&actor));
        Some(actor)
    }

    /// The actor with its name, if the tree has learnt it by now. To be asked when the change is
    /// told: reports of executions take 50 ms at most, and changes gather for longer.
    pub(super) fn complete(&self, actor: &Arc<Actor>) -> Arc<Actor> {
        if actor.superseded.load(Ordering::Relaxed) {
            return Arc::new(self.as_it_was(actor));
        }
        if actor.name.is_some() {
            return Arc::clone(actor);
        }
        self.remember(actor.pid)
            .map_or_else(|| Arc::clone(actor), Arc::new)
    }

    /// Whether all is known that will be about who made the changes of a group. Of a process that has
    /// ended that is so once its end was reported, which comes after all it executed.
    pub(super) fn are_settled(&self, group: &Group) -> bool {
        let changes = group.changes.iter().chain(&group.perhaps);
        let mut actors = changes.filter_map(|change| change.actor.as_deref());
        actors.all(|actor| self.is_settled(actor))
    }

    fn is_settled(&self, actor: &Actor) -> bool {
        let superseded = actor.superseded.load(Ordering::Relaxed);
        if actor.name.is_some() && !superseded {
            return true;
        }
        match self.tree.progress(actor.pid) {
            Progress::Unheard | Progress::Ended => true,
            Progress::Running if actor.gone || !superseded => !actor.gone,
            // Of a running one it suffices that the program it had is known.
            Progress::Running => {
                let images = self.tree.images(actor.pid);
                match &actor.program {
                    Some(program) => images.iter().any(|image| is_program(image, program)),
                    None => images.len() > 1,
                }
            }
        }
    }

    /// The actor under the program it had at the time of the change.
    fn as_it_was(&self, actor: &Actor) -> Actor {
        let images = self.tree.images(actor.pid);
        let earlier = images.split_last().map_or(&[][..], |(_, earlier)| earlier);
        let name = match &actor.program {
            Some(program) => {
                let is_it = |name: &&String| is_program(name, program);
                let name = actor.name.as_ref().filter(is_it);
                name.or_else(|| images.iter().rev().find(is_it))
                    .or_else(|| earlier.last())
            }
            // It was started a moment before and had executed nothing yet.
            None => earlier.first(),
        };
        let user = actor.user.clone();
        Actor {
            pid: actor.pid,
            name: name.cloned(),
            user: user.or_else(|| self.remember(actor.pid)?.user),
            ..Actor::default()
        }
    }

    fn remember(&self, pid: u32) -> Option<Actor> {
        let entry = self.tree.find(pid)?;
        Some(Actor {
            pid,
            // A kernel thread has no executable.
            name: Some(entry.name.clone()).filter(|name| !name.is_empty()),
            user: Some(self.accounts.name(entry.uid)),
            ..Actor::default()
        })
    }

    fn look(&self, pid: u32) -> Option<Actor> {
        let status = fs::read(format!("/proc/{pid}/status")).ok()?;
        let executable = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        Some(Actor {
            pid,
            name: Some(display(without_deleted(&executable))),
            user: effective_uid(&status).map(|uid| self.accounts.name(uid)),
            ..Actor::default()
        })
    }
}

/// Whether the process is a child of `kthreadd`, which is number 2.
fn is_kernel_thread(pid: u32) -> bool {
    pid == 2 || read_stat(pid).is_some_and(|stat| stat.ppid == 2)
}

fn is_program(path: &str, file_name: &[u8]) -> bool {
    base_name(path).as_bytes() == file_name
}

/// Whether a file of that name loads programs and is none itself: `ld-linux-x86-64.so.2`,
/// `ld-2.31.so`, `ld-musl-x86_64.so.1`.
fn is_loader(name: &[u8]) -> bool {
    name.starts_with(b"ld") && name.windows(3).any(|part| part == b".so")
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
    fn who_became_another_program_is_told_as_it_was() {
        let tree = Tree::default();
        let ran = |name: &str| {
            let key = yinglong_model::ProcessKey {
                pid: u32::MAX,
                start_boottime_ns: 7,
            };
            tree.executed(crate::tree::Entry {
                key,
                name: name.to_owned(),
                ..crate::tree::Entry::default()
            });
        };
        let mut actors = Actors::new(tree.clone(), Accounts::default());
        let pid = u32::MAX;
        let name = |actors: &Actors, actor: &Arc<Actor>| actors.complete(actor).name.clone();
        ran("/usr/bin/make");
        let forked = actors.find(pid, false).unwrap();
        actors.executed(pid, b"dash");
        actors.executed(pid, b"ld-linux-x86-64.so.2");
        let shell = actors.find(pid, false).unwrap();
        assert_eq!(name(&actors, &shell).as_deref(), Some("/usr/bin/make"));
        for (path, file) in [("/usr/bin/dash", "env"), ("/usr/bin/env", "dpkg")] {
            ran(path);
            actors.executed(pid, file.as_bytes());
        }
        ran("/usr/bin/dpkg");
        let last = actors.find(pid, false).unwrap();
        assert_eq!(name(&actors, &forked).as_deref(), Some("/usr/bin/make"));
        assert_eq!(name(&actors, &shell).as_deref(), Some("/usr/bin/dash"));
        assert_eq!(name(&actors, &last).as_deref(), Some("/usr/bin/dpkg"));
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
