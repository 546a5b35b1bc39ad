//! What a certificate says about its holder.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use yinglong_model::{AgentId, Timestamp};

/// Serial number of a certificate, lower-case hex; what revocation names.
#[derive(
    Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct Serial(String);

impl Serial {
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom an agent's certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentIdentity {
    /// The agent.
    pub id: AgentId,
    /// Serial number of the certificate.
    pub serial: Serial,
    /// When the certificate expires.
    pub not_after: Timestamp,
}

/// Why a certificate is no agent's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not X.509.
    #[error("not a certificate")]
    Malformed,
    /// Its subject is not one common name that is an agent id.
    #[error("the certificate does not name an agent; enrol this host with a join token")]
    NotAnAgent,
}

/// Reads whom a certificate names. The caller has verified the certificate; this does not.
///
/// # Errors
/// It is no certificate, or not one of an agent.
pub fn agent_id_of(der: &[u8]) -> Result<AgentIdentity, Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Malformed)?;
    let mut names = certificate.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err(Error::NotAnAgent);
    };
    let id = name
        .as_str()
        .ok()
        .and_then(|name| name.parse().ok())
        .ok_or(Error::NotAnAgent)?;
    Ok(AgentIdentity {
        id,
        serial: Serial::from_bytes(certificate.raw_serial()),
        not_after: not_after(&certificate),
    })
}

/// When a certificate expires.
///
/// # Errors
/// It is no certificate.
pub fn expiry_of(der: &[u8]) -> Result<Timestamp, Error> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Error::Malformed)?;
    Ok(not_after(&certificate))
}

/// A certificate as text.
pub fn pem_of(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> = encoded
        .as_bytes()
        .chunks(64)
        .filter_map(|line| std::str::from_utf8(line).ok())
        .collect();
    format!(
        "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
        lines.join("\n")
    )
}

fn not_after(certificate: &X509Certificate<'_>) -> Timestamp {
    Timestamp::from_secs(certificate.validity().not_after.timestamp())
}
