//! Executions on the running kernel. Needs root and a kernel with BTF.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test"
)]

#[allow(dead_code, reason = "shared by the tests of several sensors")]
mod support;

use std::{
    collections::HashSet,
    fs,
    os::unix::{ffi::OsStrExt, fs::PermissionsExt, process::CommandExt},
    process::{Command, Stdio},
};

use yinglong_model::DropReason;
use yinglong_sensor_linux::{
    accounts::Accounts,
    process::{Options, Source, hold, open},
    tree::Tree,
};

use self::support::{
    Killed, Recorder, executions,
    processes::{marker, only, opened, options, run},
    start,
};

/// Copied by another process: a child that another test starts meanwhile would hold the file open for
/// writing, and it could not be executed.
fn copy_of_true(to: &std::path::Path) {
    let copied = Command::new("cp").arg("/bin/true").arg(to).status();
    assert!(copied.unwrap().success());
}

#[test]
fn m01_every_one_of_2000_executions_is_reported_with_its_parent() {
    let test = "m01_every_one_of_2000_executions_is_reported_with_its_parent";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let count = executions(2000);
    let (outlet, marker) = (Recorder::default(), marker("m01"));
    let running = start(opened.sensor, &outlet);
    for index in 0..count {
        run("/bin/true", &[&marker, &index.to_string()]);
    }
    let seen = outlet.wait(&marker, count);
    running.stop().1.unwrap();

    let distinct: HashSet<_> = seen.iter().map(|process| &process.command).collect();
    assert_eq!((seen.len(), distinct.len()), (count, count));
    assert_eq!(outlet.lost(), Default::default());
    let me = std::env::current_exe().unwrap();
    let real = fs::canonicalize("/bin/true").unwrap();
    for process in &seen {
        assert_eq!(process.name, real.to_str().unwrap());
        assert_eq!(process.ppid, std::process::id());
        assert_eq!(
            process.parentname,
            me.file_name().unwrap().to_str().unwrap()
        );
        assert_eq!(
            (process.uid, process.euid, process.gid),
            (Some(0), Some(0), Some(0))
        );
        assert_eq!(process.user.as_deref(), Some("root"));
        assert_eq!(process.ancestors.first().unwrap(), me.to_str().unwrap());
        assert!(process.ancestors.len() > 1);
        assert!(process.parent_command.is_some());
        assert_eq!(
            process.cwd.as_deref(),
            std::env::current_dir().unwrap().to_str()
        );
        assert_eq!(
            (&process.script, process.memfd, process.setuid),
            (&None, None, None)
        );
        assert!(process.start_time.is_some() && process.cgroup.is_some());
    }
}

#[test]
fn m02_long_and_odd_command_lines_and_a_clean_environment() {
    let test = "m02_long_and_odd_command_lines_and_a_clean_environment";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("m02"));
    let running = start(opened.sensor, &outlet);

    let (four, twenty) = ("x".repeat(4000), "y".repeat(20_000));
    run("/bin/true", &[&marker, "four", &four]);
    run("/bin/true", &[&marker, "twenty", &twenty]);
    let half = "z".repeat(20_000);
    run("/bin/true", &[&marker, "forty", &half, &half]);
    run("/bin/true", &[&marker, "odd", "a\x01b", "", "应"]);
    let mut raw = Command::new("/bin/true");
    raw.args([marker.as_str(), "raw"]);
    raw.arg(std::ffi::OsStr::from_bytes(b"\xff\xfe"));
    raw.status().unwrap();
    run("/usr/bin/env", &["-i", "A=1", "id", "--", &marker]);

    let seen = outlet.wait(&marker, 7);
    running.stop().1.unwrap();
    let find = |text: &str| {
        let text = format!("{marker} {text}");
        let found = seen
            .iter()
            .filter(|process| process.command.contains(&text));
        only(found.cloned().collect())
    };
    assert_eq!(
        find("four").command,
        format!("/bin/true {marker} four {four}")
    );
    let exact = find("twenty");
    assert_eq!(exact.command, format!("/bin/true {marker} twenty {twenty}"));
    assert_eq!(exact.truncated, None);
    let cut = find("forty");
    assert_eq!(cut.truncated, Some(true));
    assert_eq!(cut.command.len(), 32 * 1024);
    assert_eq!(
        find("odd").command,
        format!("/bin/true {marker} odd a\\x01b  应")
    );
    assert_eq!(
        find("raw").command,
        format!("/bin/true {marker} raw \\xff\\xfe")
    );
    let mut id = seen
        .iter()
        .filter(|process| process.command.starts_with("id -- "));
    let id = id.next().unwrap();
    assert_eq!((id.info.as_str(), id.parentname.is_empty()), ("", false));
    assert!(id.name.ends_with("/id"));
}

