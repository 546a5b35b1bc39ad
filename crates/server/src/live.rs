//! What happens right now, for whoever is watching.

use std::sync::Arc;

use tokio::sync::broadcast;
use yinglong_model::{Alert, Event};

/// Items a slow watcher may lag behind before it misses some (and is told how many).
const BACKLOG: usize = 4096;

/// One thing that just happened.
#[derive(Debug, Clone)]
pub enum Item {
    /// An event was taken in.
    Event(Arc<Event>),
    /// An alert was raised, repeated or moved.
    Alert(Arc<Alert>),
}

/// Cheap to clone; all clones feed the same watchers.
#[derive(Debug, Clone)]
pub struct Live(broadcast::Sender<Item>);

impl Default for Live {
    fn default() -> Self {
        Self(broadcast::channel(BACKLOG).0)
    }
}

impl Live {
    /// Shows an item to everybody who watches.
    pub fn show(&self, item: Item) {
        // Nobody watching is the usual case, not a failure.
        let _ = self.0.send(item);
    }

    /// Whether anybody watches; when not, items need not be made.
    pub fn is_watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Begins to watch.
    pub fn watch(&self) -> broadcast::Receiver<Item> {
        self.0.subscribe()
    }
}
