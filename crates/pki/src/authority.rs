//! The authority: signs the certificates of servers and agents.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use yinglong_model::{AgentId, Timestamp};
use yinglong_proto::SERVER_NAME;
use zeroize::Zeroizing;

use crate::{
    certificate::{self, Serial, pem_of},
    files::{self, Existing},
    request::AgentRequest,
    tls::{AuthorityPin, TlsIdentity},
    token::random,
};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Longer than a machine lives; replacing an authority means enrolling every host again.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 3600);
const SERVER_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
const AGENT_LIFETIME: Duration = Duration::from_secs(365 * 24 * 3600);
/// A server certificate is replaced when it has less than this left.
const RENEW_BEFORE: Duration = Duration::from_secs(60 * 24 * 3600);
/// Certificates are valid a day back, for hosts whose clock is slow.
const BACKDATED: Duration = DAY;

/// Why the authority could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its files.
    #[error("the authority's files cannot be used")]
    File(#[from] files::Error),
    /// There is none.
    #[error("there is no authority in `{}`; `yinglong server` makes one at its first start", _0.display())]
    Missing(PathBuf),
    /// A file does not hold what it should.
    #[error("`{}` is damaged; restore it from a backup", _0.display())]
    Damaged(PathBuf),
    /// Its ten years are over.
    #[error("the authority's certificate has expired; create a new one and enrol all hosts again")]
    Expired,
    /// A name that cannot be in a certificate.
    #[error("`{0}` is neither a host name nor an address")]
    BadName(String),
    /// Signing failed.
    #[error("the certificate could not be signed")]
    Sign(#[source] rcgen::Error),
}

/// Certificate made for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCertificate {
    /// The certificate, DER.
    pub der: Vec<u8>,
    /// Its serial number.
    pub serial: Serial,
    /// When it expires.
    pub not_after: Timestamp,
}

