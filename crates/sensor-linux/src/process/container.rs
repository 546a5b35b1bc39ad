//! Control groups: from the kernel's id to a path, and from a path to a container.

use std::{
    collections::{HashMap, VecDeque},
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use super::record::{GroupId, Made};
use crate::text::printable;

/// Groups remembered; a host with more containers than this asks the kernel more often.
const REMEMBERED: usize = 4096;

/// A control group, version 2.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Group {
    pub(crate) path: Option<String>,
    pub(crate) container_id: Option<String>,
}

impl Group {
    pub(crate) fn of(path: String) -> Self {
        Self {
            container_id: container_id(&path),
            path: Some(path),
        }
    }
}

/// Remembers groups by id.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    mount: Option<(File, String)>,
    /// There are hierarchies of version 1, which container engines may use instead: groups of
    /// version 2 then do not tell containers apart.
    earlier: bool,
    /// Number of the hierarchy of pids; 0 when that is version 2, as its groups have no other.
    pids: u32,
    known: Known<u64, Group>,
    /// Containers by their group in the hierarchy of pids, of those that were made lately.
    version_1: Known<u32, String>,
}

/// A bounded memory that forgets first what it was told first.
#[derive(Debug)]
struct Known<K, V> {
    values: HashMap<K, V>,
    order: VecDeque<K>,
}

impl<K, V> Default for Known<K, V> {
    fn default() -> Self {
        Self {
            values: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<K: Copy + Eq + std::hash::Hash, V> Known<K, V> {
    fn insert(&mut self, key: K, value: V) {
        if self.values.insert(key, value).is_some() {
            return;
        }
        self.order.push_back(key);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.values.remove(&oldest);
        }
    }
}

impl Groups {
    pub(crate) fn open() -> Self {
        let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mounts = String::from_utf8_lossy(&mounts);
        let mount = cgroup2_mount(&mounts).and_then(|path| Some((File::open(&path).ok()?, path)));
        let hierarchies = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
        Self {
            mount,
            earlier: has_version_1(&mounts),
            pids: hierarchy_of("pids", &hierarchies),
            known: Known::default(),
            version_1: Known::default(),
        }
    }

    /// Whether groups of version 1 may be what tells containers apart.
    pub(crate) fn ask_version_1(&self) -> bool {
        self.earlier && self.pids != 0
    }

    /// Remembers a group from when it was made: one that is gone cannot be asked for.
    pub(super) fn made(&mut self, made: &Made<'_>) {
        let group = Group::of(printable(made.path));
        if made.hierarchy == 0 {
            self.known.insert(made.id, group);
        } else if made.hierarchy == self.pids
            && let Some(container) = group.container_id
        {
            // As `GroupId::version_1`: the inode's number.
            let [low, _] = halves(made.id);
            self.version_1.insert(low, container);
        }
    }

    /// The group of that id. It is found as long as it exists, or when it was told of; else while the
    /// process `pid` runs.
    pub(crate) fn find(&mut self, group: GroupId, pid: u32) -> Group {
        let GroupId { id, version_1 } = group;
        let mut group = self.version_2(id, pid);
        if group.container_id.is_none() && version_1 != 0 {
            group.container_id = self.version_1.values.get(&version_1).cloned();
        }
        if self.earlier && group.container_id.is_none() {
            let lines = std::fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            group.container_id = container_of(&String::from_utf8_lossy(&lines));
        }
        group
    }

    fn version_2(&mut self, id: u64, pid: u32) -> Group {
        if let Some(group) = self.known.values.get(&id) {
            return group.clone();
        }
        let by_handle = self.mount.as_ref().and_then(|(directory, path)| {
            let found = path_of(directory, id).ok()?;
            Some(format!(
                "/{}",
                found.strip_prefix(path.as_str())?.trim_start_matches('/')
            ))
        });
        let group = by_handle
            .or_else(|| of_process(pid))
            .map(Group::of)
            .unwrap_or_default();
        self.known.insert(id, group.clone());
        group
    }
}

/// Path of the group a process is in, version 2 hierarchy.
pub(crate) fn of_process(pid: u32) -> Option<String> {
    let lines = std::fs::read(format!("/proc/{pid}/cgroup")).ok()?;
    let path = lines
        .split(|&byte| byte == b'\n')
        .find_map(|line| line.strip_prefix(b"0::"))?;
    Some(printable(path))
}

/// The container that any group of a process names, as `/proc/<pid>/cgroup` lists them: number,
/// controllers and path of each hierarchy (cgroups(7)).
fn container_of(lines: &str) -> Option<String> {
    lines
        .lines()
        .find_map(|line| container_id(line.splitn(3, ':').nth(2)?))
}

/// Number of a controller's hierarchy, by `/proc/cgroups`: name, number, groups, whether it is enabled.
fn hierarchy_of(controller: &str, lines: &str) -> u32 {
    let mut lines = lines.lines().map(str::split_whitespace);
    let found = lines
        .find_map(|mut words| (words.next()? == controller).then(|| words.next()?.parse().ok())?);
    found.unwrap_or(0)
}

/// Lower and upper half of an id.
fn halves(id: u64) -> [u32; 2] {
    [id, id >> 32].map(|half| u32::try_from(half & u64::from(u32::MAX)).unwrap_or_default())
}

/// Whether controllers are mounted as hierarchies of their own.
fn has_version_1(mountinfo: &str) -> bool {
    mountinfo.lines().any(|line| {
        let after = line.split_once(" - ").map_or("", |(_, after)| after);
        after.split(' ').next() == Some("cgroup")
    })
}

/// Where the version 2 hierarchy is mounted.
fn cgroup2_mount(mountinfo: &str) -> Option<String> {
    mountinfo.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let path = before.split(' ').nth(4)?;
        (after.split(' ').next()? == "cgroup2").then(|| path.to_owned())
    })
}

