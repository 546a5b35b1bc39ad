//! Who floods the rings of system calls and of DNS questions cannot hide others there either. Needs
//! root, a kernel with BTF, and control groups of version 2.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test"
)]

#[allow(dead_code, reason = "shared by the tests of several sensors")]
mod support;

use std::{
    fs,
    net::UdpSocket,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use yinglong_model::{DropReason, EventData, Observation, config::AgentConfig, ledger::Origin};
use yinglong_sensor::Sensor;
use yinglong_sensor_linux::{accounts::Accounts, dns, syscall, tree::Tree};

use self::support::{
    Recorder,
    gate::Gate,
    group::{Group, marker},
    start_with, until,
};

/// What whoever is to be seen does while the other one makes noise.
const QUIET: usize = 50;

/// What a child does: `call` or `ask`, a marker, how often, and the group to go into first.
const DEED: &str = "YINGLONG_DEED";

/// Does what its parent wants; without one it has nothing to do.
#[test]
fn child() {
    let Ok(deed) = std::env::var(DEED) else {
        return;
    };
    let words: Vec<&str> = deed.split(' ').collect();
    let [kind, marker, count, group] = words[..] else {
        panic!("{deed}");
    };
    fs::write(
        format!("{group}/cgroup.procs"),
        std::process::id().to_string(),
    )
    .unwrap();
    let count: usize = count.parse().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for number in 0..count {
        match kind {
            // It cannot be executed, which is told with the path.
            "call" => drop(Command::new(format!("/etc/passwd/{marker}-{number}")).exec()),
            _ => {
                let question = question(&format!("{marker}-{number}"));
                socket.send_to(&question, "127.0.0.1:53").unwrap();
            }
        }
    }
}

/// Asks for the addresses of a long name that begins with that label (RFC 1035, section 4).
fn question(label: &str) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in [label, &"x".repeat(60), &"y".repeat(60), "example"] {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

fn act(kind: &str, marker: &str, count: usize, group: &Group) {
    let me = std::env::current_exe().unwrap();
    let status = Command::new(me)
        .args(["--exact", "child", "--nocapture"])
        .env(DEED, format!("{kind} {marker} {count} {}", group.path()))
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
}

/// Committed events that have the marker, by what was called or asked for.
fn seen(outlet: &Recorder, marker: &str) -> usize {
    let books = outlet.books.lock().unwrap();
    let has = |seen: &&Observation| match seen {
        Observation::Event { data, .. } => match data {
            EventData::Syscall(call) => call.target.contains(marker),
            EventData::Dns(dns) => dns.query.contains(marker),
            _ => false,
        },
        Observation::Inventory(_) => false,
    };
    books.committed.iter().filter(has).count()
}

/// One makes noise while nobody reads, then the other does something.
fn hidden(test: &str, kind: &str, noise: usize, open: impl FnOnce() -> Box<dyn Sensor>) {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED {test}: needs root");
    }
    let groups = Group::new(&format!("noisy-{kind}"))
        .and_then(|noisy| Ok((noisy, Group::new(&format!("calm-{kind}"))?)));
    let (noisy, calm) = match groups {
        Ok(groups) => groups,
        Err(reason) => return eprintln!("SKIPPED {test}: {reason}"),
    };
    let (outlet, gate) = (Recorder::default(), Gate::default());
    let running = start_with(open(), gate.before(&outlet), AgentConfig::default());
    let first = marker(&format!("{kind}-first"));
    assert!(until(|| {
        act(kind, &first, 1, &calm);
        seen(&outlet, &first) > 0
    }));

    gate.close();
    // What makes the reader commit, and so wait.
    act(kind, &first, 1, &calm);
    let (loud, quiet) = (
        marker(&format!("{kind}-loud")),
        marker(&format!("{kind}-quiet")),
    );
    act(kind, &loud, noise, &noisy);
    act(kind, &quiet, QUIET, &calm);
    gate.open();
    assert!(
        until(|| seen(&outlet, &quiet) >= QUIET),
        "{:?}",
        outlet.lost()
    );
    let origin = Origin {
        cgroup: Some(noisy.name()),
        ..Origin::default()
    };
    let lost = || {
        let books = outlet.books.lock().unwrap();
        books.lost_of.get(&origin).copied().unwrap_or_default()
    };
    // Which group it was is told at times by a record more or less.
    assert!(
        until(|| seen(&outlet, &loud) as u64 + lost() >= noise as u64 * 99 / 100),
        "{} and {}",
        seen(&outlet, &loud),
        lost()
    );
    running.stop().1.unwrap();
    assert_eq!(seen(&outlet, &quiet), QUIET);
    let lost = outlet.lost();
    assert!(lost[&DropReason::OverShare] > 100, "{lost:?}");
    assert_eq!(lost.get(&DropReason::RingFull), None);
    let most = (noise - seen(&outlet, &loud)) as u64;
    assert!(
        lost[&DropReason::OverShare] <= most + 10,
        "{lost:?}, {most}"
    );
}

#[test]
fn a_control_group_that_floods_the_ring_of_system_calls_hides_nothing_of_another() {
    hidden("flood of system calls", "call", 4_000, || {
        let options = syscall::Options {
            ring_bytes: 512 << 10,
            ..syscall::Options::default()
        };
        syscall::open(Tree::default(), Accounts::default(), &options)
            .unwrap()
            .sensor
    });
}

#[test]
fn a_control_group_that_floods_the_ring_of_questions_hides_nothing_of_another() {
    hidden("flood of questions", "ask", 20_000, || {
        let options = dns::Options {
            source: dns::Source::Ebpf,
            ..dns::Options::default()
        };
        dns::open(Tree::default(), Accounts::default(), options)
            .unwrap()
            .sensor
    });
}
