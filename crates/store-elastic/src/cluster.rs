//! The cluster itself: what it is, how it is, what must be in place before events come.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};
use yinglong_store::{Error, Kind, LogPosition, Result};

use crate::{
    client::Client,
    schema::{self, MAPPING_VERSION, index_end, index_patterns},
};

/// Holds a document per node: the position in its log.
const META_INDEX: &str = "yinglong-meta";
/// Holds what the cluster would not take as events, as text.
const REFUSED_INDEX: &str = "yinglong-refused";

/// What a cluster says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Product {
    /// `Elasticsearch` or `OpenSearch`.
    pub name: &'static str,
    /// Its version.
    pub version: String,
}

#[derive(Deserialize)]
struct Welcome {
    #[serde(default)]
    version: Version,
    #[serde(default)]
    tagline: String,
}

#[derive(Deserialize, Default)]
struct Version {
    #[serde(default)]
    number: String,
    #[serde(default)]
    distribution: String,
}

#[derive(Deserialize)]
struct Health {
    #[serde(default)]
    indices: BTreeMap<String, IndexHealth>,
}

#[derive(Deserialize)]
struct IndexHealth {
    status: String,
}

#[derive(Deserialize)]
struct Mapped {
    #[serde(default)]
    mappings: Value,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "_source")]
    source: Progress,
}

#[derive(Deserialize)]
struct Progress {
    position: LogPosition,
}

/// Asks what the cluster is.
///
/// # Errors
/// `Invalid`: it is nothing we can work with, or does not let us in.
pub(crate) fn product(client: &Client) -> Result<Product> {
    let welcome: Welcome = client
        .get("/")
        .map_err(|failure| failure.during("look at the cluster"))?;
    identify(&welcome)
}

fn identify(welcome: &Welcome) -> Result<Product> {
    let number = &welcome.version.number;
    let (name, supported) = if welcome.version.distribution == "opensearch" {
        ("OpenSearch", 2..=3)
    } else if welcome.tagline == "You Know, for Search" {
        ("Elasticsearch", 8..=9)
    } else {
        return Err(Error::new(
            Kind::Invalid,
            "what answers at that address is neither Elasticsearch nor OpenSearch: check the \
             address of the event store",
        ));
    };
    let major: Option<u32> = number
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    if !major.is_some_and(|major| supported.contains(&major)) {
        return Err(Error::new(
            Kind::Invalid,
            format!(
                "{name} {number} is not supported: use Elasticsearch 8 or 9, or OpenSearch 2 or 3"
            ),
        ));
    }
    Ok(Product {
        name,
        version: number.clone(),
    })
}

/// Puts everything in place, and checks that what is there can be used.
pub(crate) fn prepare(client: &Client, prefix: &str) -> Result<()> {
    let patterns = index_patterns(prefix).join(",");
    let health: Health = client
        .get("/_cluster/health?level=indices&filter_path=indices.*.status")
        .map_err(|failure| failure.during("ask for the health of the cluster"))?;
    let ours = |name: &str| name == META_INDEX || index_end(prefix, name).is_some();
    for (name, index) in &health.indices {
        if ours(name) && index.status == "red" {
            return Err(Error::new(
                Kind::Unavailable,
                format!(
                    "index `{name}` is red: a part of it is on no running node; start the missing \
                     nodes, or restore the index from a snapshot"
                ),
            ));
        }
    }
    client
        .put(
            &format!("/_index_template/yinglong-{prefix}"),
            &schema::template(prefix),
        )
        .map_err(|failure| failure.during("put the index template in place"))?;
    adopt(client, prefix, &patterns)?;
    make_index(
        client,
        META_INDEX,
        &json!({"position": {"type": "long"}, "written_at": {"type": "date"}}),
    )
}

