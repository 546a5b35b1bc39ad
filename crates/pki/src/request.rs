//! Certificate requests: made by agents, checked by the server.

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, KeyPair,
    PKCS_ECDSA_P256_SHA256, PublicKeyData as _,
};
use rustls_pki_types::CertificateSigningRequestDer;
use zeroize::Zeroizing;

/// Length of an uncompressed P-256 point.
const P256_POINT_BYTES: usize = 65;

/// Why there is no usable request.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key could not be made.
    #[error("no key could be made")]
    Generate(#[source] rcgen::Error),
    /// Not a request, or tampered with.
    #[error("the certificate request is malformed or not signed by its own key")]
    Malformed(#[source] rcgen::Error),
    /// A request for a key of another kind.
    #[error("the certificate request is not for an ECDSA P-256 key; update the agent")]
    UnsupportedKey,
}

/// A new agent's key, and the request to have it certified.
pub struct AgentKey {
    /// Private key, PKCS #8 in PEM; for a private file, never for the wire.
    pub pem: Zeroizing<String>,
    /// PKCS #10 request, DER. Names nobody: the server decides who this is.
    pub request: Vec<u8>,
}

impl AgentKey {
    /// Makes an ECDSA P-256 key.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn generate() -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Generate)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let request = params.serialize_request(&key).map_err(Error::Generate)?;
        Ok(Self {
            pem: Zeroizing::new(key.serialize_pem()),
            request: request.der().to_vec(),
        })
    }
}

/// A request whose own signature was checked; all that is used of it is the key.
#[derive(Debug)]
pub struct AgentRequest(rcgen::PublicKey);

impl AgentRequest {
    /// Reads a PKCS #10 request, DER.
    ///
    /// # Errors
    /// It is malformed, not signed by its own key, or for a key that is not ECDSA P-256.
    pub fn parse(der: &[u8]) -> Result<Self, Error> {
        let der = CertificateSigningRequestDer::from(der);
        let request = CertificateSigningRequestParams::from_der(&der).map_err(Error::Malformed)?;
        let key = request.public_key;
        let algorithm = rcgen::PublicKeyData::algorithm(&key);
        if *algorithm != PKCS_ECDSA_P256_SHA256 || key.der_bytes().len() != P256_POINT_BYTES {
            return Err(Error::UnsupportedKey);
        }
        Ok(Self(key))
    }

    pub(crate) fn key(&self) -> &rcgen::PublicKey {
        &self.0
    }
}
