//! The processes of one host as far as they were seen, each with the root of its tree.
//!
//! A process takes over the root of its parent when it is noted, so ancestors may be forgotten
//! without tearing the tree. What is not known of a parent is made up for by what it has in common
//! with others:
//!
//! 1. the parent, if it is known and not a boundary (`sshd`, `systemd`, `cron`, a shim ...);
//! 2. else the session, if the process did not begin it: subshells fork without executing, so their
//!    children have a parent nobody saw, but the session of the shell;
//! 3. else the container, or the control group of one service or login session: a daemon that
//!    detached itself has `init` as its parent, but stays in its group;
//! 4. else the parent as it is named in the event, of which nothing else is known;
//! 5. else, below a boundary, the process is a root.

use std::{collections::hash_map::RandomState, sync::Arc};

use lru::LruCache;
use rustc_hash::FxBuildHasher;
use yinglong_model::Timestamp;

use super::{
    ProcessNote,
    boundary::{ShortName, is_boundary, own_group},
};

/// Root of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) pid: u32,
    /// When it started, in nanoseconds since 1970; 0 when unknown.
    pub(crate) start: i64,
    pub(crate) name: ShortName,
    /// When the first process of the tree was executed.
    pub(crate) since: Timestamp,
    pub(crate) session: Option<u32>,
    pub(crate) terminal: Option<Box<str>>,
}

impl Root {
    pub(crate) fn key(&self) -> (u32, i64) {
        (self.pid, self.start)
    }
}

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) ppid: u32,
    /// In nanoseconds since 1970; 0 when unknown.
    pub(crate) start: i64,
    pub(crate) name: ShortName,
    /// Only named by others so far.
    pub(crate) guessed: bool,
    pub(crate) root: Arc<Root>,
}

/// What leads to a root besides ancestry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Link {
    Session(u32),
    /// Container or control group.
    Group(Box<str>),
    /// Terminal and user.
    Terminal(Box<str>),
    /// Root that was guessed and turned out to be part of another tree.
    Root(u32, i64),
}

/// Processes of one host.
#[derive(Debug)]
pub(crate) struct Tree {
    /// By process id, which the kernel gives out: a fast hash will do.
    pub(crate) nodes: LruCache<u32, Node, FxBuildHasher>,
    pub(crate) links: LruCache<Link, Arc<Root>, RandomState>,
    /// Guessed roots that turned out to be part of another tree, since this was last emptied.
    pub(crate) merged: Vec<((u32, i64), (u32, i64))>,
}

impl Tree {
    pub(crate) fn new() -> Self {
        Self {
            nodes: LruCache::unbounded_with_hasher(FxBuildHasher),
            links: LruCache::unbounded_with_hasher(RandomState::new()),
            merged: Vec::new(),
        }
    }

    /// Notes an execution.
    pub(crate) fn note(&mut self, note: &ProcessNote<'_>) {
        let start = note.start_time.map_or(0, Timestamp::nanos);
        let name = ShortName::of(note.name);
        let mut guess = None;
        if let Some(node) = self.nodes.get_mut(&note.pid) {
            let same = if node.start != 0 && start != 0 {
                node.start == start
            } else {
                node.guessed || node.ppid == note.ppid
            };
            if same && !node.guessed {
                node.name = name;
                return;
            }
            guess = same.then(|| Arc::clone(&node.root));
        }
        let (root, fresh) = self.root_of(note, start, name);
        let leads = note.session == Some(note.pid);
        if (fresh || leads) && !is_boundary(note.pid, note.name) {
            self.link(note, &root, fresh);
        }
        if let Some(guess) = guess.filter(|guess| guess.key() != root.key()) {
            self.links
                .put(Link::Root(guess.pid, guess.start), Arc::clone(&root));
            self.merged.push((guess.key(), root.key()));
        }
        let node = Node {
            ppid: note.ppid,
            start,
            name,
            guessed: false,
            root,
        };
        self.nodes.put(note.pid, node);
    }

