//! System calls on the running kernel. Needs root and a kernel with BTF.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test"
)]

#[path = "support/calls.rs"]
mod calls;
#[allow(dead_code, reason = "shared by the tests of several sensors")]
mod support;

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Child, Command},
};

use yinglong_model::{
    DropReason,
    config::{AgentConfig, Client},
    event::Syscall,
};
use yinglong_sensor_linux::{
    accounts::Accounts,
    syscall::{Opened, Options, Source, hold, open},
    tree::Tree,
};

use self::{
    calls::played,
    support::{Killed, Recorder, start, start_with, until},
};

/// Plays a scene in a process of its own; without one it has nothing to do.
#[test]
fn child() {
    calls::play();
}

/// Opens the sensor, or says aloud that the test cannot run.
fn opened(test: &str, options: &Options) -> Option<Opened> {
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

/// What is seen of a scene: all of it, since a later call of another process is seen as well.
fn seen(outlet: &Recorder, pid: u32) -> Vec<Syscall> {
    let last = played("storm 1");
    assert!(until(|| !outlet.syscalls(last).is_empty()));
    outlet.syscalls(pid)
}

/// Lets a child play a scene before a sensor with these options.
fn scene(test: &str, scene: &str, options: &Options) -> Option<(u32, Vec<Syscall>)> {
    let opened = opened(test, options)?;
    let outlet = Recorder::default();
    let running = start(opened.sensor, &outlet);
    ready(&outlet);
    let pid = played(scene);
    let seen = seen(&outlet, pid);
    running.stop().1.unwrap();
    assert_eq!(outlet.lost(), Default::default());
    for call in &seen {
        is_ours(call, pid);
    }
    Some((pid, seen))
}

/// The sensor has been told what to do.
fn ready(outlet: &Recorder) {
    assert!(until(|| {
        let books = outlet.books.lock().unwrap();
        books.status.as_ref().is_some_and(|status| status.running)
    }));
}

fn is_ours(call: &Syscall, pid: u32) {
    let me = std::env::current_exe().unwrap();
    let me = me.to_str().unwrap();
    assert_eq!(call.name, me, "{call:#?}");
    assert_eq!((call.pid, call.ppid), (pid, std::process::id()));
    assert_eq!(Some(call.parentname.as_str()), me.rsplit('/').next());
    assert!(call.command.as_deref().unwrap().contains("--exact child"));
    assert_eq!(call.user.as_deref().is_some(), call.uid.is_some());
    assert!(call.cgroup.is_some());
}

/// Name, target and detail of each.
fn told(calls: &[Syscall]) -> Vec<(&str, &str, &str)> {
    calls
        .iter()
        .map(|call| {
            let detail = call.detail.as_deref().unwrap_or("");
            (call.call.as_str(), call.target.as_str(), detail)
        })
        .collect()
}

/// A process that sleeps, in a group of its own, until it is dropped.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Self {
        let mut command = Command::new("/bin/sleep");
        Self(command.arg("600").process_group(0).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_process_that_attaches_to_another_one_is_told_with_it() {
    let test = "a_process_that_attaches_to_another_one_is_told_with_it";
    let other = Sleeper::new();
    let attach = format!("attach {}", other.0.id());
    let Some((_, seen)) = scene(test, &attach, &Options::default()) else {
        return;
    };
    let sleep = fs::canonicalize("/bin/sleep").unwrap();
    assert_eq!(told(&seen), [("ptrace", sleep.to_str().unwrap(), "ATTACH")]);
    assert_eq!(seen[0].target_pid, Some(other.0.id()));
    assert!(seen[0].success && seen[0].errno.is_empty());
    assert_eq!((seen[0].uid, seen[0].euid), (Some(0), Some(0)));
}

#[test]
fn writing_to_the_memory_of_a_process_is_told() {
    let test = "writing_to_the_memory_of_a_process_is_told";
    let Some((pid, seen)) = scene(test, "write_memory", &Options::default()) else {
        return;
    };
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].call, "process_vm_writev");
    assert_eq!(seen[0].target_pid, Some(pid));
}

#[test]
fn a_file_in_memory_is_told_and_its_execution_is_not_a_failure() {
    let test = "a_file_in_memory_is_told_and_its_execution_is_not_a_failure";
    let Some((_, seen)) = scene(test, "memory_file", &Options::default()) else {
        return;
    };
    assert_eq!(told(&seen), [("memfd_create", "payload", "")]);
}

