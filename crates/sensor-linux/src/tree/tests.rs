use proptest::prelude::*;

use super::*;

fn key(pid: u32, start_boottime_ns: u64) -> ProcessKey {
    ProcessKey {
        pid,
        start_boottime_ns,
    }
}

fn entry(pid: u32, start: u64, parent: ProcessKey, name: &str) -> Entry {
    Entry {
        key: key(pid, start),
        ppid: parent.pid,
        name: name.into(),
        command: format!("{name} --run"),
        uid: 0,
        parent,
    }
}

/// init (1) - sshd (10) - bash (20)
fn tree() -> Tree {
    let tree = Tree::default();
    tree.executed(entry(1, 5, key(0, 0), "/sbin/init"));
    tree.executed(entry(10, 100, key(1, 5), "/usr/sbin/sshd"));
    tree.executed(entry(20, 200, key(10, 100), "/bin/bash"));
    tree
}

#[test]
fn an_execution_knows_where_it_comes_from() {
    let from = tree().executed(entry(30, 300, key(20, 200), "/bin/id"));
    assert_eq!(from.parent_name, "bash");
    assert_eq!(from.parent_command.as_deref(), Some("/bin/bash --run"));
    assert_eq!(
        from.ancestors,
        ["/bin/bash", "/usr/sbin/sshd", "/sbin/init"]
    );
}

#[test]
fn a_parent_that_only_forked_has_the_image_of_its_own_parent() {
    let tree = tree();
    tree.forked(key(25, 250), key(20, 200), 7);
    let from = tree.executed(entry(30, 300, key(25, 250), "/bin/id"));
    assert_eq!(from.parent_name, "bash");
    assert_eq!(from.ancestors.len(), 4);
    assert_eq!(tree.find(25).unwrap().uid, 7);
}

#[test]
fn a_reused_pid_is_not_taken_for_the_parent() {
    let tree = tree();
    tree.executed(entry(20, 900, key(1, 5), "/bin/other"));
    let from = tree.executed(entry(30, 950, key(20, 200), "/bin/id"));
    assert_eq!(from, Ancestry::default());
}

#[test]
fn late_reports_change_nothing() {
    let tree = tree();
    tree.executed(entry(20, 900, key(1, 5), "/bin/newer"));
    tree.executed(entry(20, 200, key(10, 100), "/bin/older"));
    tree.forked(key(20, 200), key(10, 100), 0);
    tree.exited(key(20, 200), 1000);
    let found = tree.find(20).unwrap();
    assert_eq!((found.name.as_str(), found.ppid), ("/bin/newer", 1));
}

#[test]
fn an_ended_process_is_remembered_for_a_minute() {
    let tree = tree();
    let pid = u32::MAX - 1;
    tree.executed(entry(pid, 300, key(20, 200), "/bin/id"));
    tree.exited(key(pid, 300), 1_000);
    tree.exited(key(0, 0), 1_000 + ENDED_KEPT_NS);
    assert_eq!(tree.find(pid).unwrap().name, "/bin/id");
    tree.exited(key(0, 0), 1_001 + ENDED_KEPT_NS);
    assert_eq!(tree.find(pid), None);
}

#[test]
fn start_times_of_proc_match_those_of_the_kernel() {
    let tree = Tree::default();
    tree.table()
        .found(entry(20, 2 * TICK_NS, key(0, 0), "/bin/bash"));
    let parent = key(20, 2 * TICK_NS + 1234);
    let from = tree.executed(entry(30, 3 * TICK_NS, parent, "/bin/id"));
    assert_eq!(from.parent_name, "bash");
    tree.exited(parent, 0);
    assert!(tree.table().nodes[&20].ended);
    assert!(!same(key(1, TICK_NS + 1), key(1, TICK_NS + 2)));
}

#[test]
fn a_process_that_was_given_to_another_parent_keeps_its_ancestors() {
    let tree = tree();
    tree.executed(entry(30, 300, key(20, 200), "/bin/sh"));
    let from = tree.executed(entry(30, 300, key(1, 5), "/bin/daemon"));
    assert_eq!(from.parent_name, "init");
    let above = ["/bin/bash", "/usr/sbin/sshd", "/sbin/init"];
    assert_eq!(from.ancestors[0], "/sbin/init");
    assert_eq!(from.ancestors[1..], above);
    let from = tree.executed(entry(40, 400, key(30, 300), "/bin/id"));
    assert_eq!(from.ancestors[0], "/bin/daemon");
    assert_eq!(from.ancestors[1..], above);
}

