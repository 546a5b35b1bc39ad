//! Changes of files through names that are not watched, told of those that are.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, sync::Arc};

use yinglong_model::Timestamp;

use super::{
    Fanotify, FindActor,
    directories::Directories,
    links::Parked,
    parse::Event,
    steps::{content_steps, is_nameless},
};
use crate::files::change::{Batch, Kind, Note, Other, Step};

impl Fanotify {
    /// A change the kernel has no name for: of a file that has none, or was opened by its handle.
    pub(super) fn take_nameless(
        &mut self,
        event: &Event<'_>,
        at: Timestamp,
        actor: FindActor<'_>,
        batch: &mut Batch,
    ) {
        let Some(target) = event.target else {
            return;
        };
        if event.mask & libc::FAN_ONDIR != 0 {
            return;
        }
        // It is the one sign of a further name as well, so that it tells no change by itself.
        if event.mask & libc::FAN_ATTRIB != 0 {
            self.links.count_changed(target);
        }
        let steps = content_steps(event.mask & !libc::FAN_ATTRIB);
        if steps.is_empty() {
            return;
        }
        if self.links.names(target).is_empty() && !self.links.is_sought(target) {
            // A file that was made without a name has no watched one until it gets it.
            if event.directory.is_some() || !self.links.is_watched(target) {
                return;
            }
            self.links.seek(target);
        }
        let change = Parked {
            steps,
            via: None,
            actor: actor(),
            at,
        };
        self.tell_or_park(target, change, batch);
    }

    /// A change of a name that is not watched, perhaps of a file that is under another.
    pub(super) fn take_outside(
        &mut self,
        event: &Event<'_>,
        key: &[u8],
        at: Timestamp,
        actor: FindActor<'_>,
        batch: &mut Batch,
    ) {
        let Some(target) = event.target else {
            return;
        };
        if event.mask & libc::FAN_ONDIR != 0 {
            return;
        }
        let linked = event.mask & libc::FAN_CREATE != 0
            && self.links.is_link(target)
            && self.links.is_watched(target);
        if self.links.is_idle() && !linked {
            return;
        }
        let known = !self.links.names(target).is_empty();
        if !linked && !known && !self.links.is_sought(target) {
            return;
        }
        let mut steps = content_steps(event.mask);
        if linked {
            // A further name changes an attribute of the file: how many it has.
            steps.insert(0, Step::Changed(Kind::Chmod));
        }
        if steps.is_empty() {
            return;
        }
        if linked {
            self.links.seek(target);
        }
        let directory = self.directories.path(key);
        let via = directory.map(|path| path.join(OsStr::from_bytes(event.name)));
        let via = via.filter(|via| !is_nameless(event, via)).map(Arc::from);
        let change = Parked {
            steps,
            via,
            actor: actor(),
            at,
        };
        self.tell_or_park(target, change, batch);
    }

    /// Learns watched names that files get, and forgets those they lose.
    pub(super) fn keep_links(&mut self, event: &Event<'_>, target: &[u8], path: &Arc<Path>) {
        if event.mask & libc::FAN_CREATE != 0 {
            self.links.came(target);
            if self.links.is_link(target) {
                self.links.learn(target, Arc::clone(path));
                self.links.seek(target);
            }
        }
        if event.mask & libc::FAN_DELETE != 0 {
            self.links.forget(target, path);
            self.links.went(target);
        }
    }

    /// Reports a change under the watched names of the file, or lets it wait until they are known.
    pub(super) fn tell_or_park(&mut self, target: &[u8], change: Parked, batch: &mut Batch) {
        if change.steps.is_empty() {
            return;
        }
        if !self.links.is_sought(target) {
            return self.tell_links(target, &change, batch);
        }
        if let Some(change) = self.links.park(target, change) {
            batch.overflowed += 1;
            self.tell_links(target, &change, batch);
        }
    }

    /// Reports a change of the file `target` under its watched names but the one it was made
    /// through.
    pub(super) fn tell_links(&mut self, target: &[u8], change: &Parked, batch: &mut Batch) {
        for path in self.links.names(target) {
            if change.via.as_ref() == Some(&path) {
                continue;
            }
            if !Directories::is_of(&path, target) {
                self.links.forget(target, &path);
                continue;
            }
            for step in &change.steps {
                batch.notes.push(Note {
                    path: Arc::clone(&path),
                    step: *step,
                    actor: change.actor.clone(),
                    at: change.at,
                    other: change.via.clone().map(Other::Link),
                });
            }
        }
    }
}
