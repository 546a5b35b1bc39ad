//! Matches in, fired correlations out.

use std::{
    borrow::Cow,
    collections::{VecDeque, hash_map::RandomState},
    sync::Arc,
};

use lru::LruCache;
use sha2::{Digest, Sha256};
use yinglong_model::{AgentId, Timestamp};
use yinglong_rules::{Diagnostic, correlation::Correlation};

use crate::{
    Counters, Fired, HOST, Limits, Match, key, measure,
    plan::{self, MemberPlan, Plan, Plans},
    reference::{Firing, Reference},
    window::{Fate, Hit, Value, Window},
};

/// References kept of a firing that is a member of another correlation.
const LEAVES: usize = 16;
/// Estimated memory of a group besides its window and its key: a node of the list and of the map.
const GROUP_OVERHEAD: usize = 96;

/// Correlations over matches, with the state of their windows.
#[derive(Debug)]
pub struct Correlator {
    pub(crate) plans: Plans,
    pub(crate) states: Vec<State>,
    limits: Limits,
    pub(crate) counters: Counters,
    /// Estimated memory of all groups.
    pub(crate) bytes: usize,
    /// Latest time of reception.
    pub(crate) clock: i64,
    scratch: Scratch,
}

/// Groups of one correlation.
#[derive(Debug)]
pub(crate) struct State {
    /// Least recently touched last. Hashed with a random key: group values are an attacker's words.
    pub(crate) groups: LruCache<Vec<u8>, Group, RandomState>,
    pub(crate) bytes: usize,
}

/// State of one group.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) window: Window,
    /// When a match for it was last received, in nanoseconds since 1970.
    pub(crate) touched: i64,
    pub(crate) bytes: usize,
}

impl State {
    fn new() -> Self {
        Self {
            groups: LruCache::unbounded_with_hasher(RandomState::new()),
            bytes: 0,
        }
    }

    /// Forgets the least recently touched group.
    pub(crate) fn forget_one(&mut self) -> bool {
        let Some((_, group)) = self.groups.pop_lru() else {
            return false;
        };
        self.bytes = self.bytes.saturating_sub(group.bytes);
        true
    }

    /// Takes a group in as the most recently touched one.
    pub(crate) fn put(&mut self, key: Vec<u8>, mut group: Group) {
        group.bytes = group_bytes(&key, &group.window);
        self.bytes += group.bytes;
        if let Some(before) = self.groups.put(key, group) {
            self.bytes = self.bytes.saturating_sub(before.bytes);
        }
    }
}

fn group_bytes(key: &[u8], window: &Window) -> usize {
    GROUP_OVERHEAD + key.len() + window.bytes()
}

/// Memory that is used again for every match.
#[derive(Debug, Default)]
struct Scratch {
    key: Vec<u8>,
    value: Vec<u8>,
}

/// A match on its way: of a rule, or of a correlation that fired on one.
struct Item<'a, 'v> {
    agent: &'a AgentId,
    time: i64,
    received: i64,
    values: &'a dyn Fn(&str) -> Option<Cow<'v, str>>,
    reference: Reference,
    /// Values of the group that fired, before those of the event.
    group: &'a [(String, String)],
}

impl Item<'_, '_> {
    fn first_of(&self, fields: &[String]) -> Option<Cow<'_, str>> {
        fields.iter().find_map(|field| self.value(field))
    }

    fn value(&self, field: &str) -> Option<Cow<'_, str>> {
        if let Some((_, value)) = self.group.iter().find(|(name, _)| name == field) {
            return Some(Cow::Borrowed(value));
        }
        match (self.values)(field) {
            None if field == HOST => Some(Cow::Borrowed(self.agent.as_str())),
            value => value,
        }
    }
}

impl Correlator {
    /// Makes correlations ready. Those that cannot work are left out, each with an error; those
    /// that need one left out as well. `knows` tells whether there is a rule of an id.
    pub fn new(
        correlations: &[Correlation],
        knows: &dyn Fn(&str) -> bool,
        limits: Limits,
    ) -> (Self, Vec<Diagnostic>) {
        let (plans, diagnostics) = plan::compile(correlations, knows, &limits);
        let correlator = Self {
            states: plans.all.iter().map(|_| State::new()).collect(),
            plans,
            limits,
            counters: Counters::default(),
            bytes: 0,
            clock: i64::MIN,
            scratch: Scratch::default(),
        };
        (correlator, diagnostics)
    }

