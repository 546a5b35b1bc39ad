//! Every rung of the ladder of sources of executions, on the running kernel. Needs root.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test"
)]

#[allow(dead_code, reason = "shared by the tests of several sensors")]
mod support;

use std::{
    collections::HashSet,
    fs,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use yinglong_model::{DropReason, EventData, Observation, event::Process, ladder};
use yinglong_sensor::{Error, Sensor};
use yinglong_sensor_linux::{
    accounts::Accounts,
    btf,
    process::{Opened, Options, Source, open},
    tree::Tree,
};

use self::support::{Recorder, executions, start, until};

/// Held while audit is used, which belongs to the whole machine.
static AUDIT: Mutex<()> = Mutex::new(());

/// Executions of a test, one after another: a gentle load.
fn count() -> usize {
    executions(300)
}

fn options(source: Source) -> Options {
    Options {
        source,
        btf: None,
        ..Options::default()
    }
}

/// Whether the test cannot run here, said aloud.
fn cannot(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: needs root");
    }
    !root
}

fn opened(options: Options) -> Result<Opened, Error> {
    open(Tree::default(), Accounts::default(), options)
}

/// A text that no other test and no other run uses.
fn marker(test: &str) -> String {
    format!("yinglong-ladder-{test}-{}", std::process::id())
}

/// Executes, and answers the processes.
fn burst(marker: &str, count: usize) -> HashSet<u32> {
    let execute = |index: usize| {
        let mut command = Command::new("/bin/true");
        let mut child = command.args([marker, &index.to_string()]).spawn().unwrap();
        child.wait().unwrap();
        child.id()
    };
    (0..count).map(execute).collect()
}

/// The sensor stands on the rung of that number, and says why.
fn stands(sensor: &dyn Sensor, number: u8, why: &str) {
    let mut status = sensor.status();
    assert_eq!(
        status.source,
        ladder::PROCESS[usize::from(number) - 1].source
    );
    assert!(status.reason.contains(why), "{}", status.reason);
    status.running = true;
    assert_eq!(status.rung().unwrap().number, number);
}

/// Every execution of a burst is told, with arguments, parent and user.
fn complete(test: &str, sensor: Box<dyn Sensor>) -> Vec<Process> {
    let (outlet, marker) = (Recorder::default(), marker(test));
    let running = start(sensor, &outlet);
    let pids = burst(&marker, count());
    let seen = outlet.wait(&marker, count());
    running.stop().1.unwrap();
    let distinct: HashSet<_> = seen.iter().map(|process| &process.command).collect();
    assert_eq!((seen.len(), distinct.len()), (count(), count()));
    assert_eq!(outlet.lost(), Default::default());
    let real = fs::canonicalize("/bin/true").unwrap();
    for process in &seen {
        assert_eq!(process.name, real.to_str().unwrap());
        assert!(process.command.starts_with(&format!("/bin/true {marker} ")));
        assert!(pids.contains(&process.pid));
        assert_eq!(process.ppid, std::process::id());
        assert_eq!((process.uid, process.gid), (Some(0), Some(0)));
        assert_eq!(process.user.as_deref(), Some("root"));
        let here = std::env::current_dir().unwrap();
        assert_eq!(process.cwd.as_deref(), here.to_str());
        assert!(!process.parentname.is_empty());
        assert_eq!(process.truncated, None);
    }
    seen
}

/// A copy of the kernel's types, as a file of a collection would be.
fn copy_of_types(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("kernel.btf");
    fs::copy(btf::KERNEL, &path).unwrap();
    path
}

/// Runs in a thread for which the kernel has no types of its own.
fn without_types<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let hidden = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let (none, private) = (None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE);
        mount(none, "/", none, private, none).unwrap();
        let kind = Some("tmpfs");
        mount(kind, "/sys/kernel/btf", kind, MsFlags::empty(), none).unwrap();
        work()
    };
    thread::scope(|scope| scope.spawn(hidden).join().unwrap())
}

