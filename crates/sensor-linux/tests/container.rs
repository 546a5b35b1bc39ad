//! Containers that end at once: their control group is gone before anybody asks for it.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test"
)]

#[allow(dead_code, reason = "shared by the tests of several sensors")]
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use self::support::{
    Recorder,
    processes::{marker, opened, options},
    start,
};

const CONTAINERS: usize = 50;

/// Where hierarchies are mounted: version 2, and that of pids where it is version 1.
fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let wanted = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let [_, place, kind, options, ..] = words[..] else {
            return None;
        };
        let pids = kind == "cgroup" && options.split(',').any(|option| option == "pids");
        (kind == "cgroup2" || pids).then(|| PathBuf::from(place))
    };
    mounts.lines().filter_map(wanted).collect()
}

/// What a container engine does, with a program that does nothing.
fn short(root: &Path, id: &str, marker: &str) {
    let group = root.join(id);
    fs::create_dir(&group).unwrap();
    let script = r#"echo $$ >"$0/cgroup.procs" && exec /bin/true "$@""#;
    let status = Command::new("sh")
        .args(["-c", script])
        .arg(&group)
        .args([marker, id])
        .status()
        .unwrap();
    assert!(status.success());
    fs::remove_dir(&group).unwrap();
}

#[test]
fn an_execution_in_a_container_that_ends_at_once_names_it() {
    let test = "an_execution_in_a_container_that_ends_at_once_names_it";
    let roots = hierarchies();
    if roots.is_empty() {
        eprintln!("SKIPPED {test}: no control groups");
        return;
    }
    for (number, root) in roots.iter().enumerate() {
        let Some(opened) = opened(test, options()) else {
            return;
        };
        let (outlet, marker) = (Recorder::default(), marker(&format!("container{number}")));
        let running = start(opened.sensor, &outlet);
        let id = |index: usize| format!("{:056x}{index:08x}", std::process::id());
        for index in 0..CONTAINERS {
            short(root, &id(index), &marker);
        }
        let seen = outlet.wait(&format!("/bin/true {marker}"), CONTAINERS);
        running.stop().1.unwrap();
        let mut named: Vec<_> = seen
            .iter()
            .filter(|process| process.name.ends_with("/true"))
            .map(|process| process.container_id.clone().unwrap_or_default())
            .collect();
        named.sort_unstable();
        let expected: Vec<_> = (0..CONTAINERS).map(id).collect();
        assert_eq!(named, expected, "{}", root.display());
    }
}
