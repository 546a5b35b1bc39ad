//! Kills, full disks, damaged files, foreign versions.

#![allow(clippy::unwrap_used)]

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use yinglong_model::{AgentId, Event, EventId, Timestamp, id::Epoch};
use yinglong_store::{
    EventStore, Kind, Query, Result, StateStore,
    conformance::events,
    event_store::PageRequest,
    state_store::{Changes, Report},
};
use yinglong_store_embedded::{Embedded, Events, State};

const CHILD_FOLDER: &str = "YINGLONG_TEST_CHILD_FOLDER";
const BATCH: usize = 40;
const BATCHES: u64 = 150;

/// Opens a folder whose store was dropped a moment ago. A test that starts a process at the same
/// time hands it the lock for as long as it takes that process to begin.
fn reopen(dir: &Path) -> Result<(Events, State)> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Embedded::open(dir) {
            Err(error) if error.kind() == Kind::Conflict && Instant::now() < deadline => {
                thread::yield_now();
            }
            outcome => return outcome,
        }
    }
}

/// The log of these tests: batch n, counted from 1, of a fixed sequence of events.
fn batch(log: &[Event], position: u64) -> &[Event] {
    let start = (usize::try_from(position).unwrap() - 1) * BATCH;
    &log[start..start + BATCH]
}

/// Feeds both stores from the log, as a server does after a start.
fn feed(log: &[Event], events: &Events, state: &State, mut after: impl FnMut(u64)) {
    let start = events.position().min(state.position().unwrap());
    for position in start + 1..=BATCHES {
        let batch = batch(log, position);
        if position > state.position().unwrap() {
            let report = Report {
                kind: "process".into(),
                info: "/bin/sh".into(),
                agent: AgentId::from_bits(u128::from(position % 3)),
                at: Timestamp::from_secs(1),
            };
            state.count(&vec![report; BATCH]).unwrap();
            state
                .apply(&Changes {
                    position,
                    acked: vec![(AgentId::from_bits(1), Epoch(1), position)],
                    stored: vec![(AgentId::from_bits(1), "all".into(), BATCH as u64)],
                    ..Changes::default()
                })
                .unwrap();
        }
        events.append(batch, position).unwrap();
        if position % 3 == 0 || position == BATCHES {
            events.commit().unwrap();
        }
        after(position);
    }
}

fn ids(store: &Events) -> Vec<EventId> {
    let mut found = Vec::new();
    let mut request = PageRequest {
        limit: 1000,
        ..PageRequest::default()
    };
    loop {
        let page = store.search(&Query::default(), &request).unwrap();
        found.extend(page.events.into_iter().map(|event| event.id));
        match page.next {
            Some(next) => request.cursor = Some(next),
            None => return found,
        }
    }
}

fn assert_each_once(store: &Events, log: &[Event]) {
    let found = ids(store);
    let distinct: HashSet<&EventId> = found.iter().collect();
    assert_eq!(distinct.len(), found.len(), "events are doubled");
    let expected: HashSet<&EventId> = log.iter().map(|event| &event.id).collect();
    assert_eq!(distinct, expected, "events are missing");
}

fn log() -> Vec<Event> {
    events(11, BATCHES * BATCH as u64)
}

/// The process that is killed; run as a test of its own it does nothing.
#[test]
fn child_that_is_killed_while_it_writes() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER) else {
        return;
    };
    let (events, state) = reopen(Path::new(&folder)).unwrap();
    feed(&log(), &events, &state, |position| {
        println!("\nstep {position}");
    });
}

#[test]
fn after_kills_and_reading_the_log_again_each_event_is_stored_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = log();
    let mut killed = 0;
    for round in 0..8_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "child_that_is_killed_while_it_writes",
                "--nocapture",
            ])
            .env(CHILD_FOLDER, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut steps = output
            .lines()
            .map_while(std::result::Result::ok)
            .filter(|line| line.starts_with("step"));
        // Not always after the same step, and a little into the next one.
        let wanted = usize::try_from(5 + round * 3).unwrap();
        // The pipe stays open, or the child would die of it before it is killed.
        let reached = steps.by_ref().take(wanted).count();
        thread::sleep(Duration::from_millis(round * 3));
        child.kill().unwrap();
        let by_kill = child.wait().unwrap().signal() == Some(9);
        killed += usize::from(by_kill && reached == wanted);
    }
    assert!(
        killed >= 4,
        "only {killed} children were killed while writing"
    );
    let (events, state) = reopen(dir.path()).unwrap();
    feed(&log, &events, &state, |_| {});
    assert_each_once(&events, &log);
    let all = BATCHES * BATCH as u64;
    let counted = state.statistic("process", "/bin/sh").unwrap().unwrap();
    assert_eq!((counted.count, counted.exist_count), (all, 3));
    assert_eq!(state.stored_totals().unwrap()[0].2, all);
}

