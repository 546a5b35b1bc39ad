//! Ends of processes on the running kernel. Needs root and a kernel with BTF.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test"
)]

#[allow(dead_code, reason = "shared by the tests of several sensors")]
mod support;

use std::{
    collections::HashSet,
    fs,
    process::{Command, Stdio},
};

use yinglong_model::{
    DropReason, EventData, Observation,
    config::{AgentConfig, Client},
    event::Exit,
};
use yinglong_sensor_linux::{
    accounts::Accounts,
    process::{Options, Source, hold, open},
    tree::Tree,
};

use self::support::{
    Killed, Recorder,
    processes::{elf, marker, only, opened, options, program, run},
    start, start_with, until,
};

fn all_ends() -> AgentConfig {
    AgentConfig {
        client: Client {
            exit: true,
            ..Client::default()
        },
        ..AgentConfig::default()
    }
}

/// Lets a shell run the script; its command line ends with the marker.
fn shell(script: &str, marker: &str) -> u32 {
    run("/bin/sh", &["-c", script, "sh", marker])
}

/// Waits until so many ends with the marker are told.
fn ends(outlet: &Recorder, marker: &str, count: usize) -> Vec<Exit> {
    until(|| outlet.ends(marker).len() >= count);
    outlet.ends(marker)
}

fn of(seen: &[Exit], pid: u32) -> Exit {
    only(
        seen.iter()
            .filter(|exit| exit.pid == pid)
            .cloned()
            .collect(),
    )
}

#[test]
fn ends_by_a_fault_are_always_told_and_others_when_asked_for() {
    let test = "ends_by_a_fault_are_always_told_and_others_when_asked_for";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("faults"));
    let running = start(opened.sensor, &outlet);
    let quiet = [
        shell("exit 0", &marker),
        shell("exit 3", &marker),
        shell("kill -s KILL $$", &marker),
        shell("kill -s TERM $$", &marker),
    ];
    let faults: Vec<(u32, &str, i32)> = [
        ("ILL", 4),
        ("TRAP", 5),
        ("ABRT", 6),
        ("BUS", 7),
        ("FPE", 8),
        ("SEGV", 11),
        ("SYS", 31),
    ]
    .map(|(name, number)| {
        let pid = shell(&format!("ulimit -c 0; kill -s {name} $$"), &marker);
        (pid, name, 128 + number)
    })
    .into();
    let seen = ends(&outlet, &marker, faults.len());
    for (pid, name, code) in &faults {
        let exit = of(&seen, *pid);
        assert_eq!(exit.signal, Some(format!("SIG{name}")));
        assert_eq!((exit.exit_code, exit.core_dumped), (*code, None));
    }
    assert!(!seen.iter().any(|exit| quiet.contains(&exit.pid)));

    // Asked for while it runs.
    running.configure(all_ends());
    let first = format!("{marker} first");
    assert!(until(|| {
        run("/bin/sh", &["-c", ":", "sh", &marker, "first"]);
        !outlet.ends(&first).is_empty()
    }));
    let success = shell("exit 0", &marker);
    let failure = shell("exit 3", &marker);
    let killed = shell("kill -s KILL $$", &marker);
    let told = |pid| until(|| outlet.ends(&marker).iter().any(|exit| exit.pid == pid));
    assert!(told(success) && told(failure) && told(killed));

    // And not any more.
    running.configure(AgentConfig::default());
    assert!(until(|| {
        let pid = shell("exit 0", &marker);
        // An end by a fault is behind it in the ring, and is told.
        assert!(told(shell("kill -s SEGV $$", &marker)));
        !outlet.ends(&marker).iter().any(|exit| exit.pid == pid)
    }));
    running.stop().1.unwrap();
    let seen = outlet.ends(&marker);
    let (success, failure, killed) = (of(&seen, success), of(&seen, failure), of(&seen, killed));
    assert_eq!((success.exit_code, &success.signal), (0, &None));
    assert_eq!((failure.exit_code, &failure.signal), (3, &None));
    assert_eq!(killed.exit_code, 137);
    assert_eq!(killed.signal.as_deref(), Some("SIGKILL"));

    let me = std::env::current_exe().unwrap();
    let sh = fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(failure.name, sh.to_str().unwrap());
    assert_eq!(failure.command, format!("/bin/sh -c exit 3 sh {marker}"));
    assert_eq!(failure.ppid, std::process::id());
    assert_eq!(
        failure.parentname,
        me.file_name().unwrap().to_str().unwrap()
    );
    assert_eq!(
        (failure.uid, failure.user.as_deref()),
        (Some(0), Some("root"))
    );
    assert!(failure.cgroup.is_some() && failure.start_time.is_some());
    assert!(failure.max_rss_bytes.is_some_and(|bytes| bytes > 100_000));
    assert!(failure.duration_ms.is_some_and(|ms| ms < 60_000));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_program_that_faults_by_itself_is_told() {
    let test = "a_program_that_faults_by_itself_is_told";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("faulty"));
    let running = start(opened.sensor, &outlet);
    let folder = tempfile::tempdir().unwrap();
    // xor eax, eax; mov [rax], eax
    let path = program(folder.path().join("faulty"), &elf(64, b"\x31\xc0\x89\x00"));
    let pid = run(path.to_str().unwrap(), &[&marker]);
    let exit = of(&ends(&outlet, &marker, 1), pid);
    running.stop().1.unwrap();
    assert_eq!(exit.signal.as_deref(), Some("SIGSEGV"));
    assert_eq!(exit.name, path.to_str().unwrap());
}

