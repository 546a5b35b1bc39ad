//! Stories and process tables as bytes, and back.

use std::{collections::HashMap, sync::Arc};

use yinglong_model::{AgentId, Timestamp, rule::Level};

use super::{
    Anchor, Kept, Plot, Stories,
    boundary::ShortName,
    tree::{Link, Node, Root, Tree},
};
use crate::{SnapshotError, frame, reference::Reference};

const KIND: [u8; 4] = *b"YLST";
const VERSION: u32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct StoriesMessage {
    #[prost(bytes = "vec", tag = "1")]
    position: Vec<u8>,
    /// Least recently touched first.
    #[prost(message, repeated, tag = "2")]
    hosts: Vec<HostMessage>,
    /// Least recently touched first.
    #[prost(message, repeated, tag = "3")]
    stories: Vec<StoryMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct HostMessage {
    #[prost(string, tag = "1")]
    agent: String,
    #[prost(message, repeated, tag = "2")]
    roots: Vec<RootMessage>,
    #[prost(message, repeated, tag = "3")]
    nodes: Vec<NodeMessage>,
    #[prost(message, repeated, tag = "4")]
    links: Vec<LinkMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RootMessage {
    #[prost(uint32, tag = "1")]
    pid: u32,
    #[prost(sint64, tag = "2")]
    start: i64,
    #[prost(bytes = "vec", tag = "3")]
    name: Vec<u8>,
    #[prost(sint64, tag = "4")]
    since: i64,
    #[prost(uint32, optional, tag = "5")]
    session: Option<u32>,
    #[prost(string, optional, tag = "6")]
    terminal: Option<String>,
    #[prost(string, optional, tag = "7")]
    user: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NodeMessage {
    #[prost(uint32, tag = "1")]
    pid: u32,
    #[prost(uint32, tag = "2")]
    ppid: u32,
    #[prost(sint64, tag = "3")]
    start: i64,
    #[prost(bytes = "vec", tag = "4")]
    name: Vec<u8>,
    #[prost(bool, tag = "5")]
    guessed: bool,
    /// Place among the roots of the host.
    #[prost(uint32, tag = "6")]
    root: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LinkMessage {
    #[prost(message, optional, tag = "1")]
    from: Option<PointMessage>,
    /// Place among the roots of the host.
    #[prost(uint32, tag = "2")]
    root: u32,
}

/// A link or an anchor: exactly one of them is set.
#[derive(Clone, PartialEq, prost::Message)]
struct PointMessage {
    #[prost(uint32, optional, tag = "1")]
    session: Option<u32>,
    #[prost(string, optional, tag = "2")]
    group: Option<String>,
    #[prost(string, optional, tag = "3")]
    terminal: Option<String>,
    #[prost(uint32, optional, tag = "4")]
    root_pid: Option<u32>,
    #[prost(sint64, tag = "5")]
    root_start: i64,
    #[prost(string, optional, tag = "6")]
    user: Option<String>,
    #[prost(bytes = "vec", optional, tag = "7")]
    name: Option<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoryMessage {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    agent: String,
    /// Root, when the story is about a tree.
    #[prost(uint32, optional, tag = "3")]
    pid: Option<u32>,
    /// Name of the root or of the user.
    #[prost(string, tag = "4")]
    name: String,
    #[prost(sint64, tag = "5")]
    first: i64,
    #[prost(sint64, tag = "6")]
    last: i64,
    #[prost(uint32, tag = "7")]
    level: u32,
    #[prost(uint64, tag = "8")]
    alerts: u64,
    #[prost(string, repeated, tag = "9")]
    techniques: Vec<String>,
    #[prost(string, tag = "10")]
    worst: String,
    #[prost(string, tag = "11")]
    worst_zh: String,
    #[prost(string, repeated, tag = "12")]
    recent: Vec<String>,
    #[prost(message, repeated, tag = "13")]
    anchors: Vec<PointMessage>,
}

impl Stories {
    /// All that is held. `position` is handed back by [`Stories::restore`]: the caller's place in
    /// its log after the last process and alert that were told.
    ///
    /// The bytes are the same whenever the same was told. Costs a pass over everything held.
    pub fn snapshot(&self, position: &[u8]) -> Vec<u8> {
        let message = StoriesMessage {
            position: position.to_vec(),
            hosts: self.hosts.iter().rev().map(write_host).collect(),
            stories: self
                .stories
                .iter()
                .rev()
                .map(|(_, (kept, anchors))| write_story(kept, anchors))
                .collect(),
        };
        frame::seal(KIND, VERSION, &message)
    }

    /// Takes a snapshot over in place of what it holds, and returns the position of the snapshot.
    /// What the limits have no room for is forgotten and counted.
    ///
    /// # Errors
    /// The bytes are no whole snapshot of this version. Everything is as it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<Vec<u8>, SnapshotError> {
        let message: StoriesMessage = frame::open(KIND, VERSION, bytes)?;
        let mut fresh = Self::new(self.limits.clone());
        fresh.counters = self.counters;
        for host in &message.hosts {
            let (agent, tree) = read_host(host).ok_or(SnapshotError::Damaged)?;
            fresh.processes += tree.nodes.len();
            if let Some(double) = fresh.hosts.put(agent.clone(), tree) {
                fresh.processes = fresh.processes.saturating_sub(double.nodes.len());
            }
            fresh.with_tree(&agent, |_| ());
        }
        for story in &message.stories {
            let (kept, anchors) = read_story(story).ok_or(SnapshotError::Damaged)?;
            fresh.next += 1;
            let agent = kept.agent.clone();
            let last = kept.last;
            fresh.stories.put(fresh.next, (kept, Vec::new()));
            fresh.bind(&agent, fresh.next, anchors);
            while fresh.stories.len() > fresh.limits.stories.max(1) {
                fresh.forget_story(last);
            }
        }
        *self = fresh;
        Ok(message.position)
    }
}

fn write_host((agent, tree): (&AgentId, &Tree)) -> HostMessage {
    let mut roots = Vec::new();
    let mut places: HashMap<*const Root, u32> = HashMap::new();
    let mut place = |root: &Arc<Root>| {
        *places.entry(Arc::as_ptr(root)).or_insert_with(|| {
            roots.push(RootMessage {
                pid: root.pid,
                start: root.start,
                name: root.name.bytes().to_vec(),
                since: root.since.nanos(),
                session: root.session,
                terminal: root.terminal.as_deref().map(str::to_owned),
                user: root.user.as_deref().map(str::to_owned),
            });
            // Fewer than there are processes and links.
            u32::try_from(roots.len() - 1).unwrap_or(u32::MAX)
        })
    };
    let nodes = tree.nodes.iter().rev();
    let nodes = nodes
        .map(|(pid, node)| NodeMessage {
            pid: *pid,
            ppid: node.ppid,
            start: node.start,
            name: node.name.bytes().to_vec(),
            guessed: node.guessed,
            root: place(&node.root),
        })
        .collect();
    let links = tree.links.iter().rev();
    let links = links
        .map(|(link, root)| LinkMessage {
            from: Some(write_link(link)),
            root: place(root),
        })
        .collect();
    HostMessage {
        agent: agent.as_str().to_owned(),
        roots,
        nodes,
        links,
    }
}

fn read_host(message: &HostMessage) -> Option<(AgentId, Tree)> {
    let agent = message.agent.parse().ok()?;
    let roots: Vec<Arc<Root>> = message
        .roots
        .iter()
        .map(|root| {
            Some(Arc::new(Root {
                pid: root.pid,
                start: root.start,
                name: ShortName::from_bytes(&root.name)?,
                since: Timestamp::from_nanos(root.since),
                session: root.session,
                terminal: root.terminal.as_deref().map(Into::into),
                user: root.user.as_deref().map(Into::into),
            }))
        })
        .collect::<Option<_>>()?;
    let root = |place: u32| roots.get(place as usize).map(Arc::clone);
    let mut tree = Tree::new();
    for node in &message.nodes {
        let read = Node {
            ppid: node.ppid,
            start: node.start,
            name: ShortName::from_bytes(&node.name)?,
            guessed: node.guessed,
            root: root(node.root)?,
        };
        tree.nodes.put(node.pid, read);
    }
    for link in &message.links {
        let from = read_link(link.from.as_ref()?)?;
        tree.links.put(from, root(link.root)?);
    }
    Some((agent, tree))
}

fn write_link(link: &Link) -> PointMessage {
    let mut point = PointMessage::default();
    match link {
        Link::Session(session) => point.session = Some(*session),
        Link::Group(group) => point.group = Some(group.to_string()),
        Link::Terminal(terminal) => point.terminal = Some(terminal.to_string()),
        Link::User(user) => point.user = Some(user.to_string()),
        Link::Name(name) => point.name = Some(name.bytes().to_vec()),
        Link::Root(pid, start) => {
            point.root_pid = Some(*pid);
            point.root_start = *start;
        }
    }
    point
}

fn read_link(point: &PointMessage) -> Option<Link> {
    match point {
        PointMessage {
            session: Some(session),
            ..
        } => Some(Link::Session(*session)),
        PointMessage {
            group: Some(group), ..
        } => Some(Link::Group(group.as_str().into())),
        PointMessage {
            terminal: Some(terminal),
            ..
        } => Some(Link::Terminal(terminal.as_str().into())),
        PointMessage {
            user: Some(user), ..
        } => Some(Link::User(user.as_str().into())),
        PointMessage {
            name: Some(name), ..
        } => Some(Link::Name(ShortName::from_bytes(name)?)),
        point => Some(Link::Root(point.root_pid?, point.root_start)),
    }
}

fn write_story(kept: &Kept, anchors: &[Anchor]) -> StoryMessage {
    let (pid, name) = match &kept.plot {
        Plot::Tree { pid, name } => (Some(*pid), name.clone()),
        Plot::Login { user } => (None, user.clone()),
        Plot::Alone => (None, String::new()),
    };
    StoryMessage {
        id: kept.id.to_vec(),
        agent: kept.agent.as_str().to_owned(),
        pid,
        name,
        first: kept.first.nanos(),
        last: kept.last.nanos(),
        level: u32::from(kept.level as u8),
        alerts: kept.alerts,
        techniques: kept.techniques.clone(),
        worst: kept.worst.0.clone(),
        worst_zh: kept.worst.1.clone(),
        recent: kept.recent.iter().map(ToString::to_string).collect(),
        anchors: anchors
            .iter()
            .map(|anchor| {
                write_link(&match anchor.clone() {
                    Anchor::Root(pid, start) => Link::Root(pid, start),
                    Anchor::Session(session) => Link::Session(session),
                    Anchor::Terminal(terminal) => Link::Terminal(terminal),
                    Anchor::User(user) => Link::User(user),
                })
            })
            .collect(),
    }
}

fn read_story(message: &StoryMessage) -> Option<(Kept, Vec<Anchor>)> {
    let name = message.name.clone();
    let kept = Kept {
        id: message.id.as_slice().try_into().ok()?,
        agent: message.agent.parse().ok()?,
        plot: match message.pid {
            Some(pid) => Plot::Tree { pid, name },
            None => Plot::Login { user: name },
        },
        first: Timestamp::from_nanos(message.first),
        last: Timestamp::from_nanos(message.last),
        level: Level::from_code(u8::try_from(message.level).ok()?)?,
        alerts: message.alerts,
        techniques: message.techniques.clone(),
        worst: (message.worst.clone(), message.worst_zh.clone()),
        recent: message
            .recent
            .iter()
            .map(|text| Reference::parse(text))
            .collect(),
    };
    let anchors = message.anchors.iter().map(|point| match read_link(point)? {
        Link::Root(pid, start) => Some(Anchor::Root(pid, start)),
        Link::Session(session) => Some(Anchor::Session(session)),
        Link::Terminal(terminal) => Some(Anchor::Terminal(terminal)),
        Link::User(user) => Some(Anchor::User(user)),
        Link::Group(_) | Link::Name(_) => None,
    });
    Some((kept, anchors.collect::<Option<_>>()?))
}
