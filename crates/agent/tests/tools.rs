//! The commands that need no server, run for real.

#![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::Mutex,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde_json::Value;

/// Sensors of several agents at once slow each other down and prove nothing more.
static ALONE: Mutex<()> = Mutex::new(());

fn agent(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yinglong-agent"));
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    agent(arguments).output().unwrap()
}

fn lines(text: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(text);
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Whether a test can be run here; says so when not.
fn root(test: &str) -> bool {
    let root = geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: needs root");
    }
    root
}

fn mark(of: &str) -> String {
    format!("yl{of}{}", std::process::id())
}

fn execute(mark: &str) {
    let status = Command::new("/bin/true").arg(mark).status().unwrap();
    assert!(status.success());
}

/// Starts a command and waits until it has said `ready` on standard error.
fn start(arguments: &[&str], ready: &str) -> Child {
    let mut child = agent(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains(ready) {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0, "never {ready}");
    }
    std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    child
}

fn interrupt(child: Child) -> Output {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    kill(pid, Signal::SIGINT).unwrap();
    child.wait_with_output().unwrap()
}

fn commands(documents: &[Value]) -> Vec<&str> {
    let commands = documents.iter().map(|event| &event["data"]["command"]);
    commands.filter_map(Value::as_str).collect()
}

#[test]
fn doctor_has_every_check_and_ends_with_the_status_of_the_worst() {
    let _alone = ALONE.lock();
    let output = run(&["doctor", "--json", "--language", "en"]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let checks = report["checks"].as_array().unwrap();
    let ids: Vec<_> = checks.iter().map(|c| c["id"].as_str().unwrap()).collect();
    let expected = [
        "stream.process",
        "stream.connection",
        "stream.file",
        "stream.loginlog",
        "stream.dns",
        "stream.syscall",
        "proc_connector",
        "kernel",
        "btf",
        "bpf.ringbuf",
        "bpf.tp_btf",
        "bpf.tracepoint",
        "bpf.cgroup",
        "bpf.fentry",
        "bpf.lsm",
        "bpf.kprobe",
        "tracefs",
        "cgroup2",
        "packets",
        "fanotify.names",
        "fanotify.pidfd",
        "fanotify.target_fid",
        "fanotify.permission",
        "audit",
        "lockdown",
        "capabilities",
        "memlock",
        "inotify",
        "clock",
        "room",
        "enrolment",
        "unit",
    ];
    assert_eq!(ids, expected);
    let has = |state| checks.iter().any(|check| check["state"] == state);
    let expected = match (has("missing"), has("fallback")) {
        (true, _) => 2,
        (false, true) => 1,
        (false, false) => 0,
    };
    assert_eq!(output.status.code(), Some(expected));
    let chinese = run(&["doctor", "--language", "zh"]);
    assert!(String::from_utf8_lossy(&chinese.stdout).contains("监控进程执行"));
}

#[test]
fn t05_debug_prints_a_marked_execution_as_one_line_of_json_and_sends_nothing() {
    if !root("t05_debug_prints_a_marked_execution_as_one_line_of_json_and_sends_nothing") {
        return;
    }
    let _alone = ALONE.lock();
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_str().unwrap();
    let arguments = ["run", "--debug", "--types", "process", "--state", folder];
    let child = start(&arguments, "observing stream=\"process\"");
    let mark = mark("debug");
    // The programs were attached before that line.
    execute(&mark);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let output = interrupt(child);
    assert!(output.status.success());
    let documents = lines(&output.stdout);
    let found: Vec<_> = commands(&documents)
        .into_iter()
        .filter(|command| command.contains(&mark))
        .collect();
    assert_eq!(found, [format!("/bin/true {mark}")]);
    assert!(documents.iter().all(|event| event["type"] == "process"));
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0);
}