    /// Number of correlations at work.
    pub fn len(&self) -> usize {
        self.plans.all.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.plans.all.is_empty()
    }

    /// Whether matches of a rule are taken by any correlation.
    pub fn takes(&self, rule_id: &str) -> bool {
        self.plans.routes.contains_key(rule_id)
    }

    /// Whether matches of a rule are to raise no alerts of their own, since a correlation that
    /// does not say `generate` takes them.
    pub fn silences(&self, rule_id: &str) -> bool {
        self.plans.silenced.contains(rule_id)
    }

    /// What happened so far, and what is held.
    pub fn counters(&self) -> Counters {
        Counters {
            groups: self.states.iter().map(|s| s.groups.len() as u64).sum(),
            bytes: self.bytes as u64,
            ..self.counters
        }
    }

    /// Takes a match. Returns what fired, members before those that take them.
    ///
    /// Costs one look-up per correlation that takes the rule's matches; a match that is older than
    /// others of its group costs a pass over the group.
    pub fn observe(&mut self, observed: &Match<'_>) -> Vec<Fired> {
        let Some(route) = self.plans.routes.get(observed.rule_id) else {
            return Vec::new();
        };
        let received = observed.received.nanos();
        self.clock = self.clock.max(received);
        let latest = received.saturating_add(plan::nanos(self.limits.ahead));
        let item = Item {
            agent: observed.agent,
            time: observed.time.nanos().min(latest),
            received,
            values: observed.values,
            reference: Reference::parse(observed.reference),
            group: &[],
        };
        self.counters.ahead += u64::from(item.time < observed.time.nanos());
        let mut fired: Vec<(usize, Fired)> = Vec::new();
        // Behind a firing: who takes it, and what it points at.
        let mut pending: VecDeque<(usize, Reference)> = VecDeque::new();
        for (index, member) in Arc::clone(route).iter().copied() {
            if let Some((firing, reference)) = self.offer(index, member, &item) {
                pending.push_back((fired.len(), reference));
                fired.push((index, firing));
            }
        }
        while let Some((place, reference)) = pending.pop_front() {
            let Some((_, firing)) = fired.get(place) else {
                break;
            };
            let route = self.plans.routes.get(&firing.about.id);
            let Some(route) = route.map(Arc::clone) else {
                continue;
            };
            let group = firing.group.clone();
            let item = Item {
                time: firing.end.nanos(),
                reference,
                group: &group,
                ..item
            };
            for (index, member) in route.iter().copied() {
                if let Some((firing, reference)) = self.offer(index, member, &item) {
                    pending.push_back((fired.len(), reference));
                    fired.push((index, firing));
                }
            }
        }
        fired.into_iter().map(|(_, firing)| firing).collect()
    }

    /// Offers a match to one correlation.
    fn offer(
        &mut self,
        index: usize,
        member: u16,
        item: &Item<'_, '_>,
    ) -> Option<(Fired, Reference)> {
        let Self {
            plans,
            states,
            limits,
            counters,
            scratch,
            clock,
            bytes,
        } = self;
        let (plan, state) = (plans.all.get(index)?, states.get_mut(index)?);
        let fields = plan.members.get(usize::from(member))?;
        if !group_key(fields, item, &mut scratch.key) {
            counters.ungrouped += 1;
            return None;
        }
        let Some(value) = aggregated(plan, fields, item, &mut scratch.value) else {
            counters.without_value += 1;
            return None;
        };
        let all_before = state.bytes;
        forget_idle(plan, state, counters, *clock);
        let State {
            groups,
            bytes: state_bytes,
        } = state;
        let key = scratch.key.as_slice();
        let group = groups.get_or_insert_mut_ref(key, || Group {
            window: Window::new(plan),
            touched: item.received,
            bytes: 0,
        });
        if item.received.saturating_sub(group.touched) > plan.idle {
            counters.evicted_idle += 1;
            group.window = Window::new(plan);
        }
        group.touched = group.touched.max(item.received);
        let fate = group.window.take(
            plan,
            limits.references,
            item.time,
            member,
            value,
            item.reference.clone(),
        );
        let hit = match fate {
            Fate::Late => {
                counters.late += 1;
                None
            }
            Fate::Duplicate => {
                counters.duplicates += 1;
                None
            }
            Fate::Full => {
                counters.full += 1;
                None
            }
            Fate::Taken(taken) => {
                counters.taken += 1;
                counters.dropped_full += taken.dropped as u64;
                counters.suppressed += u64::from(taken.suppressed);
                counters.fired += u64::from(taken.fired.is_some());
                taken.fired
            }
        };
        let fired = hit.map(|hit| fired(plan, key, &group.window, item, hit));
        let before = group.bytes;
        group.bytes = group_bytes(key, &group.window);
        *state_bytes = (*state_bytes + group.bytes).saturating_sub(before);
        while state.groups.len() > limits.groups.max(1) && state.forget_one() {
            counters.evicted_groups += 1;
        }
        *bytes = (*bytes + state.bytes).saturating_sub(all_before);
        self.shrink();
        fired
    }

