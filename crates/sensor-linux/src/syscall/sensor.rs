//! Reads the ring of the attached programs.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use yinglong_model::{DropReason, config::Client, host::SensorStatus};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

use super::{
    Options,
    convert::Converter,
    load::{FOR_ALL, SOURCE, attach_for_all, load, unavailable},
    record::Record,
    watched,
};
use crate::{
    accounts::Accounts,
    attached::{Attached, BpfIds},
    precedence::Precedence,
    process::{Audit, Books, Counted, boot_id},
    ring::{Limit, Ring},
    share::Shares,
    standing::Standing,
    tree::Tree,
};

/// Name of the mark of the ring.
const RING: &str = "syscall.ring";
/// Name of the mark of what was left out in the kernel.
const FILTERED: &str = "syscall.filtered";

const BATCH: Limit = Limit {
    records: 1_000,
    bytes: 1 << 20,
};
/// While there is traffic. The kernel wakes us at most this often.
const BUSY_WAIT: Duration = Duration::from_millis(50);
/// Looks without a record until the long wait starts.
const QUIET_LOOKS: u32 = 4;
/// How often what was left out is written down when nothing else is.
const FILTERED_EVERY: Duration = Duration::from_secs(1);

/// `enum syscall_setting`
const ON: u32 = 1;
const RAW: u32 = 2;
const COMPAT: u32 = 4;

/// The sensor.
#[derive(Debug)]
pub(super) struct Syscalls {
    attached: Attached,
    ring: Ring,
    ring_id: u32,
    converter: Converter,
    shares: Shares,
    adopted: bool,
    running: bool,
    /// What the programs were told last.
    setting: Option<u32>,
    /// Links of the programs for all calls, while they are attached.
    for_all: Vec<OwnedFd>,
    /// Why those are not attached though they should be.
    for_all_failed: Option<String>,
}

impl Syscalls {
    /// Adopts what is attached, or loads and attaches.
    pub(super) fn open(tree: Tree, accounts: Accounts, options: &Options) -> Result<Self, Error> {
        let adopted = options.adopt.as_ref().and_then(|ids| {
            Attached::adopt(ids)
                .inspect_err(|error| tracing::info!(%error, "cannot adopt, loading anew"))
                .ok()
        });
        let was_adopted = adopted.is_some();
        let attached = match adopted {
            Some(attached) => attached,
            None => load(options.ring_bytes, options.source)?,
        };
        fill_calls(&attached)?;
        set_agents(&attached, &options.agent_pids)?;

        let map = map(&attached, "ring")?;
        let bytes = usize::try_from(map.max_entries()).unwrap_or_default();
        let ring = Ring::map(map.as_fd(), bytes).map_err(|source| Error::Os {
            what: "cannot map the ring of the system call programs".into(),
            source,
        })?;
        let ring_id = attached.ids().maps.get("ring").copied().unwrap_or_default();
        Ok(Self {
            shares: Shares::open(&attached),
            attached,
            ring,
            ring_id,
            converter: Converter::new(tree, accounts),
            adopted: was_adopted,
            running: false,
            setting: None,
            for_all: Vec::new(),
            for_all_failed: None,
        })
    }

    /// Ids for whoever holds the programs while this process is away.
    pub(super) fn ids(&self) -> &BpfIds {
        self.attached.ids()
    }

    /// There are no tracepoints, or not all could be attached. A call that comes both ways is still
    /// reported once, as its end finds its beginning once.
    fn without_tracepoints(&self) -> bool {
        !self.attached.ids().missing.is_empty()
    }

    /// Does what the configuration wants.
    fn configure(&mut self, client: &Client) -> Result<(), Error> {
        let raw = self.without_tracepoints();
        let mut setting = 0;
        if client.syscall {
            setting |= ON;
            if raw {
                setting |= RAW;
            }
            if client.syscall32 {
                setting |= COMPAT;
            }
        }
        if self.setting != Some(setting) {
            map(&self.attached, "settings")?
                .update(&0u32.to_ne_bytes(), &setting.to_ne_bytes(), MapFlags::ANY)
                .map_err(|error| os("cannot tell the system call programs what to do", error))?;
            self.setting = Some(setting);
        }

        // Without tracepoints they are attached for good.
        let wanted = client.syscall && client.syscall32 && !raw;
        if !wanted {
            self.for_all.clear();
            self.for_all_failed = None;
        } else if self.for_all.is_empty() && self.for_all_failed.is_none() {
            match self.attach_for_all() {
                Ok(links) => self.for_all = links,
                Err(reason) => self.for_all_failed = Some(reason),
            }
        }
        Ok(())
    }

