//! Feeds of indicators: kept as they were uploaded, compiled when the server starts and whenever
//! one changes.
//!
//! A feed is two files: `<name>.<time>.feed` with the upload, and `<name>.json`, which names it. The
//! second is replaced in one step, so a feed is either the old or the new one, whatever happens.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;
use yinglong_intel::{
    Builder, Full, IndicatorSet,
    import::{self, Format, Report},
};
use yinglong_model::{Timestamp, rule::Level};

/// Feeds there may be: each costs a look-up per event.
const MAX_FEEDS: usize = 64;
/// Largest upload, in bytes.
pub const MAX_FEED_BYTES: u64 = 512 << 20;
/// Indicators all feeds together may have; 40 bytes of memory each.
const MAX_INDICATORS: u64 = 20_000_000;
/// Days after which indicators may expire.
const EXPIRY_DAYS: std::ops::RangeInclusive<u32> = 1..=3650;
/// Longest name of a feed.
const NAME_BYTES: usize = 64;

/// Why feeds are not changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name cannot be a file's.
    #[error(
        "`{0}` cannot be a feed's name; use up to {NAME_BYTES} of a-z, 0-9, `.`, `_` and `-`, a letter or digit first"
    )]
    Name(String),
    /// Indicators cannot expire then.
    #[error("indicators expire after {} to {} days", EXPIRY_DAYS.start(), EXPIRY_DAYS.end())]
    Expiry,
    /// There is no such feed.
    #[error("there is no feed `{0}`")]
    Unknown(String),
    /// Too many.
    #[error("there are {MAX_FEEDS} feeds already; remove one")]
    TooManyFeeds,
    /// Too many.
    #[error("all feeds together may have {MAX_INDICATORS} indicators; remove one first")]
    TooManyIndicators,
    /// The upload cannot be read to its end.
    #[error("the feed cannot be used: {reason}")]
    Damaged {
        /// Why.
        reason: String,
        /// What became of its lines until then.
        report: Box<Report>,
    },
    /// Nothing in it can be used.
    #[error("the feed has no indicator that can be used")]
    Nothing(Box<Report>),
    /// The disk refuses.
    #[error("the feed cannot be stored")]
    Io(#[from] io::Error),
}

/// How a feed is to be read.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Format; found out when `None`.
    pub format: Option<Format>,
    /// Level of hits; danger when `None`.
    pub level: Option<Level>,
    /// Days after which indicators expire that state no end.
    pub expires_days: Option<u32>,
}

/// What is known about a feed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Name.
    pub name: String,
    /// Format of the file.
    pub format: Option<Format>,
    /// Level of hits.
    pub level: Level,
    /// Days from the upload after which indicators expire that state no end.
    pub expires_days: Option<u32>,
    /// When it was uploaded.
    pub uploaded_at: Timestamp,
    /// Size of the file.
    pub bytes: u64,
    /// Name of the file.
    file: String,
    /// What became of its lines.
    pub report: Report,
}

/// A feed in force.
#[derive(Debug)]
pub struct Feed {
    /// What is known about it.
    pub record: Record,
    /// Its indicators; none when it cannot be read.
    pub set: Arc<IndicatorSet>,
    /// Why it cannot be read.
    pub problem: Option<String>,
}

/// All feeds in force.
#[derive(Debug, Default)]
pub struct Library {
    /// By name.
    pub feeds: Vec<Arc<Feed>>,
    /// Their indicators.
    pub sets: Arc<[Arc<IndicatorSet>]>,
}

impl Library {
    fn new(by_name: BTreeMap<String, Arc<Feed>>) -> Self {
        let feeds: Vec<Arc<Feed>> = by_name.into_values().collect();
        Self {
            sets: feeds.iter().map(|feed| Arc::clone(&feed.set)).collect(),
            feeds,
        }
    }
}

