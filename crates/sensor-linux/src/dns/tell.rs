//! An exchange as the event it is: names of processes, users and control groups added.

use std::{collections::HashMap, sync::Arc};

use yinglong_model::event::Dns;

use super::{record::Asker, table::Exchange};
use crate::{
    accounts::Accounts,
    process::{Group, GroupId, Groups},
    text::base_name,
    tree::{Entry, Tree, started_together},
};

/// Makes events.
pub(super) struct Teller {
    tree: Tree,
    accounts: Accounts,
    groups: Groups,
}

impl Teller {
    pub(super) fn new(tree: Tree, accounts: Accounts) -> Self {
        Self {
            tree,
            accounts,
            groups: Groups::open(),
        }
    }

    /// The event; `users` remembers accounts for as long as its owner likes.
    pub(super) fn event(&mut self, exchange: Exchange, users: &mut HashMap<u32, String>) -> Dns {
        let asker = exchange.asker;
        let process = self.process(&asker);
        let parent = process.as_ref().and_then(|entry| self.parent(entry));
        let group = match asker.cgroup_id {
            0 => Group::default(),
            id => self.groups.find(GroupId::of(id), asker.pid),
        };
        let answer = exchange.answer.unwrap_or_default();
        let user = (asker.pid != 0).then(|| {
            let name = users
                .entry(asker.uid)
                .or_insert_with(|| self.accounts.name(asker.uid));
            name.clone()
        });
        Dns {
            query: exchange.question.name,
            qtype: exchange.question.qtype,
            rcode: answer.rcode,
            answers: answer.answers,
            server: exchange.server.to_string(),
            protocol: exchange.protocol,
            name: match process {
                Some(entry) if !entry.name.is_empty() => entry.name.clone(),
                _ => task_name(&asker),
            },
            pid: asker.pid,
            exe: None,
            parentname: parent,
            user,
            container_id: group.container_id,
            cgroup: group.path,
            attribution: Some(attribution(&asker).to_owned()),
        }
    }

    /// The process, unless its pid is another's by now.
    fn process(&self, asker: &Asker) -> Option<Arc<Entry>> {
        if asker.pid == 0 {
            return None;
        }
        let entry = self.tree.find(asker.pid)?;
        started_together(entry.key.start_boottime_ns, asker.start_boottime_ns).then_some(entry)
    }

    fn parent(&self, entry: &Entry) -> Option<String> {
        let key = entry.parent;
        let parent = self.tree.find(key.pid)?;
        let same = started_together(parent.key.start_boottime_ns, key.start_boottime_ns);
        let name = base_name(&parent.name);
        (same && !name.is_empty()).then(|| name.to_owned())
    }
}

const fn attribution(asker: &Asker) -> &'static str {
    match (asker.pid, asker.start_boottime_ns) {
        (0, _) => "none",
        (_, 0) => "lookup",
        _ => "kernel",
    }
}

/// The name of the task, all there is of a process that is gone.
fn task_name(asker: &Asker) -> String {
    let end = asker.comm.iter().position(|&byte| byte == 0);
    let comm = asker.comm.get(..end.unwrap_or(asker.comm.len()));
    crate::text::printable(comm.unwrap_or_default())
}
