//! Answers of the cluster to searches, and events read one by one.

use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use yinglong_model::{Event, EventId};
use yinglong_store::{
    Error, Kind, Query, Result,
    event_store::{Page, PageRequest},
};

use crate::{
    client::{Client, shortened},
    error::Failure,
    plan::Plan,
};

const LARGEST_PAGE: usize = 1000;
/// Events asked for at once when not all of them will match.
const SCAN_PAGE: usize = 500;

/// Everything that searches need.
#[derive(Clone, Copy)]
pub(crate) struct Searcher<'a> {
    pub(crate) client: &'a Client,
    /// Indexes that are searched.
    pub(crate) patterns: &'a str,
    /// Longest time to read events one by one for a count.
    pub(crate) scan_for: Duration,
    /// Longest time the cluster may take for one answer.
    pub(crate) answer_for: Duration,
}

/// What the cluster answers.
#[derive(Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    timed_out: bool,
    #[serde(rename = "_shards", default)]
    shards: Shards,
    #[serde(default)]
    pub(crate) hits: Hits,
    #[serde(default)]
    pub(crate) aggregations: Value,
}

#[derive(Deserialize, Default)]
struct Shards {
    #[serde(default)]
    total: u64,
    #[serde(default)]
    successful: u64,
    #[serde(default)]
    failures: Value,
}

#[derive(Deserialize, Default)]
pub(crate) struct Hits {
    #[serde(default)]
    pub(crate) total: Total,
    #[serde(default)]
    hits: Vec<Hit>,
}

#[derive(Deserialize, Default)]
pub(crate) struct Total {
    #[serde(default)]
    pub(crate) value: u64,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "_id", default)]
    id: String,
    #[serde(rename = "_source", deserialize_with = "event")]
    event: std::result::Result<Event, String>,
    #[serde(default)]
    sort: Option<(i64, String)>,
}

/// One document that is no event must not spoil an answer.
fn event<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> std::result::Result<std::result::Result<Event, String>, D::Error> {
    let document = Value::deserialize(deserializer)?;
    Ok(Event::deserialize(document).map_err(|error| error.to_string()))
}

/// Place of an event in the order of results.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    time_nanos: i64,
    id: String,
}

impl Cursor {
    fn parse(text: &str) -> Result<Self> {
        let parsed = text.split_once(':').and_then(|(time, id)| {
            Some(Self {
                time_nanos: time.parse().ok()?,
                id: id.to_owned(),
            })
        });
        parsed.ok_or_else(|| {
            Error::new(
                Kind::Invalid,
                format!("`{text}` is no cursor: give the one of the page before, unchanged"),
            )
        })
    }

    fn text(&self) -> String {
        format!("{}:{}", self.time_nanos, self.id)
    }
}

/// How far a scan came.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    /// To the end.
    Everything,
    /// The visitor had enough.
    Enough,
    /// The time was over; the place of the last event looked at, when all before it were.
    Part(Option<Cursor>),
}

