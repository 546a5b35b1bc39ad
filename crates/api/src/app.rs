//! What all routes share.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use tokio::sync::{Semaphore, watch};
use yinglong_model::Timestamp;
use yinglong_server::{Server, settings::Actor};
use yinglong_store::state_store::AuditEntry;

use crate::{
    auth::{attempts::Attempts, sessions::Sessions, setup::Setup, tokens::Tokens},
    error::{Error, Kind, Result},
};

/// Live streams at the same time.
const STREAMS: usize = 64;
/// Passwords hashed at the same time; each takes 19 MiB and a processor.
const HASHES: usize = 2;

/// What all routes share.
pub(crate) struct App {
    pub(crate) server: Arc<Server>,
    pub(crate) sessions: Sessions,
    pub(crate) tokens: Tokens,
    pub(crate) attempts: Attempts,
    pub(crate) setup: Setup,
    /// One change of users at a time, so that an administrator is always left.
    pub(crate) changing_users: Mutex<()>,
    pub(crate) streams: Arc<Semaphore>,
    pub(crate) hashes: Semaphore,
    pub(crate) stopping: watch::Receiver<bool>,
    /// Names people and agents use, without ports.
    pub(crate) names: Vec<String>,
}

pub(crate) type Shared = Arc<App>;

impl App {
    pub(crate) fn new(
        server: Arc<Server>,
        names: Vec<String>,
        stopping: watch::Receiver<bool>,
    ) -> std::result::Result<Shared, crate::auth::tokens::Error> {
        let tokens = Tokens::open(server.state().as_ref(), server.data())?;
        let setup = Setup::open(server.state().as_ref(), server.data())?;
        Ok(Arc::new(Self {
            server,
            sessions: Sessions::default(),
            tokens,
            attempts: Attempts::default(),
            setup,
            changing_users: Mutex::default(),
            streams: Arc::new(Semaphore::new(STREAMS)),
            hashes: Semaphore::new(HASHES),
            stopping,
            names,
        }))
    }

    /// Runs what may wait for a disk outside the runtime's threads.
    pub(crate) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let app = Arc::clone(self);
        match tokio::task::spawn_blocking(move || work(&app)).await {
            Ok(outcome) => outcome,
            Err(error) => {
                tracing::error!(%error, "a request failed");
                Err(Error::new(Kind::Internal, "the request failed"))
            }
        }
    }

    /// Adds to the audit log. `detail` holds no secrets.
    pub(crate) fn audit(
        &self,
        actor: &Actor,
        action: &str,
        subject: &str,
        detail: serde_json::Value,
    ) -> Result<()> {
        Ok(self.server.state().audit(&AuditEntry {
            at: now(),
            actor: actor.name.clone(),
            address: actor.address.clone(),
            action: action.to_owned(),
            subject: subject.to_owned(),
            detail,
        })?)
    }

    /// Whether this server is meant by a host name: one it was given, or one of this machine only.
    pub(crate) fn knows_host(&self, host: &str) -> bool {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return address.is_loopback()
                || self.names.iter().any(|name| name.parse() == Ok(address));
        }
        let bare = bare.trim_end_matches('.');
        bare.eq_ignore_ascii_case("localhost")
            || self
                .names
                .iter()
                .any(|name| name.eq_ignore_ascii_case(bare))
    }
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}