    fn attach_for_all(&self) -> Result<Vec<OwnedFd>, String> {
        let attach = |name: &&str| attach_for_all(&self.attached, name);
        FOR_ALL.iter().map(attach).collect()
    }

    fn reason(&self) -> String {
        let mut reasons = Vec::new();
        if self.setting.is_some_and(|setting| setting & ON == 0) {
            reasons.push("switched off (client.syscall)".to_owned());
        } else if self.without_tracepoints() {
            let why = self.attached.ids().missing.first();
            let why = why.map_or("which need Linux 5.15 and tracefs", String::as_str);
            reasons.push(format!(
                "no tracepoints of single calls ({why}): every call of the host is looked at"
            ));
        }
        if let Some(failed) = &self.for_all_failed {
            reasons.push(format!("32-bit programs are not watched: {failed}"));
        }
        reasons.join("; ")
    }

    fn counted(&self) -> Result<(Counted, u64), Error> {
        let values = map(&self.attached, "counters")?
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| {
                os(
                    "cannot read the counters of the system call programs",
                    error,
                )
            })?;
        let mut counted = Counted::default();
        let mut not_found = 0;
        for value in values.iter().flatten() {
            // struct syscall_counters: seq, tried, dropped, not_found, shed.
            counted.executions += word(value, 1);
            counted.dropped += word(value, 2);
            not_found += word(value, 3);
            counted.shed += word(value, 4);
        }
        Ok((counted, not_found))
    }

    fn watch(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let boot = boot_id();
        let mut books = Books::open(&boot, self.ring_id, outlet.marked(RING).as_deref());
        let mut filtered = LeftOut::open(&boot, self.ring_id, outlet.marked(FILTERED).as_deref());
        self.ring.rewind();
        self.ring.skip_to(books.position);
        let mut audit = Audit::new();
        if !self.adopted {
            outlet.mark(RING, books.to_string());
            outlet.commit()?;
        }

        let mut standing = Standing::default();
        let mut filtered_at = Instant::now();
        let mut quiet = 0;
        let mut precedence = Precedence::take(super::STREAM);
        while !context.stopping() {
            precedence.round();
            self.configure(&context.config().client)?;
            standing.look(self, outlet);
            let patience = if quiet < QUIET_LOOKS {
                BUSY_WAIT
            } else {
                Context::PATIENCE
            };
            let ready = self.ring.wait(patience).map_err(|source| Error::Os {
                what: "cannot wait for system calls".into(),
                source,
            })?;
            quiet = if ready { 0 } else { quiet.saturating_add(1) };

            let mut seen = self.read(outlet);
            // Before the look at the ring: what is counted later may still be on its way.
            let (counted, not_found) = self.counted()?;
            let dropped = books.drop_new(counted);
            outlet.lose(DropReason::RingFull, dropped);
            let shed = books.shed_new(counted);
            self.shares.tell(&self.attached, shed, outlet);
            if seen.corrupt {
                audit = Audit::new();
            }
            books.accounted += seen.calls;
            if self.ring.drained()
                && !audit.finished()
                && let Some(missing) = audit.look(books.missing(counted))
            {
                outlet.lose(DropReason::AgentKilled, missing);
                books.accounted += missing;
                seen.calls += missing;
            }
            let due = filtered_at.elapsed() >= FILTERED_EVERY && filtered.count < not_found;
            if seen.calls + dropped + shed > 0 || due {
                filtered_at = Instant::now();
                outlet.filtered(filtered.advance(not_found));
                outlet.mark(FILTERED, filtered.mark());
                books.position = self.ring.position();
                outlet.mark(RING, books.to_string());
                outlet.commit()?;
            }
            self.ring.advance();
        }
        outlet.commit()
    }

    fn read(&mut self, outlet: &mut dyn Outlet) -> Seen {
        self.converter.refresh();
        let mut seen = Seen::default();
        let converter = &mut self.converter;
        let result = self.ring.read(BATCH, |bytes| {
            seen.calls += 1;
            match Record::parse(bytes) {
                Ok(record) => outlet.emit(converter.event(&record)),
                Err(_) => outlet.lose(DropReason::Malformed, 1),
            }
        });
        if let Err(error) = result {
            tracing::warn!(%error, "skipped what was in the ring");
            seen.corrupt = true;
        }
        seen
    }
}