/// Signs certificates with the key in a folder of the server.
pub struct Authority {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    not_after: Timestamp,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("dir", &self.dir)
            .field("pin", &self.pin())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a key and a certificate of ten years in `dir`, which becomes private.
    ///
    /// # Errors
    /// There is one already, or the folder cannot be written.
    pub fn create(dir: &Path, now: Timestamp) -> Result<Self, Error> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Sign)?;
        // The random part keeps two authorities apart in a browser's list.
        let tag = Serial::from_bytes(&random::<4>());
        let mut params = subject(&format!("Yinglong authority {tag}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        params.not_before = now.minus(BACKDATED).to_datetime();
        params.not_after = now.plus(AUTHORITY_LIFETIME).to_datetime();
        let certificate = params.self_signed(&key).map_err(Error::Sign)?;
        files::private_dir(dir)?;
        let bundle = Zeroizing::new(format!("{}{}", key.serialize_pem(), certificate.pem()));
        files::write_private(&authority_path(dir), bundle.as_bytes(), Existing::Keep)?;
        Self::open(dir)
    }

    /// Opens the authority that [`create`](Self::create) made.
    ///
    /// # Errors
    /// There is none, or its file is damaged or open to others.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = authority_path(dir);
        let bundle = files::read_private(&path)?.ok_or_else(|| Error::Missing(dir.to_owned()))?;
        let damaged = || Error::Damaged(path.clone());
        let bundle = Zeroizing::new(bundle);
        let text = std::str::from_utf8(&bundle).map_err(|_| damaged())?;
        let key = PrivateKeyDer::from_pem_slice(&bundle).map_err(|_| damaged())?;
        let key = KeyPair::try_from(&key).map_err(|_| damaged())?;
        let certificate = CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| damaged())?;
        let not_after = certificate::expiry_of(&certificate).map_err(|_| damaged())?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|_| damaged())?;
        Ok(Self {
            dir: dir.to_owned(),
            issuer,
            certificate,
            not_after,
        })
    }

    /// What agents know this authority by.
    pub fn pin(&self) -> AuthorityPin {
        AuthorityPin::of(&self.certificate)
    }

    /// Its certificate, DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its certificate, PEM: for browsers that are to trust the console.
    pub fn certificate_pem(&self) -> String {
        pem_of(&self.certificate)
    }

    /// The gateway's certificate for [`SERVER_NAME`] and `names` (host names or addresses).
    ///
    /// The one in the folder, or a new one if there is none, its names differ, or it has less
    /// than sixty days left; so calling this daily keeps it valid.
    ///
    /// # Errors
    /// A name is none, or the folder cannot be used.
    pub fn issue_server(&self, names: &[String], now: Timestamp) -> Result<TlsIdentity, Error> {
        let mut all = vec![SERVER_NAME.to_owned()];
        all.extend(names.iter().cloned());
        self.kept("server.pem", SERVER_NAME, &all, now)
    }

    /// The console's certificate, for browsers; otherwise like [`issue_server`](Self::issue_server).
    ///
    /// # Errors
    /// A name is none, or the folder cannot be used.
    pub fn issue_console(&self, names: &[String], now: Timestamp) -> Result<TlsIdentity, Error> {
        self.kept("console.pem", "yinglong-console", names, now)
    }

    /// Signs an agent's certificate of one year. Identity is `id`, nothing of the request's.
    ///
    /// # Errors
    /// The authority has expired.
    pub fn sign_agent(
        &self,
        request: &AgentRequest,
        id: &AgentId,
        now: Timestamp,
    ) -> Result<AgentCertificate, Error> {
        let mut params = subject(id.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let not_after = self.validity(&mut params, AGENT_LIFETIME, now)?;
        let serial = unguessable_serial();
        params.serial_number = Some(SerialNumber::from_slice(&serial));
        let certificate = params
            .signed_by(request.key(), &self.issuer)
            .map_err(Error::Sign)?;
        Ok(AgentCertificate {
            der: certificate.der().to_vec(),
            serial: Serial::from_bytes(&serial),
            not_after,
        })
    }

    fn kept(
        &self,
        file: &str,
        common_name: &str,
        names: &[String],
        now: Timestamp,
    ) -> Result<TlsIdentity, Error> {
        let wanted = subject_names(names)?;
        let path = self.dir.join(file);
        let stored = files::read_private(&path)?.map(Zeroizing::new);
        if let Some(identity) = stored.as_deref().and_then(|pem| self.read_identity(pem))
            && identity.not_after > now.plus(RENEW_BEFORE).min(self.not_after.minus(DAY))
            && identity
                .chain
                .first()
                .is_some_and(|leaf| has_names(leaf, &wanted))
        {
            return Ok(identity);
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(Error::Sign)?;
        let mut params = subject(common_name);
        params.subject_alt_names = wanted;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.serial_number = Some(SerialNumber::from_slice(&unguessable_serial()));
        let not_after = self.validity(&mut params, SERVER_LIFETIME, now)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(Error::Sign)?;
        let bundle = Zeroizing::new(format!("{}{}", key.serialize_pem(), certificate.pem()));
        files::write_private(&path, bundle.as_bytes(), Existing::Replace)?;
        Ok(TlsIdentity {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: key.into(),
            not_after,
        })
    }

    /// A stored key and certificate, if they are this authority's and fit together.
    fn read_identity(&self, pem: &[u8]) -> Option<TlsIdentity> {
        let mut identity = TlsIdentity::from_pem(pem).ok()?;
        let leaf = identity.chain.first()?;
        let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
        let (_, authority) = X509Certificate::from_der(&self.certificate).ok()?;
        parsed.verify_signature(Some(authority.public_key())).ok()?;
        identity.chain.truncate(1);
        identity.chain.push(self.certificate.clone());
        Some(identity)
    }

    /// Sets the validity: nothing outlives the authority itself.
    fn validity(
        &self,
        params: &mut CertificateParams,
        lifetime: Duration,
        now: Timestamp,
    ) -> Result<Timestamp, Error> {
        if now >= self.not_after {
            return Err(Error::Expired);
        }
        // X.509 counts whole seconds.
        let not_after = Timestamp::from_secs(now.plus(lifetime).min(self.not_after).secs());
        params.not_before = now.minus(BACKDATED).to_datetime();
        params.not_after = not_after.to_datetime();
        Ok(not_after)
    }
}

fn authority_path(dir: &Path) -> PathBuf {
    dir.join("authority.pem")
}

fn subject(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params
}

/// Sixteen random bytes that read as a positive number without leading zeros.
fn unguessable_serial() -> [u8; 16] {
    let mut serial = random::<16>();
    serial[0] = serial[0] & 0x7f | 0x40;
    serial
}

fn subject_names(names: &[String]) -> Result<Vec<SanType>, Error> {
    let mut all = Vec::new();
    for name in names {
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let entry = match bare.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) if is_host_name(name) => SanType::DnsName(
                name.as_str()
                    .try_into()
                    .map_err(|_| Error::BadName(name.clone()))?,
            ),
            Err(_) => return Err(Error::BadName(name.clone())),
        };
        if !all.contains(&entry) {
            all.push(entry);
        }
    }
    Ok(all)
}

fn is_host_name(name: &str) -> bool {
    rustls_pki_types::DnsName::try_from(name).is_ok()
}

fn has_names(leaf: &CertificateDer<'_>, wanted: &[SanType]) -> bool {
    let Ok((_, leaf)) = X509Certificate::from_der(leaf) else {
        return false;
    };
    let Ok(Some(names)) = leaf.subject_alternative_name() else {
        return wanted.is_empty();
    };
    let same = |found: &GeneralName<'_>, wanted: &SanType| match (found, wanted) {
        (GeneralName::DNSName(found), SanType::DnsName(wanted)) => *found == wanted.as_str(),
        (GeneralName::IPAddress(found), SanType::IpAddress(IpAddr::V4(wanted))) => {
            *found == wanted.octets()
        }
        (GeneralName::IPAddress(found), SanType::IpAddress(IpAddr::V6(wanted))) => {
            *found == wanted.octets()
        }
        _ => false,
    };
    let found = &names.value.general_names;
    found.len() == wanted.len()
        && wanted
            .iter()
            .all(|wanted| found.iter().any(|found| same(found, wanted)))
}

#[cfg(test)]
mod tests;
