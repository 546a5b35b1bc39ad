//! From log entries to what is stored: events, counters, inventories, alerts.
//!
//! A step is deterministic: the same entries over the same stores give the same result, so a crash
//! between two stores is healed by taking the step again.

use std::collections::{BTreeMap, HashMap, HashSet};

use sha2::{Digest, Sha256};
use yinglong_correlate::stories::Story;
use yinglong_detect::{
    Detection, Element, Engine, Scratch,
    alerting::{self, Decision},
};
use yinglong_model::{
    AgentId, Alert, Event, EventId, Inventory, InventoryType, Observation, Timestamp,
    alert::Status, id::Epoch, inventory, statistics,
};
use yinglong_proto::decode_record;
use yinglong_rules::Class;
use yinglong_store::{
    LogPosition, StateStore,
    state_store::{Changes, Counted, Identity, Report, StoredInventory},
};

use crate::{
    correlated,
    intelligence::{Consultation, Question},
    log::Entry,
    relations::Relations,
};

/// Stream under which records are counted that no version of this server can read.
pub const UNREADABLE: &str = "unreadable";

/// What one step produced.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Events to be stored and shown live.
    pub events: Vec<Event>,
    /// What the state store has to apply.
    pub changes: Changes,
    /// Alerts that are new and open: to be announced.
    pub raised: Vec<Alert>,
    /// Stories that new alerts belong to, as they stand now.
    pub stories: BTreeMap<String, Story>,
    /// What intelligence APIs have to be asked once the step is stored.
    pub questions: Vec<Question>,
}

/// A log entry's records.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Events, in order.
    pub events: Vec<Event>,
    /// Inventories with the time they were taken, in order.
    pub inventories: Vec<(Timestamp, Inventory)>,
    /// Records that no version of this server can read.
    pub unreadable: u64,
}

/// Reads the records of a log entry.
pub fn decode(entry: &Entry) -> Decoded {
    let mut decoded = Decoded::default();
    for (place, record) in entry.records.iter().enumerate() {
        let seq = entry.first_seq + place as u64;
        match decode_record(record) {
            Ok((observed_at, Observation::Event { occurred_at, data })) => {
                decoded.events.push(Event {
                    id: EventId::derive(&entry.agent, entry.epoch, seq),
                    agent_id: entry.agent.clone(),
                    ip: entry.ip.clone(),
                    hostname: entry.hostname.clone(),
                    system: entry.system,
                    seq,
                    time: occurred_at,
                    observed_at,
                    ingested_at: entry.ingested_at,
                    data,
                });
            }
            Ok((observed_at, Observation::Inventory(inventory))) => {
                decoded.inventories.push((observed_at, inventory));
            }
            Err(error) => {
                tracing::warn!(agent = %entry.agent, seq, %error, "a record cannot be read");
                decoded.unreadable += 1;
            }
        }
    }
    decoded
}

fn report(event: &Event) -> Option<Report> {
    Some(Report {
        kind: event.data.event_type().as_str().to_owned(),
        info: statistics::event_value(&event.data)?,
        agent: event.agent_id.clone(),
        at: event.time,
    })
}

/// Where an element came from.
struct Origin<'a> {
    entry: &'a Entry,
    time: Timestamp,
    /// The event, unless it is an element of an inventory.
    event: Option<&'a Event>,
}

/// One step under construction.
pub struct Step<'a> {
    engine: &'a Engine,
    scratch: &'a mut Scratch,
    /// Without them, alerts belong to no story and matches to no correlation.
    relations: Option<&'a mut Relations>,
    state: &'a dyn StateStore,
    learn: bool,
    intelligence: Option<Consultation>,
    outcome: Outcome,
    /// Alerts of this step by identity, as an index into the changes.
    touched: HashMap<Identity, usize>,
    stored: HashMap<(AgentId, String), u64>,
    inventories: HashMap<(AgentId, InventoryType), StoredInventory>,
}

