//! What the agent says about its host at every heartbeat.

use std::{
    fs,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use yinglong_model::{
    event::System,
    host::{AgentUsage, HostReport},
};
use yinglong_sensor::Context;
use yinglong_sensor_linux::{
    files::WebRoots,
    inventory::{self, HostFacts, Root},
};

use crate::{books::Books, sensors::Board};

/// Makes reports.
pub struct Reporter {
    context: Context,
    books: Books,
    board: Board,
    roots: WebRoots,
    boot_id: String,
    facts: Mutex<Option<(Instant, HostFacts)>>,
}

impl Reporter {
    /// A reporter about this host.
    pub fn new(context: Context, books: Books, board: Board, roots: WebRoots) -> Self {
        let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Self {
            context,
            books,
            board,
            roots,
            boot_id: boot_id.trim().to_owned(),
            facts: Mutex::default(),
        }
    }

    /// The report of this moment. Facts about the host are looked up once per cycle.
    pub fn report(&self) -> HostReport {
        let facts = self.facts();
        let path = self
            .roots
            .get()
            .iter()
            .map(|root| root.display().to_string())
            .collect();
        HostReport {
            ip: facts.addresses.first().cloned().unwrap_or_default(),
            addresses: facts.addresses,
            hostname: facts.hostname,
            platform: System::Linux,
            system: facts.system,
            tags: facts.tags,
            path,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: self.boot_id.clone(),
            sensors: self.board.statuses(),
            ledger: self.books.ledger(),
            usage: self.usage(),
        }
    }

    fn facts(&self) -> HostFacts {
        let cycle = Duration::from_secs(60 * u64::from(self.context.config().client.cycle));
        let mut slot = self.facts.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Some((taken, facts)) if taken.elapsed() < cycle => facts.clone(),
            _ => {
                let facts = inventory::facts(&Root::at("/"));
                *slot = Some((Instant::now(), facts.clone()));
                facts
            }
        }
    }

    fn usage(&self) -> AgentUsage {
        usage(&self.books)
    }
}

/// What this process costs its host, with what waits in the spool of `books`.
pub(crate) fn usage(books: &Books) -> AgentUsage {
    let spool = books.spool().usage();
    let cpu = getrusage(UsageWho::RUSAGE_SELF).map_or(0, |usage| {
        usage.user_time().num_milliseconds() + usage.system_time().num_milliseconds()
    });
    AgentUsage {
        cpu_ms: u64::try_from(cpu).unwrap_or_default(),
        pss_bytes: fs::read_to_string("/proc/self/smaps_rollup").map_or(0, |text| pss(&text)),
        spool_bytes: spool.bytes,
        spool_events: spool.records,
    }
}

/// Proportional set size in bytes, from the text of `smaps_rollup`; 0 when it has none.
pub(crate) fn pss(rollup: &str) -> u64 {
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().strip_suffix("kB"))
        .and_then(|number| number.trim().parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proportional_size_is_read_in_bytes() {
        assert_eq!(
            pss("Rss:  10 kB\nPss:        19 kB\nPss_Dirty: 3 kB\n"),
            19 * 1024
        );
        assert_eq!(pss("nonsense"), 0);
    }
}
