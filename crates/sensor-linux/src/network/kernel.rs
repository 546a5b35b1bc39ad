//! The attached programs: their ring, counters, settings and journal.

use std::{
    os::fd::{AsFd, BorrowedFd},
    thread,
    time::{Duration, Instant},
};

use libbpf_rs::{Link, MapCore, MapFlags, MapHandle};
use yinglong_sensor::Outlet;

use super::{
    journal::{self, Note, Page},
    load::load,
    record::{self, Record},
};
use crate::{
    attached::{self, Attached, BpfIds},
    btf::{self, Btf},
    ring::{Limit, Ring},
    share::Shares,
};

/// Records read in one go: a sixteenth of the ring.
const BATCH: Limit = Limit {
    records: 2048,
    bytes: usize::MAX,
};
/// As in the programs: with so much unread the reader should not wait.
const WAKE_BYTES: usize = 256 << 10;
/// How often the ring is looked at when the kernel's signal cannot be waited for.
const LOOK: Duration = Duration::from_millis(10);
/// Why the kernel side cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The kernel refuses the programs.
    #[error("kernel refuses the connection programs; it needs BTF and the agent needs root")]
    Load(#[source] attached::Error),
    /// There are no types to relocate the programs with.
    #[error("{0}")]
    NoTypes(String),
    /// The ring cannot be read.
    #[error("ring of connection records cannot be read")]
    Ring(#[source] std::io::Error),
    /// A map cannot be used.
    #[error("map `{0}` of the connection programs cannot be used")]
    Map(&'static str, #[source] Option<libbpf_rs::Error>),
}

/// The attached programs.
pub(super) struct Kernel {
    attached: Attached,
    ring: Ring,
    shares: Shares,
    settings: Settings,
    /// Of the journal.
    page: Page,
    /// Attached in a way that ends with this process; where there are any, nothing can be adopted.
    bound: Vec<Link>,
    /// Somebody else loaded the programs.
    adopted: bool,
}

/// `struct network_settings`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Settings {
    read_position: u64,
    udp_wanted: bool,
}

impl Settings {
    fn encode(self) -> Vec<u8> {
        let mut value = self.read_position.to_ne_bytes().to_vec();
        value.extend(u32::from(self.udp_wanted).to_ne_bytes());
        value.extend([0; 4]);
        value
    }

    fn decode(value: &[u8]) -> Self {
        let (position, rest) = value.split_at_checked(8).unwrap_or_default();
        Self {
            read_position: position.try_into().map_or(0, u64::from_ne_bytes),
            udp_wanted: rest.iter().any(|&byte| byte != 0),
        }
    }
}

/// `struct network_counters`, of all processors: what happened since the programs were loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counted {
    /// Records made, whether or not they fitted.
    pub(super) produced: u64,
    /// Of them, attempts, accepts and UDP flows.
    pub(super) observations: u64,
    /// Of those, what did not fit.
    pub(super) lost_observations: u64,
    /// Outcomes and handshakes that did not fit, or were turned away.
    pub(super) lost_details: u64,
    /// Observations turned away because their control group had its share of a crowded ring.
    pub(super) shed_observations: u64,
}

/// Something from the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Where in the ring it begins.
    pub(super) position: u64,
    /// Whether the kernel counts it as an observation.
    pub(super) observation: bool,
    /// Absent when it makes no sense.
    pub(super) record: Option<Record>,
}

/// How a look at the ring went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Look {
    /// There may be more.
    pub(super) more: bool,
    /// What was in the ring had to be skipped.
    pub(super) corrupt: bool,
}

impl Kernel {
    /// Adopts what is attached, or loads and attaches. Without control groups the attempt is
    /// reported with its outcome; without the accept hooks the accepting process is looked up;
    /// both are told in [`Kernel::missing`].
    pub(super) fn open(adopt: Option<&BpfIds>) -> Result<Self, Error> {
        let adopted = adopt.and_then(|ids| {
            Attached::adopt(ids)
                .inspect_err(|error| tracing::info!(%error, "cannot adopt, loading anew"))
                .ok()
        });
        let was_adopted = adopted.is_some();
        let (attached, bound) = match adopted {
            Some(attached) => (attached, Vec::new()),
            None => {
                let types = Btf::find(btf::asked().as_deref()).map_err(Error::NoTypes)?;
                load(&types).map_err(Error::Load)?
            }
        };
        let map = map(&attached, "records")?;
        let bytes = usize::try_from(map.max_entries()).unwrap_or_default();
        let ring = Ring::map(map.as_fd(), bytes).map_err(Error::Ring)?;
        let mut kernel = Self {
            shares: Shares::open(&attached),
            attached,
            ring,
            settings: Settings::default(),
            page: Page::default(),
            bound,
            adopted: was_adopted,
        };
        let settings = kernel.get("settings", 0)?.unwrap_or_default();
        kernel.settings = Settings::decode(&settings);
        Ok(kernel)
    }

