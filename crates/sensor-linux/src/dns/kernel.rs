//! The attached programs of `bpf/dns.bpf.c`: their ring, counters and switch.

use std::{
    fs::File,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
};

use libbpf_rs::{MapCore, MapFlags, MapHandle};
use yinglong_sensor::Outlet;

use crate::{
    attached::{self, Aligned, Attached, BpfIds},
    btf::{self, Btf},
    network::control_group_root,
    ring::{Limit, Ring},
    share::Shares,
};

/// The compiled programs.
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/dns.bpf.o")));

/// Records read in one go.
const BATCH: Limit = Limit {
    records: 4096,
    bytes: usize::MAX,
};

/// Programs that nothing works without.
const NEEDED: [&str; 2] = ["on_egress", "on_ingress"];

/// Why the kernel side cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// Control groups cannot be hooked.
    #[error("control groups version 2 are not mounted; mount them (`mount -t cgroup2`)")]
    NoControlGroups,
    /// There are no types to relocate the programs with.
    #[error("{0}")]
    NoTypes(String),
    /// The kernel refuses the programs.
    #[error("kernel refuses the name programs; it needs BTF and the agent needs root")]
    Load(#[source] attached::Error),
    /// The ring cannot be read.
    #[error("ring of DNS records cannot be read")]
    Ring(#[source] std::io::Error),
    /// A map cannot be used.
    #[error("map `{0}` of the name programs cannot be used")]
    Map(&'static str, #[source] Option<libbpf_rs::Error>),
}

/// `struct dns_counters`, of all processors: packets since the programs were loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    /// Packets to name servers.
    pub(super) sent: u64,
    /// Packets from name servers.
    pub(super) received: u64,
    /// Of those sent, what the ring had no room for.
    pub(super) lost_sent: u64,
    /// Of those received.
    pub(super) lost_received: u64,
    /// Of those sent, what was turned away because its control group had its share of a crowded
    /// ring.
    pub(super) shed_sent: u64,
    /// Of those received.
    pub(super) shed_received: u64,
}

/// The attached programs.
pub(super) struct Kernel {
    attached: Attached,
    ring: Ring,
    shares: Shares,
    wanted: Option<bool>,
    adopted: bool,
}

impl Kernel {
    /// Adopts what is attached, or loads and attaches.
    pub(super) fn open(adopt: Option<&BpfIds>) -> Result<Self, Error> {
        let adopted = adopt.and_then(|ids| {
            Attached::adopt(ids)
                .inspect_err(|error| tracing::info!(%error, "cannot adopt, loading anew"))
                .ok()
        });
        let was_adopted = adopted.is_some();
        let attached = match adopted {
            Some(attached) => attached,
            None => load()?,
        };
        let records = map(&attached, "records")?;
        let bytes = usize::try_from(records.max_entries()).unwrap_or_default();
        let ring = Ring::map(records.as_fd(), bytes).map_err(Error::Ring)?;
        Ok(Self {
            shares: Shares::open(&attached),
            attached,
            ring,
            wanted: None,
            adopted: was_adopted,
        })
    }

    /// Hooks that could not be attached, and why.
    pub(super) fn missing(&self) -> &[String] {
        &self.attached.ids().missing
    }

    /// Ids for whoever holds the programs while this process is away.
    pub(super) fn ids(&self) -> &BpfIds {
        self.attached.ids()
    }

    /// Whether an earlier process loaded the programs.
    pub(super) fn adopted(&self) -> bool {
        self.adopted
    }

    /// Kernel id of the ring; ids are unique until the next boot.
    pub(super) fn ring_id(&self) -> u32 {
        let maps = &self.attached.ids().maps;
        maps.get("records").copied().unwrap_or_default()
    }

    /// Switches observation on or off.
    pub(super) fn want(&mut self, wanted: bool) -> Result<(), Error> {
        if self.wanted == Some(wanted) {
            return Ok(());
        }
        map(&self.attached, "settings")?
            .update(
                &0_u32.to_ne_bytes(),
                &u64::from(wanted).to_ne_bytes(),
                MapFlags::ANY,
            )
            .map_err(|error| Error::Map("settings", Some(error)))?;
        self.wanted = Some(wanted);
        Ok(())
    }

    /// What the programs counted so far.
    pub(super) fn counted(&self) -> Result<Counted, Error> {
        let values = map(&self.attached, "counters")?
            .lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| Error::Map("counters", Some(error)))?
            .unwrap_or_default();
        let mut sum = Counted::default();
        for value in values {
            let mut words = value
                .chunks_exact(8)
                .map(|word| word.try_into().map_or(0, u64::from_ne_bytes))
                // The first counts records, for their sequence numbers.
                .skip(1);
            let mut word = || words.next().unwrap_or_default();
            sum.sent += word();
            sum.received += word();
            sum.lost_sent += word();
            sum.lost_received += word();
            sum.shed_sent += word();
            sum.shed_received += word();
        }
        Ok(sum)
    }

    /// Tells of questions turned away since the last time.
    pub(super) fn tell_shed(&mut self, count: u64, outlet: &mut dyn Outlet) {
        self.shares.tell(&self.attached, count, outlet);
    }

    /// Goes back to what was given up last, or to `position` if that is later.
    pub(super) fn restart_at(&mut self, position: u64) {
        self.ring.rewind();
        self.ring.skip_to(position);
    }

    /// Shows what is there, up to a bound; says whether there may be more.
    pub(super) fn read(&mut self, mut each: impl FnMut(&[u8])) -> bool {
        match self.ring.read(BATCH, &mut each) {
            Ok(count) => count >= BATCH.records,
            Err(error) => {
                tracing::warn!(%error, "skipped what was in the ring");
                false
            }
        }
    }

    /// Position behind the last record read.
    pub(super) fn position(&self) -> u64 {
        self.ring.position()
    }

    /// Gives up everything read so far.
    pub(super) fn give_up(&mut self) {
        self.ring.advance();
    }

    /// Becomes readable with a record.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.ring.fd()
    }
}

fn load() -> Result<Attached, Error> {
    let root = control_group_root().ok_or(Error::NoControlGroups)?;
    let root = File::open(root).map_err(Error::Ring)?;
    let types = Btf::find(btf::asked().as_deref()).map_err(Error::NoTypes)?;
    let mut missing = Vec::new();
    let mut attached = Attached::load(
        &OBJECT.0,
        &[],
        &types,
        |_| Ok(()),
        |program| {
            let name = program.name().to_string_lossy().into_owned();
            let answer = program
                .attach_cgroup(root.as_raw_fd())
                .and_then(|link| attached::link(&link));
            match answer {
                Ok(link) => Ok(Some(link)),
                Err(error) if NEEDED.contains(&name.as_str()) => Err(error),
                Err(error) => {
                    missing.push(format!("{name}: {error}"));
                    Ok(None)
                }
            }
        },
    )
    .map_err(Error::Load)?;
    attached.set_missing(missing);
    Ok(attached)
}

fn map<'a>(attached: &'a Attached, name: &'static str) -> Result<&'a MapHandle, Error> {
    attached.map(name).ok_or(Error::Map(name, None))
}
