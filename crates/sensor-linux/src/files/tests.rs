//! The sensor on this kernel, in directories of its own. Needs root; without it the tests of
//! fanotify skip.

use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tempfile::TempDir;
use yinglong_model::{DropReason, EventData, Observation, config::AgentConfig, event::File};
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
            } => self.get().waiting.push(file),
            other => panic!("{other:?}"),
        }
    }

    fn lose(&mut self, reason: DropReason, count: u64) {
        self.get().lost.push((reason, count));
    }

    fn mark(&mut self, _: &str, _: String) {}

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

/// A running sensor and a place for files.
struct Bench {
    place: TempDir,
    context: Context,
    config: AgentConfig,
    web_roots: WebRoots,
    recorder: Recorder,
    probes: usize,
    thread: Option<JoinHandle<String>>,
}

impl Bench {
    /// Starts a sensor for `entries`, which are relative to the place; `%web%` stays.
    fn start(source: Source, entries: &[&str]) -> Option<Self> {
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
            recorder: Recorder::default(),
            probes: 0,
            thread: None,
        };
        bench.prepare(entries);
        let options = Options {
            excluded_pids: Vec::new(),
            source,
        };
        let tree = Tree::default();
        let web_roots = bench.web_roots.clone();
        let mut sensor = open(tree, Accounts::default(), web_roots, options).unwrap();
        let (context, mut outlet) = (bench.context.clone(), bench.recorder.clone());
        bench.thread = Some(thread::spawn(move || {
            sensor.run(&context, &mut outlet).unwrap();
            sensor.status().source
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
            fs::write(self.path(&probe), "x").unwrap();
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

    /// Waits until everything that happened so far must have been reported.
    fn drain(&self) {
        let mark = format!("probe{}/drain{:?}", self.probes, Instant::now());
        fs::write(self.path(&mark), "x").unwrap();
        self.expect(&mark, "WRITE");
    }

    fn actions(&self, path: &str) -> Vec<String> {
        self.of(path).into_iter().map(|file| file.action).collect()
    }

    fn stop(mut self) -> (String, Recorder) {
        self.context.stop();
        let source = self.thread.take().unwrap().join().unwrap();
        (source, self.recorder.clone())
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

#[test]
fn m16_reports_five_kinds_of_change() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        shell("touch new; echo text > written", &bench.path(""));
        bench.expect("new", "CREATE");
        bench.expect("written", "CREATE");
        bench.expect("written", "WRITE");
        shell("mv new moved; chmod 600 moved", &bench.path(""));
        bench.expect("new", "RENAME");
        bench.expect("moved", "CREATE");
        bench.expect("moved", "CHMOD");
        shell("rm moved", &bench.path(""));
        bench.expect("moved", "REMOVE");
        assert_eq!(bench.actions("written"), ["CREATE", "WRITE"]);
        assert!(!bench.actions("new").contains(&"WRITE".to_owned()));
        let expected = match source {
            Source::Best => "fanotify",
            Source::Inotify => "inotify",
        };
        assert_eq!(bench.stop().0, expected);
    });
}

#[test]
fn a_change_is_committed_within_a_fifth_of_a_second() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        let mut times = Vec::new();
        for number in 0..9 {
            let name = format!("f{number}");
            let start = Instant::now();
            fs::write(bench.path(&name), "x").unwrap();
            bench.expect(&name, "WRITE");
            times.push(start.elapsed());
        }
        times.sort();
        assert!(times[4] < Duration::from_millis(200), "{times:?}");
    });
}

#[test]
fn m17_a_star_reaches_three_levels_and_a_plain_entry_one() {
    both(|source| {
        let Some(mut bench) = Bench::start(source, &[]) else {
            return;
        };
        fs::create_dir_all(bench.path("deep/a/b")).unwrap();
        fs::create_dir_all(bench.path("flat/a")).unwrap();
        bench.configure(&["deep/*", "flat/"]);
        for path in ["deep/1", "deep/a/2", "deep/a/b/3", "flat/1", "flat/a/2"] {
            fs::write(bench.path(path), "x").unwrap();
        }
        for path in ["deep/1", "deep/a/2", "deep/a/b/3", "flat/1"] {
            bench.expect(path, "WRITE");
        }
        bench.drain();
        assert_eq!(bench.actions("flat/a/2"), [""; 0]);
    });
}

