use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Instant,
};

use yinglong_model::event::{File, Login};

use super::*;
use crate::logins::{JournalPlace, Options, Paths, follow::CHUNK_BYTES, open, utmp};

mod journal;
mod sshd;
mod tampering;
mod witnesses;

/// Keeps what is committed; what is not is forgotten, as by a killed agent.
#[derive(Default, Clone)]
struct Kept {
    committed: Arc<Mutex<Content>>,
    pending: Content,
}

#[derive(Default, Clone)]
struct Content {
    events: Vec<(Timestamp, Login)>,
    changes: Vec<File>,
    marks: HashMap<String, String>,
    lost: HashMap<&'static str, u64>,
    statuses: Vec<SensorStatus>,
}

impl Outlet for Kept {
    fn emit(&mut self, observation: Observation) {
        let Observation::Event { occurred_at, data } = observation else {
            return;
        };
        match data {
            EventData::Loginlog(login) => self.pending.events.push((occurred_at, login)),
            EventData::File(change) => self.pending.changes.push(*change),
            other => panic!("{other:?}"),
        }
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        *self.pending.lost.entry(reason.as_str()).or_default() += count;
    }

    fn filtered(&mut self, _: u64) {}

    fn mark(&mut self, name: &str, value: String) {
        self.pending.marks.insert(name.to_owned(), value);
    }

    fn status(&mut self, status: SensorStatus) {
        self.committed.lock().unwrap().statuses.push(status);
    }

    fn marked(&self, name: &str) -> Option<String> {
        self.committed.lock().unwrap().marks.get(name).cloned()
    }

    fn commit(&mut self) -> Result<(), Error> {
        let pending = std::mem::take(&mut self.pending);
        let mut committed = self.committed.lock().unwrap();
        committed.events.extend(pending.events);
        committed.changes.extend(pending.changes);
        committed.marks.extend(pending.marks);
        for (reason, count) in pending.lost {
            *committed.lost.entry(reason).or_default() += count;
        }
        Ok(())
    }
}

impl Kept {
    fn take(&self) -> Vec<(Timestamp, Login)> {
        std::mem::take(&mut self.committed.lock().unwrap().events)
    }

    /// Actions and names of the files that were tampered with.
    fn tampered(&self) -> Vec<String> {
        let changes = std::mem::take(&mut self.committed.lock().unwrap().changes);
        let name = |change: &File| change.path.rsplit('/').next().unwrap().to_owned();
        changes
            .iter()
            .map(|change| format!("{} {}", change.action, name(change)))
            .collect()
    }

    fn lost(&self) -> HashMap<&'static str, u64> {
        self.committed.lock().unwrap().lost.clone()
    }
}

/// Files of logins in a directory of their own.
struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn paths(&self) -> Paths {
        Paths {
            wtmp: self.path("wtmp"),
            btmp: self.path("btmp"),
            lastlog: self.path("lastlog"),
            auth: vec![self.path("auth.log")],
            wtmpdb: vec![self.path("wtmp.db")],
            lastlog2: vec![self.path("lastlog2.db")],
        }
    }

    fn options(&self) -> Options {
        Options {
            paths: self.paths(),
            ..Options::default()
        }
    }

    fn append(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(bytes).unwrap();
    }

    fn login(&self, name: &str, user: &str, at_secs: i64) {
        let at = Timestamp::from_secs(at_secs);
        self.append(
            name,
            &utmp::record(utmp::USER_PROCESS, user, "192.0.2.1", at),
        );
    }

    /// A fresh reader, as after a restart, that has read everything once.
    fn read(&self, kept: &Kept) -> Vec<String> {
        let mut reader = self.reader(kept);
        again(&mut reader, kept)
    }

    fn reader(&self, kept: &Kept) -> Reader {
        let mut reader = Reader::new(self.options());
        let saved = kept.marked(RECENT_MARK).unwrap_or_default();
        reader.duplicates = Duplicates::restore(&saved, Timestamp::from_secs(NOW));
        reader
    }
}

