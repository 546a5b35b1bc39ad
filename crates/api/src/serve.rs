//! The listener: TLS, HTTP/1.1 and HTTP/2, and limits for people who are slow on purpose.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, http::Request};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use yinglong_pki::{ServerKey, authority, tls};
use yinglong_server::Server;

use crate::{
    app::{App, now},
    auth::{guard::Peer, tokens},
    routes,
};

/// Connections at the same time; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// Longest TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest time until the headers of a request are complete.
const HEADERS: Duration = Duration::from_secs(30);
/// Requests at the same time on one HTTP/2 connection.
const STREAMS: u32 = 64;
/// Sign of life an HTTP/2 client must give.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// Pause after the system refused a connection, for example for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);
/// Longest wait for requests under way when the console stops.
const GRACE: Duration = Duration::from_secs(5);
/// How often the certificate is looked at.
const RENEWAL: Duration = Duration::from_secs(12 * 3600);

/// How the console is served.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Names and addresses people use, beside those of this machine only.
    pub names: Vec<String>,
}

/// Why the console is not served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be used.
    #[error("cannot listen on {address}; choose another address for the console")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate cannot be made.
    #[error("the console's certificate cannot be made")]
    Certificate(#[from] authority::Error),
    /// TLS cannot be set up.
    #[error("TLS cannot be set up for the console")]
    Tls(#[from] tls::Error),
    /// Tokens or users.
    #[error("the console's users cannot be read")]
    Users(#[from] tokens::Error),
}

/// A console that is served until it is stopped or dropped.
pub struct Running {
    address: SocketAddr,
    app: Arc<App>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Code for making the first administrator; none when there are users.
    pub fn setup_code(&self) -> Option<String> {
        self.app.setup.code()
    }

    /// Stops: requests under way get a few seconds.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the console ended badly");
        }
    }
}

/// Serves API and console.
///
/// # Errors
/// See [`Error`]; nothing is served then.
pub async fn serve(server: Arc<Server>, options: Options) -> Result<Running, Error> {
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|source| Error::Listen {
            address: options.listen,
            source,
        })?;
    let address = listener.local_addr().map_err(|source| Error::Listen {
        address: options.listen,
        source,
    })?;
    let certified = certified_names(&options.names);
    let key = ServerKey::new(&server.authority().issue_console(&certified, now())?)?;
    let tls = TlsAcceptor::from(Arc::new(tls::console_config(Arc::clone(&key))?));
    let (stop, stopping) = watch::channel(false);
    let app = App::new(server, options.names, stopping.clone())?;
    let router = routes::router(&app);
    tokio::spawn(renew(Arc::clone(&app), certified, key, stopping.clone()));
    let task = tokio::spawn(accept(listener, tls, router, stopping));
    Ok(Running {
        address,
        app,
        stop,
        task,
    })
}

/// The certificate is for this machine's own names too.
fn certified_names(names: &[String]) -> Vec<String> {
    let mut all = names.to_vec();
    for own in ["localhost", "127.0.0.1", "::1"] {
        if !all.iter().any(|name| name == own) {
            all.push(own.to_owned());
        }
    }
    all
}

/// Keeps the certificate valid without a restart.
async fn renew(
    app: Arc<App>,
    names: Vec<String>,
    key: Arc<ServerKey>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => return,
            () = tokio::time::sleep(RENEWAL) => {}
        }
        let renewed = app
            .server
            .authority()
            .issue_console(&names, now())
            .map_err(Error::from);
        if let Err(error) = renewed.and_then(|identity| Ok(key.replace(&identity)?)) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the certificate was not renewed"
            );
        }
    }
}

async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // The permit comes first: while there is none, nobody is taken off the kernel's queue.
        let next = async {
            let permit = Arc::clone(&permits).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            _ = stopping.wait_for(|stopping| *stopping) => break,
            Some(_) = connections.join_next() => continue,
            next = next => next,
        };
        match (permit, accepted) {
            (Ok(permit), Ok((stream, peer))) => {
                let (tls, router) = (tls.clone(), router.clone());
                let stopping = stopping.clone();
                connections.spawn(async move {
                    connection(stream, peer, tls, router, stopping).await;
                    drop(permit);
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(listener);
    let all = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, all).await.is_err() {
        tracing::warn!("requests that took too long were cut off");
    }
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    tls: TlsAcceptor,
    router: Router,
    mut stopping: watch::Receiver<bool>,
) {
    // Answers are small; waiting for more bytes to send only delays them.
    let _ = stream.set_nodelay(true);
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else {
        tracing::debug!(%peer, "a TLS handshake failed");
        return;
    };
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    let service = router.map_request(move |mut request: Request<_>| {
        request.extensions_mut().insert(Peer(peer));
        request
    });
    let connection =
        builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
    let mut connection = std::pin::pin!(connection);
    let mut told = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%peer, %error, "a connection ended badly");
                }
                return;
            }
            _ = stopping.wait_for(|stopping| *stopping), if !told => {
                connection.as_mut().graceful_shutdown();
                told = true;
            }
        }
    }
}