#[test]
fn what_a_process_used_is_told() {
    let test = "what_a_process_used_is_told";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("usage"));
    let running = start_with(opened.sensor, outlet.clone(), all_ends());
    // The switch is in force once an end is told.
    let first = format!("{marker} first");
    until(|| {
        run("/bin/sh", &["-c", ":", "sh", &marker, "first"]);
        !outlet.ends(&first).is_empty()
    });
    let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done; exit 5";
    let pid = shell(script, &marker);
    let told = || {
        outlet
            .ends(&marker)
            .into_iter()
            .find(|exit| exit.pid == pid)
    };
    assert!(until(|| told().is_some()));
    let exit = told().unwrap();
    running.stop().1.unwrap();
    let (user, system) = (exit.user_ms.unwrap(), exit.system_ms.unwrap());
    assert!(user > 0, "{exit:?}");
    assert!(user + system <= exit.duration_ms.unwrap(), "{exit:?}");
    assert_eq!(exit.exit_code, 5);
}

#[test]
fn of_the_agents_own_children_only_faults_are_told() {
    let test = "of_the_agents_own_children_only_faults_are_told";
    let options = Options {
        excluded_pids: vec![std::process::id()],
        ..options()
    };
    let Some(opened) = opened(test, options) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("own"));
    let running = start_with(opened.sensor, outlet.clone(), all_ends());
    let sh = fs::canonicalize("/bin/sh").unwrap();
    let all = || {
        let books = outlet.books.lock().unwrap();
        let ends = books
            .committed
            .iter()
            .filter_map(|observation| match observation {
                Observation::Event {
                    data: EventData::Exit(exit),
                    ..
                } => Some(Exit::clone(exit)),
                _ => None,
            });
        ends.collect::<Vec<_>>()
    };
    // Executions of own children are not in the ring, so their ends have no command line.
    let own = shell("exit 0", &marker);
    let grandchild = format!("/bin/sh -c : sh {marker} grandchild");
    assert!(until(|| {
        let script = format!("{grandchild}; :");
        run("/bin/sh", &["-c", &script]);
        all().iter().any(|exit| exit.command.contains("grandchild"))
    }));
    let fault = shell("kill -s SEGV $$", &marker);
    assert!(until(|| all().iter().any(|exit| exit.pid == fault)));
    running.stop().1.unwrap();
    assert!(
        !all()
            .iter()
            .any(|exit| exit.pid == own && exit.signal.is_none())
    );
    assert!(sh.exists());
}

