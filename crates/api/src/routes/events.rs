//! Search of events, inventories and statistics, and suggestions for it.

use std::{collections::BTreeMap, time::Duration};

use axum::{
    Json,
    extract::{Path, State},
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use yinglong_model::{AgentId, EventId, EventType, Timestamp};
use yinglong_store::{
    Query,
    event_store::PageRequest,
    query::{Condition, HOST_KEYS, HostKey, Key, Pattern, Target, Test, fields},
};

use crate::{
    app::{App, Shared, now},
    error::{Error, ErrorBody, Kind, Result},
    extract::{Params, limit},
    views::{Event, Statistic},
};

/// Rows of a page.
const MOST: usize = 1000;
/// Longest query text in bytes.
const QUERY_BYTES: usize = 4096;
/// Longest time a search may take.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// Intervals of a histogram.
const INTERVALS: u128 = 2000;
/// Values that are suggested.
const SUGGESTED: usize = 20;
/// Values come from events of this time.
const SUGGESTED_FROM: Duration = Duration::from_secs(7 * 86_400);

/// Which events are wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Search {
    /// Query, for example `type:process | name:bash`; everything when absent.
    q: Option<String>,
    /// Only what happened at or after.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only what happened before.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// `next` of the page before.
    cursor: Option<String>,
    /// Events wanted, 1 to 1000; 50 when absent.
    limit: Option<usize>,
}

/// A page of events.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Events {
    /// Newest first.
    pub events: Vec<Event>,
    /// Cursor of the next page; null at the end.
    pub next: Option<String>,
    /// The time limit ended the search: there may be more.
    pub partial: bool,
}

/// Which events are counted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistogramSearch {
    /// Query; everything when absent.
    q: Option<String>,
    /// Only what happened at or after; a day before `until` when absent.
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<Timestamp>,
    /// Only what happened before; now when absent.
    #[param(value_type = Option<String>, format = DateTime)]
    until: Option<Timestamp>,
    /// Length of an interval; 3600 when absent, at most 2000 intervals.
    interval_secs: Option<u32>,
}

/// Numbers of events over time.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Histogram {
    /// Oldest first, empty ones left out.
    pub buckets: Vec<Bucket>,
}

/// Events of one type in one interval.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Bucket {
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    pub start: Timestamp,
    /// Type.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: EventType,
    /// Number.
    pub count: u64,
}

/// What was typed so far.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Typed {
    /// Type of the query; every event type when absent.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// Field whose values are wanted; fields are wanted when absent.
    key: Option<String>,
    /// What they begin with.
    prefix: Option<String>,
}

/// How the query may go on.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Suggestions {
    /// Fields.
    pub fields: Vec<String>,
    /// Values of the field, most frequent first, at most 20.
    pub values: Vec<String>,
}

/// A query without paging.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(crate) struct Listing {
    /// Query.
    q: String,
    /// Rows wanted, 1 to 1000; 100 when absent.
    limit: Option<usize>,
}

/// Counted values.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Statistics {
    /// Last reported first.
    pub statistics: Vec<Statistic>,
}

/// Elements of inventories.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Elements {
    /// By host.
    pub elements: Vec<Element>,
}

/// An element of an inventory.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Element {
    /// Host.
    #[schema(value_type = String)]
    pub agent_id: AgentId,
    /// Name of the host.
    pub hostname: String,
    /// Address of the host.
    pub ip: String,
    /// Inventory type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Fields.
    pub data: BTreeMap<String, String>,
}

/// Searches events.
#[utoipa::path(get, path = "/events", tag = "events", operation_id = "search_events", params(Search),
    responses((status = 200, body = Events), (status = "default", body = ErrorBody)))]
pub(crate) async fn search(
    State(app): State<Shared>,
    Params(search): Params<Search>,
) -> Result<Json<Events>> {
    let query = events_query(search.q.as_deref())?
        .since(search.since)
        .until(search.until);
    let page = PageRequest {
        limit: limit(search.limit, 50, MOST)?,
        cursor: search.cursor.filter(|cursor| !cursor.is_empty()),
        time_limit: TIME_LIMIT,
    };
    let page = app
        .run(move |app| Ok(app.server.events().search(&query, &page)?))
        .await?;
    Ok(Json(Events {
        events: page.events.into_iter().map(Event::from).collect(),
        next: page.next,
        partial: page.partial,
    }))
}

