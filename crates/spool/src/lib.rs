//! Crash-safe queue on disk: between the sensors and the uplink on an agent, and in front of the
//! pipeline on a server, where it is the write-ahead log.
//!
//! - **Guarantees**: records appended together are kept or lost together. After the process is
//!   killed nothing that [`Spool::append`] accepted is missing; after a power cut nothing that was
//!   appended before the last [`Spool::sync`] is. Records are read in order, each as often as
//!   wanted, until they are released.
//! - **Invariants**: sequence numbers are dense from 1 within an epoch and never reused. A sealed
//!   segment never changes. The newest note (`meta`) is always in the newest segments, so that old
//!   ones can be deleted. Notes alone do not make a spool grow without end: a segment of nothing but
//!   notes is replaced as a whole by one with the newest.
//! - **Format**: segments `<first sequence, 20 digits>.seg`, little-endian. Header: magic
//!   `YLSPOOL1` | epoch (u128) | first sequence (u64) | crc32c (u32). Then frames: length (u32) |
//!   crc32c of the body (u32) | body. Body: first sequence (u64) | number of records (u32) | length
//!   of the note (u32) | note | per record its length (u32) and bytes. A torn frame at the end is
//!   what a crash leaves; it is cut off on opening. `released` holds the last released sequence
//!   (u64) and its crc32c (u32); when it is unreadable everything is offered again.
//! - **Not here**: what records mean, encryption at rest (the volume's job), removing duplicates
//!   (the receiver's job).

#![forbid(unsafe_code)]

mod frame;
mod segment;
mod spool;

pub use spool::{Options, Recovery, Room, Spool, Usage};

use std::path::PathBuf;

/// Why the spool could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The size limit is reached; records can be appended again once some are released.
    #[error("the spool is full ({used_bytes} of {max_bytes} bytes)")]
    Full {
        /// Bytes in use.
        used_bytes: u64,
        /// The limit.
        max_bytes: u64,
    },
    /// More than a frame may hold.
    #[error("a batch of {bytes} bytes is larger than {max_bytes}", max_bytes = frame::MAX_BODY_BYTES)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Records in the middle cannot be read; what follows them can.
    #[error("records {first_lost} to {last_lost} in {path} are damaged")]
    Corrupt {
        /// The segment.
        path: PathBuf,
        /// First damaged record.
        first_lost: u64,
        /// Last damaged record; reading can go on after it.
        last_lost: u64,
    },
    /// A folder that another process has open.
    #[error("{path} is in use by another process; stop it first")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The operating system refused a call.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    /// Whether the disk has no room left.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Io { source, .. } => matches!(
                source.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
    }
}
