//! The sensor on this kernel, in directories of its own. Needs root; without it the tests of
//! fanotify skip.

mod actors;
mod archives;
mod changes;
mod links;
mod mounts;
mod names;
mod reach;
mod renames;
mod storms;
mod uring;
mod writers;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeValLike,
};
use tempfile::TempDir;
use yinglong_model::{
    DropReason, EventData, Observation, config::AgentConfig, event::File, host::SensorStatus,
};
use yinglong_sensor::{Context, Error, Outlet};

use super::{Options, Source, WebRoots, fanotify::Fanotify, open};
use crate::{accounts::Accounts, tree::Tree};

const DEADLINE: Duration = Duration::from_secs(20);

/// What was committed, and what is not yet.
#[derive(Debug, Default)]
struct Committed {
    events: Vec<File>,
    waiting: Vec<File>,
    lost: Vec<(DropReason, u64)>,
    drains: usize,
    statuses: Vec<SensorStatus>,
}

#[derive(Debug, Clone, Default)]
struct Recorder(Arc<Mutex<Committed>>);

impl Recorder {
    fn get(&self) -> MutexGuard<'_, Committed> {
        self.0.lock().unwrap()
    }
}

impl Outlet for Recorder {
    fn emit(&mut self, observation: Observation) {
        match observation {
            Observation::Event {
                data: EventData::File(file),
                ..
            } => self.get().waiting.push(*file),
            other => panic!("{other:?}"),
        }
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        self.get().lost.push((reason, count));
    }

    fn filtered(&mut self, count: u64) {
        panic!("{count} filtered, which is not this sensor's business");
    }

    fn mark(&mut self, _: &str, _: String) {}

    fn status(&mut self, status: SensorStatus) {
        self.get().statuses.push(status);
    }

    fn marked(&self, _: &str) -> Option<String> {
        None
    }

    fn commit(&mut self) -> Result<(), Error> {
        let mut state = self.get();
        let mut waiting = std::mem::take(&mut state.waiting);
        state.events.append(&mut waiting);
        Ok(())
    }
}

/// How a sensor stood at its end, and its thread's CPU time in user and system mode (us).
type Ended = (SensorStatus, [i64; 2]);

/// A running sensor and a place for files.
struct Bench {
    place: TempDir,
    context: Context,
    config: AgentConfig,
    web_roots: WebRoots,
    tree: Tree,
    recorder: Recorder,
    probes: usize,
    thread: Option<JoinHandle<Ended>>,
}

impl Bench {
    /// Starts a sensor for `entries`, which are relative to the place; `%web%` stays.
    fn start(source: Source, entries: &[&str]) -> Option<Self> {
        Self::excluding(source, entries, Vec::new())
    }

    /// The same, deaf to what `excluded_pids` do.
    fn excluding(source: Source, entries: &[&str], excluded_pids: Vec<u32>) -> Option<Self> {
        if source == Source::Best
            && let Err(refused) = Fanotify::open()
        {
            eprintln!("SKIPPED fanotify: {refused}");
            return None;
        }
        let mut bench = Self {
            place: tempfile::tempdir().unwrap(),
            context: Context::default(),
            config: AgentConfig::default(),
            web_roots: WebRoots::default(),
            tree: Tree::default(),
            recorder: Recorder::default(),
            probes: 0,
            thread: None,
        };
        bench.prepare(entries);
        let options = Options {
            excluded_pids,
            source,
        };
        let tree = bench.tree.clone();
        let web_roots = bench.web_roots.clone();
        let mut sensor = open(tree, Accounts::default(), web_roots, options).unwrap();
        let (context, mut outlet) = (bench.context.clone(), bench.recorder.clone());
        bench.thread = Some(thread::spawn(move || {
            sensor.run(&context, &mut outlet).unwrap();
            let used = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
            let micros = [used.user_time(), used.system_time()].map(|time| time.num_microseconds());
            (sensor.status(), micros)
        }));
        bench.settle();
        Some(bench)
    }

    fn path(&self, relative: &str) -> PathBuf {
        self.place.path().canonicalize().unwrap().join(relative)
    }

    fn prepare(&mut self, entries: &[&str]) {
        self.probes += 1;
        let probe = format!("probe{}", self.probes);
        fs::create_dir(self.path(&probe)).unwrap();
        let entries = entries.iter().copied().chain([probe.as_str()]);
        self.config.client.monitor_path = entries
            .map(|entry| match entry.starts_with('%') {
                true => entry.to_owned(),
                false => self.path(entry).to_str().unwrap().to_owned(),
            })
            .collect();
        self.context.set_config(self.config.clone());
    }