#[test]
fn namespaces_and_mounts_are_spelled_out() {
    let test = "namespaces_and_mounts_are_spelled_out";
    let Some((_, seen)) = scene(test, "namespaces", &Options::default()) else {
        return;
    };
    let back = fs::read_link("/proc/self/ns/uts").unwrap();
    let inode = back
        .to_str()
        .unwrap()
        .trim_matches(|c: char| !c.is_ascii_digit());
    // The kernel gives the first namespace this number.
    let first = if inode == "4026531838" {
        " to_init=uts"
    } else {
        ""
    };
    let setns = format!("inode={inode}{first}");
    assert_eq!(
        told(&seen),
        [
            ("unshare", "mount|uts", ""),
            ("mount", "/", "source=none flags=rec|private"),
            ("mount", "/tmp", "source=scene type=tmpfs flags=noexec"),
            ("umount2", "/tmp", "flags=detach"),
            ("setns", "uts", setns.as_str()),
        ]
    );
    assert!(seen.iter().all(|call| call.success), "{seen:#?}");
}

#[test]
fn the_same_is_told_where_tracepoints_cannot_be_shared() {
    let test = "the_same_is_told_where_tracepoints_cannot_be_shared";
    let options = Options {
        source: Source::EveryCall,
        ..Options::default()
    };
    let Some((_, calls)) = scene(test, "namespaces", &options) else {
        return;
    };
    let names: Vec<&str> = calls.iter().map(|call| call.call.as_str()).collect();
    assert_eq!(names, ["unshare", "mount", "mount", "umount2", "setns"]);

    let opened = opened(test, &options).unwrap();
    let status = opened.sensor.status();
    assert!(status.reason.contains("every call"), "{}", status.reason);
    let outlet = Recorder::default();
    let running = start(opened.sensor, &outlet);
    ready(&outlet);
    let pid = played("rights");
    let gained = seen(&outlet, pid);
    running.stop().1.unwrap();
    assert_eq!(told(&gained), [("setresuid", "0", "euid 1000 -> 0")]);
}

#[test]
fn loading_a_bpf_program_is_told_with_its_type_and_name() {
    let test = "loading_a_bpf_program_is_told_with_its_type_and_name";
    let Some((_, seen)) = scene(test, "program", &Options::default()) else {
        return;
    };
    let expected = [("bpf", "scene", "PROG_LOAD type=socket_filter")];
    assert_eq!(told(&seen), expected);
}

#[test]
fn a_kernel_module_that_is_refused_is_told_with_the_error() {
    let test = "a_kernel_module_that_is_refused_is_told_with_the_error";
    let mut options = Options::default();
    if !fs::exists("/proc/modules").unwrap() {
        // A kernel without modules has no tracepoints for what it refuses anyway.
        options.source = Source::EveryCall;
    }
    let Some((_, seen)) = scene(test, "module", &options) else {
        return;
    };
    let detail = "bytes=64 parameters=debug=1";
    assert_eq!(told(&seen), [("init_module", "module in memory", detail)]);
    assert!(!seen[0].success && !seen[0].errno.is_empty());
}

#[test]
fn signals_to_the_agent_are_told_and_others_are_not() {
    let test = "signals_to_the_agent_are_told_and_others_are_not";
    let agent = Sleeper::new();
    let pid = agent.0.id();
    let options = Options {
        agent_pids: vec![pid],
        ..Options::default()
    };
    let Some((_, seen)) = scene(test, &format!("signals {pid}"), &options) else {
        return;
    };
    let sleep = fs::canonicalize("/bin/sleep").unwrap();
    let sleep = sleep.to_str().unwrap();
    let group = format!("process group {pid}");
    assert_eq!(
        told(&seen),
        [
            ("kill", sleep, "signal=0"),
            ("kill", group.as_str(), "signal=0"),
            ("tgkill", sleep, "signal=0"),
            ("pidfd_send_signal", sleep, "signal=0"),
        ]
    );
    assert_eq!(seen[0].target_pid, Some(pid));
    assert_eq!(seen[3].target_pid, Some(pid));
    assert!(seen.iter().all(|call| call.success));
}

#[test]
fn a_killed_agent_is_told_by_whom() {
    let test = "a_killed_agent_is_told_by_whom";
    let mut agent = Sleeper::new();
    let pid = agent.0.id();
    let options = Options {
        agent_pids: vec![pid],
        ..Options::default()
    };
    let Some((_, seen)) = scene(test, &format!("signal {pid} 9"), &options) else {
        return;
    };
    assert!(!agent.0.wait().unwrap().success());
    assert_eq!(seen.len(), 1);
    assert_eq!(
        (seen[0].call.as_str(), seen[0].target_pid),
        ("kill", Some(pid))
    );
    assert_eq!(seen[0].detail.as_deref(), Some("signal=SIGKILL"));
}

