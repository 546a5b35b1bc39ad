//! `container`: containers of Docker, containerd, Podman and CRI-O, from what they keep on disk.
//!
//! No daemon is asked: its socket could be anybody's, and would have to be open to the agent.

mod docker;
mod storage;
mod task;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;
use yinglong_model::Timestamp;

use super::{Collected, Error, Root, element};

/// Containers of one engine beyond this number are not looked at.
const CONTAINER_LIMIT: usize = 4096;

/// A container that runs for so long keeps its process; before, it may be one that starts over and over.
const SETTLED: Duration = Duration::from_secs(600);

/// A container in the words of every engine.
#[derive(Debug, Default, PartialEq, Eq)]
struct Container {
    engine: &'static str,
    id: String,
    name: String,
    image: String,
    /// `running`, `paused`, `restarting`, `exited`, `dead` or `created`.
    state: String,
    pid: u32,
    started: Option<Timestamp>,
    /// May do nearly all that the host's root may.
    privileged: bool,
    /// Was started over by its engine.
    restarted: bool,
}

impl Container {
    /// Pid and start are left out until the container has settled, and one that starts over and over is
    /// `restarting` whether it just runs or not: else the list would change in every cycle (A16).
    fn into_element(self, now: Timestamp) -> super::Element {
        let runs = matches!(self.state.as_str(), "running" | "paused");
        let settled = self.started.is_some_and(|at| now.since(at) >= SETTLED);
        let shown = runs && settled;
        let state = if runs && !settled && self.restarted {
            "restarting".to_owned()
        } else {
            self.state
        };
        let started = self.started.filter(|_| shown).map(|time| time.to_string());
        let pid = if shown && self.pid > 0 {
            self.pid.to_string()
        } else {
            String::new()
        };
        element([
            ("engine", self.engine.to_owned()),
            ("id", self.id),
            ("name", self.name),
            ("image", self.image),
            ("state", state),
            (
                "privileged",
                if self.privileged { "True" } else { "False" }.to_owned(),
            ),
            ("pid", pid),
            ("started", started.unwrap_or_default()),
        ])
    }
}

/// Collects the containers of every engine.
///
/// # Errors
/// A directory of an engine exists and cannot be read.
pub fn collect(root: &Root, now: Timestamp) -> Result<Collected, Error> {
    let mut list = Collected::default();
    let mut found = docker::collect(root, &mut list)?;
    storage::collect(root, &mut found, &mut list)?;
    task::collect(root, &mut found, &mut list)?;
    found.sort_by(|a, b| (a.engine, &a.name, &a.id).cmp(&(b.engine, &b.name, &b.id)));
    for container in found {
        list.push(container.into_element(now));
    }
    if list.unreadable > 0 {
        let unreadable = list.unreadable;
        list.notes.push(format!(
            "{unreadable} descriptions of containers make no sense"
        ));
    }
    Ok(list)
}

/// Folders below a directory, of which each stands for a container.
fn folders(root: &Root, directory: &Path, list: &mut Collected) -> Result<Vec<PathBuf>, Error> {
    let mut folders = root.list(directory)?;
    list.left_out += folders.len().saturating_sub(CONTAINER_LIMIT);
    folders.truncate(CONTAINER_LIMIT);
    Ok(folders)
}

/// A file in JSON; `None` when there is none. What cannot be read or makes no sense is counted: one
/// container that is just being removed must not hide the others.
fn json(root: &Root, path: &Path, list: &mut Collected) -> Option<Value> {
    let text = match root.text(path) {
        Ok(text) => text?,
        Err(_) => {
            list.unreadable += 1;
            return None;
        }
    };
    let value = serde_json::from_str(&text).ok();
    list.unreadable += usize::from(value.is_none());
    value
}

/// The text at a path of keys; empty when there is none.
fn text(value: &Value, keys: &[&str]) -> String {
    at(value, keys)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

/// Whether the value at a path of keys is `true`.
fn flag(value: &Value, keys: &[&str]) -> bool {
    at(value, keys).and_then(Value::as_bool).unwrap_or_default()
}

fn at<'a>(value: &'a Value, keys: &[&str]) -> Option<&'a Value> {
    keys.iter().try_fold(value, |value, key| value.get(key))
}

fn is_alive(root: &Root, pid: u32) -> bool {
    pid > 0 && root.metadata(format!("/proc/{pid}/stat")).is_some()
}

/// Process and start of a container from the file its runtime wrote when it started it.
fn from_pid_file(root: &Root, path: &Path) -> Option<(u32, Timestamp)> {
    let text = root.peek(path, 64)?;
    let pid = String::from_utf8_lossy(&text).trim().parse().ok()?;
    let started = root.metadata(path)?.modified().ok()?;
    is_alive(root, pid).then(|| (pid, started.into()))
}

/// Whether a runtime's own description (`config.json` of OCI) gives the container the right to mount and
/// more, which `--privileged` does.
fn may_administer(config: &Value) -> bool {
    at(config, &["process", "capabilities", "bounding"])
        .and_then(Value::as_array)
        .is_some_and(|names| names.iter().any(|name| name == "CAP_SYS_ADMIN"))
}

#[cfg(test)]
mod tests;