#[test]
fn a_recording_has_the_marked_execution_and_ends_with_its_books() {
    if !root("a_recording_has_the_marked_execution_and_ends_with_its_books") {
        return;
    }
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.ndjson");
    let file = file.to_str().unwrap();
    let child = start(&["record", file, "--types", "process"], "recording to");
    let (kept, left_out) = (mark("kept"), mark("out"));
    execute(&kept);
    Command::new("/bin/cat").arg("/dev/null").status().unwrap();
    execute(&left_out);
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(interrupt(child).status.success());

    let mut documents = lines(&std::fs::read(file).unwrap());
    let last = documents.pop().unwrap();
    let has = |mark: &str| commands(&documents).iter().any(|c| c.ends_with(mark));
    assert!(has(&kept) && has(&left_out));
    assert_eq!(last["recorded"], documents.len());
    let books = &last["books"]["process"];
    assert!(books["emitted"].as_u64().unwrap() >= documents.len() as u64);
    assert_eq!(books["dropped"], serde_json::json!({}));

    // A second recording does not write over the first.
    assert!(!run(&["record", file]).status.success());

    let config = folder.path().join("config.json");
    let filter = r#"{"filter":{"process":["/true$"]}}"#;
    std::fs::write(&config, filter).unwrap();
    let config = config.to_str().unwrap();
    let output = run(&["replay", file, "--config", config]);
    assert!(output.status.success());
    let documents = lines(&output.stdout);
    assert!(commands(&documents).iter().any(|c| c.contains("/dev/null")));
    assert!(!commands(&documents).iter().any(|c| c.ends_with(&kept)));
    let output = run(&["replay", file, "--config", config, "--excluded"]);
    let documents = lines(&output.stdout);
    assert!(commands(&documents).iter().any(|c| c.ends_with(&kept)));
}

#[test]
fn an_agent_that_was_stopped_for_five_seconds_tells_exactly_what_it_lost() {
    let test = "an_agent_that_was_stopped_for_five_seconds_tells_exactly_what_it_lost";
    if !root(test) {
        return;
    }
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("recording");
    let path = file.to_str().unwrap();
    let child = start(&["record", path, "--types", "process,loss"], "recording to");
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let (mark, padding) = (mark("stopped"), "x".repeat(20_000));

    kill(pid, Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    let mut executed = 0;
    // At least what the ring of 8 MiB does not hold.
    while stopped.elapsed() < Duration::from_secs(5) || executed < 600 {
        let mut command = Command::new("/bin/true");
        assert!(command.args([&mark, &padding]).status().unwrap().success());
        executed += 1;
    }
    kill(pid, Signal::SIGCONT).unwrap();
    let last = format!("{mark}-last");
    let deadline = Instant::now() + Duration::from_secs(60);
    while !std::fs::read_to_string(&file).unwrap().contains(&last) {
        assert!(Instant::now() < deadline, "the last execution is not there");
        // The first ones may find the ring still full.
        execute(&last);
    }
    interrupt(child);

    let mut documents = lines(&std::fs::read(&file).unwrap());
    let books = documents.pop().unwrap()["books"].take();
    let (losses, executions): (Vec<_>, Vec<_>) =
        documents.iter().partition(|event| event["type"] == "loss");
    let told = |reason: &str| -> u64 {
        let events = losses.iter().map(|event| &event["data"]);
        events
            .filter(|loss| loss["stream"] == "process" && loss["reason"] == reason)
            .map(|loss| loss["count"].as_u64().unwrap())
            .sum()
    };
    let dropped = books["process"]["dropped"].as_object().unwrap();
    assert!(!dropped.is_empty());
    for (reason, count) in dropped {
        assert_eq!(told(reason), count.as_u64().unwrap(), "{reason}");
    }
    let lost: u64 = dropped.values().filter_map(Value::as_u64).sum();
    assert_eq!(
        books["process"]["emitted"].as_u64().unwrap(),
        executions.len() as u64 + lost
    );
    let seen = executions.iter().filter(|event| {
        let command = event["data"]["command"].as_str();
        command.is_some_and(|command| command.contains(&format!("{mark} ")))
    });
    assert!(seen.count() as u64 + lost >= executed);
}

#[test]
fn a_recording_stays_within_its_bounds() {
    if !root("a_recording_stays_within_its_bounds") {
        return;
    }
    let _alone = ALONE.lock();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("small.ndjson");
    let arguments = ["record", file.to_str().unwrap(), "--max-bytes", "3000"];
    let mut child = start(&arguments, "recording to");
    while child.try_wait().unwrap().is_none() {
        execute("filling");
    }
    let text = std::fs::read(&file).unwrap();
    let last = lines(&text).pop().unwrap();
    assert!(last["ended"].as_str().unwrap().contains("--max-bytes"));
    let books = text.trim_ascii_end().rsplit(|byte| *byte == b'\n').next();
    assert!(text.len() - books.unwrap().len() <= 3001);
}

#[test]
fn storms_of_200_operations_lose_none() {
    if !root("storms_of_200_operations_lose_none") {
        return;
    }
    let _alone = ALONE.lock();
    for kind in ["exec", "file", "connect"] {
        let arguments = [
            "bench", "storm", kind, "--count", "200", "--runs", "1", "--json",
        ];
        let output = run(&arguments);
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            let text = String::from_utf8_lossy(&output.stderr);
            panic!("{kind}: {error}: {text}")
        });
        let series = report["series"].as_array().unwrap();
        let names: Vec<_> = series.iter().map(|s| s["watcher"].clone()).collect();
        assert_eq!(names, ["none", "agent"]);
        let run = &series[1]["runs"][0];
        assert_eq!(run["captured"], 200, "{kind}: {run}");
        assert_eq!(run["lost"], 0, "{kind}: {run}");
        assert_eq!(run["drops"], serde_json::json!({}), "{kind}");
        assert!(run["memory"]["pss_bytes"].as_u64().unwrap() > 0);
        assert!(output.status.success());
    }
}

