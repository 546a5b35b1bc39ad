//! Feeds of indicators.

use std::collections::BTreeMap;

use axum::{
    Json,
    body::Body as Bytes,
    extract::{Extension, Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio_stream::StreamExt as _;
use utoipa::{IntoParams, ToSchema};
use yinglong_intel::{Kind as Indicator, import};
use yinglong_model::{Timestamp, rule::Level};
use yinglong_server::intelligence::{self, MAX_FEED_BYTES, Statement, Wanted};

use crate::{
    app::{Shared, now},
    auth::{Caller, guard},
    error::{Error, ErrorBody, Kind, Result},
    extract::Params,
    routes::rules::Finding,
};

/// All feeds.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FeedList {
    /// By name.
    pub feeds: Vec<Feed>,
}

/// A feed of indicators.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Feed {
    /// Name.
    pub name: String,
    /// `plain`, `csv`, `stix` or `misp`.
    pub format: String,
    /// Level of hits of indicators that state none.
    #[schema(value_type = u8)]
    pub level: Level,
    /// Days after the upload when indicators expire that state no end; never when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_days: Option<u32>,
    /// When it was uploaded.
    #[schema(value_type = String, format = DateTime)]
    pub uploaded_at: Timestamp,
    /// Size of the upload.
    pub bytes: u64,
    /// Memory its indicators take.
    pub memory_bytes: u64,
    /// Indicators held.
    pub indicators: u64,
    /// The same by kind: `ip`, `cidr`, `domain`, `url`, `md5`, `sha1`, `sha256`, `name`, `path`.
    pub kinds: BTreeMap<String, u64>,
    /// Indicators that have expired and match nothing.
    pub expired: u64,
    /// Entries that could not be used.
    pub refused: u64,
    /// Entries left out on purpose, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// The first of the refused.
    pub diagnostics: Vec<FeedDiagnostic>,
    /// Why it cannot be read any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// An entry of a feed that could not be used.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct FeedDiagnostic {
    /// Line, or number of the object or attribute, from 1.
    pub line: u64,
    /// The text, shortened.
    pub text: String,
    /// What is wrong.
    pub reason: String,
}

/// How an upload is to be read.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedRequest {
    /// `plain`, `csv`, `stix` or `misp`; found out when absent.
    format: Option<String>,
    /// Level of hits, 0 to 2; 0 when absent.
    level: Option<u8>,
    /// Days after which indicators expire that state no end; never when absent.
    expires_days: Option<u32>,
}

/// A value that is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct LookupRequest {
    /// Address, network, domain, URL, hash or path.
    value: String,
}

/// What feeds say about a value.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Lookup {
    /// The value, in the form it is compared in.
    pub value: String,
    /// Its kind.
    pub kind: String,
    /// The worst first, at most one per feed and eight.
    pub hits: Vec<LookupHit>,
}

/// What one feed says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct LookupHit {
    /// Feed.
    pub feed: String,
    /// The indicator that matched: the value, or a network or domain around it.
    pub indicator: String,
    /// Level of a hit.
    #[schema(value_type = u8)]
    pub level: Level,
    /// How sure the feed is, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<u8>,
    /// Its words.
    pub label: String,
    /// When it ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub valid_until: Option<Timestamp>,
}

/// The feeds there are.
#[utoipa::path(get, path = "/intelligence/feeds", tag = "intelligence", operation_id = "list_feeds",
    responses((status = 200, body = FeedList), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(app): State<Shared>) -> Result<Json<FeedList>> {
    let feeds = app
        .run(|app| {
            let library = app.server.intelligence().feeds().current();
            Ok(library.feeds.iter().map(|feed| view(feed)).collect())
        })
        .await?;
    Ok(Json(FeedList { feeds }))
}

/// Puts a feed in force, in place of the one of that name. The body is the file.
#[utoipa::path(put, path = "/intelligence/feeds/{name}", tag = "intelligence", operation_id = "put_feed",
    params(("name" = String, Path), FeedRequest),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 200, body = Feed), (status = "default", body = ErrorBody)))]
pub(crate) async fn put(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Params(request): Params<FeedRequest>,
    body: Bytes,
) -> Result<Json<Feed>> {
    let wanted = match wanted(&request) {
        Ok(wanted) => wanted,
        Err(error) => {
            guard::drain(body).await;
            return Err(error);
        }
    };
    let upload = app
        .run(|app| Ok(app.server.intelligence().feeds().upload()?))
        .await?;
    let file = upload.reopen()?;
    receive(body, tokio::fs::File::from_std(file)).await?;
    let stored = app
        .run(move |app| {
            let feeds = app.server.intelligence().feeds();
            let feed = feeds
                .put(&name, &wanted, upload, now())
                .map_err(|e| refused(&name, e))?;
            let view = view(&feed);
            let detail = serde_json::json!({
                "format": view.format,
                "level": view.level,
                "expires_days": view.expires_days,
                "bytes": view.bytes,
                "indicators": view.indicators,
                "refused": view.refused,
            });
            app.audit(&caller.actor(), "intelligence.feed.put", &name, detail)?;
            Ok(view)
        })
        .await?;
    Ok(Json(stored))
}

