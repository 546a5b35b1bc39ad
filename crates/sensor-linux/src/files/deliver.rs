//! Turns groups of changes into events, in the order they happened to each path, although files
//! are inspected in the background.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
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

/// A group whose file is being inspected, or whose actor is not known yet, and what happened to the
/// path since.
#[derive(Debug)]
struct InHand {
    number: u64,
    group: Group,
    /// What the inspection showed.
    facts: Option<Facts>,
    behind: VecDeque<Group>,
}

/// A group that waits for the name of its actor.
#[derive(Debug)]
struct Held {
    until: Instant,
    path: Arc<Path>,
    number: u64,
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
#[derive(Debug)]
pub(super) struct Delivery {
    in_hand: HashMap<Arc<Path>, InHand>,
    /// Groups in all `behind` queues together.
    behind: usize,
    held: VecDeque<Held>,
    /// When the held ones are looked at again.
    look_at: Instant,
    numbers: u64,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            in_hand: HashMap::new(),
            behind: 0,
            held: VecDeque::new(),
            look_at: Instant::now(),
            numbers: 0,
        }
    }
}

impl Delivery {
    /// Most groups that wait behind another of their path.
    const MOST_BEHIND: usize = 16_384;
    /// Most groups that wait for a name.
    const MOST_HELD: usize = 4_096;
    /// How long a group waits for the name of a process that has ended: on a host so busy that the
    /// reader of executions gets no processor, it comes late.
    const PATIENCE: Duration = Duration::from_secs(2);
    /// How often it is looked whether it is known.
    const LOOK: Duration = Duration::from_millis(10);

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
        self.behind -= in_hand.behind.len();
        self.tell_or_hold(in_hand.group, done.facts, setting, out);
        self.go_on(&done.path, in_hand.behind, setting, out);
    }

    /// When [`Delivery::settle`] wants to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.held.is_empty()).then_some(self.look_at)
    }

    /// Gives the events that waited for their actor's name: those that have it, those that waited
    /// long enough, and with `hurry` all.
    pub(super) fn settle(
        &mut self,
        now: Instant,
        hurry: bool,
        setting: Setting<'_>,
        out: &mut Vec<Observation>,
    ) {
        if now < self.look_at && !hurry {
            return;
        }
        self.look_at = now + Self::LOOK;
        for _ in 0..self.held.len() {
            let Some(held) = self.held.pop_front() else {
                return;
            };
            let Some(in_hand) = self.in_hand.get(&held.path) else {
                continue;
            };
            if in_hand.number != held.number {
                continue;
            }
            if !hurry && now < held.until && !setting.actors.are_settled(&in_hand.group) {
                self.held.push_back(held);
                continue;
            }
            if let Some(in_hand) = self.in_hand.remove(&held.path) {
                self.behind -= in_hand.behind.len();
                let facts = in_hand.facts.unwrap_or(Facts::Gone);
                tell(&in_hand.group, &facts, setting, out);
                self.go_on(&held.path, in_hand.behind, setting, out);
            }
        }
    }

    fn start(&mut self, group: Group, setting: Setting<'_>, out: &mut Vec<Observation>) {
        if group.ends() {
            return self.tell_or_hold(group, Facts::Gone, setting, out);
        }
        self.numbers += 1;
        let job = Job {
            number: self.numbers,
            path: Arc::clone(&group.path),
            limit_bytes: setting.limit_bytes,
        };
        if !setting.worker.submit(job) {
            let facts = glance(&group.path);
            return self.tell_or_hold(group, facts, setting, out);
        }
        self.take_in_hand(group, None);
    }

    /// Goes on with what happened to a path since.
    fn go_on(
        &mut self,
        path: &Arc<Path>,
        mut behind: VecDeque<Group>,
        setting: Setting<'_>,
        out: &mut Vec<Observation>,
    ) {
        loop {
            if let Some(in_hand) = self.in_hand.get_mut(path) {
                self.behind += behind.len();
                in_hand.behind = behind;
                return;
            }
            let Some(group) = behind.pop_front() else {
                return;
            };
            self.start(group, setting, out);
        }
    }

    /// Gives the events of a group, or lets it wait until its actors are known.
    fn tell_or_hold(
        &mut self,
        group: Group,
        facts: Facts,
        setting: Setting<'_>,
        out: &mut Vec<Observation>,
    ) {
        if self.held.len() >= Self::MOST_HELD || setting.actors.are_settled(&group) {
            return tell(&group, &facts, setting, out);
        }
        let now = Instant::now();
        if self.held.is_empty() {
            self.look_at = now + Self::LOOK;
        }
        self.numbers += 1;
        self.held.push_back(Held {
            until: now + Self::PATIENCE,
            path: Arc::clone(&group.path),
            number: self.numbers,
        });
        self.take_in_hand(group, Some(facts));
    }

    fn take_in_hand(&mut self, group: Group, facts: Option<Facts>) {
        let in_hand = InHand {
            number: self.numbers,
            group,
            facts,
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
            data: EventData::File(Box::new(event(change, &path, web, facts, setting))),
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
            file.mode = *mode;
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