#[test]
fn m18_a_file_in_directories_made_a_moment_ago_is_reported() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["www/*"]) else {
            return;
        };
        // The watched directory itself does not exist yet.
        shell("mkdir -p www/Web/New/Deep", &bench.path(""));
        shell("echo x > www/Web/New/Deep/first.php", &bench.path(""));
        bench.expect("www/Web/New/Deep/first.php", "WRITE");
        for number in 0..20 {
            let directory = format!("www/Web/{number}/New/Deep");
            let file = format!("{directory}/Shell.php");
            shell(
                &format!("mkdir -p {directory}; echo x > {file}"),
                &bench.path(""),
            );
            bench.expect(&file, "CREATE");
            bench.expect(&file, "WRITE");
        }
    });
}

#[test]
fn m18_a_directory_that_moves_takes_its_files_along() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["www/*"]) else {
            return;
        };
        shell(
            "mkdir -p www kit/tools; echo x > kit/tools/shell.php",
            &bench.path(""),
        );
        bench.drain();
        thread::sleep(Duration::from_millis(600));
        shell("mv kit www/kit", &bench.path(""));
        bench.expect("www/kit/tools/shell.php", "CREATE");
        shell(
            "mv www/kit www/moved; echo y > www/moved/tools/more",
            &bench.path(""),
        );
        bench.expect("www/moved/tools/shell.php", "CREATE");
        bench.expect("www/moved/tools/more", "CREATE");
        bench.drain();
        shell("echo z > www/moved/tools/after", &bench.path(""));
        bench.expect("www/moved/tools/after", "WRITE");
        shell(
            "mv www/moved away; echo y > away/tools/unseen",
            &bench.path(""),
        );
        bench.expect("www/moved", "RENAME");
        bench.drain();
        assert_eq!(bench.actions("away/tools/unseen"), [""; 0]);
        assert_eq!(bench.actions("www/moved/tools/unseen"), [""; 0]);
    });
}

#[test]
fn m19_hashes_equal_md5sum_and_stop_at_the_limit() {
    both(|source| {
        let Some(mut bench) = Bench::start(source, &[]) else {
            return;
        };
        bench.config.client.hash_limit_bytes = 1 << 20;
        bench.configure(&["."]);
        fs::write(bench.path("small"), vec![7; 1 << 20]).unwrap();
        fs::write(bench.path("large"), vec![7; (1 << 20) + 1]).unwrap();
        let small = bench.expect("small", "WRITE");
        let sum = Command::new("md5sum").arg(bench.path("small")).output();
        let sum = String::from_utf8(sum.unwrap().stdout).unwrap();
        assert_eq!(Some(small.hash.as_str()), sum.split(' ').next());
        assert_eq!(small.sha256.unwrap().len(), 64);
        assert_eq!((small.size, small.hash_skipped), (Some(1 << 20), None));
        let large = bench.expect("large", "WRITE");
        assert_eq!((large.hash.as_str(), large.sha256), ("", None));
        assert_eq!(large.hash_skipped.as_deref(), Some("too_large"));
    });
}

#[test]
fn m20_the_owner_is_the_user_and_the_writer_the_actor() {
    let Some(bench) = Bench::start(Source::Best, &["."]) else {
        return;
    };
    fs::set_permissions(bench.path("."), fs::Permissions::from_mode(0o777)).unwrap();
    let script = "cp /etc/hostname mine; sleep 0.3; exec cp /etc/hostname again";
    let mut writer = Command::new("setpriv")
        .args(["--reuid=nobody", "--clear-groups", "sh", "-c", script])
        .current_dir(bench.path("."))
        .spawn()
        .unwrap();
    let event = bench.expect("again", "WRITE");
    assert!(writer.wait().unwrap().success());
    assert_eq!(event.user, "nobody");
    assert_eq!(event.actor_user.as_deref(), Some("nobody"));
    assert_eq!(event.actor_pid, Some(writer.id()));
    let name = event.actor_name.unwrap();
    assert!(name.ends_with("/cp"), "{name}");
    assert_eq!(bench.expect("mine", "CREATE").user, "nobody");
}

