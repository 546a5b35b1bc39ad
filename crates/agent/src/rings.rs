//! How full the rings between kernel and agent are.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use yinglong_sensor_linux::attached::{BpfIds, RingFill, ring_fill};

use crate::sensors::Loaded;

/// Remembers which rings there are. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Rings(Arc<Mutex<BTreeMap<&'static str, BpfIds>>>);

impl Rings {
    /// Takes in what a sensor loaded.
    pub fn loaded(&self, loaded: &Loaded) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (stream, ids) in [
            ("process", &loaded.process),
            ("connection", &loaded.network),
            ("dns", &loaded.dns),
            ("syscall", &loaded.syscall),
        ] {
            if let Some(ids) = ids {
                known.insert(stream, ids.clone());
            }
        }
    }

    /// Fill by stream; a stream whose source has no ring is left out.
    pub fn fill(&self) -> BTreeMap<String, RingFill> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let fills = known.iter();
        fills
            .filter_map(|(stream, ids)| Some(((*stream).to_owned(), ring_fill(ids)?)))
            .collect()
    }
}
