//! The pipeline's thread: reads the log, takes steps, stores, commits, gives the log up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use yinglong_detect::Scratch;
use yinglong_model::{Alert, Event};
use yinglong_spool::Spool;
use yinglong_store::{EventStore, LogPosition, StateStore};

use crate::{
    live::{Item, Live},
    log::Entry,
    notify::Notifier,
    pipeline::{self, Outcome, Step},
    settings::Settings,
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
}

/// Runs until stopped.
pub struct Worker {
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
    /// Counters.
    pub progress: Arc<Progress>,
    /// Set to end.
    pub stop: Arc<AtomicBool>,
}

/// What the thread keeps between steps.
#[derive(Default)]
struct Judging {
    scratch: Scratch,
    training: Training,
}

impl Worker {
    /// Works off the log. On a stop, what was appended is committed first.
    pub fn run(self) {
        let mut next = 1 + match self.state.position() {
            Ok(position) => position.min(self.events.position()),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot begin");
                return;
            }
        };
        let (mut dirty, mut committed_at) = (0, Instant::now());
        let mut judging = Judging::default();
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
                match self.commit() {
                    Ok(()) => dirty = 0,
                    Err(error) => self.stall(&error),
                }
                committed_at = Instant::now();
            }
        }
        if let Err(error) = self.commit() {
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
        let done = self.state.position()?;
        let learn = settings.config.server.learn;
        let mut step = Step::new(
            &settings.engine,
            &mut judging.scratch,
            self.state.as_ref(),
            learn,
        );
        for (position, bytes) in &entries {
            match Entry::decode(bytes) {
                Some(entry) if *position > done => step.take(*position, &entry)?,
                // Judged before a crash; the event store passes over what it has, too.
                Some(entry) => self
                    .events
                    .append(&pipeline::decode(&entry).events, *position)?,
                None => {
                    tracing::error!(position, "a log entry is damaged and passed over");
                    self.progress
                        .damaged_entries
                        .fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        let mut outcome = step.finish();
        if last > done {
            outcome.changes.position = last;
            self.state.apply(&outcome.changes)?;
            self.events.append(&outcome.events, last)?;
        }
        *next = last + 1;
        self.progress.position.store(last, Ordering::Relaxed);
        judging.training.watch(&outcome.events, &self.settings);
        self.publish(outcome);
        Ok(entries.len())
    }

    fn publish(&self, outcome: Outcome) {
        let Outcome {
            events,
            changes,
            raised,
        } = outcome;
        self.progress
            .events
            .fetch_add(events.len() as u64, Ordering::Relaxed);
        let fresh = changes
            .alerts
            .iter()
            .filter(|alert| alert.count == 1)
            .count();
        self.progress
            .alerts
            .fetch_add(fresh as u64, Ordering::Relaxed);
        if self.live.is_watched() {
            let alerts = changes
                .alerts
                .into_iter()
                .map(|a: Alert| Item::Alert(Arc::new(a)));
            let events = events.into_iter().map(|e: Event| Item::Event(Arc::new(e)));
            events.chain(alerts).for_each(|item| self.live.show(item));
        }
        for alert in raised {
            self.notifier.announce(alert);
        }
    }

    /// Commits events and gives up what both stores have.
    fn commit(&self) -> yinglong_store::Result<()> {
        let position = self.events.commit()?.min(self.state.position()?);
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
