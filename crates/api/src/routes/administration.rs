//! Configuration, join tokens, the audit log and the books.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{Extension, Path, State},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use yinglong_model::{AgentId, Timestamp};
use yinglong_server::ledger;

use crate::{
    app::{Shared, now},
    auth::Caller,
    error::{Error, ErrorBody, Kind, Result},
    extract::{Body, Params, limit},
    views::Books,
};

/// Lifetime of a join token in seconds: a minute to 90 days.
const TTL_SECS: std::ops::RangeInclusive<u64> = 60..=90 * 86_400;
/// Hosts one token admits.
const USES: std::ops::RangeInclusive<u32> = 1..=100_000;

/// Join tokens.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JoinTokens {
    /// Newest first, without their secrets.
    pub tokens: Vec<JoinTokenRecord>,
}

/// A join token without its secret.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct JoinTokenRecord {
    /// Short name.
    pub id: String,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it stops working.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// Hosts that may still join.
    pub uses_left: u32,
}

/// A join token that is wanted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinTokenRequest {
    /// Seconds it works; an hour when absent, at most 90 days.
    pub ttl_secs: Option<u64>,
    /// Hosts that may join with it; 1 when absent.
    pub uses: Option<u32>,
}

/// A new join token.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct NewJoinToken {
    /// The token; never shown again.
    pub token: String,
    /// When it stops working.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// What to run on the host.
    pub command: String,
}

/// How much of the audit log is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct AuditRequest {
    /// Entries wanted, 1 to 1000; 100 when absent.
    limit: Option<usize>,
}

/// The audit log.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Audit {
    /// Newest first.
    pub entries: Vec<AuditEntry>,
}

/// A change somebody made.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Who.
    pub actor: String,
    /// From where.
    pub address: String,
    /// What.
    pub action: String,
    /// On what.
    pub subject: String,
    /// Before and after, without secrets.
    #[schema(value_type = Object)]
    pub detail: Value,
}

/// The fleet's books.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Ledger {
    /// By host name.
    pub hosts: Vec<HostBooks>,
}

/// Books of a host.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HostBooks {
    /// Host.
    #[schema(value_type = String)]
    pub agent_id: AgentId,
    /// Its name.
    pub hostname: String,
    /// By stream.
    pub streams: BTreeMap<String, Books>,
}

/// All configuration documents, without secrets.
#[utoipa::path(get, path = "/config", tag = "administration",
    responses((status = 200, body = Object), (status = "default", body = ErrorBody)))]
pub(crate) async fn config(State(app): State<Shared>) -> Json<Value> {
    Json(app.server.settings().documents())
}

/// Replaces one configuration document; answers with what is in force then.
#[utoipa::path(put, path = "/config/{type}", tag = "administration", params(("type" = String, Path)),
    request_body = Object, responses((status = 200, body = Object), (status = "default", body = ErrorBody)))]
pub(crate) async fn put_config(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(document): Path<String>,
    Body(value): Body<Value>,
) -> Result<Json<Value>> {
    if !value.is_object() {
        return Err(Error::new(
            Kind::InvalidConfig,
            format!("{document}: an object is needed"),
        ));
    }
    let stored = app
        .run(move |app| {
            let settings = app.server.settings();
            settings.put_document(&document, &value, &caller.actor(), now())?;
            Ok(settings
                .documents()
                .get(&document)
                .cloned()
                .unwrap_or_default())
        })
        .await?;
    Ok(Json(stored))
}

/// Join tokens there are.
#[utoipa::path(get, path = "/tokens", tag = "administration",
    responses((status = 200, body = JoinTokens), (status = "default", body = ErrorBody)))]
pub(crate) async fn tokens(State(app): State<Shared>) -> Result<Json<JoinTokens>> {
    let mut records = app.run(|app| Ok(app.server.fleet().tokens()?)).await?;
    records.sort_by_key(|record| std::cmp::Reverse(record.created_at));
    let tokens = records.iter().map(|record| JoinTokenRecord {
        id: record.id().to_owned(),
        created_at: record.created_at,
        expires_at: record.expires_at,
        uses_left: record.uses_left,
    });
    Ok(Json(JoinTokens {
        tokens: tokens.collect(),
    }))
}

/// Makes a join token.
#[utoipa::path(post, path = "/tokens", tag = "administration", request_body = JoinTokenRequest,
    responses((status = 200, body = NewJoinToken), (status = "default", body = ErrorBody)))]
pub(crate) async fn new_token(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(request): Body<JoinTokenRequest>,
) -> Result<Json<NewJoinToken>> {
    let ttl_secs = request.ttl_secs.unwrap_or(3600);
    if !TTL_SECS.contains(&ttl_secs) {
        return Err(Error::new(
            Kind::Invalid,
            "ttl_secs: 60 to 7776000 are possible",
        ));
    }
    let uses = request.uses.unwrap_or(1);
    if !USES.contains(&uses) {
        return Err(Error::new(Kind::Invalid, "uses: 1 to 100000 are possible"));
    }
    let made = app
        .run(move |app| {
            let (token, record) = app
                .server
                .new_join_token(Duration::from_secs(ttl_secs), uses)?;
            let detail = serde_json::json!({
                "after": { "expires_at": record.expires_at, "uses_left": record.uses_left },
            });
            app.audit(&caller.actor(), "token.create", record.id(), detail)?;
            let token = token.reveal().to_string();
            let server = super::classic::agent_addresses(app).into_iter().next();
            let server = server.unwrap_or_else(|| app.server.address().to_string());
            Ok(NewJoinToken {
                // Other users of the host, and its own sensors, see arguments but no environment.
                command: format!("YINGLONG_TOKEN={token} yinglong-agent enrol --server {server}"),
                token,
                expires_at: record.expires_at,
            })
        })
        .await?;
    Ok(Json(made))
}

/// Who changed what.
#[utoipa::path(get, path = "/audit", tag = "administration", params(AuditRequest),
    responses((status = 200, body = Audit), (status = "default", body = ErrorBody)))]
pub(crate) async fn audit(
    State(app): State<Shared>,
    Params(request): Params<AuditRequest>,
) -> Result<Json<Audit>> {
    let limit = limit(request.limit, 100, 1000)?;
    let entries = app
        .run(move |app| Ok(app.server.state().audit_log(limit)?))
        .await?;
    let entries = entries.into_iter().map(|entry| AuditEntry {
        at: entry.at,
        actor: entry.actor,
        address: entry.address,
        action: entry.action,
        subject: entry.subject,
        detail: entry.detail,
    });
    Ok(Json(Audit {
        entries: entries.collect(),
    }))
}

/// Where every observed thing went.
#[utoipa::path(get, path = "/ledger", tag = "overview",
    responses((status = 200, body = Ledger), (status = "default", body = ErrorBody)))]
pub(crate) async fn books(State(app): State<Shared>) -> Result<Json<Ledger>> {
    let hosts = app
        .run(|app| {
            let server = &app.server;
            Ok(ledger::of(
                &server.fleet().hosts(),
                server.state().as_ref(),
            )?)
        })
        .await?;
    let hosts = hosts.into_iter().map(|host| HostBooks {
        agent_id: host.agent_id,
        hostname: host.hostname,
        streams: host
            .streams
            .into_iter()
            .map(|(name, s)| (name, Books::from(s)))
            .collect(),
    });
    Ok(Json(Ledger {
        hosts: hosts.collect(),
    }))
}
