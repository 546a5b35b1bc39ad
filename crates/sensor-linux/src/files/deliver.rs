//! Turns groups of changes into events, in the order they happened to each path, although files
//! are inspected in the background.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::Arc,
};

use yinglong_model::{EventData, Observation, event::File};

use super::{
    actors::Actors,
    change::{Kind, Other, display},
    coalesce::{Change, Group},
    inspect::{Facts, Skipped, glance},
    scope::Scope,
    worker::{Done, Job, Worker},
};
use crate::accounts::Accounts;

/// A group whose file is being inspected, and what happened to the path since.
#[derive(Debug)]
struct InHand {
    number: u64,
    group: Group,
    behind: VecDeque<Group>,
}

/// What events need besides the changes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting<'a> {
    pub(super) worker: &'a Worker,
    pub(super) actors: &'a Actors,
    pub(super) accounts: &'a Accounts,
    pub(super) scope: &'a Scope,
    pub(super) limit_bytes: u64,
}

/// Puts events in order.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    in_hand: HashMap<Arc<Path>, InHand>,
    /// Groups in all `behind` queues together.
    behind: usize,
    numbers: u64,
}

impl Delivery {
    /// Most groups that wait behind another of their path.
    const MOST_BEHIND: usize = 16_384;

    /// Whether nothing waits.
    pub(super) fn is_idle(&self) -> bool {
        self.in_hand.is_empty()
    }

    /// Takes a group, and gives the events that can go out now.
    pub(super) fn accept(
        &mut self,
        group: Group,
        setting: Setting<'_>,
        out: &mut Vec<Observation>,
    ) {
        match self.in_hand.get_mut(&group.path) {
            None => self.start(group, setting, out),
            Some(in_hand) if self.behind < Self::MOST_BEHIND => {
                in_hand.behind.push_back(group);
                self.behind += 1;
            }
            Some(_) => {
                // The answer that is still to come will find its number unknown.
                if let Some(given_up) = self.in_hand.remove(&group.path) {
                    self.behind -= given_up.behind.len();
                    let early = std::iter::once(given_up.group).chain(given_up.behind);
                    for group in early.chain([group]) {
                        let facts = glance(&group.path);
                        tell(&group, &facts, setting, out);
                    }
                }
            }
        }
    }

    /// Takes an answer of the worker, and gives the events that can go out now.
    pub(super) fn answered(
        &mut self,
        done: Done,
        setting: Setting<'_>,
        out: &mut Vec<Observation>,
    ) {
        let expected = self
            .in_hand
            .get(&done.path)
            .is_some_and(|in_hand| in_hand.number == done.number);
        if !expected {
            return;
        }
        let Some(in_hand) = self.in_hand.remove(&done.path) else {
            return;
        };
        tell(&in_hand.group, &done.facts, setting, out);
        let mut behind = in_hand.behind;
        self.behind -= behind.len();
        while let Some(group) = behind.pop_front() {
            self.start(group, setting, out);
            if let Some(in_hand) = self.in_hand.get_mut(&done.path) {
                self.behind += behind.len();
                in_hand.behind = behind;
                return;
            }
        }
    }

    fn start(&mut self, group: Group, setting: Setting<'_>, out: &mut Vec<Observation>) {
        if group.ends() {
            return tell(&group, &Facts::Gone, setting, out);
        }
        self.numbers += 1;
        let job = Job {
            number: self.numbers,
            path: Arc::clone(&group.path),
            limit_bytes: setting.limit_bytes,
        };
        if !setting.worker.submit(job) {
            let facts = glance(&group.path);
            return tell(&group, &facts, setting, out);
        }
        let in_hand = InHand {
            number: self.numbers,
            group,
            behind: VecDeque::new(),
        };
        self.in_hand
            .insert(Arc::clone(&in_hand.group.path), in_hand);
    }
}

/// The events of a group. Each kind is an event of its own: rules compare the action as a whole.
fn tell(group: &Group, facts: &Facts, setting: Setting<'_>, out: &mut Vec<Observation>) {
    if matches!(facts, Facts::Special) {
        return;
    }
    let confirmed = group
        .perhaps
        .as_ref()
        .filter(|_| is_written(group, facts))
        .cloned();
    let certain: Vec<&Change> = group.changes.iter().chain(&confirmed).collect();
    let path = display(&group.path);
    let web = setting.scope.is_web(&group.path).then_some(true);
    let last_end = certain.iter().rposition(|change| change.kind.ends());
    for (place, change) in certain.into_iter().enumerate() {
        // What happened before the name went away happened to another file than the one found.
        let facts = match last_end {
            Some(end) if place <= end => &Facts::Gone,
            _ => facts,
        };
        out.push(Observation::Event {
            occurred_at: change.at,
            data: EventData::File(event(change, &path, web, facts, setting)),
        });
    }
}

/// Whether the file was written through a memory mapping, given that somebody who could have closed
/// it. Whoever makes a file, or writes to it in the ordinary way, is told of anyway.
fn is_written(group: &Group, facts: &Facts) -> bool {
    let Facts::Found {
        changed, written, ..
    } = facts
    else {
        return false;
    };
    match group.changes.as_slice() {
        [] => *changed,
        changes => *written && changes.iter().all(|change| change.kind == Kind::Chmod),
    }
}

fn event(
    change: &Change,
    path: &str,
    web: Option<bool>,
    facts: &Facts,
    setting: Setting<'_>,
) -> File {
    let actor = change
        .actor
        .as_ref()
        .map(|actor| setting.actors.complete(actor));
    let mut file = File {
        action: change.kind.as_str().to_owned(),
        path: path.to_owned(),
        actor_pid: actor.as_ref().map(|actor| actor.pid),
        actor_name: actor.as_ref().and_then(|actor| actor.name.clone()),
        actor_user: actor.as_ref().and_then(|actor| actor.user.clone()),
        web,
        ..File::default()
    };
    match &change.other {
        Some(Other::Old(path)) => file.old_path = Some(display(path)),
        Some(Other::New(path)) => file.new_path = Some(display(path)),
        Some(Other::Link(path)) => file.link_path = Some(display(path)),
        None => {}
    }
    let skipped = match facts {
        Facts::Gone | Facts::Special => Some(Skipped::Gone),
        Facts::Found {
            uid,
            size,
            hashes,
            mode,
            capabilities,
            ..
        } => {
            file.mode = mode.map(|mode| format!("{mode:04o}"));
            file.capabilities.clone_from(capabilities);
            if *uid != u32::MAX {
                file.user = setting.accounts.name(*uid);
                file.size = Some(*size);
            }
            match hashes {
                Ok(hashes) => {
                    file.hash.clone_from(&hashes.md5);
                    file.sha256 = Some(hashes.sha256.clone());
                    None
                }
                Err(skipped) => Some(*skipped),
            }
        }
    };
    file.hash_skipped = skipped.map(|skipped| skipped.as_str().to_owned());
    file
}
