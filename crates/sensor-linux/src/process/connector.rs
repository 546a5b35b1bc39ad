//! Executions from the kernel's process connector: the fallback where BPF cannot be used.
//!
//! It tells pids only, the rest is read from `/proc`; a process that has ended by then is reported
//! with what its parent tells. What the socket's queue loses is estimated.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use yinglong_model::{DropReason, Observation, ProcessKey, event::Process, host::SensorStatus};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

use super::{
    Options,
    clock::since_boot_ns,
    convert::Converter,
    gap,
    netlink::{Gaps, Kind, Message, Received, Socket},
    snapshot,
};
use crate::{
    accounts::Accounts,
    tree::{Tree, read_stat},
};

/// Name in the status.
pub(super) const SOURCE: &str = "proc-connector";

/// A storm of 3,000 processes fits; the default of the system loses most of it.
const BUFFER_BYTES: usize = 8 << 20;
const BATCH: usize = 500;
/// Parents remembered for processes that end before they are looked at.
const PARENTS_MAX: usize = 32_768;
const FORKS_EVERY: Duration = Duration::from_secs(1);

/// Listens to the connector.
#[derive(Debug)]
pub(super) struct Connector {
    socket: Socket,
    converter: Converter,
    excluded: HashSet<u32>,
    parents: HashMap<u32, u32>,
    gaps: Gaps,
    reason: String,
    watched: bool,
    running: bool,
}

impl Connector {
    pub(super) fn open(
        tree: Tree,
        accounts: Accounts,
        options: &Options,
        reason: &str,
    ) -> Result<Self, Error> {
        let socket = Socket::open(BUFFER_BYTES).map_err(|source| Error::Os {
            what: "cannot listen to the process connector; run the agent as root, or with \
                   CAP_NET_ADMIN, on a kernel built with CONFIG_PROC_EVENTS=y"
                .into(),
            source,
        })?;
        tree.scan(since_boot_ns());
        Ok(Self {
            socket,
            converter: Converter::new(tree, accounts),
            excluded: options.excluded_pids.iter().copied().collect(),
            parents: HashMap::new(),
            gaps: Gaps::default(),
            reason: format!("{reason}; processes that end at once are reported without details"),
            watched: false,
            running: false,
        })
    }

    fn watch(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let boot = gap::boot_id();
        if !self.watched {
            gap::account(outlet, &boot);
            outlet.commit()?;
            self.watched = true;
        }
        let mut forks_marked = Instant::now();
        while !context.stopping() {
            self.socket
                .wait(Context::PATIENCE)
                .map_err(|source| broken("wait for", source))?;
            self.converter.refresh();
            let delivered = self.receive(outlet)?;
            let lost = self.gaps.take_lost();
            outlet.lose(DropReason::QueueOverflow, lost);
            if delivered + lost > 0 {
                if forks_marked.elapsed() >= FORKS_EVERY {
                    forks_marked = Instant::now();
                    gap::mark(outlet, &boot);
                }
                outlet.commit()?;
            }
        }
        gap::mark(outlet, &boot);
        outlet.commit()
    }

    /// Takes what the socket has, up to a batch; answers how many executions that were.
    fn receive(&mut self, outlet: &mut dyn Outlet) -> Result<u64, Error> {
        let mut buffer = [0; 512];
        let mut delivered = 0;
        for _ in 0..BATCH {
            let received = self.socket.receive(&mut buffer);
            let datagram = match received.map_err(|source| broken("receive", source))? {
                Received::Datagram(datagram) => datagram,
                Received::Overflow => continue,
                Received::Nothing => break,
            };
            let Some(message) = Message::parse(datagram) else {
                continue;
            };
            self.gaps.see(&message);
            if let Some(observation) = self.take(message.kind) {
                outlet.emit(observation);
                delivered += 1;
            }
        }
        Ok(delivered)
    }

    fn take(&mut self, kind: Kind) -> Option<Observation> {
        match kind {
            Kind::Fork { parent, child } => {
                if self.parents.len() >= PARENTS_MAX {
                    self.parents.clear();
                }
                self.parents.insert(child, parent);
                let stat = read_stat(child)?;
                let key = snapshot::key(child, &stat);
                let parent = self.converter.tree.find(parent)?;
                self.converter.tree.forked(key, parent.key, parent.uid);
                None
            }
            Kind::Exec { pid } => self.execution(pid),
            Kind::Exit { pid } => {
                self.parents.remove(&pid);
                self.excluded.remove(&pid);
                let key = ProcessKey {
                    pid,
                    start_boottime_ns: 0,
                };
                self.converter.tree.exited(key, since_boot_ns());
                None
            }
            Kind::Other => None,
        }
    }

    fn execution(&mut self, pid: u32) -> Option<Observation> {
        let (key, parent, process) = snapshot::take(pid).unwrap_or_else(|| {
            let key = |pid| ProcessKey {
                pid,
                start_boottime_ns: 0,
            };
            let ppid = self.parents.get(&pid).copied().unwrap_or_default();
            let gone = Process {
                pid,
                ppid,
                truncated: Some(true),
                ..Process::default()
            };
            (key(pid), key(ppid), gone)
        });
        if self.excluded.contains(&pid) || self.excluded.contains(&parent.pid) {
            return None;
        }
        let now = since_boot_ns();
        Some(self.converter.complete(process, key, parent, now))
    }
}

fn broken(what: &str, source: std::io::Error) -> Error {
    Error::Os {
        what: format!("cannot {what} messages of the process connector"),
        source,
    }
}

impl Sensor for Connector {
    fn stream(&self) -> &'static str {
        super::STREAM
    }

    fn status(&self) -> SensorStatus {
        SensorStatus {
            stream: super::STREAM.into(),
            source: SOURCE.into(),
            running: self.running,
            reason: self.reason.clone(),
        }
    }

    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        self.running = true;
        outlet.status(self.status());
        let result = self.watch(context, outlet);
        self.running = false;
        result
    }
}