#[test]
fn only_the_call_that_gains_the_rights_of_root_is_told() {
    let test = "only_the_call_that_gains_the_rights_of_root_is_told";
    let Some((_, seen)) = scene(test, "rights", &Options::default()) else {
        return;
    };
    assert_eq!(told(&seen), [("setresuid", "0", "euid 1000 -> 0")]);
    assert_eq!((seen[0].uid, seen[0].euid), (Some(1000), Some(1000)));
}

#[test]
fn failed_executions_are_told_unless_the_file_does_not_exist() {
    let test = "failed_executions_are_told_unless_the_file_does_not_exist";
    let Some(opened) = opened(test, &Options::default()) else {
        return;
    };
    let outlet = Recorder::default();
    let running = start(opened.sensor, &outlet);
    ready(&outlet);
    let pid = played("executions");
    let seen = seen(&outlet, pid);
    assert!(until(|| outlet.books.lock().unwrap().filtered > 0));
    running.stop().1.unwrap();
    assert_eq!(
        told(&seen),
        [("execve", "/etc/passwd", ""), ("execve", "/etc", "")]
    );
    assert!(
        seen.iter()
            .all(|call| !call.success && call.errno == "EACCES")
    );
}

#[test]
fn hostile_arguments_are_told_as_they_are() {
    let test = "hostile_arguments_are_told_as_they_are";
    let Some((_, seen)) = scene(test, "hostile", &Options::default()) else {
        return;
    };
    let long = "a".repeat(511);
    assert_eq!(
        told(&seen),
        [
            ("mount", "", "(unreadable)"),
            ("bpf", "", "PROG_LOAD type=unspec (unreadable)"),
            ("setns", "", ""),
            ("memfd_create", "\\xff\\xfe\\x0a", ""),
            ("umount2", long.as_str(), "(cut)"),
        ]
    );
    let errors: Vec<&str> = seen.iter().map(|call| call.errno.as_str()).collect();
    assert_eq!(errors, ["EFAULT", "EFAULT", "EBADF", "", "ENAMETOOLONG"]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_32_bit_programs_are_told_while_they_are_wanted() {
    let test = "calls_of_32_bit_programs_are_told_while_they_are_wanted";
    let agent = Sleeper::new();
    let options = Options {
        agent_pids: vec![agent.0.id()],
        ..Options::default()
    };
    let Some(opened) = opened(test, &options) else {
        return;
    };
    let compat = format!("compat {}", agent.0.id());
    let outlet = Recorder::default();
    let wanted = |syscall32| AgentConfig {
        client: Client {
            syscall32,
            ..Client::default()
        },
        ..AgentConfig::default()
    };
    let running = start_with(opened.sensor, outlet.clone(), wanted(true));
    ready(&outlet);
    let pid = played(&compat);
    let seen = seen(&outlet, pid);
    let sleep = fs::canonicalize("/bin/sleep").unwrap();
    assert_eq!(
        told(&seen),
        [
            ("memfd_create", "scene32", "32-bit"),
            ("delete_module", "scene32", "32-bit"),
            ("kill", sleep.to_str().unwrap(), "signal=0 32-bit"),
        ]
    );
    assert_eq!([seen[0].success, seen[1].success], [true, false]);
    assert!(!seen[1].errno.is_empty());

    running.configure(wanted(false));
    // It looks at its configuration twice a second.
    assert!(until(|| {
        let pid = played(&compat);
        self::seen(&outlet, pid).is_empty()
    }));
    running.stop().1.unwrap();
}

#[test]
fn nothing_is_told_while_the_switch_is_off() {
    let test = "nothing_is_told_while_the_switch_is_off";
    let Some(opened) = opened(test, &Options::default()) else {
        return;
    };
    let outlet = Recorder::default();
    let switched = |syscall| AgentConfig {
        client: Client {
            syscall,
            ..Client::default()
        },
        ..AgentConfig::default()
    };
    let running = start_with(opened.sensor, outlet.clone(), switched(false));
    ready(&outlet);
    let off = played("rights");
    running.configure(switched(true));
    let mut on = 0;
    assert!(until(|| {
        on = played("storm 1");
        std::thread::sleep(std::time::Duration::from_millis(100));
        !outlet.syscalls(on).is_empty()
    }));
    assert_eq!(outlet.syscalls(off), []);
    running.configure(switched(false));
    let mut off = 0;
    assert!(until(|| {
        off = played("storm 1");
        std::thread::sleep(std::time::Duration::from_millis(100));
        outlet.syscalls(off).is_empty()
    }));
    let (sensor, ended) = running.stop();
    ended.unwrap();
    assert_eq!(outlet.syscalls(off), []);
    assert!(sensor.status().reason.contains("client.syscall"));
}

#[test]
fn ten_thousand_calls_are_delivered_while_somebody_reads() {
    let test = "ten_thousand_calls_are_delivered_while_somebody_reads";
    let options = Options {
        ring_bytes: 16 << 20,
        ..Options::default()
    };
    let Some((_, seen)) = scene(test, "storm 10000", &options) else {
        return;
    };
    assert_eq!(seen.len(), 10_000);
}

#[test]
fn of_ten_thousand_calls_every_one_is_delivered_or_counted() {
    let test = "of_ten_thousand_calls_every_one_is_delivered_or_counted";
    let options = Options {
        ring_bytes: 64 << 10,
        ..Options::default()
    };
    let Some(opened) = opened(test, &options) else {
        return;
    };
    let outlet = Recorder::default();
    // Tells the programs to begin, and goes.
    let running = start(opened.sensor, &outlet);
    ready(&outlet);
    let sensor = running.stop().0;
    let delivered = |outlet: &Recorder| outlet.books.lock().unwrap().committed.len() as u64;
    // Whoever fills the ring alone is turned away before it is full.
    let reasons = [DropReason::RingFull, DropReason::OverShare];
    let full = |outlet: &Recorder| {
        let lost = outlet.lost();
        reasons
            .iter()
            .filter_map(|reason| lost.get(reason))
            .sum::<u64>()
    };

    let pid = played("storm 10000");
    let running = start(sensor, &outlet);
    assert!(until(|| delivered(&outlet) + full(&outlet) >= 10_000));
    running.stop().1.unwrap();
    assert!(full(&outlet) > 1000, "{}", full(&outlet));
    assert!(outlet.syscalls(pid).len() > 50);
    let mark = outlet.books.lock().unwrap().marks["syscall.ring"].clone();
    let accounted: u64 = mark.split(':').nth(3).unwrap().parse().unwrap();
    assert_eq!(accounted, delivered(&outlet) + full(&outlet));
    assert!(outlet.lost().keys().all(|reason| reasons.contains(reason)));
}

fn killed(test: &str, when: Killed) {
    let Some(opened) = opened(test, &Options::default()) else {
        return;
    };
    let outlet = Recorder::default();
    let held = hold(&opened.ids).unwrap();
    let running = start(opened.sensor, &outlet);
    ready(&outlet);
    let before = played("storm 100");
    assert!(until(|| outlet.syscalls(before).len() == 100));

    outlet.books.lock().unwrap().killed = Some(when);
    let during = played("storm 100");
    running.killed();
    let without = played("storm 100");

    let options = Options {
        adopt: Some(opened.ids.clone()),
        ..Options::default()
    };
    let opened = open(Tree::default(), Accounts::default(), &options).unwrap();
    assert_eq!(opened.ids, *options.adopt.as_ref().unwrap());
    drop(held);
    let outlet = outlet.reopened();
    let config = AgentConfig {
        client: Client {
            syscall32: true,
            ..Client::default()
        },
        ..AgentConfig::default()
    };
    let running = start_with(opened.sensor, outlet.clone(), config);
    let after = played("storm 100");
    assert!(until(|| outlet.syscalls(after).len() == 100));
    // What is attached only at times was taken over too.
    if cfg!(target_arch = "x86_64") {
        let compat = played("compat 1");
        assert_eq!(seen(&outlet, compat).len(), 2);
    }
    running.stop().1.unwrap();
    for pid in [before, during, without, after] {
        assert_eq!(outlet.syscalls(pid).len(), 100);
    }
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
fn what_the_agent_and_its_children_do_is_not_told() {
    let test = "what_the_agent_and_its_children_do_is_not_told";
    let options = Options {
        agent_pids: vec![std::process::id()],
        ..Options::default()
    };
    let Some(opened) = opened(test, &options) else {
        return;
    };
    let outlet = Recorder::default();
    let running = start(opened.sensor, &outlet);
    ready(&outlet);
    let pid = played("storm 10");
    // A child of a shell is not a child of the agent.
    let exe = std::env::current_exe().unwrap();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", "\"$0\" --exact child; :"])
        .arg(exe)
        .env("YINGLONG_SCENE", "memory_file");
    shell.stdout(std::process::Stdio::null()).status().unwrap();
    assert!(until(|| !outlet.books.lock().unwrap().committed.is_empty()));
    running.stop().1.unwrap();
    assert_eq!(outlet.syscalls(pid), []);
}