/// What a reader that runs finds.
fn again(reader: &mut Reader, kept: &Kept) -> Vec<String> {
    let mut outlet = kept.clone();
    let now = Timestamp::from_secs(NOW);
    while reader.pass(&mut outlet, now).unwrap() {}
    kept.take()
        .iter()
        .map(|(at, login)| shown(*at, login))
        .collect()
}

const NOW: i64 = 1_800_000_000;

fn shown(at: Timestamp, login: &Login) -> String {
    let source = login.source.as_deref().unwrap_or_default();
    let (user, remote, status) = (&login.username, &login.remote, login.status);
    format!("{} {user} {remote} {status} {source}", at.secs())
}

fn line(secs: i64, message: &str) -> Vec<u8> {
    format!("{} box sshd[7]: {message}\n", Timestamp::from_secs(secs)).into_bytes()
}

#[test]
fn a_restart_neither_loses_nor_repeats_logins_a11() {
    let files = Files::new();
    let kept = Kept::default();
    files.login("wtmp", "history", NOW - 99);
    assert!(files.read(&kept).is_empty(), "years of history are no news");
    files.login("wtmp", "a", NOW - 9);
    files.login("wtmp", "b", NOW - 8);
    assert_eq!(
        files.read(&kept),
        [
            format!("{} a 192.0.2.1 true wtmp", NOW - 9),
            format!("{} b 192.0.2.1 true wtmp", NOW - 8)
        ]
    );
    assert!(files.read(&kept).is_empty());
    files.login("btmp", "c", NOW - 7);
    assert_eq!(
        files.read(&kept).len(),
        1,
        "a file that appears later is read"
    );
}

#[test]
fn a_login_in_wtmp_and_log_is_one_event_also_when_a_restart_lies_between_a09() {
    let files = Files::new();
    let kept = Kept::default();
    files.read(&kept);
    let accepted = "Accepted password for a from 192.0.2.1 port 7 ssh2";
    files.append("auth.log", &line(NOW - 9, accepted));
    files.login("wtmp", "a", NOW - 8);
    assert_eq!(files.read(&kept).len(), 1);

    files.append("auth.log", &line(NOW - 1, accepted));
    assert_eq!(files.read(&kept).len(), 1);
    files.login("wtmp", "a", NOW);
    assert!(files.read(&kept).is_empty());
}

#[test]
fn three_wrong_passwords_are_three_failures_a10() {
    let files = Files::new();
    let kept = Kept::default();
    files.read(&kept);
    for _ in 0..3 {
        let failed = "Failed password for a from 192.0.2.1 port 7 ssh2";
        files.append("auth.log", &line(NOW - 3, failed));
        files.login("btmp", "a", NOW - 3);
    }
    let closed = "Connection closed by authenticating user a 192.0.2.1 port 7 [preauth]";
    files.append("auth.log", &line(NOW - 2, closed));
    let expected = format!("{} a 192.0.2.1 false btmp", NOW - 3);
    assert_eq!(files.read(&kept), [expected.as_str(); 3]);
    files.append(
        "auth.log",
        &line(
            NOW,
            "message repeated 2 times: [ Failed password for b from 192.0.2.1 port 8 ssh2]",
        ),
    );
    assert_eq!(files.read(&kept).len(), 2);
}

#[test]
fn junk_is_counted_and_what_follows_is_read_a17() {
    let files = Files::new();
    let kept = Kept::default();
    files.read(&kept);
    files.append("wtmp", &[0; utmp::RECORD_BYTES]);
    files.append("wtmp", &[0xff; utmp::RECORD_BYTES]);
    files.login("wtmp", "a", NOW - 9);
    files.append("wtmp", b"half a record");
    files.append("auth.log", &[0xfe; 300]);
    files.append("auth.log", b"\n\n");
    files.append("auth.log", &vec![b'x'; 3 * CHUNK_BYTES + 5]);
    files.append(
        "auth.log",
        b" Accepted password for x from 192.0.2.1 port 7 ssh2\n",
    );
    files.append(
        "auth.log",
        b"Accepted password for b from 192.0.2.1 port 7 ssh2\r\n",
    );
    assert_eq!(
        files.read(&kept),
        [
            format!("{} a 192.0.2.1 true wtmp", NOW - 9),
            format!("{NOW} b 192.0.2.1 true auth.log")
        ]
    );
    assert_eq!(
        kept.lost(),
        HashMap::from([("malformed", 2), ("too_large", 1)])
    );
    assert_eq!(kept.tampered(), ["TAMPER|ERASED wtmp"]);
}

