//! The scanner as a child: started, asked, ended.

use std::{
    io::{self, BufRead as _, BufReader, IoSlice, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, OwnedFd, RawFd},
        unix::net::UnixStream,
    },
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use yinglong_model::scan::{Answer, Line, Request};
use yinglong_sensor::Context;

/// Longest line of a scanner; longer ones come from none of ours.
const LONGEST_LINE: u64 = 1 << 20;
/// Time to compile its rules.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// A running scanner. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Scanner {
    process: Child,
    questions: UnixStream,
    lines: Receiver<Line>,
    /// Number of rules in force.
    pub(super) rules: usize,
    /// Files of rules that are left out.
    pub(super) broken: Vec<String>,
}

impl Scanner {
    /// Starts one, and waits until it can be asked.
    pub(super) fn start(command: &mut Command, context: &Context) -> anyhow::Result<Self> {
        let (questions, input) = UnixStream::pair().context("there is no socket for it")?;
        let spawned = command
            .stdin(Stdio::from(OwnedFd::from(input)))
            .stdout(Stdio::piped())
            .spawn();
        // Its end is its own, so that this one notices when it is gone.
        command.stdin(Stdio::null());
        let mut process = spawned.context("it cannot be started")?;
        let Some(output) = process.stdout.take() else {
            bail!("it has no output");
        };
        let (sender, lines) = sync_channel(4);
        let mut scanner = Self {
            process,
            questions,
            lines,
            rules: 0,
            broken: Vec::new(),
        };
        thread::Builder::new()
            .name("scan-answers".into())
            .spawn(move || listen(output, &sender))
            .context("its answers cannot be read")?;
        match scanner.hear(READY_WITHIN, context)? {
            Line::Ready { rules, broken } => {
                scanner.rules = rules;
                scanner.broken = broken;
                Ok(scanner)
            }
            Line::Answer(_) => bail!("it answers before it was asked"),
        }
    }

    /// Asks about one file; `handed` goes with the question.
    pub(super) fn ask(
        &mut self,
        request: &Request,
        handed: Option<&OwnedFd>,
        within: Duration,
        context: &Context,
    ) -> anyhow::Result<Answer> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.send(&line, handed).context("it takes no questions")?;
        match self.hear(within, context)? {
            Line::Answer(answer) if answer.id == request.id => Ok(answer),
            _ => bail!("it answers what was not asked"),
        }
    }

    fn send(&mut self, line: &[u8], handed: Option<&OwnedFd>) -> io::Result<()> {
        let files: Vec<RawFd> = handed.iter().map(|file| file.as_raw_fd()).collect();
        let rights = [ControlMessage::ScmRights(&files)];
        let rights = if files.is_empty() { &[] } else { &rights[..] };
        let parts = [IoSlice::new(line)];
        let (socket, flags) = (self.questions.as_raw_fd(), MsgFlags::MSG_NOSIGNAL);
        // What goes with the question arrives with its first byte.
        let sent = sendmsg::<()>(socket, &parts, rights, flags, None)?;
        self.questions
            .write_all(line.get(sent..).unwrap_or_default())
    }

    /// Number of its process.
    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Whether it still runs.
    pub(super) fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    fn hear(&mut self, within: Duration, context: &Context) -> anyhow::Result<Line> {
        let until = Instant::now() + within;
        loop {
            if context.stopping() {
                bail!("the agent stops");
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("it did not answer within {} s", within.as_secs());
            }
            match self.lines.recv_timeout(left.min(Context::PATIENCE)) {
                Ok(line) => return Ok(line),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    // Its output is closed, so it ends by itself or talks nonsense.
                    let _ = self.process.kill();
                    match self.process.wait() {
                        Ok(status) => bail!("it ended: {status}"),
                        Err(error) => bail!("it ended: {error}"),
                    }
                }
            }
        }
    }
}

impl Drop for Scanner {
    fn drop(&mut self) {
        // It keeps nothing, so it need not be asked to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads lines until they end or make no sense.
fn listen(output: ChildStdout, lines: &SyncSender<Line>) {
    let mut output = BufReader::new(output);
    let mut text = Vec::new();
    loop {
        text.clear();
        let read = output
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut text);
        if !read.is_ok_and(|bytes| bytes > 0) {
            return;
        }
        match serde_json::from_slice(&text) {
            Ok(line) => {
                if lines.send(line).is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the scanner talks nonsense");
                return;
            }
        }
    }
}