    /// Changes what is watched.
    fn configure(&mut self, entries: &[&str]) {
        self.prepare(entries);
        self.settle();
    }

    /// Waits until the present configuration is in force: its probe directory is watched.
    fn settle(&self) {
        let start = Instant::now();
        for number in 0.. {
            let probe = format!("probe{}/{number}", self.probes);
            shell(&format!("echo x > {probe}"), &self.path(""));
            thread::sleep(Duration::from_millis(20));
            let prefix = self.path(&format!("probe{}/", self.probes));
            let prefix = prefix.to_str().unwrap().to_owned();
            let seen = |file: &File| file.path.starts_with(&prefix);
            if self.recorder.get().events.iter().any(seen) {
                return;
            }
            assert!(start.elapsed() < DEADLINE, "the sensor watches nothing");
        }
    }

    /// Events of a path so far.
    fn of(&self, path: &str) -> Vec<File> {
        let path = super::change::display(&self.path(path));
        let state = self.recorder.get();
        let of_path = state.events.iter().filter(|file| file.path == path);
        of_path.cloned().collect()
    }

    /// Waits for an event of `path` with `action`.
    fn expect(&self, path: &str, action: &str) -> File {
        let start = Instant::now();
        loop {
            let events = self.of(path);
            if let Some(found) = events.iter().rev().find(|file| file.action == action) {
                return found.clone();
            }
            assert!(
                start.elapsed() < DEADLINE,
                "no {action} of {path}, only {events:?}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits for an event of `path` that is `wanted`.
    fn until(&self, path: &str, wanted: impl Fn(&File) -> bool) -> File {
        let start = Instant::now();
        loop {
            let events = self.of(path);
            if let Some(found) = events.iter().rev().find(|file| wanted(file)) {
                return found.clone();
            }
            assert!(
                start.elapsed() < DEADLINE,
                "not what is wanted of {path}, only {events:?}"
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The path as it is told.
    fn told(&self, path: &str) -> String {
        super::change::display(&self.path(path))
    }

    /// Waits until everything that happened so far must have been reported.
    fn drain(&self) {
        let mut state = self.recorder.get();
        state.drains += 1;
        let mark = format!("probe{}/drain{}", self.probes, state.drains);
        drop(state);
        shell(&format!("echo x > {mark}"), &self.path(""));
        self.expect(&mark, "WRITE");
    }

    fn actions(&self, path: &str) -> Vec<String> {
        self.of(path).into_iter().map(|file| file.action).collect()
    }

    fn stop(mut self) -> (Ended, Recorder) {
        self.context.stop();
        let ended = self.thread.take().unwrap().join().unwrap();
        (ended, self.recorder.clone())
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.context.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

fn both(test: impl Fn(Source)) {
    for source in [Source::Best, Source::Inotify] {
        test(source);
    }
}

fn shell(command: &str, directory: &Path) {
    let mut shell = Command::new("/bin/sh");
    let done = shell.args(["-c", command]).current_dir(directory).status();
    assert!(done.unwrap().success(), "{command}");
}

/// MD5 of a file's content as it is told.
fn md5(path: &Path) -> String {
    use md5::Digest;
    let content = fs::read(path).unwrap();
    let digest = md5::Md5::digest(content);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A mount for as long as it lives.
struct Mounted(PathBuf);

impl Mounted {
    fn new(kind: &str, options: &str, point: &Path) -> Option<Self> {
        let flags = nix::mount::MsFlags::empty();
        Self::from(Path::new(kind), kind, options, flags, point)
    }

    fn bind(from: &Path, point: &Path) -> Option<Self> {
        Self::from(from, "none", "", nix::mount::MsFlags::MS_BIND, point)
    }

    fn from(
        from: &Path,
        kind: &str,
        options: &str,
        flags: nix::mount::MsFlags,
        point: &Path,
    ) -> Option<Self> {
        fs::create_dir_all(point).unwrap();
        match nix::mount::mount(Some(from), point, Some(kind), flags, Some(options)) {
            Ok(()) => Some(Self(point.to_owned())),
            Err(error) => {
                eprintln!("SKIPPED mount {kind}: {error}");
                None
            }
        }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}
