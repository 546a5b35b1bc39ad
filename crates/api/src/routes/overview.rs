//! The dashboard's numbers, each counted where the lists count.

use std::{collections::BTreeMap, time::Duration};

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yinglong_model::{EventType, Timestamp, alert::Status, host::Health, rule::Level};
use yinglong_server::ledger;
use yinglong_store::{Query, StateStore, state_store::AlertFilter};

use crate::{
    app::{App, Shared, now},
    error::{ErrorBody, Result},
};

const HOUR: Duration = Duration::from_secs(3600);
const HOURS: u32 = 24;

/// The dashboard.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Overview {
    /// Hosts by health.
    pub hosts: HostNumbers,
    /// Alerts.
    pub alerts: AlertNumbers,
    /// The last 24 hours, oldest first; those of learn mode count while it is on.
    pub alerts_per_hour: Vec<AlertHour>,
    /// The last 24 hours, oldest first.
    pub events_per_hour: Vec<EventHour>,
    /// The event store.
    pub events: EventNumbers,
    /// The fleet's books, all streams together.
    pub ledger: LedgerNumbers,
    /// Whether the server only observes.
    pub learn: bool,
    /// This server.
    pub server: ServerNumbers,
}

/// Hosts by health.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostNumbers {
    /// All.
    pub total: u64,
    /// Heartbeats arrive.
    pub healthy: u64,
    /// Silent for five minutes.
    pub offline: u64,
    /// Alive, but the task channel is blocked.
    pub blocked: u64,
}

/// Alerts.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertNumbers {
    /// Open ones by level.
    pub open: Levels,
    /// Observed in learn mode.
    pub learned: u64,
    /// Raised since midnight UTC, those of learn mode included.
    pub today: u64,
}

/// Numbers by level.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Levels {
    /// Level 0.
    pub danger: u64,
    /// Level 1.
    pub suspicious: u64,
    /// Level 2.
    pub hint: u64,
}

/// Alerts of an hour.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct AlertHour {
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    pub start: Timestamp,
    /// Level 0.
    pub danger: u64,
    /// Level 1.
    pub suspicious: u64,
    /// Level 2.
    pub hint: u64,
}

/// Events of an hour.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EventHour {
    /// When it begins.
    #[schema(value_type = String, format = DateTime)]
    pub start: Timestamp,
    /// Executions.
    pub process: u64,
    /// Connections.
    pub connection: u64,
    /// Changes of files.
    pub file: u64,
    /// Logins.
    pub loginlog: u64,
    /// Questions to the domain name system.
    pub dns: u64,
    /// System calls that matter for security.
    pub syscall: u64,
    /// Ends of processes.
    pub exit: u64,
    /// Reports of losses.
    pub loss: u64,
}

/// The event store.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct EventNumbers {
    /// Events in it.
    pub stored: u64,
    /// Its size on disk.
    pub bytes: u64,
}

/// The fleet's books.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerNumbers {
    /// Observed on hosts.
    pub emitted: u64,
    /// Stored.
    pub stored: u64,
    /// Left out by configuration.
    pub filtered: u64,
    /// Lost.
    pub dropped: u64,
}

/// This server.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ServerNumbers {
    /// Version.
    pub version: String,
    /// When it was started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// Resident memory in bytes; 0 when the system does not say.
    pub rss_bytes: u64,
}

/// The dashboard's numbers.
#[utoipa::path(get, path = "/overview", tag = "overview",
    responses((status = 200, body = Overview), (status = "default", body = ErrorBody)))]
pub(crate) async fn overview(State(app): State<Shared>) -> Result<Json<Overview>> {
    Ok(Json(app.run(|app| of(app, now())).await?))
}

