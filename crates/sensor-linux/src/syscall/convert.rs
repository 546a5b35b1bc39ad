//! From a record of the kernel to the event.

use yinglong_model::{EventData, Observation, ProcessKey, event::Syscall};

use super::{
    describe::describe,
    record::{Flags, Record},
    words,
};
use crate::{
    accounts::Accounts,
    process::{Clock, GroupId, Groups, Names, absolute, terminal},
    text::{base_name, command_line, printable},
    tree::Tree,
};

/// What a conversion looks things up in.
#[derive(Debug)]
pub(super) struct Converter {
    tree: Tree,
    clock: Clock,
    groups: Groups,
    names: Names,
}

impl Converter {
    pub(super) fn new(tree: Tree, accounts: Accounts) -> Self {
        Self {
            tree,
            clock: Clock::read(),
            groups: Groups::open(),
            names: Names::new(accounts),
        }
    }

    /// To be called before each batch.
    pub(super) fn refresh(&mut self) {
        self.clock = Clock::read();
        self.names.refresh();
    }

    /// The event of a record of the kernel, completed from the process tree.
    pub(super) fn event(&mut self, record: &Record<'_>) -> Observation {
        let known = self.of(record.key);
        let mut name = printable(&absolute(record.image));
        if name.is_empty() || record.flags.has(Flags::IMAGE_CUT) {
            name = known
                .as_ref()
                .map(|(name, _)| name.clone())
                .unwrap_or_default();
        }
        if name.is_empty() {
            name = printable(record.comm);
        }
        let command = if record.command.is_empty() {
            known.map(|(_, command)| command)
        } else {
            Some(command_line(record.command))
        };
        let parentname = self
            .of(record.parent)
            .map(|(name, _)| base_name(&name).to_owned())
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| printable(record.parent_comm));
        let group = self
            .groups
            .find(GroupId::of(record.cgroup_id), record.key.pid);
        let tree = &self.tree;
        let described = describe(record, |pid| Some(tree.find(pid)?.name.clone()));
        let success = record.ret >= 0;
        let event = Syscall {
            call: record.watched.name.to_owned(),
            success,
            errno: if success {
                String::new()
            } else {
                words::error(record.ret.saturating_neg())
            },
            target: described.target,
            target_pid: described.target_pid,
            detail: described.detail,
            name,
            pid: record.key.pid,
            ppid: record.parent.pid,
            parentname,
            exe: None,
            command: command.filter(|command| !command.is_empty()),
            user: Some(self.names.find(record.uid)),
            uid: Some(record.uid),
            euid: Some(record.euid),
            auid: record.loginuid,
            container_id: group.container_id,
            cgroup: group.path,
            session: record.session,
            tty: terminal(record.tty),
        };
        Observation::Event {
            occurred_at: self.clock.at(record.ts_boot_ns),
            data: EventData::Syscall(Box::new(event)),
        }
    }

    /// Image and command line of that very process.
    fn of(&self, key: ProcessKey) -> Option<(String, String)> {
        /// A start time may have been read from `/proc`, which counts ticks.
        const TICK_NS: u64 = 10_000_000;
        let entry = self.tree.find(key.pid)?;
        let same = entry.key.start_boottime_ns / TICK_NS == key.start_boottime_ns / TICK_NS;
        same.then(|| (entry.name.clone(), entry.command.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{record::tests::bytes, watched::Call},
        *,
    };

    #[test]
    fn an_actor_nobody_knows_is_told_by_the_record_itself() {
        let mut converter = Converter::new(Tree::default(), Accounts::default());
        let mut bytes = bytes(Call::Mount, [b"/mnt\0", b"none\0", b"tmpfs\0"]);
        bytes[88..96].copy_from_slice(&(-1i64).to_ne_bytes());
        let record = Record::parse(&bytes).unwrap();
        let Observation::Event { data, .. } = converter.event(&record) else {
            panic!("not an event");
        };
        let EventData::Syscall(event) = data else {
            panic!("not a system call");
        };
        assert_eq!(event.name, "/usr/bin/gdb");
        assert_eq!(event.command.as_deref(), Some("gdb -p 42"));
        assert_eq!(event.parentname, "bash");
        assert_eq!((event.success, event.errno.as_str()), (false, "EPERM"));
        assert_eq!((event.uid, event.euid), (Some(1000), Some(1001)));
        assert_eq!((event.auid, event.session), (None, Some(3)));
    }
}
