//! Stories: alerts that belong together, by who did it.
//!
//! Two alerts of one host are one story when their processes have the same root and the later one
//! comes within [`StoryLimits::span`] of the story. The root is the highest ancestor below what
//! starts unrelated things: the login shell below `sshd`, the web server below `systemd`, the
//! container below its shim. Parents nobody saw are made up for by login session, container, control
//! group and the names of ancestors, in that order. An alert about a file or a connection belongs to
//! the process that did it. A login belongs with the session that begins at the same time for the
//! same user, or on its terminal afterwards. An alert nobody did is a story alone.
//!
//! What this cannot know: processes from before the server first heard of the host are roots by
//! their name and number only; without login sessions (audit) and control groups (systemd, a
//! container runtime) two services of one name are one tree where parents were not seen; all windows
//! of one login session are one story; two logins of one user within
//! [`StoryLimits::login_slack`] are one.

mod boundary;
mod note;
mod snapshot;
mod story;
mod tree;

use std::{
    collections::{HashMap, hash_map::RandomState},
    sync::Arc,
    time::Duration,
};

use lru::LruCache;
use sha2::{Digest, Sha256};
use yinglong_model::{AgentId, Timestamp};

pub use note::{AlertNote, ProcessNote, Subject};
pub use story::Story;
use story::{Kept, Plot};
use tree::{Link, Root, Tree, terminal};

/// Bounds of [`Stories`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoryLimits {
    /// How long after its last alert (or before its first) an alert still joins a story.
    pub span: Duration,
    /// How far a login and the beginning of its session may be apart: they come from two sources.
    pub login_slack: Duration,
    /// Hosts whose processes are known.
    pub hosts: usize,
    /// Processes known per host.
    pub processes_per_host: usize,
    /// Processes known of all hosts together. About 150 bytes each.
    pub processes: usize,
    /// Sessions, groups and terminals known per host.
    pub links_per_host: usize,
    /// Stories that alerts can join.
    pub stories: usize,
}

impl Default for StoryLimits {
    fn default() -> Self {
        Self {
            span: Duration::from_secs(30 * 60),
            login_slack: Duration::from_secs(10),
            hosts: 20_000,
            processes_per_host: 4096,
            processes: 500_000,
            links_per_host: 1024,
            stories: 20_000,
        }
    }
}

/// What happened in [`Stories`] since they were made, and what they hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StoryCounters {
    /// Executions noted.
    pub noted: u64,
    /// Alerts that began a story others can join.
    pub begun: u64,
    /// Alerts that joined a story.
    pub joined: u64,
    /// Alerts that nobody did, each a story alone.
    pub alone: u64,
    /// Alerts told before.
    pub duplicates: u64,
    /// Processes forgotten since their host had too many.
    pub evicted_processes: u64,
    /// Sessions, groups and terminals forgotten since their host had too many.
    pub evicted_links: u64,
    /// Hosts forgotten since there were too many, or too many processes.
    pub evicted_hosts: u64,
    /// Stories that were over and made room.
    pub ended: u64,
    /// Stories forgotten although alerts could still have joined.
    pub evicted_stories: u64,
    /// Hosts held now.
    pub hosts: u64,
    /// Processes held now.
    pub processes: u64,
    /// Stories held now.
    pub stories: u64,
}

/// Where an alert went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// The story with the alert in it.
    pub story: Story,
    /// The alert began it.
    pub begun: bool,
}

/// What leads from an alert to a story of its host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Anchor {
    Root(u32, i64),
    Session(u32),
    Terminal(Box<str>),
    User(Box<str>),
}

/// Groups alerts into stories.
#[derive(Debug)]
pub struct Stories {
    limits: StoryLimits,
    counters: StoryCounters,
    hosts: LruCache<AgentId, Tree, RandomState>,
    processes: usize,
    stories: LruCache<u64, (Kept, Vec<Anchor>), RandomState>,
    anchors: HashMap<(AgentId, Anchor), u64>,
    next: u64,
}

impl Stories {
    /// Without anything known.
    pub fn new(limits: StoryLimits) -> Self {
        Self {
            limits,
            counters: StoryCounters::default(),
            hosts: LruCache::unbounded_with_hasher(RandomState::new()),
            processes: 0,
            stories: LruCache::unbounded_with_hasher(RandomState::new()),
            anchors: HashMap::new(),
            next: 0,
        }
    }

    /// What happened so far, and what is held.
    pub fn counters(&self) -> StoryCounters {
        StoryCounters {
            hosts: self.hosts.len() as u64,
            processes: self.processes as u64,
            stories: self.stories.len() as u64,
            ..self.counters
        }
    }

