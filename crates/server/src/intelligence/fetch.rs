//! One HTTP request, bounded in time and size.

use std::{io::Read as _, sync::Arc, time::Duration};

/// Longest time from asking to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES: u64 = 64 << 10;
/// Redirections that are followed.
const REDIRECTIONS: u32 = 3;
/// Pause when an API asks for one without saying how long.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks a URL.
pub(super) type Fetch = Arc<dyn Fn(&str) -> Result<String, Failure> + Send + Sync>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Not reached, not trusted, or not in time.
    #[error("the intelligence API does not answer")]
    Unreachable(#[source] Box<ureq::Error>),
    /// It broke off.
    #[error("the intelligence API breaks its answer off")]
    BrokenOff(#[source] std::io::Error),
    /// Longer than an answer may be.
    #[error("the answer of the intelligence API is longer than {ANSWER_BYTES} bytes")]
    TooLong,
    /// It asks for patience.
    #[error("the intelligence API is asked too often")]
    Throttled(Duration),
    /// It refuses.
    #[error("the intelligence API answers with status {0}")]
    Refused(u16),
}

impl Failure {
    /// How long the API asked to be left alone.
    pub(super) fn patience(&self) -> Option<Duration> {
        match self {
            Self::Throttled(wait) => Some(*wait),
            _ => None,
        }
    }
}

/// Asks over the network; certificates are verified.
pub(super) fn over_http() -> Fetch {
    let client: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .max_redirects(REDIRECTIONS)
        .http_status_as_error(false)
        .build()
        .into();
    Arc::new(move |url| fetch(&client, url))
}

fn fetch(client: &ureq::Agent, url: &str) -> Result<String, Failure> {
    let mut answer = client
        .get(url)
        .call()
        .map_err(|error| Failure::Unreachable(Box::new(error)))?;
    match answer.status().as_u16() {
        // Many APIs answer 404 about what they do not know; that is an answer.
        200..=299 | 404 => {}
        429 | 503 => {
            let wait = answer.headers().get("retry-after");
            let secs = wait.and_then(|wait| wait.to_str().ok()?.trim().parse().ok());
            return Err(Failure::Throttled(
                secs.map_or(PATIENCE, Duration::from_secs),
            ));
        }
        status => return Err(Failure::Refused(status)),
    }
    let mut bytes = Vec::new();
    answer
        .body_mut()
        .as_reader()
        .take(ANSWER_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(Failure::BrokenOff)?;
    if bytes.len() as u64 > ANSWER_BYTES {
        return Err(Failure::TooLong);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