fn of(app: &App, now: Timestamp) -> Result<Overview> {
    let server = &app.server;
    let (state, events) = (server.state().as_ref(), server.events().as_ref());
    let hosts = server.fleet().hosts();
    let learn = server.settings().current().config.server.learn;
    let since = hour_of(now.minus(HOUR * (HOURS - 1)));

    let mut alert_hours: BTreeMap<Timestamp, Levels> = hours(since);
    for (start, level, count) in state.alerts_per_hour(since, learn)? {
        let Some(levels) = alert_hours.get_mut(&hour_of(start)) else {
            continue;
        };
        *match level {
            Level::Danger => &mut levels.danger,
            Level::Suspicious => &mut levels.suspicious,
            Level::Hint => &mut levels.hint,
        } += count;
    }
    let mut event_hours: BTreeMap<Timestamp, [u64; 8]> = hours(since);
    for bucket in events.histogram(&Query::default().since(Some(since)), HOUR)? {
        let Some(counts) = event_hours.get_mut(&hour_of(bucket.start)) else {
            continue;
        };
        for (count, kind) in counts.iter_mut().zip(EventType::ALL) {
            if kind == bucket.event_type {
                *count += bucket.count;
            }
        }
    }
    let mut books = LedgerNumbers::default();
    for host in ledger::of(&hosts, state)? {
        for stream in host.streams.values() {
            books.emitted += stream.emitted;
            books.stored += stream.stored;
            books.filtered += stream.filtered;
            books.dropped += stream.dropped.values().sum::<u64>();
        }
    }
    let usage = events.usage()?;
    Ok(Overview {
        hosts: HostNumbers {
            total: hosts.len() as u64,
            healthy: with_health(&hosts, Health::Healthy),
            offline: with_health(&hosts, Health::Offline),
            blocked: with_health(&hosts, Health::Blocked),
        },
        alerts: alerts(state, now)?,
        alerts_per_hour: alert_hours
            .into_iter()
            .map(
                |(
                    start,
                    Levels {
                        danger,
                        suspicious,
                        hint,
                    },
                )| AlertHour {
                    start,
                    danger,
                    suspicious,
                    hint,
                },
            )
            .collect(),
        events_per_hour: event_hours
            .into_iter()
            .map(
                |(
                    start,
                    [
                        process,
                        connection,
                        file,
                        loginlog,
                        dns,
                        syscall,
                        exit,
                        loss,
                    ],
                )| EventHour {
                    start,
                    process,
                    connection,
                    file,
                    loginlog,
                    dns,
                    syscall,
                    exit,
                    loss,
                },
            )
            .collect(),
        events: EventNumbers {
            stored: usage.events,
            bytes: usage.bytes,
        },
        ledger: books,
        learn,
        server: ServerNumbers {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: server.started_at(),
            rss_bytes: rss_bytes(),
        },
    })
}

fn alerts(state: &dyn StateStore, now: Timestamp) -> Result<AlertNumbers> {
    let count = |filter: AlertFilter| -> Result<u64> {
        Ok(state.alerts(&AlertFilter { limit: 1, ..filter })?.1)
    };
    let open = |level| {
        count(AlertFilter {
            status: Some(Status::Open),
            level: Some(level),
            ..AlertFilter::default()
        })
    };
    let midnight = Timestamp::from_secs(now.secs() - now.secs().rem_euclid(86_400));
    Ok(AlertNumbers {
        open: Levels {
            danger: open(Level::Danger)?,
            suspicious: open(Level::Suspicious)?,
            hint: open(Level::Hint)?,
        },
        learned: count(AlertFilter {
            status: Some(Status::Learned),
            ..AlertFilter::default()
        })?,
        today: count(AlertFilter {
            since: Some(midnight),
            ..AlertFilter::default()
        })?,
    })
}

fn with_health(hosts: &[yinglong_model::host::Host], health: Health) -> u64 {
    hosts.iter().filter(|host| host.health == health).count() as u64
}

/// Every hour from a time on, so that charts show the empty ones too.
fn hours<T: Default>(since: Timestamp) -> BTreeMap<Timestamp, T> {
    (0..HOURS)
        .map(|hour| (since.plus(HOUR * hour), T::default()))
        .collect()
}

fn hour_of(time: Timestamp) -> Timestamp {
    Timestamp::from_secs(time.secs() - time.secs().rem_euclid(3600))
}

/// From `/proc/self/status`, in kilobytes there.
fn rss_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c05_a_chart_has_24_hours_and_ends_with_the_current_one() {
        let now = Timestamp::parse_rfc3339("2026-01-02T10:59:59Z").unwrap();
        let hours: BTreeMap<Timestamp, u64> = hours(hour_of(now.minus(HOUR * (HOURS - 1))));
        assert_eq!(hours.len(), 24);
        let ends = (hours.keys().next().unwrap(), hours.keys().last().unwrap());
        assert_eq!(ends.0.to_string(), "2026-01-01T11:00:00Z");
        assert_eq!(ends.1.to_string(), "2026-01-02T10:00:00Z");
    }

    #[test]
    fn the_system_says_how_much_memory_is_used() {
        assert!(rss_bytes() > 0);
    }
}
