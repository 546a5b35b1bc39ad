//! Losses become events, so that people see them and rules can alert.
//!
//! - **Guarantees**: what all loss events tell and what waits here is what the ledger has, per stream
//!   and reason, to the unit and also after a kill, because all of it is one note of the spool. The
//!   first event follows the commit that told the loss at once, further ones once a second.
//! - **Invariants**: an event is of the dearest class, and takes the room that is kept for it.
//! - **Not here**: what was lost before an agent that tells it.

use std::{
    collections::HashMap,
    io,
    sync::{PoisonError, atomic::Ordering},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use yinglong_model::{
    DropReason, EventData, EventType, Observation, Timestamp, Worth, event::Loss, ledger::Origin,
};
use yinglong_proto::encode_record;

use super::{Books, now, room::Entry};

/// Origins of one stream and reason that are told apart until the next event.
const ORIGINS: usize = 16;
/// Pause between two events of a stream and reason.
const PAUSE: Duration = Duration::from_secs(1);
/// The same, of losses that go on for [`LONG`]: a server that is away for a day should not find a
/// spool full of them.
const LONG_PAUSE: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);
/// Pause when the spool did not take an event.
const RETRY: Duration = Duration::from_secs(1);

/// Losses that no event has told yet.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Losses(Vec<Untold>);

/// What one event will tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Untold {
    stream: String,
    reason: DropReason,
    #[serde(flatten)]
    origin: Origin,
    count: u64,
    from: Timestamp,
    to: Timestamp,
}

impl Losses {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Enters a loss between two looks.
    pub(super) fn add(
        &mut self,
        stream: &str,
        reason: DropReason,
        origin: &Origin,
        count: u64,
        (from, to): (Timestamp, Timestamp),
    ) {
        if count == 0 {
            return;
        }
        self.merge(Untold {
            stream: stream.to_owned(),
            reason,
            origin: origin.clone(),
            count,
            // A clock that was set back must not make a time that ends before it begins.
            from: from.min(to),
            to,
        });
    }

    /// Enters all of others.
    pub(super) fn extend(&mut self, others: Self) {
        for untold in others.0 {
            self.merge(untold);
        }
    }

    fn merge(&mut self, mut new: Untold) {
        let mut alike = self.0.iter_mut().filter(|known| known.is_like(&new));
        if let Some(known) = alike.find(|known| known.origin == new.origin) {
            return known.take_in(&new);
        }
        let origins = self.0.iter().filter(|known| known.is_like(&new)).count();
        if origins < ORIGINS {
            return self.0.push(new);
        }
        new.origin = Origin::default();
        let mut alike = self.0.iter_mut().filter(|known| known.is_like(&new));
        match alike.find(|known| known.origin == new.origin) {
            Some(known) => known.take_in(&new),
            None => self.0.push(new),
        }
    }

    /// How many of a stream and reason wait.
    #[cfg(test)]
    pub(super) fn count(&self, stream: &str, reason: DropReason) -> u64 {
        let alike = |untold: &&Untold| untold.stream == stream && untold.reason == reason;
        self.0.iter().filter(alike).map(|untold| untold.count).sum()
    }
}

impl Untold {
    fn is_like(&self, other: &Self) -> bool {
        self.stream == other.stream && self.reason == other.reason
    }

    fn take_in(&mut self, other: &Self) {
        self.count += other.count;
        self.from = self.from.min(other.from);
        self.to = self.to.max(other.to);
    }

    fn record(self) -> Vec<u8> {
        let observation = Observation::Event {
            occurred_at: self.to,
            data: EventData::Loss(Box::new(
                Loss {
                    stream: self.stream,
                    reason: self.reason.as_str().to_owned(),
                    count: self.count,
                    from: self.from,
                    to: self.to,
                    ..Loss::default()
                }
                .of(self.origin),
            )),
        };
        encode_record(now(), &observation)
    }
}

/// When the next event of a stream and reason may follow.
#[derive(Debug, Default)]
struct Pace(HashMap<(String, DropReason), Told>);

#[derive(Debug, Clone, Copy)]
struct Told {
    last: Instant,
    /// Since when there was one event after the other.
    since: Instant,
}

impl Told {
    fn pause(&self) -> Duration {
        if self.last.duration_since(self.since) >= LONG {
            LONG_PAUSE
        } else {
            PAUSE
        }
    }
}

impl Pace {
    /// How long an event has to wait at `now`.
    fn wait(&self, untold: &Untold, now: Instant) -> Duration {
        self.0
            .get(&(untold.stream.clone(), untold.reason))
            .map_or(Duration::ZERO, |told| {
                (told.last + told.pause()).saturating_duration_since(now)
            })
    }

    /// Enters that an event was told at `now`.
    fn told(&mut self, stream: &str, reason: DropReason, now: Instant) {
        let told = self.0.entry((stream.to_owned(), reason)).or_insert(Told {
            last: now,
            since: now,
        });
        if now.duration_since(told.last) > 2 * told.pause() {
            told.since = now;
        }
        told.last = now;
    }
}

/// Tells losses on a thread of its own, which sleeps while there are none, until [`Books::close`].
///
/// # Errors
/// The operating system refuses a thread.
pub(crate) fn tell(books: &Books) -> io::Result<JoinHandle<()>> {
    let books = books.clone();
    thread::Builder::new()
        .name(EventType::Loss.as_str().to_owned())
        .spawn(move || run(&books))
}

