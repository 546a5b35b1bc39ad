//! Events on their way to the outlet, in the order of the ring: those behind one whose image is not
//! hashed yet wait with it.
//!
//! Nothing is committed while something waits, so a killed agent finds everything in the ring
//! again.

use std::time::Duration;

use yinglong_model::{EventData, Observation};
use yinglong_sensor::Outlet;

use super::{
    hashing::{Answer, Hashing, Look, Wanted},
    record::Image,
};
use crate::files::Skipped;

/// Longest wait for hashes. A file of 32 MB that is in memory takes less.
const PATIENCE: Duration = Duration::from_millis(200);

/// Events of one look at the source.
pub(super) struct Batch<'b> {
    outlet: &'b mut dyn Outlet,
    hashing: &'b mut Hashing,
    limit_bytes: u64,
    held: Vec<(Observation, Option<Image>)>,
}

impl<'b> Batch<'b> {
    /// At most `limit_bytes` of an image are hashed.
    pub(super) fn new(
        outlet: &'b mut dyn Outlet,
        hashing: &'b mut Hashing,
        limit_bytes: u64,
    ) -> Self {
        hashing.begin();
        Self {
            outlet,
            hashing,
            limit_bytes,
            held: Vec::new(),
        }
    }

    pub(super) fn outlet(&mut self) -> &mut dyn Outlet {
        self.outlet
    }

    /// Puts an execution in, with its hashes if they are known; `wanted` is made only if not.
    pub(super) fn execution(
        &mut self,
        mut event: Observation,
        image: Option<Image>,
        wanted: impl FnOnce(Image) -> Wanted,
    ) {
        let Some(image) = image else {
            fill(&mut event, Err(Skipped::Gone));
            return self.put(event, None);
        };
        let answer = match self.hashing.look(&image, self.limit_bytes) {
            Look::Known(answer) => answer,
            Look::Waiting => return self.put(event, Some(image)),
            Look::Unknown if self.hashing.ask(wanted(image)) => {
                return self.put(event, Some(image));
            }
            Look::Unknown => Err(Skipped::Busy),
        };
        fill(&mut event, answer);
        self.put(event, None);
    }

    /// Puts in what needs no hash.
    pub(super) fn event(&mut self, event: Observation) {
        self.put(event, None);
    }

    fn put(&mut self, event: Observation, waits: Option<Image>) {
        if self.held.is_empty() && waits.is_none() {
            self.outlet.emit(event);
        } else {
            self.held.push((event, waits));
        }
    }

    /// Waits for what is missing, and hands everything over. `hurried` says that more events are
    /// waiting at the source than there is time for.
    pub(super) fn finish(mut self, hurried: impl Fn() -> bool) {
        if self.held.is_empty() {
            return;
        }
        if !hurried() {
            self.hashing.wait(PATIENCE, hurried);
        }
        for (mut event, waited) in std::mem::take(&mut self.held) {
            if let Some(image) = waited {
                fill(&mut event, self.hashing.answer(&image));
            }
            self.outlet.emit(event);
        }
    }
}

fn fill(event: &mut Observation, answer: Answer) {
    let Observation::Event {
        data: EventData::Process(process),
        ..
    } = event
    else {
        return;
    };
    match answer {
        Ok(hashes) => {
            process.md5 = Some(hashes.md5);
            process.sha256 = Some(hashes.sha256);
        }
        Err(reason) => process.hash_skipped = Some(reason.as_str().to_owned()),
    }
}
