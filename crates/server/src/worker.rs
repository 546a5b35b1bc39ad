//! The pipeline's thread: reads the log, takes steps, stores, commits, gives the log up.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use yinglong_correlate::{Counters, stories::StoryCounters};
use yinglong_detect::{Engine, Scratch};
use yinglong_model::{Alert, Event};
use yinglong_spool::Spool;
use yinglong_store::{EventStore, LogPosition, StateStore};

use crate::{
    intelligence::Intelligence,
    live::{Item, Live},
    log::Entry,
    notify::Notifier,
    pipeline::{self, Outcome, Step},
    relations::Relations,
    settings::Settings,
    stories::STORIES,
    training::Training,
};

/// Log entries in one step: a few thousand events at most.
const STEP_ENTRIES: usize = 32;
const STEP_BYTES: usize = 2 << 20;

/// Longest time an event waits to become searchable.
const COMMIT_INTERVAL: Duration = Duration::from_millis(500);
/// Events after which the store is committed earlier.
const COMMIT_EVENTS: usize = 20_000;

/// Longest wait before a store that failed is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// What the pipeline has done and where it stands.
#[derive(Debug, Default)]
pub struct Progress {
    /// Events stored since the server started.
    pub events: AtomicU64,
    /// Alerts raised since the server started, learned ones included.
    pub alerts: AtomicU64,
    /// Log entries that are damaged and were passed over.
    pub damaged_entries: AtomicU64,
    /// Steps that failed and were taken again.
    pub retries: AtomicU64,
    /// Position of the last step.
    pub position: AtomicU64,
    /// The last step failed: the stores do not take anything now.
    pub stalled: AtomicBool,
    /// What happened in correlations and stories.
    pub relations: Mutex<(Counters, StoryCounters)>,
}

impl Progress {
    fn note_relations(&self, relations: &Relations) {
        let counters = relations.counters();
        *self
            .relations
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = counters;
    }
}

/// Runs until stopped.
pub struct Worker {
    /// Folder of the server.
    pub folder: PathBuf,
    /// Log to read.
    pub log: Spool,
    /// Where events go.
    pub events: Arc<dyn EventStore>,
    /// Where state goes.
    pub state: Arc<dyn StateStore>,
    /// Rules and learn mode.
    pub settings: Arc<Settings>,
    /// Watchers.
    pub live: Live,
    /// Announcer of alerts.
    pub notifier: Notifier,
    /// Feeds and APIs.
    pub intelligence: Intelligence,
    /// Held during a step: answers of intelligence APIs store alerts as well.
    pub writing: Arc<Mutex<()>>,
    /// Counters.
    pub progress: Arc<Progress>,
    /// Set to end.
    pub stop: Arc<AtomicBool>,
}

/// Time between two snapshots of correlations and stories; the log is kept that long.
const SNAPSHOT_INTERVAL: Duration = Duration::from_secs(30);

/// What the thread keeps between steps.
struct Judging {
    scratch: Scratch,
    training: Training,
    relations: Relations,
    /// When correlations and stories were saved last.
    saved_at: Option<Instant>,
}

