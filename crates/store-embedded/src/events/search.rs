//! Answers: pages, counts, histograms, frequent values.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use tantivy::{
    DocAddress, DocSet, Searcher, SegmentReader, TERMINATED, TantivyDocument, TantivyError, Term,
    query::EnableScoring, schema::IndexRecordOption,
};
use yinglong_model::{Event, EventData, EventId, EventType, Timestamp};
use yinglong_store::{
    Error, Kind, Query, Result,
    event_store::{HistogramBucket, Page, PageRequest},
    query::{HOST_KEYS, HostKey, nearest},
};

use super::{
    Events, check,
    partition::{Partition, Summary, guarded, read_event},
    plan::{Plan, Seen},
    schema::{self, column, host_path, tie},
};
use crate::error::{is_corruption, tantivy};

const LARGEST_PAGE: usize = 1000;

/// A partition could not answer.
struct Failure {
    partition: Arc<Partition>,
    error: TantivyError,
}

/// Runs work on one partition.
fn on<T>(
    partition: &Arc<Partition>,
    work: impl FnOnce() -> tantivy::Result<T>,
) -> std::result::Result<T, Failure> {
    guarded(work).map_err(|error| Failure {
        partition: Arc::clone(partition),
        error,
    })
}

impl Events {
    /// Runs `work` over the partitions. When one turns out to be damaged, it is set aside and the
    /// work is done again without it.
    fn read<T>(
        &self,
        what: &str,
        mut work: impl FnMut(Vec<Arc<Partition>>) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        loop {
            match work(self.all_partitions()) {
                Ok(outcome) => return Ok(outcome),
                Err(Failure { partition, error }) if is_corruption(&error) => {
                    self.set_aside(&partition, &error);
                }
                Err(Failure { partition, error }) => {
                    return Err(tantivy(what, partition.name(), error));
                }
            }
        }
    }
}

fn concerns(query: &Query, summary: &Summary) -> bool {
    summary.events > 0
        && query.since.is_none_or(|since| summary.newest >= since)
        && query.until.is_none_or(|until| summary.oldest < until)
}

/// Scans one partition, segment by segment.
fn scan_partition(
    partition: &Arc<Partition>,
    searcher: &Searcher,
    plan: &Plan<'_>,
    deadline: Option<Instant>,
    mut segment: impl FnMut(
        usize,
        &SegmentReader,
        &mut dyn FnMut(&mut Visit<'_>) -> tantivy::Result<Seen>,
    ) -> tantivy::Result<Seen>,
) -> std::result::Result<Seen, Failure> {
    on(partition, || {
        let weight = plan
            .base
            .weight(EnableScoring::disabled_from_searcher(searcher))?;
        for (ordinal, reader) in searcher.segment_readers().iter().enumerate() {
            let mut scan = |visit: &mut Visit<'_>| {
                plan.scan(weight.as_ref(), reader, deadline, |doc, time| {
                    visit(doc, time)
                })
            };
            if segment(ordinal, reader, &mut scan)? == Seen::Part {
                return Ok(Seen::Part);
            }
        }
        Ok(Seen::Everything)
    })
}

/// Takes a matching event: its place in the segment, its time.
type Visit<'a> = dyn FnMut(u32, i64) -> tantivy::Result<()> + 'a;

/// Place of an event in the order of results.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cursor {
    time: i64,
    tie: u64,
    id: EventId,
}

impl Cursor {
    fn parse(text: &str) -> Result<Self> {
        let parsed = text.split_once(':').and_then(|(time, id)| {
            let id = EventId::from(id.to_owned());
            Some(Self {
                time: time.parse().ok()?,
                tie: tie(&id),
                id,
            })
        });
        parsed.ok_or_else(|| {
            Error::new(
                Kind::Invalid,
                format!("`{text}` is no cursor: give the one of the page before, unchanged"),
            )
        })
    }

    fn after(event: &Event) -> String {
        format!("{}:{}", event.time.nanos(), event.id)
    }
}

/// An event found, ordered as results are. Fields are compared in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Hit {
    time: i64,
    tie: u64,
    partition: usize,
    address: DocAddress,
}

