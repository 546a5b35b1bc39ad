//! Entries of the write-ahead log: a batch of one agent, with who sent it and when.

use prost::Message;
use yinglong_model::{AgentId, Timestamp, event::System, id::Epoch};

/// A batch as logged. Encoded with Protocol Buffers; field numbers are append-only.
#[derive(Clone, PartialEq, Message)]
struct Wire {
    #[prost(string, tag = "1")]
    agent_id: String,
    #[prost(bytes = "vec", tag = "2")]
    epoch: Vec<u8>,
    #[prost(uint64, tag = "3")]
    first_seq: u64,
    #[prost(sfixed64, tag = "4")]
    ingested_at_ns: i64,
    #[prost(string, tag = "5")]
    ip: String,
    #[prost(string, tag = "6")]
    hostname: String,
    #[prost(bool, tag = "7")]
    windows: bool,
    #[prost(bytes = "vec", repeated, tag = "8")]
    records: Vec<Vec<u8>>,
}

/// Consecutive records of one agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Agent, from its certificate.
    pub agent: AgentId,
    /// Its spool.
    pub epoch: Epoch,
    /// Sequence number of the first record.
    pub first_seq: u64,
    /// When the server took it.
    pub ingested_at: Timestamp,
    /// Host's address then.
    pub ip: String,
    /// Host's name then.
    pub hostname: String,
    /// Host's operating system.
    pub system: System,
    /// Encoded records.
    pub records: Vec<Vec<u8>>,
}

impl Entry {
    /// Sequence number of its last record.
    pub fn last_seq(&self) -> u64 {
        self.first_seq + self.records.len() as u64 - 1
    }

    /// Bytes for the log.
    pub fn encode(self) -> Vec<u8> {
        Wire {
            agent_id: self.agent.into(),
            epoch: self.epoch.0.to_le_bytes().to_vec(),
            first_seq: self.first_seq,
            ingested_at_ns: self.ingested_at.nanos(),
            ip: self.ip,
            hostname: self.hostname,
            windows: self.system == System::Windows,
            records: self.records,
        }
        .encode_to_vec()
    }

    /// Reads [`Entry::encode`] back; `None` when the bytes are no entry.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let wire = Wire::decode(bytes).ok()?;
        if wire.records.is_empty() {
            return None;
        }
        Some(Self {
            agent: wire.agent_id.parse().ok()?,
            epoch: Epoch(u128::from_le_bytes(wire.epoch.try_into().ok()?)),
            first_seq: wire.first_seq,
            ingested_at: Timestamp::from_nanos(wire.ingested_at_ns),
            ip: wire.ip,
            hostname: wire.hostname,
            system: if wire.windows {
                System::Windows
            } else {
                System::Linux
            },
            records: wire.records,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_reads_back_and_garbage_does_not() {
        let entry = Entry {
            agent: AgentId::from_bits(9),
            epoch: Epoch(3),
            first_seq: 5,
            ingested_at: Timestamp::from_nanos(7),
            ip: "192.0.2.1".into(),
            hostname: "web-1".into(),
            system: System::Linux,
            records: vec![vec![1], vec![]],
        };
        assert_eq!(entry.last_seq(), 6);
        assert_eq!(Entry::decode(&entry.clone().encode()), Some(entry));
        assert_eq!(Entry::decode(b""), None);
        assert_eq!(Entry::decode(b"\xff\xff"), None);
    }
}