    /// Gives up groups until all fit: of the correlation that holds most, the least recently
    /// touched. So who floods one correlation makes that one forget, not the others.
    pub(crate) fn shrink(&mut self) {
        while self.bytes > self.limits.bytes {
            let largest = self.states.iter_mut().max_by_key(|state| state.bytes);
            let Some(state) = largest else { break };
            let before = state.bytes;
            if !state.forget_one() {
                break;
            }
            self.counters.evicted_bytes += 1;
            self.bytes = self.bytes.saturating_sub(before - state.bytes);
        }
    }

    /// Bounds it was made with.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

/// Forgets at most two groups that got nothing for long: more than one comes in per match.
fn forget_idle(plan: &Plan, state: &mut State, counters: &mut Counters, clock: i64) {
    for _ in 0..2 {
        let oldest = state.groups.peek_lru();
        let idle = oldest.is_some_and(|(_, g)| clock.saturating_sub(g.touched) > plan.idle);
        if !idle || !state.forget_one() {
            break;
        }
        counters.evicted_idle += 1;
    }
}

/// Makes the key of the group; `false` when a value is missing.
fn group_key(fields: &MemberPlan, item: &Item<'_, '_>, key: &mut Vec<u8>) -> bool {
    key.clear();
    fields.group.iter().all(|fields| {
        let value = item.first_of(fields);
        if let Some(value) = &value {
            key::push(key, value);
        }
        value.is_some()
    })
}

/// What is aggregated of a match; `None` when it is not there.
fn aggregated<'s>(
    plan: &Plan,
    fields: &MemberPlan,
    item: &Item<'_, '_>,
    text: &'s mut Vec<u8>,
) -> Option<Value<'s>> {
    if fields.counted.is_empty() {
        return Some(Value::Nothing);
    }
    if plan.counts_numbers() {
        let value = item.first_of(fields.counted.first()?)?;
        return measure::number(&value).map(Value::Number);
    }
    text.clear();
    for fields in &fields.counted {
        key::push(text, &item.first_of(fields)?);
    }
    Some(Value::Text(text))
}

fn fired(
    plan: &Plan,
    key: &[u8],
    window: &Window,
    item: &Item<'_, '_>,
    hit: Hit,
) -> (Fired, Reference) {
    let shown = hit.shown.iter().filter_map(|place| window.entry(*place));
    let references: Vec<&Reference> = shown.map(|entry| &entry.reference).collect();
    let id = identity(plan, key, &references);
    let mut leaves: Vec<&Reference> = Vec::new();
    for leaf in references.iter().flat_map(|reference| reference.leaves()) {
        if !leaves.contains(&leaf) {
            leaves.push(leaf);
        }
    }
    let reference = Reference::Firing(Box::new(Firing {
        id,
        leaves: leaves
            .iter()
            .skip(leaves.len().saturating_sub(LEAVES))
            .map(|leaf| (*leaf).clone())
            .collect(),
    }));
    let values = key::split(key).unwrap_or_default();
    let fired = Fired {
        about: plan.about.clone(),
        group: plan.group_by.iter().cloned().zip(values).collect(),
        agent: item.agent.clone(),
        start: Timestamp::from_nanos(hit.start),
        end: Timestamp::from_nanos(hit.end),
        value: hit.value,
        count: hit.count,
        references: leaves.iter().map(ToString::to_string).collect(),
        reference: reference.to_string(),
        alert: plan.alerts,
    };
    (fired, reference)
}

/// Hash of the correlation, the group, and the first and last match shown.
fn identity(plan: &Plan, key: &[u8], references: &[&Reference]) -> [u8; 16] {
    let mut hash = Sha256::new();
    let mut part = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    part(plan.about.id.as_bytes());
    part(key);
    for reference in references.first().into_iter().chain(references.last()) {
        part(reference.to_string().as_bytes());
    }
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    id
}
