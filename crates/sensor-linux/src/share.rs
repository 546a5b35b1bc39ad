//! Whose records the programs turned away from a crowded ring: the map `shares` of
//! `bpf/include/share.h`.
//!
//! How many were turned away is counted elsewhere, exactly. Here each loss gets its groups as far as
//! they are known: the map has one place for many groups over time, and no lock.

use std::{
    collections::HashMap,
    fs,
    time::{Duration, Instant},
};

use libbpf_rs::{MapCore as _, MapFlags};
use yinglong_model::{DropReason, ledger::Origin};
use yinglong_sensor::Outlet;

use crate::{
    accounts::Accounts,
    attached::Attached,
    process::{GroupId, Groups, container_id},
};

/// `struct share_slot`
const SLOT_BYTES: usize = 32;
/// How long a group's name is remembered: looking for it takes many calls, but numbers of namespaces
/// are given again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// Groups named at a time, those that lost most first: somebody may make many of them.
const NAMED: usize = 16;
const ORIGINS: usize = 1024;
/// Processes looked at for one of a process namespace.
const LOOKED_AT: usize = 32_768;

/// `enum share_kind` with the id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Group {
    /// Inode of a control group, version 2.
    Cgroup(u64),
    /// Inode of a process namespace.
    PidNamespace(u64),
    User(u64),
    Unknown,
}

impl Group {
    fn of(value: u64) -> Self {
        let id = value & ((1 << 56) - 1);
        match value >> 56 {
            1 => Self::Cgroup(id),
            2 => Self::PidNamespace(id),
            3 => Self::User(id),
            _ => Self::Unknown,
        }
    }
}

/// What was turned away as of the last look.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    seen: HashMap<u64, u64>,
    origins: HashMap<Group, Origin>,
    named_at: Option<Instant>,
}

impl Shares {
    /// Starts where the programs stand: what they turned away before was told by whoever adopted
    /// them before, or cannot be told apart any more.
    pub(crate) fn open(attached: &Attached) -> Self {
        let mut shares = Self::default();
        if let Some(table) = table(attached) {
            shares.since(&table);
        }
        shares
    }

    /// Tells the outlet of `count` records turned away since the last time.
    pub(crate) fn tell(&mut self, attached: &Attached, count: u64, outlet: &mut dyn Outlet) {
        if count == 0 {
            return;
        }
        let groups = table(attached).map_or_else(Vec::new, |table| self.since(&table));
        let aged = self.named_at.is_none_or(|at| at.elapsed() > REMEMBERED);
        if aged || self.origins.len() > ORIGINS {
            self.named_at = Some(Instant::now());
            self.origins.clear();
        }
        let mut left = count;
        for (group, count) in groups.into_iter().take(NAMED) {
            let count = count.min(left);
            left -= count;
            let origin = self
                .origins
                .entry(group)
                .or_insert_with(|| origin(group, &mut Groups::open()));
            outlet.lose_of(DropReason::OverShare, origin, count);
        }
        outlet.lose(DropReason::OverShare, left);
    }

    /// Records turned away by group since the last time, most first.
    fn since(&mut self, table: &[u8]) -> Vec<(Group, u64)> {
        let mut now = HashMap::<u64, u64>::new();
        for slot in table.chunks_exact(SLOT_BYTES) {
            let word = |at: usize| {
                let bytes = slot.get(at..at + 8).and_then(|word| word.try_into().ok());
                bytes.map_or(0, u64::from_ne_bytes)
            };
            // struct share_slot: group, start, used, shed.
            let (group, shed) = (word(0), word(24));
            if group != 0 && shed != 0 {
                *now.entry(group).or_default() += shed;
            }
        }
        let mut new: Vec<_> = now
            .iter()
            .filter_map(|(&group, &shed)| {
                // A count that went back is that of a place given away and taken again.
                let before = self.seen.get(&group).copied().unwrap_or_default();
                let more = shed.checked_sub(before).unwrap_or(shed);
                (more > 0).then(|| (Group::of(group), more))
            })
            .collect();
        self.seen = now;
        new.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        new
    }
}

fn table(attached: &Attached) -> Option<Vec<u8>> {
    let map = attached.map("shares")?;
    map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY)
        .inspect_err(|error| tracing::warn!(%error, "cannot tell whose records were lost"))
        .ok()?
}

/// The group in words that other events have, too.
fn origin(group: Group, groups: &mut Groups) -> Origin {
    match group {
        Group::Cgroup(id) => {
            let found = groups.find(GroupId::of(id), 0);
            Origin {
                container_id: found.container_id.clone(),
                cgroup: found.path.clone(),
                user: None,
            }
        }
        Group::PidNamespace(inode) => Origin {
            container_id: member(inode).and_then(|pid| container_of(&pid)),
            cgroup: Some(format!("pid:[{inode}]")),
            user: None,
        },
        Group::User(uid) => Origin {
            user: Some(user(uid)),
            ..Origin::default()
        },
        Group::Unknown => Origin::default(),
    }
}

/// A process that is in a process namespace now.
fn member(inode: u64) -> Option<String> {
    let wanted = format!("pid:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .take(LOOKED_AT);
    pids.find(|pid| {
        fs::read_link(format!("/proc/{pid}/ns/pid"))
            .is_ok_and(|link| link.as_os_str() == wanted.as_str())
    })
}

/// The container a process is in by any of its control groups, version 1 included.
fn container_of(pid: &str) -> Option<String> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    groups.lines().find_map(|line| {
        let path = line.splitn(3, ':').nth(2)?;
        container_id(path)
    })
}

fn user(uid: u64) -> String {
    u32::try_from(uid).map_or_else(|_| uid.to_string(), |uid| Accounts::default().name(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(kind: u64, id: u64, shed: u64) -> Vec<u8> {
        [(kind << 56) | id, 1, 2, shed]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect()
    }

    #[test]
    fn what_was_turned_away_is_told_by_group_once() {
        let mut shares = Shares::default();
        let first = [slot(0, 0, 0), slot(1, 77, 5), slot(3, 1000, 9)].concat();
        assert_eq!(
            shares.since(&first),
            [(Group::User(1000), 9), (Group::Cgroup(77), 5)]
        );
        assert_eq!(shares.since(&first), []);
        // The place of the user went to a namespace.
        let second = [slot(1, 77, 6), slot(2, 4_026_532_281, 3)].concat();
        assert_eq!(
            shares.since(&second),
            [
                (Group::PidNamespace(4_026_532_281), 3),
                (Group::Cgroup(77), 1)
            ]
        );
        // It lost its place meanwhile, and has one again.
        assert_eq!(shares.since(&slot(1, 77, 2)), [(Group::Cgroup(77), 2)]);
    }

    #[test]
    fn a_group_is_named_as_in_other_events() {
        let mut groups = Groups::open();
        let namespace = fs::read_link("/proc/self/ns/pid").unwrap();
        let namespace = namespace.to_str().unwrap().to_owned();
        let inode = namespace.trim_matches(|c: char| !c.is_ascii_digit());
        let found = origin(Group::PidNamespace(inode.parse().unwrap()), &mut groups);
        assert_eq!(found.cgroup.as_deref(), Some(namespace.as_str()));
        assert!(member(inode.parse().unwrap()).is_some());
        assert_eq!(member(1), None);
        let root = origin(Group::User(0), &mut groups);
        assert_eq!(root.user.as_deref(), Some("root"));
        assert_eq!(
            origin(Group::User(4_000_000_123), &mut groups)
                .user
                .unwrap(),
            "4000000123"
        );
        assert_eq!(origin(Group::of(4 << 56), &mut groups), Origin::default());
    }
}
