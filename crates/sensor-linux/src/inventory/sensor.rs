//! The sensor: collects every list in turn, and hands over those that changed.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};
use yinglong_model::{
    Observation,
    host::SensorStatus,
    inventory::{Element, Inventory, InventoryType},
};
use yinglong_sensor::{Context, Outlet, Sensor};

use super::{Error, Root, crontab, listening, processes, service, startup, users, webroot};
use crate::standing::Standing;

/// Elements of a list beyond this number are left out, so that a list fits a record.
const ELEMENT_LIMIT: usize = 20_000;

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
    Ok(Box::new(Collector {
        root,
        web_roots: options.web_roots,
        failed: Vec::new(),
    }))
}

struct Collector {
    root: Root,
    web_roots: Box<dyn Fn(Vec<PathBuf>) + Send>,
    failed: Vec<InventoryType>,
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
            let wait = Context::PATIENCE / 2;
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
    fn cycle(&mut self, outlet: &mut dyn Outlet) -> Result<(), yinglong_sensor::Error> {
        self.failed.clear();
        for kind in InventoryType::ALL {
            match collect(&self.root, kind) {
                Ok(list) => report(kind, list, outlet),
                Err(error) => {
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(kind = kind.as_str(), %error, cause, "inventory not collected");
                    self.failed.push(kind);
                }
            }
        }
        outlet.commit()?;
        (self.web_roots)(webroot::collect(&self.root));
        Ok(())
    }
}

fn collect(root: &Root, kind: InventoryType) -> Result<Vec<Element>, Error> {
    match kind {
        InventoryType::Userlist => users::collect(root),
        InventoryType::Listening => listening::collect(root),
        InventoryType::Service => service::collect(root),
        InventoryType::Startup => startup::collect(root),
        InventoryType::Crontab => crontab::collect(root),
        InventoryType::Processlist => processes::collect(root),
    }
}

/// Emits the list if it is not the one that was sent last.
fn report(kind: InventoryType, mut data: Vec<Element>, outlet: &mut dyn Outlet) {
    if data.len() > ELEMENT_LIMIT {
        tracing::warn!(
            kind = kind.as_str(),
            elements = data.len(),
            limit = ELEMENT_LIMIT,
            "only the first elements of the list are sent"
        );
        data.truncate(ELEMENT_LIMIT);
    }
    let mark = format!("inventory.{}", kind.as_str());
    let hash = fingerprint(&data);
    if outlet.marked(&mark).as_deref() == Some(hash.as_str()) {
        return;
    }
    outlet.emit(Observation::Inventory(Inventory { kind, data }));
    outlet.mark(&mark, hash);
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