#[test]
fn changes_of_the_agent_itself_are_not_reported() {
    let Some(mut bench) = Bench::start(Source::Best, &["."]) else {
        return;
    };
    let options = Options {
        excluded_pids: vec![std::process::id()],
        source: Source::Best,
    };
    let web_roots = WebRoots::default();
    let mut sensor = open(Tree::default(), Accounts::default(), web_roots, options).unwrap();
    let context = Context::default();
    context.set_config(bench.config.clone());
    let recorder = Recorder::default();
    let (context_too, mut outlet) = (context.clone(), recorder.clone());
    let thread = thread::spawn(move || sensor.run(&context_too, &mut outlet).unwrap());
    std::mem::swap(&mut bench.recorder, &mut recorder.clone());
    let start = Instant::now();
    let theirs = "theirs";
    while bench.of(theirs).is_empty() {
        fs::write(bench.path("ours"), "x").unwrap();
        shell("echo x > theirs", &bench.path(""));
        thread::sleep(Duration::from_millis(50));
        assert!(start.elapsed() < DEADLINE);
    }
    context.stop();
    thread.join().unwrap();
    assert_eq!(bench.actions("ours"), [""; 0]);
}

#[test]
fn web_roots_found_later_are_watched_and_marked() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["%web%"]) else {
            return;
        };
        fs::create_dir_all(bench.path("site/sub")).unwrap();
        bench.web_roots.set(vec![bench.path("site")]);
        let start = Instant::now();
        for number in 0.. {
            let name = format!("site/sub/{number}.php");
            fs::write(bench.path(&name), "x").unwrap();
            thread::sleep(Duration::from_millis(20));
            let seen = |file: &File| file.path.contains("/site/sub/") && file.web == Some(true);
            if bench.recorder.get().events.iter().any(seen) {
                break;
            }
            assert!(start.elapsed() < DEADLINE);
        }
        let probe = |file: &File| file.path.contains("/probe") && file.web.is_none();
        assert!(bench.recorder.get().events.iter().any(probe));
    });
}

#[test]
fn a_new_configuration_is_in_force_within_a_second() {
    both(|source| {
        let Some(mut bench) = Bench::start(source, &["one"]) else {
            return;
        };
        fs::create_dir(bench.path("one")).unwrap();
        fs::create_dir(bench.path("two")).unwrap();
        let start = Instant::now();
        bench.configure(&["two"]);
        assert!(start.elapsed() < Duration::from_millis(1_500));
        fs::write(bench.path("one/f"), "x").unwrap();
        fs::write(bench.path("two/f"), "x").unwrap();
        bench.expect("two/f", "WRITE");
        bench.drain();
        assert_eq!(bench.actions("one/f"), [""; 0]);
    });
}

#[test]
fn a_linked_directory_is_reported_under_its_real_path() {
    both(|source| {
        let Some(mut bench) = Bench::start(source, &[]) else {
            return;
        };
        fs::create_dir_all(bench.path("usr/bin")).unwrap();
        std::os::unix::fs::symlink("usr/bin", bench.path("bin")).unwrap();
        bench.configure(&["bin/", "usr/bin/"]);
        fs::write(bench.path("bin/ls"), "x").unwrap();
        bench.expect("usr/bin/ls", "WRITE");
        bench.drain();
        assert_eq!(bench.actions("usr/bin/ls"), ["CREATE", "WRITE"]);
        assert_eq!(bench.actions("bin/ls"), [""; 0]);
    });
}

#[test]
fn odd_names_are_reported_and_pipes_hold_nothing_up() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        shell("mkfifo pipe; chmod 600 pipe", &bench.path(""));
        let raw = bench.path("").join(OsStr::from_bytes(b"bad\xff\n name"));
        fs::write(raw, "x").unwrap();
        let long = "x".repeat(255);
        fs::write(bench.path(&long), "x").unwrap();
        bench.expect(&long, "WRITE");
        bench.drain();
        let shown = format!("{}\\xff\n name", bench.path("bad").display());
        let found = |file: &File| file.path == shown && file.action == "WRITE";
        assert!(bench.recorder.get().events.iter().any(found));
        assert_eq!(bench.actions("pipe"), [""; 0]);
    });
}