#[test]
fn rung_1_is_complete() {
    let test = "rung_1_is_complete";
    if cannot(test) {
        return;
    }
    let opened = opened(options(Source::Automatic)).unwrap();
    stands(&*opened.sensor, 1, "");
    assert!(opened.ids.is_some());
    complete("ebpf", opened.sensor);
}

#[test]
fn rung_2_is_complete_with_the_types_of_a_file() {
    let test = "rung_2_is_complete_with_the_types_of_a_file";
    if cannot(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = copy_of_types(&folder);
    let opened = opened(Options {
        btf: Some(path.clone()),
        ..options(Source::EbpfBtfFile)
    });
    let opened = opened.unwrap();
    stands(&*opened.sensor, 2, path.to_str().unwrap());
    let seen = complete("file", opened.sensor);
    assert!(seen.iter().all(|process| process.cgroup.is_some()));
}

#[test]
fn a_kernel_without_types_is_watched_with_those_of_a_file() {
    let test = "a_kernel_without_types_is_watched_with_those_of_a_file";
    if cannot(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        btf: Some(copy_of_types(&folder)),
        ..options(Source::Automatic)
    };
    let opened = without_types(|| opened(options)).unwrap();
    stands(&*opened.sensor, 2, "kernel.btf");
    complete("no-types", opened.sensor);
}

#[test]
fn a_file_of_nonsense_is_refused_with_its_name() {
    let test = "a_file_of_nonsense_is_refused_with_its_name";
    if cannot(test) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nonsense.btf");
    for (content, told) in [(Some("not types"), "load"), (None, "nonsense.btf")] {
        if let Some(content) = content {
            fs::write(&path, content).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        let refused = opened(Options {
            btf: Some(path.clone()),
            ..options(Source::EbpfBtfFile)
        });
        let reason = refused.err().unwrap().to_string();
        assert!(reason.contains(told), "{reason}");
    }
}

#[test]
fn without_types_at_all_a_lesser_source_says_why() {
    let test = "without_types_at_all_a_lesser_source_says_why";
    if cannot(test) {
        return;
    }
    let status = without_types(|| {
        let forced = opened(options(Source::Ebpf)).err().unwrap();
        assert!(forced.to_string().contains(btf::KERNEL), "{forced}");
        let _audit = AUDIT.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = opened(options(Source::Automatic)).unwrap();
        opened.sensor.status()
    });
    let lesser: Vec<_> = ladder::PROCESS[2..]
        .iter()
        .map(|rung| rung.source)
        .collect();
    assert!(lesser.contains(&status.source.as_str()), "{status:?}");
    assert!(status.reason.contains(btf::KERNEL), "{status:?}");
    assert!(status.reason.contains(btf::FOLDER), "{status:?}");
}

#[test]
fn rung_3_is_complete_as_the_owner_of_audit_and_beside_one() {
    let test = "rung_3_is_complete_as_the_owner_of_audit_and_beside_one";
    if cannot(test) {
        return;
    }
    let _audit = AUDIT.lock().unwrap_or_else(PoisonError::into_inner);
    let forced = || opened(options(Source::Audit));
    let owner = match forced() {
        Ok(opened) => opened,
        Err(error) => {
            eprintln!("SKIPPED {test}: {error}");
            return;
        }
    };
    if owner.sensor.status().reason.contains("beside") {
        eprintln!("SKIPPED {test}: {}", owner.sensor.status().reason);
        return;
    }
    assert!(owner.ids.is_none());
    stands(&*owner.sensor, 3, Source::VARIABLE);

    // One that listens beside this very process, which owns the records now.
    let listener = forced().unwrap();
    stands(&*listener.sensor, 3, "beside process");
    let theirs = Recorder::default();
    let listening = start(listener.sensor, &theirs);
    complete("audit", owner.sensor);
    let heard = theirs.wait(&marker("audit"), count());
    assert_eq!(heard.len(), count());
    listening.stop().1.unwrap();

    // Its end has taken the rules away, and given the records up.
    let again = forced().unwrap();
    stands(&*again.sensor, 3, "rules of the agent's own");
    let (outlet, marker) = (Recorder::default(), marker("odd"));
    let running = start(again.sensor, &outlet);
    let long = "y".repeat(20_000);
    for args in [["long", &long], ["odd", "a\u{1}b \"应\""]] {
        let mut command = Command::new("/bin/true");
        command.arg(&marker).args(args).status().unwrap();
    }
    let seen = outlet.wait(&marker, 2);
    running.stop().1.unwrap();
    let commands: Vec<_> = seen
        .iter()
        .map(|process| process.command.as_str())
        .collect();
    let expected = [
        format!("/bin/true {marker} long {long}"),
        format!("/bin/true {marker} odd a\\x01b \"应\""),
    ];
    assert_eq!(commands, expected);
}

/// All executions, with and without a command line.
fn told_of(outlet: &Recorder) -> Vec<(u32, bool)> {
    let books = outlet.books.lock().unwrap();
    let process = |observation: &Observation| match observation {
        Observation::Event {
            data: EventData::Process(process),
            ..
        } => Some((process.pid, !process.command.is_empty())),
        _ => None,
    };
    books.committed.iter().filter_map(process).collect()
}

#[test]
fn rung_4_tells_of_every_execution_of_a_gentle_load_and_of_some_with_arguments() {
    let test = "rung_4_tells_of_every_execution_of_a_gentle_load_and_of_some_with_arguments";
    if cannot(test) {
        return;
    }
    let opened = opened(options(Source::ProcConnector)).unwrap();
    stands(&*opened.sensor, 4, Source::VARIABLE);
    let outlet = Recorder::default();
    let running = start(opened.sensor, &outlet);
    let pids = burst(&marker("connector"), count());
    let told = |with_arguments: bool| {
        let told = told_of(&outlet)
            .into_iter()
            .filter(|(pid, arguments)| pids.contains(pid) && (*arguments || !with_arguments));
        told.map(|(pid, _)| pid).collect::<HashSet<_>>().len()
    };
    until(|| told(false) == count());
    running.stop().1.unwrap();
    let lost: u64 = outlet.lost().values().sum();
    assert!(
        told(false) as u64 + lost >= count() as u64,
        "{} {lost}",
        told(false)
    );
    assert!(told(false) * 100 >= count() * 55, "{}", told(false));
    assert!(told(true) * 100 >= count() * 15, "{}", told(true));
}

#[test]
fn rung_5_sees_what_lasts_and_counts_what_does_not() {
    let test = "rung_5_sees_what_lasts_and_counts_what_does_not";
    if cannot(test) {
        return;
    }
    let opened = opened(options(Source::ProcPoll)).unwrap();
    stands(&*opened.sensor, 5, Source::VARIABLE);
    assert!(opened.sensor.status().reason.contains("are missed"));
    let (outlet, marker) = (Recorder::default(), marker("poll"));
    let running = start(opened.sensor, &outlet);
    for index in 0..5 {
        // Each waits for its input to close, and so for us to have seen it.
        let text = format!("{marker} {index}");
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read _; :", &marker, &index.to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let seen = outlet.wait(&text, 1);
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        assert_eq!(seen[0].command, format!("/bin/sh -c read _; : {text}"));
        assert_eq!(
            (seen[0].pid, seen[0].ppid, seen[0].uid),
            (child.id(), std::process::id(), Some(0))
        );
    }
    let pids = burst(&marker, count());
    let enough = || {
        let seen = told_of(&outlet);
        let seen = seen.iter().filter(|(pid, _)| pids.contains(pid)).count();
        let unseen = outlet.lost().get(&DropReason::Unseen).copied();
        seen as u64 + unseen.unwrap_or_default() >= count() as u64
    };
    assert!(until(enough), "{:?}", outlet.lost());
    running.stop().1.unwrap();
}
