//! What the gateway counts.

use std::sync::atomic::{AtomicU64, Ordering};

/// Defines the counters and their names in one place.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters since the server's start; those named `_open` go up and down.
        #[derive(Debug, Default)]
        pub struct Counters { $($(#[$doc])* pub $name: AtomicU64,)* }

        impl Counters {
            /// Names and values, in the order of definition.
            pub fn snapshot(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counters! {
    /// Connections, with and without certificate.
    connections_open,
    /// Connections dropped because there are too many.
    connections_refused,
    /// Connections that did not speak TLS, or showed a certificate that is not ours.
    handshakes_failed,
    /// Attached agents.
    streams_open,
    /// Batches accepted, at least partly.
    batches,
    /// Records accepted.
    records,
    /// Records left out because they were durable or on their way already.
    duplicates,
    /// Records agents said are gone from their spools before they reached a server.
    records_lost,
    /// Messages that make no sense: undecodable, too large, or against the protocol.
    frames_bad,
    /// Batches refused because they leave out records.
    batches_gap,
    /// Batches the server could not store.
    batches_failed,
    /// Streams refused: no certificate of an agent.
    refused_no_certificate,
    /// Streams refused or cut: revoked.
    refused_revoked,
    /// Streams replaced by a newer one of the same agent.
    replaced,
    /// Streams cut because nothing was heard of the agent, or it did not read.
    cut_idle,
    /// Hosts that joined.
    enrolled,
    /// Requests to join refused, for whatever reason.
    enrolments_refused,
}

pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Counts one more of something open, until dropped.
pub(super) struct Open<C: Fn(&Counters) -> &AtomicU64> {
    counters: std::sync::Arc<Counters>,
    which: C,
}

impl<C: Fn(&Counters) -> &AtomicU64> Open<C> {
    pub(super) fn new(counters: std::sync::Arc<Counters>, which: C) -> Self {
        add(which(&counters), 1);
        Self { counters, which }
    }
}

impl<C: Fn(&Counters) -> &AtomicU64> Drop for Open<C> {
    fn drop(&mut self) {
        (self.which)(&self.counters).fetch_sub(1, Ordering::Relaxed);
    }
}
