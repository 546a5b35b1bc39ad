//! See the module's own note.
