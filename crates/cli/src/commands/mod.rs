//! The commands, one file each.

pub(crate) mod alerts;
pub(crate) mod audit;
pub(crate) mod config;
pub(crate) mod hosts;
pub(crate) mod hunt;
pub(crate) mod intel;
pub(crate) mod ledger;
pub(crate) mod metrics;
pub(crate) mod replay;
pub(crate) mod rules;
pub(crate) mod search;
pub(crate) mod selftest;
pub(crate) mod server;
pub(crate) mod setup;
pub(crate) mod status;
pub(crate) mod store;
pub(crate) mod token;
