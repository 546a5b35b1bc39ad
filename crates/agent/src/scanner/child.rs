//! The scanner as a child: started, asked, ended.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
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
    questions: ChildStdin,
    lines: Receiver<Line>,
    /// Number of rules in force.
    pub(super) rules: usize,
    /// Files of rules that are left out.
    pub(super) broken: Vec<String>,
}

impl Scanner {
    /// Starts one, and waits until it can be asked.
    pub(super) fn start(command: &mut Command, context: &Context) -> anyhow::Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("it cannot be started")?;
        let (Some(questions), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("it has no input or output");
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

    /// Asks about one file.
    pub(super) fn ask(
        &mut self,
        request: &Request,
        within: Duration,
        context: &Context,
    ) -> anyhow::Result<Answer> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.questions
            .write_all(&line)
            .context("it takes no questions")?;
        match self.hear(within, context)? {
            Line::Answer(answer) if answer.id == request.id => Ok(answer),
            _ => bail!("it answers what was not asked"),
        }
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
