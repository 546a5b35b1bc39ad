//! The web roots of this host, shared between who finds them and who watches them.

use std::{
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
};

/// Directories web servers serve. Cheap to clone; all clones share one list.
#[derive(Debug, Clone, Default)]
pub struct WebRoots(Arc<RwLock<Vec<PathBuf>>>);

impl WebRoots {
    /// Replaces the list; who watches it follows within a second.
    pub fn set(&self, roots: Vec<PathBuf>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = roots;
    }

    /// The list as last set.
    pub fn get(&self) -> Vec<PathBuf> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