fn run(books: &Books) {
    let shared = &books.0;
    let mut pace = Pace::default();
    let mut note = books.lock();
    loop {
        let closed = shared.closed.load(Ordering::Acquire);
        if note.untold.is_empty() {
            if closed {
                return;
            }
            note = shared
                .lost
                .wait(note)
                .unwrap_or_else(PoisonError::into_inner);
            continue;
        }
        let now = Instant::now();
        let waits = note.untold.0.iter().map(|untold| pace.wait(untold, now));
        let wait = if closed {
            Duration::ZERO
        } else {
            waits.min().unwrap_or_default()
        };
        let wait = if wait.is_zero() {
            let due = |untold: &Untold| closed || pace.wait(untold, now).is_zero();
            match books.tell_due(&mut note, due) {
                Ok(told) => {
                    for (stream, reason) in told {
                        pace.told(&stream, reason, now);
                    }
                    continue;
                }
                Err(error) => {
                    // They stay in the note, and are told when there is room, or by the next agent.
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "losses cannot be told yet"
                    );
                    if closed {
                        return;
                    }
                    RETRY
                }
            }
        } else {
            wait
        };
        note = shared
            .lost
            .wait_timeout(note, wait)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
    }
}

impl Books {
    /// Writes the events that are due, and takes them out of what is untold, as one unit.
    fn tell_due(
        &self,
        note: &mut super::Note,
        due: impl Fn(&Untold) -> bool,
    ) -> Result<Vec<(String, DropReason)>, yinglong_spool::Error> {
        let mut next = note.clone();
        let (told, untold) = next.untold.0.into_iter().partition(due);
        next.untold = Losses(untold);
        let told: Vec<Untold> = told;
        let keys = told
            .iter()
            .map(|told| (told.stream.clone(), told.reason))
            .collect();
        let records: Vec<_> = told
            .into_iter()
            .map(|told| Entry {
                stream: EventType::Loss.as_str(),
                worth: Worth::Loss,
                record: told.record(),
            })
            .collect();
        let ledger = next.ledger.stream(EventType::Loss.as_str());
        ledger.emitted += records.len() as u64;
        ledger.spooled += records.len() as u64;
        let bytes = serde_json::to_vec(&next).expect("a note is numbers and texts");
        let last = self.0.spool.append(&records, &bytes)?;
        *note = next;
        self.0.appended.send_replace(last);
        Ok(keys)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn of(cgroup: &str) -> Origin {
        Origin {
            cgroup: Some(cgroup.into()),
            ..Origin::default()
        }
    }

    #[test]
    fn losses_of_the_same_kind_become_one_event_over_all_their_time() {
        let mut losses = Losses::default();
        let mut add = |stream, reason, origin, count, time| {
            losses.add(stream, reason, origin, count, time);
        };
        let (none, a) = (Origin::default(), of("/a"));
        add("dns", DropReason::RingFull, &none, 3, (at(5), at(6)));
        add("dns", DropReason::RingFull, &none, 4, (at(6), at(8)));
        add("dns", DropReason::RingFull, &none, 0, (at(8), at(9)));
        add("dns", DropReason::OverShare, &a, 1, (at(5), at(6)));
        add("file", DropReason::RingFull, &none, 1, (at(9), at(2)));
        let told: Vec<_> = losses
            .0
            .iter()
            .map(|loss| (loss.stream.as_str(), loss.count, loss.from, loss.to))
            .collect();
        assert_eq!(
            told,
            [
                ("dns", 7, at(5), at(8)),
                ("dns", 1, at(5), at(6)),
                ("file", 1, at(2), at(2))
            ]
        );
    }

    #[test]
    fn more_origins_than_are_told_apart_are_told_without() {
        let mut losses = Losses::default();
        for n in 0..100 {
            let origin = of(&format!("/{n}"));
            losses.add("dns", DropReason::OverShare, &origin, 1, (at(1), at(2)));
        }
        assert_eq!(losses.0.len(), ORIGINS + 1);
        assert_eq!(losses.count("dns", DropReason::OverShare), 100);
        // One that is known keeps its name.
        losses.add("dns", DropReason::OverShare, &of("/3"), 5, (at(1), at(2)));
        assert_eq!(losses.0[3].count, 6);
    }

    #[test]
    fn the_first_event_comes_at_once_further_ones_each_second_and_after_a_minute_less_often() {
        let mut losses = Losses::default();
        let none = Origin::default();
        losses.add("dns", DropReason::Shed, &none, 1, (at(1), at(2)));
        losses.add("dns", DropReason::RingFull, &none, 1, (at(1), at(2)));
        let [shed, full] = &losses.0[..] else {
            panic!("two kinds")
        };
        let mut pace = Pace::default();
        let start = Instant::now();
        let second = Duration::from_secs(1);
        assert_eq!(pace.wait(shed, start), Duration::ZERO);
        let mut now = start;
        for _ in 0..60 {
            pace.told("dns", DropReason::Shed, now);
            assert_eq!(pace.wait(shed, now), PAUSE);
            assert_eq!(pace.wait(full, now), Duration::ZERO);
            now += second;
        }
        pace.told("dns", DropReason::Shed, now);
        assert_eq!(pace.wait(shed, now), LONG_PAUSE);
        // It was quiet for a while.
        now += 30 * second;
        pace.told("dns", DropReason::Shed, now);
        assert_eq!(pace.wait(shed, now), PAUSE);
    }
}
