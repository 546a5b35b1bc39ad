//! A server of its own for every test.

use std::{
    io::{BufRead as _, BufReader},
    sync::{Arc, mpsc},
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::{
    Agent,
    http::{HeaderMap, Request},
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};
use yinglong_api::{Options, Role, Running, auth::users};
use yinglong_model::{
    AgentId, Alert, Event, EventData, EventId, Timestamp, alert::Status, event, id::Epoch,
    rule::Level,
};
use yinglong_server::Server;
use yinglong_store::state_store::Changes;

pub(crate) const PASSWORD: &str = "correct horse battery";
/// Longest wait for something that must happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Who sends a request.
#[derive(Clone)]
pub(crate) enum Who {
    Nobody,
    /// API token.
    Token(String),
    /// Cookie, and the CSRF token if it is repeated.
    Session(String, Option<String>),
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("no JSON: {}", self.text))
    }

    pub(crate) fn code(&self) -> String {
        self.json()["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map(|value| value.to_str().unwrap())
            .unwrap_or_default()
    }
}

pub(crate) struct Api {
    pub(crate) server: Arc<Server>,
    pub(crate) base: String,
    pub(crate) dir: TempDir,
    running: Option<Running>,
    agent: Agent,
    runtime: tokio::runtime::Runtime,
}

impl Api {
    /// With an administrator, an analyst and somebody who may only look.
    pub(crate) fn start() -> Self {
        Self::start_with(&[
            ("admin", Role::Admin),
            ("ann", Role::Analyst),
            ("rita", Role::Readonly),
        ])
    }

    pub(crate) fn start_with(people: &[(&str, Role)]) -> Self {
        let dir = TempDir::new().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listen = "127.0.0.1:0".parse().unwrap();
        let names = vec!["ids.example".to_owned()];
        let options = yinglong_server::Options {
            data: dir.path().join("data"),
            listen,
            names: names.clone(),
            log_max_bytes: 64 << 20,
            events: None,
        };
        let server = runtime.block_on(Server::start(options)).unwrap();
        for (name, role) in people {
            users::put(server.state().as_ref(), name, PASSWORD, *role, now()).unwrap();
        }
        let running = runtime
            .block_on(yinglong_api::serve(
                Arc::clone(&server),
                Options { listen, names },
            ))
            .unwrap();
        let agent = agent(&server.authority().certificate_pem());
        let base = format!("https://127.0.0.1:{}", running.address().port());
        Self {
            server,
            base,
            dir,
            running: Some(running),
            agent,
            runtime,
        }
    }

    pub(crate) fn setup_code(&self) -> Option<String> {
        self.running.as_ref().unwrap().setup_code()
    }

    /// The token the server left for the command line.
    pub(crate) fn admin(&self) -> Who {
        let token = std::fs::read_to_string(self.dir.path().join("data/admin.token")).unwrap();
        Who::Token(token.trim().to_owned())
    }

    pub(crate) fn sign_in(&self, name: &str) -> Who {
        let body = json!({ "username": name, "password": PASSWORD });
        let answer = self.call("POST", "/api/v1/session", &Who::Nobody, Some(&body));
        assert_eq!(answer.status, 200, "{}", answer.text);
        let cookie = answer
            .header("set-cookie")
            .split(';')
            .next()
            .unwrap()
            .to_owned();
        let token = answer.json()["csrf_token"].as_str().unwrap().to_owned();
        Who::Session(cookie, Some(token))
    }

    pub(crate) fn get(&self, path: &str, who: &Who) -> Answer {
        self.call("GET", path, who, None)
    }

    pub(crate) fn call(&self, method: &str, path: &str, who: &Who, body: Option<&Value>) -> Answer {
        self.call_with(method, path, who, body, &[])
    }

