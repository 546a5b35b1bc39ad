//! The processes of this host: who they are, and who started them.
//!
//! - **Guarantees**: bounded ([`RUNNING_MAX`], [`ENDED_MAX`]); reports may arrive late or out of
//!   order, an older one never overwrites a newer one.
//! - **Invariants**: at most one entry per pid, the newest process of that number; every lookup of
//!   a parent compares start times as well.
//! - **Not here**: who reports. The execution sensor does, and `/proc` at the start and whenever a
//!   pid is unknown.

mod scan;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use yinglong_model::ProcessKey;

pub(crate) use self::scan::{Stat, read_stat};
use crate::text::base_name;

/// Running processes known at most.
const RUNNING_MAX: usize = 32_768;
/// Ended processes remembered at most: files and connections are reported a moment later.
const ENDED_MAX: usize = 8_192;
/// How long an ended process is remembered, in nanoseconds.
const ENDED_KEPT_NS: u64 = 60_000_000_000;
/// Longest command line remembered, in bytes: enough to tell a parent by.
const COMMAND_MAX: usize = 1024;
/// Earlier images of a running process remembered at most, the latest.
const IMAGES_MAX: usize = 4;
/// Ancestors told at most.
const ANCESTORS_MAX: usize = 16;
/// `/proc` tells start times in hundredths of a second.
pub(crate) const TICK_NS: u64 = 10_000_000;

/// Cheap to clone; all clones share one table.
#[derive(Debug, Clone, Default)]
pub struct Tree(Arc<Mutex<Table>>);

/// A process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Entry {
    /// Identity. The start time is a multiple of 10 ms when it was read from `/proc`.
    pub key: ProcessKey,
    /// Parent's pid when it started.
    pub ppid: u32,
    /// Absolute path of the executable; empty for a kernel thread.
    pub name: String,
    /// Command line, arguments separated by spaces; at most 1 KiB of it.
    pub command: String,
    /// Real user id.
    pub uid: u32,
    /// Identity of the parent; its start time is 0 when only the pid is known.
    pub parent: ProcessKey,
}

/// How far the reports about a process have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Nobody reports, and more than `/proc` tells will not be known.
    Unheard,
    /// It runs, or its end was not reported yet.
    Running,
    /// Its end was reported.
    Ended,
}

/// What the table knows about where a process comes from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ancestry {
    /// Base name of the parent's image; empty when the parent is not known.
    pub parent_name: String,
    /// Parent's command line.
    pub parent_command: Option<String>,
    /// Images of the ancestors, nearest first.
    pub ancestors: Vec<String>,
}

impl Tree {
    /// The newest process of that pid, running or ended a short while ago.
    pub fn find(&self, pid: u32) -> Option<Arc<Entry>> {
        if let Some(entry) = self.table().find(pid) {
            return Some(entry);
        }
        let entry = scan::read(pid)?;
        let mut table = self.table();
        table.found(entry);
        table.find(pid)
    }

    /// Paths of the images that process has had, the present one last, the one it was started with
    /// first unless there were many.
    pub fn images(&self, pid: u32) -> Vec<String> {
        let table = self.table();
        let Some(node) = table.nodes.get(&pid) else {
            return Vec::new();
        };
        let mut images = node.earlier.clone();
        images.push(node.entry.name.clone());
        images
    }

    /// How far the reports about the newest process of that pid have come.
    pub fn progress(&self, pid: u32) -> Progress {
        let table = self.table();
        match table.nodes.get(&pid) {
            _ if !table.reported => Progress::Unheard,
            Some(node) if node.ended => Progress::Ended,
            _ => Progress::Running,
        }
    }

    /// Compares the table with `/proc`, so that the parents of what comes next are known, and ends
    /// whose report was lost are noticed. What was reported meanwhile is newer and stays.
    /// `now_ns` is the time since boot.
    pub fn scan(&self, now_ns: u64) {
        let before: Vec<ProcessKey> = self.table().running().collect();
        let mut seen = HashSet::new();
        for entry in scan::all() {
            seen.insert(entry.key.pid);
            self.table().found(entry);
        }
        for key in before.into_iter().filter(|key| !seen.contains(&key.pid)) {
            self.table().exited(key, now_ns);
        }
    }

    /// A process was started by another one and runs the same image.
    pub(crate) fn forked(&self, key: ProcessKey, parent: ProcessKey, uid: u32) {
        self.table().forked(key, parent, uid);
    }

    /// A process executed an image; answers where it comes from.
    pub(crate) fn executed(&self, entry: Entry) -> Ancestry {
        let mut table = self.table();
        let parent = entry.parent;
        table.ran(entry);
        table.ancestry(parent)
    }

