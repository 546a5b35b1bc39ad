//! Loads `bpf/network.bpf.c`, and attaches it to the hooks this kernel has.

use std::{
    fs::{self, File},
    os::fd::{AsRawFd, OwnedFd},
    path::{Path, PathBuf},
    thread,
};

use libbpf_rs::{Link, ProgramMut};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use crate::attached::{self, Aligned, Attached, Error};

/// The compiled programs.
static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/network.bpf.o")));

/// Where tracefs is mounted.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Loads and attaches what can be attached; what cannot is told in the ids. The links are those
/// that end with this process.
///
/// # Errors
/// The kernel refuses the programs, or the hook nothing works without.
pub(super) fn load() -> Result<(Attached, Vec<Link>), Error> {
    with_tracefs(|| load_programs(true).or_else(|_| load_programs(false)))
}

fn load_programs(with_send_length: bool) -> Result<(Attached, Vec<Link>), Error> {
    let mut missing = Vec::new();
    let mut bound = Vec::new();
    if !with_send_length {
        missing.push("sock_send_length (Linux 6.3): senders of UDP are looked up".to_owned());
    }
    let groups = control_group_root().and_then(|path| File::open(path).ok());
    if groups.is_none() {
        missing.push("sock_ops: control groups version 2 are not mounted".to_owned());
    }
    let mut attached = Attached::load(
        &OBJECT.0,
        |object| {
            for mut program in object.progs_mut() {
                if program.name() == "on_send_length" {
                    program.set_autoload(with_send_length);
                }
            }
            Ok(())
        },
        |program| {
            let name = program.name().to_string_lossy().into_owned();
            let answer = match name.as_str() {
                // Nothing works without this one.
                "on_set_state" => return attached::link(&program.attach()?).map(Some),
                "on_send_length" if !with_send_length => return Ok(None),
                "on_send_length" => program.attach().and_then(|link| attached::link(&link)),
                "on_accept" => return Ok(accepts(program, "accept", &mut bound, &mut missing)),
                "on_accept4" => return Ok(accepts(program, "accept4", &mut bound, &mut missing)),
                _ => match &groups {
                    Some(root) => program
                        .attach_cgroup(root.as_raw_fd())
                        .and_then(|link| attached::link(&link)),
                    None => return Ok(None),
                },
            };
            Ok(answer
                .inspect_err(|error| missing.push(format!("{name}: {error}")))
                .ok())
        },
    )?;
    attached.set_missing(missing);
    Ok((attached, bound))
}

/// Attaches to the end of a system call; to this process alone where the kernel is older than
/// Linux 5.15.
fn accepts(
    program: &ProgramMut<'_>,
    call: &str,
    bound: &mut Vec<Link>,
    missing: &mut Vec<String>,
) -> Option<OwnedFd> {
    let number = TRACEFS.iter().find_map(|root| {
        let path = format!("{root}/events/syscalls/sys_exit_{call}/id");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    });
    if let Some(number) = number
        && let Ok(link) = attached::attach_tracepoint(program, number)
    {
        return Some(link);
    }
    match program.attach() {
        Ok(link) => bound.push(link),
        Err(error) => missing.push(format!("sys_exit_{call} (tracefs): {error}")),
    }
    None
}

/// Runs `work` where syscall tracepoints have their numbers in a mounted tracefs. When the host
/// has none mounted, `work` runs in a thread with a mount namespace of its own, so that nobody
/// else sees the mount, and it ends with the thread. When it cannot be mounted, `work` finds none.
fn with_tracefs<T: Send>(work: fn() -> T) -> T {
    let mounted = |root: &&str| Path::new(root).join("events/syscalls").exists();
    if TRACEFS.iter().any(mounted) {
        return work();
    }
    let attached = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            if let Err(error) = mount_tracefs() {
                tracing::warn!(%error, "tracefs cannot be mounted");
            }
            work()
        });
        worker.join()
    });
    attached.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// For this thread only.
fn mount_tracefs() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    let (kind, none) = (Some("tracefs"), None::<&str>);
    mount(kind, "/sys/kernel/tracing", kind, MsFlags::empty(), none)
}

/// Where control groups version 2 are mounted; hybrid systems have them in a sub-directory.
pub(crate) fn control_group_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    control_group_mount(&mounts)
}

/// Mount point of the whole version 2 hierarchy in a `mountinfo` table.
fn control_group_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        if source.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_are_found_on_unified_and_hybrid_systems() {
        let unified = "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let hybrid = "30 23 0:25 / /sys/fs/cgroup rw - tmpfs none rw\n\
            32 30 0:27 /docker/1 /bound rw - cgroup2 cgroup2 rw\n\
            31 30 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        for (table, expected) in [
            (unified, Some("/sys/fs/cgroup")),
            (hybrid, Some("/sys/fs/cgroup/unified")),
            ("", None),
            ("broken - cgroup2", None),
        ] {
            assert_eq!(control_group_mount(table), expected.map(PathBuf::from));
        }
    }
}