    /// Hooks that could not be attached, and why.
    pub(super) fn missing(&self) -> &[String] {
        &self.attached.ids().missing
    }

    /// Ids for whoever holds the programs while this process is away; `None` when they end with it.
    pub(super) fn ids(&self) -> Option<&BpfIds> {
        self.bound.is_empty().then(|| self.attached.ids())
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

    /// Starts or stops the observation of UDP.
    pub(super) fn want_udp(&mut self, wanted: bool) -> Result<(), Error> {
        self.set(Settings {
            udp_wanted: wanted,
            ..self.settings
        })
    }

    fn set(&mut self, settings: Settings) -> Result<(), Error> {
        if self.settings == settings {
            return Ok(());
        }
        self.put("settings", 0, &settings.encode())?;
        self.settings = settings;
        Ok(())
    }

    /// What the programs counted so far.
    pub(super) fn counted(&self) -> Result<Counted, Error> {
        let values = map(&self.attached, "counters")?
            .lookup_percpu(&0_u32.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| Error::Map("counters", Some(error)))?;
        let mut counted = Counted::default();
        for value in values.iter().flatten() {
            let mut words = value
                .chunks_exact(8)
                .map(|word| word.try_into().map_or(0, u64::from_ne_bytes));
            for sum in [
                &mut counted.produced,
                &mut counted.observations,
                &mut counted.lost_observations,
                &mut counted.lost_details,
                &mut counted.shed_observations,
            ] {
                *sum += words.next().unwrap_or_default();
            }
            counted.lost_details += words.next().unwrap_or_default();
        }
        Ok(counted)
    }

    /// Tells of observations turned away since the last time.
    pub(super) fn tell_shed(&mut self, count: u64, outlet: &mut dyn Outlet) {
        self.shares.tell(&self.attached, count, outlet);
    }

    /// Goes back to what was given up last, or to `position` if that is later.
    pub(super) fn restart_at(&mut self, position: u64) {
        self.ring.rewind();
        self.ring.skip_to(position);
    }

    /// Takes what is there, up to a bound.
    pub(super) fn read(&mut self, mut take: impl FnMut(Taken)) -> Result<Look, Error> {
        let read = self.ring.read_at(BATCH, |position, bytes| {
            take(Taken {
                position,
                observation: record::is_observation(bytes),
                record: record::decode(bytes),
            });
        });
        self.set(Settings {
            read_position: self.ring.position(),
            ..self.settings
        })?;
        Ok(match read {
            Ok(count) => Look {
                more: count >= BATCH.records,
                corrupt: false,
            },
            Err(error) => {
                tracing::warn!(%error, "skipped what was in the ring");
                Look {
                    more: false,
                    corrupt: true,
                }
            }
        })
    }

    /// Position behind the last record read.
    pub(super) fn position(&self) -> u64 {
        self.ring.position()
    }

    /// Whether everything that is in the ring was read.
    pub(super) fn drained(&self) -> bool {
        self.ring.drained()
    }

    /// Gives up what was read before `position`.
    pub(super) fn give_up(&mut self, position: u64) {
        self.ring.advance_to(position);
    }

    /// Where records begin that should be given up soon, because half the ring is held back.
    pub(super) fn crowded(&self) -> Option<u64> {
        let size = self.ring.size_bytes();
        let keep = size as u64 / 4;
        let crowded = self.ring.held_bytes() > size / 2;
        crowded.then(|| self.ring.position().saturating_sub(keep))
    }

    /// Becomes readable with a record, if there is none that is held back: a ring that is not empty
    /// always is.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        let empty = self.ring.held_bytes() == 0 && self.ring.unread_bytes() == 0;
        empty.then(|| self.ring.fd())
    }

