use std::{
    collections::HashMap,
    fs,
    sync::{Arc, Mutex, mpsc},
};

use yinglong_model::{DropReason, config::AgentConfig};

use super::*;
use crate::inventory::fixture;

/// Keeps what is committed, and the marks of every commit.
#[derive(Default, Clone)]
struct Kept(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    lists: Vec<Inventory>,
    marks: HashMap<String, String>,
    commits: u32,
}

impl Outlet for Kept {
    fn emit(&mut self, observation: Observation) {
        if let Observation::Inventory(inventory) = observation {
            self.0.lock().unwrap().lists.push(inventory);
        }
    }

    fn lose(&mut self, _: DropReason, _: u64) {}

    fn filtered(&mut self, _: u64) {}

    fn mark(&mut self, name: &str, value: String) {
        self.0.lock().unwrap().marks.insert(name.to_owned(), value);
    }

    fn marked(&self, name: &str) -> Option<String> {
        self.0.lock().unwrap().marks.get(name).cloned()
    }

    fn commit(&mut self) -> Result<(), yinglong_sensor::Error> {
        self.0.lock().unwrap().commits += 1;
        Ok(())
    }
}

impl Kept {
    fn take(&self) -> Vec<Inventory> {
        std::mem::take(&mut self.0.lock().unwrap().lists)
    }

    fn commits(&self) -> u32 {
        self.0.lock().unwrap().commits
    }
}

fn collector(root: &std::path::Path) -> Collector {
    Collector::new(Root::at(root), Box::new(|_| ()))
}

#[test]
fn a_list_is_sent_when_it_changed_also_across_a_restart_a16() {
    let dir = fixture(&[
        ("etc/passwd", "root:x:0:0::/root:/bin/sh\n"),
        ("etc/crontab", "@daily root x\n"),
    ]);
    let mut kept = Kept::default();
    let mut first = collector(dir.path());
    first.cycle(&mut kept).unwrap();
    assert_eq!(
        kept.take().len(),
        InventoryType::ALL.len(),
        "every list once, empty ones too"
    );
    first.cycle(&mut kept).unwrap();
    collector(dir.path()).cycle(&mut kept).unwrap();
    assert!(kept.take().is_empty());

    fs::write(dir.path().join("etc/crontab"), "").unwrap();
    first.cycle(&mut kept).unwrap();
    let sent = kept.take();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].kind, InventoryType::Crontab);
    assert!(sent[0].data.is_empty(), "an emptied list is sent as empty");
}

#[test]
fn a_collector_that_fails_leaves_the_others_working_a17() {
    let dir = fixture(&[("etc/crontab", "@daily root x\n")]);
    std::os::unix::fs::symlink("passwd", dir.path().join("etc/passwd")).unwrap();
    let mut kept = Kept::default();
    let mut collector = collector(dir.path());
    collector.cycle(&mut kept).unwrap();
    let kinds: Vec<_> = kept.take().into_iter().map(|list| list.kind).collect();
    assert!(!kinds.contains(&InventoryType::Userlist));
    assert!(kinds.contains(&InventoryType::Listening));
    assert!(collector.status().reason.contains("userlist"));
}

#[test]
fn a_new_configuration_takes_effect_at_once_and_a_stop_ends_it() {
    let dir = fixture(&[]);
    let context = Context::default();
    let kept = Kept::default();
    let (sender, roots) = mpsc::channel();
    let mut sensor = open(Options {
        root: dir.path().to_owned(),
        web_roots: Box::new(move |roots| sender.send(roots).unwrap()),
    })
    .unwrap();
    let worker = std::thread::spawn({
        let (context, mut kept) = (context.clone(), kept.clone());
        move || sensor.run(&context, &mut kept)
    });
    let patience = Duration::from_secs(20);
    roots.recv_timeout(patience).unwrap();
    assert_eq!(kept.commits(), 1);
    context.set_config(AgentConfig {
        revision: 1,
        ..AgentConfig::default()
    });
    roots.recv_timeout(patience).unwrap();
    assert_eq!(kept.commits(), 2);
    context.stop();
    worker.join().unwrap().unwrap();
}

#[test]
fn the_lists_of_this_very_host_can_be_collected() {
    let mut collector = collector(std::path::Path::new("/"));
    for kind in InventoryType::ALL {
        let started = Instant::now();
        let list = collector.collect(kind).unwrap().unwrap().elements;
        eprintln!(
            "{}: {} in {:?}",
            kind.as_str(),
            list.len(),
            started.elapsed()
        );
        for element in &list {
            for name in element.keys() {
                assert!(
                    kind.field_names().contains(&name.as_str()),
                    "{kind:?} {name}"
                );
            }
        }
    }
}

#[test]
fn a_list_that_is_too_long_for_a_record_is_shortened_and_says_so_a16() {
    let long = "x".repeat(1 << 20);
    let jobs: String = (0..120)
        .map(|n| format!("{n} 1 * * * root {n} {}\n", &long[..30_000]))
        .collect();
    let dir = fixture(&[("etc/crontab", &jobs)]);
    let mut kept = Kept::default();
    let mut collector = collector(dir.path());
    collector.cycle(&mut kept).unwrap();
    let lists = kept.take();
    let sent = lists
        .iter()
        .find(|list| list.kind == InventoryType::Crontab)
        .unwrap();
    assert!(sent.data.len() > 50 && sent.data.len() < 120);
    let reason = collector.status().reason;
    let missing = format!("crontab: {} elements are left out", 120 - sent.data.len());
    assert!(
        reason.contains(&missing) || reason.contains("only the start"),
        "{reason}"
    );
}

#[test]
fn packages_are_collected_again_only_when_a_database_changed_a16() {
    let dir = fixture(&[("var/lib/dpkg/status", "Package: a\n")]);
    let mut collector = collector(dir.path());
    let mut collect = || collector.collect(InventoryType::Package).unwrap();
    assert_eq!(collect().unwrap().elements.len(), 1);
    assert!(collect().is_none());
    fs::write(
        dir.path().join("var/lib/dpkg/status"),
        "Package: a\n\nPackage: b\n",
    )
    .unwrap();
    assert_eq!(collect().unwrap().elements.len(), 2);
}
