//! The processes of one host as far as they were seen, each with the root of its tree.
//!
//! A process takes over the root of its parent when it is noted, so ancestors may be forgotten
//! without tearing the tree. Many parents were never seen: subshells fork without executing
//! anything, daemons detach from theirs, and some ran before anybody looked. So a process belongs
//!
//! 1. to its login session, if somebody of it was seen: nothing below can leave it;
//! 2. else to its parent, if that is known and not a boundary (`sshd`, `systemd`, `cron`, a shim ...);
//! 3. else to its container, or the control group of its service or login session: a daemon that
//!    detached itself has `init` as its parent, but stays in its group;
//! 4. else, when its parent is no boundary, to the tree last seen whose root has the name of the
//!    highest ancestor below a boundary;
//! 5. else to its parent as the event names it, of which nothing more is known;
//! 6. else, below a boundary, to itself: it is a root.

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
    /// User, if it began a login session.
    pub(crate) user: Option<Box<str>>,
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
    /// User whose login session began last.
    User(Box<str>),
    /// Name of the root.
    Name(ShortName),
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
        if fresh && !is_boundary(note.pid, note.name) {
            self.link(note, &root);
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

    /// Root of a process, and whether it is one nothing leads to yet.
    fn root_of(
        &mut self,
        note: &ProcessNote<'_>,
        start: i64,
        name: ShortName,
    ) -> (Arc<Root>, bool) {
        let boundary = is_boundary(note.ppid, note.parent);
        if let Some(session) = note.session
            && let Some(root) = self.links.get(&Link::Session(session))
        {
            let mut root = Arc::clone(root);
            if boundary && root.name != name {
                // What runs while somebody logs in comes before the shell people know it by.
                root = Arc::new(Root {
                    name,
                    ..(*root).clone()
                });
                self.links.put(Link::Session(session), Arc::clone(&root));
            }
            return (root, false);
        }
        let parent = ShortName::of(note.parent);
        let mut is_root = boundary;
        if !boundary && let Some(node) = self.nodes.get(&note.ppid) {
            let named = parent.is_empty() || node.name.is_empty() || node.name == parent;
            let older = node.start == 0 || start == 0 || node.start <= start;
            // A program nobody knows to be a door may let people in as well.
            let entered = note.session.is_some() && node.root.session != note.session;
            if named && older && (!entered || node.guessed) {
                return (Arc::clone(&node.root), entered);
            }
            is_root |= named && older;
        }
        if let Some(group) = note.group.and_then(own_group)
            && let Some(root) = self.links.get(&Link::Group(group.into()))
        {
            return (Arc::clone(root), false);
        }
        let top = (!is_root).then(|| highest(note.ancestors)).flatten();
        if let Some(top) = top
            && let Some(root) = self.links.get(&Link::Name(top))
            && (note.session.is_none() || root.session.is_none())
        {
            return (Arc::clone(root), false);
        }
        let user = note.user.filter(|_| note.session.is_some());
        let mut root = Root {
            pid: note.pid,
            start,
            name,
            since: note.time,
            session: note.session,
            terminal: terminal(note.tty, note.user.unwrap_or_default()),
            user: user.map(Into::into),
        };
        if !is_root {
            root.pid = note.ppid;
            root.start = 0;
            root.name = top.unwrap_or(parent);
        }
        let root = Arc::new(root);
        if !is_root {
            self.guess(note.ppid, parent, &root);
        }
        (root, true)
    }

    fn guess(&mut self, pid: u32, name: ShortName, root: &Arc<Root>) {
        let node = Node {
            ppid: 0,
            start: 0,
            name,
            guessed: true,
            root: Arc::clone(root),
        };
        self.nodes.put(pid, node);
    }

    fn link(&mut self, note: &ProcessNote<'_>, root: &Arc<Root>) {
        let links = [
            note.session.map(Link::Session),
            note.group
                .and_then(own_group)
                .map(|group| Link::Group(group.into())),
            root.terminal.clone().map(Link::Terminal),
            root.user.clone().map(Link::User),
            (!root.name.is_empty()).then_some(Link::Name(root.name)),
        ];
        for link in links.into_iter().flatten() {
            self.links.put(link, Arc::clone(root));
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
            user: None,
        });
        self.guess(pid, name, &root);
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

    /// Name the root has now: it may have executed another program since, and a session is known
    /// by what ran in it last of what its door started.
    pub(crate) fn name_of(&self, root: &Root) -> String {
        let session = root.session.map(Link::Session);
        if let Some(root) = session.and_then(|link| self.links.peek(&link)) {
            return root.name.text();
        }
        let node = self.nodes.peek(&root.pid);
        let node = node.filter(|node| node.start == root.start && !node.guessed);
        match node {
            Some(node) if !node.name.is_empty() => node.name.text(),
            _ => root.name.text(),
        }
    }
}

/// Name of the highest ancestor below a boundary; `None` when the list does not reach one.
fn highest(ancestors: &[String]) -> Option<ShortName> {
    // No process has this number.
    let end = ancestors
        .iter()
        .position(|path| is_boundary(u32::MAX, path))?;
    ancestors
        .get(end.checked_sub(1)?)
        .map(|path| ShortName::of(path))
}

/// A terminal that belongs to one session at a time, with its user.
pub(crate) fn terminal(tty: Option<&str>, user: &str) -> Option<Box<str>> {
    let tty = tty?;
    let tty = tty.strip_prefix("/dev/").unwrap_or(tty);
    let own = tty.starts_with("pts/") || (tty.starts_with("tty") && tty.len() > 3);
    own.then(|| format!("{tty} {user}").into())
}
