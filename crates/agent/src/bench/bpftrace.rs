//! bpftrace beside the agent: one probe that prints what the storm does.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    seen::Seen,
    storm::{Kind, Order},
};

/// Time it may take to compile and attach.
const START: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(100);
/// Printed once the probe is attached.
const READY: &str = "ylready";

/// A running one.
pub(super) struct Bpftrace {
    child: Child,
    output: PathBuf,
}

impl Bpftrace {
    pub(super) fn start(order: &Order) -> anyhow::Result<Self> {
        let probe = match order.kind {
            Kind::Exec => "tracepoint:syscalls:sys_enter_execve { join(args->argv); }",
            Kind::File => {
                "tracepoint:syscalls:sys_enter_openat { printf(\"%s\\n\", str(args->filename)); }"
            }
            Kind::Connect => bail!("it cannot tell connections of a storm apart"),
        };
        let output = order.folder.join("bpftrace");
        let errors = order.folder.join("bpftrace-errors");
        let file = File::create(&output)?;
        let child = Command::new("bpftrace")
            .args([
                "-e",
                &format!("BEGIN {{ printf(\"{READY}\\n\"); }} {probe}"),
            ])
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(File::create(&errors)?)
            .spawn()
            .context("it cannot be run; install bpftrace")?;
        let mut trace = Self { child, output };
        let until = Instant::now() + START;
        while !trace.text().contains(READY) {
            if let Some(status) = trace.child.try_wait()? {
                let errors = fs::read(&errors).unwrap_or_default();
                let errors = String::from_utf8_lossy(&errors);
                let last = errors.trim_end().lines().last().unwrap_or_default();
                bail!("it ended at once ({status}): {last}");
            }
            if Instant::now() >= until {
                bail!("it did not start within {START:?}");
            }
            thread::sleep(LOOK);
        }
        // What is printed first is not yet proof that everything is attached.
        thread::sleep(Duration::from_secs(1));
        Ok(trace)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn end(&mut self, order: &Order) -> anyhow::Result<Seen> {
        self.stop();
        let mut seen = Seen::new(order);
        for line in self.text().lines() {
            seen.text(&order.mark(), line);
        }
        Ok(seen)
    }

    fn text(&self) -> String {
        let bytes = fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// It writes what it still has when it is interrupted.
    fn stop(&mut self) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGINT);
        }
        let _ = self.child.wait();
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.stop();
        }
    }
}
