//! Real containers, started by runc as container engines do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has to panic")]

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
};

use nix::unistd::geteuid;
use serde_json::{Value, json};
use yinglong_e2e::{Installation, eventually, succeed};

/// Containers of each engine that end at once.
const SHORT: u32 = 7;

/// A file system with a shell and nothing else, and what is to be run in it.
fn bundle(folder: &Path) {
    let programs = folder.join("rootfs/bin");
    for place in ["rootfs/bin", "rootfs/proc", "rootfs/dev", "rootfs/sys"] {
        fs::create_dir_all(folder.join(place)).unwrap();
    }
    let busybox = ["/bin/busybox", "/usr/bin/busybox"]
        .into_iter()
        .find(|path| fs::metadata(path).is_ok());
    fs::copy(busybox.unwrap(), programs.join("busybox")).unwrap();
    for name in ["sh", "true", "sleep"] {
        symlink("busybox", programs.join(name)).unwrap();
    }
    succeed(Command::new("runc").arg("spec").current_dir(folder)).unwrap();
}

/// Runs a container to its end.
fn run(folder: &Path, group: &str, name: &str, script: &str) {
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/sh", "-c", script]);
    config["linux"]["cgroupsPath"] = json!(group);
    fs::write(&path, config.to_string()).unwrap();
    let output = Command::new("runc")
        .args(["run", "--bundle"])
        .arg(folder)
        .arg(name)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn executions_in_containers_name_them_however_soon_they_end() {
    let test = "executions_in_containers_name_them_however_soon_they_end";
    let missing = if !geteuid().is_root() {
        Some("root")
    } else if Command::new("runc").arg("--version").output().is_err() {
        Some("runc")
    } else {
        None
    };
    if let Some(missing) = missing {
        eprintln!("SKIPPED {test}: needs {missing}");
        return;
    }
    let here = Installation::start().unwrap();
    let mark = format!("ylcontainers{}", std::process::id());
    here.observe(&format!("{mark}before")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    bundle(folder.path());

    // As docker, Kubernetes and podman place them.
    let engines = [
        ("docker", "/docker/ID"),
        ("kubernetes", "/kubepods/burstable/pod6f1c/ID"),
        ("podman", "/machine.slice/libpod-ID.scope"),
    ];
    for (engine, group) in engines {
        let id = |number: u32| format!("{:056x}{number:08x}", std::process::id());
        for number in 0..=SHORT {
            // The last one lasts.
            let script = match number {
                SHORT => format!("/bin/true {mark} {engine} {number}; /bin/sleep 1"),
                _ => format!("exec /bin/true {mark} {engine} {number}"),
            };
            let name = format!("{mark}{engine}{number}");
            run(
                folder.path(),
                &group.replace("ID", &id(number)),
                &name,
                &script,
            );
        }
        let query = format!("type:process | command:/^/bin/true {mark} {engine} /");
        let mut seen = Vec::new();
        let complete = eventually(30, "every container is told", || {
            seen = here.json(&["search", &query])?;
            Ok(seen.len() > SHORT as usize)
        });
        complete.unwrap_or_else(|error| panic!("{engine}: {error:#}: {seen:#?}"));
        let mut named: Vec<&str> = seen
            .iter()
            .map(|event| event["data"]["container_id"].as_str().unwrap_or_default())
            .collect();
        named.sort_unstable();
        let expected: Vec<String> = (0..=SHORT).map(id).collect();
        assert_eq!(named, expected, "{engine}: {seen:#?}");
        for event in &seen {
            let skipped = event["data"]["hash_skipped"].as_str();
            let hashed = event["data"]["sha256"].is_string();
            // What ended before it could be read is gone with its file system.
            assert!(hashed || skipped == Some("gone"), "{event:#}");
        }
    }

    Command::new("/bin/true")
        .args([&mark, "outside"])
        .status()
        .unwrap();
    let query = format!("type:process | command:/^/bin/true {mark} outside/");
    let mut outside = Vec::new();
    eventually(30, "what is outside is told", || {
        outside = here.json(&["search", &query])?;
        Ok(!outside.is_empty())
    })
    .unwrap();
    assert_eq!(outside[0]["data"]["container_id"], Value::Null);
}
