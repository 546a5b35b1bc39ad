//! What happens right now, as server-sent events.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::{
        IntoResponse as _, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, broadcast::error::RecvError, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use utoipa::IntoParams;
use yinglong_server::live::Item;

use crate::{
    app::{Shared, now},
    auth::guard,
    error::{Error, ErrorBody, Kind, Result},
    extract::Params,
    views,
};

/// Comment lines keep proxies from closing a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Items waiting for a slow client; more wait, and are missed, in the server's own backlog.
const QUEUE: usize = 64;

/// What is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// `alerts`, `events`, or both with a comma between them; alerts when absent.
    kinds: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Kinds {
    alerts: bool,
    events: bool,
}

/// Sends `alert` and `event`, each with the document, and `lagged` with the number of items that
/// were missed. Ends with the session.
#[utoipa::path(get, path = "/stream", tag = "events", params(Wanted),
    responses((status = 200, content_type = "text/event-stream", body = String), (status = "default", body = ErrorBody)))]
pub(crate) async fn stream(
    State(app): State<Shared>,
    Params(wanted): Params<Wanted>,
    request: Request,
) -> Result<Response> {
    let kinds = kinds(wanted.kinds.as_deref().unwrap_or("alerts"))?;
    let permit = Arc::clone(&app.streams)
        .try_acquire_owned()
        .map_err(|_| Error::new(Kind::Busy, "too many live streams are open").retry_after(10))?;
    let (queue, items) = mpsc::channel(QUEUE);
    tokio::spawn(feed(
        app,
        kinds,
        Viewer::of(request.headers()),
        queue,
        permit,
    ));
    let stream =
        Sse::new(ReceiverStream::new(items)).keep_alive(KeepAlive::new().interval(HEARTBEAT));
    let mut response = stream.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

fn kinds(text: &str) -> Result<Kinds> {
    let mut kinds = Kinds::default();
    for name in text.split(',').map(str::trim) {
        match name {
            "alerts" => kinds.alerts = true,
            "events" => kinds.events = true,
            other => {
                return Err(Error::new(
                    Kind::BadRequest,
                    format!("kinds: `{other}` is neither alerts nor events"),
                ));
            }
        }
    }
    Ok(kinds)
}

/// Whose stream it is; API tokens do not expire.
struct Viewer(Option<String>);

impl Viewer {
    fn of(headers: &HeaderMap) -> Self {
        if headers.contains_key(header::AUTHORIZATION) {
            return Self(None);
        }
        Self(guard::cookie(headers).map(str::to_owned))
    }

    fn may_go_on(&self, app: &Shared) -> bool {
        self.0
            .as_deref()
            .is_none_or(|cookie| app.sessions.is_open(cookie, now()))
    }
}

async fn feed(
    app: Shared,
    kinds: Kinds,
    viewer: Viewer,
    queue: mpsc::Sender<std::result::Result<Event, Infallible>>,
    _permit: OwnedSemaphorePermit,
) {
    let mut items = app.server.live().watch();
    let mut stopping = app.stopping.clone();
    let mut checks = tokio::time::interval(HEARTBEAT);
    // Browsers take a stream for open when its first bytes arrive, not its headers.
    if queue
        .send(Ok(Event::default().comment("open")))
        .await
        .is_err()
    {
        return;
    }
    loop {
        let event = tokio::select! {
            () = queue.closed() => return,
            _ = stopping.wait_for(|stopping| *stopping) => return,
            _ = checks.tick() => {
                if viewer.may_go_on(&app) { continue }
                return;
            }
            item = items.recv() => match item {
                Ok(item) => show(kinds, &item),
                Err(RecvError::Lagged(missed)) => {
                    Some(Event::default().event("lagged").data(format!("{{\"missed\":{missed}}}")))
                }
                Err(RecvError::Closed) => return,
            },
        };
        let Some(event) = event else { continue };
        tokio::select! {
            sent = queue.send(Ok(event)) => if sent.is_err() { return },
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

fn show(kinds: Kinds, item: &Item) -> Option<Event> {
    let (name, json) = match item {
        Item::Alert(alert) if kinds.alerts => (
            "alert",
            serde_json::to_string(&views::Alert::from(alert.as_ref().clone())),
        ),
        Item::Event(event) if kinds.events => (
            "event",
            serde_json::to_string(&views::Event::from(event.as_ref().clone())),
        ),
        _ => return None,
    };
    Some(Event::default().event(name).data(json.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named() {
        assert_eq!(
            kinds("alerts").unwrap(),
            Kinds {
                alerts: true,
                events: false
            }
        );
        assert_eq!(
            kinds("events, alerts").unwrap(),
            Kinds {
                alerts: true,
                events: true
            }
        );
        assert!(kinds("alerts,hosts").is_err());
        assert!(kinds("").is_err());
    }
}
