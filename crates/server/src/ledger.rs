//! The fleet's books: what agents say they sent against what is stored.

use std::collections::BTreeMap;

use serde::Serialize;
use yinglong_model::{AgentId, DropReason, host::Host};
use yinglong_store::{Result, StateStore};

/// Books of one stream of one host.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Stream {
    /// Observed on the host.
    pub emitted: u64,
    /// Written to the agent's spool.
    pub spooled: u64,
    /// Left out by configuration.
    pub filtered: u64,
    /// Lost, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Stored here.
    pub stored: u64,
    /// Spooled but not yet stored; the agent's report is up to a minute old, so stored may be ahead.
    pub in_flight: u64,
    /// Whether every observed item is explained.
    pub balanced: bool,
}

/// Books of one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostLedger {
    /// Host.
    pub agent_id: AgentId,
    /// Its name.
    pub hostname: String,
    /// By stream.
    pub streams: BTreeMap<String, Stream>,
}

/// Puts the agents' books and the stored totals side by side.
///
/// # Errors
/// The store cannot be read.
pub fn of(hosts: &[Host], state: &dyn StateStore) -> Result<Vec<HostLedger>> {
    let mut stored: BTreeMap<AgentId, BTreeMap<String, u64>> = BTreeMap::new();
    for (agent, stream, count) in state.stored_totals()? {
        stored.entry(agent).or_default().insert(stream, count);
    }
    Ok(hosts
        .iter()
        .map(|host| {
            let totals = stored.remove(&host.agent_id).unwrap_or_default();
            HostLedger {
                agent_id: host.agent_id.clone(),
                hostname: host.hostname.clone(),
                streams: streams(host, totals),
            }
        })
        .collect())
}

fn streams(host: &Host, totals: BTreeMap<String, u64>) -> BTreeMap<String, Stream> {
    let mut streams: BTreeMap<String, Stream> = BTreeMap::new();
    for (name, books) in &host.report.ledger.streams {
        let stream = streams.entry(name.clone()).or_default();
        stream.emitted = books.emitted;
        stream.spooled = books.spooled;
        stream.filtered = books.filtered;
        stream.dropped = books.dropped.clone();
        stream.balanced = books.balances();
    }
    for (name, stored) in totals {
        // Before its first report after a start an agent has no books to doubt.
        let unreported = || Stream {
            balanced: true,
            ..Stream::default()
        };
        streams.entry(name).or_insert_with(unreported).stored = stored;
    }
    for stream in streams.values_mut() {
        stream.in_flight = stream.spooled.saturating_sub(stream.stored);
    }
    streams
}