pub(super) fn page(events: &Events, query: &Query, request: &PageRequest) -> Result<Page> {
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
    let deadline = Instant::now().checked_add(request.time_limit);
    events.read("search events", |mut partitions| {
        partitions.retain(|partition| concerns(query, &partition.summary()));
        partitions.sort_by_key(|partition| Reverse(partition.summary().newest));
        let (hits, searchers, seen) = newest(&partitions, query, cursor.as_ref(), request.limit + 1, deadline)?;
        let more = hits.len() > request.limit;
        let mut found = Vec::with_capacity(request.limit);
        for hit in hits.iter().take(request.limit) {
            let (Some(partition), Some(searcher)) =
                (partitions.get(hit.partition), searchers.get(&hit.partition))
            else {
                continue;
            };
            let event = on(partition, || {
                let document = searcher.doc::<TantivyDocument>(hit.address)?;
                read_event(partition.fields(), &document)
            })?;
            if query.matches(&event) {
                found.push(event);
            } else {
                tracing::error!(id = %event.id, partition = partition.name(), "index and event disagree");
            }
        }
        Ok(Page {
            next: found.last().filter(|_| more).map(Cursor::after),
            events: found,
            partial: seen == Seen::Part,
        })
    })
}

/// What [`newest`] found: events in order, the views their places belong to, and how far it got.
type Newest = (Vec<Hit>, HashMap<usize, Searcher>, Seen);

/// The first `wanted` events after the cursor.
fn newest(
    partitions: &[Arc<Partition>],
    query: &Query,
    cursor: Option<&Cursor>,
    wanted: usize,
    deadline: Option<Instant>,
) -> std::result::Result<Newest, Failure> {
    let mut heap: BinaryHeap<Reverse<Hit>> = BinaryHeap::with_capacity(wanted + 1);
    let mut seen = Seen::Everything;
    let mut searchers = HashMap::new();
    for (index, partition) in partitions.iter().enumerate() {
        let summary = partition.summary();
        let full = heap.len() == wanted;
        let worst = heap.peek().map_or(i64::MIN, |Reverse(hit)| hit.time);
        if full && worst > summary.newest.nanos() {
            // Sorted by newest event: the others are older still.
            break;
        }
        if cursor.is_some_and(|cursor| summary.oldest.nanos() > cursor.time) {
            continue;
        }
        let plan = Plan::new(query, partition.fields());
        let searcher = &*searchers
            .entry(index)
            .insert_entry(on(partition, || partition.searcher())?)
            .into_mut();
        let part = scan_partition(
            partition,
            searcher,
            &plan,
            deadline,
            |ordinal, reader, scan| {
                let ties = reader.fast_fields().u64("tie")?;
                scan(&mut |doc, time| {
                    let hit = Hit {
                        time,
                        tie: ties.first(doc).unwrap_or_default(),
                        partition: index,
                        address: DocAddress::new(u32::try_from(ordinal).unwrap_or(u32::MAX), doc),
                    };
                    if let Some(cursor) = cursor {
                        let (place, start) = ((hit.time, hit.tie), (cursor.time, cursor.tie));
                        if place > start {
                            return Ok(());
                        }
                        if place == start {
                            let document = searcher.doc::<TantivyDocument>(hit.address)?;
                            if read_event(partition.fields(), &document)?.id >= cursor.id {
                                return Ok(());
                            }
                        }
                    }
                    let better = heap.len() < wanted
                        || heap.peek().is_some_and(|Reverse(worst)| hit > *worst);
                    if better {
                        heap.push(Reverse(hit));
                        if heap.len() > wanted {
                            heap.pop();
                        }
                    }
                    Ok(())
                })
            },
        )?;
        if part == Seen::Part {
            seen = Seen::Part;
            break;
        }
    }
    let hits = heap
        .into_sorted_vec()
        .into_iter()
        .map(|Reverse(hit)| hit)
        .collect();
    Ok((hits, searchers, seen))
}