    /// Waits for the next round, or less when the ring is filling.
    pub(super) fn wait(&self, round: Duration) {
        let begun = Instant::now();
        while self.ring.unread_bytes() < WAKE_BYTES {
            let left = round.saturating_sub(begun.elapsed());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(LOOK));
        }
    }

    /// Writes notes, in the order of their numbers, into the journal, where they stay when this process
    /// is killed.
    pub(super) fn write_notes(&mut self, notes: impl Iterator<Item = Note>) -> Result<(), Error> {
        let (mut slots, mut pages) = (Vec::new(), Vec::new());
        let mut filling = None;
        for note in notes {
            let slot = Page::slot(note.number);
            filling = Some(slot);
            if self.page.add(&note) {
                slots.push(slot);
                self.page.write_into(&mut pages);
                filling = None;
            }
        }
        if let Some(slot) = filling {
            slots.push(slot);
            self.page.write_into(&mut pages);
        }
        let count = u32::try_from(slots.len()).unwrap_or_default();
        if count > 1 {
            let keys: Vec<_> = slots.iter().flat_map(|slot| slot.to_ne_bytes()).collect();
            map(&self.attached, "journal")?
                .update_batch(&keys, &pages, count, MapFlags::ANY, MapFlags::ANY)
                .map_err(|error| Error::Map("journal", Some(error)))
        } else if let Some(&slot) = slots.first() {
            self.put("journal", slot, &pages)
        } else {
            Ok(())
        }
    }

    /// The notes before `end`, as far as they were not overwritten. Notes written next are to begin with
    /// that number.
    pub(super) fn notes(&mut self, end: u64) -> Result<Vec<Note>, Error> {
        let begin = end.saturating_sub(journal::NOTES);
        let mut notes: Vec<Note> = Vec::new();
        let mut next = begin;
        while next < end {
            let page = self.get("journal", Page::slot(next))?.unwrap_or_default();
            let known = Page::notes(&page).filter(|note| (next..end).contains(&note.number));
            notes.extend(known);
            next = Page::first_after(next);
        }
        let page = self.get("journal", Page::slot(end))?.unwrap_or_default();
        self.page.resume(end, &page);
        Ok(notes)
    }

    fn get(&self, name: &'static str, key: u32) -> Result<Option<Vec<u8>>, Error> {
        map(&self.attached, name)?
            .lookup(&key.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| Error::Map(name, Some(error)))
    }

    fn put(&self, name: &'static str, key: u32, value: &[u8]) -> Result<(), Error> {
        map(&self.attached, name)?
            .update(&key.to_ne_bytes(), value, MapFlags::ANY)
            .map_err(|error| Error::Map(name, Some(error)))
    }
}

fn map<'a>(attached: &'a Attached, name: &'static str) -> Result<&'a MapHandle, Error> {
    attached.map(name).ok_or(Error::Map(name, None))
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn a_ring_that_nobody_reads_loses_an_exactly_known_number_of_records() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED ring overflow: needs root");
            return;
        }
        let mut kernel = Kernel::open(None).unwrap();
        assert_eq!(kernel.missing(), Vec::<String>::new());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let end = listener.local_addr().unwrap();
        let mut connects = 0;
        // Four records each; the ring has room for 34,952.
        let lost = |counted: Counted| counted.lost_observations + counted.shed_observations;
        while lost(kernel.counted().unwrap()) < 1000 {
            assert!(connects < 20_000, "the ring never fills");
            let client = TcpStream::connect(end).unwrap();
            drop((client, listener.accept().unwrap()));
            connects += 1;
        }
        assert!(kernel.counted().unwrap().lost_details > 0);

        // Other tests connect meanwhile: the sum holds at some moment, not at every one.
        let mut taken = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            loop {
                let look = kernel.read(|record| taken.push(record)).unwrap();
                assert!(!look.corrupt);
                if !look.more {
                    break;
                }
                kernel.give_up(kernel.position());
            }
            kernel.give_up(kernel.position());
            let counted = kernel.counted().unwrap();
            let read = taken.len() as u64;
            let observed = taken.iter().filter(|taken| taken.observation).count() as u64;
            if counted.produced == read + lost(counted) + counted.lost_details
                && counted.observations == observed + lost(counted)
            {
                break;
            }
            assert!(Instant::now() < deadline, "{read} read, {counted:?}");
        }
        assert!(taken.iter().all(|taken| taken.record.is_some()));
    }
}
