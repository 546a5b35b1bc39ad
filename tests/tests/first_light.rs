//! From a real execution on this kernel to an alert a person sees.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to panic")]

use std::{
    collections::{BTreeMap, HashSet},
    process::Command,
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use serde_json::Value;
use yinglong_e2e::{Installation, eventually, root, storm, succeed};

/// Tells loudly that a test cannot run here.
fn lacks_root(test: &str) -> bool {
    let lacks = !geteuid().is_root();
    if lacks {
        eprintln!("SKIPPED {test}: observing the kernel needs root");
    }
    lacks
}

#[test]
fn the_self_test_proves_every_sensor_and_rule() {
    if lacks_root("the_self_test_proves_every_sensor_and_rule") {
        return;
    }
    let here = Installation::start().unwrap();
    let watched = r#"client.monitorPath=["%web%","/etc/*","/usr/bin/","/usr/sbin/"]"#;
    for setting in ["client.lan=true", "client.cycle=1", watched] {
        here.yinglong(&["config", "set", setting]).unwrap();
    }
    eventually(60, "the agent finds the web root of nginx", || {
        let hosts = here.json(&["hosts"])?;
        Ok(hosts.iter().any(|host| {
            host["path"]
                .as_array()
                .is_some_and(|roots| !roots.is_empty())
        }))
    })
    .unwrap();

    let outcomes = here.json(&["selftest"]).unwrap();
    let mut latencies = Vec::new();
    for outcome in &outcomes {
        assert_eq!(outcome["skipped"], Value::Null, "{outcome}");
        assert_eq!(outcome["event"], true, "{outcome}");
        assert_eq!(outcome["alert"], true, "{outcome}");
        latencies.extend(outcome["latency_ms"].as_u64());
    }
    assert!(outcomes.len() >= 13);
    latencies.sort_unstable();
    eprintln!("latencies in ms, sorted: {latencies:?}");

    for host in here.json(&["hosts"]).unwrap() {
        for sensor in host["sensors"].as_array().unwrap() {
            assert_eq!(sensor["running"], true, "{sensor}");
        }
    }
    let metrics = here.yinglong(&["metrics"]).unwrap();
    assert!(metrics.contains("yinglong_ledger_emitted_total{"));
    assert!(
        !metrics
            .lines()
            .any(|l| l.starts_with("yinglong_ledger_unbalanced{") && l.ends_with(" 1"))
    );
}

#[test]
fn the_browser_shows_the_alert_of_a_real_execution() {
    if lacks_root("the_browser_shows_the_alert_of_a_real_execution") {
        return;
    }
    let here = Installation::start().unwrap();
    let password = "correct horse battery staple 9";
    let file = here.data().join("password");
    std::fs::write(&file, password).unwrap();
    let file = file.to_str().unwrap();
    here.yinglong(&["setup", "--user", "analyst", "--password-file", file])
        .unwrap();
    let screenshots = std::env::var_os("YINGLONG_SCREENSHOTS")
        .map_or_else(|| here.data().join("screenshots"), Into::into);
    let mut browser = Command::new("node");
    browser
        .args(["--test", "e2e/first-light.test.mjs"])
        .current_dir(root().join("console"))
        .env("YINGLONG_URL", here.url())
        .env("YINGLONG_CA", here.data().join("ca.pem"))
        .env("YINGLONG_USER", "analyst")
        .env("YINGLONG_PASSWORD", password)
        .env("YINGLONG_SCREENSHOTS", screenshots);
    succeed(&mut browser).unwrap();
}

/// Executions in the storm. Each is stored exactly once, or counted with a reason.
const STORM: u32 = 20_000;

#[test]
fn nothing_is_lost_or_doubled_when_server_and_agent_are_killed_in_a_storm() {
    if lacks_root("nothing_is_lost_or_doubled_when_server_and_agent_are_killed_in_a_storm") {
        return;
    }
    let here = Installation::start().unwrap();
    let mark = format!("ylstorm{}", std::process::id());
    let killed = |pid: i32| kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    thread::scope(|scope| {
        let part = STORM / 4;
        for quarter in 0..4 {
            let storm = {
                let mark = &mark;
                scope.spawn(move || storm(mark, quarter * part..(quarter + 1) * part).unwrap())
            };
            thread::sleep(Duration::from_millis(700));
            match quarter {
                0 | 2 => killed(here.worker().unwrap()),
                1 => {
                    killed(here.pid("server").unwrap());
                    storm.join().unwrap();
                    here.resume().unwrap();
                    continue;
                }
                _ => {}
            }
            storm.join().unwrap();
        }
    });

    let query = format!("type:process | all:{mark}");
    let mut found = BTreeMap::new();
    eventually(120, "everything spooled is stored", || {
        found = executions(&here, &query)?;
        let stored: usize = found.len();
        let books = here.books("process")?;
        Ok(books.balance() && stored as u64 + books.dropped >= u64::from(STORM))
    })
    .unwrap_or_else(|error| {
        panic!(
            "{error:#}: {} of {STORM} found, {:?}",
            found.len(),
            here.books("process")
        )
    });
    let books = here.books("process").unwrap();
    eprintln!("{} of {STORM} stored, {books:?}", found.len());
    let doubled: Vec<_> = found
        .iter()
        .filter(|(_, times)| **times != 1)
        .take(5)
        .collect();
    assert!(doubled.is_empty(), "stored more than once: {doubled:?}");
    assert_eq!(
        found.len() as u64 + books.dropped.min(u64::from(STORM) - found.len() as u64),
        u64::from(STORM)
    );
}

/// How often each marked execution is stored, by its last argument.
fn executions(here: &Installation, query: &str) -> anyhow::Result<BTreeMap<String, u32>> {
    let mut found = BTreeMap::new();
    let mut ids = HashSet::new();
    for event in here.json(&["search", query, "--limit", "100000"])? {
        assert!(ids.insert(event["id"].to_string()), "one id twice: {event}");
        let (name, command) = (&event["data"]["name"], &event["data"]["command"]);
        // Looking for the mark is an execution with the mark, too.
        if !name.as_str().is_some_and(|name| name.ends_with("/true")) {
            continue;
        }
        let command = command.as_str().unwrap_or_default();
        if let Some(argument) = command.split(' ').next_back() {
            *found.entry(argument.to_owned()).or_default() += 1;
        }
    }
    Ok(found)
}

#[test]
fn a_second_server_on_the_same_data_is_refused_and_disturbs_nothing() {
    if lacks_root("a_second_server_on_the_same_data_is_refused_and_disturbs_nothing") {
        return;
    }
    let here = Installation::start().unwrap();
    let listen = [
        "server",
        "--listen-agents",
        "127.0.0.1:0",
        "--listen-console",
        "127.0.0.1:0",
    ];
    let second = here.command(&listen).output().unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(
        said.contains(&here.pid("server").unwrap().to_string()),
        "{said}"
    );
    here.yinglong(&["status"]).unwrap();
}

#[test]
fn a_restart_continues_with_the_same_data_and_the_same_host() {
    if lacks_root("a_restart_continues_with_the_same_data_and_the_same_host") {
        return;
    }
    let here = Installation::start().unwrap();
    let mark = format!("ylrestart{}", std::process::id());
    let seen = |number: u32| {
        let query = format!("type:process | command:{mark}-{number}");
        Ok(!here.json(&["search", &query])?.is_empty())
    };
    storm(&mark, 0..1).unwrap();
    eventually(20, "the first execution is stored", || seen(0)).unwrap();
    let before = here.json(&["hosts"]).unwrap();
    here.stop().unwrap();
    here.resume().unwrap();
    storm(&mark, 1..2).unwrap();
    eventually(20, "the second execution is stored", || seen(1)).unwrap();
    assert!(seen(0).unwrap());
    let after = here.json(&["hosts"]).unwrap();
    assert_eq!(after.len(), 1);
    assert_eq!(before[0]["agent_id"], after[0]["agent_id"]);
}