impl<'a> Step<'a> {
    /// Begins a step.
    pub fn new(
        engine: &'a Engine,
        scratch: &'a mut Scratch,
        state: &'a dyn StateStore,
        learn: bool,
    ) -> Self {
        Self {
            engine,
            scratch,
            relations: None,
            state,
            learn,
            intelligence: None,
            outcome: Outcome::default(),
            touched: HashMap::new(),
            stored: HashMap::new(),
            inventories: HashMap::new(),
        }
    }

    /// Consults threat intelligence about events.
    #[must_use]
    pub fn consulting(mut self, intelligence: Consultation) -> Self {
        self.intelligence = Some(intelligence);
        self
    }

    /// Takes in what an intelligence API answered about an event of an earlier step.
    ///
    /// # Errors
    /// The state store cannot answer.
    pub fn answered(
        &mut self,
        event: &Event,
        detection: Detection,
        now: Timestamp,
    ) -> yinglong_store::Result<()> {
        let entry = Entry {
            agent: event.agent_id.clone(),
            epoch: Epoch(0),
            first_seq: 0,
            ingested_at: now,
            ip: event.ip.clone(),
            hostname: event.hostname.clone(),
            system: event.system,
            records: Vec::new(),
        };
        let origin = Origin {
            entry: &entry,
            time: event.time,
            event: Some(event),
        };
        let raw = serde_json::to_value(event).unwrap_or_default();
        let kind = event.data.event_type().as_str();
        self.detected(&origin, kind, vec![detection], &raw)
    }

    /// Follows correlations and stories as well.
    pub fn relating(mut self, relations: &'a mut Relations) -> Self {
        self.relations = Some(relations);
        self
    }

    /// Takes entries in, in the order of the log.
    ///
    /// # Errors
    /// The state store cannot answer; the step must be taken again as a whole.
    pub fn take(&mut self, position: LogPosition, entry: &Entry) -> yinglong_store::Result<()> {
        let Decoded {
            events,
            inventories,
            unreadable,
        } = decode(entry);
        let reports: Vec<_> = events.iter().map(report).collect();
        let counts = self.count(&reports)?;
        for (event, count) in events.into_iter().zip(counts) {
            self.event(position, entry, event, count)?;
        }
        for (taken_at, inventory) in inventories {
            self.inventory(entry, taken_at, inventory)?;
        }
        for _ in 0..unreadable {
            self.add_stored(&entry.agent, UNREADABLE);
        }
        self.outcome.changes.position = position;
        self.outcome
            .changes
            .acked
            .push((entry.agent.clone(), entry.epoch, entry.last_seq()));
        Ok(())
    }

    /// Ends the step.
    pub fn finish(mut self) -> Outcome {
        let changes = &mut self.outcome.changes;
        changes.stored = self
            .stored
            .into_iter()
            .map(|((agent, s), n)| (agent, s, n))
            .collect();
        changes.inventories = self
            .inventories
            .into_iter()
            .map(|((agent, kind), list)| (agent, kind, list))
            .collect();
        self.outcome
    }

    fn event(
        &mut self,
        position: LogPosition,
        entry: &Entry,
        event: Event,
        counted: Option<Counted>,
    ) -> yinglong_store::Result<()> {
        let kind = event.data.event_type().as_str();
        let element = Element {
            class: Class::from(event.data.event_type()),
            system: event.system,
            fields: &event.data,
            count: counted.map(|counted| counted.count),
            learn: self.learn,
        };
        let mut verdict = self.engine.evaluate(&element, self.scratch);
        if let Some(relations) = self.relations.as_mut() {
            relations.note(&event);
        }
        if let Some(intelligence) = &self.intelligence
            && verdict.whitelisted.is_none()
        {
            let consulted = intelligence.consult(&event);
            verdict.detections.extend(consulted.detection);
            self.outcome.questions.extend(consulted.question);
        }
        if !verdict.detections.is_empty() {
            let origin = Origin {
                entry,
                time: event.time,
                event: Some(&event),
            };
            let raw = serde_json::to_value(&event).unwrap_or_default();
            let mut detections = verdict.detections;
            let mut taken = Vec::new();
            if let Some(relations) = &self.relations {
                let rules = detections.iter().map(|detection| &detection.rule_id);
                taken.extend(rules.filter(|rule| relations.takes(rule)).cloned());
                detections.retain(|detection| !relations.silences(&detection.rule_id));
            }
            self.detected(&origin, kind, detections, &raw)?;
            for rule in taken {
                let fired = match self.relations.as_mut() {
                    Some(relations) => relations.observe(position, &rule, &event),
                    None => Vec::new(),
                };
                for fired in fired.into_iter().filter(|fired| fired.alert) {
                    let raw = correlated::evidence(&raw, &fired);
                    let detection = correlated::detection(fired);
                    self.detected(&origin, kind, vec![detection], &raw)?;
                }
            }
        }
        self.add_stored(&event.agent_id, kind);
        self.outcome.events.push(event);
        Ok(())
    }

