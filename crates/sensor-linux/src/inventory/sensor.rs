//! The sensor: collects every list in turn, and hands over those that changed.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use sha2::{Digest, Sha256};
use yinglong_model::{
    Observation, Timestamp,
    host::SensorStatus,
    inventory::{Element, Inventory, InventoryType},
};
use yinglong_sensor::{Context, Outlet, Sensor};

use super::{
    Collected, Error, Root, container, crontab, listening, module, package, processes, service,
    sshkey, startup, sudoer, users, webroot,
};
use crate::standing::Standing;

/// Elements beyond this size together are left out, so that a list fits a record, which may have
/// `yinglong_proto::MAX_RECORD_BYTES` (4 MiB).
const LIST_LIMIT_BYTES: usize = 3 << 20;

/// A list of so many elements is worth giving memory back for.
const LONG: usize = 1000;

/// What the sensor needs.
pub struct Options {
    /// Root of the host to look at, `/` in production.
    pub root: PathBuf,
    /// Is told the web roots once per cycle, for those who watch files there.
    pub web_roots: Box<dyn Fn(Vec<PathBuf>) + Send>,
}

/// Prepares the sensor.
///
/// # Errors
/// The proc file system is not mounted.
pub fn open(options: Options) -> Result<Box<dyn Sensor>, yinglong_sensor::Error> {
    let root = Root::at(options.root);
    if root.metadata("/proc/stat").is_none() && root.is_host() {
        return Err(yinglong_sensor::Error::Unavailable {
            source_name: "inventory",
            reason: "`/proc` is not mounted; mount it with `mount -t proc proc /proc`".to_owned(),
        });
    }
    Ok(Box::new(Collector::new(root, options.web_roots)))
}

struct Collector {
    root: Root,
    web_roots: Box<dyn Fn(Vec<PathBuf>) + Send>,
    failed: Vec<InventoryType>,
    /// What is missing from a list, and why.
    notes: BTreeMap<InventoryType, Vec<String>>,
    /// State of the packages' databases when their list was collected last.
    packages: Option<package::Stamp>,
    lasting: listening::Lasting,
    /// A long list was collected in this cycle.
    long: bool,
}

impl Sensor for Collector {
    fn stream(&self) -> &'static str {
        "inventory"
    }

    fn status(&self) -> SensorStatus {
        let mut reasons = Vec::new();
        if !self.failed.is_empty() {
            let names: Vec<&str> = self.failed.iter().map(|kind| kind.as_str()).collect();
            reasons.push(format!("could not be collected: {}", names.join(", ")));
        }
        let oversized = self.root.oversized();
        if !oversized.is_empty() {
            let paths: Vec<_> = oversized
                .iter()
                .map(|path| path.to_string_lossy())
                .collect();
            reasons.push(format!("only the start is read of {}", paths.join(", ")));
        }
        for (kind, notes) in &self.notes {
            reasons.extend(
                notes
                    .iter()
                    .map(|note| format!("{}: {note}", kind.as_str())),
            );
        }
        SensorStatus {
            stream: self.stream().to_owned(),
            source: "files".to_owned(),
            running: true,
            reason: reasons.join("; "),
        }
    }

    fn run(
        &mut self,
        context: &Context,
        outlet: &mut dyn Outlet,
    ) -> Result<(), yinglong_sensor::Error> {
        let mut standing = Standing::default();
        standing.tell(self, outlet);
        while !context.stopping() {
            let config = context.config();
            let started = Instant::now();
            self.cycle(outlet)?;
            standing.tell(self, outlet);
            let cycle = Duration::from_secs(60 * u64::from(config.client.cycle.max(1)));
            let wait = Context::PATIENCE;
            while !context.stopping()
                && context.config().revision == config.revision
                && context.config().client.cycle == config.client.cycle
                && started.elapsed() < cycle
            {
                std::thread::sleep(wait.min(cycle.saturating_sub(started.elapsed())));
            }
        }
        Ok(())
    }
}

impl Collector {
    fn new(root: Root, web_roots: Box<dyn Fn(Vec<PathBuf>) + Send>) -> Self {
        Self {
            root,
            web_roots,
            failed: Vec::new(),
            notes: BTreeMap::new(),
            packages: None,
            lasting: listening::Lasting::default(),
            long: false,
        }
    }

