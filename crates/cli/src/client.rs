//! Talks to a running server over HTTPS, believing its own authority and no other.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use ureq::{
    Agent, Body,
    http::{Response, StatusCode},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};
use yinglong_api::error::ErrorBody;

/// File in the data folder that names the running server.
pub(crate) const RUN_FILE: &str = "run.json";
/// File in the data folder with the certificate of the server's authority.
pub(crate) const CA_FILE: &str = "ca.pem";
/// File in the data folder with the API token of the command line.
const TOKEN_FILE: &str = "admin.token";
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES: u64 = 256 << 20;

/// What a running server writes about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunFile {
    /// Process id.
    pub(crate) pid: u32,
    /// Address of the console.
    pub(crate) console: String,
    /// Address for agents.
    pub(crate) agents: String,
    /// Certificate of the authority.
    pub(crate) ca: PathBuf,
}

/// Which server is meant.
#[derive(clap::Args)]
pub(crate) struct Target {
    /// Data folder of a server on this machine.
    #[arg(long, env = "YINGLONG_DATA", default_value = "/var/lib/yinglong")]
    pub(crate) data: PathBuf,
    /// Address of a server elsewhere, for example https://ids.example:8443.
    #[arg(long, requires_all = ["ca", "token_file"])]
    url: Option<String>,
    /// Certificate of that server's authority, PEM.
    #[arg(long, value_name = "FILE", requires = "url")]
    ca: Option<PathBuf>,
    /// File with an API token for that server.
    #[arg(long, value_name = "FILE", requires = "url")]
    token_file: Option<PathBuf>,
}

/// A server to talk to.
pub(crate) struct Client {
    agent: Agent,
    base: String,
    authorization: Option<String>,
}

impl Target {
    /// Finds the server; with an API token.
    pub(crate) fn client(&self) -> anyhow::Result<Client> {
        let token = self
            .token_file
            .clone()
            .unwrap_or_else(|| self.data.join(TOKEN_FILE));
        let mut client = self.anonymous()?;
        let text = read(&token)?;
        client.authorization = Some(format!("Bearer {}", text.trim()));
        Ok(client)
    }

    /// Finds the server; without an API token.
    pub(crate) fn anonymous(&self) -> anyhow::Result<Client> {
        let (base, ca) = match (&self.url, &self.ca) {
            (Some(url), Some(ca)) => {
                let parsed = url::Url::parse(url).with_context(|| format!("`{url}` is no URL"))?;
                if parsed.scheme() != "https" {
                    bail!("`{url}` does not begin with https://; tokens are never sent in clear");
                }
                (url.trim_end_matches('/').to_owned(), ca.clone())
            }
            _ => {
                let run = self.run_file()?;
                (format!("https://{}", run.console), run.ca)
            }
        };
        let pem = read(&ca)?;
        let roots: Vec<Certificate<'static>> = parse_pem(pem.as_bytes())
            .filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            })
            .collect();
        if roots.is_empty() {
            bail!(
                "`{}` holds no certificate; copy ca.pem from the server's data folder",
                ca.display()
            );
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(&roots))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .http_status_as_error(false)
            // A proxy would be told the token's destination, and cannot reach this machine.
            .proxy(None)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(TIMEOUT))
            .build()
            .into();
        Ok(Client {
            agent,
            base,
            authorization: None,
        })
    }

    /// What the server on this machine says about itself.
    fn run_file(&self) -> anyhow::Result<RunFile> {
        let path = self.data.join(RUN_FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => anyhow!(
                "no server runs on `{}`; start one with `yinglong server`, or name its folder with --data",
                self.data.display()
            ),
            _ => anyhow!("cannot read `{}`: {error}; run this as the server's user", path.display()),
        })?;
        serde_json::from_str(&text)
            .with_context(|| format!("`{}` is damaged; start the server again", path.display()))
    }
}

impl Client {
    /// Reads something; `path` is below `/api/v1`.
    pub(crate) fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        decode(self.open(&format!("/api/v1{path}"), query)?)
    }

    /// Opens something to be read bit by bit; `path` is complete.
    pub(crate) fn open(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> anyhow::Result<Response<Body>> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in query {
            request = request.query(name, value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        self.judge(request.call())
    }

    /// Sends something with POST.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let request = self.agent.post(format!("{}/api/v1{path}", self.base));
        decode(self.send(request, body)?)
    }

    /// Sends something with PUT.
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        let request = self.agent.put(format!("{}/api/v1{path}", self.base));
        decode(self.send(request, body)?)
    }

    /// Sends a file with PUT, as it is.
    pub(crate) fn upload<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
        file: &std::fs::File,
    ) -> anyhow::Result<T> {
        let mut request = self.agent.put(format!("{}/api/v1{path}", self.base));
        for (name, value) in query {
            request = request.query(name, value);
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let request = request.header("Content-Type", "application/octet-stream");
        decode(self.judge(request.send(file))?)
    }

    /// Removes something.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<()> {
        let mut request = self.agent.delete(format!("{}/api/v1{path}", self.base));
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        self.judge(request.call()).map(drop)
    }

    fn send(
        &self,
        mut request: ureq::RequestBuilder<ureq::typestate::WithBody>,
        body: &impl Serialize,
    ) -> anyhow::Result<Response<Body>> {
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization);
        }
        let body = serde_json::to_vec(body)?;
        self.judge(
            request
                .header("Content-Type", "application/json")
                .send(&body[..]),
        )
    }

    fn judge(&self, answer: Result<Response<Body>, ureq::Error>) -> anyhow::Result<Response<Body>> {
        let mut answer =
            answer.with_context(|| format!("the server at {} does not answer", self.base))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = answer
            .body_mut()
            .with_config()
            .limit(1 << 20)
            .read_to_string()?;
        Err(refusal(status, &text))
    }
}

/// The server's own words, on one line, and a line for each thing wrong with rules.
fn refusal(status: StatusCode, text: &str) -> anyhow::Error {
    let Ok(ErrorBody { error }) = serde_json::from_str(text) else {
        return anyhow!("the server answered {status}");
    };
    let mut message = format!("{}; {}", error.message, error.remedy);
    for finding in &error.diagnostics {
        message.push_str(&format!(
            "\n  {}: rule `{}`: {}: {}",
            finding.severity, finding.rule, finding.path, finding.reason
        ));
    }
    anyhow!(message)
}

/// An answer without a body reads as `null`.
fn decode<T: DeserializeOwned>(mut answer: Response<Body>) -> anyhow::Result<T> {
    let text = answer
        .body_mut()
        .with_config()
        .limit(ANSWER_BYTES)
        .read_to_string()?;
    let text = if text.is_empty() { "null" } else { &text };
    serde_json::from_str(text)
        .context("the server answered something else; use the same version on both sides")
}

fn read(path: &Path) -> anyhow::Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!(
            "cannot read `{}`; run this as the server's user",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_and_what_to_do() {
        let text = r#"{"error":{"code":"x","message":"no such host","remedy":"list hosts"}}"#;
        let error = refusal(StatusCode::NOT_FOUND, text);
        assert_eq!(error.to_string(), "no such host; list hosts");
        let error = refusal(StatusCode::BAD_GATEWAY, "<html>");
        assert_eq!(error.to_string(), "the server answered 502 Bad Gateway");
    }
}
