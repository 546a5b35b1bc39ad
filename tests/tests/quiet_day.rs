//! An ordinary day raises nearly nothing: default rules, outside learn mode, everything real.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to panic")]

use std::{
    collections::HashSet,
    path::PathBuf,
    process::{Command, Stdio},
};

use nix::unistd::geteuid;
use serde_json::Value;
use yinglong_e2e::{Installation, eventually, root, storm};

/// Alerts that a day may leave open; the next one is one too many for people.
const MOST: usize = 4;
/// What all files of the day have in their names.
const NAME: &str = "yl-quiet";

/// The script, and who it is said to be done by: all its programs inherit that.
fn day(argument: &str) -> Command {
    let script: PathBuf = root().join("tests/quiet-day/day.sh");
    let mut command = Command::new("bash");
    command.arg(script).arg(argument).env("SUDO_USER", NAME);
    command.stdin(Stdio::null());
    command
}

/// Puts everything back, however the test ends.
struct Clean;

impl Drop for Clean {
    fn drop(&mut self) {
        match day("clean").status() {
            Ok(status) if status.success() => {}
            other => eprintln!("the quiet day is not cleaned up: {other:?}"),
        }
    }
}

/// Lives a day, and returns when the server has all of it.
fn live(here: &Installation, number: &str) {
    let status = day(number).status().unwrap();
    assert!(status.success(), "day {number} ended with {status}");
    let mark = format!("ylend{number}x{}", std::process::id());
    storm(&mark, 0..1).unwrap();
    // Events of a host come in order, and are judged in the step that stores them.
    eventually(60, "the day is stored", || Ok(here.stored(&mark)? > 0)).unwrap();
    let books = |stream: &str| here.books(stream);
    eventually(60, "files are stored, too", || {
        let files = books("file")?;
        Ok(files.emitted > 0 && files.balance())
    })
    .unwrap();
}

/// Alerts with a status that the day caused, and how many others something else on this machine did.
fn alerts(here: &Installation, status: &str) -> (Vec<Value>, usize) {
    let query = ["search", "type:process", "--limit", "100000"];
    let ours: HashSet<u64> = here
        .json(&query)
        .unwrap()
        .iter()
        .filter(|event| {
            let info = event["data"]["info"].as_str();
            info.is_some_and(|info| info.contains(NAME))
        })
        .filter_map(|event| event["data"]["pid"].as_u64())
        .collect();
    assert!(ours.len() > 50, "the day's programs are known: {ours:?}");
    let all = here
        .json(&["alerts", "--status", status, "--limit", "1000"])
        .unwrap();
    let (ours, others): (Vec<Value>, Vec<Value>) = all.into_iter().partition(|alert| {
        let pid = |key: &str| alert["raw"][key].as_u64();
        let doer = pid("actor_pid").or(pid("pid"));
        doer.is_some_and(|pid| ours.contains(&pid)) || alert.to_string().contains(NAME)
    });
    (ours, others.len())
}

/// Events of a file that the server has stored.
fn files(here: &Installation, path: &str) -> anyhow::Result<usize> {
    let query = format!("type:file | path:{path}");
    Ok(here.json(&["search", &query])?.len())
}

fn print(day: &str, alerts: &[Value]) {
    for alert in alerts {
        let text = |key: &str| alert[key].as_str().unwrap_or_default().to_owned();
        eprintln!(
            "{day}: level {} {} ({}): {}",
            alert["level"],
            text("source"),
            text("rule_id"),
            text("info")
        );
    }
}

#[test]
fn a_quiet_day_leaves_fewer_than_five_alerts_open() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED a_quiet_day_leaves_fewer_than_five_alerts_open: needs root");
        return;
    }
    let here = Installation::start().unwrap();
    let watched =
        r#"client.monitorPath=["%web%","/etc/*","/bin/","/sbin/","/usr/bin/","/usr/sbin/"]"#;
    for setting in ["client.cycle=1", watched] {
        here.yinglong(&["config", "set", setting]).unwrap();
    }
    let _clean = Clean;
    here.observe(&format!("ylquiet{}", std::process::id()))
        .unwrap();
    let folder = format!("/etc/{NAME}");
    eventually(60, "folders below /etc are watched", || {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(format!("{folder}/first"), "")?;
        Ok(files(&here, &format!("{folder}/first"))? > 0)
    })
    .unwrap();

    // The habits of the host are learned, as after an installation. Rules that know what an attack
    // looks like have nothing to learn: they must be as quiet on this day.
    live(&here, "1");
    let (learned, _) = alerts(&here, "learned");
    let (first_seen, known): (Vec<Value>, Vec<Value>) = learned.into_iter().partition(|alert| {
        let rule = alert["rule_id"].as_str();
        rule.is_some_and(|rule| rule.ends_with("-first-seen"))
    });
    print("while learning", &known);
    assert!(!first_seen.is_empty(), "statistics saw nothing new");
    assert!(known.len() <= MOST, "{} alerts while learning", known.len());

    here.yinglong(&["config", "set", "server.learn=false"])
        .unwrap();
    live(&here, "2");
    for path in ["site.conf", "managed.conf"] {
        assert!(
            files(&here, &format!("{folder}/{path}")).unwrap() > 0,
            "{path}"
        );
    }
    let (open, others) = alerts(&here, "open");
    print("quiet day", &open);
    eprintln!(
        "quiet day: {} alerts open; {others} more from what else ran on this machine",
        open.len()
    );
    assert!(open.len() <= MOST, "{} alerts on a quiet day", open.len());

    // The server did judge: what is no habit is told at once.
    let shell = format!("exec 3<>/dev/tcp/127.0.0.1/9 # {NAME}");
    Command::new("bash")
        .args(["-c", &shell])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    eventually(30, "an attack is an open alert", || {
        Ok(alerts(&here, "open").0.len() > open.len())
    })
    .unwrap();
}