#[test]
fn a_second_owner_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let stores = reopen(dir.path()).unwrap();
    let error = Embedded::open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict);
    let message = error.to_string();
    assert!(
        message.contains(&std::process::id().to_string()),
        "{message}"
    );
    let (events, state) = stores;
    drop(state);
    assert!(Embedded::open(dir.path()).is_err(), "events still use it");
    drop(events);
    reopen(dir.path()).unwrap();
}

#[test]
fn what_a_newer_version_wrote_is_refused() {
    fn refused(spoil: impl Fn(&Path)) {
        let dir = tempfile::tempdir().unwrap();
        drop(reopen(dir.path()).unwrap());
        spoil(dir.path());
        let error = reopen(dir.path()).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
        assert!(error.to_string().contains("upgrade"), "{error}");
    }
    refused(|dir| fs::write(dir.join("VERSION"), "2\n").unwrap());
    refused(|dir| {
        let list = r#"{"version":2,"anything":[]}"#;
        fs::write(dir.join("events/partitions.json"), list).unwrap();
    });
    refused(|dir| {
        let state = rusqlite::Connection::open(dir.join("state.db")).unwrap();
        state.pragma_update(None, "user_version", 99).unwrap();
    });
}

/// Two days of events, the store closed.
fn two_days(dir: &Path) -> (Vec<Event>, PathBuf) {
    let log = events(5, 800);
    let (events, _state) = reopen(dir).unwrap();
    events.append(&log, 1).unwrap();
    events.commit().unwrap();
    (log, dir.join("events/2026-01-31"))
}

#[test]
fn a_damaged_partition_is_set_aside_and_the_others_answer() {
    let names: Vec<_> = {
        let dir = tempfile::tempdir().unwrap();
        let (_, day) = two_days(dir.path());
        let files = fs::read_dir(day).unwrap();
        files.map(|file| file.unwrap().file_name()).collect()
    };
    let kinds: HashSet<String> = names
        .iter()
        .filter_map(|name| Some(name.to_str()?.rsplit('.').next()?.to_owned()))
        .filter(|kind| kind != "lock")
        .collect();
    assert!(kinds.len() >= 5, "{kinds:?}");
    for kind in &kinds {
        for (how, spoil) in [
            (
                "emptied",
                (|_: &mut Vec<u8>| Vec::new()) as fn(&mut Vec<u8>) -> Vec<u8>,
            ),
            ("halved", |bytes| bytes[..bytes.len() / 2].to_vec()),
            ("garbled", |bytes| {
                bytes.iter().map(|byte| byte ^ 0x5a).collect()
            }),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let (log, day) = two_days(dir.path());
            for file in fs::read_dir(&day).unwrap() {
                let path = file.unwrap().path();
                if path.to_str().unwrap().ends_with(&format!(".{kind}")) {
                    let mut bytes = fs::read(&path).unwrap();
                    fs::write(&path, spoil(&mut bytes)).unwrap();
                }
            }
            let (events, _state) = reopen(dir.path()).unwrap();
            let found = ids(&events).len();
            let query = Query::parse("type:process | name:/bin/ | all:root").unwrap();
            events.count(&query).unwrap();
            assert!(events.get(&log[0].id).is_ok());
            let others = log.iter().filter(|event| {
                event.ingested_at >= Timestamp::parse_rfc3339("2026-02-01T00:00:00Z").unwrap()
            });
            assert!(found >= others.count(), "{kind} {how}: {found}");
            if dir.path().join("events/2026-01-31.corrupt").exists() {
                assert!(found < log.len(), "{kind} {how}");
            } else {
                assert_eq!(found, log.len(), "{kind} {how}");
            }
            // The day can be written anew.
            events.append(&log[..10], 2).unwrap();
            events.commit().unwrap();
        }
    }
}

#[test]
fn without_its_list_of_partitions_the_store_finds_them() {
    let dir = tempfile::tempdir().unwrap();
    let (log, _) = two_days(dir.path());
    fs::write(dir.path().join("events/partitions.json"), "{{").unwrap();
    let (events, _state) = reopen(dir.path()).unwrap();
    assert_eq!(events.position(), 0);
    events.append(&log, 1).unwrap();
    assert_eq!(events.commit().unwrap(), 1);
    assert_each_once(&events, &log);
}

