//! Threat intelligence: feeds of indicators, and APIs that are asked about addresses and hashes.
//!
//! - **Guarantees**: detection never waits for an API. Feeds and answers that are remembered are
//!   looked up within the step of the pipeline; what has to be asked is asked after it, and a hit
//!   becomes an alert when the answer comes. Addresses that no stranger can have are never asked
//!   about. Every event that is not judged is counted with its reason.
//! - **Invariants**: nobody is asked about what the white list names. One request at a time about
//!   one thing, none again while its answer is believed (60 s at least).
//! - **Not here**: formats and indicators (`yinglong-intel`). Questions that wait are kept in memory
//!   only: after a crash they are not asked.

mod answers;
mod breaker;
mod feeds;
mod fetch;
mod lane;
mod subject;

use std::{
    collections::BTreeSet,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use yinglong_detect::Detection;
use yinglong_intel::{Hit, IndicatorSet, Unusable, Value};
use yinglong_model::{Event, EventType, Timestamp, alert::Matched, config, rule::Level};

pub(crate) use self::answers::Answers;
pub use self::{
    breaker::State as BreakerState,
    feeds::{Error, Feed, Feeds, Library, MAX_FEED_BYTES, Record, Wanted},
    lane::{Counters, Dropped},
};

use self::{
    fetch::Fetch,
    lane::{Clock, Known, Lane, Recalled, Target},
    subject::Subject,
};
use crate::settings::Snapshot;

/// `source` of alerts by threat intelligence.
pub const INTELLIGENCE: &str = "intelligence";
/// Folder of the feeds, in the server's data folder.
const FOLDER: &str = "indicators";

/// An event that an API has to be asked about.
#[derive(Debug, Clone)]
pub struct Question {
    event: Box<Event>,
    subject: Subject,
}

/// What is known about an event at once.
#[derive(Debug, Default)]
pub struct Consulted {
    /// A hit.
    pub detection: Option<Detection>,
    /// What has to be asked.
    pub question: Option<Question>,
}

/// Cheap to clone; all clones share feeds, answers and threads.
#[derive(Clone)]
pub struct Intelligence(Arc<Inside>);

struct Inside {
    feeds: Feeds,
    addresses: Lane,
    files: Lane,
    /// Revision of the settings the lanes follow.
    revision: AtomicU64,
    feed_hits: AtomicU64,
}

/// One API, as metrics show it.
pub struct Api<'a> {
    /// `ip` or `file`.
    pub name: &'static str,
    /// What happened.
    pub counters: &'a Counters,
    /// Whether it is asked.
    pub breaker: BreakerState,
    /// Things that wait to be asked about.
    pub queued: usize,
}

impl Intelligence {
    /// Reads the feeds in the server's data folder and compiles them; nothing is asked yet.
    ///
    /// # Errors
    /// The folder cannot be used.
    pub(crate) fn open(data: &Path, answers: Answers) -> io::Result<Self> {
        Self::with(data, answers, fetch::over_http(), Arc::new(Instant::now))
    }

    fn with(data: &Path, answers: Answers, fetch: Fetch, clock: Clock) -> io::Result<Self> {
        let answers = Arc::new(answers);
        let lane = |name| {
            let answers = Arc::clone(&answers);
            let deliver = Arc::new(move |questions, words: &str| answers.deliver(questions, words));
            Lane::new(name, Arc::clone(&fetch), Arc::clone(&clock), deliver)
        };
        Ok(Self(Arc::new(Inside {
            feeds: Feeds::open(&data.join(FOLDER))?,
            addresses: lane("ip"),
            files: lane("file"),
            revision: AtomicU64::new(0),
            feed_hits: AtomicU64::new(0),
        })))
    }

    /// The feeds.
    pub fn feeds(&self) -> &Feeds {
        &self.0.feeds
    }

    /// Events that a feed's indicator matched, since the server started.
    pub fn feed_hits(&self) -> u64 {
        self.0.feed_hits.load(Ordering::Relaxed)
    }

    /// The APIs.
    pub fn apis(&self) -> [Api<'_>; 2] {
        [("ip", &self.0.addresses), ("file", &self.0.files)].map(|(name, lane)| Api {
            name,
            counters: lane.counters(),
            breaker: lane.breaker(),
            queued: lane.queued(),
        })
    }

    /// What a step of the pipeline consults: the feeds and the configuration of this moment.
    pub fn consultation(&self, settings: &Snapshot) -> Consultation {
        if self.0.revision.swap(settings.revision, Ordering::AcqRel) != settings.revision {
            self.follow(&settings.config.intelligence);
        }
        Consultation {
            intelligence: self.clone(),
            sets: Arc::clone(&self.0.feeds.current().sets),
        }
    }

    fn follow(&self, config: &config::Intelligence) {
        let target = |template: &str, placeholder| {
            if !config.switch || template.is_empty() {
                return None;
            }
            match yinglong_rules::pattern::compile(&config.regex) {
                Ok(pattern) => Some(Target {
                    template: template.to_owned(),
                    placeholder,
                    pattern,
                }),
                Err(error) => {
                    // It was validated before it was stored.
                    tracing::error!(%error, "intelligence.regex cannot be used; nothing is asked");
                    None
                }
            }
        };
        self.0.addresses.aim(target(&config.ipapi, "{$ip}"));
        self.0.files.aim(target(&config.fileapi, "{$hash}"));
    }

    /// Has an API asked; returns at once.
    pub fn ask(&self, question: Question) {
        let lane = self.lane(&question.event);
        lane.ask(&question.subject.value.to_string(), question);
    }