    /// Notes an execution. To be called for every process event, before its alerts are placed.
    pub fn note_process(&mut self, agent: &AgentId, note: &ProcessNote<'_>) {
        self.counters.noted += 1;
        self.with_tree(agent, |tree| tree.note(note));
    }

    /// Forgets who ran on a host, and what alerts of before can join. To be called when it has
    /// booted: numbers of processes and sessions begin anew.
    pub fn rebooted(&mut self, agent: &AgentId) {
        if let Some(tree) = self.hosts.pop(agent) {
            self.processes = self.processes.saturating_sub(tree.nodes.len());
        }
        self.anchors.retain(|(host, _), _| host != agent);
        for (_, (kept, anchors)) in &mut self.stories {
            if kept.agent == *agent {
                anchors.clear();
            }
        }
    }

    /// Gives an alert its story.
    pub fn place(&mut self, alert: &AlertNote<'_>) -> Placed {
        let slack = self.limits.login_slack;
        let mut anchors = Vec::new();
        let plot = match alert.subject {
            Subject::Process(note) => {
                self.counters.noted += 1;
                let found = self.with_tree(alert.agent, |tree| {
                    tree.note(&note);
                    tree.noted(note.pid).map(|root| (tree.name_of(&root), root))
                });
                found.map(|found| self.below(alert, found, &mut anchors))
            }
            Subject::Actor { pid, name } => {
                let found = self.with_tree(alert.agent, |tree| {
                    let root = tree.actor(pid, name, alert.time);
                    (tree.name_of(&root), root)
                });
                Some(self.below(alert, found, &mut anchors))
            }
            Subject::Login { session, tty, user } => {
                let terminal = terminal(tty, user);
                let user: Box<str> = user.into();
                let links = [
                    session.map(Link::Session),
                    terminal.clone().map(Link::Terminal),
                    Some(Link::User(user.clone())),
                ];
                let (begun, soon) = (alert.time.minus(slack), alert.time.plus(slack));
                let found = self.with_tree(alert.agent, |tree| {
                    let roots = links.iter().flatten().filter_map(|link| {
                        let root = tree.linked(link)?;
                        // A terminal is used again: the session of before is not meant.
                        let meant = match link {
                            Link::User(_) => root.since >= begun && root.since <= soon,
                            _ => root.since >= begun,
                        };
                        meant.then_some(root)
                    });
                    let root = roots.into_iter().next()?;
                    Some((tree.name_of(&root), root))
                });
                anchors.extend(session.map(Anchor::Session));
                anchors.extend(terminal.map(Anchor::Terminal));
                anchors.push(Anchor::User(user.clone()));
                match found {
                    Some(found) => {
                        anchors.clear();
                        Some(self.below(alert, found, &mut anchors))
                    }
                    None => Some(Plot::Login {
                        user: story::shortened(&user),
                    }),
                }
            }
            Subject::Nobody => None,
        };
        match plot {
            Some(plot) => self.join_or_begin(alert, plot, anchors),
            None => {
                self.counters.alone += 1;
                let mut kept = Kept::begin(identity(alert), Plot::Alone, alert);
                kept.add(alert);
                Placed {
                    story: kept.told(),
                    begun: true,
                }
            }
        }
    }

    /// Anchors of a tree. A login counts if it came about when the tree began.
    fn below(
        &self,
        alert: &AlertNote<'_>,
        (name, root): (String, Arc<Root>),
        anchors: &mut Vec<Anchor>,
    ) -> Plot {
        anchors.push(Anchor::Root(root.pid, root.start));
        let session = root.session.map(Anchor::Session);
        let terminal = root.terminal.clone().map(Anchor::Terminal);
        let user = root.user.clone().map(Anchor::User);
        for anchor in session.into_iter().chain(terminal).chain(user) {
            let key = (alert.agent.clone(), anchor);
            let login = self.anchors.get(&key).and_then(|n| self.stories.peek(n));
            let slack = self.limits.login_slack;
            let within = match key.1 {
                Anchor::User(_) => slack,
                _ => self.limits.span,
            };
            let about_then = login.is_some_and(|(kept, _)| {
                root.since >= kept.first.minus(slack) && root.since <= kept.first.plus(within)
            });
            if about_then {
                anchors.push(key.1);
            }
        }
        Plot::Tree {
            pid: root.pid,
            name: story::shortened(&name),
        }
    }