#[test]
fn a_peer_that_is_not_installed_is_a_note_and_no_failure() {
    if !root("a_peer_that_is_not_installed_is_a_note_and_no_failure") {
        return;
    }
    let _alone = ALONE.lock();
    let nowhere = tempfile::tempdir().unwrap();
    let arguments = [
        "bench",
        "storm",
        "exec",
        "--count",
        "10",
        "--runs",
        "1",
        "--json",
        "--beside",
        "auditd,bpftrace",
    ];
    let output = agent(&arguments)
        .env("PATH", nowhere.path())
        .output()
        .unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let notes = report["notes"].to_string();
    assert!(notes.contains("install auditd") && notes.contains("install bpftrace"));
    assert!(output.status.success());
}

#[test]
fn churn_that_is_interrupted_tells_what_there_is_and_idling_has_a_row_per_thread() {
    if !root("churn_that_is_interrupted_tells_what_there_is_and_idling_has_a_row_per_thread") {
        return;
    }
    let _alone = ALONE.lock();
    let child = start(&["bench", "churn", "--count", "20", "--json"], "rounds of");
    let output = interrupt(child);
    let churn: Value = serde_json::from_slice(&output.stdout).unwrap();
    let looks = churn["looks"].as_array().unwrap();
    assert!(!looks.is_empty());
    assert_eq!(looks[0]["operations"], 60);
    assert!(looks[0]["memory"]["pss_bytes"].as_u64().unwrap() > 0);
    assert_eq!(churn["drops"], Value::Array(Vec::new()));
    assert!(output.status.success());

    let output = run(&["bench", "idle", "--seconds", "1", "--json"]);
    let idle: Value = serde_json::from_slice(&output.stdout).unwrap();
    let threads = idle["threads"].as_object().unwrap();
    for stream in ["process", "connection", "file", "loginlog", "inventory"] {
        assert!(threads.contains_key(stream), "{stream} in {idle}");
    }
    assert!(output.status.success());
}

#[test]
fn without_a_server_a_command_says_what_to_name() {
    for command in ["run", "daemon"] {
        let output = agent(&[command]).env_remove("YINGLONG_SERVER").output();
        let output = output.unwrap();
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains("--server HOST:PORT"));
    }
}

#[test]
fn what_only_debugging_follows_is_refused_otherwise() {
    let output = run(&["run", "--server", "127.0.0.1:9", "--unfiltered"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("with --debug only"));
}

#[test]
fn without_a_running_agent_the_status_says_where_it_looked() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().to_str().unwrap();
    let output = run(&["status", "--state", folder]);
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains(&Path::new(folder).join("status.json").display().to_string()));
}
