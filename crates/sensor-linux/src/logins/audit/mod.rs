//! Logins from the audit subsystem: what login programs tell the kernel.
//!
//! Only a program with `CAP_AUDIT_WRITE` in the host's own user namespace can send such records, so they
//! are better proof than a line of a log. (A container has that capability by default with some engines.)
//! They are read from the multicast group, which any number of readers shares with auditd (Linux 3.16);
//! the kernel makes none while auditing is off, and this sensor does not turn it on. What is sent while
//! nobody reads is not kept for later: the files and the journal have it.

mod attempts;
pub(super) mod record;
mod socket;

use yinglong_model::{Timestamp, event::Login};

use super::told::{Batch, Told, Witness};
use crate::accounts::Accounts;
use attempts::{Attempts, Outcome};
use socket::{Received, Socket};

/// Messages that are taken in one turn, so that the other sources have theirs.
const TURN_MESSAGES: usize = 4096;

/// Longest message: the kernel takes 8970 bytes of text from a program.
const MESSAGE_BYTES: usize = 16 << 10;

/// Reads the audit subsystem.
#[derive(Debug)]
pub(super) struct Audit {
    socket: Result<Socket, String>,
    attempts: Attempts,
    accounts: Accounts,
    buffer: Vec<u8>,
}

impl Audit {
    pub(super) fn open(accounts: Accounts) -> Self {
        Self {
            socket: Socket::open(),
            attempts: Attempts::default(),
            accounts,
            buffer: vec![0; MESSAGE_BYTES],
        }
    }

    /// Looks whether anything can come from here, at most every ten seconds.
    pub(super) fn look(&mut self) {
        if let Ok(socket) = &mut self.socket {
            socket.look();
        }
    }

    /// Why nothing comes from here, if so.
    pub(super) fn reason(&self) -> Option<String> {
        match &self.socket {
            Ok(socket) if socket.is_on() => None,
            Ok(_) => Some("audit: auditing is off".to_owned()),
            Err(reason) => Some(reason.clone()),
        }
    }

    /// Takes what has come; says whether there may be more at once.
    pub(super) fn read(&mut self, now: Timestamp, batch: &mut Batch) -> bool {
        batch
            .told
            .extend(self.attempts.ended(now).into_iter().map(told));
        let Ok(socket) = &mut self.socket else {
            return false;
        };
        for _ in 0..TURN_MESSAGES {
            let datagram = match socket.receive(&mut self.buffer) {
                Ok(Received::Datagram(datagram)) => datagram,
                Ok(Received::Overflow) => continue,
                Ok(Received::Nothing) => {
                    batch.overflowed += socket.take_lost();
                    return false;
                }
                Err(error) => {
                    tracing::warn!(%error, "the audit subsystem is not read any more");
                    self.socket = Err(format!("audit: {error}"));
                    return false;
                }
            };
            let Some((kind, text)) = record::split(datagram) else {
                batch.malformed += 1;
                continue;
            };
            if !record::TYPES.contains(&kind) {
                continue;
            }
            match record::parse(kind, text) {
                Some(record) => {
                    let outcome = self.attempts.outcome(&record, &self.accounts);
                    batch.told.extend(outcome.map(told));
                }
                None => batch.malformed += 1,
            }
        }
        true
    }
}

fn told(outcome: Outcome) -> Told {
    Told {
        at: outcome.at,
        within: outcome.within,
        login: Login {
            username: outcome.username,
            remote: outcome.remote,
            status: outcome.success,
            hostname: String::new(),
            tty: Some(outcome.terminal).filter(|terminal| !terminal.is_empty()),
            source: Some("audit".to_owned()),
        },
        witness: Witness::AUDIT,
        forged: false,
    }
}

#[cfg(test)]
pub(super) mod tests;
