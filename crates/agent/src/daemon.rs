//! The supervisor: keeps a worker running, and keeps the kernel's records while none runs.
//!
//! The daemon does next to nothing, so that little can go wrong with it. It holds the BPF programs
//! and their rings open: when the worker is killed, executions, connections and
//! system calls keep filling them, and the next worker continues where the last one stopped.

use std::{
    io::{BufRead, BufReader},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rustix::process::{PidfdFlags, pidfd_open};
use yinglong_sensor_linux::attached::{BpfIds, hold};

use crate::sensors::Loaded;

/// A worker that lived at least so long is started again at once.
const STEADY: Duration = Duration::from_secs(10);
/// Longest pause before a worker that keeps failing is started again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a worker may take to end by itself.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How often the stop signal is looked at while the worker runs; its end is seen at once.
const PATIENCE: Duration = Duration::from_millis(500);
/// How often both are looked at where the kernel cannot tell of the end of a process, and the signal
/// while no worker runs.
const LOOK: Duration = Duration::from_millis(50);

/// What the worker has loaded into the kernel, held open.
#[derive(Default)]
struct Held {
    ids: Loaded,
    /// By sensor. Never read: holding them is the point.
    _process: Vec<OwnedFd>,
    _network: Vec<OwnedFd>,
    _dns: Vec<OwnedFd>,
    _syscall: Vec<OwnedFd>,
}

/// Runs workers until `stop` is set. `arguments` are those of the worker.
///
/// # Errors
/// The agent's own program cannot be started.
pub fn run(state: &Path, arguments: &[String], stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let held = Arc::new(Mutex::new(Held::default()));
    let mut pause = Duration::ZERO;
    while !stop.load(Ordering::Acquire) {
        let started = Instant::now();
        let mut worker = start(state, arguments, &held)?;
        tracing::info!(pid = worker.id(), "worker started");
        if let Some(output) = worker.stdout.take() {
            let held = Arc::clone(&held);
            thread::Builder::new()
                .name("worker-output".into())
                .spawn(move || keep(output, &held))?;
        }
        let ended = supervise(&mut worker, stop)?;
        if stop.load(Ordering::Acquire) {
            tracing::info!(%ended, "worker stopped");
            return Ok(());
        }
        pause = if started.elapsed() >= STEADY {
            Duration::ZERO
        } else {
            (pause * 2).clamp(Duration::from_millis(200), LONGEST_PAUSE)
        };
        tracing::error!(%ended, ?pause, "worker ended; starting it again");
        let until = Instant::now() + pause;
        while Instant::now() < until && !stop.load(Ordering::Acquire) {
            thread::sleep(LOOK);
        }
    }
    Ok(())
}

fn start(state: &Path, arguments: &[String], held: &Mutex<Held>) -> anyhow::Result<Child> {
    let program = std::env::current_exe().context("the agent's own program cannot be found")?;
    let mut command = Command::new(program);
    command
        .args(["run", "--supervised"])
        .arg("--state")
        .arg(state)
        .args(arguments)
        .stdout(Stdio::piped());
    command.stdin(Stdio::null());
    // The daemon's own group gets the terminal's Ctrl-C; the worker is told by the daemon.
    command.process_group(0);
    let ids = held
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .ids
        .clone();
    if ids != Loaded::default() {
        command.arg("--adopt").arg(serde_json::to_string(&ids)?);
    }
    command.spawn().context("the worker cannot be started")
}

/// Reads what the worker says it loaded, a line per sensor, and holds it open.
fn keep(output: ChildStdout, held: &Mutex<Held>) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let Ok(loaded) = serde_json::from_str::<Loaded>(&line) else {
            continue;
        };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(ids) = loaded.process
            && let Some(open) = hold_open(&ids, "executions")
        {
            held.ids.process = Some(ids);
            held._process = open;
        }
        if let Some(ids) = loaded.network
            && let Some(open) = hold_open(&ids, "connections")
        {
            held.ids.network = Some(ids);
            held._network = open;
        }
        if let Some(ids) = loaded.dns
            && let Some(open) = hold_open(&ids, "questions")
        {
            held.ids.dns = Some(ids);
            held._dns = open;
        }
        if let Some(ids) = loaded.syscall
            && let Some(open) = hold_open(&ids, "system calls")
        {
            held.ids.syscall = Some(ids);
            held._syscall = open;
        }
    }
}

fn hold_open(ids: &BpfIds, what: &str) -> Option<Vec<OwnedFd>> {
    hold(ids)
        .inspect_err(|error| {
            tracing::warn!(
                error = error as &dyn std::error::Error,
                what,
                "observations while the worker is away will be missed"
            );
        })
        .ok()
}

/// Waits for the worker to end; ends it when asked to stop.
fn supervise(worker: &mut Child, stop: &AtomicBool) -> anyhow::Result<std::process::ExitStatus> {
    let pid = Pid::from_raw(i32::try_from(worker.id())?);
    // Linux 5.3.
    let ending = rustix::process::Pid::from_raw(pid.as_raw())
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let mut asked: Option<Instant> = None;
    loop {
        if let Some(status) = worker
            .try_wait()
            .context("the worker cannot be waited for")?
        {
            return Ok(status);
        }
        match asked {
            None if stop.load(Ordering::Acquire) => {
                // The worker may have ended in between; the next look sees that.
                let _ = kill(pid, Signal::SIGTERM);
                asked = Some(Instant::now());
            }
            Some(since) if since.elapsed() >= STOP_GRACE => {
                tracing::warn!("the worker does not end; it is killed");
                worker.kill().context("the worker cannot be killed")?;
                asked = Some(Instant::now());
            }
            _ => {}
        }
        match &ending {
            Some(ending) => {
                let mut ends = [PollFd::new(ending.as_fd(), PollFlags::POLLIN)];
                // An interrupted wait only makes the next look earlier.
                let _ = poll(&mut ends, PATIENCE.try_into().unwrap_or(PollTimeout::ZERO));
            }
            None => thread::sleep(LOOK),
        }
    }
}
