//! `yinglong-agent record`: what happens on this host, into a file for `yinglong replay`.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde::Serialize;
use yinglong_agent::{
    document::{Document, Host},
    local::Local,
    worker,
};
use yinglong_model::{Ledger, Record};

use super::{Follow, Stream, books, host, run::START, stop_on_signals};

const LOOK: Duration = Duration::from_millis(100);

/// Records events, not lists: `yinglong replay` runs rules over events.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File to write, which must not exist; `-` for standard output.
    file: PathBuf,
    #[command(flatten)]
    follow: Follow,
    /// Record these only: process, connection, file, loginlog, dns, syscall, exit, loss.
    #[arg(long, value_delimiter = ',')]
    types: Vec<Stream>,
    /// End after so many seconds; otherwise on Ctrl-C.
    #[arg(long)]
    seconds: Option<u64>,
    /// End before the file is larger than this.
    #[arg(long, default_value_t = 256 << 20, value_name = "BYTES")]
    max_bytes: u64,
}

/// The last line of a recording.
#[derive(Debug, Serialize)]
struct Books<'l> {
    books: &'l Ledger,
    recorded: u64,
    not_recorded: u64,
    ended: &'static str,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let stop = stop_on_signals()?;
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let mut recording = Recording::new(args)?;
    let mut local = Local::start(folder.path(), args.follow.config()?, worker::SPOOL_BYTES)?;
    local.ready(START)?;
    eprintln!("recording to {}; end it with Ctrl-C", args.file.display());
    let until = args
        .seconds
        .map(|s| Instant::now() + Duration::from_secs(s));
    let mut ended = "";
    loop {
        let count = local.drain(LOOK, |record| recording.take(&record))?;
        if count == 0 {
            recording.out.flush()?;
            if !ended.is_empty() {
                break;
            }
        }
        if ended.is_empty() {
            ended = if recording.full {
                "the file has reached its limit (--max-bytes)"
            } else if stop.load(Ordering::Acquire) {
                "asked to"
            } else if until.is_some_and(|until| Instant::now() >= until) {
                "time is up"
            } else {
                continue;
            };
            local.stop();
        }
    }
    let ledger = local.snapshot().ledger;
    recording.close(&ledger, ended)?;
    eprint!("{}", books(&ledger));
    eprintln!(
        "{} recorded, {} not; ended: {ended}",
        recording.recorded, recording.not_recorded
    );
    Ok(())
}

struct Recording<'a> {
    out: BufWriter<Box<dyn Write>>,
    host: Host,
    types: &'a [Stream],
    line: Vec<u8>,
    bytes: u64,
    max_bytes: u64,
    recorded: u64,
    /// Of types that were not asked for, lists, and what came after the limit.
    not_recorded: u64,
    full: bool,
}

impl<'a> Recording<'a> {
    fn new(args: &'a Args) -> anyhow::Result<Self> {
        let out: Box<dyn Write> = if args.file.as_os_str() == "-" {
            Box::new(io::stdout())
        } else {
            // Command lines hold secrets: nobody else reads them, and nothing is written over.
            let file = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&args.file);
            Box::new(file.with_context(|| {
                format!(
                    "cannot make {}; name a file that does not exist yet",
                    args.file.display()
                )
            })?)
        };
        Ok(Self {
            out: BufWriter::new(out),
            host: host(),
            types: &args.types,
            line: Vec::new(),
            bytes: 0,
            max_bytes: args.max_bytes,
            recorded: 0,
            not_recorded: 0,
            full: false,
        })
    }

    fn take(&mut self, record: &Record) -> anyhow::Result<()> {
        let wanted = |stream: &Stream| stream.has(&record.observation);
        let wanted = self.types.is_empty() || self.types.iter().any(wanted);
        if !wanted || Stream::Inventory.has(&record.observation) || self.full {
            self.not_recorded += 1;
            return Ok(());
        }
        self.line.clear();
        serde_json::to_writer(&mut self.line, &Document::new(&self.host, record))?;
        self.line.push(b'\n');
        let bytes = self.bytes + u64::try_from(self.line.len())?;
        if bytes > self.max_bytes {
            self.full = true;
            self.not_recorded += 1;
            return Ok(());
        }
        self.out.write_all(&self.line)?;
        self.bytes = bytes;
        self.recorded += 1;
        Ok(())
    }

    fn close(&mut self, books: &Ledger, ended: &'static str) -> anyhow::Result<()> {
        let last = Books {
            books,
            recorded: self.recorded,
            not_recorded: self.not_recorded,
            ended,
        };
        serde_json::to_writer(&mut self.out, &last).map_err(io::Error::from)?;
        self.out.write_all(b"\n")?;
        Ok(self.out.flush()?)
    }
}
