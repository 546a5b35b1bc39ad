//! Identities: of hosts, events and processes.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Identity of a host's agent, issued at enrolment; 128 random bits in lower-case hex.
///
/// An address can change and be shared, so it is only an attribute of a host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentId(String);

impl AgentId {
    /// Length in characters.
    pub const LEN: usize = 32;

    /// The identity made of these bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }

    /// The 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A text that is not 32 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an agent id is {} lower-case hexadecimal digits", AgentId::LEN)]
pub struct InvalidAgentId;

impl TryFrom<String> for AgentId {
    type Error = InvalidAgentId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let valid = text.len() == Self::LEN
            && text
                .bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if valid {
            Ok(Self(text))
        } else {
            Err(InvalidAgentId)
        }
    }
}

impl FromStr for AgentId {
    type Err = InvalidAgentId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl From<AgentId> for String {
    fn from(id: AgentId) -> Self {
        id.0
    }
}

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Random identity of one spool of one agent; a new one starts whenever the spool is made anew.
///
/// Sequence numbers count within an epoch. Without it, an agent that lost its spool would reuse
/// numbers the server has already seen, and its events would be taken for duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u128);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Identity of an event: 128 bits of SHA-256 over (agent id, epoch, sequence), in lower-case hex.
///
/// The same event gets the same id however often it is sent, on every backend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(String);

impl EventId {
    /// Derives the id.
    pub fn derive(agent: &AgentId, epoch: Epoch, seq: u64) -> Self {
        let mut hash = Sha256::new();
        hash.update(agent.as_str().as_bytes());
        hash.update(epoch.0.to_le_bytes());
        hash.update(seq.to_le_bytes());
        let digest = hash.finalize();
        let mut bits = [0; 16];
        bits.copy_from_slice(&digest[..16]);
        Self(format!("{:032x}", u128::from_be_bytes(bits)))
    }

    /// The 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for EventId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Identity of a process on one host since boot. A pid alone is reused; this is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ProcessKey {
    /// Thread group id, what user space calls pid.
    pub pid: u32,
    /// Nanoseconds from boot to the start of the process, as in `task_struct.start_boottime`.
    pub start_boottime_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agent_id_is_exactly_32_lower_case_hex_digits() {
        let id = AgentId::from_bits(0xabc);
        assert_eq!(id.as_str().parse::<AgentId>(), Ok(id.clone()));
        for bad in ["", "abc", &"g".repeat(32), &"A".repeat(32), &"a".repeat(33)] {
            assert_eq!(bad.parse::<AgentId>(), Err(InvalidAgentId), "{bad}");
        }
    }

    #[test]
    fn an_event_id_depends_on_agent_epoch_and_sequence_and_nothing_else() {
        let (a, b) = (AgentId::from_bits(1), AgentId::from_bits(2));
        let id = EventId::derive(&a, Epoch(7), 1);
        assert_eq!(id, EventId::derive(&a, Epoch(7), 1));
        assert_ne!(id, EventId::derive(&b, Epoch(7), 1));
        assert_ne!(id, EventId::derive(&a, Epoch(8), 1));
        assert_ne!(id, EventId::derive(&a, Epoch(7), 2));
    }
}