    /// Root of a process, and whether it is one nobody knew before.
    fn root_of(
        &mut self,
        note: &ProcessNote<'_>,
        start: i64,
        name: ShortName,
    ) -> (Arc<Root>, bool) {
        let boundary = is_boundary(note.ppid, note.parent);
        let parent = ShortName::of(note.parent);
        if !boundary && let Some(node) = self.nodes.get(&note.ppid) {
            let named = parent.is_empty() || node.name.is_empty() || node.name == parent;
            let older = node.start == 0 || start == 0 || node.start <= start;
            if named && older {
                return (Arc::clone(&node.root), false);
            }
        }
        if let Some(session) = note.session.filter(|s| *s != 0 && *s != note.pid)
            && let Some(root) = self.links.get(&Link::Session(session))
        {
            return (Arc::clone(root), false);
        }
        if let Some(group) = note.group.and_then(own_group)
            && let Some(root) = self.links.get(&Link::Group(group.into()))
        {
            return (Arc::clone(root), false);
        }
        let mut root = Root {
            pid: note.pid,
            start,
            name,
            since: note.time,
            session: note.session.filter(|session| *session != 0),
            terminal: terminal(note.tty, note.user.unwrap_or_default()),
        };
        if !boundary {
            root.pid = note.ppid;
            root.start = 0;
            root.name = parent;
        }
        let root = Arc::new(root);
        if !boundary {
            self.guess(note.ppid, &root);
        }
        (root, true)
    }

    fn guess(&mut self, pid: u32, root: &Arc<Root>) {
        let node = Node {
            ppid: 0,
            start: 0,
            name: root.name,
            guessed: true,
            root: Arc::clone(root),
        };
        self.nodes.put(pid, node);
    }

    fn link(&mut self, note: &ProcessNote<'_>, root: &Arc<Root>, fresh: bool) {
        if let Some(session) = note.session.filter(|session| *session != 0) {
            self.links.put(Link::Session(session), Arc::clone(root));
        }
        if !fresh {
            return;
        }
        if let Some(group) = note.group.and_then(own_group) {
            self.links.put(Link::Group(group.into()), Arc::clone(root));
        }
        if let Some(terminal) = &root.terminal {
            self.links
                .put(Link::Terminal(terminal.clone()), Arc::clone(root));
        }
    }

    /// Root of a process that did something. One nobody saw becomes a root of its own.
    pub(crate) fn actor(&mut self, pid: u32, name: &str, time: Timestamp) -> Arc<Root> {
        let name = ShortName::of(name);
        if let Some(node) = self.nodes.get(&pid)
            && (name.is_empty() || node.name.is_empty() || node.name == name)
        {
            let root = Arc::clone(&node.root);
            return self.settled(root);
        }
        let root = Arc::new(Root {
            pid,
            start: 0,
            name,
            since: time,
            session: None,
            terminal: None,
        });
        self.guess(pid, &root);
        root
    }

    /// Root of a process that was just noted.
    pub(crate) fn noted(&mut self, pid: u32) -> Option<Arc<Root>> {
        let root = Arc::clone(&self.nodes.get(&pid)?.root);
        Some(self.settled(root))
    }

    /// Root something else leads to.
    pub(crate) fn linked(&mut self, link: &Link) -> Option<Arc<Root>> {
        let root = Arc::clone(self.links.get(link)?);
        Some(self.settled(root))
    }

    /// Where a guessed root belongs by now.
    fn settled(&mut self, mut root: Arc<Root>) -> Arc<Root> {
        // A guess leads to a guess at most a few times; a circle must not hold us up.
        for _ in 0..4 {
            match self.links.get(&Link::Root(root.pid, root.start)) {
                Some(further) => root = Arc::clone(further),
                None => break,
            }
        }
        root
    }

    /// Name the root has now: it may have executed another program since.
    pub(crate) fn name_of(&self, root: &Root) -> String {
        let node = self.nodes.peek(&root.pid);
        let node = node.filter(|node| node.start == root.start || root.start == 0);
        match node {
            Some(node) if !node.name.is_empty() => node.name.text(),
            _ => root.name.text(),
        }
    }
}

/// A terminal that belongs to one session at a time, with its user.
pub(crate) fn terminal(tty: Option<&str>, user: &str) -> Option<Box<str>> {
    let tty = tty?;
    let tty = tty.strip_prefix("/dev/").unwrap_or(tty);
    let own = tty.starts_with("pts/") || (tty.starts_with("tty") && tty.len() > 3);
    own.then(|| format!("{tty} {user}").into())
}
