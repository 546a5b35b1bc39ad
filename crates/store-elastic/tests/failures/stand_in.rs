//! Something that answers like a cluster, or as badly as a test wants.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    /// With what follows the question mark.
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn is_bulk(&self) -> bool {
        self.path.starts_with("/_bulk")
    }

    pub(crate) fn is_search(&self) -> bool {
        self.path.contains("/_search")
    }

    pub(crate) fn writes_position(&self) -> bool {
        self.method == "PUT" && self.path.starts_with("/yinglong-meta/_doc/")
    }

    /// Ids of the documents of a bulk.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.body
            .lines()
            .step_by(2)
            .map(|line| {
                let action: Value = serde_json::from_str(line).unwrap();
                action["create"]["_id"].as_str().unwrap().to_owned()
            })
            .collect()
    }
}

/// What is answered.
pub(crate) enum Reply {
    Json(u16, Value),
    Text(u16, &'static str),
    /// Nothing, until the other side is gone.
    Silence,
}

pub(crate) fn ok(body: Value) -> Reply {
    Reply::Json(200, body)
}

pub(crate) fn error(status: u16, kind: &str) -> Reply {
    let reason = json!({"type": kind, "reason": "because"});
    Reply::Json(status, json!({"error": reason, "status": status}))
}

/// Outcomes of a bulk, one status and type of error per document.
pub(crate) fn outcomes(each: &[(u16, &str)]) -> Reply {
    let items: Vec<Value> = each
        .iter()
        .map(|(status, kind)| {
            let mut item = json!({"status": status});
            if *status >= 300 {
                item["error"] = json!({"type": kind, "reason": "because"});
            }
            json!({"create": item})
        })
        .collect();
    let errors = each.iter().any(|(status, _)| *status >= 300);
    ok(json!({"errors": errors, "items": items}))
}

/// What a healthy, empty cluster answers.
pub(crate) fn healthy(request: &Request) -> Reply {
    match (request.method.as_str(), request.path.as_str()) {
        ("GET", "/") => ok(json!({
            "version": {"number": "2.19.1", "distribution": "opensearch"},
            "tagline": "The OpenSearch Project: https://opensearch.org/",
        })),
        ("GET", path) if path.starts_with("/yinglong-meta/_doc/") => {
            Reply::Json(404, json!({"found": false}))
        }
        _ if request.is_bulk() => {
            outcomes(&request.ids().iter().map(|_| (201, "")).collect::<Vec<_>>())
        }
        _ => ok(json!({})),
    }
}

type Answer = Box<dyn FnMut(&Request) -> Reply + Send>;

/// The stand-in; its thread ends with the process.
pub(crate) struct StandIn {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl StandIn {
    pub(crate) fn start(answer: impl FnMut(&Request) -> Reply + Send + 'static) -> Self {
        Self::with_tls(None, answer)
    }

    pub(crate) fn with_tls(
        tls: Option<Arc<rustls::ServerConfig>>,
        answer: impl FnMut(&Request) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer: Arc<Mutex<Answer>> = Arc::new(Mutex::new(Box::new(answer)));
        let seen = Arc::<Mutex<Vec<Request>>>::default();
        let stand_in = Self {
            address,
            answer: Arc::clone(&answer),
            seen: Arc::clone(&seen),
        };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (answer, seen, tls) = (Arc::clone(&answer), Arc::clone(&seen), tls.clone());
                thread::spawn(move || match tls {
                    None => serve(stream, &answer, &seen),
                    Some(config) => {
                        let session = rustls::ServerConnection::new(config).unwrap();
                        serve(rustls::StreamOwned::new(session, stream), &answer, &seen);
                    }
                });
            }
        });
        stand_in
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, something else is answered.
    pub(crate) fn now(&self, answer: impl FnMut(&Request) -> Reply + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    /// What came so far, of one kind.
    pub(crate) fn seen(&self, wanted: impl Fn(&Request) -> bool) -> Vec<Request> {
        let seen = self.seen.lock().unwrap();
        seen.iter()
            .filter(|request| wanted(request))
            .cloned()
            .collect()
    }
}

/// An address at which nothing answers.
pub(crate) fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Answers one request; the connection ends with it.
fn serve(stream: impl Read + Write, answer: &Mutex<Answer>, seen: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream);
    let Some(request) = read(&mut reader) else {
        return;
    };
    seen.lock().unwrap().push(request.clone());
    let reply = (answer.lock().unwrap())(&request);
    let (status, body) = match reply {
        Reply::Json(status, body) => (status, body.to_string()),
        Reply::Text(status, body) => (status, body.to_owned()),
        Reply::Silence => {
            let _ = reader.read(&mut [0]);
            return;
        }
    };
    let stream = reader.get_mut();
    let _ = write!(
        stream,
        "HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.flush();
}

fn read(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut length, mut authorization) = (0, None);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().ok()?,
            "authorization" => authorization = Some(value.to_owned()),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request {
        method,
        path,
        authorization,
        body: String::from_utf8(body).ok()?,
    })
}
