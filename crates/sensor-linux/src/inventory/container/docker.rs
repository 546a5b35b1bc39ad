//! Docker: a folder for each container, with `config.v2.json` and `hostconfig.json`.

use std::path::{Path, PathBuf};

use serde_json::Value;
use yinglong_model::Timestamp;

use super::{Container, at, flag, folders, is_alive, json, text};
use crate::inventory::{Collected, Error, Root, users};

/// Adds what the daemon of the host and those of users keep.
///
/// # Errors
/// A directory exists and cannot be read.
pub(super) fn collect(root: &Root, list: &mut Collected) -> Result<Vec<Container>, Error> {
    let mut homes = vec![
        PathBuf::from("/var/lib/docker"),
        PathBuf::from("/var/snap/docker/common/var-lib-docker"),
    ];
    if let Some(daemon) = json(root, Path::new("/etc/docker/daemon.json"), list) {
        // The older name is still read.
        for key in ["data-root", "graph"] {
            homes.push(text(&daemon, &[key]).into());
        }
    }
    for (_, home) in users::homes(root)? {
        homes.push(home.join(".local/share/docker"));
    }
    homes.retain(|home| home.is_absolute() && root.metadata(home).is_some());
    homes = homes.iter().map(|home| root.resolve(home)).collect();
    homes.sort();
    homes.dedup();
    let mut found = Vec::new();
    for home in homes {
        for folder in folders(root, &home.join("containers"), list)? {
            let Some(config) = json(root, &folder.join("config.v2.json"), list) else {
                continue;
            };
            let host = json(root, &folder.join("hostconfig.json"), list);
            let mut container = read(&config, &host.unwrap_or_default());
            if matches!(container.state.as_str(), "running" | "paused")
                && !is_alive(root, container.pid)
            {
                // The daemon was killed and has not looked yet.
                "exited".clone_into(&mut container.state);
            }
            if container.id.is_empty() {
                list.unreadable += 1;
            } else {
                found.push(container);
            }
        }
    }
    Ok(found)
}

fn read(config: &Value, host: &Value) -> Container {
    let is = |name| flag(config, &["State", name]);
    let started = text(config, &["State", "StartedAt"]);
    let never = started.is_empty() || started.starts_with("0001-");
    let state = match () {
        () if is("Restarting") => "restarting",
        () if is("Paused") => "paused",
        () if is("Running") => "running",
        () if is("Dead") || is("RemovalInProgress") => "dead",
        () if never => "created",
        () => "exited",
    };
    let pid = at(config, &["State", "Pid"]).and_then(Value::as_u64);
    let restarts = at(config, &["RestartCount"]).and_then(Value::as_u64);
    Container {
        engine: "docker",
        id: text(config, &["ID"]),
        name: text(config, &["Name"]).trim_start_matches('/').to_owned(),
        image: text(config, &["Config", "Image"]),
        state: state.to_owned(),
        pid: pid
            .and_then(|pid| u32::try_from(pid).ok())
            .unwrap_or_default(),
        started: Timestamp::parse_rfc3339(&started).ok().filter(|_| !never),
        privileged: flag(host, &["Privileged"]),
        restarted: restarts.unwrap_or_default() > 0,
    }
}
