use std::time::SystemTime;

use proptest::prelude::*;

use super::*;
use crate::inventory::{fixture, rows};

const FIELDS: [&str; 7] = [
    "engine",
    "id",
    "name",
    "image",
    "state",
    "privileged",
    "pid",
];
const STAT: &str = "7 (x) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0";

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

fn later() -> Timestamp {
    now().plus(SETTLED + SETTLED)
}

/// As Docker 28 writes it, shortened.
fn docker(id: &str, state: &str, restarts: u32) -> String {
    format!(
        "{{\"StreamConfig\":{{}},\"State\":{{{state}}},\"ID\":\"{id}\",\"Created\":\"2026-01-02T03:04:05.6Z\",\
         \"Managed\":false,\"Path\":\"nginx\",\"Args\":[],\"Config\":{{\"Hostname\":\"x\",\"Image\":\"nginx:1.27\"}},\
         \"Image\":\"sha256:ab\",\"Name\":\"/{id}-name\",\"RestartCount\":{restarts}}}"
    )
}

const RUNNING: &str = "\"Running\":true,\"Paused\":false,\"Restarting\":false,\"Pid\":7,\"StartedAt\":\"2026-01-02T03:04:05.678901234Z\"";

#[test]
fn containers_of_docker_have_image_state_and_process() {
    let dir = fixture(&[
        ("proc/7/stat", STAT),
        ("etc/docker/daemon.json", "{\"data-root\": \"/srv/docker\"}"),
        (
            "var/lib/docker/containers/a1/config.v2.json",
            &docker("a1", RUNNING, 0),
        ),
        (
            "var/lib/docker/containers/a1/hostconfig.json",
            "{\"Privileged\":true}",
        ),
        (
            "var/lib/docker/containers/b2/config.v2.json",
            &docker(
                "b2",
                "\"Running\":false,\"Pid\":0,\"StartedAt\":\"2026-01-02T03:04:05Z\"",
                0,
            ),
        ),
        (
            "var/lib/docker/containers/c3/config.v2.json",
            &docker("c3", "\"StartedAt\":\"0001-01-01T00:00:00Z\"", 0),
        ),
        ("var/lib/docker/containers/d4/config.v2.json", "{\"State\":"),
        (
            "srv/docker/containers/e5/config.v2.json",
            &docker("e5", &RUNNING.replace(":7,", ":8,"), 0),
        ),
    ]);
    let list = collect(&Root::at(dir.path()), later()).unwrap();
    assert_eq!(
        rows(&list.elements, &FIELDS),
        [
            "docker|a1|a1-name|nginx:1.27|running|True|7",
            "docker|b2|b2-name|nginx:1.27|exited|False|",
            "docker|c3|c3-name|nginx:1.27|created|False|",
            // Its process is gone whatever the file says.
            "docker|e5|e5-name|nginx:1.27|exited|False|",
        ]
    );
    assert_eq!(
        list.elements[0]["started"],
        "2026-01-02T03:04:05.678901234Z"
    );
    assert_eq!(list.notes, ["1 descriptions of containers make no sense"]);
}

#[test]
fn a_container_that_starts_over_and_over_does_not_change_the_list_a16() {
    let states = [
        RUNNING.to_owned(),
        RUNNING
            .replace(":7,", ":9,")
            .replace("03:04:05", "03:04:50"),
        RUNNING.replace("\"Restarting\":false", "\"Restarting\":true"),
    ];
    let at = Timestamp::parse_rfc3339("2026-01-02T03:05:00Z").unwrap();
    let lists = states.map(|state| {
        let dir = fixture(&[
            ("proc/7/stat", STAT),
            ("proc/9/stat", STAT),
            (
                "var/lib/docker/containers/a1/config.v2.json",
                &docker("a1", &state, 3),
            ),
        ]);
        collect(&Root::at(dir.path()), at).unwrap().elements
    });
    assert_eq!(lists[0], lists[1]);
    assert_eq!(lists[0], lists[2]);
    assert_eq!(lists[0][0]["state"], "restarting");
}

