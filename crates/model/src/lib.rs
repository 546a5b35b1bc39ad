//! Vocabulary of Yinglong: what agents observe, what servers store, what people configure.
//!
//! - **Guarantees**: every name users of the classic system know is kept, in JSON exactly as they
//!   know it; everything else is an addition.
//! - **Invariants**: an [`Event`]'s id is a pure function of agent, epoch and sequence, so a write
//!   can be repeated on any backend without a second copy appearing.
//! - **Formats**: JSON as the classic documents have it, times RFC 3339 in UTC. Unset optional
//!   fields are left out.
//! - **Not here**: I/O, clocks, randomness, wire encoding (`yinglong-proto`).

#![forbid(unsafe_code)]

/// Gives an enum the numeric form that documents use, and refuses other numbers.
macro_rules! numeric_code {
    ($name:ident { $($variant:ident = $code:literal),* }) => {
        impl $name {
            /// Number in documents.
            pub const fn code(self) -> u8 {
                self as u8
            }

            /// The value of that number.
            pub const fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_u8(self.code())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let code = <u8 as serde::Deserialize>::deserialize(deserializer)?;
                Self::from_code(code).ok_or_else(|| {
                    serde::de::Error::custom(format!(
                        concat!("{} is none of ", $(stringify!($code), " "),*), code
                    ))
                })
            }
        }
    };
}
pub(crate) use numeric_code;

pub mod alert;
pub mod config;
pub mod event;
pub mod host;
pub mod id;
pub mod inventory;
pub mod ladder;
pub mod ledger;
pub mod record;
pub mod rule;
pub mod scan;
pub mod statistics;
pub mod task;
pub mod timestamp;
pub mod worth;

pub use alert::Alert;
pub use event::{Event, EventData, EventType};
pub use id::{AgentId, EventId, ProcessKey};
pub use inventory::{Inventory, InventoryType};
pub use ledger::{DropReason, Ledger};
pub use record::{Observation, Record};
pub use timestamp::Timestamp;
pub use worth::Worth;
