//! The measured agent: a process of its own with sensors and spool, asked over its input.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use yinglong_model::config::AgentConfig;

use super::storm::Order;
use crate::local::{Local, Snapshot};

/// Time sensors may take to start.
const START: Duration = Duration::from_secs(60);
/// Time after the start for first scans and lists, which are no part of a storm.
const WARM_UP: Duration = Duration::from_millis(1500);
/// Longest time the agent may need to work a storm off.
const PATIENCE: Duration = Duration::from_secs(60);
/// A stream that does not grow for so long has nothing more to tell: the slowest sensor waits
/// less than half of it.
const QUIET: Duration = Duration::from_millis(1000);
const LOOK: Duration = Duration::from_millis(100);
/// A ring with less in it has been read to what came a moment ago.
const NEARLY_EMPTY_BYTES: u64 = 128 << 10;
/// Enough for a storm of the largest size.
const SPOOL_BYTES: u64 = 16 << 30;

/// The other side: observes into `state`, answers each line of input with a snapshot, ends with the
/// input. `watched` is watched for changes besides what always is. What is in the spool stays there
/// unless `release`.
///
/// # Errors
/// The sensors cannot be started.
pub fn serve(
    state: &Path,
    watched: &Path,
    release: bool,
    input: impl BufRead,
    mut output: impl Write,
) -> anyhow::Result<()> {
    let mut config = AgentConfig::default();
    config.client.lan = true;
    let watched = watched.to_str().context("the folder is no text")?;
    config.client.monitor_path.push(format!("{watched}/*"));
    let mut local = Local::start(state, config, SPOOL_BYTES)?;
    local.ready(START)?;
    let mut answer = |local: &Local| -> anyhow::Result<()> {
        serde_json::to_writer(&mut output, &local.snapshot())?;
        output.write_all(b"\n")?;
        Ok(output.flush()?)
    };
    answer(&local)?;
    for line in input.lines() {
        line?;
        while release && local.drain(Duration::ZERO, |_| Ok(()))? > 0 {}
        answer(&local)?;
    }
    local.stop();
    // Nobody may be there any more to hear it.
    let _ = answer(&local);
    Ok(())
}

/// This side.
pub(super) struct Observer {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    state: PathBuf,
    blind: Vec<String>,
}

/// What an ordinary host lets an agent observe.
pub(super) const EVERY_STREAM: [&str; 5] = ["process", "connection", "dns", "file", "syscall"];

impl Observer {
    /// Starts an agent that keeps everything in its spool, for counting.
    /// Without one of the streams asked for there is nothing to measure.
    pub(super) fn start(folder: &Path, streams: &[&str]) -> anyhow::Result<Self> {
        Self::with(folder, &[], streams)
    }

    /// Starts an agent that lets go of its spool whenever it is asked.
    pub(super) fn start_releasing(folder: &Path) -> anyhow::Result<Self> {
        Self::with(folder, &["--release"], &EVERY_STREAM)
    }

    fn with(folder: &Path, options: &[&str], streams: &[&str]) -> anyhow::Result<Self> {
        let state = folder.join("agent");
        let watched = folder.join("storm");
        for path in [&state, &watched] {
            std::fs::create_dir_all(path)?;
        }
        let program = std::env::current_exe().context("this program cannot be found")?;
        let mut command = Command::new(program);
        command
            .args(["bench", "observe"])
            .args(options)
            .arg(&state)
            .arg(&watched)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        if std::env::var_os("YINGLONG_LOG").is_none() {
            command.env("YINGLONG_LOG", "error");
        }
        let mut child = command.spawn().context("the agent cannot be started")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let mut observer = Self {
            child,
            input,
            output: BufReader::new(output.context("the agent has no output")?),
            state,
            blind: Vec::new(),
        };
        let first = observer.hear().context("the agent did not start")?;
        for sensor in first.sensors.iter().filter(|sensor| !sensor.running) {
            if streams.contains(&sensor.stream.as_str()) {
                bail!("{} is not observed: {}", sensor.stream, sensor.reason);
            }
            let blind = format!("{}: {}", sensor.stream, sensor.reason);
            observer.blind.push(blind);
        }
        thread::sleep(WARM_UP);
        Ok(observer)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Streams that are not observed, each with the reason.
    pub(super) fn blind(&self) -> &[String] {
        &self.blind
    }

    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    fn hear(&mut self) -> anyhow::Result<Snapshot> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line).context("the agent ended; its own words are above")
    }

    pub(super) fn ask(&mut self) -> anyhow::Result<Snapshot> {
        let input = self.input.as_mut().context("the agent has been ended")?;
        input.write_all(b"\n")?;
        self.hear()
    }

    /// Waits until the agent has worked the storm off.
    pub(super) fn settled(&mut self, order: &Order) -> anyhow::Result<Snapshot> {
        let until = Instant::now() + PATIENCE;
        let (mut last, mut since) = (0, Instant::now());
        // Others on this machine do things as well: a trickle is no growth.
        let trickle = u64::from(order.count / 200).max(5);
        loop {
            let now = self.ask()?;
            let books = now.ledger.streams.get(order.kind.stream());
            let emitted = books.map_or(0, |books| books.emitted);
            if emitted.saturating_sub(last) > trickle {
                (last, since) = (emitted, Instant::now());
            }
            let read = now
                .rings
                .values()
                .all(|ring| ring.used_bytes < NEARLY_EMPTY_BYTES);
            if read && since.elapsed() >= QUIET || Instant::now() >= until {
                return Ok(now);
            }
            thread::sleep(LOOK);
        }
    }

    /// Ends the agent; its last books.
    pub(super) fn end(&mut self) -> anyhow::Result<Snapshot> {
        self.input = None;
        let last = self.hear();
        self.child.wait()?;
        last
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        // It ends by itself when its input does; whoever fails in between does not wait for that.
        self.input = None;
        let _ = self.child.wait();
    }
}
