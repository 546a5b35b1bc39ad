//! Executions from the kernel's process connector: the fallback where BPF cannot be used.
//!
//! It tells pids only, the rest is read from `/proc`; a process that has ended by then is reported
//! with what its parent tells. What the socket's queue loses is estimated.

use std::collections::{HashMap, HashSet};

use yinglong_model::{DropReason, Observation, ProcessKey, config::Client, event::Process};
use yinglong_sensor::{Context, Error, Outlet};

use super::{
    Options,
    batch::Batch,
    clock::since_boot_ns,
    convert::Converter,
    end,
    hashing::{Hashing, Wanted},
    lesser::{Lesser, Rounds},
    netlink::{Gaps, Kind, Message, Received, Socket},
    record::{End, GroupId, Image},
    snapshot::{self, Snapshot},
};
use crate::{
    accounts::Accounts,
    tree::{Tree, read_stat},
};

/// A storm of 3,000 processes fits; the default of the system loses most of it.
const BUFFER_BYTES: usize = 8 << 20;
const BATCH: usize = 500;
/// Parents remembered for processes that end before they are looked at.
const PARENTS_MAX: usize = 32_768;

/// Listens to the connector.
#[derive(Debug)]
pub(super) struct Connector {
    socket: Socket,
    converter: Converter,
    hashing: Hashing,
    excluded: HashSet<u32>,
    parents: HashMap<u32, u32>,
    gaps: Gaps,
}

impl Connector {
    pub(super) fn open(
        tree: Tree,
        accounts: Accounts,
        options: &Options,
        reason: &str,
    ) -> Result<Lesser<Self>, Error> {
        let socket = Socket::open(BUFFER_BYTES).map_err(|source| Error::Os {
            what: "cannot listen to the process connector; run the agent as root, or with \
                   CAP_NET_ADMIN, on a kernel built with CONFIG_PROC_EVENTS=y"
                .into(),
            source,
        })?;
        tree.scan(since_boot_ns());
        let connector = Self {
            socket,
            converter: Converter::new(tree, accounts),
            hashing: super::start_hashing(options)?,
            excluded: options.excluded_pids.iter().copied().collect(),
            parents: HashMap::new(),
            gaps: Gaps::default(),
        };
        let reason = format!("{reason}; processes that end at once are reported without details");
        Ok(Lesser::new(connector, reason))
    }

    /// Takes what the socket has, up to a batch; answers how many executions that were.
    fn receive(&mut self, outlet: &mut dyn Outlet, client: &Client) -> Result<u64, Error> {
        let mut buffer = [0; 512];
        let mut delivered = 0;
        let mut taken = Vec::new();
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
            taken.extend(self.take(message.kind, client.exit));
        }
        let mut batch = Batch::new(outlet, &mut self.hashing, client.hash_limit_bytes);
        for taken in taken {
            match taken {
                Taken::Execution(event, image, wanted) => {
                    batch.execution(event, image, |_| wanted);
                    delivered += 1;
                }
                Taken::End(event) => batch.event(event),
            }
        }
        batch.finish(|| false);
        Ok(delivered)
    }

    fn take(&mut self, kind: Kind, all_ends: bool) -> Option<Taken> {
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
            Kind::Exit {
                pid,
                parent,
                status,
            } => {
                self.parents.remove(&pid);
                let own = self.excluded.remove(&pid) || self.excluded.contains(&parent);
                let told = end::is_fault(status) || (all_ends && !own);
                let event = told.then(|| Taken::End(self.end(pid, parent, status)));
                self.converter.tree.exited(unknown(pid), since_boot_ns());
                event
            }
            Kind::Other => None,
        }
    }

    fn end(&mut self, pid: u32, ppid: u32, status: u32) -> Observation {
        let known = self.converter.tree.find(pid);
        self.converter.end(&End {
            ts_boot_ns: since_boot_ns(),
            key: unknown(pid),
            group: GroupId::default(),
            usage: None,
            ppid,
            uid: known.map_or(0, |entry| entry.uid),
            status,
            comm: b"",
        })
    }

    fn execution(&mut self, pid: u32) -> Option<Taken> {
        let seen = snapshot::take(pid).unwrap_or_else(|| {
            let ppid = self.parents.get(&pid).copied().unwrap_or_default();
            Snapshot {
                key: unknown(pid),
                parent: unknown(ppid),
                process: Process {
                    pid,
                    ppid,
                    truncated: Some(true),
                    ..Process::default()
                },
                image: None,
            }
        });
        let Snapshot {
            key,
            parent,
            process,
            image,
        } = seen;
        if self.excluded.contains(&pid) || self.excluded.contains(&parent.pid) {
            return None;
        }
        let now = since_boot_ns();
        let wanted = Wanted::live(&process, image, self.converter.since_epoch(now));
        let event = self.converter.complete(process, key, parent, now);
        Some(Taken::Execution(event, image, wanted))
    }
}

impl Rounds for Connector {
    const SOURCE: &'static str = "proc-connector";

    fn round(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<bool, Error> {
        self.socket
            .wait(Context::PATIENCE)
            .map_err(|source| broken("wait for", source))?;
        self.converter.refresh();
        let delivered = self.receive(outlet, &context.config().client)?;
        let lost = self.gaps.take_lost();
        outlet.lose(DropReason::QueueOverflow, lost);
        Ok(delivered + lost > 0)
    }
}

/// What a message says.
enum Taken {
    /// Also the content that was executed, if it could be told, and where it may be found.
    Execution(Observation, Option<Image>, Wanted),
    End(Observation),
}

/// Some process of that number.
const fn unknown(pid: u32) -> ProcessKey {
    ProcessKey {
        pid,
        start_boottime_ns: 0,
    }
}

fn broken(what: &str, source: std::io::Error) -> Error {
    Error::Os {
        what: format!("cannot {what} messages of the process connector"),
        source,
    }
}
