//! Wire format between agents and servers, and its conversion from and to the vocabulary.
//!
//! - **Guarantees**: what a newer peer adds is ignored, what an older one leaves out gets its
//!   default; a record that makes no sense is an [`Error`], never a panic.
//! - **Invariants**: field numbers are never reused. A record is encoded once, by the agent that
//!   spools it, and decoded once, by the server that stores it.
//! - **Formats**: Protocol Buffers 3, `proto/yinglong/v1/fleet.proto`.
//! - **Not here**: transport, identity (the certificate's), sequence numbers (the spool's).

#![forbid(unsafe_code)]

mod convert;

/// Generated types and services of `yinglong.v1`.
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("yinglong.v1");
}

pub use convert::{Error, decode_record, encode_record};

/// Version of the protocol; raised when an old peer could misunderstand a new one.
pub const PROTOCOL: u32 = 1;

/// Largest encoded record; a larger one is dropped and counted by the agent.
///
/// A command line of 32 KiB with its environment fits many times over; a process list of a host
/// with ten thousand processes fits too.
pub const MAX_RECORD_BYTES: usize = 4 << 20;

/// Largest message on the wire: one batch.
pub const MAX_MESSAGE_BYTES: usize = 8 << 20;

/// Name in every server certificate. Agents know their server by its authority, not by its
/// address, so that addresses can change and be translated.
pub const SERVER_NAME: &str = "yinglong-server";
