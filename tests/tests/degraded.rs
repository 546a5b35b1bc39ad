//! Hosts that lack something: what still works, and what they say about the rest.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to panic")]

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use nix::unistd::geteuid;
use serde_json::Value;
use yinglong_e2e::{Installation, binary, eventually, succeed};

/// A second agent on this machine, started through another program that takes something away.
struct Second {
    child: Child,
    state: PathBuf,
}

impl Second {
    fn start(here: &Installation, name: &str, through: &[&str]) -> Self {
        let state = here.data().join(name);
        let token = here.yinglong(&["token", "new"]).unwrap();
        let run = std::fs::read(here.data().join("run.json")).unwrap();
        let run: Value = serde_json::from_slice(&run).unwrap();
        let port = run["agents"]
            .as_str()
            .unwrap()
            .rsplit(':')
            .next()
            .unwrap()
            .to_owned();
        let server = format!("127.0.0.1:{port}");
        let mut enrol = Command::new(binary("yinglong-agent"));
        enrol
            .args(["enrol", "--server", &server, "--state"])
            .arg(&state);
        succeed(enrol.env("YINGLONG_TOKEN", token.trim())).unwrap();
        let mut command = Command::new(through[0]);
        command.args(&through[1..]).arg(binary("yinglong-agent"));
        command
            .args(["run", "--server", &server, "--state"])
            .arg(&state);
        let log = std::fs::File::create(here.data().join(format!("{name}.log"))).unwrap();
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Self {
            child: command.spawn().unwrap(),
            state,
        }
    }

    fn sensor(&self, stream: &str) -> anyhow::Result<Value> {
        let mut status = Command::new(binary("yinglong-agent"));
        status
            .args(["status", "--json", "--state"])
            .arg(&self.state);
        // Its own status says whether something is amiss, which is what is tested here.
        let output = status.output()?;
        let status: Value = serde_json::from_slice(&output.stdout)?;
        let sensors = status["report"]["sensors"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(sensors
            .into_iter()
            .find(|s| s["stream"] == stream)
            .unwrap_or_default())
    }

    fn agent_id(&self) -> anyhow::Result<String> {
        let text = std::fs::read(self.state.join("status.json"))?;
        let status: Value = serde_json::from_slice(&text)?;
        Ok(status["agent_id"].as_str().unwrap_or_default().to_owned())
    }
}

impl Drop for Second {
    fn drop(&mut self) {
        // The test is over: how it ends does not matter.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn d02_without_type_information_the_fallback_observes_and_says_why() {
    if !geteuid().is_root() {
        eprintln!(
            "SKIPPED d02_without_type_information_the_fallback_observes_and_says_why: needs root"
        );
        return;
    }
    let here = Installation::start().unwrap();
    // A mount namespace of its own, in which the kernel's type information is covered.
    let cover = "mount -t tmpfs none /sys/kernel/btf && exec \"$0\" \"$@\"";
    let second = Second::start(&here, "no-btf", &["unshare", "--mount", "sh", "-c", cover]);
    eventually(30, "the fallback runs", || {
        let sensor = second.sensor("process")?;
        // The next rung that this kernel has (docs/kernels.md).
        let lesser = ["audit", "proc-connector"].contains(&sensor["source"].as_str().unwrap_or(""));
        Ok(sensor["running"] == true && lesser)
    })
    .unwrap();
    let reason = second.sensor("process").unwrap()["reason"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(reason.contains("/sys/kernel/btf/vmlinux"), "{reason}");

    let mark = format!("ylnobtf{}", std::process::id());
    let agent = second.agent_id().unwrap();
    let query = format!("type:process | agent_id:{agent} | command:{mark}");
    eventually(30, "an execution is seen by the fallback", || {
        // Long enough to be looked up in /proc, which is all some fallbacks can do.
        let script = format!(": {mark}; sleep 0.2");
        succeed(Command::new("sh").args(["-c", &script]))?;
        Ok(!here.json(&["search", &query])?.is_empty())
    })
    .unwrap();
}

#[test]
fn an_agent_without_capabilities_says_what_is_missing_and_still_reports() {
    if !geteuid().is_root() {
        eprintln!(
            "SKIPPED an_agent_without_capabilities_says_what_is_missing_and_still_reports: needs root"
        );
        return;
    }
    let here = Installation::start().unwrap();
    let nothing = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"];
    let second = Second::start(&here, "no-capabilities", &nothing);
    // Fallbacks where there are some; all of them name what would be better.
    let expected = [
        ("process", "proc-connector", "CAP_BPF"),
        ("file", "inotify", "CAP_SYS_ADMIN"),
        ("connection", "none", "needs root"),
    ];
    for (stream, source, remedy) in expected {
        eventually(
            30,
            stream,
            || Ok(second.sensor(stream)?["source"] == source),
        )
        .unwrap();
        let sensor = second.sensor(stream).unwrap();
        assert_eq!(sensor["running"], source != "none", "{sensor}");
        assert!(
            sensor["reason"].as_str().unwrap().contains(remedy),
            "{sensor}"
        );
    }
    let agent = second.agent_id().unwrap();
    eventually(30, "its host is known with its inventories", || {
        let hosts = here.json(&["hosts"])?;
        Ok(hosts
            .iter()
            .any(|host| host["agent_id"] == agent.as_str() && host["health"] == 0))
    })
    .unwrap();
}
