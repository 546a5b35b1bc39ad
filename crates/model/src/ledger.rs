//! The books: where every observed thing went.
//!
//! For every stream, `emitted = spooled + filtered + sum(dropped)` on the agent, and what was
//! spooled and acknowledged equals what the server stored. A difference is a bug or an attack.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why something observed was not kept. The name is a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// The kernel's ring was full because the reader was too slow.
    RingFull,
    /// The kernel's ring was filling up, and its control group had had a fair share of it.
    OverShare,
    /// A packet capture buffer was full.
    CaptureFull,
    /// A kernel notification queue overflowed; the number is a lower bound.
    QueueOverflow,
    /// Taken from its source by an agent that was killed before it could be spooled.
    AgentKilled,
    /// Happened while no agent ran; the number comes from a kernel counter, where there is one.
    AgentDown,
    /// The spool reached its size limit, or its disk is full.
    SpoolFull,
    /// The spool was filling up, and room was kept for what is worth more.
    Shed,
    /// Larger than a record may be.
    TooLarge,
    /// Bytes from the source that make no sense.
    Malformed,
    /// The server could not read it.
    Rejected,
    /// As many files waited for the scanner of files as may: it was too slow for them.
    ScanQueueFull,
    /// The scanner of files could not look at all of a file: it took too long, could not be read, or
    /// ended the scanner.
    ScanFailed,
    /// Came and went between two looks at what runs; an upper bound, threads included.
    Unseen,
}

impl DropReason {
    /// All reasons.
    pub const ALL: [Self; 14] = [
        Self::RingFull,
        Self::OverShare,
        Self::CaptureFull,
        Self::QueueOverflow,
        Self::AgentKilled,
        Self::AgentDown,
        Self::SpoolFull,
        Self::Shed,
        Self::TooLarge,
        Self::Malformed,
        Self::Rejected,
        Self::ScanQueueFull,
        Self::ScanFailed,
        Self::Unseen,
    ];

    /// Name in documents and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::OverShare => "over_share",
            Self::CaptureFull => "capture_full",
            Self::QueueOverflow => "queue_overflow",
            Self::AgentKilled => "agent_killed",
            Self::AgentDown => "agent_down",
            Self::SpoolFull => "spool_full",
            Self::Shed => "shed",
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Rejected => "rejected",
            Self::ScanQueueFull => "scan_queue_full",
            Self::ScanFailed => "scan_failed",
            Self::Unseen => "unseen",
        }
    }

    /// The reason of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == name)
    }
}

/// Whose observations something is about, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Origin {
    /// Identity of a container.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Control group path, version 2 hierarchy; `pid:[N]` for a process namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// User name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
}

/// Books of one stream.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamLedger {
    /// Observed at the source, including what the source itself lost.
    pub emitted: u64,
    /// Written to the spool.
    pub spooled: u64,
    /// Left out because configuration says so.
    pub filtered: u64,
    /// Lost, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
}

impl StreamLedger {
    /// All losses together.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// Whether every emitted item is explained.
    pub fn balances(&self) -> bool {
        self.emitted == self.spooled + self.filtered + self.dropped_total()
    }

    /// Adds a loss, which also counts as emitted.
    pub fn lose(&mut self, reason: DropReason, count: u64) {
        if count > 0 {
            self.emitted += count;
            *self.dropped.entry(reason).or_default() += count;
        }
    }
}

/// Books of an agent, per stream (`process`, `connection`, `file`, `loginlog`, `dns`, `syscall`, `exit`, `inventory`,
/// `scan`, `loss`).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ledger {
    /// By stream name.
    pub streams: BTreeMap<String, StreamLedger>,
}

impl Ledger {
    /// Books of a stream, opened when there are none.
    pub fn stream(&mut self, name: &str) -> &mut StreamLedger {
        self.streams.entry(name.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_keeps_the_books_balanced() {
        let mut books = StreamLedger {
            emitted: 3,
            spooled: 2,
            filtered: 1,
            ..Default::default()
        };
        books.lose(DropReason::RingFull, 5);
        books.lose(DropReason::AgentDown, 0);
        assert!(books.balances());
        assert_eq!(books.dropped_total(), 5);
        assert_eq!(books.dropped.len(), 1);
    }

    #[test]
    fn every_reason_has_a_name_that_reads_back() {
        for reason in DropReason::ALL {
            assert_eq!(DropReason::from_name(reason.as_str()), Some(reason));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
    }
}