/// What daemon(3) does, and what who wants to hide from the tree does.
#[test]
fn a_daemon_is_known_by_who_started_it_long_after_those_ended() {
    let tree = tree();
    tree.executed(entry(30, 300, key(20, 200), "/bin/launcher"));
    tree.forked(key(31, 310), key(30, 300), 0);
    tree.forked(key(32, 320), key(31, 310), 0);
    tree.exited(key(31, 310), 330);
    tree.exited(key(30, 300), 340);
    let from = tree.executed(entry(32, 320, key(1, 5), "/bin/daemon"));
    let above = [
        "/bin/launcher",
        "/bin/launcher",
        "/bin/bash",
        "/usr/sbin/sshd",
        "/sbin/init",
    ];
    assert_eq!(from.parent_name, "init");
    assert_eq!(from.ancestors[1..], above);
    // The table forgets them, and who started those.
    for (pid, start) in [(20, 200), (10, 100)] {
        tree.exited(key(pid, start), 350);
    }
    tree.exited(key(0, 0), 400 + 2 * ENDED_KEPT_NS);
    assert!(tree.table().find(31).is_none() && tree.table().find(10).is_none());
    let from = tree.executed(entry(40, 1 << 50, key(32, 320), "/bin/id"));
    assert_eq!(from.ancestors[0], "/bin/daemon");
    assert_eq!(from.ancestors[1..], above);
}

#[test]
fn a_parent_that_executes_something_else_is_told_as_it_is_now() {
    let tree = tree();
    tree.forked(key(30, 300), key(20, 200), 0);
    tree.executed(entry(20, 200, key(10, 100), "/bin/other"));
    let from = tree.executed(entry(30, 300, key(20, 200), "/bin/id"));
    assert_eq!(from.parent_name, "other");
    assert_eq!(
        from.ancestors,
        ["/bin/other", "/usr/sbin/sshd", "/sbin/init"]
    );
}

#[test]
fn a_start_that_is_reported_after_the_execution_still_tells_who_started_it() {
    let tree = tree();
    // Given to init before its execution was reported, and the report of its start comes last.
    tree.executed(entry(30, 300, key(1, 5), "/bin/daemon"));
    tree.forked(key(30, 300), key(20, 200), 0);
    let found = tree.find(30).unwrap();
    assert_eq!((found.name.as_str(), found.ppid), ("/bin/daemon", 20));
    let from = tree.executed(entry(40, 400, key(30, 300), "/bin/id"));
    assert_eq!(
        from.ancestors,
        ["/bin/daemon", "/bin/bash", "/usr/sbin/sshd", "/sbin/init"]
    );
}

#[test]
fn a_deep_chain_is_told_up_to_the_limit_and_costs_no_more() {
    let tree = tree();
    for pid in 100..10_000u32 {
        let parent = if pid == 100 {
            key(20, 200)
        } else {
            key(pid - 1, u64::from(pid) - 1)
        };
        tree.forked(key(pid, pid.into()), parent, 0);
        let from = tree.executed(entry(pid, pid.into(), parent, &format!("/bin/{pid}")));
        assert!(from.ancestors.len() <= ANCESTORS_MAX);
    }
    let from = tree.executed(entry(10_000, 10_000, key(9_999, 9_999), "/bin/id"));
    let expected: Vec<String> = (0..16).map(|n| format!("/bin/{}", 9_999 - n)).collect();
    assert_eq!(from.ancestors, expected);
    assert!(tree.table().nodes.values().all(|node| {
        let length = |list: &Option<Arc<[Arc<str>]>>| list.as_ref().map_or(0, |list| list.len());
        length(&node.above) <= ANCESTORS_MAX && length(&node.below) <= ANCESTORS_MAX
    }));
}

#[test]
fn long_command_lines_are_cut_for_the_children_only_at_a_character() {
    let tree = Tree::default();
    let mut long = entry(20, 200, key(0, 0), "/bin/sh");
    long.command = format!("x{}", "龙".repeat(1000));
    tree.executed(long);
    let command = &tree.find(20).unwrap().command;
    assert!(command.len() <= COMMAND_MAX && command.len() > COMMAND_MAX - 3);
}

