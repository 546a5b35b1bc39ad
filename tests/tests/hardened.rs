//! The unit we ship, started by a real systemd: hardening must not blind a sensor.
//!
//! The systemd is one of its own, in namespaces of processes, mounts and control groups; files,
//! kernel and network are those of this machine. What systemd does with the unit (capabilities, system
//! calls, mounts, address families) is done for real. Limits of processor and memory are not: a
//! control group of its own has no such controllers on every machine.

#![allow(clippy::unwrap_used, reason = "what is missing in a test fails it")]

use std::{
    fs,
    net::TcpListener,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::unistd::geteuid;
use serde_json::Value;
use yinglong_e2e::{binary, eventually, root};

/// A systemd with the agent's unit, and the control group it is in.
struct Systemd {
    outer: Child,
    group: PathBuf,
    folder: tempfile::TempDir,
}

impl Systemd {
    fn start(groups: &Path) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("yinglong-unit-")
            .tempdir()
            .unwrap();
        fs::create_dir(folder.path().join("watched")).unwrap();
        let group = groups.join(format!("yinglong-unit-{}", std::process::id()));
        fs::create_dir_all(group.join("doer")).unwrap();
        fs::create_dir_all(group.join("own")).unwrap();
        let said = fs::File::create(folder.path().join("systemd")).unwrap();
        let mut unshare = Command::new("sh");
        // Joins the group first, so that it is the root of what systemd sees.
        unshare
            .args(["-c", "echo $$ >\"$0/cgroup.procs\" && exec \"$@\""])
            .arg(group.join("own"))
            .args(["unshare", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--uts", "--ipc", "--cgroup", "--mount-proc"])
            .arg(root().join("tests/hardened/boot.sh"))
            .arg(binary("yinglong-agent"))
            .arg(root().join("deploy/systemd/yinglong-agent.service"))
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .process_group(0);
        Self {
            outer: unshare.spawn().unwrap(),
            group,
            folder,
        }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    /// The last words of everybody, for failures.
    fn said(&self) -> String {
        format!(
            "systemd:\n{}\nagent:\n{}",
            self.text("systemd"),
            self.text("log")
        )
    }

    /// The process id of the agent, as this machine numbers it.
    fn agent(&self) -> Option<u32> {
        // Which group systemd gives its service depends on what it may do with the tree.
        let mut groups = vec![self.group.clone()];
        while let Some(group) = groups.pop() {
            let ids = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
            let of_agent = ids.lines().find(|id| {
                fs::read_to_string(format!("/proc/{id}/comm"))
                    .is_ok_and(|name| name.trim() == "yinglong-agent")
            });
            if let Some(id) = of_agent {
                return id.parse().ok();
            }
            let below = fs::read_dir(&group).into_iter().flatten().flatten();
            groups.extend(below.map(|entry| entry.path()).filter(|path| path.is_dir()));
        }
        None
    }

    /// Lets a shell do something on the host, in a control group that the agent's hooks cover.
    fn does(&self, script: &str) {
        let group = self.group.join("own/doer");
        fs::create_dir_all(&group).unwrap();
        let status = Command::new("bash")
            .arg("-c")
            .arg(format!(
                "echo $$ >'{}/cgroup.procs'; {script}",
                group.display()
            ))
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success(), "{script}: {status}");
    }

    /// Whether there is an event of that type of which this is so.
    fn told(&self, kind: &str, is_so: impl Fn(&Value) -> bool) -> bool {
        self.text("events")
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .any(|event| event["type"] == kind && is_so(&event["data"]))
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        // The first process of its namespace goes with it, and all others with that.
        let _ = self.outer.kill();
        let _ = self.outer.wait();
        let _ = eventually(10, "the control groups are empty", || {
            Ok(remove(&self.group).is_ok())
        });
    }
}

/// Removes control groups from the leaves on.
fn remove(group: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(group)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(group)
}

fn control_groups() -> Option<PathBuf> {
    ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.join("cgroup.procs").exists() && path.join("cgroup.controllers").exists())
}

#[test]
fn under_the_unit_we_ship_every_sensor_observes() {
    let missing = match () {
        () if !geteuid().is_root() => Some("root"),
        () if !Path::new("/lib/systemd/systemd").exists() => Some("systemd"),
        () if control_groups().is_none() => Some("control groups version 2"),
        () => None,
    };
    if let Some(missing) = missing {
        eprintln!("SKIPPED under_the_unit_we_ship_every_sensor_observes: needs {missing}");
        return;
    }
    let systemd = Systemd::start(&control_groups().unwrap());
    let streams = [
        "process",
        "connection",
        "dns",
        "syscall",
        "file",
        "loginlog",
        "inventory",
    ];
    let observing = eventually(60, "every sensor observes", || {
        let log = systemd.text("log");
        let quoted = |stream: &str| log.contains(&format!("stream=\"{stream}\" source="));
        Ok(streams.into_iter().all(quoted))
    });
    assert!(observing.is_ok(), "{observing:?}\n{}", systemd.said());
    let log = systemd.text("log");
    for best in [
        r#"stream="process" source="ebpf" reason="""#,
        r#"stream="connection" source="packet+ebpf" reason="""#,
        r#"stream="dns" source="ebpf" reason="""#,
        r#"stream="syscall" source="ebpf" reason="""#,
        r#"stream="file" source="fanotify" reason="""#,
    ] {
        assert!(log.contains(best), "not {best}\n{}", systemd.said());
    }

    // It is hardened indeed.
    let agent = systemd.agent();
    let agent = agent.unwrap_or_else(|| panic!("the agent has ended\n{}", systemd.said()));
    let status = fs::read_to_string(format!("/proc/{agent}/status")).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    assert_eq!(line("NoNewPrivs:"), "1");
    assert_eq!(line("Seccomp:"), "2");
    let bounding = u64::from_str_radix(&line("CapBnd:"), 16).unwrap();
    // CAP_SYS_MODULE and CAP_DAC_OVERRIDE are not among them.
    assert_eq!(bounding & (1 << 16 | 1 << 1), 0, "{bounding:x}");

    // Who empties a ring goes before others: SCHED_RR is 2, the 41st field (proc_pid_stat(5)).
    let policy_of = |stream: &str| {
        let tasks = fs::read_dir(format!("/proc/{agent}/task")).unwrap();
        tasks.flatten().find_map(|task| {
            let stat = fs::read_to_string(task.path().join("stat")).ok()?;
            let (name, fields) = stat.split_once(") ")?;
            let policy = fields.split(' ').nth(38)?;
            name.ends_with(&format!("({stream}"))
                .then(|| policy.to_owned())
        })
    };
    for stream in ["process", "connection", "dns", "syscall", "file"] {
        assert_eq!(policy_of(stream).as_deref(), Some("2"), "{stream}");
    }
    assert_eq!(policy_of("inventory").as_deref(), Some("0"));

    let mark = format!("ylhardened{}", std::process::id());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let port = closed.port();
    let watched = systemd.folder.path().join("watched").join(&mark);
    systemd.does(&format!("/bin/true {mark}"));
    systemd.does(&format!("exec 3<>/dev/tcp/127.0.0.1/{port} || true"));
    systemd.does(&format!("echo x >'{}'", watched.display()));
    systemd.does("unshare --mount /bin/true");
    // A question for the address of `yl.test`; nobody answers.
    systemd.does(
        r"printf '\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x02yl\x04test\x00\x00\x01\x00\x01' >/dev/udp/127.0.0.1/53 || true",
    );
    let has = |data: &Value, text: &str| data.to_string().contains(text);
    let remote = closed.to_string();
    let seen = eventually(30, "everything is told", || {
        Ok(systemd.told("process", |data| has(data, &mark))
            && systemd.told("connection", |data| {
                data["remote"] == remote.as_str() && data["state"] == "refused"
            })
            && systemd.told("file", |data| has(data, &mark))
            && systemd.told("syscall", |data| has(data, "unshare"))
            && systemd.told("dns", |data| has(data, "yl.test")))
    });
    assert!(
        seen.is_ok(),
        "{seen:?}\n{}\n{}",
        systemd.said(),
        systemd.text("events")
    );
}
