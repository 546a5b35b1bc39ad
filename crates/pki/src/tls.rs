//! TLS settings: who believes whom, and why.

use std::{
    fmt,
    sync::{Arc, RwLock},
};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    SignatureScheme,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _};
use sha2::{Digest as _, Sha256};
use yinglong_model::Timestamp;
use yinglong_proto::SERVER_NAME;

use crate::certificate::expiry_of;

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The library refused the key or the certificates.
    #[error("the key and the certificates do not fit together; restore them from a backup")]
    Rustls(#[from] rustls::Error),
    /// Not PEM, or something is missing in it.
    #[error("no private key and certificate there; restore the file from a backup")]
    Pem(#[source] rustls_pki_types::pem::Error),
    /// A key alone.
    #[error("no certificate beside the private key; restore the file from a backup")]
    NoCertificate,
    /// The authority's certificate cannot verify others.
    #[error("the authority's certificate cannot be used to verify agents")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// SHA-256 of an authority's certificate, DER: the authority an agent believes, and no other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AuthorityPin(pub [u8; 32]);

impl AuthorityPin {
    /// The pin of this certificate.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for AuthorityPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for AuthorityPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthorityPin({self})")
    }
}

/// The server that answered does not belong to the pinned authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the server does not belong to the authority this host was told to trust ({0}); check the \
     address, and take a join token from that server"
)]
pub struct WrongAuthority(pub AuthorityPin);

/// A key with its certificate chain: leaf first, then the authority.
#[derive(Debug)]
pub struct TlsIdentity {
    /// Leaf and authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the leaf.
    pub key: PrivateKeyDer<'static>,
    /// When the leaf expires.
    pub not_after: Timestamp,
}

impl TlsIdentity {
    /// Reads a private key and its chain from one text.
    ///
    /// # Errors
    /// One is missing, or they do not fit together.
    pub fn from_pem(pem: &[u8]) -> Result<Self, Error> {
        let key = PrivateKeyDer::from_pem_slice(pem).map_err(Error::Pem)?;
        let chain = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::Pem)?;
        let leaf = chain.first().ok_or(Error::NoCertificate)?;
        let not_after = expiry_of(leaf).map_err(|_| Error::NoCertificate)?;
        let identity = Self {
            chain,
            key,
            not_after,
        };
        identity.certified_key()?;
        Ok(identity)
    }

    pub(crate) fn certified_key(&self) -> Result<CertifiedKey, Error> {
        let key = provider()
            .key_provider
            .load_private_key(self.key.clone_key())?;
        let certified = CertifiedKey::new(self.chain.clone(), key);
        certified.keys_match()?;
        Ok(certified)
    }
}

/// The identity a running server shows, replaceable without a restart.
#[derive(Debug)]
pub struct ServerKey(RwLock<Arc<CertifiedKey>>);

impl ServerKey {
    /// Starts with `identity`.
    ///
    /// # Errors
    /// Key and certificate do not fit together.
    pub fn new(identity: &TlsIdentity) -> Result<Arc<Self>, Error> {
        let key = Arc::new(identity.certified_key()?);
        Ok(Arc::new(Self(RwLock::new(key))))
    }

    /// Shows `identity` to everyone who connects from now on.
    ///
    /// # Errors
    /// Key and certificate do not fit together; the old identity stays.
    pub fn replace(&self, identity: &TlsIdentity) -> Result<(), Error> {
        let key = Arc::new(identity.certified_key()?);
        *self
            .0
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = key;
        Ok(())
    }
}

impl ResolvesServerCert for ServerKey {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self
            .0
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        Some(Arc::clone(&key))
    }
}

/// For the gateway: TLS 1.3, HTTP/2; a client certificate is optional, because a host that joins
/// has none, but one that is shown must be of `authority`.
///
/// # Errors
/// The authority's certificate cannot be used.
pub fn gateway_config(
    key: Arc<ServerKey>,
    authority: &CertificateDer<'static>,
) -> Result<ServerConfig, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(key);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // An agent keeps its connection for days; tickets would only cost memory.
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For the console: what browsers of today speak, HTTP/2 and HTTP/1.1, no client certificate.
///
/// # Errors
/// The library refuses its own defaults.
pub fn console_config(key: Arc<ServerKey>) -> Result<ServerConfig, Error> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(key);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

/// For agents: TLS 1.3 to a server of the pinned authority, with the agent's own certificate
/// unless it has none yet.
///
/// # Errors
/// Key and certificate do not fit together.
pub fn agent_config(pin: AuthorityPin, own: Option<&TlsIdentity>) -> Result<ClientConfig, Error> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(PinnedVerifier::new(pin)));
    let mut config = match own {
        Some(own) => builder.with_client_auth_cert(own.chain.clone(), own.key.clone_key())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// Checks that `leaf` is a client certificate of `authority`, valid at `now`.
///
/// # Errors
/// It is not.
pub fn verify_agent(
    leaf: &CertificateDer<'_>,
    authority: &CertificateDer<'static>,
    now: Timestamp,
) -> Result<(), Error> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone())?;
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build()?;
    verifier.verify_client_cert(leaf, &[], unix_time(now))?;
    Ok(())
}

/// Name agents ask for, whatever the address they dial.
pub fn server_name() -> ServerName<'static> {
    ServerName::try_from(SERVER_NAME).expect("the server name is a host name")
}

/// Believes a server whose chain holds the pinned authority and verifies against exactly that
/// one, under [`SERVER_NAME`].
#[derive(Debug)]
pub struct PinnedVerifier {
    pin: AuthorityPin,
    provider: Arc<CryptoProvider>,
}

impl PinnedVerifier {
    /// Believes servers of this authority.
    pub fn new(pin: AuthorityPin) -> Self {
        Self {
            pin,
            provider: provider(),
        }
    }
}

impl ServerCertVerifier for PinnedVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _dialled: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let authority = intermediates
            .iter()
            .find(|certificate| AuthorityPin::of(certificate) == self.pin)
            .ok_or_else(|| {
                let cause = rustls::OtherError(Arc::new(WrongAuthority(self.pin)));
                rustls::Error::InvalidCertificate(CertificateError::Other(cause))
            })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?
            .verify_server_cert(end_entity, &[], &server_name(), ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, supported)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let supported = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, supported)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unix_time(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(at.since(Timestamp::from_secs(0)))
}

#[cfg(test)]
mod tests;
