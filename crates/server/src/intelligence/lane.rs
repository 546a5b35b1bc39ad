//! The way to one API: what is known, what is being asked, what waits, and what is left out.
//!
//! Asking never blocks: a question that finds no room is counted and dropped. Questions about the
//! same thing share one request, and an answer is believed for a while.

use std::{
    collections::{HashMap, VecDeque},
    num::NonZeroUsize,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use lru::LruCache;
use regex::Regex;

use super::{
    Question,
    breaker::{self, Breaker},
    fetch::{Failure, Fetch},
};

/// Requests at the same time.
const THREADS: usize = 4;
/// Things that wait to be asked about.
const QUEUE: usize = 1024;
/// Events that wait for the answer about one thing; more would be the same alert, counted.
const WAITING: usize = 64;
/// Events that wait in all, about a kilobyte each.
const WAITING_IN_ALL: usize = 8192;
/// Answers that are remembered, 100 bytes each.
const KNOWN: NonZeroUsize = NonZeroUsize::new(65_536).expect("it is not zero");
/// How long an answer is believed. The classic system asks again after 60 s; no answer may be
/// believed for less.
const BELIEVED_BLACK: Duration = Duration::from_secs(600);
const BELIEVED_CLEAN: Duration = Duration::from_secs(300);
/// How long something is not asked about again when there was no answer.
const UNANSWERED: Duration = Duration::from_secs(60);

/// Tells the time; tests tell another.
pub(super) type Clock = Arc<dyn Fn() -> Instant + Send + Sync>;
/// Takes the events whose subject is black, with what the answer said.
pub(super) type Deliver =
    Arc<dyn Fn(Vec<Question>, &str) -> Result<(), yinglong_store::Error> + Send + Sync>;

/// Where to ask, and what to make of the answer.
#[derive(Debug)]
pub(super) struct Target {
    /// URL with a placeholder.
    pub(super) template: String,
    /// The placeholder.
    pub(super) placeholder: &'static str,
    /// An answer that matches is a hit.
    pub(super) pattern: Regex,
}

impl Target {
    fn is(&self, other: &Self) -> bool {
        self.template == other.template && self.pattern.as_str() == other.pattern.as_str()
    }

    fn url(&self, key: &str) -> String {
        let encoded: String = url::form_urlencoded::byte_serialize(key.as_bytes()).collect();
        self.template.replace(self.placeholder, &encoded)
    }
}

/// What happened on a lane since the server started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests sent.
    pub asked: AtomicU64,
    /// Answers, hits included.
    pub answered: AtomicU64,
    /// Answers that match.
    pub black: AtomicU64,
    /// Requests without a usable answer.
    pub failed: AtomicU64,
    /// Events judged by an answer that was remembered.
    pub remembered: AtomicU64,
    /// Events that waited for a request under way.
    pub joined: AtomicU64,
    /// Hits whose alert could not be stored.
    pub unstored: AtomicU64,
    /// Events not judged, by reason: see [`Dropped::ALL`].
    dropped: [AtomicU64; Dropped::ALL.len()],
}

/// Why an event was not judged by an API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Too much waits already.
    QueueFull,
    /// Too many events wait for this one answer.
    WaitingFull,
    /// The API does not answer and is left alone.
    BreakerOpen,
    /// The API did not answer this question a moment ago.
    Unanswered,
    /// The configuration was changed before the answer came.
    Reconfigured,
}

impl Dropped {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::QueueFull,
        Self::WaitingFull,
        Self::BreakerOpen,
        Self::Unanswered,
        Self::Reconfigured,
    ];

    /// Name used in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::WaitingFull => "waiting_full",
            Self::BreakerOpen => "breaker_open",
            Self::Unanswered => "unanswered",
            Self::Reconfigured => "reconfigured",
        }
    }
}

impl Counters {
    /// Events not judged for a reason.
    pub fn dropped(&self, reason: Dropped) -> u64 {
        let at = Dropped::ALL.iter().position(|known| *known == reason);
        let counter = at.and_then(|at| self.dropped.get(at));
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    fn drop(&self, reason: Dropped, events: usize) {
        let at = Dropped::ALL.iter().position(|known| *known == reason);
        if let Some(counter) = at.and_then(|at| self.dropped.get(at)) {
            counter.fetch_add(events as u64, Ordering::Relaxed);
        }
    }
}

/// What is known about a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// The answer matched, in these words.
    Black(Arc<str>),
    /// It did not.
    Clean,
    /// There was no answer.
    Unanswered,
}

