//! One connection to a server: TCP, TLS to the pinned authority, HTTP/2.

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{AlertDescription, CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint};
use yinglong_pki::tls::{WrongAuthority, server_name};

use super::watched::{Rejected, Watched};

/// Port of servers that are named without one.
pub const DEFAULT_PORT: u16 = 33433;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A server that vanished without a word is noticed within twice this.
const PING_EVERY: Duration = Duration::from_secs(20);

/// Why a server was not reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not an address.
    #[error("`{0}` is not a server's address; write it as host:port or [IPv6]:port")]
    Address(String),
    /// Nobody answers.
    #[error("cannot connect to {server}; is the server running, and its port open?")]
    Connect {
        /// Address dialled.
        server: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("no answer from {server} within ten seconds; is its port open in every firewall?")]
    Timeout {
        /// Address dialled.
        server: String,
    },
    /// Someone else answers.
    #[error("{server} is not to be trusted and was told nothing")]
    WrongAuthority {
        /// Address dialled.
        server: String,
        /// What to do.
        #[source]
        source: WrongAuthority,
    },
    /// TLS failed otherwise.
    #[error("no secure connection to {server}; check the clocks of both machines")]
    Tls {
        /// Address dialled.
        server: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// HTTP/2 failed.
    #[error("{server} answers, but not as a Yinglong server")]
    Http2 {
        /// Address dialled.
        server: String,
        /// Why.
        #[source]
        source: tonic::transport::Error,
    },
}

/// Connects once; a lost connection is not made again behind the caller's back.
///
/// `rejected` becomes true if the server refuses this host's certificate, before or after this.
pub(crate) async fn dial(
    server: &str,
    tls: Arc<ClientConfig>,
    rejected: &Rejected,
) -> Result<Channel, DialError> {
    let address = with_port(server).ok_or_else(|| DialError::Address(server.to_owned()))?;
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, connect(&address, tls)).await;
    let stream = connecting.map_err(|_| DialError::Timeout {
        server: address.clone(),
    })??;
    let rejected = rejected.clone();
    let mut stream = Some(TokioIo::new(Watched { stream, rejected }));
    let once = tower::service_fn(move |_| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::other("the connection is closed")) }
    });
    // TLS is done already, hence the scheme; the name is the one in the certificate.
    Endpoint::from_static("http://yinglong-server")
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_EVERY)
        .keep_alive_while_idle(true)
        .connect_with_connector(once)
        .await
        .map_err(|source| DialError::Http2 {
            server: address,
            source,
        })
}

async fn connect(server: &str, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    let failed = |source| DialError::Connect {
        server: server.to_owned(),
        source,
    };
    let stream = TcpStream::connect(server).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let connected = TlsConnector::from(tls).connect(server_name(), stream).await;
    connected.map_err(|source| match wrong_authority(&source) {
        Some(wrong) => DialError::WrongAuthority {
            server: server.to_owned(),
            source: wrong,
        },
        None => DialError::Tls {
            server: server.to_owned(),
            source,
        },
    })
}

/// An address with the default port added if it has none.
fn with_port(server: &str) -> Option<String> {
    let server = server.trim();
    if server.is_empty() || server.contains(char::is_whitespace) {
        return None;
    }
    if let Ok(address) = server.parse::<std::net::Ipv6Addr>() {
        return Some(format!("[{address}]:{DEFAULT_PORT}"));
    }
    let port = match server.rsplit_once(':') {
        Some((host, _)) if host.is_empty() || host.contains('/') => return None,
        // `[::1]` ends in a colon and a digit, but has no port.
        Some(_) if server.ends_with(']') => None,
        Some((_, port)) => Some(port),
        None => None,
    };
    match port {
        Some(port) => port.parse::<u16>().ok().map(|_| server.to_owned()),
        None => Some(format!("{server}:{DEFAULT_PORT}")),
    }
}

fn wrong_authority(error: &io::Error) -> Option<WrongAuthority> {
    match tls_error(error)? {
        rustls::Error::InvalidCertificate(CertificateError::Other(cause)) => {
            cause.0.downcast_ref::<WrongAuthority>().copied()
        }
        _ => None,
    }
}

/// Whether the server ended the connection because of our certificate. It says so only after the
/// handshake is over for us (TLS 1.3), so this is found in errors of the first reads.
pub(super) fn certificate_rejected(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        tls_error(error),
        Some(rustls::Error::AlertReceived(
            AlertDescription::UnknownCA
                | AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRevoked
                | AlertDescription::DecryptError
                | AlertDescription::AccessDenied
        ))
    )
}

/// The TLS error that an error stems from, if any.
fn tls_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref() {
            return Some(tls);
        }
        // An I/O error's source skips the error it wraps.
        let wrapped = error
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped as &(dyn StdError + 'static)),
            None => error.source(),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_may_be_named_with_and_without_a_port() {
        for (server, expected) in [
            ("hids.example", Some("hids.example:33433")),
            ("hids.example:99", Some("hids.example:99")),
            (" 192.0.2.1 ", Some("192.0.2.1:33433")),
            ("::1", Some("[::1]:33433")),
            ("[::1]", Some("[::1]:33433")),
            ("[::1]:99", Some("[::1]:99")),
            ("", None),
            (":99", None),
            ("hids.example:http", None),
            ("hids.example:99999", None),
            ("https://hids.example", None),
            ("two words", None),
        ] {
            assert_eq!(with_port(server).as_deref(), expected, "{server}");
        }
    }

    #[test]
    fn the_cause_is_found_through_layers_of_io_errors() {
        let wrong = WrongAuthority(yinglong_pki::AuthorityPin([1; 32]));
        let tls = rustls::Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(
            Arc::new(wrong),
        )));
        let outer = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, tls));
        assert_eq!(wrong_authority(&outer), Some(wrong));
        let alert = rustls::Error::AlertReceived(AlertDescription::UnknownCA);
        assert!(certificate_rejected(&io::Error::other(alert)));
        assert!(!certificate_rejected(&io::Error::other("else")));
    }
}
