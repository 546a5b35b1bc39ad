//! Storms with rules on and the server on the same machine: everything is stored, once.
//!
//! What users run is asked for 20,000 of 20,000, ten times:
//!
//! ```text
//! cargo build --release -p yinglong-cli -p yinglong-agent
//! YINGLONG_STORM_RUNS=10 cargo test --release -p yinglong-e2e --test storms -- --test-threads 1 --nocapture
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to panic")]

use std::{collections::HashSet, process::Command};

use nix::unistd::geteuid;
use serde_json::{Value, json};
use yinglong_e2e::{Installation, binary, eventually, succeed};

/// Operations of a storm: as many as fit into a ring in a build that is not optimized, and cannot read
/// as fast as a storm writes.
const COUNT: u32 = if cfg!(debug_assertions) {
    2_000
} else {
    20_000
};

fn runs() -> u32 {
    let asked = std::env::var("YINGLONG_STORM_RUNS").ok();
    asked.and_then(|runs| runs.parse().ok()).unwrap_or(1)
}

/// An installation that leaves nothing out of a storm; `None` where the kernel cannot be observed.
fn watching(test: &str) -> Option<(Installation, tempfile::TempDir)> {
    if !geteuid().is_root() {
        eprintln!("SKIPPED {test}: observing the kernel needs root");
        return None;
    }
    let here = Installation::start().unwrap();
    let folder = tempfile::Builder::new()
        .prefix("yinglong-storm-")
        .tempdir()
        .unwrap();
    let watched = format!("client.monitorPath=[\"{}/*\"]", folder.path().display());
    for setting in ["client.lan=true", &watched] {
        here.yinglong(&["config", "set", setting]).unwrap();
    }
    here.observe(&format!("ylstorms{}", std::process::id()))
        .unwrap();
    let files = folder.path().join("storm");
    eventually(60, "the folder is watched", || {
        std::fs::create_dir_all(&files)?;
        std::fs::write(files.join("first"), "")?;
        let query = format!("type:file | path:{}", files.join("first").display());
        Ok(!here.json(&["search", &query])?.is_empty())
    })
    .unwrap();
    Some((here, folder))
}

/// Storms of a kind, each of which is to be found as often as it happened. `number` tells which
/// operation an event belongs to, if it belongs to one.
fn weather(
    here: &Installation,
    folder: &tempfile::TempDir,
    kind: &str,
    query: impl Fn(&str) -> String,
    number: impl Fn(&Value, &str) -> Option<u32>,
) {
    for run in 1..=runs() {
        let token = format!("{kind}{}x{run}", std::process::id());
        let mark = format!("ylmark-{token}");
        let order = json!({
            "kind": kind, "count": COUNT, "workers": 2, "token": token, "folder": folder.path(),
        });
        let before = now();
        succeed(Command::new(binary("yinglong-agent")).args(["bench", "work", &order.to_string()]))
            .unwrap();
        let query = query(&mark);
        let search = ["search", &query, "--since", &before, "--limit", "200000"];
        let mut missing = COUNT;
        let complete = eventually(120, "everything that happened is stored", || {
            let events = here.json(&search)?;
            let found: Vec<u32> = events
                .iter()
                .filter_map(|event| number(event, &mark))
                .collect();
            let distinct: HashSet<u32> = found.iter().copied().collect();
            // What is made, written and removed may be told together or one after the other.
            assert!(kind == "file" || found.len() == distinct.len(), "doubled");
            assert!(distinct.iter().all(|number| *number < COUNT));
            missing = COUNT - u32::try_from(distinct.len())?;
            Ok(missing == 0)
        });
        complete.unwrap_or_else(|error| {
            let books = here.yinglong(&["ledger"]).unwrap_or_default();
            panic!("run {run}: {missing} of {COUNT} missing: {error}\n{books}")
        });
        eprintln!("{kind}, run {run}: {COUNT} of {COUNT} stored");
    }
}

/// The time, as `--since` takes it.
fn now() -> String {
    let output = succeed(Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%S.%6NZ"])).unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The number after the mark.
fn after(text: &str, mark: &str) -> Option<u32> {
    let (_, rest) = text.split_once(mark)?;
    rest.get(1..)?.parse().ok()
}

#[test]
fn every_execution_of_a_storm_is_stored_once() {
    let Some((here, folder)) = watching("every_execution_of_a_storm_is_stored_once") else {
        return;
    };
    weather(
        &here,
        &folder,
        "exec",
        |mark| format!("type:process | command:{mark}"),
        |event, mark| {
            let name = event["data"]["name"].as_str()?;
            if !name.ends_with("/true") {
                return None;
            }
            after(event["data"]["command"].as_str()?, mark)
        },
    );
}

#[test]
fn every_file_of_a_storm_is_stored() {
    let Some((here, folder)) = watching("every_file_of_a_storm_is_stored") else {
        return;
    };
    weather(
        &here,
        &folder,
        "file",
        |mark| format!("type:file | path:/{mark}/"),
        |event, mark| after(event["data"]["path"].as_str()?, mark),
    );
}

#[test]
fn both_sides_of_every_connection_of_a_storm_are_stored_once_and_with_their_process() {
    let Some((here, folder)) = watching(
        "both_sides_of_every_connection_of_a_storm_are_stored_once_and_with_their_process",
    ) else {
        return;
    };
    // The client's address has the number in it (`storm.rs` of the agent).
    let of = |end: &Value| {
        let (address, _) = end.as_str()?.rsplit_once(':')?;
        let address: std::net::Ipv4Addr = address.parse().ok()?;
        u32::from(address).checked_sub(0x7f40_0000)
    };
    for (dir, end) in [("out", "local"), ("in", "remote")] {
        weather(
            &here,
            &folder,
            "connect",
            |_| format!("type:connection | dir:{dir} | {end}:/^127\\.64\\./"),
            |event, _| {
                assert!(event["data"]["name"].as_str()?.ends_with("yinglong-agent"));
                assert_eq!(event["data"]["attribution"], "kernel");
                of(&event["data"][end])
            },
        );
    }
}
