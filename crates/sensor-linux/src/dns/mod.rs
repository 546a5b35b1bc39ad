//! Questions to the domain name system, with their answers and the process that asks (stream `dns`).
//!
//! - **Guarantees**: one event per question that a socket of this host sends to port 53, over UDP or
//!   TCP, IPv4 or IPv6, in every network namespace and on every interface; the process is the one
//!   that sends, told by the kernel, never guessed. A question that is sent again on the same socket
//!   while its answer is awaited is one question.
//! - **A resolver of this host** (`systemd-resolved`, `dnsmasq` ...) asks for others: the program
//!   that asks it and the resolver that asks outside are two events, each with its own process.
//!   `client.dnsResolvers` leaves the second out, for processes that serve port 53 themselves. What
//!   `nscd` asks is always told: programs ask it through a socket that is no DNS.
//! - **Invariants**: an event leaves within 150 ms of its answer, or 5 s after the question without
//!   one. An answer counts only from the server that was asked, to the socket that asked, with the
//!   same question. Questions that wait are counted as lost when the agent is killed, by the mark
//!   `dns.ring`; what the ring holds then is read by the next agent if somebody holds the programs.
//! - **Not here**: names of `/etc/hosts` and caches (nobody is asked), multicast DNS (port 5353: not
//!   asked of a server), DNS over TLS (port 853) and HTTPS, which cannot be read, servers on other
//!   ports; packets made by hand (`AF_PACKET`), which have no socket of a process behind them.

mod kernel;
mod mark;
mod message;
mod record;
mod sensor;
mod stream;
mod table;
mod tell;

use std::error::Error as _;

use yinglong_sensor::{Error, Sensor};

use self::{kernel::Kernel, sensor::Names};
pub use crate::attached::{BpfIds, hold};
use crate::{accounts::Accounts, tree::Tree};

/// How to observe questions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Options {
    /// Programs that an earlier process loaded; loaded anew if they are gone.
    pub adopt: Option<BpfIds>,
    /// Processes whose questions are not reported: the agent's own.
    pub excluded_pids: Vec<u32>,
}

/// An opened sensor.
pub struct Opened {
    /// The sensor.
    pub sensor: Box<dyn Sensor>,
    /// What to [`hold`] while this process may be killed, and to adopt afterwards.
    pub ids: BpfIds,
}

/// Hooks the kernel.
///
/// # Errors
/// The kernel has no BTF or no control groups version 2, or the agent is not root.
pub fn open(tree: Tree, accounts: Accounts, options: Options) -> Result<Opened, Error> {
    let kernel = Kernel::open(options.adopt.as_ref()).map_err(|error| {
        let cause = error.source().map(ToString::to_string);
        let cause = cause.map(|cause| format!(": {cause}")).unwrap_or_default();
        Error::Unavailable {
            source_name: "ebpf",
            reason: format!("{error}{cause}"),
        }
    })?;
    let ids = kernel.ids().clone();
    let sensor = Box::new(Names {
        tree,
        accounts,
        kernel,
        excluded_pids: options.excluded_pids,
    });
    Ok(Opened { sensor, ids })
}

#[cfg(test)]
mod tests;