#[test]
fn m03_scripts_memory_files_and_changed_credentials_are_told_apart() {
    let test = "m03_scripts_memory_files_and_changed_credentials_are_told_apart";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("m03"));
    let running = start(opened.sensor, &outlet);
    let folder = tempfile::tempdir().unwrap();

    let script = folder.path().join("hello.sh");
    fs::write(&script, "#!/bin/sh\nexit 0\n").unwrap();
    fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).unwrap();
    let relative = Command::new("./hello.sh")
        .args([&marker, "script"])
        .current_dir(folder.path())
        .status();
    assert!(relative.unwrap().success());

    let copy = folder.path().join("setuid");
    copy_of_true(&copy);
    std::os::unix::fs::chown(&copy, Some(1), Some(1)).unwrap();
    fs::set_permissions(&copy, PermissionsExt::from_mode(0o4755)).unwrap();
    Command::new(&copy)
        .args([&marker, "setuid"])
        .status()
        .unwrap();

    let gone = folder.path().join("gone");
    copy_of_true(&gone);
    let open = fs::File::open(&gone).unwrap();
    fs::remove_file(&gone).unwrap();
    let fd = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&open));
    let inherited = nix::unistd::dup(&open).unwrap();
    let mut unlinked = Command::new(fd);
    unlinked.args([&marker, "gone"]).status().unwrap();
    drop(inherited);

    let seen = outlet.wait(&marker, 3);
    running.stop().1.unwrap();
    let find = |what: &str| {
        let found = seen
            .iter()
            .filter(|process| process.command.ends_with(what));
        only(found.cloned().collect())
    };
    let process = find("script");
    assert_eq!(
        process.name,
        fs::canonicalize("/bin/sh").unwrap().to_str().unwrap()
    );
    assert_eq!(process.script.as_deref(), script.to_str());
    let process = find("setuid");
    assert_eq!(process.name, copy.to_str().unwrap());
    assert_eq!(
        (process.uid, process.euid, process.setuid),
        (Some(0), Some(1), Some(true))
    );
    let process = find("gone");
    assert_eq!(process.memfd, Some(true));
    assert_eq!(process.name, gone.to_str().unwrap());
}

#[test]
fn m04_the_working_directory_is_in_the_extract() {
    let test = "m04_the_working_directory_is_in_the_extract";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("m04"));
    let running = start(opened.sensor, &outlet);
    let folder = tempfile::Builder::new()
        .prefix("tomcat_x")
        .tempdir()
        .unwrap();
    let command = format!(
        "cd {} && env LOGNAME=ann USER=ann /bin/true {marker}; :",
        folder.path().display()
    );
    run("/bin/sh", &["-c", &command]);
    let seen = outlet.wait(&marker, 3);
    running.stop().1.unwrap();
    let found = seen
        .into_iter()
        .filter(|process| process.command == format!("/bin/true {marker}"));
    let process = only(found.collect());
    let path = folder.path().to_str().unwrap();
    assert!(
        process
            .info
            .contains(&format!("PWD={path} LOGNAME=ann USER=ann")),
        "{}",
        process.info
    );
    assert_eq!(process.cwd.as_deref(), Some(path));
    assert_eq!(
        process.parentname,
        fs::canonicalize("/bin/sh")
            .unwrap()
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
    );
}

#[test]
fn m07_the_agents_own_children_are_not_reported() {
    let test = "m07_the_agents_own_children_are_not_reported";
    let options = Options {
        excluded_pids: vec![std::process::id()],
        ..options()
    };
    let Some(opened) = opened(test, options) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("m07"));
    let running = start(opened.sensor, &outlet);
    run("/bin/true", &[&marker, "child"]);
    run(
        "/bin/sh",
        &["-c", &format!("/bin/true {marker} grandchild; :")],
    );
    let seen = outlet.wait(&marker, 1);
    running.stop().1.unwrap();
    assert_eq!(only(seen).command, format!("/bin/true {marker} grandchild"));
}

