//! For tests: a network namespace of one's own, with a loopback interface and nothing else.

use std::{process::Command, thread};

use nix::sched::{CloneFlags, unshare};

/// Does the work in a thread that is in one; needs root. Threads and processes started there are in it, too.
pub(crate) fn in_namespace<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let done = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let status = Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()
                .unwrap();
            assert!(status.success());
            work()
        });
        worker.join()
    });
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}
