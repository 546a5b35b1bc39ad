//! containerd: a folder for each running container, with the description its runtime was given.

use std::path::Path;

use super::{Container, folders, from_pid_file, json, may_administer, text};
use crate::inventory::{Collected, Error, Root, root::file_name};

/// Folders of tasks: of containerd 1.4 and later, and of its embedded ones (k3s, RKE2).
const TASKS: [&str; 2] = [
    "/run/containerd/io.containerd.runtime.v2.task",
    "/run/k3s/containerd/io.containerd.runtime.v2.task",
];

const CRI: &str = "io.kubernetes.cri.";

/// Adds what runs. Containers that another engine runs by means of containerd are known from it already.
///
/// # Errors
/// A directory exists and cannot be read.
pub(super) fn collect(
    root: &Root,
    found: &mut Vec<Container>,
    list: &mut Collected,
) -> Result<(), Error> {
    for tasks in TASKS {
        for namespace in root.list(tasks)? {
            for folder in folders(root, &namespace, list)? {
                let id = file_name(&folder);
                if !found.iter().any(|known| known.id == id) {
                    found.extend(read(root, &folder, id, list));
                }
            }
        }
    }
    Ok(())
}

fn read(root: &Root, folder: &Path, id: String, list: &mut Collected) -> Option<Container> {
    let config = json(root, &folder.join("config.json"), list)?;
    let process = from_pid_file(root, &folder.join("init.pid"));
    let annotation = |name: &str| text(&config, &["annotations", &format!("{CRI}{name}")]);
    // Kubernetes names a container by its place.
    let place = ["sandbox-namespace", "sandbox-name", "container-name"].map(annotation);
    let name: Vec<&str> = place
        .iter()
        .map(String::as_str)
        .filter(|part| !part.is_empty())
        .collect();
    let name = match name.join("/") {
        name if name.is_empty() => id.clone(),
        name => name,
    };
    Some(Container {
        engine: "containerd",
        name,
        image: annotation("image-name"),
        state: if process.is_some() {
            "running"
        } else {
            "exited"
        }
        .to_owned(),
        pid: process.map(|(pid, _)| pid).unwrap_or_default(),
        started: process.map(|(_, started)| started),
        privileged: may_administer(&config),
        restarted: false,
        id,
    })
}
