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
    Collector {
        root: Root::at(root),
        web_roots: Box::new(|_| ()),
        failed: Vec::new(),
    }
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
    assert_eq!(kept.take().len(), 6, "every list once, empty ones too");
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
    let root = Root::host();
    for kind in InventoryType::ALL {
        let started = Instant::now();
        let list = collect(&root, kind).unwrap();
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
