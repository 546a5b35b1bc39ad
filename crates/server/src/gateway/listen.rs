//! Accepts connections and shakes hands, so that bad ones never reach the services.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    task::{Context, Poll},
    time::Duration,
};

use rustls::pki_types::CertificateDer;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, Sleep},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tonic::transport::server::Connected;

use super::{
    Counters, Options,
    counters::{Open, add},
};

/// Connections ready for the services; they take them at once.
const READY: usize = 64;
/// Pause when the system has no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct PeerInfo {
    /// Where it connects from.
    pub(super) address: SocketAddr,
    /// The certificate it proved to hold, verified against the authority.
    pub(super) certificate: Option<CertificateDer<'static>>,
}

type OpenConnection = Open<fn(&Counters) -> &AtomicU64>;

/// A connection after its handshake.
pub(super) struct Peer {
    stream: TlsStream<TcpStream>,
    info: PeerInfo,
    /// When a connection without certificate ends.
    deadline: Option<Pin<Box<Sleep>>>,
    _permit: OwnedSemaphorePermit,
    _open: OpenConnection,
}

/// Starts accepting; ends when the receiver is dropped.
pub(super) fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    options: &Options,
    counters: Arc<Counters>,
) -> mpsc::Receiver<io::Result<Peer>> {
    let (ready, incoming) = mpsc::channel(READY);
    let shaking = Shaking {
        tls: tls.into(),
        identified: Arc::new(Semaphore::new(options.max_connections)),
        lifetime: options.unidentified_lifetime,
        counters,
        ready,
    };
    let unidentified = Arc::new(Semaphore::new(options.max_unidentified));
    tokio::spawn(async move {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = shaking.ready.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&unidentified).try_acquire_owned() else {
                add(&shaking.counters.connections_refused, 1);
                continue;
            };
            tokio::spawn(shaking.clone().shake(stream, address, permit));
        }
    });
    incoming
}

#[derive(Clone)]
struct Shaking {
    tls: TlsAcceptor,
    identified: Arc<Semaphore>,
    lifetime: Duration,
    counters: Arc<Counters>,
    ready: mpsc::Sender<io::Result<Peer>>,
}

impl Shaking {
    async fn shake(self, stream: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) {
        let _open = Open::new(
            Arc::clone(&self.counters),
            (|counters| &counters.connections_open) as fn(&Counters) -> &AtomicU64,
        );
        let deadline = Instant::now() + self.lifetime;
        // Acknowledgements are small and should not wait for more of them.
        let _ = stream.set_nodelay(true);
        let stream = match tokio::time::timeout_at(deadline, self.tls.accept(stream)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                add(&self.counters.handshakes_failed, 1);
                tracing::debug!(peer = %address, %error, "TLS handshake failed");
                return;
            }
            Err(_) => {
                add(&self.counters.handshakes_failed, 1);
                tracing::debug!(peer = %address, "no TLS handshake in time");
                return;
            }
        };
        let (_, session) = stream.get_ref();
        let certificate = session
            .peer_certificates()
            .and_then(<[_]>::first)
            .map(|certificate| certificate.clone().into_owned());
        let (permit, deadline) = if certificate.is_some() {
            let Ok(identified) = Arc::clone(&self.identified).try_acquire_owned() else {
                add(&self.counters.connections_refused, 1);
                tracing::warn!(peer = %address, "too many agents are connected; one was refused");
                return;
            };
            (identified, None)
        } else {
            (permit, Some(Box::pin(tokio::time::sleep_until(deadline))))
        };
        let peer = Peer {
            stream,
            info: PeerInfo {
                address,
                certificate,
            },
            deadline,
            _permit: permit,
            _open,
        };
        // If the server is gone, so is the connection.
        let _ = self.ready.send(Ok(peer)).await;
    }
}

impl Connected for Peer {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
