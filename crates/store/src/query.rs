//! The search language: `type:process | ip:192.0.2.1 | name:x`.

/// A parsed search.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Query {}