    fn lane(&self, event: &Event) -> &Lane {
        match event.data.event_type() {
            EventType::File | EventType::Process => &self.0.files,
            EventType::Connection
            | EventType::Loginlog
            | EventType::Dns
            | EventType::Syscall
            | EventType::Exit
            | EventType::Loss => &self.0.addresses,
        }
    }

    /// What feeds say now about a value somebody wrote.
    ///
    /// # Errors
    /// It is none of the kinds of indicators.
    pub fn look_up(&self, text: &str, at: Timestamp) -> Result<Findings, Unusable> {
        let value = Value::parse(text)?;
        let library = self.0.feeds.current();
        let said = |value: &Value| -> Vec<Statement> {
            let hits = yinglong_intel::find(&library.sets, value, at);
            hits.iter().map(Statement::from).collect()
        };
        let mut statements = said(&value);
        // `setup.exe` could be a domain as well.
        if let (Value::Domain(_), Ok(name)) = (&value, Value::name(text.trim())) {
            statements.extend(said(&name));
        }
        Ok(Findings { value, statements })
    }
}

/// What feeds say about a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Findings {
    /// The value, in the form it is compared in.
    pub value: Value,
    /// The worst first.
    pub statements: Vec<Statement>,
}

/// What one feed says.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// Feed.
    pub feed: String,
    /// The indicator that matched.
    pub indicator: Value,
    /// Level of a hit.
    pub level: Level,
    /// How sure the feed is, 0 to 100.
    pub confidence: Option<u8>,
    /// Its words.
    pub label: String,
    /// When it ends.
    pub valid_until: Option<Timestamp>,
}

impl From<&Hit<'_>> for Statement {
    fn from(hit: &Hit<'_>) -> Self {
        Self {
            feed: hit.feed.to_owned(),
            indicator: hit.indicator.clone(),
            level: hit.level,
            confidence: hit.confidence,
            label: hit.label.to_owned(),
            valid_until: hit.valid_until,
        }
    }
}

/// Feeds and answers as one step of the pipeline sees them.
pub struct Consultation {
    intelligence: Intelligence,
    sets: Arc<[Arc<IndicatorSet>]>,
}

impl Consultation {
    /// What feeds and remembered answers say about an event, and what has to be asked. Constant
    /// time; not for what the white list names.
    pub fn consult(&self, event: &Event) -> Consulted {
        let mut found = Found::default();
        if !self.sets.is_empty() {
            for subject in subject::looked_up(&event.data, &self.sets) {
                let hits = yinglong_intel::find(&self.sets, &subject.value, event.time);
                found.add(&subject, &hits);
            }
        }
        if found.level.is_some() {
            self.intelligence
                .0
                .feed_hits
                .fetch_add(1, Ordering::Relaxed);
        }
        let mut question = None;
        // An answer could not make it worse.
        if found.level != Some(Level::Danger)
            && let Some(subject) = subject::asked(&event.data)
        {
            match self
                .intelligence
                .lane(event)
                .recall(&subject.value.to_string())
            {
                Recalled::Known(Known::Black(words)) => found.add_answer(&subject, &words),
                Recalled::Known(Known::Clean | Known::Unanswered) | Recalled::Off => {}
                Recalled::Unknown => {
                    question = Some(Question {
                        event: Box::new(event.clone()),
                        subject,
                    });
                }
            }
        }
        Consulted {
            detection: found.into_detection(),
            question,
        }
    }
}

/// Hits of one event: one alert, with everything that was found as its evidence.
#[derive(Default)]
struct Found {
    level: Option<Level>,
    sources: BTreeSet<String>,
    words: String,
    matched: Vec<Matched>,
}

impl Found {
    fn add(&mut self, subject: &Subject, hits: &[Hit<'_>]) {
        for hit in hits {
            let mut condition = format!("indicator {} of feed {}", hit.indicator, hit.feed);
            if !hit.label.is_empty() {
                condition.push_str(": ");
                condition.push_str(hit.label);
            }
            self.put(subject, hit.level, hit.feed, hit.label, condition);
        }
    }

    fn add_answer(&mut self, subject: &Subject, words: &str) {
        let condition = format!("answer of the intelligence API: {words}");
        self.put(subject, Level::Danger, "intelligence API", words, condition);
    }

    fn put(
        &mut self,
        subject: &Subject,
        level: Level,
        source: &str,
        words: &str,
        condition: String,
    ) {
        // Lower is worse.
        if self.level.is_none_or(|known| level < known) {
            self.level = Some(level);
            words.clone_into(&mut self.words);
        }
        self.sources.insert(source.to_owned());
        self.matched.push(Matched {
            field: subject.field.to_owned(),
            value: subject.text.clone(),
            condition,
            spans: Vec::new(),
        });
    }

    fn into_detection(self) -> Option<Detection> {
        let level = self.level?;
        let values: BTreeSet<&str> = self.matched.iter().map(|m| m.value.as_str()).collect();
        let info = values.into_iter().collect::<Vec<_>>().join("|");
        let sources = self.sources.into_iter().collect::<Vec<_>>().join(", ");
        let words = if self.words.is_empty() {
            String::new()
        } else {
            format!(": {}", self.words)
        };
        Some(Detection {
            source: INTELLIGENCE.to_owned(),
            rule_id: String::new(),
            level,
            severity: "critical".to_owned(),
            info,
            description: format!("Known to threat intelligence ({sources}){words}"),
            description_zh: format!("命中威胁情报（{sources}）{words}"),
            attack: Vec::new(),
            matched: self.matched,
        })
    }
}

/// The alert of an answer that came after the step.
fn answered(subject: &Subject, words: &str) -> Option<Detection> {
    let mut found = Found::default();
    found.add_answer(subject, words);
    found.into_detection()
}

#[cfg(test)]
mod tests;