    /// A process ended, `now_ns` after boot. With a start time of 0, the newest of that pid.
    pub(crate) fn exited(&self, key: ProcessKey, now_ns: u64) {
        let mut table = self.table();
        table.reported = true;
        table.exited(key, now_ns);
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Table {
    nodes: HashMap<u32, Node>,
    /// Ended ones with the time of their end, oldest first. A pid may since have been reused.
    ended: VecDeque<(ProcessKey, u64)>,
    /// Somebody reports ends, and not only `/proc` is looked at.
    reported: bool,
}

#[derive(Debug)]
struct Node {
    entry: Arc<Entry>,
    /// Names of the images before, oldest first.
    earlier: Vec<String>,
    ended: bool,
}

/// Whether two start times are of one process: `known` may come from `/proc`, which tells it in
/// hundredths of a second, and 0 is unknown.
pub(crate) const fn started_together(known: u64, told: u64) -> bool {
    let rounded = known.is_multiple_of(TICK_NS) && known / TICK_NS == told / TICK_NS;
    known == 0 || told == 0 || known == told || rounded
}

/// Whether both are the same process, given that one time may come from `/proc`.
fn same(a: ProcessKey, b: ProcessKey) -> bool {
    a.pid == b.pid
        && (a.start_boottime_ns == b.start_boottime_ns
            || (a.start_boottime_ns / TICK_NS == b.start_boottime_ns / TICK_NS
                && (a.start_boottime_ns.is_multiple_of(TICK_NS)
                    || b.start_boottime_ns.is_multiple_of(TICK_NS))))
}

impl Table {
    fn find(&self, pid: u32) -> Option<Arc<Entry>> {
        self.nodes.get(&pid).map(|node| Arc::clone(&node.entry))
    }

    fn running(&self) -> impl Iterator<Item = ProcessKey> {
        let running = self.nodes.values().filter(|node| !node.ended);
        running.map(|node| node.entry.key)
    }

    /// The process of that identity; any of that pid when the start time is not known.
    fn by_key(&self, key: ProcessKey) -> Option<&Arc<Entry>> {
        let node = self.nodes.get(&key.pid)?;
        let known = key.start_boottime_ns == 0 || same(node.entry.key, key);
        known.then_some(&node.entry)
    }

    /// Whether a report about `key` is about an older process than the one known.
    fn late(&self, key: ProcessKey) -> bool {
        self.nodes.get(&key.pid).is_some_and(|node| {
            !same(node.entry.key, key) && node.entry.key.start_boottime_ns > key.start_boottime_ns
        })
    }

    fn found(&mut self, entry: Entry) {
        if self.by_key(entry.key).is_none() && !self.late(entry.key) {
            self.insert(entry);
        }
    }

    fn ran(&mut self, mut entry: Entry) {
        if self.late(entry.key) {
            return;
        }
        if entry.command.len() > COMMAND_MAX {
            let end = entry.command.floor_char_boundary(COMMAND_MAX);
            entry.command.truncate(end);
            entry.command.shrink_to_fit();
        }
        let before = self.nodes.get(&entry.key.pid);
        let before = before.filter(|node| same(node.entry.key, entry.key));
        let mut earlier = before.map_or_else(Vec::new, |node| {
            let mut earlier = node.earlier.clone();
            earlier.push(node.entry.name.clone());
            earlier
        });
        if earlier.len() > IMAGES_MAX {
            earlier.remove(0);
        }
        let pid = entry.key.pid;
        self.insert(entry);
        if let Some(node) = self.nodes.get_mut(&pid) {
            node.earlier = earlier;
        }
    }

    fn forked(&mut self, key: ProcessKey, parent: ProcessKey, uid: u32) {
        // Its execution may have been reported first.
        if self.late(key)
            || self
                .nodes
                .get(&key.pid)
                .is_some_and(|node| same(node.entry.key, key))
        {
            return;
        }
        let (name, command) = self
            .by_key(parent)
            .map(|entry| (entry.name.clone(), entry.command.clone()))
            .unwrap_or_default();
        self.insert(Entry {
            key,
            ppid: parent.pid,
            name,
            command,
            uid,
            parent,
        });
    }

    fn exited(&mut self, key: ProcessKey, now_ns: u64) {
        if let Some(node) = self.nodes.get_mut(&key.pid)
            && (key.start_boottime_ns == 0 || same(node.entry.key, key))
            && !node.ended
        {
            node.ended = true;
            let key = node.entry.key;
            self.ended.push_back((key, now_ns));
        }
        while let Some(&(oldest, at)) = self.ended.front() {
            if self.ended.len() <= ENDED_MAX && now_ns.saturating_sub(at) <= ENDED_KEPT_NS {
                break;
            }
            self.ended.pop_front();
            self.forget(oldest);
        }
    }

    fn forget(&mut self, ended: ProcessKey) {
        let gone = |node: &Node| node.ended && node.entry.key == ended;
        if self.nodes.get(&ended.pid).is_some_and(gone) {
            self.nodes.remove(&ended.pid);
        }
    }

    fn insert(&mut self, entry: Entry) {
        let pid = entry.key.pid;
        if self.nodes.len() >= RUNNING_MAX + ENDED_MAX && !self.nodes.contains_key(&pid) {
            match self.ended.pop_front() {
                Some((oldest, _)) => self.forget(oldest),
                // More processes than a kernel runs by default: the host is asked instead.
                None => return,
            }
        }
        let entry = Arc::new(entry);
        let node = Node {
            entry,
            earlier: Vec::new(),
            ended: false,
        };
        self.nodes.insert(pid, node);
    }

    fn ancestry(&self, parent: ProcessKey) -> Ancestry {
        let Some(nearest) = self.by_key(parent) else {
            return Ancestry::default();
        };
        let mut ancestors = Vec::new();
        let mut entry = nearest;
        // A loop is impossible in a kernel but not in a table that hears late: the bound ends it.
        for _ in 0..ANCESTORS_MAX {
            if !entry.name.is_empty() {
                ancestors.push(entry.name.clone());
            }
            let Some(next) = (entry.parent.pid != 0)
                .then(|| self.by_key(entry.parent))
                .flatten()
            else {
                break;
            };
            entry = next;
        }
        Ancestry {
            parent_name: base_name(&nearest.name).to_owned(),
            parent_command: Some(nearest.command.clone()).filter(|text| !text.is_empty()),
            ancestors,
        }
    }
}

#[cfg(test)]
mod tests;
