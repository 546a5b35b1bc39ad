//! The agent's tools together with the server's: what one writes the other reads.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use yinglong_e2e::{Installation, binary, eventually, succeed};

#[test]
fn rules_find_the_marked_execution_in_a_recording_of_the_agent() {
    if !geteuid().is_root() {
        eprintln!(
            "SKIPPED rules_find_the_marked_execution_in_a_recording_of_the_agent: needs root"
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("events.ndjson");
    let mark = format!("ylrecord{}", std::process::id());
    let rule = format!(
        "title: Marked\nid: 0d7f3c1e-5a0b-4f6e-9a51-1f4c2f0f4c07\n\
         logsource: {{product: linux, category: process_creation}}\n\
         detection:\n  selection:\n    CommandLine|contains: {mark}\n  condition: selection\n\
         level: high\n"
    );
    let rules = folder.path().join("rules");
    std::fs::create_dir(&rules).unwrap();
    std::fs::write(rules.join("marked.yml"), rule).unwrap();

    let mut record = Command::new(binary("yinglong-agent"));
    record.arg("record").arg(&file).stdin(Stdio::null());
    let mut child = record.stderr(Stdio::piped()).spawn().unwrap();
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("recording to") {
        line.clear();
        assert!(errors.read_line(&mut line).unwrap() > 0);
    }
    thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
    let status = Command::new("/bin/true").arg(&mark).status().unwrap();
    assert!(status.success());
    thread::sleep(Duration::from_secs(2));
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    assert!(child.wait().unwrap().success());

    let mut replay = Command::new(binary("yinglong"));
    replay.arg("replay").arg(&file).arg("--rules").arg(&rules);
    let output = succeed(replay.arg("--json")).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let summary = text.lines().last().unwrap_or_default();
    assert!(summary.contains("\"matches\":1"), "{text}");
    assert!(summary.contains("\"damaged\":0"), "{text}");
}

#[test]
fn the_status_of_an_agent_tells_sensors_rings_spool_and_cost() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED the_status_of_an_agent_tells_sensors_rings_spool_and_cost: needs root");
        return;
    }
    let here = Installation::start().unwrap();
    let status = || {
        let mut status = Command::new(binary("yinglong-agent"));
        status.arg("status").arg("--state");
        let output = succeed(status.arg(here.data().join("agent")))?;
        Ok::<_, anyhow::Error>(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    eventually(30, "every sensor observes", || {
        let text = status()?;
        Ok(text.contains("process      observing by ebpf") && text.contains("connected to"))
    })
    .unwrap();
    let text = status().unwrap();
    for part in [
        "ring         process: ",
        "ring         connection: ",
        "spool        ",
        "% of one processor",
        "proportional",
        "process      ",
    ] {
        assert!(text.contains(part), "{part} in:\n{text}");
    }
}