impl Searcher<'_> {
    /// Asks the cluster; shards that did not answer are a failure, a search that ran out of time is
    /// not.
    fn ask(&self, body: &Value) -> std::result::Result<Answer, Failure> {
        let body = body.to_string();
        self.client.patiently(|| self.ask_once(body.as_bytes()))
    }

    fn ask_once(&self, body: &[u8]) -> std::result::Result<Answer, Failure> {
        let path = format!(
            "/{}/_search?ignore_unavailable=true&allow_no_indices=true",
            self.patterns
        );
        let answer: Answer = self.client.post(&path, body)?;
        let Shards {
            total, successful, ..
        } = answer.shards;
        if successful < total && !answer.timed_out {
            let reason = answer.shards.failures[0]["reason"]["reason"]
                .as_str()
                .map(|reason| format!(": {}", shortened(reason)))
                .unwrap_or_default();
            return Err(Failure::Shards {
                missing: total - successful,
                total,
                reason,
            });
        }
        Ok(answer)
    }

    /// Lets the cluster count.
    pub(crate) fn aggregate(&self, what: &str, query: &Value, rest: &Value) -> Result<Answer> {
        let mut body = json!({
            "size": 0,
            "query": query,
            "timeout": millis(self.answer_for),
        });
        if let (Some(body), Some(rest)) = (body.as_object_mut(), rest.as_object()) {
            body.extend(rest.clone());
        }
        let answer = self.ask(&body).map_err(|failure| failure.during(what))?;
        if answer.timed_out {
            return Err(Error::new(
                Kind::Unavailable,
                format!("cannot {what} in time: ask for a shorter time or for fewer events"),
            ));
        }
        Ok(answer)
    }

    /// Calls `visit` with the events a query of the cluster finds, newest first, until it says
    /// false or the deadline passes.
    fn scan(
        &self,
        query: &Value,
        mut after: Option<Cursor>,
        first: usize,
        deadline: Instant,
        mut visit: impl FnMut(Event) -> bool,
    ) -> Result<Seen> {
        let mut size = first;
        let mut most = usize::MAX;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(Seen::Part(after));
            }
            let mut body = json!({
                "size": size,
                "query": query,
                "sort": [
                    {"time_nanos": {"order": "desc", "unmapped_type": "long"}},
                    {"id.keyword": {"order": "desc", "unmapped_type": "keyword"}},
                ],
                "track_total_hits": false,
                "timeout": millis(left.min(self.answer_for)),
            });
            if let Some(Cursor { time_nanos, id }) = &after {
                body["search_after"] = json!([time_nanos, id]);
            }
            let answer = match self.ask(&body) {
                Ok(answer) => answer,
                // Few huge events fill an answer as well as many small ones.
                Err(Failure::AnswerTooLarge) if size > 1 => {
                    most = (size / 4).max(1);
                    size = most;
                    continue;
                }
                Err(failure) => return Err(failure.during("search events")),
            };
            let asked = std::mem::replace(&mut size, SCAN_PAGE.max(first).min(most));
            let found = answer.hits.hits.len();
            for hit in answer.hits.hits {
                if let Some((time_nanos, id)) = hit.sort {
                    after = Some(Cursor { time_nanos, id });
                }
                match hit.event {
                    Ok(event) => {
                        if !visit(event) {
                            return Ok(Seen::Enough);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(id = hit.id, error, "a document of events is no event");
                    }
                }
            }
            if answer.timed_out {
                // Some shards were not searched to the end: the order has holes.
                return Ok(Seen::Part(None));
            }
            if found < asked {
                return Ok(Seen::Everything);
            }
        }
    }

    /// A page of results.
    pub(crate) fn page(&self, query: &Query, request: &PageRequest) -> Result<Page> {
        check(query)?;
        if !(1..=LARGEST_PAGE).contains(&request.limit) {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "a page has 1 to {LARGEST_PAGE} events, not {}",
                    request.limit
                ),
            ));
        }
        let cursor = request.cursor.as_deref().map(Cursor::parse).transpose()?;
        let deadline = deadline(request.time_limit);
        let plan = Plan::new(query);
        let wanted = request.limit + 1;
        let first = if plan.is_exact {
            wanted
        } else {
            wanted.max(SCAN_PAGE)
        };
        let mut found = Vec::new();
        let seen = self.scan(&plan.candidates(), cursor, first, deadline, |event| {
            if query.matches(&event) {
                found.push(event);
            }
            found.len() < wanted
        })?;
        let more = found.len() > request.limit;
        found.truncate(request.limit);
        let last = found.last().map(|event| Cursor {
            time_nanos: event.time.nanos(),
            id: event.id.as_str().to_owned(),
        });
        Ok(Page {
            next: match &seen {
                _ if more => last,
                // The search can go on where the time was over.
                Seen::Part(place) => place.clone(),
                _ => None,
            }
            .map(|cursor| cursor.text()),
            events: found,
            partial: matches!(seen, Seen::Part(_)),
        })
    }

    /// Calls `visit` with every event that matches, among those that a query of the cluster finds.
    pub(crate) fn each(
        &self,
        query: &Query,
        candidates: &Value,
        mut visit: impl FnMut(Event),
    ) -> Result<()> {
        let seen = self.scan(
            candidates,
            None,
            SCAN_PAGE,
            deadline(self.scan_for),
            |event| {
                if query.matches(&event) {
                    visit(event);
                }
                true
            },
        )?;
        match seen {
            Seen::Part(_) => Err(Error::new(
                Kind::Unavailable,
                format!(
                    "cannot count in {} s what only reading each event can tell: ask for a \
                     shorter time, or add a condition on words",
                    self.scan_for.as_secs()
                ),
            )),
            Seen::Everything | Seen::Enough => Ok(()),
        }
    }

    /// One event.
    pub(crate) fn get(&self, id: &EventId) -> Result<Option<Event>> {
        let body = json!({
            "size": 1,
            "query": {"bool": {"filter": [
                {"term": {"id": id.as_str()}},
                {"exists": {"field": "time_nanos"}},
            ]}},
            "track_total_hits": false,
        });
        let answer = self
            .ask(&body)
            .map_err(|failure| failure.during("read an event"))?;
        let Some(hit) = answer.hits.hits.into_iter().next() else {
            return Ok(None);
        };
        hit.event.map(Some).map_err(|error| {
            Error::new(
                Kind::Corrupt,
                format!("event {id} cannot be read from the cluster: {error}"),
            )
        })
    }
}

fn deadline(limit: Duration) -> Instant {
    // A limit beyond what clocks can tell is none.
    const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
    Instant::now() + limit.min(LONGEST)
}

fn millis(limit: Duration) -> String {
    format!("{}ms", limit.as_millis().clamp(1, 86_400_000))
}

/// A query asks for events, not for anything else.
pub(crate) fn check(query: &Query) -> Result<()> {
    use yinglong_store::query::Target;
    let reason = match query.kind {
        Some(Target::Inventory(kind)) => {
            format!("{} is an inventory type: search inventories", kind.as_str())
        }
        _ if query.is_statistics() => "count and exist_count ask for statistics".to_owned(),
        _ => return Ok(()),
    };
    Err(Error::new(Kind::Invalid, reason))
}
