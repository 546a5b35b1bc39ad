//! Identities of servers and agents: authority, certificates, join tokens, TLS settings.
//!
//! - **Guarantees**: a peer is believed only after the TLS library has verified its certificate
//!   against one authority; there is no setting that turns this off. An agent's identity is the
//!   one the server chose, whatever the request asked for.
//! - **Invariants**: private keys are in files only their owner can read and never leave the
//!   machine that made them. A join token's secret is stored as its SHA-256 only.
//! - **Formats**: X.509 v3 with ECDSA P-256, PKCS #8 and PKCS #10; PEM in files, DER on the wire;
//!   join tokens are `yl1.` and 64 characters of base64url.
//! - **Not here**: clocks (time is an argument, except inside a TLS handshake), who is revoked,
//!   where tokens are kept.

#![forbid(unsafe_code)]

pub mod authority;
pub mod certificate;
pub mod files;
pub mod request;
pub mod tls;
pub mod token;

pub use authority::{AgentCertificate, Authority};
pub use certificate::{AgentIdentity, Serial, agent_id_of};
pub use request::{AgentKey, AgentRequest};
pub use tls::{AuthorityPin, ServerKey, TlsIdentity};
pub use token::{JoinToken, TokenError, TokenRecord};
