//! What becomes of an answer that came after the step: an alert like every other.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use yinglong_detect::Scratch;
use yinglong_store::StateStore;

use super::Question;
use crate::{
    live::Live,
    notify::Notifier,
    pipeline::Step,
    ports::now,
    settings::Settings,
    worker::{Progress, publish},
};

/// Where alerts go. Holds nothing that a server wants to close: a request may be under way for
/// seconds after the server has stopped.
pub(crate) struct Answers {
    pub(crate) state: Weak<dyn StateStore>,
    pub(crate) settings: Weak<Settings>,
    pub(crate) live: Live,
    pub(crate) notifier: Notifier,
    pub(crate) progress: Arc<Progress>,
    /// Held while identities of alerts are looked up and alerts are stored, so that the pipeline
    /// and an answer do not both raise the first alert of an identity.
    pub(crate) writing: Arc<Mutex<()>>,
}

impl Answers {
    /// Raises or counts the alerts of events whose subject is black.
    pub(super) fn deliver(
        &self,
        questions: Vec<Question>,
        words: &str,
    ) -> Result<(), yinglong_store::Error> {
        let (Some(state), Some(settings)) = (self.state.upgrade(), self.settings.upgrade()) else {
            return Ok(());
        };
        let settings = settings.current();
        let learn = settings.config.server.learn;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut scratch = Scratch::default();
        let mut step = Step::new(&settings.engine, &mut scratch, state.as_ref(), learn);
        for question in questions {
            if let Some(detection) = super::answered(&question.subject, words) {
                step.answered(&question.event, detection, now())?;
            }
        }
        let outcome = step.finish();
        state.apply(&outcome.changes)?;
        publish(outcome, &self.progress, &self.live, &self.notifier);
        Ok(())
    }
}
