//! A correlator's windows as bytes, and back.

use crate::{
    Correlator, SnapshotError,
    correlator::Group,
    frame, key,
    plan::{Plan, Reckoning},
    reference::{Firing, Reference},
    window::{Entry, Window},
};

const KIND: [u8; 4] = *b"YLCO";
const VERSION: u32 = 1;

/// What came of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restored {
    /// Position the caller gave when the snapshot was taken: what came after it must be observed
    /// again.
    pub position: Vec<u8>,
    /// Groups that are back.
    pub groups: usize,
    /// Correlations whose state was dropped since they are gone or changed.
    pub dropped_correlations: usize,
    /// Groups of those, and groups this correlator has no room for.
    pub dropped_groups: usize,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SnapshotMessage {
    #[prost(bytes = "vec", tag = "1")]
    position: Vec<u8>,
    #[prost(sint64, tag = "2")]
    clock: i64,
    #[prost(message, repeated, tag = "3")]
    correlations: Vec<CorrelationMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CorrelationMessage {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bytes = "vec", tag = "2")]
    fingerprint: Vec<u8>,
    /// Least recently touched first.
    #[prost(message, repeated, tag = "3")]
    groups: Vec<GroupMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct GroupMessage {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(sint64, tag = "2")]
    touched: i64,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<EntryMessage>,
    /// Beginning and end of each span that fired, one after the other.
    #[prost(sint64, repeated, tag = "4")]
    fired: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EntryMessage {
    /// Nanoseconds since the entry before, or since 1970.
    #[prost(sint64, tag = "1")]
    time: i64,
    #[prost(uint32, tag = "2")]
    member: u32,
    /// Bits of the number, where numbers are aggregated.
    #[prost(fixed64, tag = "3")]
    number: u64,
    /// The text, where texts are counted.
    #[prost(bytes = "vec", tag = "4")]
    text: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    reference: Option<ReferenceMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ReferenceMessage {
    /// 16 bytes of an id, or of a firing when there are leaves or `firing` is set.
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    text: String,
    #[prost(bool, tag = "3")]
    firing: bool,
    #[prost(message, repeated, tag = "4")]
    leaves: Vec<LeafMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct LeafMessage {
    #[prost(bytes = "vec", tag = "1")]
    id: Vec<u8>,
    #[prost(string, tag = "2")]
    text: String,
}

impl Correlator {
    /// The state of all windows. `position` is handed back by [`Correlator::restore`]: the caller's
    /// place in its log after the last match that was observed.
    ///
    /// The bytes are the same whenever the same was observed. Costs a pass over everything held.
    pub fn snapshot(&self, position: &[u8]) -> Vec<u8> {
        let correlations = self.plans.all.iter().zip(&self.states);
        let message = SnapshotMessage {
            position: position.to_vec(),
            clock: self.clock,
            correlations: correlations
                .filter(|(_, state)| !state.groups.is_empty())
                .map(|(plan, state)| CorrelationMessage {
                    id: plan.about.id.clone(),
                    fingerprint: plan.fingerprint.to_vec(),
                    groups: state
                        .groups
                        .iter()
                        .rev()
                        .map(|(key, group)| write_group(key, group))
                        .collect(),
                })
                .collect(),
        };
        frame::seal(KIND, VERSION, &message)
    }

    /// Takes the state of a snapshot over in place of its own. State of correlations that are gone
    /// or mean something else now is dropped and counted; texts people read may change freely.
    ///
    /// # Errors
    /// The bytes are no whole snapshot of this version. The correlator is as it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<Restored, SnapshotError> {
        let message: SnapshotMessage = frame::open(KIND, VERSION, bytes)?;
        let mut restored = Restored {
            position: message.position,
            ..Restored::default()
        };
        let mut read = Vec::new();
        for correlation in &message.correlations {
            let plans = self.plans.all.iter().enumerate();
            let known = plans.into_iter().find(|(_, plan)| {
                plan.about.id == correlation.id && plan.fingerprint[..] == correlation.fingerprint
            });
            let Some((index, plan)) = known else {
                restored.dropped_correlations += 1;
                restored.dropped_groups += correlation.groups.len();
                continue;
            };
            for message in &correlation.groups {
                match read_group(plan, message).ok_or(SnapshotError::Damaged)? {
                    Some(group) => read.push((index, message.key.clone(), group)),
                    None => restored.dropped_groups += 1,
                }
            }
        }
        for state in &mut self.states {
            while state.forget_one() {}
        }
        self.clock = message.clock;
        for (index, key, group) in read {
            if let Some(state) = self.states.get_mut(index) {
                state.put(key, group);
            }
        }
        let most = self.limits().groups.max(1);
        for state in &mut self.states {
            while state.groups.len() > most && state.forget_one() {
                restored.dropped_groups += 1;
            }
        }
        self.bytes = self.states.iter().map(|state| state.bytes).sum();
        self.shrink();
        restored.groups = self.states.iter().map(|state| state.groups.len()).sum();
        self.counters.dropped_correlations += restored.dropped_correlations as u64;
        self.counters.dropped_groups += restored.dropped_groups as u64;
        Ok(restored)
    }
}

fn write_group(key: &[u8], group: &Group) -> GroupMessage {
    let (entries, fired) = group.window.state();
    let mut before = 0_i64;
    GroupMessage {
        key: key.to_vec(),
        touched: group.touched,
        entries: entries
            .iter()
            .map(|entry| {
                let text = group.window.text(entry.value);
                let time = entry.time.wrapping_sub(before);
                before = entry.time;
                EntryMessage {
                    time,
                    member: u32::from(entry.member),
                    number: if text.is_some() { 0 } else { entry.value },
                    text: text.unwrap_or_default().to_vec(),
                    reference: Some(write_reference(&entry.reference)),
                }
            })
            .collect(),
        fired: fired
            .iter()
            .flat_map(|(start, end)| [*start, *end])
            .collect(),
    }
}

/// `None` when it cannot have been written so, `Some(None)` when there is no room for it.
fn read_group(plan: &Plan, message: &GroupMessage) -> Option<Option<Group>> {
    if key::split(&message.key)?.len() != plan.group_by.len() {
        return None;
    }
    let mut entries = Vec::new();
    let mut time = 0_i64;
    for (place, entry) in message.entries.iter().enumerate() {
        let before = time;
        time = time.wrapping_add(entry.time);
        let in_order = place == 0 || time >= before;
        let number = f64::from_bits(entry.number);
        let readable = match plan.reckoning {
            Reckoning::Distinct => key::split(&entry.text).is_some(),
            _ if plan.counts_numbers() => crate::measure::number_is_fit(number),
            _ => true,
        };
        let member = u16::try_from(entry.member).ok()?;
        if !in_order || !readable || usize::from(member) >= plan.members.len() {
            return None;
        }
        let read = Entry {
            time,
            value: entry.number,
            member,
            reference: read_reference(entry.reference.as_ref()?)?,
        };
        entries.push((read, entry.text.clone()));
    }
    let (spans, rest) = message.fired.as_chunks::<2>();
    if !rest.is_empty() || spans.iter().any(|[start, end]| start > end) {
        return None;
    }
    let fired = spans.iter().map(|[start, end]| (*start, *end)).collect();
    Some(Window::restore(plan, entries, fired).map(|window| Group {
        window,
        touched: message.touched,
        bytes: 0,
    }))
}

fn write_reference(reference: &Reference) -> ReferenceMessage {
    let mut message = ReferenceMessage::default();
    match reference {
        Reference::Hex(id) => message.id = id.to_vec(),
        Reference::Text(text) => message.text = text.to_string(),
        Reference::Firing(firing) => {
            message.id = firing.id.to_vec();
            message.firing = true;
            message.leaves = firing
                .leaves
                .iter()
                .map(write_reference)
                .map(|leaf| LeafMessage {
                    id: leaf.id,
                    text: leaf.text,
                })
                .collect();
        }
    }
    message
}

fn read_reference(message: &ReferenceMessage) -> Option<Reference> {
    if !message.firing {
        return read_leaf(&message.id, &message.text);
    }
    let id = message.id.as_slice().try_into().ok()?;
    let leaves = message.leaves.iter();
    let leaves = leaves
        .map(|leaf| read_leaf(&leaf.id, &leaf.text))
        .collect::<Option<_>>()?;
    Some(Reference::Firing(Box::new(Firing { id, leaves })))
}

fn read_leaf(id: &[u8], text: &str) -> Option<Reference> {
    match id {
        [] => Some(Reference::Text(text.into())),
        id => id.try_into().ok().map(Reference::Hex),
    }
}