/// The feeds of a server.
pub struct Feeds {
    dir: PathBuf,
    current: RwLock<Arc<Library>>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Feeds {
    /// Reads and compiles what is stored. A feed that cannot be read is kept, without indicators.
    ///
    /// # Errors
    /// The folder cannot be made or listed.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let mut by_name = BTreeMap::new();
        let mut others = Vec::new();
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "json")
            {
                match read_record(&path) {
                    Ok(record) => {
                        drop(by_name.insert(record.name.clone(), Arc::new(load(dir, record))))
                    }
                    Err(error) => {
                        tracing::error!(?path, %error, "a feed cannot be read and is left out");
                    }
                }
            } else {
                others.push(path);
            }
        }
        for path in others {
            // What an interrupted upload or replacement left.
            let used = by_name
                .values()
                .any(|feed| dir.join(&feed.record.file) == path);
            if !used
                && path
                    .extension()
                    .is_some_and(|extension| extension == "feed" || extension == "new")
            {
                let _ = fs::remove_file(path);
            }
        }
        Ok(Self {
            dir: dir.to_owned(),
            current: RwLock::new(Arc::new(Library::new(by_name))),
            changing: Mutex::new(()),
        })
    }

    /// What is in force.
    pub fn current(&self) -> Arc<Library> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// A file to write an upload to; it is gone when dropped.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn upload(&self) -> io::Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix("upload")
            .suffix(".feed")
            .tempfile_in(&self.dir)
    }

    /// Puts an upload in force, in place of the feed of that name. Takes about a second per million
    /// indicators.
    ///
    /// # Errors
    /// See [`Error`]; nothing changes then.
    pub fn put(
        &self,
        name: &str,
        wanted: &Wanted,
        upload: NamedTempFile,
        now: Timestamp,
    ) -> Result<Arc<Feed>, Error> {
        check_name(name)?;
        if wanted
            .expires_days
            .is_some_and(|days| !EXPIRY_DAYS.contains(&days))
        {
            return Err(Error::Expiry);
        }
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        let others: Vec<&Arc<Feed>> = before
            .feeds
            .iter()
            .filter(|feed| feed.record.name != name)
            .collect();
        if others.len() >= MAX_FEEDS {
            return Err(Error::TooManyFeeds);
        }
        let mut record = Record {
            name: name.to_owned(),
            format: wanted.format,
            level: wanted.level.unwrap_or(Level::Danger),
            expires_days: wanted.expires_days,
            uploaded_at: now,
            bytes: upload.as_file().metadata()?.len(),
            file: format!("{name}.{}.feed", now.nanos()),
            report: Report::default(),
        };
        let (set, report) = compile(&record, upload.path())?;
        if let Some(reason) = report.ended_early.clone() {
            return Err(Error::Damaged {
                reason,
                report: Box::new(report),
            });
        }
        if report.taken == 0 {
            return Err(Error::Nothing(Box::new(report)));
        }
        let taken: u64 = others.iter().map(|feed| feed.record.report.taken).sum();
        if taken + report.taken > MAX_INDICATORS {
            return Err(Error::TooManyIndicators);
        }
        record.format = report.format;
        record.report = report;

        upload.as_file().sync_all()?;
        let content = self.dir.join(&record.file);
        upload.persist(&content).map_err(|error| error.error)?;
        if let Err(error) = self.write_record(&record) {
            let _ = fs::remove_file(&content);
            return Err(error.into());
        }
        let old = before.feeds.iter().find(|feed| feed.record.name == name);
        if let Some(old) = old.filter(|old| old.record.file != record.file) {
            let _ = fs::remove_file(self.dir.join(&old.record.file));
        }
        let feed = Arc::new(Feed {
            record,
            set: Arc::new(set),
            problem: None,
        });
        let kept = others.into_iter().chain([&feed]);
        self.swap(
            kept.map(|feed| (feed.record.name.clone(), Arc::clone(feed)))
                .collect(),
        );
        Ok(feed)
    }

    /// Removes a feed.
    ///
    /// # Errors
    /// There is none of that name, or the disk refuses.
    pub fn remove(&self, name: &str) -> Result<Arc<Feed>, Error> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current();
        let found = before.feeds.iter().find(|feed| feed.record.name == name);
        let feed = Arc::clone(found.ok_or_else(|| Error::Unknown(name.to_owned()))?);
        fs::remove_file(self.record_path(name))?;
        self.sync_dir()?;
        let _ = fs::remove_file(self.dir.join(&feed.record.file));
        let kept = before.feeds.iter().filter(|feed| feed.record.name != name);
        self.swap(
            kept.map(|feed| (feed.record.name.clone(), Arc::clone(feed)))
                .collect(),
        );
        Ok(feed)
    }

    fn swap(&self, by_name: BTreeMap<String, Arc<Feed>>) {
        let library = Arc::new(Library::new(by_name));
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = library;
    }

    fn write_record(&self, record: &Record) -> io::Result<()> {
        let file = tempfile::Builder::new()
            .suffix(".new")
            .tempfile_in(&self.dir)?;
        serde_json::to_writer_pretty(file.as_file(), record)?;
        file.as_file().sync_all()?;
        file.persist(self.record_path(&record.name))
            .map_err(|error| error.error)?;
        self.sync_dir()
    }

    fn record_path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    fn sync_dir(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }
}