/// What one look at the ring brought.
#[derive(Debug, Default)]
struct Seen {
    /// Calls delivered, or lost one by one.
    calls: u64,
    corrupt: bool,
}

/// How many calls the kernel left out that are in the books.
#[derive(Debug, PartialEq, Eq)]
struct LeftOut {
    owner: String,
    count: u64,
}

impl LeftOut {
    fn open(boot: &str, ring: u32, mark: Option<&str>) -> Self {
        let owner = format!("{boot}:{ring}:");
        let count = mark
            .and_then(|mark| mark.strip_prefix(&owner))
            .and_then(|count| count.parse().ok());
        Self {
            owner,
            count: count.unwrap_or_default(),
        }
    }

    /// Enters what is new, and answers how much that is.
    fn advance(&mut self, counted: u64) -> u64 {
        let new = counted.saturating_sub(self.count);
        self.count += new;
        new
    }

    fn mark(&self) -> String {
        format!("{}{}", self.owner, self.count)
    }
}

impl Sensor for Syscalls {
    fn stream(&self) -> &'static str {
        super::STREAM
    }

    fn status(&self) -> SensorStatus {
        SensorStatus {
            stream: super::STREAM.into(),
            source: SOURCE.into(),
            running: self.running,
            reason: self.reason(),
        }
    }

    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        self.running = true;
        let result = self.watch(context, outlet);
        self.running = false;
        // The ring goes on from here if the sensor is run again.
        self.adopted = true;
        result
    }
}

/// Tells the programs which number means which call.
fn fill_calls(attached: &Attached) -> Result<(), Error> {
    let calls = map(attached, "calls")?;
    for (number, meaning) in (0u32..).zip(watched::table()) {
        if meaning != 0 {
            calls
                .update(&number.to_ne_bytes(), &meaning.to_ne_bytes(), MapFlags::ANY)
                .map_err(|error| os("cannot say which system calls to watch", error))?;
        }
    }
    Ok(())
}

/// Tells the programs who the agent is now: its processes, and their groups as negative numbers.
fn set_agents(attached: &Attached, pids: &[u32]) -> Result<(), Error> {
    let agents = map(attached, "agents")?;
    let failed = |error| os("cannot tell the agent's own processes", error);
    let mut wanted = BTreeSet::new();
    for pid in pids.iter().filter_map(|&pid| i32::try_from(pid).ok()) {
        wanted.insert(pid);
        let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid)));
        // Only a group of the agent's own: that of a shell would have others in it.
        if let Ok(group) = group
            && group.as_raw() == pid
        {
            wanted.insert(-pid);
        }
    }
    let known: Vec<Vec<u8>> = agents.keys().collect();
    for key in known {
        let number = <[u8; 4]>::try_from(key.as_slice()).map(i32::from_ne_bytes);
        if !number.is_ok_and(|number| wanted.contains(&number)) {
            agents.delete(&key).map_err(failed)?;
        }
    }
    for number in wanted {
        agents
            .update(&number.to_ne_bytes(), &[1], MapFlags::ANY)
            .map_err(failed)?;
    }
    Ok(())
}

fn map<'a>(attached: &'a Attached, name: &str) -> Result<&'a MapHandle, Error> {
    attached
        .map(name)
        .ok_or_else(|| unavailable(format!("the programs have no map `{name}`; load anew")))
}

fn word(bytes: &[u8], index: usize) -> u64 {
    let at = index * 8;
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_ne_bytes)
}

fn os(what: &str, error: libbpf_rs::Error) -> Error {
    Error::Os {
        what: what.into(),
        source: io::Error::other(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_left_out_is_entered_once_per_ring() {
        let mut left = LeftOut::open("b", 7, None);
        assert_eq!(
            (left.advance(5), left.advance(5), left.advance(9)),
            (5, 0, 4)
        );
        let mark = left.mark();
        assert_eq!(LeftOut::open("b", 7, Some(&mark)), left);
        for (boot, ring, mark) in [("c", 7, mark.as_str()), ("b", 8, &mark), ("b", 7, "b:7:x")] {
            assert_eq!(LeftOut::open(boot, ring, Some(mark)).count, 0);
        }
    }
}
