//! Executions from our BPF programs.

use std::{
    io,
    os::fd::AsFd,
    time::{Duration, Instant},
};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use yinglong_model::{DropReason, config::Client, host::SensorStatus};
use yinglong_sensor::{Context, Error, Outlet, Sensor};

use super::{
    EXIT_STREAM, Options, STREAM,
    account::Account,
    batch::Batch,
    books::{Counted, ENDS, RING},
    clock::since_boot_ns,
    convert::Converter,
    gap,
    hashing::Hashing,
    record::{Record, claims_end, claims_exec},
};
use crate::{
    accounts::Accounts,
    attached::{self, Aligned, Attached, BpfIds},
    btf::Btf,
    precedence::Precedence,
    ring::{Limit, Ring},
    share::Shares,
    tree::Tree,
};

/// Name in the status.
pub(super) const SOURCE: &str = "ebpf";
/// Name in the status with the types of a file.
pub(super) const FILE_SOURCE: &str = "ebpf-btf-file";

/// The compiled programs.
static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/process.bpf.o")));
/// The same for a kernel without types of its own.
static RAW_OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
    env!("OUT_DIR"),
    "/process_raw.bpf.o"
)));

const BATCH: Limit = Limit {
    records: 2_000,
    bytes: 1 << 20,
};
/// While there is traffic. The kernel wakes us at most this often.
const BUSY_WAIT: Duration = Duration::from_millis(50);
/// Looks without a record until the long wait starts. The first record then wakes us, because by
/// that time its wake-up is not suppressed any more.
const QUIET_LOOKS: u32 = 4;
/// How often the kernel's count of processes is looked up.
const FORKS_EVERY: Duration = Duration::from_secs(1);
/// Events do not wait for hashes while more than this share of the ring is unread.
const HURRY_SHARE: usize = 4;
/// `SETTING_ALL_ENDS` of `enum process_setting`.
const ALL_ENDS: u32 = 1;
/// `SETTING_VERSION_1`.
const VERSION_1: u32 = 2;

/// Reads the ring of the attached programs.
#[derive(Debug)]
pub(super) struct Ebpf {
    attached: Attached,
    ring: Ring,
    ring_id: u32,
    converter: Converter,
    hashing: Hashing,
    shares: Shares,
    /// What the programs were told, once they were.
    setting: Option<u32>,
    types: Btf,
    adopted: bool,
    running: bool,
}

impl Ebpf {
    /// Adopts what is attached, or loads and attaches.
    pub(super) fn open(
        tree: Tree,
        accounts: Accounts,
        options: &Options,
        types: Btf,
    ) -> Result<Self, Error> {
        let adopted = options.adopt.as_ref().and_then(|ids| {
            Attached::adopt(ids)
                .inspect_err(|error| tracing::info!(%error, "cannot adopt, loading anew"))
                .ok()
        });
        let was_adopted = adopted.is_some();
        let attached = match adopted {
            Some(attached) => attached,
            None => load(options.ring_bytes, &types)?,
        };
        exclude(&attached, &options.excluded_pids)?;

        let map = map(&attached, "ring")?;
        let bytes = usize::try_from(map.max_entries()).unwrap_or_default();
        let ring = Ring::map(map.as_fd(), bytes).map_err(|source| Error::Os {
            what: "cannot map the ring of the execution programs".into(),
            source,
        })?;
        let ring_id = attached.ids().maps.get("ring").copied().unwrap_or_default();
        // Only now: whoever starts from here on is reported by the programs.
        tree.scan(since_boot_ns());
        Ok(Self {
            shares: Shares::open(&attached),
            attached,
            ring,
            ring_id,
            converter: Converter::new(tree, accounts),
            hashing: super::start_hashing(options)?,
            setting: None,
            types,
            adopted: was_adopted,
            running: false,
        })
    }

    /// Ids for whoever holds the programs while this process is away.
    pub(super) fn ids(&self) -> &BpfIds {
        self.attached.ids()
    }

    /// Tells the programs what to report.
    fn configure(&mut self, client: &Client) -> Result<(), Error> {
        let mut setting = if client.exit { ALL_ENDS } else { 0 };
        if self.converter.groups.ask_version_1() {
            setting |= VERSION_1;
        }
        if self.setting != Some(setting) {
            map(&self.attached, "settings")?
                .update(&0u32.to_ne_bytes(), &setting.to_ne_bytes(), MapFlags::ANY)
                .map_err(|error| os("cannot tell the execution programs what to report", error))?;
            self.setting = Some(setting);
        }
        Ok(())
    }