    fn join_or_begin(&mut self, alert: &AlertNote<'_>, plot: Plot, anchors: Vec<Anchor>) -> Placed {
        let (span, slack) = (self.limits.span, self.limits.login_slack);
        let joins = anchors.iter().find_map(|anchor| {
            let number = self.anchors.get(&(alert.agent.clone(), anchor.clone()))?;
            let (kept, _) = self.stories.peek(number)?;
            // One user logs in time and again; a session that belongs was found by its time.
            let login = matches!((anchor, &plot), (Anchor::User(_), Plot::Login { .. }));
            let span = if login { slack } else { span };
            let near = alert.time <= kept.last.plus(span) && alert.time >= kept.first.minus(span);
            near.then_some(*number)
        });
        let begun = joins.is_none();
        let number = joins.unwrap_or_else(|| {
            self.next += 1;
            let kept = Kept::begin(identity(alert), plot.clone(), alert);
            self.stories.put(self.next, (kept, Vec::new()));
            self.next
        });
        self.bind(alert.agent, number, anchors);
        let mut placed = None;
        if let Some((kept, _)) = self.stories.get_mut(&number) {
            let tree = matches!(plot, Plot::Tree { .. });
            if tree && (begun || !matches!(kept.plot, Plot::Tree { .. })) {
                kept.plot = plot;
            }
            let added = kept.add(alert);
            self.counters.duplicates += u64::from(!added);
            self.counters.begun += u64::from(begun && added);
            self.counters.joined += u64::from(!begun && added);
            placed = Some(kept.told());
        }
        while self.stories.len() > self.limits.stories.max(1) {
            self.forget_story(alert.time);
        }
        let story =
            placed.unwrap_or_else(|| Kept::begin(identity(alert), Plot::Alone, alert).told());
        Placed { story, begun }
    }

    fn bind(&mut self, agent: &AgentId, number: u64, anchors: Vec<Anchor>) {
        for anchor in anchors {
            let before = self.anchors.insert((agent.clone(), anchor.clone()), number);
            if before == Some(number) {
                continue;
            }
            if let Some((_, held)) = before.and_then(|before| self.stories.peek_mut(&before)) {
                held.retain(|other| *other != anchor);
            }
            if let Some((_, held)) = self.stories.peek_mut(&number) {
                held.push(anchor);
            }
        }
    }

    fn forget_story(&mut self, now: Timestamp) {
        let Some((_, (kept, anchors))) = self.stories.pop_lru() else {
            return;
        };
        if kept.last.plus(self.limits.span) < now {
            self.counters.ended += 1;
        } else {
            self.counters.evicted_stories += 1;
        }
        for anchor in anchors {
            self.anchors.remove(&(kept.agent.clone(), anchor));
        }
    }

    /// Does something with the processes of a host, and keeps all within the limits.
    fn with_tree<T>(&mut self, agent: &AgentId, work: impl FnOnce(&mut Tree) -> T) -> T {
        let share = self.limits.processes / self.hosts.len().max(1);
        let most = self.limits.processes_per_host.min(share.max(64));
        let tree = self.hosts.get_or_insert_mut_ref(agent, Tree::new);
        let before = tree.nodes.len();
        let done = work(tree);
        let merged = std::mem::take(&mut tree.merged);
        while tree.nodes.len() > most && tree.nodes.pop_lru().is_some() {
            self.counters.evicted_processes += 1;
        }
        while tree.links.len() > self.limits.links_per_host && tree.links.pop_lru().is_some() {
            self.counters.evicted_links += 1;
        }
        self.processes = (self.processes + tree.nodes.len()).saturating_sub(before);
        let too_many = |stories: &Self| {
            stories.processes > stories.limits.processes
                || stories.hosts.len() > stories.limits.hosts.max(1)
        };
        while self.hosts.len() > 1 && too_many(self) {
            if let Some((_, tree)) = self.hosts.pop_lru() {
                self.processes = self.processes.saturating_sub(tree.nodes.len());
                self.counters.evicted_hosts += 1;
            }
        }
        for (guess, root) in merged {
            self.merge(agent, guess, root);
        }
        done
    }

    /// What was told of a guessed root is told of its real one from now on.
    fn merge(&mut self, agent: &AgentId, guess: (u32, i64), root: (u32, i64)) {
        let at = |(pid, start)| (agent.clone(), Anchor::Root(pid, start));
        if let (Some(story), None) = (self.anchors.get(&at(guess)), self.anchors.get(&at(root))) {
            self.bind(agent, *story, vec![Anchor::Root(root.0, root.1)]);
        }
    }
}

/// Hash of the host and the first alert.
fn identity(alert: &AlertNote<'_>) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update(alert.agent.as_str().as_bytes());
    hash.update(alert.reference.as_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    id
}