#[test]
fn many_logins_of_two_sources_are_each_reported_once_after_a_long_stop_a11() {
    let files = Files::new();
    let kept = Kept::default();
    files.read(&kept);
    let (mut records, mut text) = (Vec::new(), Vec::new());
    for n in 0..3000 {
        let (user, at) = (format!("u{n}"), NOW - 90_000 + n);
        let accepted = format!("Accepted password for {user} from 192.0.2.1 port 7 ssh2");
        text.extend(line(at + 1, &accepted));
        let at = Timestamp::from_secs(at);
        records.extend(utmp::record(utmp::USER_PROCESS, &user, "192.0.2.1", at));
    }
    files.append("wtmp", &records);
    files.append("auth.log", &text);
    let mut users: Vec<String> = files
        .read(&kept)
        .iter()
        .filter_map(|row| row.split(' ').nth(1).map(str::to_owned))
        .collect();
    assert_eq!(users.len(), 3000);
    users.sort();
    users.dedup();
    assert_eq!(users.len(), 3000);
}

#[test]
fn a_login_is_reported_within_moments_and_a_stop_ends_the_sensor() {
    let files = Files::new();
    files.append("wtmp", b"");
    let kept = Kept::default();
    let mut sensor = open(files.options()).unwrap();
    assert_eq!(sensor.stream(), "loginlog");
    assert_eq!(sensor.status().source, "wtmp");
    let context = Context::default();
    let worker = std::thread::spawn({
        let (context, mut kept) = (context.clone(), kept.clone());
        move || sensor.run(&context, &mut kept)
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while kept.marked("logins.wtmp").is_none() && Instant::now() < deadline {
        std::thread::yield_now();
    }
    let written = Instant::now();
    files.login("wtmp", "a", NOW);
    let mut events = Vec::new();
    while events.is_empty() && Instant::now() < deadline {
        events = kept.take();
        std::thread::yield_now();
    }
    eprintln!("reported after {:?}", written.elapsed());
    context.stop();
    worker.join().unwrap().unwrap();
    assert_eq!(events.len(), 1);
    let hostname = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(events[0].1.hostname, hostname.trim());
}

#[test]
fn a_host_without_any_log_directory_is_told_what_to_do() {
    let nowhere = || PathBuf::from("/nowhere/at/all");
    let paths = Paths {
        wtmp: nowhere(),
        btmp: nowhere(),
        lastlog: nowhere(),
        auth: vec![],
        wtmpdb: vec![nowhere()],
        lastlog2: vec![],
    };
    let options = Options {
        paths,
        ..Options::default()
    };
    let error = open(options).err().unwrap();
    assert!(error.to_string().contains("YINGLONG_AUTH_LOG"));
}

#[test]
fn a_log_that_appears_later_is_told_as_a_source() {
    let files = Files::new();
    files.append("wtmp", b"");
    let kept = Kept::default();
    let mut sensor = open(files.options()).unwrap();
    let context = Context::default();
    let worker = std::thread::spawn({
        let (context, mut kept) = (context.clone(), kept.clone());
        move || sensor.run(&context, &mut kept)
    });
    let told = |count: usize| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let statuses = kept.committed.lock().unwrap().statuses.clone();
            if statuses.len() >= count || Instant::now() > deadline {
                return statuses;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    assert_eq!(told(1)[0].source, "wtmp");
    files.append("auth.log", b"");
    let statuses = told(2);
    context.stop();
    worker.join().unwrap().unwrap();
    assert_eq!(statuses.len(), 2, "{statuses:?}");
    assert_eq!(statuses[1].source, "wtmp+auth.log");
    assert!(statuses[0].reason.contains("no text log"));
    assert_eq!(statuses[1].reason, "");
}