/// Kills the reader in the given moment, goes on, and lets a successor adopt the programs.
fn killed(test: &str, when: Killed) {
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker(test));
    let ids = opened.ids.unwrap();
    let held = hold(&ids).unwrap();
    let running = start_with(opened.sensor, outlet.clone(), all_ends());
    let first = format!("{marker} first");
    assert!(until(|| {
        run("/bin/sh", &["-c", ":", "sh", &marker, "first"]);
        !outlet.ends(&first).is_empty()
    }));
    let mut pids = Vec::new();
    let mut storm = |count: usize| {
        for _ in 0..count {
            pids.push(run("/bin/true", &[&marker, "storm"]));
        }
    };
    storm(100);
    let text = format!("{marker} storm");
    assert_eq!(ends(&outlet, &text, 100).len(), 100);
    outlet.books.lock().unwrap().killed = Some(when);
    storm(100);
    running.killed();
    storm(100);

    let options = Options {
        adopt: Some(ids),
        ..options()
    };
    let opened = open(Tree::default(), Accounts::default(), options).unwrap();
    drop(held);
    let outlet = outlet.reopened();
    let running = start_with(opened.sensor, outlet.clone(), all_ends());
    storm(100);
    // An execution that the killed reader secured is not told to its successor again, who then does
    // not know the command line of what ended.
    let pids: HashSet<u32> = pids.into_iter().collect();
    let told = || {
        let mut all = outlet.ends("");
        all.retain(|exit| pids.contains(&exit.pid));
        all
    };
    until(|| told().len() >= 400);
    running.stop().1.unwrap();
    let seen = told();
    let distinct: HashSet<u32> = seen.iter().map(|exit| exit.pid).collect();
    assert_eq!((seen.len(), distinct), (400, pids));
    assert!(
        seen.iter()
            .all(|exit| exit.name == "true" || exit.command.contains(&text))
    );
    let books = outlet.books.lock().unwrap();
    assert_eq!(books.lost_ends, Default::default());
    assert_eq!(books.lost, Default::default());
}

#[test]
fn no_end_is_lost_or_doubled_when_the_reader_is_killed_before_its_commit() {
    killed("ends_before", Killed::BeforeCommit);
}

#[test]
fn no_end_is_lost_or_doubled_when_the_reader_is_killed_after_its_commit() {
    killed("ends_after", Killed::AfterCommit);
}

#[test]
fn ends_that_do_not_fit_the_ring_are_counted_to_the_unit_and_apart_from_executions() {
    let test = "ends_that_do_not_fit_the_ring_are_counted_to_the_unit_and_apart_from_executions";
    let options = Options {
        ring_bytes: 16 << 10,
        ..options()
    };
    let Some(opened) = opened(test, options) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("full"));
    // Nobody reads yet.
    for _ in 0..100 {
        shell("kill -s SEGV $$", &marker);
    }
    let running = start(opened.sensor, &outlet);
    let last = format!("{marker} last");
    assert!(until(|| {
        run("/bin/sh", &["-c", "kill -s SEGV $$", "sh", &marker, "last"]);
        !outlet.ends(&last).is_empty()
    }));
    running.stop().1.unwrap();

    let books = outlet.books.lock().unwrap();
    // Who fills the ring is turned away before it is full.
    let reasons = [DropReason::RingFull, DropReason::OverShare];
    assert!(
        books
            .lost_ends
            .keys()
            .all(|reason| reasons.contains(reason))
    );
    let full: u64 = books.lost_ends.values().sum();
    assert!(full > 10, "{full}");
    assert!(books.lost.values().sum::<u64>() > 10);
    let delivered = books.committed.iter().filter(|observation| {
        matches!(
            observation,
            Observation::Event {
                data: EventData::Exit(_),
                ..
            }
        )
    });
    let delivered = delivered.count() as u64;
    let accounted: u64 = books.marks["process.ends"]
        .split(':')
        .nth(3)
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(accounted, delivered + full);
    assert!(accounted >= 101);
}

#[test]
fn the_fallback_tells_how_a_process_ended() {
    let test = "the_fallback_tells_how_a_process_ended";
    let options = Options {
        source: Source::ProcConnector,
        ..options()
    };
    let Some(opened) = opened(test, options) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("fallback-end"));
    let running = start(opened.sensor, &outlet);
    let mut child = Command::new("/bin/sh")
        .args(["-c", "read _; kill -s ABRT $$", &marker])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    outlet.wait(&marker, 1);
    drop(child.stdin.take());
    child.wait().unwrap();
    let exit = only(ends(&outlet, &marker, 1));
    running.stop().1.unwrap();
    assert_eq!((exit.pid, exit.exit_code), (child.id(), 134));
    assert_eq!(exit.signal.as_deref(), Some("SIGABRT"));
    assert_eq!(exit.ppid, std::process::id());
    assert_eq!((exit.user_ms, exit.max_rss_bytes), (None, None));
    assert!(exit.duration_ms.is_some());
}
