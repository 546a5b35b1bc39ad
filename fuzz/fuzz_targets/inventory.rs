//! Files inventories are read from, one of them made up: a list comes of it or an error, in bounds.

#![no_main]

use std::{fs, path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use yinglong_model::Timestamp;
use yinglong_sensor_linux::inventory::{
    Collected, Root, container, crontab, facts, listening, module, package, processes, service,
    sshkey, startup, sudoer, users, webroot,
};

/// Files that are made up, by the first byte of an input: `A` is the first.
const PLACES: &[&str] = &[
    "etc/passwd",
    "etc/shadow",
    "etc/crontab",
    "etc/anacrontab",
    "var/spool/cron/crontabs/root",
    "var/spool/cron/atjobs/a0000101c2b3f8",
    "etc/systemd/system/x.timer",
    "etc/systemd/system/x.service",
    "etc/init.d/x",
    "etc/inittab",
    "etc/ld.so.preload",
    "etc/xdg/autostart/x.desktop",
    "etc/sudoers",
    "etc/doas.conf",
    "etc/nsswitch.conf",
    "root/.ssh/authorized_keys",
    "etc/ssh/sshd_config",
    "var/lib/dpkg/status",
    "lib/apk/db/installed",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/Packages.db",
    "proc/modules",
    "proc/9/stat",
    "proc/9/status",
    "proc/9/cmdline",
    "proc/9/cgroup",
    "proc/net/tcp",
    "proc/net/tcp6",
    "etc/nginx/nginx.conf",
    "etc/apache2/apache2.conf",
    "etc/apache2/envvars",
    "opt/tomcat/conf/server.xml",
    "etc/docker/daemon.json",
    "var/lib/docker/containers/0123456789ab/config.v2.json",
    "var/lib/docker/containers/0123456789ab/hostconfig.json",
    "var/lib/containers/storage/overlay-containers/containers.json",
    "run/containerd/io.containerd.runtime.v2.task/k8s.io/0123456789ab/config.json",
    "etc/os-release",
];

/// What is there besides, so that what is made up is looked at.
const REST: &[(&str, &str)] = &[
    ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n"),
    ("etc/sudoers", "root ALL=(ALL) ALL\n@includedir /etc/sudoers.d\n"),
    ("etc/ssh/sshd_config", "AuthorizedKeysFile .ssh/authorized_keys\n"),
    ("proc/stat", "cpu 1 2 3\nbtime 1700000000\n"),
    ("proc/9/stat", "9 (java) S 1 9 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 100 0 0\n"),
    ("proc/9/status", "Name:\tjava\nUid:\t0\t0\t0\t0\n"),
    ("proc/9/cmdline", "java\0-Dcatalina.base=/opt/tomcat\0"),
    ("proc/sys/kernel/osrelease", "6.1.0\n"),
    ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
    ("usr/sbin/nginx", ""),
    ("usr/sbin/apache2", ""),
    ("var/lib/docker/containers/0123456789ab/config.v2.json", "{\"ID\": \"0123456789ab\"}"),
];

static PLACE: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = Path::new("/dev/shm");
    let place = match memory.is_dir() {
        true => tempfile::tempdir_in(memory),
        false => tempfile::tempdir(),
    };
    let place = place.expect("a temporary directory can be made");
    for (path, content) in REST {
        write(&place.path().join(path), content.as_bytes());
    }
    let program = place.path().join("proc/9/exe");
    std::os::unix::fs::symlink("/usr/bin/java", program).expect("a link can be made");
    place
});

fn write(path: &Path, content: &[u8]) {
    let parent = path.parent().expect("no path is the root");
    fs::create_dir_all(parent).expect("directories can be made");
    fs::write(path, content).expect("files can be written");
}

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, content)) = bytes.split_first() else {
        return;
    };
    let Some(name) = PLACES.get(usize::from(choice.wrapping_sub(b'A'))) else {
        return;
    };
    let path = PLACE.path().join(name);
    write(&path, content);
    collect(&Root::at(PLACE.path()), name);
    match REST.iter().find(|(rest, _)| rest == name) {
        Some((_, content)) => write(&path, content.as_bytes()),
        None => fs::remove_file(&path).expect("what was made can be removed"),
    }
});

/// Collects every list, or those alone that read the file, where they are slow.
fn collect(root: &Root, name: &str) {
    let mut lists: Vec<Collected> = Vec::new();
    let mut keep = |list: Option<Collected>| lists.extend(list);
    if name.starts_with("etc/") || name.starts_with("root/") || name.starts_with("var/spool") {
        keep(users::collect(root).ok().map(Into::into));
        keep(crontab::collect(root).ok().map(Into::into));
        keep(service::collect(root).ok().map(Into::into));
        keep(startup::collect(root).ok().map(Into::into));
        keep(sudoer::collect(root).ok());
        keep(sshkey::collect(root).ok());
        facts(root);
    }
    if name.starts_with("proc/") {
        keep(module::collect(root).ok().map(Into::into));
        keep(processes::collect(root).ok().map(Into::into));
        let mut lasting = listening::Lasting::default();
        keep(listening::collect(root, &mut lasting).ok().map(Into::into));
    }
    if name.contains("lib/") {
        keep(package::collect(root).ok());
    }
    keep(container::collect(root, Timestamp::from_secs(1_764_000_000)).ok());
    for path in webroot::collect(root) {
        assert!(path.is_absolute(), "{}", path.display());
    }
    for list in lists {
        assert!(list.elements.len() <= 20_000);
        let mut values = list.elements.iter().flatten();
        assert!(values.all(|(_, value)| value.len() <= 32 << 10));
    }
}