/// Kills the reader in the given moment, executes on, and lets a successor adopt the programs.
fn killed(test: &str, when: Killed) {
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker(test));
    let ids = opened.ids.unwrap();
    let held = hold(&ids).unwrap();
    let running = start(opened.sensor, &outlet);
    for index in 0..100 {
        run("/bin/true", &[&marker, &index.to_string()]);
    }
    assert_eq!(outlet.wait(&marker, 100).len(), 100);

    outlet.books.lock().unwrap().killed = Some(when);
    for index in 100..200 {
        run("/bin/true", &[&marker, &index.to_string()]);
    }
    running.killed();
    for index in 200..300 {
        run("/bin/true", &[&marker, &index.to_string()]);
    }

    let options = Options {
        adopt: Some(ids.clone()),
        ..options()
    };
    let opened = open(Tree::default(), Accounts::default(), options).unwrap();
    assert_eq!(opened.ids.as_ref(), Some(&ids));
    drop(held);
    let outlet = outlet.reopened();
    let running = start(opened.sensor, &outlet);
    for index in 300..400 {
        run("/bin/true", &[&marker, &index.to_string()]);
    }
    let seen = outlet.wait(&marker, 400);
    running.stop().1.unwrap();
    let distinct: HashSet<_> = seen.iter().map(|process| &process.command).collect();
    assert_eq!((seen.len(), distinct.len()), (400, 400));
    assert_eq!(outlet.lost(), Default::default());
}

#[test]
fn nothing_is_lost_or_doubled_when_the_reader_is_killed_before_its_commit() {
    killed("killed_before", Killed::BeforeCommit);
}

#[test]
fn nothing_is_lost_or_doubled_when_the_reader_is_killed_after_its_commit() {
    killed("killed_after", Killed::AfterCommit);
}

#[test]
fn a_sensor_that_is_run_again_after_a_failed_commit_repeats_nothing_and_loses_nothing() {
    let test = "a_sensor_that_is_run_again_after_a_failed_commit_repeats_nothing_and_loses_nothing";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (mut outlet, marker) = (Recorder::default(), marker("again"));
    let mut sensor = opened.sensor;
    for (round, when) in [Killed::BeforeCommit, Killed::AfterCommit]
        .into_iter()
        .enumerate()
    {
        let running = start(sensor, &outlet);
        run("/bin/true", &[&marker, &format!("{round} safe")]);
        outlet.wait(&format!("{marker} {round} safe"), 1);
        outlet.books.lock().unwrap().killed = Some(when);
        run("/bin/true", &[&marker, &format!("{round} failed")]);
        sensor = running.failed();
        outlet = outlet.reopened();
    }
    let running = start(sensor, &outlet);
    let seen = outlet.wait(&marker, 4);
    running.stop().1.unwrap();
    let distinct: HashSet<_> = seen.iter().map(|process| &process.command).collect();
    assert_eq!((seen.len(), distinct.len()), (4, 4));
    assert_eq!(outlet.lost(), Default::default());
}

#[test]
fn m22_what_does_not_fit_the_ring_is_counted_to_the_unit() {
    let test = "m22_what_does_not_fit_the_ring_is_counted_to_the_unit";
    let options = Options {
        ring_bytes: 64 << 10,
        ..options()
    };
    let Some(opened) = opened(test, options) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("m22"));
    // Nobody reads yet.
    for index in 0..300 {
        run("/bin/true", &[&marker, &index.to_string()]);
    }
    let running = start(opened.sensor, &outlet);
    // The first ones find the ring still full.
    let last = format!("{marker} last");
    while outlet.executions(&last).is_empty() {
        run("/bin/true", &[&marker, "last"]);
    }
    running.stop().1.unwrap();

    // Whoever fills the ring alone is turned away before it is full.
    let lost = outlet.lost();
    let reasons = [DropReason::OverShare, DropReason::RingFull];
    assert!(
        lost.keys().all(|reason| reasons.contains(reason)),
        "{lost:?}"
    );
    let missed: u64 = lost.values().sum();
    assert!(missed > 100, "{lost:?}");
    let mark = outlet.books.lock().unwrap().marks["process.ring"].clone();
    let accounted: u64 = mark.split(':').nth(3).unwrap().parse().unwrap();
    let delivered = outlet.books.lock().unwrap().committed.len() as u64;
    assert_eq!(accounted, delivered + missed);
    assert!(delivered + missed >= 301);
}

#[test]
fn executions_that_an_earlier_reader_took_without_securing_them_are_counted() {
    let test = "executions_that_an_earlier_reader_took_without_securing_them_are_counted";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("taken"));
    let ids = opened.ids.unwrap();
    let _held = hold(&ids).unwrap();
    let running = start(opened.sensor, &outlet);
    run("/bin/true", &[&marker, "0"]);
    outlet.wait(&marker, 1);
    running.stop().1.unwrap();
    let delivered = outlet.books.lock().unwrap().committed.len() as u64;

    // The spool is lost, and with it the marks.
    let outlet = Recorder::default();
    let options = Options {
        adopt: Some(ids),
        ..options()
    };
    let opened = open(Tree::default(), Accounts::default(), options).unwrap();
    let running = start(opened.sensor, &outlet);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while outlet.lost().is_empty() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    running.stop().1.unwrap();
    assert_eq!(outlet.lost(), [(DropReason::AgentKilled, delivered)].into());
}

