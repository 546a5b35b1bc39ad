//! Alerts, their evidence, and dealing with them.

use axum::{
    Json,
    extract::{Extension, Path, State},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use yinglong_model::{AgentId, Timestamp, alert::Status, rule::Level};
use yinglong_server::live::Item;
use yinglong_store::state_store::AlertFilter;

use super::evidence::{self, Context};
use crate::{
    app::{Shared, now},
    auth::Caller,
    error::{Error, ErrorBody, Kind, Result},
    extract::{Body, Params, limit},
    views::Alert,
};

/// Alerts of a page.
const MOST: usize = 1000;
/// Characters of a text that is looked for.
const TEXT_CHARS: usize = 256;

/// Which alerts are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    /// 0 open, 1 handled, 2 ignored, 4 observed in learn mode; all when absent.
    #[param(value_type = Option<u8>)]
    status: Option<Status>,
    /// 0 danger, 1 suspicious, 2 hint; all when absent.
    #[param(value_type = Option<u8>)]
    level: Option<Level>,
    /// Host.
    #[param(value_type = Option<String>)]
    agent_id: Option<AgentId>,
    /// Event or inventory type.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Story.
    story: Option<String>,
    /// Text contained in source, info or description, ignoring case.
    text: Option<String>,
    /// Raised at or after.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Alerts to skip.
    offset: Option<usize>,
    /// Alerts wanted, 1 to 1000; 50 when absent.
    limit: Option<usize>,
}

/// A page of alerts.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Alerts {
    /// Newest first.
    pub alerts: Vec<Alert>,
    /// How many match in all.
    pub total: u64,
}

/// An alert with what helps to judge it.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AlertDetail {
    /// The alert.
    #[serde(flatten)]
    pub alert: Alert,
    /// What helps to judge it.
    pub context: Context,
}

/// Alerts to move.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StatusChange {
    /// 1 to 1000 alerts.
    pub ids: Vec<String>,
    /// 0 open, 1 handled, 2 ignored.
    #[schema(value_type = u8)]
    pub status: Status,
}

/// What became of a change.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Changed {
    /// Alerts whose status is another one now.
    pub changed: u64,
}

/// Alerts, newest first.
#[utoipa::path(get, path = "/alerts", tag = "alerts", operation_id = "list_alerts", params(Filter),
    responses((status = 200, body = Alerts), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(
    State(app): State<Shared>,
    Params(filter): Params<Filter>,
) -> Result<Json<Alerts>> {
    if filter
        .text
        .as_ref()
        .is_some_and(|text| text.chars().count() > TEXT_CHARS)
    {
        return Err(Error::new(
            Kind::BadRequest,
            "text has at most 256 characters",
        ));
    }
    let filter = AlertFilter {
        status: filter.status,
        level: filter.level,
        agent: filter.agent_id,
        kind: filter.kind.filter(|kind| !kind.is_empty()),
        story: filter.story.filter(|story| !story.is_empty()),
        text: filter.text.filter(|text| !text.is_empty()),
        since: filter.since,
        offset: filter.offset.unwrap_or_default(),
        limit: limit(filter.limit, 50, MOST)?,
    };
    let (alerts, total) = app
        .run(move |app| Ok(app.server.state().alerts(&filter)?))
        .await?;
    Ok(Json(Alerts {
        alerts: alerts.into_iter().map(Alert::from).collect(),
        total,
    }))
}

/// One alert with its evidence.
#[utoipa::path(get, path = "/alerts/{id}", tag = "alerts", operation_id = "get_alert", params(("id" = String, Path)),
    responses((status = 200, body = AlertDetail), (status = "default", body = ErrorBody)))]
pub(crate) async fn one(
    State(app): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<AlertDetail>> {
    let detail = app
        .run(move |app| {
            let alert = app.server.state().alert(&id)?;
            let alert =
                alert.ok_or_else(|| Error::new(Kind::AlertNotFound, "there is no such alert"))?;
            let context = evidence::of(app, &alert)?;
            Ok(AlertDetail {
                alert: alert.into(),
                context,
            })
        })
        .await?;
    Ok(Json(detail))
}

/// Moves alerts to a status.
#[utoipa::path(post, path = "/alerts/status", tag = "alerts", operation_id = "set_alert_status", request_body = StatusChange,
    responses((status = 200, body = Changed), (status = "default", body = ErrorBody)))]
pub(crate) async fn set_status(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(StatusChange { ids, status }): Body<StatusChange>,
) -> Result<Json<Changed>> {
    if ids.is_empty() || ids.len() > MOST {
        return Err(Error::new(
            Kind::Invalid,
            "ids: 1 to 1000 alerts are needed",
        ));
    }
    if status == Status::Learned {
        let message = "status: only the server itself moves alerts to learn mode";
        return Err(Error::new(Kind::Invalid, message).remedy("use 0, 1 or 2"));
    }
    let changed = app
        .run(move |app| {
            let state = app.server.state();
            let mut moved = Vec::new();
            for id in &ids {
                match state.alert(id)? {
                    Some(alert) if alert.status != status => moved.push(alert),
                    Some(_) => {}
                    None => {
                        return Err(Error::new(
                            Kind::AlertNotFound,
                            format!("there is no alert `{id}`; none was changed"),
                        ));
                    }
                }
            }
            let changed = state.set_alert_status(&ids, status, now())?;
            for alert in moved {
                let detail = serde_json::json!({
                    "before": { "status": alert.status },
                    "after": { "status": status },
                });
                app.audit(&caller.actor(), "alert.status", &alert.id, detail)?;
                if let Some(alert) = state.alert(&alert.id)? {
                    app.server
                        .live()
                        .show(Item::Alert(std::sync::Arc::new(alert)));
                }
            }
            Ok(changed)
        })
        .await?;
    Ok(Json(Changed { changed }))
}
