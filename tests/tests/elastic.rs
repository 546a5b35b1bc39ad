//! A server whose events are in a cluster: the cluster stands still, the server is killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to panic")]

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use yinglong_e2e::{Installation, binary, eventually, root, storm, succeed};

/// A real node of OpenSearch; it ends when its standard input does.
struct Node {
    script: Child,
    url: String,
}

impl Node {
    /// `None`, said aloud, where this machine has no Java.
    fn start(test: &str) -> Option<Self> {
        let mut script = Command::new(root().join("script/opensearch"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(script.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        if url.is_empty() {
            assert_eq!(script.wait().unwrap().code(), Some(3), "no node started");
            eprintln!("SKIPPED {test}: OpenSearch needs Java and Maven");
            return None;
        }
        let url = url.trim().to_owned();
        Some(Self { script, url })
    }

    fn signal(&self, signal: Signal) {
        let script = self.script.id();
        let children = fs::read_to_string(format!("/proc/{script}/task/{script}/children"));
        let java = children
            .unwrap()
            .split_whitespace()
            .find(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap() == "java\n")
            .unwrap()
            .parse()
            .unwrap();
        kill(Pid::from_raw(java), signal).unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

#[test]
fn events_in_a_cluster_outlive_its_silence_and_the_servers_death() {
    const TEST: &str = "events_in_a_cluster_outlive_its_silence_and_the_servers_death";
    if !geteuid().is_root() {
        eprintln!("SKIPPED {TEST}: observing the kernel needs root");
        return;
    }
    let Some(node) = Node::start(TEST) else {
        return;
    };
    let store = format!("elastic={}", node.url);
    let here = Installation::start_with(&[("YINGLONG_STORE", &store)]).unwrap();
    here.observe("ready").unwrap();
    storm("before", 0..30).unwrap();
    eventually(30, "events are in the cluster", || {
        Ok(here.stored("before")? == 30)
    })
    .unwrap();

    // Without an answer of the cluster the log takes them.
    node.signal(Signal::SIGSTOP);
    storm("silence", 0..30).unwrap();
    let server = here.pid("server").unwrap();
    kill(Pid::from_raw(server), Signal::SIGKILL).unwrap();
    node.signal(Signal::SIGCONT);
    here.stop().unwrap();
    here.resume().unwrap();
    eventually(60, "events of the silence are in the cluster", || {
        Ok(here.stored("silence")? == 30)
    })
    .unwrap();
    assert_eq!(here.stored("before").unwrap(), 30, "none twice");

    let mut check = Command::new(binary("yinglong"));
    let said = succeed(check.args(["store", "check", "--store", &store])).unwrap();
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("OpenSearch 2.19.1"), "{said}");
    assert!(said.contains("refused       none"), "{said}");
}
