//! Events on their way to the outlet, in the order of the ring: those behind one whose image is not
//! hashed yet wait with it.
//!
//! Nothing is committed while something waits, so a killed agent finds everything in the ring
//! again.

use yinglong_model::{EventData, Observation};
use yinglong_sensor::Outlet;

use super::{
    hashing::{Answer, Hashing, Look, Wanted},
    record::Image,
};
use crate::files::Skipped;

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
            self.hashing.wait(hurried);
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

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

    use yinglong_model::{DropReason, Timestamp, event::Process};
    use yinglong_sensor::Error;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Keeps what was emitted.
    #[derive(Default)]
    struct Kept(Vec<Process>);

    impl Outlet for Kept {
        fn emit(&mut self, observation: Observation) {
            if let Observation::Event {
                data: EventData::Process(process),
                ..
            } = observation
            {
                self.0.push(*process);
            }
        }

        fn lose(&mut self, _reason: DropReason, _count: u64) {}
        fn filtered(&mut self, _count: u64) {}
        fn mark(&mut self, _name: &str, _value: String) {}

        fn marked(&self, _name: &str) -> Option<String> {
            None
        }

        fn commit(&mut self) -> Result<(), Error> {
            Ok(())
        }
    }

    fn event(pid: u32) -> Observation {
        Observation::Event {
            occurred_at: Timestamp::from_secs(1),
            data: EventData::Process(Box::new(Process {
                pid,
                ..Process::default()
            })),
        }
    }

    fn image(path: &Path) -> Image {
        Image::of(&fs::metadata(path).unwrap())
    }

    /// As if the file had been executed long after its last change.
    fn wanted(path: &Path) -> impl Fn(Image) -> Wanted + '_ {
        move |image| Wanted {
            image,
            pid: u32::MAX,
            ppid: u32::MAX,
            path: path.to_owned(),
            inside: false,
            executed: Duration::from_secs(
                u64::try_from(fs::metadata(path).unwrap().ctime()).unwrap() + 60,
            ),
        }
    }

    /// Executes a small file, a large one, the small one again and something without a file.
    fn batch(
        hashing: &mut Hashing,
        folder: &Path,
        limit_bytes: u64,
        hurried: bool,
    ) -> Vec<Process> {
        let (small, large) = (folder.join("small"), folder.join("large"));
        let mut outlet = Kept::default();
        let mut batch = Batch::new(&mut outlet, hashing, limit_bytes);
        batch.execution(event(1), Some(image(&small)), wanted(&small));
        batch.execution(event(2), Some(image(&large)), wanted(&large));
        batch.execution(event(3), Some(image(&small)), wanted(&small));
        batch.execution(event(4), None, wanted(&small));
        batch.event(event(5));
        batch.finish(|| hurried);
        outlet.0
    }

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("small"), "abc").unwrap();
        fs::write(folder.path().join("large"), "x".repeat(1000)).unwrap();
        folder
    }

    fn reasons(seen: &[Process]) -> Vec<Option<&str>> {
        seen.iter()
            .map(|event| event.hash_skipped.as_deref())
            .collect()
    }

    #[test]
    fn events_keep_their_order_whether_they_wait_or_not() {
        let (folder, mut hashing) = (folder(), Hashing::start(PATIENCE).unwrap());
        for round in 0..2 {
            let seen = batch(&mut hashing, folder.path(), 100, false);
            let pids: Vec<u32> = seen.iter().map(|event| event.pid).collect();
            assert_eq!(pids, [1, 2, 3, 4, 5], "{round}");
            let skipped = [None, Some("too_large"), None, Some("gone"), None];
            assert_eq!(reasons(&seen), skipped);
            assert!(seen[0].sha256.is_some() && seen[0].md5 == seen[2].md5);
            assert_eq!((&seen[4].sha256, &seen[1].md5), (&None, &None));
        }
    }

    #[test]
    fn a_reader_in_a_hurry_waits_for_no_hash() {
        let (folder, mut hashing) = (folder(), Hashing::start(PATIENCE).unwrap());
        let seen = batch(&mut hashing, folder.path(), 100, true);
        assert_eq!(reasons(&seen)[0], Some("busy"));
        assert_eq!(seen.len(), 5);
        // It was hashed all the same, for the next time.
        hashing.wait(|| false);
        let seen = batch(&mut hashing, folder.path(), 100, true);
        assert_eq!(reasons(&seen)[0], None);
    }
}
