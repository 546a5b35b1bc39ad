//! Attaching: who may have a stream.

use std::{sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use yinglong_pki::agent_id_of;
use yinglong_proto::v1::{self, fleet_server::Fleet};

use super::{Counters, Intake, Roster, Sessions, counters::add, listen::PeerInfo, session};

/// Messages to the agent that may wait for the network.
const OUTGOING: usize = 16;

/// Serves agents that have a certificate.
pub(super) struct Service {
    pub(super) intake: Arc<dyn Intake>,
    pub(super) roster: Arc<dyn Roster>,
    pub(super) sessions: Sessions,
    pub(super) counters: Arc<Counters>,
    pub(super) idle_timeout: Duration,
    pub(super) check_every: Duration,
}

#[tonic::async_trait]
impl Fleet for Service {
    type AttachStream = ReceiverStream<Result<v1::ServerMessage, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let peer = request.extensions().get::<PeerInfo>().cloned();
        let peer = peer.ok_or_else(|| Status::internal("the connection has no address"))?;
        let identity = peer
            .certificate
            .as_ref()
            .and_then(|certificate| agent_id_of(certificate).ok())
            .ok_or_else(|| {
                add(&self.counters.refused_no_certificate, 1);
                tracing::warn!(peer = %peer.address, "a stream without an agent's certificate");
                Status::unauthenticated(
                    "no certificate of an agent; enrol this host with a join token",
                )
            })?;
        if self.roster.is_revoked(&identity.id, &identity.serial) {
            add(&self.counters.refused_revoked, 1);
            tracing::warn!(agent = %identity.id, peer = %peer.address, "a revoked agent was refused");
            return Err(session::revoked());
        }
        let (out, outgoing) = mpsc::channel(OUTGOING);
        let session = session::Session {
            intake: Arc::clone(&self.intake),
            roster: Arc::clone(&self.roster),
            counters: Arc::clone(&self.counters),
            idle_timeout: self.idle_timeout,
            check_every: self.check_every,
            peer: peer.address.ip().to_canonical(),
            identity,
            out,
        };
        let registration = self.sessions.register(&session.identity.id);
        tokio::spawn(session.run(registration, request.into_inner()));
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}
