//! An agent that cannot keep up: what it did not tell is counted, exactly.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to panic")]

use std::{collections::HashSet, process::Command};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use yinglong_e2e::{Installation, eventually};

/// Executions in the overload.
const EXECUTIONS: u64 = 1_000;
/// Length of an argument: 400 such executions fill the ring of 8 MiB.
const PADDING: usize = 20_000;

/// Processes and threads made since this machine was started.
fn forks() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let count = stat
        .lines()
        .find_map(|line| line.strip_prefix("processes "));
    count.unwrap().parse().unwrap()
}

/// The numbers of marked executions that are stored.
fn found(here: &Installation, mark: &str) -> anyhow::Result<HashSet<u64>> {
    let query = format!("type:process | command:{mark}");
    let events = here.json(&["search", &query, "--limit", "100000"])?;
    let mut found = HashSet::new();
    for event in &events {
        let command = event["data"]["command"].as_str().unwrap_or_default();
        let number = command
            .strip_prefix("/bin/true ")
            .and_then(|arguments| arguments.strip_prefix(mark)?.strip_prefix(' '))
            .and_then(|rest| rest.split(' ').next()?.parse().ok());
        if let Some(number) = number {
            assert!(found.insert(number), "{number} is stored twice");
        }
    }
    Ok(found)
}

#[test]
fn what_an_agent_that_was_killed_in_an_overload_did_not_tell_is_counted() {
    let test = "what_an_agent_that_was_killed_in_an_overload_did_not_tell_is_counted";
    if !geteuid().is_root() {
        eprintln!("SKIPPED {test}: observing the kernel needs root");
        return;
    }
    let here = Installation::start().unwrap();
    let mark = format!("yloverload{}", std::process::id());
    here.observe(&format!("{mark}before")).unwrap();
    let dropped_before = here.books("process").unwrap().dropped;

    let worker = here.worker().unwrap();
    let padding = "x".repeat(PADDING);
    let forks_before = forks();
    kill(Pid::from_raw(worker), Signal::SIGSTOP).unwrap();
    for number in 0..EXECUTIONS {
        let mut command = Command::new("/bin/true");
        command.args([&mark, &number.to_string(), &padding]);
        assert!(command.status().unwrap().success());
    }
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    eventually(60, "the daemon starts another worker", || {
        Ok(here.worker()? != worker)
    })
    .unwrap();
    here.observe(&format!("{mark}after")).unwrap();
    let others = forks() - forks_before - EXECUTIONS;

    let mut books = None;
    eventually(
        60,
        "everything spooled is stored, everything lost is told",
        || {
            let now = here.books("process")?;
            books = Some(now);
            // What the agent reports is a moment old, and to ask is an execution, too.
            let explained = now.emitted == now.spooled + now.filtered + now.dropped;
            let lost = now.dropped > dropped_before;
            Ok(lost && explained && now.stored >= now.spooled && told(&here)? == now.dropped)
        },
    )
    .unwrap_or_else(|error| panic!("{error:#}: {books:?}, {:?} told", told(&here)));
    let dropped = books.unwrap().dropped - dropped_before;
    let found = found(&here, &mark).unwrap();
    let missing = EXECUTIONS - found.len() as u64;
    eprintln!(
        "{EXECUTIONS} executions, {} stored, {dropped} counted",
        found.len()
    );
    assert!(missing > 0, "there was no overload");
    assert!(!found.is_empty(), "what the ring held is gone");
    // What else was executed meanwhile may be among what is counted.
    assert!(
        missing <= dropped && dropped <= missing + others,
        "{missing}, {dropped}, {others}"
    );
}

/// Executions that events of the type `loss` tell of.
fn told(here: &Installation) -> anyhow::Result<u64> {
    let events = here.json(&["search", "type:loss | stream:process", "--limit", "1000"])?;
    let counts = events
        .iter()
        .filter_map(|event| event["data"]["count"].as_u64());
    Ok(counts.sum())
}
