//! Events in a cluster of Elasticsearch 8 to 9 or OpenSearch 2 to 3, for fleets whose events do
//! not fit on one machine.
//!
//! - **Guarantees**: a position is kept after everything up to it was acknowledged, which a cluster
//!   does when it is on disk; ids are those of the events and a document is only ever created, so
//!   reading the log again stores nothing twice. Answers are those of [`yinglong_store::query`]:
//!   what the index may read differently is decided here, on the whole event.
//! - **Invariants**: a search sees whole answers or fails; shards that do not answer are an error
//!   and a time limit is a mark. Secrets are in no message and in no `Debug`.
//! - **Formats**: an index per month of event time (`monitorYYYY_MM`, UTC) of the template
//!   `yinglong-monitor`; `yinglong-meta`, a document per node with its position; `yinglong-refused`,
//!   what the cluster would not take.
//! - **Plain HTTP**: a dozen requests are made, all JSON, the same for both products. The
//!   `opensearch` crate would put an asynchronous client with its runtime behind a synchronous
//!   port; `ureq` is in the workspace already.
//! - **Pages** go on by time and id ([`search_after`]) without a point in time: both are unique and
//!   never change, so a page can only gain events that arrived since.
//! - **Not here**: the write-ahead log, snapshots and the care of a cluster.
//!
//! [`search_after`]: https://opensearch.org/docs/latest/search-plugins/searching-data/paginate/

#![forbid(unsafe_code)]

mod aggregate;
mod bulk;
mod client;
mod cluster;
mod codec;
mod config;
mod error;
mod events;
mod literals;
mod plan;
mod schema;
mod search;

pub use cluster::Product;
pub use config::{Credentials, Options};
pub use events::Elastic;
#[doc(hidden)]
pub use schema::is_common;
