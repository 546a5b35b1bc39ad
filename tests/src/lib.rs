//! A whole installation on this machine, started and stopped by `script/run`, for tests.
//!
//! - **Guarantees**: everything an installation started is stopped when it goes out of scope.
//! - **Not here**: anything faked. Kernel, processes, disks, TLS and the browser are real.

#![forbid(unsafe_code)]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// A running server with console, and an agent that observes this machine.
#[derive(Debug)]
pub struct Installation {
    folder: tempfile::TempDir,
    console_port: u16,
    agent_port: u16,
    settings: Vec<(String, String)>,
}

impl Installation {
    /// Starts one with its own data and ports.
    ///
    /// # Errors
    /// Something does not start; the text has the end of its log.
    pub fn start() -> anyhow::Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with these variables in its environment.
    ///
    /// # Errors
    /// Something does not start; the text has the end of its log.
    pub fn start_with(settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("yinglong-e2e-").tempdir()?;
        // Both are free now; they are held together so that they differ.
        let (first, second) = (
            TcpListener::bind("0.0.0.0:0")?,
            TcpListener::bind("0.0.0.0:0")?,
        );
        let installation = Self {
            folder,
            console_port: first.local_addr()?.port(),
            agent_port: second.local_addr()?.port(),
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        drop((first, second));
        installation.resume()?;
        Ok(installation)
    }

    /// Starts it again after [`Installation::stop`].
    ///
    /// # Errors
    /// Something does not start.
    pub fn resume(&self) -> anyhow::Result<()> {
        let (console, agent) = (self.console_port.to_string(), self.agent_port.to_string());
        let mut run = Command::new(root().join("script/run"));
        run.args([
            "--detach",
            "--no-build",
            "--profile",
            profile(),
            "--port",
            &console,
        ])
        .args(["--agent-port", &agent, "--data"])
        .arg(self.data())
        .env("CARGO_TARGET_DIR", target())
        .envs(self.settings.iter().cloned());
        succeed(&mut run).map(drop)
    }

    /// Stops everything cleanly.
    ///
    /// # Errors
    /// Something does not stop.
    pub fn stop(&self) -> anyhow::Result<()> {
        let mut run = Command::new(root().join("script/run"));
        succeed(
            run.args(["--stop", "--profile", profile(), "--data"])
                .arg(self.data())
                .env("CARGO_TARGET_DIR", target()),
        )
        .map(drop)
    }

    /// Folder with everything of it.
    pub fn data(&self) -> &Path {
        self.folder.path()
    }

    /// Address of the console.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.console_port)
    }