    /// Executions, and ends that are told.
    fn counted(&self) -> Result<(Counted, Counted), Error> {
        let values = map(&self.attached, "counters")?
            .lookup_percpu(&0u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| os("cannot read the counters of the execution programs", error))?;
        let (mut executions, mut ends) = (Counted::default(), Counted::default());
        for value in values.iter().flatten() {
            executions.add(value);
            ends.add_ends(value);
        }
        Ok((executions, ends))
    }

    fn watch(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        let boot = gap::boot_id();
        let mut executions = Account::open(STREAM, RING, &boot, self.ring_id, outlet);
        let mut ends = Account::open(EXIT_STREAM, ENDS, &boot, self.ring_id, outlet);
        self.ring.rewind();
        self.ring.skip_to(executions.books.position);
        if !self.adopted {
            // Nobody was before us in this ring; who ran before is told by the kernel's count.
            gap::account(outlet, &boot);
            executions.mark(executions.books.position, outlet);
            ends.mark(executions.books.position, outlet);
            outlet.commit()?;
        }

        let mut forks_marked: Option<Instant> = None;
        let mut quiet = 0;
        let mut precedence = Precedence::take(STREAM);
        let mut dropped_others = self.counted()?.0.dropped_others;
        while !context.stopping() {
            precedence.round();
            self.configure(&context.config().client)?;
            let patience = if quiet < QUIET_LOOKS {
                BUSY_WAIT
            } else {
                Context::PATIENCE
            };
            let ready = self.ring.wait(patience).map_err(|source| Error::Os {
                what: "cannot wait for executions".into(),
                source,
            })?;
            quiet = if ready { 0 } else { quiet.saturating_add(1) };

            let limit_bytes = context.config().client.hash_limit_bytes;
            let seen = self.read(outlet, limit_bytes);
            // Before the look at the ring: what is counted later may still be on its way.
            let (counted, counted_ends) = self.counted()?;
            let drained = self.ring.drained();
            if seen.corrupt {
                executions.doubt();
                ends.doubt();
            }
            let settled = executions.settle(seen.executions, counted, drained, outlet);
            self.shares.tell(&self.attached, settled.shed, outlet);
            let settled_ends = ends.settle(seen.ends, counted_ends, drained, outlet);
            outlet.lose_in(EXIT_STREAM, DropReason::OverShare, settled_ends.shed);
            if counted.dropped_others > dropped_others && self.ring.drained() {
                // Starts and ends got lost: look who is there.
                dropped_others = counted.dropped_others;
                self.converter.tree.scan(since_boot_ns());
            }

            if settled.news + settled_ends.news > 0 {
                executions.mark(self.ring.position(), outlet);
                ends.mark(self.ring.position(), outlet);
                if forks_marked.is_none_or(|at| at.elapsed() >= FORKS_EVERY) {
                    forks_marked = Some(Instant::now());
                    gap::mark(outlet, &boot);
                }
                outlet.commit()?;
            }
            self.ring.advance();
        }
        // A clean end: what happens from here on happens without us.
        gap::mark(outlet, &boot);
        outlet.commit()
    }

    fn read(&mut self, outlet: &mut dyn Outlet, limit_bytes: u64) -> Seen {
        self.converter.refresh();
        let mut seen = Seen::default();
        let converter = &mut self.converter;
        let mut batch = Batch::new(outlet, &mut self.hashing, limit_bytes);
        let result = self.ring.read(BATCH, |bytes| match Record::parse(bytes) {
            Ok(Record::Exec(exec)) => {
                let event = converter.execution(&exec);
                let image = Converter::image(&exec);
                batch.execution(event, image, |image| converter.wanted(&exec, image));
                seen.executions += 1;
            }
            Ok(Record::Fork(fork)) => converter.tree.forked(fork.key, fork.parent, fork.uid),
            Ok(Record::Exit(exit)) => converter.tree.exited(exit.key, exit.ts_boot_ns),
            Ok(Record::Made(made)) => converter.groups.made(&made),
            Ok(Record::End(end)) => {
                batch.event(converter.end(&end));
                converter.tree.exited(end.key, end.ts_boot_ns);
                seen.ends += 1;
            }
            Err(_) if claims_exec(bytes) => {
                batch.outlet().lose(DropReason::Malformed, 1);
                seen.executions += 1;
            }
            Err(_) if claims_end(bytes) => {
                batch
                    .outlet()
                    .lose_in(EXIT_STREAM, DropReason::Malformed, 1);
                seen.ends += 1;
            }
            // Neither an execution nor anything the books count.
            Err(_) => {}
        });
        if let Err(error) = result {
            tracing::warn!(%error, "skipped what was in the ring");
            seen.corrupt = true;
        }
        let (ring, plenty) = (&self.ring, self.ring.size_bytes() / HURRY_SHARE);
        batch.finish(|| ring.unread_bytes() > plenty);
        seen
    }
}