impl Worker {
    /// Works off the log. On a stop, what was appended is committed first.
    pub fn run(self) {
        let position = match self.state.position() {
            Ok(position) => position,
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot begin");
                return;
            }
        };
        let relations = Relations::open(&self.folder, &self.settings.current(), position);
        self.progress.note_relations(&relations);
        let mut next = 1 + position.min(self.events.position()).min(relations.saved());
        let (mut dirty, mut committed_at) = (0, Instant::now());
        let mut judging = Judging {
            scratch: Scratch::default(),
            training: Training::default(),
            relations,
            saved_at: None,
        };
        while !self.stop.load(Ordering::Acquire) {
            let wait = if dirty > 0 {
                COMMIT_INTERVAL / 5
            } else {
                COMMIT_INTERVAL
            };
            if self.log.wait_beyond(next - 1, wait) >= next {
                match self.step(&mut next, &mut judging) {
                    Ok(events) => {
                        dirty += events;
                        self.progress.stalled.store(false, Ordering::Relaxed);
                    }
                    Err(error) => {
                        self.state.discard();
                        self.stall(&error);
                    }
                }
            }
            let due = committed_at.elapsed() >= COMMIT_INTERVAL || dirty >= COMMIT_EVENTS;
            if dirty > 0 && due {
                match self.commit(&mut judging) {
                    Ok(()) => dirty = 0,
                    Err(error) => self.stall(&error),
                }
                committed_at = Instant::now();
            }
        }
        judging.saved_at = None;
        if let Err(error) = self.commit(&mut judging) {
            // Nothing is lost: the log still has it.
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the last commit failed"
            );
        }
    }

    /// Takes what the log has from `next` on; returns how many entries were taken.
    fn step(&self, next: &mut LogPosition, judging: &mut Judging) -> yinglong_store::Result<usize> {
        let entries = match self.log.read(*next, STEP_ENTRIES, STEP_BYTES) {
            Ok(entries) => entries,
            Err(yinglong_spool::Error::Corrupt {
                first_lost,
                last_lost,
                path,
            }) => {
                tracing::error!(
                    ?path,
                    first_lost,
                    last_lost,
                    "the log is damaged there; what follows is used"
                );
                let lost = last_lost - first_lost + 1;
                self.progress
                    .damaged_entries
                    .fetch_add(lost, Ordering::Relaxed);
                *next = last_lost + 1;
                return Ok(0);
            }
            Err(error) => {
                let kind = yinglong_store::Kind::Unavailable;
                return Err(yinglong_store::Error::caused(
                    kind,
                    "cannot read the log",
                    error,
                ));
            }
        };
        let Some((last, _)) = entries.last() else {
            return Ok(0);
        };
        let last = *last;
        let settings = self.settings.current();
        let writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let done = self.state.position()?;
        let learn = settings.config.server.learn;
        judging.relations.follow(&settings);
        let (again, fresh): (Vec<_>, Vec<_>) =
            entries.iter().partition(|(position, _)| *position <= done);
        for (position, bytes) in again {
            self.take_again(&settings.engine, judging, *position, bytes)?;
        }
        judging.relations.begin();
        let mut step = Step::new(
            &settings.engine,
            &mut judging.scratch,
            self.state.as_ref(),
            learn,
        )
        .relating(&mut judging.relations)
        .consulting(self.intelligence.consultation(&settings));
        for (position, bytes) in fresh {
            match Entry::decode(bytes) {
                Some(entry) => step.take(*position, &entry)?,
                None => self.damaged(*position),
            }
        }
        let mut outcome = step.finish();
        if last > done {
            outcome.changes.position = last;
            self.state.apply(&outcome.changes)?;
            judging.relations.applied(last);
            self.events.append(&outcome.events, last)?;
            self.store_stories(&outcome);
        } else {
            judging.relations.applied(done);
        }
        drop(writing);
        *next = last + 1;
        self.progress.position.store(last, Ordering::Relaxed);
        judging.training.watch(&outcome.events, &self.settings);
        for question in std::mem::take(&mut outcome.questions) {
            self.intelligence.ask(question);
        }
        publish(outcome, &self.progress, &self.live, &self.notifier);
        Ok(entries.len())
    }

    /// Takes an entry that was judged before a crash. The event store passes over what it has, and
    /// correlations and stories remember.
    fn take_again(
        &self,
        engine: &Engine,
        judging: &mut Judging,
        position: LogPosition,
        bytes: &[u8],
    ) -> yinglong_store::Result<()> {
        let Some(entry) = Entry::decode(bytes) else {
            self.damaged(position);
            return Ok(());
        };
        self.events
            .append(&pipeline::decode(&entry).events, position)?;
        if position > judging.relations.saved() {
            pipeline::follow_again(
                engine,
                &mut judging.scratch,
                &mut judging.relations,
                self.state.as_ref(),
                position,
                &entry,
            )?;
        }
        Ok(())
    }

    fn damaged(&self, position: LogPosition) {
        tracing::error!(position, "a log entry is damaged and passed over");
        self.progress
            .damaged_entries
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Stories follow from alerts that are stored; what is missed here comes with their next alert.
    fn store_stories(&self, outcome: &Outcome) {
        if outcome.stories.is_empty() {
            return;
        }
        let documents: Vec<_> = outcome
            .stories
            .iter()
            .map(|(id, story)| (id.clone(), serde_json::to_value(story).ok()))
            .collect();
        if let Err(error) = self.state.put_documents(STORIES, &documents) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "stories were not stored"
            );
        }
    }

    /// Commits events and gives up what both stores, and the snapshot of correlations, have.
    fn commit(&self, judging: &mut Judging) -> yinglong_store::Result<()> {
        let applied = self.state.position()?;
        let due = |at: Instant| at.elapsed() >= SNAPSHOT_INTERVAL;
        if judging.saved_at.is_none_or(due) {
            judging.saved_at = Some(Instant::now());
            if let Err(error) = judging.relations.save(applied) {
                tracing::warn!(%error, "correlations were not saved; the log keeps what they need");
            }
        }
        self.progress.note_relations(&judging.relations);
        let position = self
            .events
            .commit()?
            .min(applied)
            .min(judging.relations.saved());
        self.log.release(position).map_err(|error| {
            let kind = yinglong_store::Kind::Unavailable;
            yinglong_store::Error::caused(kind, "cannot shorten the log", error)
        })
    }

    fn stall(&self, error: &yinglong_store::Error) {
        self.progress.retries.fetch_add(1, Ordering::Relaxed);
        self.progress.stalled.store(true, Ordering::Relaxed);
        tracing::error!(
            error = error as &dyn std::error::Error,
            "the stores do not take events now; they wait in the log"
        );
        let until = Instant::now() + RETRY_INTERVAL;
        while Instant::now() < until && !self.stop.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// Counts what was stored, shows it to watchers and announces what is open.
pub(crate) fn publish(outcome: Outcome, progress: &Progress, live: &Live, notifier: &Notifier) {
    let Outcome {
        events,
        changes,
        raised,
        questions: _,
        stories: _,
    } = outcome;
    progress
        .events
        .fetch_add(events.len() as u64, Ordering::Relaxed);
    let fresh = changes
        .alerts
        .iter()
        .filter(|alert| alert.count == 1)
        .count();
    progress.alerts.fetch_add(fresh as u64, Ordering::Relaxed);
    if live.is_watched() {
        let alerts = changes
            .alerts
            .into_iter()
            .map(|a: Alert| Item::Alert(Arc::new(a)));
        let events = events.into_iter().map(|e: Event| Item::Event(Arc::new(e)));
        events.chain(alerts).for_each(|item| live.show(item));
    }
    for alert in raised {
        notifier.announce(alert);
    }
}

#[cfg(test)]
mod tests;
