//! Counts, histograms and frequent values: by the cluster where it is exact, of the other events
//! one by one.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use yinglong_model::{Event, EventType, Timestamp};
use yinglong_store::{
    Error, Kind, Query, Result,
    event_store::HistogramBucket,
    query::{HOST_KEYS, HostKey, nearest},
};

use crate::{
    plan::{Plan, countable, is_known},
    schema::{LONGEST_TERM_BYTES, data_fields},
    search::{Searcher, check},
};

const NANOS_PER_MILLI: i64 = 1_000_000;
/// Widest interval that the cluster is asked for.
const WIDEST_MILLIS: i64 = 10 * 366 * 24 * 60 * 60 * 1000;
/// Groups of one answer.
const GROUPS: usize = 5000;
/// Values that each shard names as its most frequent ones.
const VALUES_OF_SHARD: usize = 10_000;

/// Groups by several keys, with where to go on.
#[derive(Deserialize, Default)]
struct Groups {
    #[serde(default)]
    after_key: Option<Value>,
    #[serde(default)]
    buckets: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    key: Map<String, Value>,
    doc_count: u64,
}

/// The most frequent values.
#[derive(Deserialize, Default)]
struct Values {
    #[serde(default)]
    doc_count_error_upper_bound: i64,
    #[serde(default)]
    buckets: Vec<Frequent>,
}

#[derive(Deserialize)]
struct Frequent {
    key: String,
    doc_count: u64,
}

fn read<T: for<'a> Deserialize<'a> + Default>(what: &str, aggregations: &Value) -> Result<T> {
    match aggregations.get("found") {
        // No index is there yet.
        None => Ok(T::default()),
        Some(found) => T::deserialize(found).map_err(|error| {
            Error::caused(
                Kind::Corrupt,
                format!("cannot {what}: the cluster's answer is not understood"),
                error,
            )
        }),
    }
}