    /// Judges what is new in a list. What the host reported before is neither counted nor judged
    /// again, so a restart of an agent raises nothing.
    fn inventory(
        &mut self,
        entry: &Entry,
        taken_at: Timestamp,
        inventory: Inventory,
    ) -> yinglong_store::Result<()> {
        let slot = (entry.agent.clone(), inventory.kind);
        let previous = match self.inventories.remove(&slot) {
            Some(list) => Some(list),
            None => self.state.inventory(&entry.agent, inventory.kind)?,
        };
        let known: HashSet<&inventory::Element> =
            previous.iter().flat_map(|list| &list.data).collect();
        let fresh: Vec<&inventory::Element> = inventory
            .data
            .iter()
            .filter(|element| !known.contains(element))
            .collect();
        let kind = inventory.kind.as_str();
        let key = statistics::inventory_key(inventory.kind);
        let reports: Vec<Option<Report>> = fresh
            .iter()
            .map(|element| {
                let info = element.get(key?).filter(|value| !value.is_empty())?;
                Some(Report {
                    kind: kind.to_owned(),
                    info: info.clone(),
                    agent: entry.agent.clone(),
                    at: taken_at,
                })
            })
            .collect();
        let counts = self.count(&reports)?;
        let origin = Origin {
            entry,
            time: taken_at,
            event: None,
        };
        for (element, counted) in fresh.into_iter().zip(counts) {
            let judged = Element {
                class: Class::from(inventory.kind),
                system: entry.system,
                fields: element,
                count: counted.map(|counted| counted.count),
                learn: self.learn,
            };
            let verdict = self.engine.evaluate(&judged, self.scratch);
            if !verdict.detections.is_empty() {
                let raw = serde_json::to_value(element).unwrap_or_default();
                self.detected(&origin, kind, verdict.detections, &raw)?;
            }
        }
        self.add_stored(&entry.agent, "inventory");
        let list = StoredInventory {
            data: inventory.data,
            uptime: taken_at,
        };
        self.inventories.insert(slot, list);
        Ok(())
    }

    fn count(&self, reports: &[Option<Report>]) -> yinglong_store::Result<Vec<Option<Counted>>> {
        let present: Vec<Report> = reports.iter().flatten().cloned().collect();
        let mut counted = self.state.count(&present)?.into_iter();
        Ok(reports
            .iter()
            .map(|report| report.as_ref().and_then(|_| counted.next()))
            .collect())
    }

    fn detected(
        &mut self,
        origin: &Origin<'_>,
        kind: &str,
        detections: Vec<Detection>,
        raw: &serde_json::Value,
    ) -> yinglong_store::Result<()> {
        for detection in detections {
            let identity = Identity {
                agent: origin.entry.agent.clone(),
                source: detection.source.clone(),
                kind: kind.to_owned(),
                info: detection.info.clone(),
            };
            let existing = match self.touched.get(&identity) {
                Some(index) => self.outcome.changes.alerts.get(*index).cloned(),
                None => self.state.alert_by_identity(&identity)?,
            };
            match alerting::decide(existing.as_ref(), self.learn) {
                Decision::Silent => {}
                Decision::Count => {
                    if let Some(mut alert) = existing {
                        alert.count += 1;
                        alert.uptime = alert.uptime.max(origin.time);
                        self.put_alert(identity, alert);
                    }
                }
                Decision::New(status) => {
                    let mut alert = new_alert(origin, &identity, detection, raw.clone(), status);
                    if let Some(relations) = self.relations.as_mut() {
                        let story = relations.place(&alert, origin.event);
                        alert.story.clone_from(&story.id);
                        self.outcome.stories.insert(story.id.clone(), story);
                    }
                    if status == Status::Open {
                        self.outcome.raised.push(alert.clone());
                    }
                    self.put_alert(identity, alert);
                }
            }
        }
        Ok(())
    }

