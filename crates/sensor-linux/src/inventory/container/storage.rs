//! Podman and CRI-O: both keep their containers by the library `containers/storage`, one list for all.

use std::path::PathBuf;

use serde_json::Value;

use super::{CONTAINER_LIMIT, Container, flag, from_pid_file, json, may_administer, text};
use crate::inventory::{Collected, Error, Root, users};

/// Lists of a store, for each way of keeping layers; those of the second name end with the boot.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];
const DRIVERS: [&str; 3] = ["overlay-containers", "vfs-containers", "btrfs-containers"];

/// Adds the containers of the host's store and of those of users.
///
/// # Errors
/// A file exists and cannot be read.
pub(super) fn collect(
    root: &Root,
    found: &mut Vec<Container>,
    list: &mut Collected,
) -> Result<(), Error> {
    let mut stores = vec![(
        PathBuf::from("/var/lib/containers/storage"),
        PathBuf::from("/run/containers/storage"),
    )];
    for account in users::accounts(root)? {
        stores.push((
            account.home.join(".local/share/containers/storage"),
            format!("/run/user/{}/containers", account.uid).into(),
        ));
    }
    for (kept, run) in stores {
        if root.metadata(&kept).is_none() {
            continue;
        }
        for driver in DRIVERS {
            for file in LISTS {
                if let Some(value) = json(root, &kept.join(driver).join(file), list) {
                    let entries = value.as_array().map(Vec::as_slice).unwrap_or_default();
                    list.left_out += entries.len().saturating_sub(CONTAINER_LIMIT);
                    for entry in entries.iter().take(CONTAINER_LIMIT) {
                        add(
                            root,
                            entry,
                            [&kept, &run].map(|store| store.join(driver)),
                            found,
                            list,
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

fn add(
    root: &Root,
    entry: &Value,
    places: [PathBuf; 2],
    found: &mut Vec<Container>,
    list: &mut Collected,
) {
    let id = text(entry, &["id"]);
    // It becomes part of a path.
    if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        list.unreadable += 1;
        return;
    }
    if found.iter().any(|known| known.id == id) {
        return;
    }
    // What the engine wants to remember stands in a text of its own.
    let about = serde_json::from_str::<Value>(&text(entry, &["metadata"])).unwrap_or_default();
    let first_name = entry
        .get("names")
        .and_then(|names| names.get(0))
        .and_then(Value::as_str);
    let is_pod = !text(&about, &["pod-id"]).is_empty() || flag(&about, &["pod"]);
    let data = places.map(|place| place.join(&id).join("userdata"));
    let process = data
        .iter()
        .find_map(|data| from_pid_file(root, &data.join("pidfile")));
    let ran = data.iter().any(|data| {
        let exists = |name: &str| root.metadata(data.join(name)).is_some();
        exists("pidfile") || exists("conmon.pid") || exists("exit")
    });
    let config = data
        .iter()
        .find_map(|data| json(root, &data.join("config.json"), list));
    let state = match process {
        Some(_) => "running",
        None if ran || config.is_some() => "exited",
        None => "created",
    };
    found.push(Container {
        engine: if is_pod { "cri-o" } else { "podman" },
        name: first_name.unwrap_or_default().to_owned(),
        image: text(&about, &["image-name"]),
        state: state.to_owned(),
        pid: process.map(|(pid, _)| pid).unwrap_or_default(),
        started: process.map(|(_, started)| started),
        privileged: config.is_some_and(|config| may_administer(&config)),
        restarted: false,
        id,
    });
}
