//! Teaches the engine what is frequent on this fleet.

use std::{sync::Arc, thread};

use yinglong_detect::{Element, Sample};
use yinglong_model::Event;
use yinglong_rules::Class;

use crate::settings::Settings;

/// Events between two that are kept.
const STRIDE: u64 = 8;
/// Events after which the engine is trained for the first time; the time doubles after each.
const FIRST: u64 = 20_000;
/// Longest stretch of events between two trainings.
const LONGEST: u64 = 20_000_000;

/// Keeps a part of what goes by, and has the engine compiled again when enough was seen.
pub(crate) struct Training {
    sample: Sample,
    seen: u64,
    due: u64,
    interval: u64,
}

impl Default for Training {
    fn default() -> Self {
        Self {
            sample: Sample::default(),
            seen: 0,
            due: FIRST,
            interval: FIRST,
        }
    }
}

impl Training {
    /// Takes note of judged events. Compiling happens on a thread of its own.
    pub(crate) fn watch(&mut self, events: &[Event], settings: &Arc<Settings>) {
        for event in events {
            self.seen += 1;
            if self.seen.is_multiple_of(STRIDE) {
                self.sample.keep(&Element {
                    class: Class::from(event.data.event_type()),
                    system: event.system,
                    fields: &event.data,
                    count: None,
                    learn: false,
                });
            }
        }
        if self.seen < self.due {
            return;
        }
        self.interval = (self.interval * 2).min(LONGEST);
        self.due = self.seen + self.interval;
        let sample = std::mem::take(&mut self.sample);
        let settings = Arc::clone(settings);
        let spawned = thread::Builder::new()
            .name("training".to_owned())
            .spawn(move || settings.train(sample));
        if let Err(error) = spawned {
            // The engine only stays as fast as it is.
            tracing::warn!(%error, "the engine was not trained");
        }
    }
}