    pub(crate) fn call_with(
        &self,
        method: &str,
        path: &str,
        who: &Who,
        body: Option<&Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let body = body.map(|body| serde_json::to_vec(body).unwrap());
        let mut headers = headers.to_vec();
        if body.is_some() && !headers.iter().any(|(name, _)| *name == "Content-Type") {
            headers.push(("Content-Type", "application/json"));
        }
        self.send(method, path, who, body, &headers)
    }

    /// Sends a file.
    pub(crate) fn send_bytes(&self, method: &str, path: &str, who: &Who, file: &[u8]) -> Answer {
        self.send(method, path, who, Some(file.to_vec()), &[])
    }

    fn send(
        &self,
        method: &str,
        path: &str,
        who: &Who,
        body: Option<Vec<u8>>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base));
        match who {
            Who::Nobody => {}
            Who::Token(token) => {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            Who::Session(cookie, csrf) => {
                request = request.header("Cookie", cookie);
                if let Some(csrf) = csrf {
                    request = request.header("X-CSRF-Token", csrf);
                }
            }
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = match body {
            Some(body) => self.agent.run(request.body(body).unwrap()),
            None => self.agent.run(request.body(()).unwrap()),
        };
        let mut answer = answer.unwrap();
        Answer {
            status: answer.status().as_u16(),
            headers: answer.headers().clone(),
            text: answer.body_mut().read_to_string().unwrap(),
        }
    }

    /// Lines of a stream, as they come; the channel closes when the stream ends.
    pub(crate) fn lines(&self, path: &str, who: &Who) -> mpsc::Receiver<String> {
        let mut request = Request::builder().uri(format!("{}{path}", self.base));
        match who {
            Who::Token(token) => {
                request = request.header("Authorization", format!("Bearer {token}"))
            }
            Who::Session(cookie, _) => request = request.header("Cookie", cookie),
            Who::Nobody => {}
        }
        let answer = self.agent.run(request.body(()).unwrap()).unwrap();
        assert_eq!(answer.status(), 200);
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(answer.into_body().into_reader()).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        lines
    }

    pub(crate) fn raise(&self, alerts: Vec<Alert>) {
        let changes = Changes {
            alerts,
            ..Changes::default()
        };
        self.server.state().apply(&changes).unwrap();
    }

    pub(crate) fn stop_console(&mut self) {
        let running = self.running.take().unwrap();
        self.runtime.block_on(running.stop());
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            self.runtime.block_on(running.stop());
        }
        self.runtime.block_on(self.server.stop());
    }
}

fn agent(ca: &str) -> Agent {
    let roots: Vec<Certificate<'static>> = parse_pem(ca.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::new_with_certs(&roots))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .allow_non_standard_methods(true)
        .proxy(None)
        .timeout_connect(Some(PATIENCE))
        .timeout_recv_response(Some(PATIENCE))
        .build()
        .into()
}

pub(crate) fn now() -> Timestamp {
    Timestamp::from(std::time::SystemTime::now())
}

pub(crate) fn execution(seq: u64, at: Timestamp, process: event::Process) -> Event {
    let agent_id = AgentId::from_bits(7);
    Event {
        id: EventId::derive(&agent_id, Epoch(1), seq),
        agent_id,
        ip: "192.0.2.7".into(),
        hostname: "web-7".into(),
        system: event::System::Linux,
        seq,
        time: at,
        observed_at: at,
        ingested_at: at,
        data: EventData::Process(Box::new(process)),
    }
}

pub(crate) fn alert(id: &str, level: Level, status: Status, raw: Value) -> Alert {
    Alert {
        id: id.into(),
        agent_id: AgentId::from_bits(7),
        ip: "192.0.2.7".into(),
        hostname: "web-7".into(),
        kind: "process".into(),
        source: format!("rule of {id}"),
        rule_id: "rule".into(),
        level,
        info: format!("info of {id}"),
        description: "<img src=x onerror=1>".into(),
        description_zh: String::new(),
        attack: Vec::new(),
        status,
        time: now(),
        raised_at: now(),
        uptime: now(),
        count: 1,
        matched: Vec::new(),
        raw,
        story: String::new(),
    }
}
