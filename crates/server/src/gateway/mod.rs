//! Where agents connect: joining, and the stream of events, acknowledgements, settings and tasks.
//!
//! - **Guarantees**: who an agent is comes from its certificate and from nothing it says. A bad
//!   frame ends the stream it came on and touches no other. What is acknowledged is durable.
//! - **Invariants**: at most one stream per agent; a newer one replaces the older, and begins only
//!   when every batch of the older has become durable or failed. Queues are bounded; a full one
//!   stops reading from the agent, which keeps its records in its spool.
//! - **Formats**: gRPC over HTTP/2 and TLS 1.3, `yinglong-proto`.
//! - **Not here**: decoding records, storing anything, what tasks mean.

mod attempts;
mod counters;
mod cursor;
mod enrolment;
mod fleet;
mod listen;
mod ports;
mod session;
mod sessions;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use tokio::{net::TcpListener, sync::watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{codec::CompressionEncoding, transport::Server};
use yinglong_model::Timestamp;
use yinglong_pki::{Authority, ServerKey, authority, tls};
use yinglong_proto::{
    MAX_MESSAGE_BYTES,
    v1::{enrolment_server::EnrolmentServer, fleet_server::FleetServer},
};

pub use counters::Counters;
pub use ports::{Durable, IncomingBatch, Intake, IntakeError, Joined, RedeemError, Roster};
pub use sessions::{Cut, Sessions};

/// A request to join is a token, a key and a name.
const MAX_ENROL_BYTES: usize = 64 << 10;
/// How often the gateway looks whether its own certificate nears its end.
const RENEWAL_CHECK: Duration = Duration::from_secs(12 * 3600);
/// How long streams get to end when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// Settings of the gateway.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Host names and addresses to have in the server's certificate.
    pub names: Vec<String>,
    /// Most connections with a certificate.
    pub max_connections: usize,
    /// Most connections without one (yet): handshakes and hosts that join.
    pub max_unidentified: usize,
    /// Longest life of a connection without certificate, its handshake included.
    pub unidentified_lifetime: Duration,
    /// A stream without a message for so long is cut; agents send a report every minute.
    pub idle_timeout: Duration,
    /// How often a stream is checked for revocation and silence.
    pub check_every: Duration,
    /// Requests to join per minute and source address (IPv6: per /64).
    pub enrolments_per_minute: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 33433)),
            names: Vec::new(),
            max_connections: 20_000,
            max_unidentified: 512,
            unidentified_lifetime: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(180),
            check_every: Duration::from_secs(2),
            enrolments_per_minute: 60,
        }
    }
}

/// Why the gateway does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is taken or not ours.
    #[error("cannot listen for agents on {address}; is another server running there?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There is no certificate to show.
    #[error("the gateway has no certificate")]
    Certificate(#[from] authority::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up for the gateway")]
    Tls(#[from] tls::Error),
    /// The HTTP/2 server ended.
    #[error("the gateway ended")]
    Serve(#[from] tonic::transport::Error),
}

/// A gateway that listens and is ready to run.
#[derive(Debug)]
pub struct Gateway {
    options: Options,
    authority: Arc<Authority>,
    key: Arc<ServerKey>,
    tls: Arc<rustls::ServerConfig>,
    listener: TcpListener,
    address: SocketAddr,
    sessions: Sessions,
    counters: Arc<Counters>,
}

impl Gateway {
    /// Takes the port; connections wait until [`run`](Self::run).
    ///
    /// # Errors
    /// The port is taken, or there is no certificate to show.
    pub async fn bind(options: Options, authority: Arc<Authority>) -> Result<Self, Error> {
        let identity = authority.issue_server(&options.names, now())?;
        let key = ServerKey::new(&identity)?;
        let tls = tls::gateway_config(Arc::clone(&key), authority.certificate())?;
        let failed = |source| Error::Listen {
            address: options.listen,
            source,
        };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self {
            options,
            authority,
            key,
            tls: Arc::new(tls),
            listener,
            address,
            sessions: Sessions::default(),
            counters: Arc::default(),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who is connected; stays valid while the gateway runs.
    pub fn sessions(&self) -> Sessions {
        self.sessions.clone()
    }

    /// What it has counted; stays valid while the gateway runs.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Serves agents until `stop` becomes true or its sender is gone. Streams get ten seconds to
    /// end; what is not acknowledged by then the agents send again.
    ///
    /// # Errors
    /// The HTTP/2 server ended by itself.
    pub async fn run(
        self,
        intake: Arc<dyn Intake>,
        roster: Arc<dyn Roster>,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let enrolment = enrolment::Service::new(
            Arc::clone(&self.authority),
            Arc::clone(&roster),
            Arc::clone(&self.counters),
            self.options.enrolments_per_minute,
        );
        let fleet = fleet::Service {
            intake,
            roster,
            sessions: self.sessions.clone(),
            counters: Arc::clone(&self.counters),
            idle_timeout: self.options.idle_timeout,
            check_every: self.options.check_every,
        };
        let fleet = FleetServer::new(fleet)
            .accept_compressed(CompressionEncoding::Zstd)
            .send_compressed(CompressionEncoding::Zstd)
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES);
        let enrolment = EnrolmentServer::new(enrolment).max_decoding_message_size(MAX_ENROL_BYTES);
        let incoming = listen::accept(
            self.listener,
            self.tls,
            &self.options,
            Arc::clone(&self.counters),
        );
        let sessions = self.sessions;
        let stopping = async move {
            // An error means that nobody can ask us to stop any more; stop then.
            let _ = stop.wait_for(|stop| *stop).await;
            sessions.close();
        };
        let (stopped, has_stopped) = tokio::sync::oneshot::channel();
        let served = Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            .http2_max_header_list_size(16 << 10)
            .max_concurrent_streams(4)
            .add_service(fleet)
            .add_service(enrolment)
            .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async {
                stopping.await;
                let _ = stopped.send(());
            });
        let grace = async {
            let _ = has_stopped.await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            ended = served => ended.map_err(Error::Serve),
            () = grace => Ok(()),
            () = renew(&self.authority, &self.key, &self.options.names) => Ok(()),
        }
    }
}

/// Puts a new certificate in place before the old one ends; never returns.
async fn renew(authority: &Authority, key: &ServerKey, names: &[String]) {
    loop {
        tokio::time::sleep(RENEWAL_CHECK).await;
        let renewed = authority
            .issue_server(names, now())
            .map_err(Error::from)
            .and_then(|identity| key.replace(&identity).map_err(Error::from));
        if let Err(error) = renewed {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the gateway's certificate was not checked for renewal"
            );
        }
    }
}

/// The gateway's clock.
fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_secs(0).plus(since)
}