impl Searcher<'_> {
    /// Number of events that match.
    pub(crate) fn count(&self, query: &Query) -> Result<u64> {
        check(query)?;
        let plan = Plan::new(query);
        let mut count = 0;
        if plan.is_exact {
            let all = json!({"track_total_hits": true});
            let answer = self.aggregate("count events", &plan.certain(), &all)?;
            count = answer.hits.total.value;
        }
        self.each(query, &rest(&plan), |_| count += 1)?;
        Ok(count)
    }

    /// Number of events per interval and type.
    pub(crate) fn histogram(
        &self,
        query: &Query,
        interval: Duration,
    ) -> Result<Vec<HistogramBucket>> {
        check(query)?;
        let width = i64::try_from(interval.as_nanos()).unwrap_or(i64::MAX);
        if width == 0 {
            return Err(Error::new(
                Kind::Invalid,
                "a histogram needs an interval above zero",
            ));
        }
        let plan = Plan::new(query);
        let mut counts: BTreeMap<(i64, EventType), u64> = BTreeMap::new();
        let mut add = |nanos: i64, kind, count| {
            let start = nanos.div_euclid(width).saturating_mul(width);
            *counts.entry((start, kind)).or_default() += count;
        };
        // The cluster knows times to the millisecond, which is enough for whole ones.
        let millis = width / NANOS_PER_MILLI;
        let by_cluster =
            plan.is_exact && width % NANOS_PER_MILLI == 0 && (1..=WIDEST_MILLIS).contains(&millis);
        if by_cluster {
            let sources = json!([
                {"start": {"date_histogram": {
                    "field": "time", "fixed_interval": format!("{millis}ms"),
                }}},
                {"type": {"terms": {"field": "type"}}},
            ]);
            self.groups(
                "count events per interval",
                &plan.certain(),
                &sources,
                |key, count| {
                    let start = key.get("start").and_then(Value::as_i64);
                    let kind = key.get("type").and_then(Value::as_str);
                    if let (Some(start), Some(kind)) = (start, kind.and_then(event_type)) {
                        add(start.saturating_mul(NANOS_PER_MILLI), kind, count);
                    }
                },
            )?;
        }
        let others = if by_cluster {
            plan.doubtful()
        } else {
            plan.candidates()
        };
        self.each(query, &others, |event| {
            add(event.time.nanos(), event.data.event_type(), 1);
        })?;
        Ok(counts
            .into_iter()
            .map(|((start, event_type), count)| HistogramBucket {
                start: Timestamp::from_nanos(start),
                event_type,
                count,
            })
            .collect())
    }

    /// Most frequent values of a field.
    pub(crate) fn top(
        &self,
        query: &Query,
        field: &str,
        limit: usize,
    ) -> Result<Vec<(String, u64)>> {
        check(query)?;
        if field != "type" && !is_known(field) {
            let known = data_fields().into_iter().chain(HOST_KEYS);
            let meant = nearest(field, known)
                .map(|meant| format!(", did you mean `{meant}`?"))
                .unwrap_or_default();
            return Err(Error::new(
                Kind::Invalid,
                format!("events have no field `{field}`{meant}"),
            ));
        }
        let plan = Plan::new(query);
        let path = countable(field).filter(|_| plan.is_exact);
        let mut seen: HashMap<String, u64> = HashMap::new();
        let others = match &path {
            Some(_) => plan.doubtful(),
            None => plan.candidates(),
        };
        self.each(query, &others, |event| {
            if let Some(value) = value(&event, field) {
                *seen.entry(value).or_default() += 1;
            }
        })?;
        if let Some(path) = path {
            // A value seen one by one may be among the most frequent ones only with the events
            // that the cluster counts; every other one is by its count there alone.
            let counted = self.counts_of(&plan, &path, &seen)?;
            for (value, count) in counted {
                *seen.entry(value).or_default() += count;
            }
            for (value, count) in self.frequent(&plan, &path, limit)? {
                seen.entry(value).or_insert(count);
            }
        }
        Ok(ranked(seen, limit))
    }

    /// How often the cluster counts each of some values.
    fn counts_of(
        &self,
        plan: &Plan,
        path: &str,
        values: &HashMap<String, u64>,
    ) -> Result<Vec<(String, u64)>> {
        let short: Vec<&String> = values
            .keys()
            .filter(|value| value.len() <= LONGEST_TERM_BYTES)
            .collect();
        let mut counted = Vec::new();
        for chunk in short.chunks(1000) {
            let rest = json!({"aggs": {"found": {"terms": {
                "field": path,
                "include": chunk,
                "size": chunk.len(),
                "shard_size": chunk.len(),
            }}}});
            let answer = self.aggregate("find frequent values", &plan.certain(), &rest)?;
            let found: Values = read("find frequent values", &answer.aggregations)?;
            counted.extend(
                found
                    .buckets
                    .into_iter()
                    .map(|one| (one.key, one.doc_count)),
            );
        }
        Ok(counted)
    }

    /// The most frequent values by the count of the cluster, `limit` of them at least if there are.
    fn frequent(&self, plan: &Plan, path: &str, limit: usize) -> Result<Vec<(String, u64)>> {
        const WHAT: &str = "find frequent values";
        if limit == 0 {
            return Ok(Vec::new());
        }
        // One more, for the empty value, which is left out.
        let size = limit.saturating_add(1);
        if size <= VALUES_OF_SHARD {
            let rest = json!({"aggs": {"found": {"terms": {
                "field": path,
                "size": size,
                "shard_size": VALUES_OF_SHARD,
                "order": [{"_count": "desc"}, {"_key": "asc"}],
            }}}});
            let answer = self.aggregate(WHAT, &plan.certain(), &rest)?;
            let found: Values = read(WHAT, &answer.aggregations)?;
            if found.doc_count_error_upper_bound == 0 {
                return Ok(found
                    .buckets
                    .into_iter()
                    .filter(|one| !one.key.is_empty())
                    .map(|one| (one.key, one.doc_count))
                    .collect());
            }
        }
        // More values than shards name: go through all of them.
        let mut all: HashMap<String, u64> = HashMap::new();
        let sources = json!([{"value": {"terms": {"field": path}}}]);
        self.groups(WHAT, &plan.certain(), &sources, |key, count| {
            let value = key.get("value").and_then(Value::as_str);
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                all.insert(value.to_owned(), count);
                // Only the most frequent ones so far are kept.
                if all.len() >= limit.saturating_mul(2).max(GROUPS) {
                    all = ranked(std::mem::take(&mut all), limit)
                        .into_iter()
                        .collect();
                }
            }
        })?;
        Ok(all.into_iter().collect())
    }

    /// Calls `visit` with every group of events.
    fn groups(
        &self,
        what: &str,
        query: &Value,
        sources: &Value,
        mut visit: impl FnMut(&Map<String, Value>, u64),
    ) -> Result<()> {
        let mut after = None;
        loop {
            let mut composite = json!({"size": GROUPS, "sources": sources});
            if let Some(after) = after {
                composite["after"] = after;
            }
            let rest = json!({"aggs": {"found": {"composite": composite}}});
            let answer = self.aggregate(what, query, &rest)?;
            let found: Groups = read(what, &answer.aggregations)?;
            for group in &found.buckets {
                visit(&group.key, group.doc_count);
            }
            if found.buckets.len() < GROUPS || found.after_key.is_none() {
                return Ok(());
            }
            after = found.after_key;
        }
    }
}

/// What is to be read one by one.
fn rest(plan: &Plan) -> Value {
    if plan.is_exact {
        plan.doubtful()
    } else {
        plan.candidates()
    }
}

fn event_type(name: &str) -> Option<EventType> {
    EventType::ALL
        .into_iter()
        .find(|kind| kind.as_str() == name)
}

/// The value of a field by its name in queries; `None` when it is absent or empty.
fn value(event: &Event, field: &str) -> Option<String> {
    let value = if field == "type" {
        event.data.event_type().as_str().to_owned()
    } else if let Some(key) = HostKey::ALL.into_iter().find(|key| key.as_str() == field) {
        key.of_event(event).to_owned()
    } else {
        let name = field.strip_prefix("data.").unwrap_or(field);
        event.data.field(name)?.into_owned()
    };
    (!value.is_empty()).then_some(value)
}

/// Most frequent first, equally frequent ones by value.
fn ranked(counts: HashMap<String, u64>, limit: usize) -> Vec<(String, u64)> {
    let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
    counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    counts.truncate(limit);
    counts
}