/// One event.
#[utoipa::path(get, path = "/events/{id}", tag = "events", operation_id = "get_event", params(("id" = String, Path)),
    responses((status = 200, body = Event), (status = "default", body = ErrorBody)))]
pub(crate) async fn one(State(app): State<Shared>, Path(id): Path<String>) -> Result<Json<Event>> {
    let event = app
        .run(move |app| Ok(app.server.events().get(&EventId::from(id))?))
        .await?;
    let event = event.ok_or_else(|| Error::new(Kind::EventNotFound, "there is no such event"))?;
    Ok(Json(event.into()))
}

/// Counts events over time.
#[utoipa::path(get, path = "/events/histogram", tag = "events", params(HistogramSearch),
    responses((status = 200, body = Histogram), (status = "default", body = ErrorBody)))]
pub(crate) async fn histogram(
    State(app): State<Shared>,
    Params(search): Params<HistogramSearch>,
) -> Result<Json<Histogram>> {
    let until = search.until.unwrap_or_else(now);
    let since = search
        .since
        .unwrap_or_else(|| until.minus(Duration::from_secs(86_400)));
    let interval = Duration::from_secs(search.interval_secs.unwrap_or(3600).into());
    if interval.is_zero() || until.since(since).as_nanos() / interval.as_nanos() > INTERVALS {
        return Err(
            Error::new(Kind::BadRequest, "at most 2000 intervals are counted")
                .remedy("make interval_secs larger or the time range smaller"),
        );
    }
    let query = events_query(search.q.as_deref())?
        .since(Some(since))
        .until(Some(until));
    let buckets = app
        .run(move |app| Ok(app.server.events().histogram(&query, interval)?))
        .await?;
    let buckets = buckets.into_iter();
    Ok(Json(Histogram {
        buckets: buckets
            .map(|b| Bucket {
                start: b.start,
                kind: b.event_type,
                count: b.count,
            })
            .collect(),
    }))
}

/// Suggests how a query may go on.
#[utoipa::path(get, path = "/suggest", tag = "events", params(Typed),
    responses((status = 200, body = Suggestions), (status = "default", body = ErrorBody)))]
pub(crate) async fn suggest(
    State(app): State<Shared>,
    Params(typed): Params<Typed>,
) -> Result<Json<Suggestions>> {
    let target = match typed.kind.as_deref().unwrap_or_default() {
        "" => None,
        name => Some(
            Target::from_name(name)
                .ok_or_else(|| Error::new(Kind::BadQuery, format!("there is no type `{name}`")))?,
        ),
    };
    let prefix = typed.prefix.unwrap_or_default();
    let Some(key) = typed.key.filter(|key| !key.is_empty()) else {
        let fields = field_names(target);
        let fields = fields.into_iter().filter(|name| name.starts_with(&prefix));
        return Ok(Json(Suggestions {
            fields: fields.map(str::to_owned).collect(),
            values: Vec::new(),
        }));
    };
    let values = app
        .run(move |app| values(app, target, &key, &prefix))
        .await?;
    Ok(Json(Suggestions {
        fields: Vec::new(),
        values,
    }))
}

/// Searches counted values.
#[utoipa::path(get, path = "/statistics", tag = "events", params(Listing),
    responses((status = 200, body = Statistics), (status = "default", body = ErrorBody)))]
pub(crate) async fn statistics(
    State(app): State<Shared>,
    Params(listing): Params<Listing>,
) -> Result<Json<Statistics>> {
    let query = parse(&listing.q)?;
    let limit = limit(listing.limit, 100, MOST)?;
    let found = app
        .run(move |app| Ok(app.server.state().statistics(&query, limit)?))
        .await?;
    Ok(Json(Statistics {
        statistics: found.into_iter().map(Statistic::from).collect(),
    }))
}

