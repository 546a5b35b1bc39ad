//! A connection, and which way and how it goes.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::FieldValue;

/// Who started a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// The remote side.
    In,
    /// This host.
    #[default]
    Out,
}

impl FieldValue for Direction {
    fn value(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            Self::In => "in",
            Self::Out => "out",
        }))
    }
}

/// Transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
}

impl FieldValue for Protocol {
    fn value(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }))
    }
}

/// A connection attempt, or a UDP flow.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Connection {
    /// Who started it.
    pub dir: Direction,
    /// Transport.
    pub protocol: Protocol,
    /// This host's `ip:port`; IPv6 as `[ip]:port`.
    pub local: String,
    /// The other side's `ip:port`; IPv6 as `[ip]:port`.
    pub remote: String,
    /// The other side's address without port; what statistics, lists and intelligence use.
    pub remote_ip: String,
    /// Executable that owns the socket; empty when none does (scan of a closed port).
    pub name: String,
    /// Its process id; 0 when unknown.
    pub pid: u32,
    /// User name of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Outcome when it is known: `established`, `refused`, `timeout`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// How the process was found: `kernel`, `lookup`, `none`; `raw` when no socket of this host made
    /// the request, so that a program must have made the packet itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
}

fields!(Connection: dir, protocol, local, remote, remote_ip, name, pid, user, state, attribution;
    derived: initiated, source_ip, source_port, destination_ip, destination_port, remote_port);