/// A control group id is the inode's file handle (Linux 5.5), so the kernel itself can find it.
fn path_of(mount: &File, id: u64) -> io::Result<String> {
    /// `FILEID_KERNFS` of linux/exportfs.h.
    const KERNFS: i32 = 0xfe;

    #[repr(C)]
    struct Handle {
        bytes: u32,
        kind: i32,
        id: [u8; 8],
    }
    let mut handle = Handle {
        bytes: 8,
        kind: KERNFS,
        id: id.to_ne_bytes(),
    };
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: `Handle` is laid out as struct file_handle with 8 bytes behind it, as `bytes` says,
    // and outlives the call.
    let fd = unsafe { libc::open_by_handle_at(mount.as_raw_fd(), (&raw mut handle).cast(), flags) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us.
    let group = unsafe { OwnedFd::from_raw_fd(fd) };
    let path = std::fs::read_link(format!("/proc/self/fd/{}", group.as_raw_fd()))?;
    Ok(printable(path.as_os_str().as_encoded_bytes()))
}

/// Identity of the container a control group path names: the 64 hexadecimal digits that docker,
/// containerd, cri-o and podman use, wherever they stand in the last parts of the path.
pub(crate) fn container_id(path: &str) -> Option<String> {
    let parts = path.rsplit('/').take(3);
    parts
        .filter_map(|part| {
            let part = part.strip_suffix(".scope").unwrap_or(part);
            let id = part.rsplit(['-', ':']).next()?;
            let hex = id
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            (id.len() == 64 && hex).then(|| id.to_owned())
        })
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_named_by_its_control_group() {
        let id = "0123456789abcdef".repeat(4);
        for path in [
            format!("/docker/{id}"),
            format!("/system.slice/docker-{id}.scope"),
            format!("/machine.slice/libpod-{id}.scope/container"),
            format!("/user.slice/user-0.slice/user@0.service/user.slice/libpod-{id}.scope"),
            format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{id}.scope"),
            format!("/kubepods/besteffort/pod1/{id}"),
            format!("/kubepods.slice/kubepods-pod1.slice/crio-{id}.scope"),
            format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{id}"),
            format!("/docker/{id}/init.scope"),
        ] {
            assert_eq!(container_id(&path).as_ref(), Some(&id), "{path}");
        }
        for path in [
            "/".to_owned(),
            "/system.slice/docker.service".to_owned(),
            "/user.slice/user-1000.slice/session-1.scope".to_owned(),
            format!("/docker/{}", "g".repeat(64)),
            format!("/docker/{}", "a".repeat(63)),
            String::new(),
        ] {
            assert_eq!(container_id(&path), None, "{path}");
        }
    }

    #[test]
    fn the_version_2_hierarchy_is_found_in_both_layouts() {
        let unified = "30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let hybrid = "29 24 0:25 / /sys/fs/cgroup ro - tmpfs tmpfs rw\n\
                      30 29 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(cgroup2_mount(unified).as_deref(), Some("/sys/fs/cgroup"));
        assert_eq!(
            cgroup2_mount(hybrid).as_deref(),
            Some("/sys/fs/cgroup/unified")
        );
        assert_eq!(cgroup2_mount("30 29 0:26 / / rw - ext4 x rw"), None);
    }

    #[test]
    fn a_container_is_named_by_any_hierarchy_of_version_1() {
        let id = "0123456789abcdef".repeat(4);
        for lines in [
            // Docker with groups of its own, and with those of systemd.
            format!(
                "12:pids:/docker/{id}\n1:name=systemd:/docker/{id}\n0::/system.slice/containerd.service\n"
            ),
            format!("4:memory:/system.slice/docker-{id}.scope\n0::/\n"),
            // Kubernetes: containerd, and cri-o.
            format!("11:cpu,cpuacct:/kubepods/burstable/pod6f/{id}\n0::/\n"),
            format!("9:devices:/kubepods.slice/kubepods-pod6f.slice/crio-{id}.scope\n"),
            format!("3:memory:/kubepods-besteffort-pod6f.slice:cri-containerd:{id}\n"),
            // Podman.
            format!("0::/\n2:cpuset:/machine.slice/libpod-{id}.scope\n"),
        ] {
            assert_eq!(container_of(&lines).as_ref(), Some(&id), "{lines}");
        }
        for lines in [
            "",
            "4:memory:/user.slice\n0::/user.slice/session-1.scope\n",
            "x",
        ] {
            assert_eq!(container_of(lines), None, "{lines}");
        }
        let old = "31 24 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
        let new = "30 24 0:26 / /sys/fs/cgroup rw shared:4 - cgroup2 cgroup2 rw\n";
        assert!(has_version_1(&format!("{new}{old}")) && !has_version_1(new));
    }

    #[test]
    fn the_root_group_is_found_by_its_id() {
        let mut groups = Groups::open();
        if groups.mount.is_none() {
            eprintln!("SKIPPED the_root_group_is_found_by_its_id: no cgroup2 mount");
            return;
        }
        let id = |id| GroupId { id, version_1: 0 };
        assert_eq!(groups.find(id(1), u32::MAX).path.as_deref(), Some("/"));
        assert_eq!(groups.find(id(u64::MAX), u32::MAX), Group::default());
    }

    #[test]
    fn a_group_that_is_gone_is_known_from_when_it_was_made() {
        let container = "0123456789abcdef".repeat(4);
        let path = format!("/docker/{container}");
        let mut groups = Groups {
            pids: 8,
            ..Groups::default()
        };
        let id = u64::MAX - 1;
        for hierarchy in [0, 7, 8] {
            groups.made(&Made {
                id: id - u64::from(hierarchy),
                hierarchy,
                path: path.as_bytes(),
            });
        }
        let found = |groups: &mut Groups, id, version_1| {
            let group = groups.find(GroupId { id, version_1 }, u32::MAX);
            (group.path, group.container_id)
        };
        let both = (Some(path), Some(container.clone()));
        assert_eq!(found(&mut groups, id, 0), both);
        let [low, _] = halves(id - 8);
        assert_eq!(found(&mut groups, 1, low), (None, Some(container)));
        assert_eq!(found(&mut groups, 1, low + 1), (None, None));

        for other in 0..REMEMBERED as u64 {
            groups.made(&Made {
                id: other,
                hierarchy: 0,
                path: b"/other",
            });
        }
        assert_eq!(found(&mut groups, id, 0), (None, None));
        let newest = REMEMBERED as u64 - 2;
        assert_eq!(found(&mut groups, newest, 0).0.as_deref(), Some("/other"));
    }

    #[test]
    fn the_number_of_a_hierarchy_is_read() {
        let lines = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t1\t5\t1\npids\t8\t1\t1\n";
        assert_eq!(hierarchy_of("pids", lines), 8);
        assert_eq!(hierarchy_of("rdma", lines), 0);
        assert_eq!(hierarchy_of("pids", "pids\tx"), 0);
    }
}
