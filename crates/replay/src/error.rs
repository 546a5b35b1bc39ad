//! What ends the reading of a file.

use std::path::PathBuf;

/// Why a file cannot be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
    /// The content is in no format that is known.
    #[error(
        "{} is none of the recordings that can be replayed: JSON events, EVTX, auditd and syslog; \
         {hint}", path.display()
    )]
    Format {
        /// File.
        path: PathBuf,
        /// What it looks like, or what to do.
        hint: &'static str,
    },
}
