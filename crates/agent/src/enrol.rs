//! Joining a fleet: a join token for an identity, once in an agent's life.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tonic::Status;
use yinglong_model::{AgentId, Timestamp};
use yinglong_pki::{
    AgentIdentity, AgentKey, AuthorityPin, JoinToken, TlsIdentity, agent_id_of,
    certificate::{self, pem_of},
    files::{self, Existing},
    request, tls,
};
use yinglong_proto::v1::{self, enrolment_client::EnrolmentClient};
use zeroize::Zeroizing;

use crate::uplink::{DialError, Rejected, dial};

/// Key, certificate and authority in one file, so that there is never only a part of them.
const FILE: &str = "identity.pem";
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why this host has not joined.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The identity cannot be kept.
    #[error("this host's identity cannot be kept or read")]
    File(#[from] files::Error),
    /// The identity is there, but makes no sense.
    #[error("`{}` is damaged; remove it and enrol this host with a new join token", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: DamagedBy,
    },
    /// No key could be made.
    #[error("this host's key could not be made")]
    Key(#[from] request::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls(#[from] tls::Error),
    /// The server was not reached, or is not the one the token is for.
    #[error("the server was not asked to let this host join")]
    Dial(#[from] DialError),
    /// The server said no.
    #[error("the server did not let this host join: {}", _0.message())]
    Refused(Box<Status>),
    /// No answer in time.
    #[error("the server did not answer within {} seconds; try again", ANSWER_TIMEOUT.as_secs())]
    Timeout,
    /// The server's answer is not what the token promised.
    #[error("the server answered with a certificate that is not this host's; update the server")]
    BadAnswer,
}

/// What is wrong with a stored identity.
#[derive(Debug, thiserror::Error)]
pub enum DamagedBy {
    /// The key or a certificate.
    #[error(transparent)]
    Tls(#[from] tls::Error),
    /// The certificate's content.
    #[error(transparent)]
    Certificate(#[from] certificate::Error),
    /// The last certificate.
    #[error("the authority's certificate is missing")]
    NoAuthority,
}

/// Who this host is, and whom it believes.
#[derive(Debug)]
pub struct Identity {
    /// Name, serial number and expiry of its certificate.
    pub agent: AgentIdentity,
    /// The authority whose servers it believes.
    pub authority: AuthorityPin,
    /// Key and certificates.
    pub tls: TlsIdentity,
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            agent: self.agent.clone(),
            authority: self.authority,
            tls: TlsIdentity {
                chain: self.tls.chain.clone(),
                key: self.tls.key.clone_key(),
                not_after: self.tls.not_after,
            },
        }
    }
}

/// The identity this host got when it joined; none if it has not joined.
///
/// # Errors
/// The file cannot be read, is damaged, or is open to others.
pub fn load(state_dir: &Path) -> Result<Option<Identity>, Error> {
    let path = state_dir.join(FILE);
    let Some(pem) = files::read_private(&path)?.map(Zeroizing::new) else {
        return Ok(None);
    };
    match parse(&pem) {
        Ok(identity) => Ok(Some(identity)),
        Err(source) => Err(Error::Damaged { path, source }),
    }
}

/// Joins the fleet of `server` and keeps the identity in `state_dir`, which becomes private.
///
/// A host that has joined already keeps its identity and asks nobody. Interrupted at any point,
/// the host has joined completely or not at all; a use of the token may be lost.
///
/// # Errors
/// The server is not reached, is not the one the token is for, or refuses; or the identity cannot
/// be kept.
pub async fn enrol(server: &str, token: &JoinToken, state_dir: &Path) -> Result<Identity, Error> {
    if let Some(identity) = load(state_dir)? {
        return Ok(identity);
    }
    files::private_dir(state_dir)?;
    let key = AgentKey::generate()?;
    let config = tls::agent_config(token.authority, None)?;
    let channel = dial(server, Arc::new(config), &Rejected::default()).await?;
    let hostname = nix::unistd::gethostname().unwrap_or_default();
    let request = v1::EnrolRequest {
        token: token.secret.to_vec(),
        certificate_request: key.request,
        hostname: hostname.to_string_lossy().into_owned(),
    };
    let mut client = EnrolmentClient::new(channel);
    let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.enrol(request))
        .await
        .map_err(|_| Error::Timeout)?
        .map_err(|status| Error::Refused(Box::new(status)))?
        .into_inner();
    if AuthorityPin::of(&answer.authority) != token.authority {
        return Err(Error::BadAnswer);
    }
    let leaf = answer.certificate.as_slice().into();
    let authority = answer.authority.clone().into();
    tls::verify_agent(&leaf, &authority, now()).map_err(|_| Error::BadAnswer)?;
    let bundle = Zeroizing::new(format!(
        "{}{}{}",
        *key.pem,
        pem_of(&answer.certificate),
        pem_of(&answer.authority)
    ));
    let identity = parse(bundle.as_bytes()).map_err(|_| Error::BadAnswer)?;
    let named: Option<AgentId> = answer.agent_id.parse().ok();
    if named.as_ref() != Some(&identity.agent.id) {
        return Err(Error::BadAnswer);
    }
    files::write_private(&state_dir.join(FILE), bundle.as_bytes(), Existing::Keep)?;
    Ok(identity)
}

fn parse(pem: &[u8]) -> Result<Identity, DamagedBy> {
    let tls = TlsIdentity::from_pem(pem)?;
    let [leaf, authority] = tls.chain.as_slice() else {
        return Err(DamagedBy::NoAuthority);
    };
    Ok(Identity {
        agent: agent_id_of(leaf)?,
        authority: AuthorityPin::of(authority),
        tls,
    })
}

fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_secs(0).plus(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_has_not_joined_has_no_identity() {
        let dir = tempfile::tempdir().unwrap();
        assert!(load(dir.path()).unwrap().is_none());
    }

    #[test]
    fn a_damaged_identity_is_an_error_that_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        files::write_private(&path, b"garbage", Existing::Keep).unwrap();
        let error = load(dir.path()).unwrap_err();
        assert!(error.to_string().contains("join token"), "{error}");
    }
}
