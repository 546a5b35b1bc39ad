//! placeholder

#![forbid(unsafe_code)]

mod correlator;
mod frame;
mod key;
mod limits;
pub mod logins;
mod measure;
mod observed;
mod order;
mod plan;
mod reference;
mod snapshot;
pub mod stories;
mod window;

pub use correlator::Correlator;
pub use frame::SnapshotError;
pub use limits::{Counters, Limits};
pub use logins::{LoginOptions, login_detectors};
pub use observed::{Fired, HOST, Match};
pub use snapshot::Restored;
pub use stories::Stories;
