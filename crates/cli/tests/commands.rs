//! The program as people run it: a server process, and commands that talk to it.

#![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

const YINGLONG: &str = env!("CARGO_BIN_EXE_yinglong");
/// Longest wait for a server to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

struct Running {
    child: Child,
    dir: TempDir,
}

impl Running {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let child = server(&dir.path().join("data"));
        let mut running = Self { child, dir };
        let deadline = Instant::now() + PATIENCE;
        while !running.data().join("run.json").exists() {
            assert!(
                running.child.try_wait().unwrap().is_none(),
                "the server ended"
            );
            assert!(Instant::now() < deadline, "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    fn data(&self) -> std::path::PathBuf {
        self.dir.path().join("data")
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(YINGLONG)
            .args(words)
            .env("YINGLONG_DATA", self.data())
            .output()
            .unwrap()
    }

    fn succeed(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{words:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn fail(&self, words: &[&str]) -> String {
        let output = self.run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn terminate(&mut self) -> bool {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn server(data: &Path) -> Child {
    Command::new(YINGLONG)
        .args([
            "server",
            "--listen-agents",
            "127.0.0.1:0",
            "--listen-console",
            "127.0.0.1:0",
        ])
        .env("YINGLONG_DATA", data)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_server_is_set_up_asked_changed_and_stopped() {
    let mut running = Running::start();
    let password = running.dir.path().join("password");
    std::fs::write(&password, "correct horse battery\n").unwrap();
    let file = password.to_str().unwrap();
    assert!(
        running
            .succeed(&["status"])
            .contains("no administrator yet")
    );
    running.succeed(&["setup", "--user", "root", "--password-file", file]);
    let again = running.fail(&["setup", "--user", "root", "--password-file", file]);
    assert!(again.contains("administrator already"), "{again}");

    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules/linux");
    let hunted = running.run(&["hunt", rules, "--since", "1h"]);
    assert!(hunted.status.success());
    let said = String::from_utf8_lossy(&hunted.stderr);
    assert!(said.ends_with("0 events looked at, 0 matches\n"), "{said}");

    let status: Value = serde_json::from_str(&running.succeed(&["status", "--json"])).unwrap();
    assert_eq!(status["hosts"]["total"], 0);
    for words in [
        &["alerts", "--status", "open", "--since", "1h"][..],
        &["search", "type:process | name:bash"],
        &["search", "type:userlist | name:root"],
        &["search", "type:process | count:<3"],
        &["hosts"],
        &["ledger"],
        &["audit"],
        &["token", "list"],
        &["rules", "list"],
        &["config", "get", "client"],
    ] {
        running.succeed(words);
    }
    assert_eq!(
        running.succeed(&["config", "set", "client.cycle=5"]),
        "client.cycle = 5\n"
    );
    let refused = running.fail(&["config", "set", "client.cycle=0"]);
    assert!(refused.starts_with("yinglong: client.cycle: "), "{refused}");
    let token = running.succeed(&["token", "new", "--ttl", "60"]);
    assert!(
        token.starts_with("yl1.") && token.lines().count() == 1,
        "{token}"
    );
    assert!(
        running
            .succeed(&["metrics"])
            .contains("yinglong_store_events 0")
    );
    let misspelt = running.fail(&["search", "type:process | comand:x"]);
    assert!(misspelt.contains("did you mean `command`?"), "{misspelt}");
    assert!(
        running
            .fail(&["host", "revoke", "nobody"])
            .contains("there is no host `nobody`")
    );

    let second = server(&running.data()).wait_with_output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let reason = String::from_utf8_lossy(&second.stderr);
    assert!(reason.contains("in use by process"), "{reason}");

    assert!(running.terminate(), "it ends cleanly");
    assert!(!running.data().join("run.json").exists());
    let gone = running.fail(&["status"]);
    assert!(gone.contains("no server runs on"), "{gone}");
    assert_eq!(gone.lines().count(), 1, "{gone}");
}

#[test]
fn feeds_are_imported_asked_and_removed_and_survive_a_restart() {
    let mut running = Running::start();
    let file = running.dir.path().join("feed.txt");
    std::fs::write(&file, "8.8.4.4 # loader\n8.8.8.0/24\nnot an indicator\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    let said = running.succeed(&["intel", "import", &file, "--name", "c2", "--expires", "30"]);
    assert_eq!(
        said,
        "2 indicators of feed c2 (plain) in force, 1 entries refused\n"
    );
    assert!(running.succeed(&["intel", "list"]).contains("c2"));
    let found = running.succeed(&["intel", "lookup", "8.8.4.4"]);
    assert!(found.contains("c2") && found.contains("loader"), "{found}");
    let unknown = running.fail(&["intel", "lookup", "9.9.9.9"]);
    assert!(unknown.contains("no feed knows ip `9.9.9.9`"), "{unknown}");
    let refused = running.fail(&["intel", "import", &file, "--name", "c2", "--format", "misp"]);
    assert!(refused.contains("the feed cannot be used"), "{refused}");

    assert!(running.terminate(), "it ends cleanly");
    running.child = server(&running.data());
    let deadline = Instant::now() + PATIENCE;
    while !running.data().join("run.json").exists() {
        assert!(Instant::now() < deadline, "the server does not start again");
        std::thread::sleep(Duration::from_millis(20));
    }
    let found = running.succeed(&["intel", "lookup", "8.8.8.8", "--json"]);
    let found: Value = serde_json::from_str(&found).unwrap();
    assert_eq!(found["hits"][0]["indicator"], "8.8.8.0/24");
    assert_eq!(running.succeed(&["intel", "remove", "c2"]), "");
    running.fail(&["intel", "lookup", "8.8.8.8"]);
    let again = running.fail(&["intel", "remove", "c2"]);
    assert!(
        again.contains("there is no feed `c2`; list the feeds"),
        "{again}"
    );
}

#[test]
fn rules_are_checked_without_a_server() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("rules.json");
    let rule = |field: &str| {
        format!(
            r#"[{{"enabled":true,"and":true,"source":"process","system":"all",
            "meta":{{"name":"Probe","author":"","description":"","level":1}},
            "rules":{{"{field}":{{"type":"regex","data":"probe"}}}}}}]"#
        )
    };
    let check = || {
        Command::new(YINGLONG)
            .args(["rules", "check"])
            .arg(&file)
            .output()
            .unwrap()
    };
    std::fs::write(&file, rule("command")).unwrap();
    assert!(check().status.success());
    std::fs::write(&file, rule("comand")).unwrap();
    let output = check();
    assert_eq!(output.status.code(), Some(1));
    let reasons = String::from_utf8_lossy(&output.stderr);
    assert!(reasons.contains("did you mean `command`?"), "{reasons}");
}

#[test]
fn a_server_elsewhere_is_only_believed_with_its_own_certificate() {
    let running = Running::start();
    let other = Running::start();
    let run: Value =
        serde_json::from_slice(&std::fs::read(running.data().join("run.json")).unwrap()).unwrap();
    let url = format!("https://{}", run["console"].as_str().unwrap());
    let token = running.data().join("admin.token");
    let status = |ca: &Path| {
        Command::new(YINGLONG)
            .args(["status", "--url", &url, "--ca"])
            .arg(ca)
            .arg("--token-file")
            .arg(&token)
            .output()
            .unwrap()
    };
    assert!(status(&running.data().join("ca.pem")).status.success());
    let refused = status(&other.data().join("ca.pem"));
    assert_eq!(refused.status.code(), Some(1));
    let reason = String::from_utf8_lossy(&refused.stderr);
    assert!(reason.contains("does not answer"), "{reason}");
}
