//! The processes of this host: who they are, and who started them.
//!
//! - **Guarantees**: bounded ([`RUNNING_MAX`], [`ENDED_MAX`]); reports may arrive late or out of
//!   order, an older one never overwrites a newer one.
//! - **Invariants**: at most one entry per pid, the newest process of that number; every lookup of
//!   a parent compares start times as well. Where a process comes from is noted when it is started
//!   and does not change: neither when its parent ends and init takes its place, nor when the table
//!   forgets the parent, nor when the parent executes something else.
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
    /// Pid of who started it.
    pub ppid: u32,
    /// Absolute path of the executable; empty for a kernel thread.
    pub name: String,
    /// Command line, arguments separated by spaces; at most 1 KiB of it.
    pub command: String,
    /// Real user id.
    pub uid: u32,
    /// Identity of who started it; the start time is 0 when only the pid is known.
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
    /// Images of the ancestors, nearest first: the parent, then who started it, whoever started those,
    /// as they were then. They differ from the parent's own where a process was given to another
    /// parent.
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

    /// A process executed an image; answers where it comes from. The parent of `entry` is the one it
    /// has now.
    pub(crate) fn executed(&self, entry: Entry) -> Ancestry {
        self.table().ran(entry)
    }

    /// What is known of that very process, and the base name of its parent's image.
    pub(crate) fn known(&self, key: ProcessKey) -> Option<(Arc<Entry>, String)> {
        let table = self.table();
        let entry = Arc::clone(table.by_key(key)?);
        let parent = table.by_key(entry.parent);
        let name = parent.map_or_else(String::new, |parent| base_name(&parent.name).to_owned());
        Some((entry, name))
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
    /// Images of those it comes from, nearest first; `None` of what was found running, which is
    /// looked up instead.
    above: Option<Arc<[Arc<str>]>>,
    /// The same of what it starts, made when it first starts something.
    below: Option<Arc<[Arc<str>]>>,
    /// It was seen when it was started, so `above` and the parent are certain.
    started: bool,
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
            self.insert(entry, None, false);
        }
    }

    fn ran(&mut self, mut entry: Entry) -> Ancestry {
        let parent = entry.parent;
        let known = self.nodes.get(&entry.key.pid);
        let known = known.filter(|node| same(node.entry.key, entry.key));
        let started = known.is_some_and(|node| node.started);
        let above = known.and_then(|node| {
            let above = node.above.clone()?;
            // Its parent may be another one by now.
            entry.parent = node.entry.parent;
            entry.ppid = node.entry.ppid;
            Some(above)
        });
        let above = above.unwrap_or_else(|| self.below(parent));
        let ancestry = self.ancestry(parent, entry.parent, &above);
        if self.late(entry.key) {
            return ancestry;
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
        self.insert(entry, Some(above), started);
        if let Some(node) = self.nodes.get_mut(&pid) {
            node.earlier = earlier;
        }
        ancestry
    }

    fn forked(&mut self, key: ProcessKey, parent: ProcessKey, uid: u32) {
        if self.late(key) {
            return;
        }
        let above = self.below(parent);
        // Its execution may have been reported first.
        if let Some(node) = self.nodes.get_mut(&key.pid)
            && same(node.entry.key, key)
        {
            if !node.started {
                node.started = true;
                node.above = Some(above);
                let entry = Arc::make_mut(&mut node.entry);
                entry.parent = parent;
                entry.ppid = parent.pid;
            }
            return;
        }
        let (name, command) = self
            .by_key(parent)
            .map(|entry| (entry.name.clone(), entry.command.clone()))
            .unwrap_or_default();
        let entry = Entry {
            key,
            ppid: parent.pid,
            name,
            command,
            uid,
            parent,
        };
        self.insert(entry, Some(above), true);
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

    fn insert(&mut self, entry: Entry, above: Option<Arc<[Arc<str>]>>, started: bool) {
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
            above,
            below: None,
            started,
        };
        self.nodes.insert(pid, node);
    }

    /// Images that are above whatever `parent` starts; one list for all of that.
    fn below(&mut self, parent: ProcessKey) -> Arc<[Arc<str>]> {
        let known = self.node(parent).and_then(|node| node.below.clone());
        known.unwrap_or_else(|| {
            let images = self.images(parent);
            if self.node(parent).is_some()
                && let Some(node) = self.nodes.get_mut(&parent.pid)
            {
                node.below = Some(Arc::clone(&images));
            }
            images
        })
    }

    /// The image of a process and those above it.
    fn images(&self, process: ProcessKey) -> Arc<[Arc<str>]> {
        let mut images = Vec::new();
        let mut next = self.node(process);
        // A loop is impossible in a kernel but not in a table that hears late: the bound ends it.
        for _ in 0..ANCESTORS_MAX {
            let Some(node) = next else { break };
            if !node.entry.name.is_empty() {
                images.push(Arc::from(node.entry.name.as_str()));
            }
            if let Some(above) = &node.above {
                let room = ANCESTORS_MAX.saturating_sub(images.len());
                images.extend(above.iter().take(room).cloned());
                break;
            }
            let parent = node.entry.parent;
            next = (parent.pid != 0).then(|| self.node(parent)).flatten();
        }
        images.into()
    }

    fn node(&self, key: ProcessKey) -> Option<&Node> {
        let node = self.nodes.get(&key.pid)?;
        let known = key.start_boottime_ns == 0 || same(node.entry.key, key);
        known.then_some(node)
    }

    /// What is told of a process with that parent, started by `starter` below the images `above`.
    fn ancestry(&self, parent: ProcessKey, starter: ProcessKey, above: &[Arc<str>]) -> Ancestry {
        let nearest = self.by_key(parent);
        let image = nearest.map(|parent| parent.name.as_str());
        let image = image.filter(|name| !name.is_empty());
        // The parent may have executed something since it started the process.
        let same_parent = parent.pid == starter.pid
            && started_together(parent.start_boottime_ns, starter.start_boottime_ns);
        let rest = match (image, same_parent) {
            (Some(_), true) => above.get(1..).unwrap_or_default(),
            _ => above,
        };
        let ancestors = image.into_iter().chain(rest.iter().map(|image| &**image));
        Ancestry {
            parent_name: nearest
                .map_or_else(String::new, |parent| base_name(&parent.name).to_owned()),
            parent_command: nearest
                .map(|parent| parent.command.clone())
                .filter(|text| !text.is_empty()),
            ancestors: ancestors.take(ANCESTORS_MAX).map(str::to_owned).collect(),
        }
    }
}

#[cfg(test)]
mod tests;
