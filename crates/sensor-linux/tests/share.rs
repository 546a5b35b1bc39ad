//! Who floods the ring of executions cannot hide others, and the books are exact however it is
//! overloaded. Needs root and a kernel with BTF.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test"
)]

#[allow(dead_code, reason = "shared by the tests of several sensors")]
mod support;

use std::{fs, process::Command};

use libbpf_rs::{MapCore as _, MapFlags, MapHandle};
use yinglong_model::{DropReason, EventData, Observation, config::AgentConfig, ledger::Origin};
use yinglong_sensor_linux::{
    accounts::Accounts,
    process::{BpfIds, Opened, Options, Source, hold, open},
    tree::Tree,
};

use self::support::{
    Killed, Recorder,
    gate::Gate,
    group::{Group, marker},
    start, start_with, until,
};

const RING_BYTES: usize = 1 << 20;
/// Executions of whoever makes noise, and how long their command lines are.
const NOISE: usize = 400;
const NOISE_BYTES: usize = 4000;
/// Executions of whoever is to be seen nevertheless.
const QUIET: usize = 50;

/// Opens the sensor, or says aloud that the test cannot run.
fn opened(test: &str, options: Options) -> Option<Opened> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED {test}: needs root");
        return None;
    }
    if !fs::exists("/sys/kernel/btf/vmlinux").unwrap() {
        eprintln!("SKIPPED {test}: the kernel has no BTF");
        return None;
    }
    Some(open(Tree::default(), Accounts::default(), options).unwrap())
}

fn options(ring_bytes: usize) -> Options {
    Options {
        source: Source::Ebpf,
        ring_bytes,
        ..Options::default()
    }
}

/// What a shell does to execute something so many times; `$1` is a control group to go into first.
const REPEAT: &str = r#"
[ -z "$1" ] || echo $$ > "$1/cgroup.procs" || exit 1
i=0
while [ $i -lt "$2" ]; do /bin/true "$3" "$i" $4; i=$((i + 1)); done
"#;

fn repeat(mut shell: Command, group: &str, count: usize, marker: &str, padding: usize) {
    let status = shell
        .args(["-c", REPEAT, "sh", group, &count.to_string(), marker])
        .arg("x".repeat(padding))
        .env_clear()
        .status();
    assert!(status.unwrap().success());
}

/// Executions that the programs tried to report, delivered or not.
fn tried(ids: &BpfIds) -> u64 {
    let counters = MapHandle::from_map_id(ids.maps["counters"]).unwrap();
    let values = counters.lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY);
    let of_cpu = |value: &Vec<u8>| u64::from_ne_bytes(value[16..24].try_into().unwrap());
    values.unwrap().iter().flatten().map(of_cpu).sum()
}

/// Whether everything is delivered or lost. Others execute meanwhile, so it is not so at every
/// moment, but at some.
fn balances(ids: &BpfIds, outlet: &Recorder) -> bool {
    until(|| {
        let tried = tried(ids);
        let books = outlet.books.lock().unwrap();
        let lost: u64 = books.lost.values().sum();
        let delivered = books.committed.iter().filter(is_execution);
        delivered.count() as u64 + lost == tried
    })
}

fn is_execution(seen: &&Observation) -> bool {
    matches!(seen, Observation::Event { data: EventData::Process(process), .. }
        if process.exit_code.is_none())
}

/// One makes noise while nobody reads, then the other does something.
fn hidden(test: &str, noisy: impl FnOnce(&str), quiet: impl FnOnce(&str)) -> Option<Recorder> {
    let opened = opened(test, options(RING_BYTES))?;
    let (ids, outlet) = (opened.ids.unwrap(), Recorder::default());
    noisy(&marker("noise"));
    quiet(&marker("quiet"));
    let running = start(opened.sensor, &outlet);
    // The shell that repeats them has the text in its command line as well.
    let seen = || {
        let mut seen = outlet.executions(&marker("quiet"));
        seen.retain(|process| process.name.ends_with("/true"));
        seen.len()
    };
    assert!(until(|| seen() >= QUIET));
    assert!(
        balances(&ids, &outlet),
        "{} of {:?}",
        tried(&ids),
        outlet.lost()
    );
    running.stop().1.unwrap();

    assert_eq!(seen(), QUIET);
    let lost = outlet.lost();
    assert!(lost[&DropReason::OverShare] > 100, "{lost:?}");
    assert_eq!(lost.get(&DropReason::RingFull), None);
    Some(outlet)
}