    /// The `yinglong` command on this installation.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary("yinglong"));
        command.args(arguments).arg("--data").arg(self.data());
        command
    }

    /// Runs `yinglong` and returns what it printed.
    ///
    /// # Errors
    /// It fails; the text has what it said.
    pub fn yinglong(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = succeed(&mut self.command(arguments))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs `yinglong` with `--json` and returns its lines.
    ///
    /// # Errors
    /// It fails, or prints something else.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let mut all = arguments.to_vec();
        all.push("--json");
        let text = self.yinglong(&all)?;
        text.lines()
            .map(|line| serde_json::from_str(line).with_context(|| line.to_owned()))
            .collect()
    }

    /// Process id of a recorded part: `server` or `agent`.
    ///
    /// # Errors
    /// It is not running.
    pub fn pid(&self, part: &str) -> anyhow::Result<i32> {
        let path = self.data().join("pids").join(part);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        Ok(text.trim().parse()?)
    }

    /// Process id of the worker below the agent's daemon.
    ///
    /// # Errors
    /// There is none.
    pub fn worker(&self) -> anyhow::Result<i32> {
        let daemon = self.pid("agent")?;
        let path = format!("/proc/{daemon}/task/{daemon}/children");
        let children = std::fs::read_to_string(&path).context(path)?;
        children
            .split_whitespace()
            .next()
            .context("the daemon has no worker")?
            .parse()
            .context("pid")
    }

    /// Executions of `/bin/true` with a mark that the server has stored. Looking for the mark is an
    /// execution with the mark, too, and is not among them.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn stored(&self, mark: &str) -> anyhow::Result<usize> {
        let query = format!("type:process | command:{mark}");
        let events = self.json(&["search", &query])?;
        let deeds = events.iter().filter(|event| {
            let name = event["data"]["name"].as_str();
            name.is_some_and(|name| name.ends_with("/true"))
        });
        Ok(deeds.count())
    }

    /// Executes with a mark until the server has stored it: sensors start a moment after the agent.
    ///
    /// # Errors
    /// It is not stored within a minute.
    pub fn observe(&self, mark: &str) -> anyhow::Result<()> {
        eventually(60, "executions are observed", || {
            storm(mark, 9..10)?;
            Ok(self.stored(mark)? > 0)
        })
    }

    /// The books of a stream of the only host.
    ///
    /// # Errors
    /// The server does not answer.
    pub fn books(&self, stream: &str) -> anyhow::Result<Books> {
        let hosts = self.json(&["ledger"])?;
        let books = hosts
            .iter()
            .map(|host| &host["streams"][stream])
            .find(|books| !books.is_null())
            .with_context(|| format!("no host has books of {stream}"))?;
        let number = |name: &str| books[name].as_u64().unwrap_or_default();
        let dropped = books["dropped"].as_object().map_or(0, |reasons| {
            reasons.values().filter_map(Value::as_u64).sum()
        });
        Ok(Books {
            emitted: number("emitted"),
            spooled: number("spooled"),
            filtered: number("filtered"),
            stored: number("stored"),
            dropped,
        })
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in ["server.log", "agent.log"] {
                let text = std::fs::read_to_string(self.data().join(log)).unwrap_or_default();
                let lines: Vec<&str> = text.lines().collect();
                let last = lines.len().saturating_sub(40);
                eprintln!("--- end of {log}\n{}", lines[last..].join("\n"));
            }
        }
        if let Err(error) = self.stop() {
            eprintln!("not stopped: {error:#}");
        }
    }
}

/// Books of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Books {
    /// Observed.
    pub emitted: u64,
    /// Spooled.
    pub spooled: u64,
    /// Filtered.
    pub filtered: u64,
    /// Stored by the server.
    pub stored: u64,
    /// Lost, all reasons together.
    pub dropped: u64,
}

impl Books {
    /// Whether everything observed is explained, and everything spooled is stored.
    pub fn balance(&self) -> bool {
        self.emitted == self.spooled + self.filtered + self.dropped && self.spooled == self.stored
    }
}

/// Root of the source tree.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .expect("the source tree is there")
}

/// A binary beside the test's own.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().expect("a test has an executable");
    let folder = own
        .parent()
        .and_then(Path::parent)
        .expect("it lies in target/<profile>/deps");
    folder.join(name)
}

/// The folder cargo builds in, wherever that is: `script/run` is to start what was built with the test.
fn target() -> PathBuf {
    let folder = binary("").join("..");
    folder.canonicalize().expect("it is there")
}

/// What was built with the test.
const fn profile() -> &'static str {
    if cfg!(debug_assertions) {
        "dev"
    } else {
        "release"
    }
}

/// Runs a program to its end.
///
/// # Errors
/// It fails; the text has what it said.
pub fn succeed(command: &mut Command) -> anyhow::Result<Output> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output)
}

/// Waits until a condition holds.
///
/// # Errors
/// It does not within `seconds`; the text names it.
pub fn eventually(
    seconds: u64,
    what: &str,
    mut holds: impl FnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut last = Ok(false);
    while Instant::now() < until {
        last = holds();
        if matches!(last, Ok(true)) {
            return Ok(());
        }
        thread::sleep(Duration::from_millis(100));
    }
    ensure!(
        last.with_context(|| what.to_owned())?,
        "not within {seconds} s: {what}"
    );
    Ok(())
}

/// Runs `/bin/true MARK-<n>` for every number, on two threads.
///
/// # Errors
/// A program cannot be started.
pub fn storm(mark: &str, numbers: std::ops::Range<u32>) -> anyhow::Result<()> {
    let run = |parity: u32| -> anyhow::Result<()> {
        for number in numbers.clone().filter(|number| number % 2 == parity) {
            let argument = format!("{mark}-{number}");
            Command::new("/bin/true")
                .arg(argument)
                .status()
                .context("/bin/true")?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let other = scope.spawn(|| run(1));
        run(0)?;
        other.join().expect("the other thread does not panic")
    })
}
