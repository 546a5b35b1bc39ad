//! Hosts, what they have, and shutting their agents out.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Extension, Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yinglong_model::{AgentId, InventoryType, Timestamp, alert::Status};
use yinglong_server::ledger;
use yinglong_store::state_store::AlertFilter;

use crate::{
    app::{App, Shared, now},
    auth::Caller,
    error::{Error, ErrorBody, Kind, Result},
    views::{AgentUsage, Books, Host},
};

/// All hosts.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Hosts {
    /// By name.
    pub hosts: Vec<Host>,
}

/// A host with what its agent says about itself.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HostDetail {
    /// The host.
    #[serde(flatten)]
    pub host: Host,
    /// All addresses.
    pub addresses: Vec<String>,
    /// What the agent costs.
    pub usage: AgentUsage,
    /// Books by stream.
    pub ledger: BTreeMap<String, Books>,
    /// Inventories there are.
    pub inventories: Vec<InventorySummary>,
}

/// An inventory, without its elements.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct InventorySummary {
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Number of elements.
    pub count: u64,
    /// When the agent took it.
    #[schema(value_type = String, format = DateTime)]
    pub uptime: Timestamp,
}

/// An inventory.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Inventory {
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// When the agent took it.
    #[schema(value_type = String, format = DateTime)]
    pub uptime: Timestamp,
    /// Elements.
    pub data: Vec<BTreeMap<String, String>>,
}

/// All hosts.
#[utoipa::path(get, path = "/hosts", tag = "hosts", operation_id = "list_hosts",
    responses((status = 200, body = Hosts), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(app): State<Shared>) -> Result<Json<Hosts>> {
    let hosts = app
        .run(|app| {
            let hosts = app.server.fleet().hosts();
            hosts
                .iter()
                .map(|host| Ok(Host::new(host, open_alerts(app, &host.agent_id)?)))
                .collect()
        })
        .await?;
    Ok(Json(Hosts { hosts }))
}

/// One host.
#[utoipa::path(get, path = "/hosts/{agent_id}", tag = "hosts", operation_id = "get_host", params(("agent_id" = String, Path)),
    responses((status = 200, body = HostDetail), (status = "default", body = ErrorBody)))]
pub(crate) async fn one(
    State(app): State<Shared>,
    Path(agent): Path<String>,
) -> Result<Json<HostDetail>> {
    let agent = agent_id(&agent)?;
    let detail = app
        .run(move |app| {
            let host = app.server.fleet().host(&agent).ok_or_else(no_host)?;
            let state = app.server.state().as_ref();
            let mut inventories = Vec::new();
            for kind in InventoryType::ALL {
                if let Some(stored) = state.inventory(&agent, kind)? {
                    inventories.push(InventorySummary {
                        kind: kind.as_str().to_owned(),
                        count: stored.data.len() as u64,
                        uptime: stored.uptime,
                    });
                }
            }
            let books = ledger::of(std::slice::from_ref(&host), state)?;
            let usage = &host.report.usage;
            Ok(HostDetail {
                host: Host::new(&host, open_alerts(app, &agent)?),
                addresses: host.report.addresses.clone(),
                usage: AgentUsage {
                    cpu_ms: usage.cpu_ms,
                    pss_bytes: usage.pss_bytes,
                    spool_bytes: usage.spool_bytes,
                    spool_events: usage.spool_events,
                },
                ledger: books
                    .into_iter()
                    .flat_map(|host| host.streams)
                    .map(|(stream, books)| (stream, Books::from(books)))
                    .collect(),
                inventories,
            })
        })
        .await?;
    Ok(Json(detail))
}

/// Shuts the agent of a host out for good; it must enrol again.
#[utoipa::path(post, path = "/hosts/{agent_id}/revoke", tag = "hosts", params(("agent_id" = String, Path)),
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn revoke(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(agent): Path<String>,
) -> Result<StatusCode> {
    let agent = agent_id(&agent)?;
    app.run(move |app| {
        let at = now();
        if !app.server.fleet().revoke(&agent, at)? {
            return Err(no_host());
        }
        let detail = serde_json::json!({ "after": { "revoked_at": at } });
        app.audit(&caller.actor(), "host.revoke", agent.as_str(), detail)
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// One inventory of a host, complete.
#[utoipa::path(get, path = "/hosts/{agent_id}/inventories/{type}", tag = "hosts",
    params(("agent_id" = String, Path), ("type" = String, Path)),
    responses((status = 200, body = Inventory), (status = "default", body = ErrorBody)))]
pub(crate) async fn inventory(
    State(app): State<Shared>,
    Path((agent, kind)): Path<(String, String)>,
) -> Result<Json<Inventory>> {
    let agent = agent_id(&agent)?;
    let missing = || {
        Error::new(
            Kind::InventoryNotFound,
            "the host never sent this inventory",
        )
    };
    let kind = InventoryType::from_name(&kind).ok_or_else(missing)?;
    let stored = app
        .run(move |app| {
            app.server.fleet().host(&agent).ok_or_else(no_host)?;
            app.server
                .state()
                .inventory(&agent, kind)?
                .ok_or_else(missing)
        })
        .await?;
    Ok(Json(Inventory {
        kind: kind.as_str().to_owned(),
        uptime: stored.uptime,
        data: stored.data,
    }))
}

fn agent_id(text: &str) -> Result<AgentId> {
    text.parse().map_err(|_| no_host())
}

fn no_host() -> Error {
    Error::new(Kind::HostNotFound, "there is no such host")
}

fn open_alerts(app: &App, agent: &AgentId) -> Result<u64> {
    let filter = AlertFilter {
        status: Some(Status::Open),
        agent: Some(agent.clone()),
        limit: 1,
        ..AlertFilter::default()
    };
    Ok(app.server.state().alerts(&filter)?.1)
}
