//! Writing events: bounded requests, tried again while that can help.

use std::{
    thread,
    time::{Duration, Instant},
};

use backon::{BackoffBuilder, ExponentialBuilder};
use serde::Deserialize;
use yinglong_store::{Error, Kind, Result};

use crate::{
    client::{Client, shortened},
    codec::Line,
    error::{Failure, advice, is_passing},
};

/// Bounds of one request, far below what clusters take by default (100 MB).
const REQUEST_BYTES: usize = 5 << 20;
const REQUEST_EVENTS: usize = 5000;
/// Longest id that a cluster takes.
const LONGEST_ID_BYTES: usize = 512;

const PATH: &str = "/_bulk?filter_path=errors,items.create.status,\
                    items.create.error.type,items.create.error.reason";

/// An event that the cluster will never take, and why.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) line: Line,
    pub(crate) reason: String,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    errors: bool,
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    #[serde(default)]
    error: Option<Cause>,
}

#[derive(Deserialize, Default)]
struct Cause {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    reason: String,
}

/// What became of the lines of one request.
#[derive(Default)]
struct Sorted {
    /// Worth trying again.
    again: Vec<Line>,
    refused: Vec<Refused>,
    /// Why the last of `again` was not taken.
    reason: Option<Error>,
}

/// Sends everything in `pending`. What the cluster took is gone from it, whatever the outcome; what
/// it will never take is returned.
pub(crate) fn send(
    client: &Client,
    pending: &mut Vec<Line>,
    refused: &mut Vec<Refused>,
    retry_for: Duration,
) -> Result<()> {
    let deadline = Instant::now() + retry_for;
    while !pending.is_empty() {
        let mut bytes = 0;
        let count = pending
            .iter()
            .take(REQUEST_EVENTS)
            .take_while(|line| {
                bytes += line.bytes();
                bytes <= REQUEST_BYTES
            })
            .count()
            .max(1);
        let batch = pending.drain(..count).collect();
        let (rest, outcome) = send_batch(client, batch, refused, deadline);
        pending.splice(..0, rest);
        outcome?;
    }
    Ok(())
}

/// Sends one batch until it is taken or the time is over; returns what is left of it.
fn send_batch(
    client: &Client,
    mut batch: Vec<Line>,
    refused: &mut Vec<Refused>,
    deadline: Instant,
) -> (Vec<Line>, Result<()>) {
    let mut pauses = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_jitter()
        .build();
    let (unfit, fit) = batch
        .drain(..)
        .partition(|line| !(1..=LONGEST_ID_BYTES).contains(&line.id.len()));
    batch = fit;
    for line in unfit {
        let reason = format!("an id has 1 to {LONGEST_ID_BYTES} bytes");
        refused.push(Refused { line, reason });
    }
    while !batch.is_empty() {
        let error = match post(client, &batch) {
            Ok(answer) => {
                let mut sorted = match sort(batch, answer) {
                    Ok(sorted) => sorted,
                    Err((batch, error)) => return (batch, Err(error)),
                };
                refused.append(&mut sorted.refused);
                batch = sorted.again;
                match sorted.reason {
                    Some(error) => error,
                    None => return (batch, Ok(())),
                }
            }
            // Too large as a whole: in two halves, down to the one event that is.
            Err(failure) if failure.status() == Some(413) => {
                if batch.len() == 1 {
                    refused.extend(batch.drain(..).map(|line| Refused {
                        line,
                        reason: "larger than the cluster takes (http.max_content_length)".into(),
                    }));
                    return (batch, Ok(()));
                }
                let second = batch.split_off(batch.len() / 2);
                let (mut rest, outcome) = send_batch(client, batch, refused, deadline);
                if outcome.is_err() {
                    rest.extend(second);
                    return (rest, outcome);
                }
                return send_batch(client, second, refused, deadline);
            }
            Err(failure) if failure.is_passing() => failure.during("store events"),
            Err(failure) => return (batch, Err(held(failure.during("store events")))),
        };
        let pause = pauses.next().unwrap_or_default();
        if Instant::now() + pause >= deadline {
            return (batch, Err(held(error)));
        }
        thread::sleep(pause);
    }
    (batch, Ok(()))
}

fn post(client: &Client, batch: &[Line]) -> std::result::Result<Answer, Failure> {
    let mut body = Vec::with_capacity(batch.iter().map(Line::bytes).sum());
    for line in batch {
        line.write(&mut body).map_err(Failure::Garbled)?;
    }
    client.post(PATH, &body)
}

/// Tells apart what was taken, what to try again and what will never be taken.
fn sort(batch: Vec<Line>, answer: Answer) -> std::result::Result<Sorted, (Vec<Line>, Error)> {
    let mut sorted = Sorted::default();
    if !answer.errors {
        return Ok(sorted);
    }
    if answer.items.len() != batch.len() {
        let error = Error::new(
            Kind::Unavailable,
            "the cluster did not say of each event what became of it: check what answers there",
        );
        return Err((batch, error));
    }
    for (line, item) in batch.into_iter().zip(answer.items) {
        let status = item.create.status;
        let cause = item.create.error.unwrap_or_default();
        match status {
            // Stored now, or before.
            200..=299 | 409 => {}
            400 if !is_condition_of_cluster(&cause.kind) => sorted.refused.push(Refused {
                line,
                reason: format!("{}: {}", cause.kind, shortened(&cause.reason)),
            }),
            _ => {
                let (_, remedy) = if is_passing(status, &cause.kind) && status == 503 {
                    (Kind::Unavailable, "look at the cluster's health")
                } else {
                    advice(status, &cause.kind)
                };
                sorted.reason = Some(Error::new(
                    Kind::Unavailable,
                    format!(
                        "cannot store events in {}: {status} {}: {}; {remedy}",
                        line.index,
                        cause.kind,
                        shortened(&cause.reason)
                    ),
                ));
                sorted.again.push(line);
            }
        }
    }
    Ok(sorted)
}

/// Refusals that are no fault of the document: a limit of shards, a closed index, a full disk.
fn is_condition_of_cluster(kind: &str) -> bool {
    matches!(
        kind,
        "validation_exception"
            | "index_closed_exception"
            | "invalid_index_name_exception"
            | "cluster_block_exception"
    )
}

/// Events are held until somebody mended what is wrong, whatever that is.
fn held(error: Error) -> Error {
    if error.kind() == Kind::Unavailable {
        return error;
    }
    let message = error.to_string();
    Error::caused(Kind::Unavailable, message, error)
}