#[test]
fn a_write_through_a_memory_mapping_is_reported_and_opening_alone_is_not() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        fs::write(bench.path("f"), "before").unwrap();
        fs::write(bench.path("idle"), "before").unwrap();
        let first = bench.expect("f", "WRITE");
        bench.expect("idle", "WRITE");
        drop(fs::OpenOptions::new().write(true).open(bench.path("idle")));
        map_and_write(&bench.path("f"));
        let start = Instant::now();
        while bench.expect("f", "WRITE").hash == first.hash {
            assert!(start.elapsed() < DEADLINE);
            thread::sleep(Duration::from_millis(5));
        }
        bench.drain();
        assert_eq!(bench.actions("idle"), ["CREATE", "WRITE"]);
    });
}

fn map_and_write(path: &Path) {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.unwrap();
    let length = std::num::NonZeroUsize::new(6).unwrap();
    let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    // SAFETY: a new mapping at an address the kernel chooses.
    let map = unsafe { mmap(None, length, access, MapFlags::MAP_SHARED, &file, 0) }.unwrap();
    // SAFETY: the mapping is writable and at least six bytes long.
    unsafe { map.cast::<u8>().write(b'B') };
    // SAFETY: the mapping is not used any more.
    unsafe { munmap(map, 6) }.unwrap();
}

#[test]
fn a_tree_removed_at_once_is_reported_file_by_file() {
    let Some(mut bench) = Bench::start(Source::Best, &[]) else {
        return;
    };
    for directory in 0..20 {
        let directory = format!("www/a/{directory}/b");
        fs::create_dir_all(bench.path(&directory)).unwrap();
        fs::write(bench.path(&format!("{directory}/f")), "x").unwrap();
    }
    bench.configure(&["www/*"]);
    fs::remove_dir_all(bench.path("www/a")).unwrap();
    for directory in 0..20 {
        bench.expect(&format!("www/a/{directory}/b/f"), "REMOVE");
        bench.expect(&format!("www/a/{directory}/b"), "REMOVE");
    }
}

#[test]
fn a_storm_of_twenty_thousand_files_is_reported_without_loss() {
    const FILES: usize = 20_000;
    both(|source| {
        let Some(bench) = Bench::start(source, &["storm"]) else {
            return;
        };
        fs::create_dir(bench.path("storm")).unwrap();
        if source == Source::Inotify {
            thread::sleep(Duration::from_millis(1_100));
        }
        let storm = bench.path("storm");
        let start = Instant::now();
        thread::scope(|scope| {
            for half in 0..2 {
                let storm = &storm;
                scope.spawn(move || {
                    for number in (half..FILES).step_by(2) {
                        let path = storm.join(number.to_string());
                        fs::write(&path, "x").unwrap();
                        fs::remove_file(path).unwrap();
                    }
                });
            }
        });
        let took = start.elapsed();
        bench.drain();
        let (_, recorder) = bench.stop();
        let state = recorder.get();
        let prefix = format!("{}/", storm.display());
        let of = |action: &str| {
            let files = state.events.iter().filter(|file| file.action == action);
            let names = files.filter_map(|file| file.path.strip_prefix(&prefix));
            names.collect::<std::collections::HashSet<_>>().len()
        };
        let counts = (of("CREATE"), of("WRITE"), of("REMOVE"));
        eprintln!(
            "{source:?}: storm of {took:?}, {counts:?} of {FILES}, lost {:?}",
            state.lost
        );
        if source == Source::Best {
            assert_eq!(counts, (FILES, FILES, FILES));
            assert!(state.lost.is_empty());
        } else if counts.0 < FILES {
            // The kernel bounds this queue, and says when it overflowed.
            assert!(!state.lost.is_empty());
        }
    });
}
