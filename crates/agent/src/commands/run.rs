//! `yinglong-agent run`: a worker without a daemon; with `--debug`, without a server as well.

use std::{
    io::{BufWriter, Write as _},
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use yinglong_agent::{document::Document, local::Local, scanner, sensors::Loaded, worker};

use super::{Follow, Line, Stream, books, host, stop_on_signals};

/// How long is waited for something to print before the signals are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Time sensors may take to start: on Linux 5.10 and a slow processor programs are checked for long.
pub(crate) const START: Duration = Duration::from_secs(60);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    follow: Follow,
    #[command(flatten)]
    line: Line,
    /// Print what is observed, one line of JSON each, and send nothing. Needs no server and no
    /// enrolment; what it keeps meanwhile is in a temporary folder.
    #[arg(long)]
    debug: bool,
    /// With --debug: print these only.
    #[arg(long, value_delimiter = ',', requires = "debug")]
    types: Vec<Stream>,
    /// With --debug: end after so many seconds; otherwise on Ctrl-C.
    #[arg(long, requires = "debug")]
    seconds: Option<u64>,
    /// BPF programs held by the daemon, as JSON.
    #[arg(long, hide = true)]
    adopt: Option<String>,
    /// Started by the daemon.
    #[arg(long, hide = true)]
    supervised: bool,
}

pub(crate) fn run(args: Args) -> anyhow::Result<()> {
    if args.debug {
        return debug(&args);
    }
    args.follow.refuse("--debug")?;
    args.line.check()?;
    // A worker without its daemon would be in the way of the next one.
    if args.supervised {
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
    }
    let adopt = args
        .adopt
        .map(|text| serde_json::from_str::<Loaded>(&text))
        .transpose()
        .context("--adopt is given by the daemon only")?
        .unwrap_or_default();
    let line = args.line;
    worker::run(worker::Options {
        state: args.follow.state.state,
        scanner: scanner::Options::new(line.scanner.as_deref(), line.yara_rules.as_deref()),
        servers: line.servers,
        supervised: args.supervised,
        adopt,
        spool_bytes: line.spool_bytes,
    })
}

/// Prints what is observed until a signal comes or the time is up.
fn debug(args: &Args) -> anyhow::Result<()> {
    let stop = stop_on_signals()?;
    let folder = tempfile::tempdir().context("no temporary folder can be made")?;
    let host = host();
    let mut local = Local::start(folder.path(), args.follow.config()?, args.line.spool_bytes)?;
    local.ready(START)?;
    let until = args
        .seconds
        .map(|s| Instant::now() + Duration::from_secs(s));
    let mut out = BufWriter::new(std::io::stdout().lock());
    let mut stopped = false;
    loop {
        let count = local.drain(LOOK, |record| {
            let wanted = |stream: &Stream| stream.has(&record.observation);
            if args.types.is_empty() || args.types.iter().any(wanted) {
                serde_json::to_writer(&mut out, &Document::new(&host, &record))
                    .map_err(std::io::Error::from)?;
                out.write_all(b"\n")?;
            }
            Ok(())
        })?;
        if count == 0 {
            // Somebody is watching: nothing waits for a full buffer.
            out.flush()?;
            if stopped {
                break;
            }
        }
        let due = until.is_some_and(|until| Instant::now() >= until);
        if !stopped && (due || stop.load(Ordering::Acquire)) {
            local.stop();
            stopped = true;
        }
    }
    eprint!("{}", books(&local.snapshot().ledger));
    Ok(())
}