/// What a lane knows about a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Recalled {
    /// Nothing is asked at all.
    Off,
    /// It was asked a while ago.
    Known(Known),
    /// It has to be asked.
    Unknown,
}

struct Remembered {
    known: Known,
    until: Instant,
}

struct Inside {
    target: Option<Arc<Target>>,
    queue: VecDeque<String>,
    /// Events by what they wait for, queued or being asked.
    waiting: HashMap<String, Vec<Question>>,
    waiting_in_all: usize,
    remembered: LruCache<String, Remembered>,
    breaker: Breaker,
    threads: usize,
    stopped: bool,
}

struct Shared {
    name: &'static str,
    inside: Mutex<Inside>,
    wake: Condvar,
    counters: Counters,
    clock: Clock,
    fetch: Fetch,
    deliver: Deliver,
}

/// Ends its threads when dropped; a request under way is not waited for.
pub(super) struct Lane(Arc<Shared>);

impl Lane {
    pub(super) fn new(name: &'static str, fetch: Fetch, clock: Clock, deliver: Deliver) -> Self {
        Self(Arc::new(Shared {
            name,
            inside: Mutex::new(Inside {
                target: None,
                queue: VecDeque::new(),
                waiting: HashMap::new(),
                waiting_in_all: 0,
                remembered: LruCache::new(KNOWN),
                breaker: Breaker::default(),
                threads: 0,
                stopped: false,
            }),
            wake: Condvar::new(),
            counters: Counters::default(),
            clock,
            fetch,
            deliver,
        }))
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    pub(super) fn breaker(&self) -> breaker::State {
        self.0.inside().breaker.state()
    }

    /// Things that wait to be asked about.
    pub(super) fn queued(&self) -> usize {
        self.0.inside().queue.len()
    }

    /// Asks there from now on, or not at all. What was answered elsewhere, or judged by another
    /// pattern, is forgotten.
    pub(super) fn aim(&self, target: Option<Target>) {
        let mut inside = self.0.inside();
        let same = match (&inside.target, &target) {
            (Some(old), Some(new)) => old.is(new),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        inside.target = target.map(Arc::new);
        inside.remembered.clear();
        inside.breaker = Breaker::default();
        let waiting = inside.give_up();
        self.0.counters.drop(Dropped::Reconfigured, waiting);
        if inside.target.is_some() {
            self.0.start_threads(&mut inside);
        }
    }

    /// What is known about a thing.
    pub(super) fn recall(&self, key: &str) -> Recalled {
        let now = (self.0.clock)();
        let mut inside = self.0.inside();
        if inside.target.is_none() {
            return Recalled::Off;
        }
        let Some(known) = inside.recall(key, now) else {
            return Recalled::Unknown;
        };
        let counters = &self.0.counters;
        if known == Known::Unanswered {
            counters.drop(Dropped::Unanswered, 1);
        } else {
            counters.remembered.fetch_add(1, Ordering::Relaxed);
        }
        Recalled::Known(known)
    }

    /// Has a thing asked about; returns at once.
    pub(super) fn ask(&self, key: &str, question: Question) {
        let now = (self.0.clock)();
        let mut inside = self.0.inside();
        if inside.target.is_none() || inside.stopped {
            return;
        }
        let counters = &self.0.counters;
        let full = inside.waiting_in_all >= WAITING_IN_ALL;
        if let Some(waiting) = inside.waiting.get_mut(key) {
            if full || waiting.len() >= WAITING {
                return counters.drop(Dropped::WaitingFull, 1);
            }
            waiting.push(question);
            inside.waiting_in_all += 1;
            counters.joined.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The answer may have come since the event was judged.
        match inside.recall(key, now) {
            Some(Known::Black(words)) => {
                counters.remembered.fetch_add(1, Ordering::Relaxed);
                drop(inside);
                return self.0.deliver(vec![question], &words);
            }
            Some(Known::Clean) => {
                counters.remembered.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Some(Known::Unanswered) => return counters.drop(Dropped::Unanswered, 1),
            None => {}
        }
        if full || inside.queue.len() >= QUEUE {
            return counters.drop(Dropped::QueueFull, 1);
        }
        if !inside.breaker.permits(now) {
            return counters.drop(Dropped::BreakerOpen, 1);
        }
        inside.queue.push_back(key.to_owned());
        inside.waiting.insert(key.to_owned(), vec![question]);
        inside.waiting_in_all += 1;
        drop(inside);
        self.0.wake.notify_one();
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.0.inside().stopped = true;
        self.0.wake.notify_all();
    }
}

impl Inside {
    /// Forgets what waits; says how many events that were.
    fn give_up(&mut self) -> usize {
        self.queue.clear();
        self.waiting.clear();
        std::mem::take(&mut self.waiting_in_all)
    }

    fn recall(&mut self, key: &str, now: Instant) -> Option<Known> {
        let remembered = self.remembered.get(key)?;
        (now < remembered.until).then(|| remembered.known.clone())
    }
}

impl Shared {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn deliver(&self, questions: Vec<Question>, words: &str) {
        let events = questions.len() as u64;
        if let Err(error) = (self.deliver)(questions, words) {
            self.counters.unstored.fetch_add(events, Ordering::Relaxed);
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "a hit of threat intelligence was not stored");
        }
    }

    /// Threads are there once something is asked, not before.
    fn start_threads(self: &Arc<Self>, inside: &mut Inside) {
        while inside.threads < THREADS {
            let shared = Arc::clone(self);
            let thread = thread::Builder::new().name(format!("intel-{}", self.name));
            match thread.spawn(move || shared.work()) {
                Ok(_) => inside.threads += 1,
                Err(error) => {
                    tracing::error!(%error, "a thread for intelligence cannot be started");
                    return;
                }
            }
        }
    }

    fn work(&self) {
        while let Some((key, target)) = self.next() {
            self.counters.asked.fetch_add(1, Ordering::Relaxed);
            let answer = (self.fetch)(&target.url(&key));
            // Judged here: the pipeline must not wait for a search in a long answer.
            let answer = answer.map(|text| judge(&target.pattern, &text));
            if let Err(error) = &answer {
                let error = error as &dyn std::error::Error;
                tracing::warn!(api = self.name, error, "no intelligence");
            }
            self.settle(&key, &target, answer);
        }
    }

    /// Waits for something to ask; `None` at the end.
    fn next(&self) -> Option<(String, Arc<Target>)> {
        let mut inside = self.inside();
        loop {
            if inside.stopped {
                return None;
            }
            if let Some(target) = inside.target.clone()
                && let Some(key) = inside.queue.pop_front()
            {
                return Some((key, target));
            }
            inside = self
                .wake
                .wait(inside)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn settle(&self, key: &str, target: &Arc<Target>, answer: Result<Known, Failure>) {
        let now = (self.clock)();
        let mut inside = self.inside();
        if !inside
            .target
            .as_ref()
            .is_some_and(|aim| Arc::ptr_eq(aim, target))
        {
            // Who waited was counted when the configuration changed.
            return;
        }
        let waiting = inside.waiting.remove(key).unwrap_or_default();
        inside.waiting_in_all -= waiting.len();
        let (known, believed) = match answer {
            Ok(known) => {
                self.counters.answered.fetch_add(1, Ordering::Relaxed);
                inside.breaker.answered();
                let believed = match known {
                    Known::Black(_) => BELIEVED_BLACK,
                    Known::Clean | Known::Unanswered => BELIEVED_CLEAN,
                };
                (known, believed)
            }
            Err(failure) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                self.counters.drop(Dropped::Unanswered, waiting.len());
                if inside.breaker.failed(now, failure.patience()) {
                    tracing::warn!(
                        api = self.name,
                        "the intelligence API is left alone for a while"
                    );
                    let waiting = inside.give_up();
                    self.counters.drop(Dropped::BreakerOpen, waiting);
                }
                (Known::Unanswered, UNANSWERED)
            }
        };
        let remembered = Remembered {
            known: known.clone(),
            until: now + believed,
        };
        inside.remembered.put(key.to_owned(), remembered);
        drop(inside);
        if let Known::Black(words) = known {
            self.counters.black.fetch_add(1, Ordering::Relaxed);
            if !waiting.is_empty() {
                self.deliver(waiting, &words);
            }
        }
    }
}

fn judge(pattern: &Regex, text: &str) -> Known {
    match pattern.find(text) {
        Some(found) => Known::Black(excerpt(text, found.start()).into()),
        None => Known::Clean,
    }
}

/// What an answer says around the place that matched: an alert is read by people.
fn excerpt(text: &str, at: usize) -> String {
    const BEFORE: usize = 80;
    const BYTES: usize = 200;
    let start = text.floor_char_boundary(at.saturating_sub(BEFORE));
    let end = text.floor_char_boundary(start.saturating_add(BYTES).min(text.len()));
    let words = text.get(start..end).unwrap_or_default();
    words
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(char::is_control, "")
}
