//! Requests to the cluster: one at a time, in JSON, with a time limit each.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use backon::{BlockingRetryable, ExponentialBuilder};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use ureq::{
    Agent, RequestExt,
    http::{Method, Request, StatusCode},
    tls::{PemItem, RootCerts, TlsConfig, parse_pem},
};
use url::Url;
use yinglong_store::{Error, Kind, Result};
use zeroize::Zeroizing;

use crate::{
    config::{Credentials, Options},
    error::Failure,
};

/// An answer may have so many bytes; a page that is larger is asked for in smaller parts.
const ANSWER_LIMIT_BYTES: u64 = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The cluster, reached over any of its nodes.
pub(crate) struct Client {
    agent: Agent,
    urls: Vec<Url>,
    /// The node that answered last.
    current: AtomicUsize,
    authorization: Option<Zeroizing<String>>,
    timeout: Duration,
}

/// What the cluster says about why it refused.
#[derive(Deserialize, Default)]
struct Refusal {
    #[serde(default)]
    error: serde_json::Value,
}

impl Client {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut tls = TlsConfig::builder().unversioned_rustls_crypto_provider(provider);
        if let Some(path) = &options.ca_file {
            let pem = fs::read(path).map_err(|error| {
                Error::caused(
                    Kind::Invalid,
                    format!("cannot read the cluster's authority `{}`", path.display()),
                    error,
                )
            })?;
            let roots: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if roots.is_empty() {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "`{}` holds no certificate: give the PEM file of the authority that \
                         signed the cluster's certificates",
                        path.display()
                    ),
                ));
            }
            tls = tls.root_certs(RootCerts::new_with_certs(&roots));
        }
        let agent = Agent::config_builder()
            .tls_config(tls.build())
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .build()
            .new_agent();
        let authorization = match &options.credentials {
            Credentials::None => None,
            Credentials::Basic { user, password } => {
                let pair = Zeroizing::new(format!("{user}:{}", password.as_str()));
                Some(Zeroizing::new(format!(
                    "Basic {}",
                    STANDARD.encode(pair.as_bytes())
                )))
            }
            Credentials::ApiKey(key) => Some(Zeroizing::new(format!("ApiKey {}", key.as_str()))),
        };
        Ok(Self {
            agent,
            urls: options.urls.clone(),
            current: AtomicUsize::new(0),
            authorization,
            timeout: options.request_timeout,
        })
    }

    /// Asks for something; `path` begins with a slash.
    pub(crate) fn get<T: for<'a> Deserialize<'a>>(
        &self,
        path: &str,
    ) -> std::result::Result<T, Failure> {
        self.call(&Method::GET, path, None)
    }

    /// Sends JSON, or lines of it.
    pub(crate) fn post<T: for<'a> Deserialize<'a>>(
        &self,
        path: &str,
        body: &[u8],
    ) -> std::result::Result<T, Failure> {
        self.call(&Method::POST, path, Some(body))
    }

    /// Puts a document or a setting in place.
    pub(crate) fn put(
        &self,
        path: &str,
        body: &serde_json::Value,
    ) -> std::result::Result<(), Failure> {
        let body = body.to_string();
        self.call::<serde_json::Value>(&Method::PUT, path, Some(body.as_bytes()))
            .map(drop)
    }

    /// Removes something.
    pub(crate) fn delete(&self, path: &str) -> std::result::Result<(), Failure> {
        self.call::<serde_json::Value>(&Method::DELETE, path, None)
            .map(drop)
    }

    /// Does something that may meet an index while it starts: a few more times within a second.
    pub(crate) fn patiently<T>(
        &self,
        work: impl Fn() -> std::result::Result<T, Failure>,
    ) -> std::result::Result<T, Failure> {
        let pauses = ExponentialBuilder::default()
            .with_min_delay(Duration::from_millis(50))
            .with_max_times(4)
            .with_jitter();
        work.retry(pauses)
            .sleep(std::thread::sleep)
            .when(Failure::is_starting)
            .call()
    }

    /// Every request here may be sent twice without harm, so a node that does not answer is left
    /// for the next one.
    fn call<T: for<'a> Deserialize<'a>>(
        &self,
        method: &Method,
        path: &str,
        body: Option<&[u8]>,
    ) -> std::result::Result<T, Failure> {
        let deadline = Instant::now() + self.timeout;
        let first = self.current.load(Ordering::Relaxed);
        let mut failure = None;
        for turn in 0..self.urls.len() {
            let index = (first + turn) % self.urls.len();
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(url) = self.urls.get(index).filter(|_| !left.is_zero()) else {
                break;
            };
            match self.exchange(url, method, path, body, left) {
                Err(error @ Failure::Unreachable { .. }) => failure = Some(error),
                outcome => {
                    self.current.store(index, Ordering::Relaxed);
                    return outcome;
                }
            }
        }
        Err(failure.unwrap_or(Failure::Late))
    }

    fn exchange<T: for<'a> Deserialize<'a>>(
        &self,
        url: &Url,
        method: &Method,
        path: &str,
        body: Option<&[u8]>,
        timeout: Duration,
    ) -> std::result::Result<T, Failure> {
        let unreachable = |source: ureq::Error| Failure::Unreachable {
            node: url.to_string(),
            source: Box::new(source),
        };
        let base = url.as_str().trim_end_matches('/');
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{base}{path}"))
            .header("Accept", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.as_str());
        }
        let answer = match body {
            Some(body) => request
                .header("Content-Type", "application/json")
                .body(body)
                .map_err(ureq::Error::from)
                .and_then(|request| {
                    let request = request.with_agent(&self.agent).configure();
                    request.timeout_global(Some(timeout)).build().run()
                }),
            None => request
                .body(())
                .map_err(ureq::Error::from)
                .and_then(|request| {
                    let request = request.with_agent(&self.agent).configure();
                    request.timeout_global(Some(timeout)).build().run()
                }),
        };
        let mut answer = answer.map_err(unreachable)?;
        let status = answer.status();
        let bytes = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_LIMIT_BYTES)
            .read_to_vec()
            .map_err(|error| match error {
                ureq::Error::BodyExceedsLimit(_) => Failure::AnswerTooLarge,
                other => unreachable(other),
            })?;
        if !status.is_success() {
            return Err(refusal(status, &bytes));
        }
        serde_json::from_slice(&bytes).map_err(Failure::Garbled)
    }
}

fn refusal(status: StatusCode, bytes: &[u8]) -> Failure {
    let refusal: Refusal = serde_json::from_slice(bytes).unwrap_or_default();
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    // Of a search over many shards the cause stands below the summary.
    let cause = &refusal.error["root_cause"][0];
    let error = if cause.is_object() {
        cause
    } else {
        &refusal.error
    };
    Failure::Refused {
        status: status.as_u16(),
        kind: text(&error["type"]),
        reason: shortened(error["reason"].as_str().unwrap_or_default()),
    }
}

/// A reason of the cluster, which may quote a document of any length.
pub(crate) fn shortened(reason: &str) -> String {
    const LONGEST: usize = 300;
    match reason.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} ...", reason.get(..end).unwrap_or_default()),
        None => reason.to_owned(),
    }
}
