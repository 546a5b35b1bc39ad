//! Numbers of the tracepoints of system calls.

use std::{fs, path::Path, thread};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Where tracefs is mounted.
const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];

/// Number of a tracepoint of a system call, `sys_exit_accept` for example; within [`with`].
pub(crate) fn number(tracepoint: &str) -> Option<u64> {
    TRACEFS.iter().find_map(|root| {
        let path = format!("{root}/events/syscalls/{tracepoint}/id");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    })
}

/// Runs `work` where syscall tracepoints have their numbers in a mounted tracefs. When the host
/// has none mounted, `work` runs in a thread with a mount namespace of its own, so that nobody
/// else sees the mount, and it ends with the thread. When it cannot be mounted, `work` finds none.
pub(crate) fn with<T: Send>(work: impl FnOnce() -> T + Send) -> T {
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