    fn put_alert(&mut self, identity: Identity, alert: Alert) {
        let alerts = &mut self.outcome.changes.alerts;
        match self
            .touched
            .get(&identity)
            .and_then(|index| alerts.get_mut(*index))
        {
            Some(slot) if slot.id == alert.id => *slot = alert,
            _ => {
                self.touched.insert(identity, alerts.len());
                alerts.push(alert);
            }
        }
    }

    fn add_stored(&mut self, agent: &AgentId, stream: &str) {
        *self
            .stored
            .entry((agent.clone(), stream.to_owned()))
            .or_default() += 1;
    }
}

fn new_alert(
    origin: &Origin<'_>,
    identity: &Identity,
    detection: Detection,
    raw: serde_json::Value,
    status: Status,
) -> Alert {
    Alert {
        id: alert_id(identity, origin.entry.ingested_at),
        agent_id: identity.agent.clone(),
        ip: origin.entry.ip.clone(),
        hostname: origin.entry.hostname.clone(),
        kind: identity.kind.clone(),
        source: detection.source,
        rule_id: detection.rule_id,
        level: detection.level,
        info: detection.info,
        description: detection.description,
        description_zh: detection.description_zh,
        attack: detection.attack,
        status,
        time: origin.time,
        raised_at: origin.entry.ingested_at,
        uptime: origin.time,
        count: 1,
        matched: detection.matched,
        raw,
        story: String::new(),
    }
}

/// Follows an entry that was judged before a crash: only the memory of correlations and stories comes
/// of it.
///
/// # Errors
/// The state store cannot answer.
pub fn follow_again(
    engine: &Engine,
    scratch: &mut Scratch,
    relations: &mut Relations,
    state: &dyn StateStore,
    position: LogPosition,
    entry: &Entry,
) -> yinglong_store::Result<()> {
    for event in decode(entry).events {
        relations.note(&event);
        let kind = event.data.event_type();
        let verdict = engine.evaluate(
            &Element {
                class: Class::from(kind),
                system: event.system,
                fields: &event.data,
                // What it was then is not known; rules about it take part in no correlation.
                count: None,
                learn: false,
            },
            scratch,
        );
        let mut detections = verdict.detections;
        let rules: Vec<String> = detections.iter().map(|d| d.rule_id.clone()).collect();
        for rule in &rules {
            if !relations.takes(rule) {
                continue;
            }
            let fired = relations.observe(position, rule, &event);
            detections.extend(fired.into_iter().map(correlated::detection));
        }
        for detection in detections {
            let identity = Identity {
                agent: event.agent_id.clone(),
                source: detection.source,
                kind: kind.as_str().to_owned(),
                info: detection.info,
            };
            if let Some(alert) = state.alert_by_identity(&identity)?
                && alert.raised_at == entry.ingested_at
            {
                relations.place(&alert, Some(&event));
            }
        }
    }
    relations.applied(position);
    Ok(())
}

/// Hash of the identity and of the moment: taking a step again gives the same id.
pub fn alert_id(identity: &Identity, raised_at: Timestamp) -> String {
    let mut hash = Sha256::new();
    for part in [
        identity.agent.as_str(),
        &identity.source,
        &identity.kind,
        &identity.info,
    ] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.update(raised_at.nanos().to_le_bytes());
    hash.finalize()
        .iter()
        .take(16)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