#[test]
fn stays_bounded_in_a_storm() {
    let tree = tree();
    for pid in 100..60_000 {
        let key = key(pid, u64::from(pid));
        tree.forked(key, self::key(20, 200), 0);
        tree.exited(key, u64::from(pid));
    }
    let table = tree.table();
    assert!(table.nodes.len() <= ENDED_MAX + 3 && table.ended.len() <= ENDED_MAX);
    drop(table);
    for pid in 100..100_000 {
        tree.forked(key(pid, u64::from(pid) + 1_000_000), key(20, 200), 0);
    }
    assert!(tree.table().nodes.len() <= RUNNING_MAX + ENDED_MAX);
}

#[test]
fn a_scan_learns_who_runs_and_who_does_not() {
    let tree = Tree::default();
    let gone = u32::MAX - 1;
    tree.executed(entry(gone, 1, key(0, 0), "/bin/lost"));
    tree.scan(1_000);
    let table = tree.table();
    assert!(table.nodes[&gone].ended);
    assert!(!table.nodes[&std::process::id()].ended);
}

/// Processes as a kernel would start, replace and end them, beside what the tree says of them.
#[derive(Debug, Clone)]
struct Model {
    key: ProcessKey,
    image: String,
    /// Images of those that started it, nearest first, as they were then.
    above: Vec<String>,
    starter: usize,
    parent: usize,
    runs: bool,
}

proptest! {
    /// Pids are reused, orphans are given to init, and whatever happens in between the reports, each
    /// execution is told with its present parent and with who really started it.
    #[test]
    fn ancestors_are_those_of_a_kernel(
        steps in proptest::collection::vec((0u8..4, any::<prop::sample::Index>()), 1..150)
    ) {
        let tree = Tree::default();
        let init = Model {
            key: key(1, 1),
            image: "/sbin/init".into(),
            above: Vec::new(),
            starter: 0,
            parent: 0,
            runs: true,
        };
        tree.executed(entry(1, 1, key(0, 0), "/sbin/init"));
        let mut all = vec![init];
        for (now, (step, which)) in (2u64..).zip(steps) {
            let running: Vec<usize> = (0..all.len()).filter(|i| all[*i].runs).collect();
            let chosen = running[which.index(running.len())];
            match step {
                // The smallest free pid: reused as soon as possible.
                0 | 1 => {
                    let taken = |pid| all.iter().any(|p| p.runs && p.key.pid == pid);
                    let pid = (2..).find(|pid| !taken(*pid)).unwrap();
                    let mut above = vec![all[chosen].image.clone()];
                    above.extend(all[chosen].above.iter().cloned());
                    above.truncate(ANCESTORS_MAX);
                    let child = Model {
                        key: key(pid, now),
                        image: all[chosen].image.clone(),
                        above,
                        starter: chosen,
                        parent: chosen,
                        runs: true,
                    };
                    tree.forked(child.key, all[chosen].key, 0);
                    all.push(child);
                }
                2 if chosen != 0 => {
                    let image = format!("/bin/{now}");
                    let (me, parent) = (all[chosen].clone(), all[all[chosen].parent].clone());
                    let from = tree.executed(entry(
                        me.key.pid,
                        me.key.start_boottime_ns,
                        parent.key,
                        &image,
                    ));
                    let rest = if me.parent == me.starter { &me.above[1..] } else { &me.above[..] };
                    let mut expected = vec![parent.image];
                    expected.extend(rest.iter().cloned());
                    expected.truncate(ANCESTORS_MAX);
                    prop_assert_eq!(from.ancestors, expected);
                    all[chosen].image = image;
                }
                3 if chosen != 0 => {
                    tree.exited(all[chosen].key, now);
                    all[chosen].runs = false;
                    for process in &mut all {
                        if process.parent == chosen {
                            process.parent = 0;
                        }
                    }
                }
                _ => {}
            }
        }
    }

    #[test]
    fn any_order_of_reports_leaves_a_bounded_table_without_loops(
        reports in proptest::collection::vec((0u8..3, 0u32..6, 0u64..4, 0u32..6, 0u64..4), 0..200)
    ) {
        let tree = Tree::default();
        for (kind, pid, start, ppid, parent_start) in reports {
            let (key, parent) = (key(pid, start), key(ppid, parent_start));
            match kind {
                0 => tree.forked(key, parent, 0),
                1 => {
                    let from = tree.executed(entry(pid, start, parent, "/x"));
                    prop_assert!(from.ancestors.len() <= ANCESTORS_MAX);
                }
                _ => tree.exited(key, start),
            }
        }
        let table = tree.table();
        prop_assert!(table.nodes.iter().all(|(pid, node)| *pid == node.entry.key.pid));
        prop_assert!(table.nodes.len() <= 6);
    }
}