/// Brings indexes of earlier versions up to date, and refuses those of somebody else.
fn adopt(client: &Client, prefix: &str, patterns: &str) -> Result<()> {
    let found: BTreeMap<String, Mapped> = client
        .get(&format!(
            "/{patterns}/_mapping?ignore_unavailable=true&allow_no_indices=true"
        ))
        .map_err(|failure| failure.during("look at the indexes of events"))?;
    for (name, mapped) in found {
        if index_end(prefix, &name).is_none() {
            continue;
        }
        let version = &mapped.mappings["_meta"]["yinglong"]["mapping"];
        match version.as_u64() {
            Some(MAPPING_VERSION) => {}
            Some(newer) if newer > MAPPING_VERSION => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!("index `{name}` was made by a newer version of Yinglong: use that one"),
                ));
            }
            Some(_) => client
                .put(&format!("/{name}/_mapping"), &schema::mapping())
                .map_err(|failure| failure.during("bring an index of events up to date"))?,
            None => {
                return Err(Error::new(
                    Kind::Invalid,
                    format!(
                        "index `{name}` was not made by Yinglong: give it another name, or use \
                         another index prefix"
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn make_index(client: &Client, name: &str, properties: &Value) -> Result<()> {
    let body = json!({
        "settings": {"index.number_of_shards": 1, "index.auto_expand_replicas": "0-1"},
        "mappings": {"dynamic": false, "properties": properties},
    });
    match client.put(&format!("/{name}"), &body) {
        Err(failure) if failure.is_kind("resource_already_exists_exception") => Ok(()),
        outcome => outcome.map_err(|failure| failure.during(&format!("make the index `{name}`"))),
    }
}

fn meta_path(prefix: &str, node: &str) -> String {
    // Both are of letters, digits and `.`, `_`, `-`: nothing to escape.
    format!("/{META_INDEX}/_doc/{prefix}.{node}")
}

/// Position of the last commit of a node; 0 before the first.
pub(crate) fn read_position(client: &Client, prefix: &str, node: &str) -> Result<LogPosition> {
    match client.patiently(|| client.get::<Found>(&meta_path(prefix, node))) {
        Ok(found) => Ok(found.source.position),
        Err(failure) if failure.status() == Some(404) => Ok(0),
        Err(failure) => Err(failure.during("read how far the log was stored")),
    }
}

/// Keeps the position of a commit. Everything up to it must be durable by then.
pub(crate) fn write_position(
    client: &Client,
    prefix: &str,
    node: &str,
    position: LogPosition,
) -> Result<()> {
    let now = yinglong_model::Timestamp::from(std::time::SystemTime::now());
    client
        .put(
            &meta_path(prefix, node),
            &json!({"position": position, "written_at": now, "node": node}),
        )
        .map_err(|failure| failure.during("write how far the log was stored"))
}

/// Keeps an event that the cluster does not take, as a text that it does.
pub(crate) fn keep_refused(client: &Client, id: &str, reason: &str, document: &str) -> Result<()> {
    make_index(
        client,
        REFUSED_INDEX,
        &json!({"event_id": {"type": "keyword"}, "refused_at": {"type": "date"}}),
    )?;
    let now = yinglong_model::Timestamp::from(std::time::SystemTime::now());
    let body = json!({
        "event_id": id, "refused_at": now, "reason": reason, "event": document,
    });
    client
        .post::<Value>(
            &format!("/{REFUSED_INDEX}/_doc"),
            body.to_string().as_bytes(),
        )
        .map(drop)
        .map_err(|failure| failure.during("keep a refused event"))
}

/// How many refused events are kept.
pub(crate) fn count_refused(client: &Client) -> Result<u64> {
    #[derive(Deserialize)]
    struct Counted {
        count: u64,
    }
    match client.get::<Counted>(&format!("/{REFUSED_INDEX}/_count")) {
        Ok(counted) => Ok(counted.count),
        Err(failure) if failure.status() == Some(404) => Ok(0),
        Err(failure) => Err(failure.during("count refused events")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn product_of(welcome: Value) -> Result<Product> {
        identify(&serde_json::from_value(welcome).unwrap())
    }

    #[test]
    fn only_tried_generations_are_taken() {
        let open = |number: &str| {
            product_of(json!({
                "version": {"number": number, "distribution": "opensearch"},
                "tagline": "The OpenSearch Project: https://opensearch.org/",
            }))
        };
        let elastic = |number: &str| {
            product_of(json!({
                "version": {"number": number}, "tagline": "You Know, for Search",
            }))
        };
        for good in [
            open("2.19.1"),
            open("3.8.0"),
            elastic("8.17.0"),
            elastic("9.5.6"),
        ] {
            assert!(good.is_ok(), "{good:?}");
        }
        for bad in [
            open("1.3.0"),
            open("4.0.0"),
            elastic("7.17.1"),
            elastic("10.0.0"),
            elastic(""),
            product_of(json!({"hello": "world"})),
        ] {
            assert_eq!(bad.unwrap_err().kind(), Kind::Invalid);
        }
    }
}
