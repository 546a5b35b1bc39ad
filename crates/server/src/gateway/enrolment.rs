//! Hosts that join: a token and a key for a certificate.

use std::sync::{Arc, Mutex, PoisonError};

use tonic::{Request, Response, Status};
use yinglong_model::AgentId;
use yinglong_pki::{AgentRequest, Authority};
use yinglong_proto::v1::{self, enrolment_server::Enrolment};

use super::{
    Counters, Joined, RedeemError, Roster, attempts::Attempts, counters::add, listen::PeerInfo, now,
};

/// Longest name of a host, as in DNS.
const MAX_HOSTNAME: usize = 253;

/// The only service without a client certificate.
pub(super) struct Service {
    authority: Arc<Authority>,
    roster: Arc<dyn Roster>,
    counters: Arc<Counters>,
    attempts: Mutex<Attempts>,
    per_minute: u32,
}

impl Service {
    pub(super) fn new(
        authority: Arc<Authority>,
        roster: Arc<dyn Roster>,
        counters: Arc<Counters>,
        per_minute: u32,
    ) -> Self {
        Self {
            authority,
            roster,
            counters,
            attempts: Mutex::default(),
            per_minute,
        }
    }

    async fn join(
        &self,
        peer: &PeerInfo,
        wanted: v1::EnrolRequest,
    ) -> Result<v1::EnrolResponse, Status> {
        let address = peer.address.ip().to_canonical();
        let admitted = self
            .attempts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .admit(address, self.per_minute, now());
        if !admitted {
            return Err(Status::resource_exhausted(
                "too many attempts to join from this address; wait a minute and try again",
            ));
        }
        let secret = <[u8; 16]>::try_from(wanted.token.as_slice())
            .map_err(|_| Status::invalid_argument("the join token's secret has 16 bytes"))?;
        let hostname = wanted.hostname;
        if hostname.len() > MAX_HOSTNAME || hostname.chars().any(char::is_control) {
            return Err(Status::invalid_argument(
                "the host name is longer than 253 bytes or has control characters",
            ));
        }
        // Before the token is used, so that a bad request does not use it up.
        let request = AgentRequest::parse(&wanted.certificate_request)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let roster = Arc::clone(&self.roster);
        let authority = Arc::clone(&self.authority);
        let enrolled = tokio::task::spawn_blocking(move || {
            roster
                .redeem_token(&secret)
                .map_err(|error| refusal(&error))?;
            let agent = AgentId::from_bits(rand::random());
            let certificate = authority
                .sign_agent(&request, &agent, now())
                .map_err(|error| Status::internal(error.to_string()))?;
            let joined = Joined {
                agent: agent.clone(),
                serial: certificate.serial,
                not_after: certificate.not_after,
                hostname,
                peer: address,
            };
            tracing::info!(%agent, peer = %address, hostname = joined.hostname, "a host joins");
            roster.enrolled(joined).map_err(|error| {
                tracing::error!(
                    error = &*error as &dyn std::error::Error,
                    "a host was not recorded"
                );
                Status::unavailable("the server cannot record this host; see its log and try again")
            })?;
            Ok(v1::EnrolResponse {
                agent_id: agent.into(),
                certificate: certificate.der,
                authority: authority.certificate().to_vec(),
            })
        });
        enrolled
            .await
            .map_err(|_| Status::internal("joining failed; see the server's log"))?
    }
}

fn refusal(error: &RedeemError) -> Status {
    match error {
        RedeemError::Token(error) => Status::permission_denied(error.to_string()),
        RedeemError::Store(cause) => {
            tracing::error!(
                error = &**cause as &dyn std::error::Error,
                "join tokens cannot be used"
            );
            Status::unavailable(error.to_string())
        }
    }
}

#[tonic::async_trait]
impl Enrolment for Service {
    async fn enrol(
        &self,
        request: Request<v1::EnrolRequest>,
    ) -> Result<Response<v1::EnrolResponse>, Status> {
        let peer = request.extensions().get::<PeerInfo>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the connection has no address"))?;
        match self.join(&peer, request.into_inner()).await {
            Ok(response) => {
                add(&self.counters.enrolled, 1);
                Ok(Response::new(response))
            }
            Err(status) => {
                add(&self.counters.enrolments_refused, 1);
                tracing::warn!(
                    peer = %peer.address, reason = status.message(), "a host was not let in"
                );
                Err(status)
            }
        }
    }
}