/// Does something that may be refused for a moment: locks of index writers, too, are handed to
/// processes that other tests start.
fn soon<T>(mut work: impl FnMut() -> Result<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match work() {
            Err(error) if error.is_retryable() && Instant::now() < deadline => thread::yield_now(),
            outcome => return outcome.unwrap(),
        }
    }
}

/// A small file system of our own, gone with this.
struct Disk(PathBuf);

impl Disk {
    fn new(path: &Path, megabytes: u32) -> Option<Self> {
        fs::create_dir(path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(path)
            .status();
        mounted
            .is_ok_and(|status| status.success())
            .then(|| Self(path.to_owned()))
    }

    /// Leaves so many bytes free.
    fn fill(&self, free: usize) {
        let mut ballast = fs::File::create(self.0.join("ballast")).unwrap();
        let block = vec![1; 64 << 10];
        let mut written = 0;
        while let Ok(more) = ballast.write(&block)
            && more > 0
        {
            written += more;
        }
        ballast.set_len((written - free) as u64).unwrap();
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        assert!(unmounted.is_ok_and(|status| status.success()) || thread::panicking());
    }
}

#[test]
fn a_full_disk_is_survived_without_loss() {
    let dir = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::new(&dir.path().join("disk"), 24) else {
        eprintln!("SKIPPED a_full_disk_is_survived_without_loss: cannot mount a tmpfs");
        return;
    };
    let log = log();
    {
        let (events, state) = reopen(&disk.0.join("data")).unwrap();
        events.append(batch(&log, 1), 1).unwrap();
        events.commit().unwrap();
        let changes = |position| Changes {
            position,
            acked: vec![(AgentId::from_bits(1), Epoch(1), position)],
            inventories: Vec::new(),
            ..Changes::default()
        };
        state.apply(&changes(1)).unwrap();
        let reports: Vec<Report> = (0..2000_u32)
            .map(|n| Report {
                kind: "process".into(),
                info: format!("/bin/{n}/{}", "x".repeat(200)),
                agent: AgentId::from_bits(1),
                at: Timestamp::from_secs(1),
            })
            .collect();
        for free in [0, 64 << 10] {
            disk.fill(free);
            state.count(&reports).unwrap();
            let position = state.position().unwrap() + 1;
            let error = state.apply(&changes(position)).unwrap_err();
            assert!(error.is_retryable(), "{error:?}");
            assert_eq!(state.position().unwrap(), position - 1);
            disk.empty();
            state.apply(&changes(position)).unwrap();

            disk.fill(free);
            let position = events.position() + 1;
            let mut refused = None;
            let mut reached = position;
            for next in position..position + 60 {
                reached = next;
                if let Err(error) = events.append(batch(&log, next), next) {
                    assert!(error.is_retryable(), "{error:?}");
                    refused = Some(next);
                    break;
                }
            }
            for _ in 0..2 {
                let error = events.commit().unwrap_err();
                assert!(error.is_retryable(), "{error:?}");
                assert_eq!(events.position(), position - 1);
            }
            disk.empty();
            if let Some(position) = refused {
                soon(|| events.append(batch(&log, position), position));
            }
            assert_eq!(soon(|| events.commit()), reached);
        }
    }
    let (events, state) = reopen(&disk.0.join("data")).unwrap();
    let stored = usize::try_from(events.position()).unwrap() * BATCH;
    assert_each_once(&events, &log[..stored]);
    let query = Query::parse("type:process | count:2").unwrap();
    assert_eq!(state.statistics(&query, 9999).unwrap().len(), 2000);
}

#[test]
fn searches_during_writing_see_whole_commits() {
    let dir = tempfile::tempdir().unwrap();
    let (events, _state) = reopen(dir.path()).unwrap();
    let log = log();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for position in 1..=BATCHES {
                events.append(batch(&log, position), position).unwrap();
                if position % 5 == 0 {
                    events.commit().unwrap();
                }
            }
            done.store(true, Ordering::Release);
        });
        let deadline = Instant::now() + Duration::from_secs(120);
        let mut last = 0;
        while !done.load(Ordering::Acquire) && Instant::now() < deadline {
            let count = events.count(&Query::default()).unwrap();
            assert!(count >= last, "{count} after {last}");
            last = count;
            let page = events
                .search(&Query::default(), &PageRequest::default())
                .unwrap();
            let newest_first = page
                .events
                .is_sorted_by(|a, b| (a.time, &a.id) > (b.time, &b.id));
            assert!(newest_first);
        }
    });
    assert_each_once(&events, &log);
}
