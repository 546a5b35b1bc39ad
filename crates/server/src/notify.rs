//! Announces alerts by calling a URL; never in the way of detection.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use yinglong_model::{Alert, rule::Level};

use crate::settings::Settings;

/// Alerts waiting to be announced; more are counted as dropped, they stay in the console anyway.
const QUEUE_ALERTS: usize = 1000;
const TIMEOUT: Duration = Duration::from_secs(10);
/// Attempts per alert, with growing pauses between them.
const PAUSES: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_secs(2),
    Duration::from_secs(10),
];
/// Longest answer that is read, in bytes.
const ANSWER_BYTES: u64 = 64 << 10;

/// What became of announcements.
#[derive(Debug, Default)]
pub struct Counters {
    /// Delivered.
    pub sent: AtomicU64,
    /// Given up after the last attempt.
    pub failed: AtomicU64,
    /// Not tried because the queue was full.
    pub dropped: AtomicU64,
}

/// Cheap to clone; all clones feed the same queue.
#[derive(Clone)]
pub struct Notifier {
    queue: mpsc::SyncSender<Alert>,
    counters: Arc<Counters>,
}

impl Notifier {
    /// Starts the thread; it ends when the last clone is dropped.
    pub fn start(settings: Arc<Settings>) -> Self {
        let (queue, alerts) = mpsc::sync_channel::<Alert>(QUEUE_ALERTS);
        let counters = Arc::new(Counters::default());
        let shared = Arc::clone(&counters);
        std::thread::Builder::new()
            .name("notify".into())
            .spawn(move || {
                let client = client();
                for alert in alerts {
                    let notice = settings.current().config.notice.clone();
                    if !notice.switch || (notice.onlyhigh && alert.level != Level::Danger) {
                        continue;
                    }
                    deliver(&client, &url(&notice.api, &alert), &shared);
                }
            })
            .expect("a thread can be started while the server starts");
        Self { queue, counters }
    }

    /// Queues an alert; returns at once.
    pub fn announce(&self, alert: Alert) {
        if self.queue.try_send(alert).is_err() {
            self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What became of announcements.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

/// An HTTP client for small requests to configured addresses.
fn client() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .build()
        .into()
}

fn deliver(client: &ureq::Agent, url: &str, counters: &Counters) {
    for pause in PAUSES {
        std::thread::sleep(pause);
        match client.get(url).call() {
            Ok(mut answer) => {
                // Reading the answer lets the connection be used again.
                let _ = answer
                    .body_mut()
                    .with_config()
                    .limit(ANSWER_BYTES)
                    .read_to_vec();
                counters.sent.fetch_add(1, Ordering::Relaxed);
                return;
            }
            Err(error) => tracing::warn!(%error, "an alert could not be announced"),
        }
    }
    counters.failed.fetch_add(1, Ordering::Relaxed);
}

/// The configured URL with the alert's text in it.
fn url(template: &str, alert: &Alert) -> String {
    let text = format!(
        "IP:{},Type:{},Info:{} {}",
        alert.ip, alert.kind, alert.info, alert.description
    );
    let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    template.replace("{$info}", &encoded.replace('+', "%20"))
}

#[cfg(test)]
mod tests {
    use yinglong_model::{AgentId, Timestamp, alert::Status};

    use super::*;

    #[test]
    fn s19_the_text_is_encoded_into_the_url() {
        let alert = Alert {
            id: String::new(),
            agent_id: AgentId::from_bits(1),
            ip: "192.0.2.1".into(),
            hostname: String::new(),
            kind: "process".into(),
            source: String::new(),
            rule_id: String::new(),
            level: Level::Danger,
            info: "a&b|c d".into(),
            description: "反弹".into(),
            description_zh: String::new(),
            attack: Vec::new(),
            status: Status::Open,
            time: Timestamp::from_secs(0),
            raised_at: Timestamp::from_secs(0),
            uptime: Timestamp::from_secs(0),
            count: 1,
            matched: Vec::new(),
            raw: serde_json::Value::Null,
            story: String::new(),
        };
        assert_eq!(
            url("http://h/?text={$info}&x=1", &alert),
            "http://h/?text=IP%3A192.0.2.1%2CType%3Aprocess%2CInfo%3Aa%26b%7Cc%20d%20%E5%8F%8D%E5%BC%B9&x=1"
        );
    }
}
