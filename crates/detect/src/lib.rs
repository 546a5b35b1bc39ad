//! The detection engine: an event or inventory element in, detections out.
//!
//! - **Guarantees**: black list, then white list, then rules, for every element; the same element
//!   with the same count always gives the same verdict, detections in the order of the rules.
//!   Evaluation never panics and takes time linear in the length of the values.
//! - **Invariants**: an [`Engine`] never changes; a changed rule or list means a new engine, swapped
//!   whole. What cannot be compiled is left out and reported, and never keeps the rest from working.
//! - **Not here**: counting (the state store), threat intelligence (asynchronous, in the server),
//!   storing of alerts. [`alerting::decide`] says what becomes of a detection.

#![forbid(unsafe_code)]

pub mod alerting;
mod detection;
mod element;
mod engine;
pub mod example;
pub mod explain;
mod fold;
mod lists;

pub use detection::{BLACKLIST, Detection, Verdict};
pub use element::{Element, Fields, Name};
pub use engine::{Engine, Sample, Scratch};