#[test]
fn containers_of_kubernetes_are_named_by_their_place() {
    let config = |extra: &str| {
        format!(
            "{{\"ociVersion\":\"1.1.0\",\"process\":{{\"capabilities\":{{\"bounding\":[\"CAP_CHOWN\"{extra}]}}}},\
             \"annotations\":{{\"io.kubernetes.cri.container-name\":\"web\",\"io.kubernetes.cri.container-type\":\"container\",\
             \"io.kubernetes.cri.image-name\":\"docker.io/library/nginx:1.27\",\"io.kubernetes.cri.sandbox-name\":\"web-0\",\
             \"io.kubernetes.cri.sandbox-namespace\":\"shop\"}}}}"
        )
    };
    let tasks = "run/containerd/io.containerd.runtime.v2.task";
    let path = |rest: &str| format!("{tasks}/{rest}");
    let dir = fixture(&[
        ("proc/7/stat", STAT),
        (&path("k8s.io/c1/config.json"), &config("")),
        (&path("k8s.io/c1/init.pid"), "7"),
        (&path("default/c2/config.json"), "{}"),
        (&path("moby/c3/config.json"), &config("")),
        (
            "var/lib/docker/containers/c3/config.v2.json",
            &docker("c3", RUNNING, 0),
        ),
        (
            "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/c4/config.json",
            &config(",\"CAP_SYS_ADMIN\""),
        ),
        (
            "run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/c4/init.pid",
            "7\n",
        ),
    ]);
    let root = Root::at(dir.path());
    let list = collect(&root, later()).unwrap().elements;
    assert_eq!(
        rows(&list, &FIELDS),
        [
            "containerd|c2|c2||exited|False|",
            "containerd|c1|shop/web-0/web|docker.io/library/nginx:1.27|running|False|7",
            "containerd|c4|shop/web-0/web|docker.io/library/nginx:1.27|running|True|7",
            "docker|c3|c3-name|nginx:1.27|running|False|7",
        ]
    );
    let early = collect(&root, now()).unwrap().elements;
    assert!(
        early
            .iter()
            .all(|e| e["engine"] == "docker" || !e.contains_key("pid"))
    );
}

#[test]
fn containers_of_podman_and_crio_are_told_apart() {
    let entry = |id: &str, name: &str, about: &str| {
        let about = serde_json::to_string(about).unwrap();
        format!(
            "{{\"id\":\"{id}\",\"names\":[\"{name}\"],\"image\":\"ab\",\"layer\":\"cd\",\"metadata\":{about}}}"
        )
    };
    let podman = "{\"image-name\":\"docker.io/library/redis:7\",\"image-id\":\"ab\",\"name\":\"cache\",\"created-at\":1}";
    let crio = "{\"pod-name\":\"k8s_a\",\"pod-id\":\"f0\",\"image-name\":\"quay.io/x/y:1\",\"name\":\"k8s_y_a\"}";
    let store = "var/lib/containers/storage/overlay-containers";
    let lists = format!(
        "[{},{},{},{{\"id\":\"../x\"}},7]",
        entry("aa", "cache", podman),
        entry("bb", "k8s_y_a", crio),
        entry("cc", "new", podman)
    );
    let dir = fixture(&[
        ("etc/passwd", "bob:x:1001:1001::/home/bob:/bin/sh\n"),
        ("proc/7/stat", STAT),
        (&format!("{store}/containers.json"), &lists),
        (
            "run/containers/storage/overlay-containers/aa/userdata/pidfile",
            "7",
        ),
        (&format!("{store}/bb/userdata/config.json"), "{}"),
        (
            "home/bob/.local/share/containers/storage/overlay-containers/containers.json",
            &format!("[{}]", entry("dd", "mine", podman)),
        ),
        (
            "run/user/1001/containers/overlay-containers/dd/userdata/pidfile",
            "7",
        ),
    ]);
    let list = collect(&Root::at(dir.path()), later()).unwrap();
    assert_eq!(
        rows(&list.elements, &FIELDS),
        [
            "cri-o|bb|k8s_y_a|quay.io/x/y:1|exited|False|",
            "podman|aa|cache|docker.io/library/redis:7|running|False|7",
            "podman|dd|mine|docker.io/library/redis:7|running|False|7",
            "podman|cc|new|docker.io/library/redis:7|created|False|",
        ]
    );
    assert_eq!(list.unreadable, 2);
}

#[test]
fn the_containers_of_this_very_host_can_be_collected() {
    let list = collect(&Root::host(), now()).unwrap();
    if list.elements.is_empty() {
        eprintln!("SKIPPED the_containers_of_this_very_host: no engine keeps any here");
    }
    for element in &list.elements {
        assert!(!element["id"].is_empty() && !element["state"].is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn no_description_can_stop_the_collector_a17(
        noise in any::<String>(),
        like in "\\[?\\{\"(id|ID|State|names|metadata)\":(7|null|\"[a-z/.\\\\\"]{0,5}\"|\\[7\\]|\\{\"Pid\":-1\\})\\}\\]?",
    ) {
        for text in [&noise, &like] {
            let dir = fixture(&[
                ("etc/docker/daemon.json", text),
                ("var/lib/docker/containers/a/config.v2.json", text),
                ("var/lib/docker/containers/a/hostconfig.json", text),
                ("var/lib/containers/storage/overlay-containers/containers.json", text),
                ("run/containerd/io.containerd.runtime.v2.task/n/a/config.json", text),
                ("run/containerd/io.containerd.runtime.v2.task/n/a/init.pid", text),
            ]);
            collect(&Root::at(dir.path()), Timestamp::from_secs(0)).unwrap();
        }
    }
}
