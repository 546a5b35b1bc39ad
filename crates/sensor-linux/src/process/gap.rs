//! Executions while nobody watched.

use std::fs;

use yinglong_model::DropReason;
use yinglong_sensor::Outlet;

use super::books::{FORKS, forks_since, parse_forks};

/// Identity of this boot.
pub(crate) fn boot_id() -> String {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

/// Counts what happened since the last mark of this boot as lost while the agent was down, and
/// makes a new mark, so that it is counted once.
pub(super) fn account(outlet: &mut dyn Outlet, boot: &str) {
    let Some(forks) = forks() else { return };
    if let Some(mark) = outlet.marked(FORKS) {
        outlet.lose(DropReason::AgentDown, forks_since(&mark, boot, forks));
    }
    outlet.mark(FORKS, format!("{boot}:{forks}"));
}

/// Remembers, with the next commit, that everything up to now was watched.
pub(super) fn mark(outlet: &mut dyn Outlet, boot: &str) {
    if let Some(forks) = forks() {
        outlet.mark(FORKS, format!("{boot}:{forks}"));
    }
}

fn forks() -> Option<u64> {
    parse_forks(&fs::read_to_string("/proc/stat").ok()?)
}
