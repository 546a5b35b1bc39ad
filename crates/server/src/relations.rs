//! What several matches and alerts have to do with each other: correlations and stories, kept
//! beside the stores.
//!
//! Both live in memory. A snapshot with the log position it belongs to is written now and then; the
//! log is kept back to it. After a crash what came after the snapshot is followed again, and as the
//! alerts of that time are stored already, only the memory comes of it.

use std::{
    borrow::Cow,
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use yinglong_correlate::{
    Correlator, Counters, Fired, Limits, Match, Stories,
    stories::{AlertNote, ProcessNote, Story, StoryCounters, StoryLimits, Subject},
};
use yinglong_model::{Alert, Event, EventData};
use yinglong_rules::correlation::Correlation;
use yinglong_store::LogPosition;

use crate::settings::Snapshot;

/// File of the snapshot in the server's folder.
const FILE: &str = "relations.snapshot";

/// Correlations and stories of all hosts.
pub struct Relations {
    correlator: Correlator,
    stories: Stories,
    /// What happened in correlators that changed rules replaced.
    before: Counters,
    /// Revision of the rules the correlator was made for.
    revision: u64,
    file: PathBuf,
    /// Position of the snapshot on disk.
    saved: LogPosition,
    /// What fired in entries that are not applied yet: taken again, they must not fire differently.
    unapplied: BTreeMap<LogPosition, Vec<(String, Fired)>>,
    /// Entries were followed that are not applied: no snapshot may be taken.
    ahead: bool,
}

impl Relations {
    /// Without anything known before `position`.
    pub fn new(folder: &Path, correlations: &[Correlation], position: LogPosition) -> Self {
        Self {
            correlator: correlator(correlations),
            stories: Stories::new(StoryLimits::default()),
            before: Counters::default(),
            revision: 0,
            file: folder.join(FILE),
            saved: position,
            unapplied: BTreeMap::new(),
            ahead: false,
        }
    }

    /// Reads the snapshot of a folder. Without one, or with one that cannot be read, nothing is
    /// known before `position`.
    pub fn open(folder: &Path, settings: &Snapshot, position: LogPosition) -> Self {
        let mut relations = Self::new(folder, &settings.correlations, position);
        relations.revision = settings.revision;
        match relations.restore() {
            // A position beyond the stores' belongs to another installation's log.
            Ok(Some(saved)) if saved <= position => relations.saved = saved,
            Ok(Some(_)) => relations.forget(settings),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(
                    file = %relations.file.display(), %error,
                    "correlations and stories begin anew: their snapshot cannot be read"
                );
                relations.forget(settings);
            }
        }
        relations
    }

    fn forget(&mut self, settings: &Snapshot) {
        self.correlator = correlator(&settings.correlations);
        self.stories = Stories::new(StoryLimits::default());
    }

    fn restore(&mut self) -> io::Result<Option<LogPosition>> {
        let bytes = match fs::read(&self.file) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "the file is damaged");
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged())?;
        let (correlator, stories) = rest.split_at_checked(length).ok_or_else(damaged)?;
        let restored = self
            .correlator
            .restore(correlator)
            .map_err(io::Error::other)?;
        self.stories.restore(stories).map_err(io::Error::other)?;
        let position = restored.position.first_chunk().ok_or_else(damaged)?;
        Ok(Some(LogPosition::from_le_bytes(*position)))
    }

    /// Follows a change of rules. Windows of correlations that stay are kept.
    pub fn follow(&mut self, settings: &Snapshot) {
        if self.revision == settings.revision {
            return;
        }
        self.revision = settings.revision;
        let kept = self.correlator.snapshot(&[]);
        self.before = self.correlator.counters().and_before(&self.before);
        self.correlator = correlator(&settings.correlations);
        if let Err(error) = self.correlator.restore(&kept) {
            tracing::error!(%error, "correlations begin anew");
        }
    }

    /// Position after which entries have to be followed again when the server starts.
    pub fn saved(&self) -> LogPosition {
        self.saved
    }

    /// Whether matches of a rule only serve correlations and raise no alert.
    pub fn silences(&self, rule: &str) -> bool {
        self.correlator.silences(rule)
    }

    /// Whether some correlation takes matches of a rule.
    pub fn takes(&self, rule: &str) -> bool {
        self.correlator.takes(rule)
    }

    /// Takes note of what an event says about processes.
    pub fn note(&mut self, event: &Event) {
        if let EventData::Process(process) = &event.data {
            let note = ProcessNote::of(event.system, event.time, process);
            self.stories.note_process(&event.agent_id, &note);
        }
    }

    /// Tells the correlations that a rule matched an event of the entry at `position`; says what
    /// fired. An entry that is taken again before it was applied fires the same.
    pub fn observe(&mut self, position: LogPosition, rule: &str, event: &Event) -> Vec<Fired> {
        let reference = event.id.to_string();
        let key = format!("{rule} {reference}");
        if let Some(before) = self.unapplied.get(&position) {
            let same = before.iter().filter(|(of, _)| *of == key);
            let same: Vec<Fired> = same.map(|(_, fired)| fired.clone()).collect();
            if !same.is_empty() {
                return same;
            }
        }
        let fired = self.correlator.observe(&Match {
            rule_id: rule,
            agent: &event.agent_id,
            time: event.time,
            received: event.ingested_at,
            values: &|name| match name {
                "hostname" => Some(Cow::Borrowed(event.hostname.as_str())),
                "ip" => Some(Cow::Borrowed(event.ip.as_str())),
                name => event.data.field(name),
            },
            reference: &reference,
        });
        if !fired.is_empty() {
            let kept = fired.iter().map(|fired| (key.clone(), fired.clone()));
            self.unapplied.entry(position).or_default().extend(kept);
        }
        fired
    }

    /// Says which story a new alert belongs to. The same alert again changes nothing.
    pub fn place(&mut self, alert: &Alert, event: Option<&Event>) -> Story {
        let note = AlertNote {
            reference: &alert.id,
            agent: &alert.agent_id,
            time: alert.time,
            level: alert.level,
            name: &alert.source,
            name_zh: "",
            techniques: &alert.attack,
            subject: event.map_or(Subject::Nobody, Subject::of),
        };
        self.stories.place(&note).story
    }

    /// Entries are going to be followed before they are applied.
    pub fn begin(&mut self) {
        self.ahead = true;
    }

    /// The entries up to a position are applied.
    pub fn applied(&mut self, position: LogPosition) {
        self.ahead = false;
        self.unapplied.retain(|at, _| *at > position);
    }

    /// Writes a snapshot of what is known after the entry at `position`, the last one applied; not
    /// while a step has to be taken again.
    ///
    /// # Errors
    /// The file cannot be written; the last snapshot stays.
    pub fn save(&mut self, position: LogPosition) -> io::Result<()> {
        if self.ahead || (position == self.saved && self.file.exists()) {
            return Ok(());
        }
        let correlator = self.correlator.snapshot(&position.to_le_bytes());
        let stories = self.stories.snapshot(&position.to_le_bytes());
        let written = self.file.with_extension("new");
        let mut file = fs::File::create(&written)?;
        file.write_all(&(correlator.len() as u64).to_le_bytes())?;
        file.write_all(&correlator)?;
        file.write_all(&stories)?;
        file.sync_data()?;
        fs::rename(&written, &self.file)?;
        self.saved = position;
        Ok(())
    }

    /// What happened in correlations and stories since the server started.
    pub fn counters(&self) -> (Counters, StoryCounters) {
        let correlations = self.correlator.counters().and_before(&self.before);
        (correlations, self.stories.counters())
    }
}

fn correlator(correlations: &[Correlation]) -> Correlator {
    // The ruleset resolved the members; those of rules that nothing feeds were refused with reasons.
    let (correlator, diagnostics) = Correlator::new(correlations, &|_| true, Limits::default());
    for diagnostic in diagnostics {
        tracing::warn!(%diagnostic, "a correlation does not work as written");
    }
    correlator
}
