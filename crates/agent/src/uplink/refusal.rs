//! Why a stream ended, in words for the person who looks after the host.

use std::error::Error as StdError;

use tonic::{Code, Status};

use super::{DialError, OutboxError};

/// Why a stream ended or never began.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The server was not reached.
    #[error(transparent)]
    Dial(DialError),
    /// The server, or the network between, ended it.
    #[error("the stream ended: {}", _0.message())]
    Status(Box<Status>),
    /// The server refused this host's certificate during the TLS handshake.
    #[error(
        "the server does not accept this host's certificate: it is expired or of another \
         authority; enrol again with a new token"
    )]
    CertificateRejected,
    /// The server closed the stream without a word.
    #[error("the server closed the stream")]
    Closed,
    /// The server did not answer the hello.
    #[error("the server did not greet this host in time")]
    NoWelcome,
    /// The server has more than this spool ever held.
    #[error(
        "the server has events up to {acked} of this spool, but the spool ends at {last}: it was \
         restored from an older copy; stop the agent and remove its spool folder"
    )]
    SpoolTurnedBack {
        /// What the server has.
        acked: u64,
        /// What the spool has.
        last: u64,
    },
    /// The spool dropped records that were to be sent next.
    #[error("the spool no longer has the next events; the server is told with a new stream")]
    SpoolSkipped,
    /// The spool cannot be read or shortened.
    #[error("the spool cannot be used; check the disk of this host")]
    Outbox(#[source] OutboxError),
    /// The host report cannot be encoded.
    #[error("the host report cannot be encoded")]
    Report(#[source] serde_json::Error),
}

/// The reason with its causes and, for what a person must do, the remedy.
pub(super) fn in_words(ended: &Ended) -> String {
    if let Ended::Status(status) = ended {
        return status_in_words(status);
    }
    let mut words = ended.to_string();
    let mut cause = ended.source();
    while let Some(next) = cause {
        words.push_str(": ");
        words.push_str(&next.to_string());
        cause = next.source();
    }
    words
}

fn status_in_words(status: &Status) -> String {
    let said = status.message();
    match status.code() {
        Code::PermissionDenied => "this host was revoked; enrol again with a new token".to_owned(),
        Code::Unauthenticated => {
            format!("the server does not know this host ({said}); enrol again with a new token")
        }
        Code::Aborted => format!("the server chose another stream: {said}"),
        Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange => {
            format!("the server does not understand this agent: {said}")
        }
        Code::Unimplemented => {
            "the server does not know this protocol; update the server".to_owned()
        }
        _ if status.source().is_some() => format!("the connection was lost: {said}"),
        _ => format!("the server said: {said}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_remedy() {
        for (status, expected) in [
            (
                Status::permission_denied("x"),
                "enrol again with a new token",
            ),
            (Status::unauthenticated("x"), "enrol again with a new token"),
            (Status::invalid_argument("too large"), "too large"),
            (Status::unavailable("stopping"), "stopping"),
            (Status::unimplemented("x"), "update the server"),
        ] {
            let words = in_words(&Ended::Status(Box::new(status)));
            assert!(words.contains(expected), "{words}");
        }
    }

    #[test]
    fn causes_are_part_of_the_words() {
        let ended = Ended::Outbox("no space left".into());
        assert!(in_words(&ended).ends_with(": no space left"));
    }
}
