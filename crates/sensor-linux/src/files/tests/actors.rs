//! Whether those who are gone before their change is read are named.

use std::{
    collections::HashMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    thread,
};

use yinglong_model::{DropReason, Observation, event::File, host::SensorStatus};
use yinglong_sensor::{Context, Error, Outlet};

use super::{Bench, Source};
use crate::{accounts::Accounts, process, tree::Tree};

/// Takes what the sensor of executions tells, which here only has to fill the tree.
struct Silent;

impl Outlet for Silent {
    fn emit(&mut self, _: Observation) {}

    fn lose(&mut self, _: DropReason, _: u64) {}

    fn filtered(&mut self, _: u64) {}

    fn mark(&mut self, _: &str, _: String) {}

    fn status(&mut self, _: SensorStatus) {}

    fn marked(&self, _: &str) -> Option<String> {
        None
    }

    fn commit(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// Runs the sensor of executions beside.
struct Executions {
    context: Context,
    thread: Option<thread::JoinHandle<()>>,
}

impl Executions {
    fn start(tree: Tree) -> Option<Self> {
        let options = process::Options {
            source: process::Source::Ebpf,
            ..process::Options::default()
        };
        let opened = process::open(tree, Accounts::default(), options);
        let mut sensor = match opened {
            Ok(opened) => opened.sensor,
            Err(error) => {
                eprintln!("SKIPPED executions by BPF: {error}");
                return None;
            }
        };
        let context = Context::default();
        let ours = context.clone();
        let thread = thread::spawn(move || sensor.run(&ours, &mut Silent).unwrap());
        Some(Self {
            context,
            thread: Some(thread),
        })
    }
}

impl Drop for Executions {
    fn drop(&mut self) {
        self.context.stop();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

const WRITERS: usize = 1_000;

/// Runs `WRITERS` shells with `script`, four at a time; answers their pids by number.
fn run(bench: &Bench, prefix: &str, script: &str, user: Option<&str>) -> HashMap<String, u32> {
    let command = |number: usize| {
        let mut command = match user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), "--clear-groups", "sh"]);
                command
            }
            None => Command::new("sh"),
        };
        let name = format!("{prefix}{number}");
        let mut writer = command
            .args(["-c", script, "sh", &name])
            .current_dir(bench.path("watched"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let pid = writer.id();
        assert!(writer.wait().unwrap().success());
        (name, pid)
    };
    thread::scope(|scope| {
        let quarters: Vec<_> = (0..4)
            .map(|quarter| {
                let command = &command;
                let numbers = (quarter..WRITERS).step_by(4);
                scope.spawn(move || numbers.map(command).collect::<Vec<_>>())
            })
            .collect();
        let done = quarters
            .into_iter()
            .flat_map(|thread| thread.join().unwrap());
        done.collect()
    })
}

/// Events of the writers with the right pid, name and user, and all of them.
fn share(bench: &Bench, pids: &HashMap<String, u32>, program: &str, user: &str) -> (usize, usize) {
    let prefix = format!("{}/", bench.told("watched"));
    let state = bench.recorder.get();
    let right = |file: &&File| {
        let name = file.path.strip_prefix(&prefix).unwrap_or_default();
        file.actor_pid == pids.get(name).copied()
            && file.actor_name.as_deref() == Some(program)
            && file.actor_user.as_deref() == Some(user)
    };
    let of_them = |file: &&File| {
        let name = file.path.strip_prefix(&prefix);
        name.is_some_and(|name| pids.contains_key(name))
    };
    let events: Vec<&File> = state.events.iter().filter(of_them).collect();
    let wrong: Vec<_> = events.iter().filter(|file| !right(file)).take(3).collect();
    if !wrong.is_empty() {
        eprintln!("for example {wrong:?}");
    }
    (
        events.iter().filter(|file| right(file)).count(),
        events.len(),
    )
}

#[test]
fn a_thousand_writers_that_end_at_once_are_all_named() {
    let Some(bench) = Bench::start(Source::Best, &["watched"]) else {
        return;
    };
    let Some(_executions) = Executions::start(bench.tree.clone()) else {
        return;
    };
    fs::create_dir(bench.path("watched")).unwrap();
    fs::set_permissions(bench.path("."), Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(bench.path("watched"), Permissions::from_mode(0o777)).unwrap();
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let shell = shell.to_str().unwrap();
    for (prefix, user) in [("r", "root"), ("n", "nobody")] {
        let other = (user != "root").then_some(user);
        let pids = run(&bench, prefix, "echo x >\"$1\"", other);
        bench.drain();
        let (right, all) = share(&bench, &pids, shell, user);
        eprintln!("{right} of {all} events with the right actor ({user})");
        assert!(all >= 2 * WRITERS);
        assert_eq!(right, all);
    }
    // Whoever becomes another program at once is told as it was.
    let pids = run(&bench, "e", "echo x >\"$1\"; exec env true", None);
    bench.drain();
    let (right, all) = share(&bench, &pids, shell, "root");
    let ((_, cpu), _) = bench.stop();
    eprintln!("{right} of {all} events of writers that became another program, cpu {cpu:?} us");
    assert!(all >= 2 * WRITERS);
    assert_eq!(right, all);
}
