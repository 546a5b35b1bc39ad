//! What happens when the cluster does not do what it should: nothing is lost, nothing is stored
//! twice, nothing waits for ever, and the message says what to do.

#![allow(clippy::unwrap_used)]

mod opening;
mod reading;
mod stand_in;
mod writing;

use std::time::Duration;

use yinglong_store_elastic::{Elastic, Options};

use stand_in::StandIn;

/// Options under which nothing takes long.
fn options(url: &str) -> Options {
    let mut options = Options::new(url, "node-1").unwrap();
    options.request_timeout = Duration::from_secs(2);
    options.retry_for = Duration::from_millis(400);
    options
}

fn open(stand_in: &StandIn) -> Elastic {
    Elastic::open(&options(&stand_in.url())).unwrap()
}
