//! auditd beside the agent: one rule for the storm, taken away again afterwards.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};

use super::{
    machine,
    report::Run,
    seen::Seen,
    storm::{Kind, Order},
};

/// Records the kernel may keep for auditd, as its manual advises for busy systems.
const BACKLOG: &str = "8192";
/// Time auditd has to start, and to write down what is left.
const SETTLE: Duration = Duration::from_secs(2);

/// A rule in force, and what was before.
pub(super) struct Audit {
    key: String,
    rule: Vec<String>,
    enabled: String,
    backlog: String,
    lost_before: u64,
    daemon: Option<Child>,
    pid: Option<u32>,
}

impl Audit {
    pub(super) fn start(order: &Order) -> anyhow::Result<Self> {
        let before = status()?;
        let enabled = value(&before, "enabled").context("auditctl does not say its state")?;
        if enabled == "2" {
            bail!("its rules are locked until the next boot");
        }
        let backlog = value(&before, "backlog_limit").unwrap_or_else(|| BACKLOG.to_owned());
        let key = format!("ylbench-{}", order.token);
        let rule: Vec<_> = match order.kind {
            Kind::Exec => words("always,exit -F arch=b64 -S execve,execveat"),
            Kind::Connect => words("always,exit -F arch=b64 -S connect"),
            Kind::File => {
                let folder = order.files();
                std::fs::create_dir_all(&folder)?;
                let mut rule = words("always,exit -F perm=wa -F");
                rule.push(format!("dir={}", folder.display()));
                rule
            }
        };
        let mut audit = Self {
            rule: [rule, vec!["-k".to_owned(), key.clone()]].concat(),
            key,
            enabled,
            backlog,
            lost_before: 0,
            daemon: None,
            pid: machine::pids_of("auditd").first().copied(),
        };
        if audit.pid.is_none() {
            let child = Command::new("auditd")
                .arg("-n")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn();
            let child = child.context("auditd is not running and cannot be started")?;
            audit.pid = Some(child.id());
            audit.daemon = Some(child);
            thread::sleep(SETTLE);
        }
        auditctl(&["-b", BACKLOG])?;
        auditctl(&["-e", "1"])?;
        let rule: Vec<_> = audit.rule.iter().map(String::as_str).collect();
        auditctl(&[&["-a"], rule.as_slice()].concat())?;
        audit.lost_before = lost()?;
        Ok(audit)
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.pid
    }

    pub(super) fn settle(&self) {
        thread::sleep(SETTLE);
    }

    /// What it saw: of executions each one, of the others only what it says it lost.
    pub(super) fn tell(&self, order: &Order, run: &mut Run) -> anyhow::Result<()> {
        let new = lost()?.saturating_sub(self.lost_before);
        if new > 0 {
            run.drops.insert("lost by the kernel's audit".into(), new);
        }
        if order.kind == Kind::Exec
            && let Ok(found) = Command::new("ausearch")
                .args(["--raw", "-k", &self.key])
                .stdin(Stdio::null())
                .output()
        {
            let mut seen = Seen::new(order);
            let mark = format!("a1=\"{}\" a2=", order.mark());
            for line in String::from_utf8_lossy(&found.stdout).lines() {
                seen.text(&mark, line);
            }
            run.captured(seen);
        }
        Ok(())
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        let rule: Vec<_> = self.rule.iter().map(String::as_str).collect();
        let undone = [
            auditctl(&[&["-d"], rule.as_slice()].concat()),
            auditctl(&["-b", &self.backlog]),
            auditctl(&["-e", &self.enabled]),
        ];
        for error in undone.into_iter().filter_map(Result::err) {
            eprintln!("auditd is not as it was before: {error:#}");
        }
        if let Some(daemon) = &mut self.daemon {
            let pid = i32::try_from(daemon.id()).map(nix::unistd::Pid::from_raw);
            let asked = pid.map(|pid| nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM));
            if !matches!(asked, Ok(Ok(()))) {
                let _ = daemon.kill();
            }
            let _ = daemon.wait();
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn status() -> anyhow::Result<String> {
    auditctl(&["-s"])
}

fn lost() -> anyhow::Result<u64> {
    let lost = value(&status()?, "lost").and_then(|text| text.parse().ok());
    Ok(lost.unwrap_or_default())
}

/// A value of `auditctl -s`, which prints one name and value per line.
fn value(status: &str, name: &str) -> Option<String> {
    let mut lines = status.lines().filter_map(|line| line.split_once(' '));
    lines.find_map(|(known, value)| (known == name).then(|| value.trim().to_owned()))
}

fn auditctl(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("auditctl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("auditctl cannot be run; install auditd")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("auditctl {}: {}", arguments.join(" "), error.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_audit_is_read_by_name() {
        let status = "enabled 1\nfailure 1\npid 77\nbacklog_limit 64\nlost 12\nbacklog 0\n";
        assert_eq!(value(status, "enabled").as_deref(), Some("1"));
        assert_eq!(value(status, "backlog_limit").as_deref(), Some("64"));
        assert_eq!(value(status, "lost").as_deref(), Some("12"));
        assert_eq!(value(status, "nothing"), None);
    }
}
