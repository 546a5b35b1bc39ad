//! Files looked at with YARA rules, by a scanner in a process of its own.
//!
//! - **Guarantees**: sensors are not held up; a file that is not scanned for want of room is
//!   counted, in the books of the stream `scan`; matches are in those of `file`. A scanner that dies is started again.
//! - **Invariants**: queue, memory of scanned files and memory of fatal files are bounded. A file
//!   that ended the scanner twice is not tried again until it changes.
//! - **Not here**: YARA itself. The agent only knows the scanner's questions and answers
//!   ([`yinglong_model::scan`]).

mod child;
mod keeper;
mod queue;
mod seen;
#[cfg(test)]
mod tests;

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    thread::{self, JoinHandle},
    time::Duration,
};

use yinglong_model::{EventType, host::SensorStatus};
use yinglong_sensor::Context;

use self::keeper::Keeper;
pub use self::queue::Feed;
use crate::{books::Books, sensors::Board};

/// Stream of the scanner in status and books.
pub const STREAM: &str = "scan";
/// Name of the scanner's program, beside the agent's.
const PROGRAM: &str = "yinglong-scanner";

/// How the scanner is started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Its program; none is off.
    pub program: Option<PathBuf>,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// A scanner that has not answered by then is ended. Longer than its own limit for one file.
    pub answer_within: Duration,
    /// First pause before a scanner that died is started again; it doubles with each death.
    pub first_pause: Duration,
}

impl Options {
    /// Named by the user (`off` for none), or the program beside the agent's own; `rules` is a
    /// folder of rules instead of those built in.
    pub fn new(named: Option<&Path>, rules: Option<&Path>) -> Self {
        let program = match named {
            Some(path) if path == Path::new("off") => None,
            Some(path) => Some(path.to_owned()),
            None => std::env::current_exe()
                .ok()
                .map(|agent| agent.with_file_name(PROGRAM)),
        };
        let mut arguments = Vec::new();
        if let Some(folder) = rules {
            arguments.extend([OsString::from("--rules"), folder.into()]);
        }
        Self {
            program,
            arguments,
            answer_within: Duration::from_secs(60),
            first_pause: Duration::from_millis(500),
        }
    }
}

/// Starts the scanner's keeper on a thread of its own, and lets it see what the sensors report.
/// Without a program nothing is started, and the status says so.
///
/// # Errors
/// The operating system refuses a thread.
pub fn start(
    context: &Context,
    books: &Books,
    board: &Board,
    options: Options,
) -> io::Result<Option<JoinHandle<()>>> {
    let off = |reason: String| {
        board.post(SensorStatus {
            stream: STREAM.to_owned(),
            source: "none".to_owned(),
            running: false,
            reason,
        });
    };
    let Some(program) = options.program.clone() else {
        off("switched off".to_owned());
        return Ok(None);
    };
    if !program.is_file() {
        off(format!(
            "files are not scanned: no {}; install yinglong-scanner there, or name it with --scanner",
            program.display()
        ));
        return Ok(None);
    }
    let feed = Feed::default();
    books.set_feed(feed.clone());
    let outlet = books.outlet(STREAM, board.clone());
    let findings = books.outlet(EventType::File.as_str(), board.clone());
    let keeper = Keeper::new(context.clone(), feed, outlet, findings, program, options);
    let thread = thread::Builder::new()
        .name(STREAM.to_owned())
        .spawn(move || keeper.run())?;
    Ok(Some(thread))
}
