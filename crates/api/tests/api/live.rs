//! What happens right now.

use std::sync::{Arc, mpsc::Receiver};

use serde_json::{Value, json};
use yinglong_model::{alert::Status, event::Process, rule::Level};
use yinglong_server::live::Item;

use crate::support::{Api, PATIENCE, alert, execution, now};

/// The next item, comments left out.
fn next(lines: &Receiver<String>) -> (String, Value) {
    let mut name = String::new();
    loop {
        let line = lines.recv_timeout(PATIENCE).expect("the stream goes on");
        if let Some(event) = line.strip_prefix("event:") {
            name = event.trim().to_owned();
        } else if let Some(data) = line.strip_prefix("data:") {
            return (name, serde_json::from_str(data).unwrap());
        }
    }
}

/// Watching begins shortly after the answer; only then is something shown.
fn wait_until_watched(api: &Api) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !api.server.live().is_watched() {
        assert!(std::time::Instant::now() < deadline, "nobody watches");
        std::thread::yield_now();
    }
}

#[test]
fn c08_a_stream_shows_alerts_and_events_as_they_happen() {
    let api = Api::start();
    let lines = api.lines("/api/v1/stream?kinds=alerts,events", &api.sign_in("rita"));
    wait_until_watched(&api);
    let raised = alert("a1", Level::Danger, Status::Open, Value::Null);
    api.server
        .live()
        .show(Item::Alert(Arc::new(raised.clone())));
    let command = "echo '<img src=x onerror=1>'\nevent: alert";
    let process = Process {
        command: command.into(),
        ..Process::default()
    };
    api.server
        .live()
        .show(Item::Event(Arc::new(execution(1, now(), process))));
    let (name, document) = next(&lines);
    assert_eq!(
        (name.as_str(), document),
        ("alert", serde_json::to_value(raised).unwrap())
    );
    let (name, document) = next(&lines);
    assert_eq!(
        (name.as_str(), &document["data"]["command"]),
        ("event", &json!(command))
    );
}

#[test]
fn a_stream_of_alerts_shows_status_changes_and_no_events() {
    let api = Api::start();
    api.raise(vec![alert("a1", Level::Danger, Status::Open, Value::Null)]);
    let lines = api.lines("/api/v1/stream", &api.admin());
    wait_until_watched(&api);
    api.server.live().show(Item::Event(Arc::new(execution(
        1,
        now(),
        Process::default(),
    ))));
    let body = json!({ "ids": ["a1"], "status": 1 });
    api.call("POST", "/api/v1/alerts/status", &api.admin(), Some(&body));
    let (name, document) = next(&lines);
    assert_eq!((name.as_str(), &document["status"]), ("alert", &json!(1)));
}

#[test]
fn who_lags_is_told_how_much_was_missed() {
    let api = Api::start();
    let lines = api.lines("/api/v1/stream?kinds=events", &api.admin());
    wait_until_watched(&api);
    // More than connection and backlog hold, so that a reader that waits must miss some.
    let process = Process {
        command: "x".repeat(16 << 10),
        ..Process::default()
    };
    let event = Arc::new(execution(1, now(), process));
    for _ in 0..20_000 {
        api.server.live().show(Item::Event(Arc::clone(&event)));
    }
    let lagged = std::iter::repeat_with(|| next(&lines)).find(|(name, _)| name == "lagged");
    assert!(lagged.unwrap().1["missed"].as_u64().unwrap() > 0);
}

#[test]
fn streams_end_when_the_console_stops() {
    let mut api = Api::start();
    let lines = api.lines("/api/v1/stream", &api.admin());
    wait_until_watched(&api);
    api.stop_console();
    while lines.recv_timeout(PATIENCE).is_ok() {}
    assert!(!api.server.live().is_watched());
}