#[test]
fn executions_without_any_agent_are_estimated_once() {
    let test = "executions_without_any_agent_are_estimated_once";
    let outlet = Recorder::default();
    for round in 0..2 {
        let Some(opened) = opened(test, options()) else {
            return;
        };
        let running = start(opened.sensor, &outlet);
        let marker = format!("{}-{round}", marker("down"));
        run("/bin/true", &[&marker]);
        outlet.wait(&marker, 1);
        running.stop().1.unwrap();
        if round == 0 {
            assert_eq!(outlet.lost(), Default::default());
            for _ in 0..50 {
                run("/bin/true", &[]);
            }
        }
    }
    let lost = outlet.lost();
    assert!(lost[&DropReason::AgentDown] >= 50, "{lost:?}");
    assert_eq!(lost.len(), 1);
}

#[test]
fn the_tree_names_processes_for_the_other_sensors() {
    let test = "the_tree_names_processes_for_the_other_sensors";
    if opened(test, options()).is_none() {
        return;
    }
    let (tree, outlet) = (Tree::default(), Recorder::default());
    let opened = open(tree.clone(), Accounts::default(), options()).unwrap();
    let running = start(opened.sensor, &outlet);
    let marker = marker("tree");
    let mut command = Command::new("/bin/true");
    command.arg0("renamed").arg(&marker).uid(1);
    let mut child = command.spawn().unwrap();
    child.wait().unwrap();
    outlet.wait(&marker, 1);
    running.stop().1.unwrap();
    let entry = tree.find(child.id()).unwrap();
    assert_eq!(
        entry.name,
        fs::canonicalize("/bin/true").unwrap().to_str().unwrap()
    );
    assert_eq!(entry.command, format!("renamed {marker}"));
    assert_eq!((entry.ppid, entry.uid), (std::process::id(), 1));
    assert!(tree.find(1).is_some());
}

#[test]
fn a_daemon_that_gave_up_its_parent_is_told_with_who_started_it() {
    let test = "a_daemon_that_gave_up_its_parent_is_told_with_who_started_it";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("daemon"));
    let running = start(opened.sensor, &outlet);
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // The one in the background goes on when the shell is gone, whose place another process takes.
    let script = format!(
        "(read _ < {}; exec /bin/true {marker}-end) &",
        gate.display()
    );
    let shell = run("/bin/sh", &["-c", &script]);
    fs::write(&gate, "go\n").unwrap();
    let seen = outlet.wait(&format!("/bin/true {marker}-end"), 2);
    running.stop().1.unwrap();
    let found = seen
        .into_iter()
        .filter(|process| process.command == format!("/bin/true {marker}-end"));
    let process = only(found.collect());
    let me = std::env::current_exe().unwrap();
    let sh = fs::canonicalize("/bin/sh").unwrap();
    assert!(process.ppid != shell && process.ppid != std::process::id());
    // Before them may come the process that has it now.
    let mut pairs = process.ancestors.windows(2);
    assert!(
        pairs.any(|pair| pair == [sh.to_str().unwrap(), me.to_str().unwrap()]),
        "{:?}",
        process.ancestors
    );
}

#[test]
fn the_fallback_sees_executions_that_last_long_enough_to_be_read() {
    let test = "the_fallback_sees_executions_that_last_long_enough_to_be_read";
    let options = Options {
        source: Source::ProcConnector,
        ..options()
    };
    let Some(opened) = opened(test, options) else {
        return;
    };
    assert!(opened.ids.is_none());
    let status = opened.sensor.status();
    assert_eq!(
        (status.stream.as_str(), status.source.as_str()),
        ("process", "proc-connector")
    );
    assert!(
        status.reason.contains(Source::VARIABLE),
        "{}",
        status.reason
    );

    let (outlet, marker) = (Recorder::default(), marker("fallback"));
    let running = start(opened.sensor, &outlet);
    for index in 0..20 {
        // Each waits for its input to close, and so for us to have seen it.
        let text = format!("{marker} {index}");
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read _; :", &marker, &index.to_string()])
            .env("LOGNAME", "ann")
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let process = only(outlet.wait(&text, 1));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(process.command, format!("/bin/sh -c read _; : {text}"));
        assert_eq!(
            process.name,
            fs::canonicalize("/bin/sh").unwrap().to_str().unwrap()
        );
        assert_eq!(
            (process.pid, process.ppid),
            (child.id(), std::process::id())
        );
        let me = std::env::current_exe().unwrap();
        assert_eq!(
            process.parentname,
            me.file_name().unwrap().to_str().unwrap()
        );
        assert!(process.info.contains("LOGNAME=ann"));
        assert_eq!(process.truncated, None);
    }
    running.stop().1.unwrap();
}