pub(super) fn get(events: &Events, id: &EventId) -> Result<Option<Event>> {
    events.read("read an event", |partitions| {
        for partition in partitions.iter().rev() {
            let found = on(partition, || {
                let searcher = partition.searcher()?;
                let term = Term::from_field_text(partition.fields().id, id.as_str());
                for reader in searcher.segment_readers() {
                    let postings = reader
                        .inverted_index(partition.fields().id)?
                        .read_postings(&term, IndexRecordOption::Basic)?;
                    let doc = postings.map_or(TERMINATED, |postings| postings.doc());
                    if doc != TERMINATED {
                        let document = reader.get_store_reader(1)?.get(doc)?;
                        return read_event(partition.fields(), &document).map(Some);
                    }
                }
                Ok(None)
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    })
}

/// Scans every partition that a query concerns.
fn scan_all(
    partitions: &[Arc<Partition>],
    query: &Query,
    mut segment: impl FnMut(
        &SegmentReader,
        &mut dyn FnMut(&mut Visit<'_>) -> tantivy::Result<Seen>,
    ) -> tantivy::Result<Seen>,
) -> std::result::Result<(), Failure> {
    for partition in partitions {
        if concerns(query, &partition.summary()) {
            let plan = Plan::new(query, partition.fields());
            let searcher = on(partition, || partition.searcher())?;
            scan_partition(partition, &searcher, &plan, None, |_, reader, scan| {
                segment(reader, scan)
            })?;
        }
    }
    Ok(())
}

pub(super) fn count(events: &Events, query: &Query) -> Result<u64> {
    check(query)?;
    events.read("count events", |partitions| {
        let mut count = 0;
        scan_all(&partitions, query, |_, scan| {
            scan(&mut |_, _| {
                count += 1;
                Ok(())
            })
        })?;
        Ok(count)
    })
}

pub(super) fn histogram(
    events: &Events,
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
    events.read("count events per interval", |partitions| {
        let mut counts: BTreeMap<(i64, EventType), u64> = BTreeMap::new();
        scan_all(&partitions, query, |reader, scan| {
            let Some(types) = reader.fast_fields().str(&column(schema::TYPE))? else {
                return Ok(Seen::Everything);
            };
            let mut per_ord: HashMap<(i64, u64), u64> = HashMap::new();
            scan(&mut |doc, time| {
                if let Some(ord) = types.ords().first(doc) {
                    let start = time.div_euclid(width).saturating_mul(width);
                    *per_ord.entry((start, ord)).or_default() += 1;
                }
                Ok(())
            })?;
            let mut name = String::new();
            for ((start, ord), count) in per_ord {
                types.ord_to_str(ord, &mut name)?;
                if let Some(kind) = schema::event_type(&name) {
                    *counts.entry((start, kind)).or_default() += count;
                }
            }
            Ok(Seen::Everything)
        })?;
        Ok(counts
            .into_iter()
            .map(|((start, event_type), count)| HistogramBucket {
                start: Timestamp::from_nanos(start),
                event_type,
                count,
            })
            .collect())
    })
}

pub(super) fn top(
    events: &Events,
    query: &Query,
    field: &str,
    limit: usize,
) -> Result<Vec<(String, u64)>> {
    check(query)?;
    let path = top_path(field)?;
    events.read("find frequent values", |partitions| {
        let mut counts: HashMap<String, u64> = HashMap::new();
        scan_all(&partitions, query, |reader, scan| {
            let Some(values) = reader.fast_fields().str(&column(path))? else {
                return Ok(Seen::Everything);
            };
            let mut per_ord: HashMap<u64, u64> = HashMap::new();
            scan(&mut |doc, _| {
                if let Some(ord) = values.ords().first(doc) {
                    *per_ord.entry(ord).or_default() += 1;
                }
                Ok(())
            })?;
            let mut value = String::new();
            for (ord, count) in per_ord {
                value.clear();
                values.ord_to_str(ord, &mut value)?;
                if let Some(total) = counts.get_mut(&value) {
                    *total += count;
                } else if !value.is_empty() {
                    counts.insert(value.clone(), count);
                }
            }
            Ok(Seen::Everything)
        })?;
        let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
        counts.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(limit);
        Ok(counts)
    })
}

/// Path of a field by its name in queries.
fn top_path(field: &str) -> Result<&str> {
    if field == "type" {
        return Ok(schema::TYPE);
    }
    if let Some(key) = HostKey::ALL.into_iter().find(|key| key.as_str() == field) {
        return Ok(host_path(key));
    }
    let name = field.strip_prefix("data.").unwrap_or(field);
    let names = || EventType::ALL.into_iter().flat_map(EventData::field_names);
    if names().any(|known| *known == name) {
        return Ok(name);
    }
    let meant = nearest(name, names().copied().chain(HOST_KEYS))
        .map(|meant| format!(", did you mean `{meant}`?"))
        .unwrap_or_default();
    Err(Error::new(
        Kind::Invalid,
        format!("events have no field `{field}`{meant}"),
    ))
}