/// What one look at the ring brought.
#[derive(Debug, Default)]
struct Seen {
    /// Executions delivered, or lost one by one.
    executions: u64,
    /// The same of ends.
    ends: u64,
    corrupt: bool,
}

impl Sensor for Ebpf {
    fn stream(&self) -> &'static str {
        super::STREAM
    }

    fn status(&self) -> SensorStatus {
        let (source, reason) = match &self.types {
            Btf::Kernel => (SOURCE, String::new()),
            Btf::File(path) => {
                let file = path.display();
                let reason = format!("types are those of {file}, not of the kernel itself");
                (FILE_SOURCE, reason)
            }
        };
        SensorStatus {
            stream: super::STREAM.into(),
            source: source.into(),
            running: self.running,
            reason,
        }
    }

    fn run(&mut self, context: &Context, outlet: &mut dyn Outlet) -> Result<(), Error> {
        self.running = true;
        outlet.status(self.status());
        let result = self.watch(context, outlet);
        self.running = false;
        // The ring goes on from here if the sensor is run again.
        self.adopted = true;
        result
    }
}

/// Loads and attaches.
fn load(ring_bytes: usize, types: &Btf) -> Result<Attached, Error> {
    let object = match types {
        Btf::Kernel => &OBJECT.0,
        Btf::File(_) => &RAW_OBJECT.0,
    };
    let cpus = libbpf_rs::num_possible_cpus()
        .ok()
        .and_then(|cpus| u32::try_from(cpus).ok())
        .unwrap_or(1);
    let ring_bytes = u32::try_from(ring_bytes.next_power_of_two()).unwrap_or(8 << 20);
    Attached::load(
        object,
        &[],
        types,
        |object| {
            object
                .maps_mut()
                .try_for_each(|mut map| match map.name().to_str() {
                    Some("ring") => map.set_max_entries(ring_bytes),
                    Some("scratches") => map.set_max_entries(cpus),
                    _ => Ok(()),
                })
        },
        |program| attached::link(&program.attach()?).map(Some),
    )
    .map_err(|error| unavailable(error.advice()))
}

/// Leaves the agent's own processes, and what they start, out of the reports (M07).
fn exclude(attached: &Attached, pids: &[u32]) -> Result<(), Error> {
    let excluded = map(attached, "excluded")?;
    for pid in pids {
        excluded
            .update(&pid.to_ne_bytes(), &[1], MapFlags::ANY)
            .map_err(|error| os("cannot exclude the agent's own processes", error))?;
    }
    Ok(())
}

fn map<'a>(attached: &'a Attached, name: &str) -> Result<&'a MapHandle, Error> {
    attached
        .map(name)
        .ok_or_else(|| unavailable(format!("the programs have no map `{name}`; load anew")))
}

fn unavailable(reason: impl Into<String>) -> Error {
    Error::Unavailable {
        source_name: SOURCE,
        reason: reason.into(),
    }
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

    fn u32_at(bytes: &[u8], at: usize) -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    fn u64_at(bytes: &[u8], at: usize) -> usize {
        usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
    }

    /// Contents of a section of a 64-bit little-endian ELF file.
    fn section<'a>(elf: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
        let (table, entry) = (u64_at(elf, 0x28), usize::from(elf[0x3a]));
        let (count, names) = (usize::from(elf[0x3c]), usize::from(elf[0x3e]));
        let content = |index: usize| {
            let header = &elf[table + index * entry..];
            let (at, length) = (u64_at(header, 0x18), u64_at(header, 0x20));
            (u32_at(header, 0) as usize, &elf[at..at + length])
        };
        let names = content(names).1;
        let mut sections = (1..count).map(content);
        let named = |name: usize| names[name..].split(|&byte| byte == 0).next();
        let found = sections.find(|(name, _)| named(*name) == Some(wanted.as_bytes()));
        found.map(|(_, content)| content)
    }

    /// Without relocations the programs would read wrong fields on any other kernel, silently.
    #[test]
    fn the_compiled_programs_are_relocatable() {
        let ext = section(&OBJECT.0, ".BTF.ext").expect("the object has .BTF.ext");
        // struct btf_ext_header: magic, version, flags, hdr_len, then offset and length of
        // func_info, line_info and core_relo.
        assert_eq!(ext[..2], [0x9f, 0xeb]);
        assert!(u32_at(ext, 4) >= 32);
        assert!(
            u32_at(ext, 28) > 500,
            "core_relo_len is {}",
            u32_at(ext, 28)
        );
    }
}