#[test]
fn a_control_group_that_floods_the_ring_hides_nothing_of_another() {
    let test = "a_control_group_that_floods_the_ring_hides_nothing_of_another";
    let groups = Group::new("noisy").and_then(|noisy| Ok((noisy, Group::new("calm")?)));
    let (noisy, calm) = match groups {
        Ok(groups) => groups,
        Err(reason) => return eprintln!("SKIPPED {test}: {reason}"),
    };
    let shell = || Command::new("/bin/sh");
    let path = |group: &Group| group.path().to_owned();
    let Some(outlet) = hidden(
        test,
        |marker| repeat(shell(), &path(&noisy), NOISE, marker, NOISE_BYTES),
        |marker| repeat(shell(), &path(&calm), QUIET, marker, 0),
    ) else {
        return;
    };
    let delivered = outlet.executions(&marker("noise"));
    let delivered = delivered
        .iter()
        .filter(|process| process.name.ends_with("/true"));
    let origin = Origin {
        cgroup: Some(noisy.name()),
        ..Origin::default()
    };
    let lost = outlet.books.lock().unwrap().lost_of[&origin];
    assert_eq!(delivered.count() as u64 + lost, NOISE as u64);
}

#[test]
fn without_control_groups_a_process_namespace_that_floods_the_ring_hides_nothing_of_another() {
    let test =
        "without_control_groups_a_process_namespace_that_floods_the_ring_hides_nothing_of_another";
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    if own
        .lines()
        .any(|line| line.starts_with("0::/") && line != "0::/")
    {
        return eprintln!("SKIPPED {test}: this process is in a control group");
    }
    let apart = || {
        let mut command = Command::new("/usr/bin/unshare");
        command.args(["--pid", "--fork", "/bin/sh"]);
        command
    };
    if !apart()
        .args(["-c", ":"])
        .status()
        .is_ok_and(|status| status.success())
    {
        return eprintln!("SKIPPED {test}: no process namespaces");
    }
    let Some(outlet) = hidden(
        test,
        |marker| repeat(apart(), "", NOISE, marker, NOISE_BYTES),
        |marker| repeat(apart(), "", QUIET, marker, 0),
    ) else {
        return;
    };
    let books = outlet.books.lock().unwrap();
    let named = |origin: &Origin| {
        let group = origin.cgroup.as_deref();
        group.is_some_and(|group| group.starts_with("pid:["))
    };
    assert!(books.lost_of.keys().any(named), "{:?}", books.lost_of);
}

#[test]
fn a_reader_that_is_stopped_in_a_storm_loses_an_exactly_known_number() {
    let test = "a_reader_that_is_stopped_in_a_storm_loses_an_exactly_known_number";
    let Some(opened) = opened(
        test,
        Options {
            source: Source::Ebpf,
            ..Options::default()
        },
    ) else {
        return;
    };
    let (ids, outlet) = (opened.ids.unwrap(), Recorder::default());
    let gate = Gate::default();
    let running = start_with(opened.sensor, gate.before(&outlet), AgentConfig::default());
    let marker = marker("stopped");
    repeat(
        Command::new("/bin/sh"),
        "",
        1,
        &format!("{marker}-before"),
        0,
    );
    assert_eq!(outlet.wait(&format!("{marker}-before 0"), 1).len(), 1);

    gate.close();
    // More than the ring of 8 MiB holds.
    repeat(Command::new("/bin/sh"), "", 700, &marker, 20_000);
    gate.open();
    let balanced = balances(&ids, &outlet);
    running.stop().1.unwrap();
    let lost = outlet.lost();
    assert!(balanced, "{} of {lost:?}", tried(&ids));
    assert!(lost.values().sum::<u64>() > 100, "{lost:?}");
}

fn killed(test: &str, when: Killed) {
    let Some(opened) = opened(test, options(64 << 10)) else {
        return;
    };
    let (ids, outlet, marker) = (opened.ids.unwrap(), Recorder::default(), marker(test));
    let held = hold(&ids).unwrap();
    repeat(Command::new("/bin/sh"), "", 200, &marker, 1000);
    outlet.books.lock().unwrap().killed = Some(when);
    start(opened.sensor, &outlet).killed();
    // Nobody reads, and the ring is full again.
    repeat(Command::new("/bin/sh"), "", 200, &marker, 1000);

    let options = Options {
        adopt: Some(ids.clone()),
        ..options(64 << 10)
    };
    let opened = open(Tree::default(), Accounts::default(), options).unwrap();
    drop(held);
    let outlet = outlet.reopened();
    let running = start(opened.sensor, &outlet);
    let balanced = balances(&ids, &outlet);
    running.stop().1.unwrap();
    let lost = outlet.lost();
    assert!(balanced, "{} of {lost:?}", tried(&ids));
    assert_eq!(lost.get(&DropReason::AgentKilled), None);
    assert!(lost.values().sum::<u64>() > 100, "{lost:?}");
}

#[test]
fn a_reader_that_is_killed_before_its_commit_in_an_overload_leaves_exact_books() {
    killed("overload_killed_before", Killed::BeforeCommit);
}

#[test]
fn a_reader_that_is_killed_after_its_commit_in_an_overload_leaves_exact_books() {
    killed("overload_killed_after", Killed::AfterCommit);
}