/// Removes a feed; its indicators match nothing from then on.
#[utoipa::path(delete, path = "/intelligence/feeds/{name}", tag = "intelligence", operation_id = "remove_feed",
    params(("name" = String, Path)), responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn remove(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode> {
    app.run(move |app| {
        let feeds = app.server.intelligence().feeds();
        let feed = feeds.remove(&name).map_err(|error| refused(&name, error))?;
        let detail = serde_json::json!({ "indicators": feed.record.report.taken });
        app.audit(&caller.actor(), "intelligence.feed.remove", &name, detail)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the feeds say about a value now. Asks no API.
#[utoipa::path(get, path = "/intelligence/lookup", tag = "intelligence", operation_id = "look_up",
    params(LookupRequest), responses((status = 200, body = Lookup), (status = "default", body = ErrorBody)))]
pub(crate) async fn look_up(
    State(app): State<Shared>,
    Params(request): Params<LookupRequest>,
) -> Result<Json<Lookup>> {
    let found = app.server.intelligence().look_up(&request.value, now());
    let found = found.map_err(|reason| {
        Error::new(Kind::BadRequest, format!("value: {reason}"))
            .remedy("write an address, network, domain, URL, MD5, SHA-1, SHA-256 or path")
    })?;
    Ok(Json(Lookup {
        value: found.value.to_string(),
        kind: found.value.kind().as_str().to_owned(),
        hits: found.statements.into_iter().map(LookupHit::from).collect(),
    }))
}

impl From<Statement> for LookupHit {
    fn from(statement: Statement) -> Self {
        Self {
            feed: statement.feed,
            indicator: statement.indicator.to_string(),
            level: statement.level,
            confidence: statement.confidence,
            label: statement.label,
            valid_until: statement.valid_until,
        }
    }
}

fn wanted(request: &FeedRequest) -> Result<Wanted> {
    let format = request.format.as_deref().map(str::parse::<import::Format>);
    let format = format.transpose();
    Ok(Wanted {
        format: format.map_err(|error| Error::new(Kind::BadRequest, format!("format: {error}")))?,
        level: match request.level {
            None => None,
            Some(0) => Some(Level::Danger),
            Some(1) => Some(Level::Suspicious),
            Some(2) => Some(Level::Hint),
            Some(_) => return Err(Error::new(Kind::BadRequest, "level: 0 to 2 are possible")),
        },
        expires_days: request.expires_days,
    })
}

/// Writes a body to a file, piece by piece: feeds are larger than memory should be.
async fn receive(body: Bytes, mut file: tokio::fs::File) -> Result<()> {
    let mut pieces = body.into_data_stream();
    let mut bytes = 0_u64;
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| {
            Error::new(Kind::BadRequest, format!("the upload broke off: {error}"))
        })?;
        bytes += piece.len() as u64;
        if bytes > MAX_FEED_BYTES {
            return Err(Error::new(
                Kind::TooLarge,
                format!("a feed has at most {MAX_FEED_BYTES} bytes"),
            ));
        }
        file.write_all(&piece).await?;
    }
    Ok(file.flush().await?)
}

fn view(feed: &intelligence::Feed) -> Feed {
    let (record, stats) = (&feed.record, feed.set.stats());
    let kind = |(kind, count): (Indicator, u64)| (kind.as_str().to_owned(), count);
    Feed {
        name: record.name.clone(),
        format: record.format.map_or("", import::Format::as_str).to_owned(),
        level: record.level,
        expires_days: record.expires_days,
        uploaded_at: record.uploaded_at,
        bytes: record.bytes,
        memory_bytes: stats.bytes,
        indicators: stats.indicators,
        kinds: stats.kinds.into_iter().map(kind).collect(),
        expired: feed.set.expired(now()),
        refused: record.report.refused,
        skipped: record.report.skipped.clone(),
        diagnostics: record
            .report
            .diagnostics
            .iter()
            .map(FeedDiagnostic::from)
            .collect(),
        problem: feed.problem.clone(),
    }
}

impl From<&import::Diagnostic> for FeedDiagnostic {
    fn from(diagnostic: &import::Diagnostic) -> Self {
        Self {
            line: diagnostic.line,
            text: diagnostic.text.clone(),
            reason: diagnostic.reason.clone(),
        }
    }
}

fn refused(name: &str, error: intelligence::Error) -> Error {
    let message = error.to_string();
    match error {
        intelligence::Error::Name(_) | intelligence::Error::Expiry => {
            Error::new(Kind::Invalid, message)
        }
        intelligence::Error::Unknown(_) => {
            Error::new(Kind::NotFound, message).remedy("list the feeds to find its name")
        }
        intelligence::Error::TooManyFeeds | intelligence::Error::TooManyIndicators => {
            Error::new(Kind::Conflict, message).remedy("remove a feed first")
        }
        intelligence::Error::Damaged { report, .. } | intelligence::Error::Nothing(report) => {
            let finding = |found: &import::Diagnostic| Finding {
                severity: "error".to_owned(),
                rule: name.to_owned(),
                path: format!("line {}", found.line),
                reason: format!("{}: {}", found.text, found.reason),
                suggestion: None,
            };
            Error::new(Kind::Invalid, message)
                .remedy("correct the file, or name its format")
                .findings(report.diagnostics.iter().map(finding).collect())
        }
        intelligence::Error::Io(error) => error.into(),
    }
}