/// Searches elements of inventories.
#[utoipa::path(get, path = "/inventories", tag = "events", params(Listing),
    responses((status = 200, body = Elements), (status = "default", body = ErrorBody)))]
pub(crate) async fn inventories(
    State(app): State<Shared>,
    Params(listing): Params<Listing>,
) -> Result<Json<Elements>> {
    let query = parse(&listing.q)?;
    let Some(Target::Inventory(kind)) = query.kind else {
        return Err(Error::new(Kind::BadQuery, "the query is for events")
            .remedy("use /api/v1/events, or the type of an inventory"));
    };
    let limit = limit(listing.limit, 100, MOST)?;
    let elements = app
        .run(move |app| {
            let found = app.server.state().search_inventories(&query, limit)?;
            let element = |(agent_id, data)| {
                let host = app.server.fleet().host(&agent_id);
                let (hostname, ip) = host.map(|h| (h.hostname, h.ip)).unwrap_or_default();
                Element {
                    agent_id,
                    hostname,
                    ip,
                    kind: kind.as_str().to_owned(),
                    data,
                }
            };
            Ok(found.into_iter().map(element).collect())
        })
        .await?;
    Ok(Json(Elements { elements }))
}

fn parse(text: &str) -> Result<Query> {
    if text.len() > QUERY_BYTES {
        return Err(Error::new(Kind::BadQuery, "a query has at most 4096 bytes"));
    }
    Ok(Query::parse(text)?)
}

fn events_query(text: Option<&str>) -> Result<Query> {
    let text = text.unwrap_or_default();
    if text.trim().is_empty() {
        return Ok(Query::default());
    }
    let query = parse(text)?;
    let elsewhere = |what: &str, route: &str| {
        Err(
            Error::new(Kind::BadQuery, format!("the query is for {what}"))
                .remedy(format!("use /api/v1/{route}")),
        )
    };
    match query.kind {
        _ if query.is_statistics() => elsewhere("statistics", "statistics"),
        Some(Target::Inventory(_)) => elsewhere("inventories", "inventories"),
        _ => Ok(query),
    }
}

fn field_names(target: Option<Target>) -> Vec<&'static str> {
    let mut names: Vec<&'static str> = match target {
        Some(target) => fields(target).to_vec(),
        None => EventType::ALL
            .into_iter()
            .flat_map(|kind| fields(Target::Event(kind)).iter().copied())
            .collect(),
    };
    names.extend(HOST_KEYS);
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(*name));
    names
}

fn values(app: &App, target: Option<Target>, key: &str, prefix: &str) -> Result<Vec<String>> {
    let bare = key.strip_prefix("data.").unwrap_or(key);
    if !field_names(target).contains(&bare) {
        return Ok(Vec::new());
    }
    let begins = Pattern::new(&format!("^{}", regex::escape(prefix)))
        .map_err(|_| Error::new(Kind::BadRequest, "the prefix is too long"))?;
    if let Some(Target::Inventory(kind)) = target {
        let elements = app
            .server
            .state()
            .search_inventories(&Query::of(Target::Inventory(kind)), MOST)?;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for (_, mut element) in elements {
            if let Some(value) = element.remove(bare)
                && !value.is_empty()
                && begins.is_match(&value)
            {
                *counts.entry(value).or_default() += 1;
            }
        }
        let mut values: Vec<(String, u64)> = counts.into_iter().collect();
        values.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        return Ok(values
            .into_iter()
            .map(|(value, _)| value)
            .take(SUGGESTED)
            .collect());
    }
    let mut query = target.map(Query::of).unwrap_or_default();
    query.since = Some(now().minus(SUGGESTED_FROM));
    if !prefix.is_empty() {
        let host = HostKey::ALL.into_iter().find(|host| host.as_str() == bare);
        query.conditions.push(Condition {
            key: host.map_or_else(|| Key::Data(bare.to_owned()), Key::Host),
            test: Test::Regex(begins),
        });
    }
    let values = app.server.events().top(&query, key, SUGGESTED)?;
    Ok(values.into_iter().map(|(value, _)| value).collect())
}