    fn cycle(&mut self, outlet: &mut dyn Outlet) -> Result<(), yinglong_sensor::Error> {
        self.failed.clear();
        for kind in InventoryType::ALL {
            match self.collect(kind) {
                Ok(Some(list)) => self.report(kind, list, outlet),
                Ok(None) => (),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(kind = kind.as_str(), %error, cause, "inventory not collected");
                    self.failed.push(kind);
                }
            }
        }
        if let Err(error) = outlet.commit() {
            // What did not reach the spool is collected again.
            self.packages = None;
            return Err(error);
        }
        (self.web_roots)(webroot::collect(&self.root));
        if std::mem::take(&mut self.long) {
            give_back();
        }
        Ok(())
    }

    /// The list; `None` when it is known to be what it was in the cycle before.
    fn collect(&mut self, kind: InventoryType) -> Result<Option<Collected>, Error> {
        let root = &self.root;
        let list = match kind {
            InventoryType::Userlist => users::collect(root)?.into(),
            InventoryType::Listening => listening::collect(root, &mut self.lasting)?.into(),
            InventoryType::Service => service::collect(root)?.into(),
            InventoryType::Startup => startup::collect(root)?.into(),
            InventoryType::Crontab => crontab::collect(root)?.into(),
            InventoryType::Processlist => processes::collect(root)?.into(),
            InventoryType::Module => module::collect(root)?.into(),
            InventoryType::Sshkey => sshkey::collect(root)?,
            InventoryType::Sudoer => sudoer::collect(root)?,
            InventoryType::Container => {
                container::collect(root, Timestamp::from(SystemTime::now()))?
            }
            InventoryType::Package => {
                // Taken before the databases are read: what changes meanwhile is seen next time.
                let stamp = package::stamp(root)?;
                if self.packages.as_ref() == Some(&stamp) {
                    return Ok(None);
                }
                self.packages = None;
                let list = package::collect(root);
                if package::stamp(root)? != stamp {
                    // Half of one state and half of another is neither; the next cycle sees more.
                    return Ok(None);
                }
                let list = list?;
                self.packages = Some(stamp);
                list
            }
        };
        Ok(Some(list))
    }

    /// Emits the list if it is not the one that was sent last.
    fn report(&mut self, kind: InventoryType, list: Collected, outlet: &mut dyn Outlet) {
        let Collected {
            elements: mut data,
            mut left_out,
            mut notes,
            ..
        } = list;
        self.long |= data.len() >= LONG;
        left_out += fit(&mut data, LIST_LIMIT_BYTES);
        if left_out > 0 {
            notes.push(format!(
                "{left_out} elements are left out, the list is too long"
            ));
        }
        if self.notes.get(&kind).map(Vec::as_slice).unwrap_or_default() != notes {
            tracing::warn!(kind = kind.as_str(), ?notes, "an inventory is not complete");
        }
        self.notes.insert(kind, notes);
        let mark = format!("inventory.{}", kind.as_str());
        let hash = fingerprint(&data);
        if outlet.marked(&mark).as_deref() == Some(hash.as_str()) {
            return;
        }
        outlet.emit(Observation::Inventory(Inventory { kind, data }));
        outlet.mark(&mark, hash);
    }
}

/// Gives back what long lists needed. The C library keeps freed memory for the next time, which with
/// packages is weeks away: of 3,000 packages 5 MiB would stay.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointers and locks what it walks, malloc_trim(3).
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Shortens a list to what fits in so many bytes, and counts what does not.
fn fit(list: &mut Vec<Element>, limit_bytes: usize) -> usize {
    // A key, a length and a tag around every text and every field.
    const AROUND_BYTES: usize = 10;
    let size = |element: &Element| {
        let fields = element
            .iter()
            .map(|(name, value)| name.len() + value.len() + AROUND_BYTES);
        AROUND_BYTES + fields.sum::<usize>()
    };
    let mut used = 0;
    let kept = list
        .iter()
        .take_while(|element| {
            used += size(element);
            used <= limit_bytes
        })
        .count();
    let left_out = list.len() - kept;
    list.truncate(kept);
    left_out
}

/// SHA-256 over the fields with their lengths, in hexadecimal.
fn fingerprint(list: &[Element]) -> String {
    let mut digest = Sha256::new();
    for element in list {
        digest.update((element.len() as u64).to_le_bytes());
        for text in element.iter().flat_map(|(name, value)| [name, value]) {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text.as_bytes());
        }
    }
    digest
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests;
