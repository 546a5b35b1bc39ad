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
    // Neither does the fork of a process whose execution is known already.
    tree.forked(key(20, 900), key(10, 100), 0);
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
fn a_change_of_parents_is_taken_from_the_latest_execution() {
    let tree = tree();
    tree.executed(entry(30, 300, key(20, 200), "/bin/sh"));
    tree.executed(entry(30, 300, key(1, 5), "/bin/daemon"));
    let from = tree.executed(entry(40, 400, key(30, 300), "/bin/id"));
    assert_eq!(from.ancestors, ["/bin/daemon", "/sbin/init"]);
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

proptest! {
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