fn check_name(name: &str) -> Result<(), Error> {
    let fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let first = name.bytes().next().is_some_and(fine);
    let rest = name
        .bytes()
        .all(|byte| fine(byte) || matches!(byte, b'.' | b'_' | b'-'));
    if first && rest && name.len() <= NAME_BYTES {
        Ok(())
    } else {
        Err(Error::Name(name.chars().take(NAME_BYTES).collect()))
    }
}

fn read_record(path: &Path) -> io::Result<Record> {
    let record: Record = serde_json::from_slice(&fs::read(path)?)?;
    let plain = Path::new(&record.file)
        .file_name()
        .is_some_and(|name| *name == *record.file);
    if check_name(&record.name).is_err() || !plain {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "it names a file elsewhere",
        ));
    }
    Ok(record)
}

fn load(dir: &Path, record: Record) -> Feed {
    match compile(&record, &dir.join(&record.file)) {
        Ok((set, _)) => Feed {
            record,
            set: Arc::new(set),
            problem: None,
        },
        Err(error) => {
            tracing::error!(feed = record.name, %error, "a feed cannot be read; upload it again");
            Feed {
                record,
                set: Arc::default(),
                problem: Some(format!("the file cannot be read: {error}; upload it again")),
            }
        }
    }
}

fn compile(record: &Record, path: &Path) -> io::Result<(IndicatorSet, Report)> {
    let day = Duration::from_secs(86_400);
    let options = import::Options {
        format: record.format,
        level: record.level,
        valid_until: record
            .expires_days
            .map(|days| record.uploaded_at.plus(day * days)),
        max_bytes: MAX_FEED_BYTES,
        max_indicators: MAX_INDICATORS,
        ..import::Options::default()
    };
    let full = |Full| io::Error::other("there is no room for another feed");
    let mut builder = Builder::new();
    let feed = builder.feed(&record.name).map_err(full)?;
    let report = import::import(File::open(path)?, &options, |indicator| {
        builder.add(feed, indicator).is_ok()
    })?;
    Ok((builder.finish(), report))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use yinglong_intel::Value;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_764_000_000);

    fn put(feeds: &Feeds, name: &str, text: &str, wanted: &Wanted) -> Result<Arc<Feed>, Error> {
        let mut upload = feeds.upload().unwrap();
        upload.write_all(text.as_bytes()).unwrap();
        feeds.put(name, wanted, upload, NOW)
    }

    fn names(feeds: &Feeds, text: &str, at: Timestamp) -> Vec<String> {
        let library = feeds.current();
        let hits = yinglong_intel::find(&library.sets, &Value::parse(text).unwrap(), at);
        hits.iter().map(|hit| hit.feed.to_owned()).collect()
    }

    #[test]
    fn feeds_are_replaced_removed_and_found_again_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let feeds = Feeds::open(dir.path()).unwrap();
        put(&feeds, "one", "8.8.8.8\nbad line\n", &Wanted::default()).unwrap();
        put(&feeds, "two", "8.8.8.0/24\n", &Wanted::default()).unwrap();
        assert_eq!(names(&feeds, "8.8.8.8", NOW), ["one", "two"]);
        let later = Timestamp::from_secs(NOW.secs() + 1);
        let mut upload = feeds.upload().unwrap();
        upload.write_all(b"9.9.9.9\n").unwrap();
        feeds.put("one", &Wanted::default(), upload, later).unwrap();
        assert_eq!(names(&feeds, "8.8.8.8", NOW), ["two"]);
        drop(feeds);

        let feeds = Feeds::open(dir.path()).unwrap();
        assert_eq!(names(&feeds, "9.9.9.9", NOW), ["one"]);
        assert_eq!(names(&feeds, "8.8.8.8", NOW), ["two"]);
        feeds.remove("two").unwrap();
        assert!(names(&feeds, "8.8.8.8", NOW).is_empty());
        assert!(matches!(feeds.remove("two"), Err(Error::Unknown(_))));
        let left = fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(left, 2, "one upload and its record");
    }

    #[test]
    fn indicators_expire_when_the_feed_says_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let feeds = Feeds::open(dir.path()).unwrap();
        let month = Wanted {
            expires_days: Some(30),
            ..Wanted::default()
        };
        put(&feeds, "f", "8.8.8.8\n", &month).unwrap();
        let day = |days: i64| Timestamp::from_secs(NOW.secs() + days * 86_400);
        assert_eq!(names(&feeds, "8.8.8.8", day(29)), ["f"]);
        assert!(names(&feeds, "8.8.8.8", day(30)).is_empty());
        assert!(matches!(
            put(
                &feeds,
                "f",
                "8.8.8.8\n",
                &Wanted {
                    expires_days: Some(0),
                    ..Wanted::default()
                }
            ),
            Err(Error::Expiry)
        ));
    }

    #[test]
    fn what_cannot_be_used_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let feeds = Feeds::open(dir.path()).unwrap();
        put(&feeds, "f", "8.8.8.8\n", &Wanted::default()).unwrap();
        for name in ["", "../x", "A", ".x", "a/b", &"a".repeat(65)] {
            let refused = put(&feeds, name, "9.9.9.9\n", &Wanted::default());
            assert!(matches!(refused, Err(Error::Name(_))), "{name}");
        }
        assert!(matches!(
            put(&feeds, "f", "# nothing\n? ?\n", &Wanted::default()),
            Err(Error::Nothing(report)) if report.refused == 1
        ));
        assert!(matches!(
            put(
                &feeds,
                "f",
                "{\"type\": \"bundle\", \"objects\": [",
                &Wanted::default()
            ),
            Err(Error::Damaged { .. })
        ));
        assert_eq!(names(&feeds, "8.8.8.8", NOW), ["f"]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_feed_whose_file_is_gone_is_listed_with_its_problem() {
        let dir = tempfile::tempdir().unwrap();
        let feeds = Feeds::open(dir.path()).unwrap();
        let feed = put(&feeds, "f", "8.8.8.8\n", &Wanted::default()).unwrap();
        fs::remove_file(dir.path().join(&feed.record.file)).unwrap();
        let feeds = Feeds::open(dir.path()).unwrap();
        let library = feeds.current();
        assert!(
            library
                .feeds
                .first()
                .unwrap()
                .problem
                .as_ref()
                .unwrap()
                .contains("again")
        );
    }
}
