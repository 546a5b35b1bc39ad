//! Several matches together: correlations over sliding windows, and stories of alerts.
//!
//! [`Correlator`] takes matches of rules and says which correlations
//! ([`yinglong_rules::correlation`], as Sigma 2.1 has them) hold. [`Stories`] groups the alerts that
//! come out of everything by who did it; how is said there. [`logins`] has detectors of guessed
//! passwords that need no rule file.
//!
//! - **Guarantees**: the same matches in the same order give the same answers, whatever the hash
//!   seeds, and with any number of snapshots and restores in between (only what the limit on bytes
//!   gives up may differ, for a restored window is packed tighter); memory stays within [`Limits`];
//!   every match offered to a correlation is in exactly one counter.
//! - **Invariants**: groups are compared by their whole key, never by a hash; measures are exact and
//!   independent of the order in which matches came, so a window is always equal to one computed
//!   from scratch (that is what the tests compare with).
//! - **Format**: snapshots are a header (kind, version, CRC-32C) and a protocol buffer.
//! - **Not here**: which rule matches (`yinglong-detect`), reading of correlations
//!   (`yinglong-rules`), what becomes of an alert, clocks, files.
//!
//! # Windows
//!
//! A match is judged when it arrives; nothing happens without one. For each time `t` of a match of
//! the group with the new match in `[t - timespan, t]`, both ends included, the measure over the
//! matches held there is compared with the condition: for a match in order that is one window, for
//! one out of order all it belongs to. Consequences people should know:
//!
//! - An upper bound (`lt`, `lte`) or a `not` looks at the window as it stands: `a and not b` holds
//!   if there was no `b` up to `a`, even if one comes a moment later.
//! - Matches at the same time count as in order for `temporal_ordered`: many logs know seconds only.
//!   With a condition, one way to satisfy it must be found in the order of the members; what is
//!   negated must not be in the window at all. With a lower bound `n`, any `n` members in order.
//! - Percentiles are by nearest rank; the median of an even number is the mean of the middle two.
//!   Sums are in fixed point with a resolution of 6e-8; numbers beyond ±2^80 count as none.
//! - An event that matches several members of a counting kind counts once, in temporal kinds it is
//!   seen as each. Delivered again it counts once.
//! - A match without a value to group by is not counted, since "unknown" has nothing in common with
//!   "unknown"; an empty value is a value. Without group-by all hosts count together; [`HOST`] as a
//!   group-by name stands for the host.
//!
//! Matches are kept for timespan plus [`Limits::lateness`] behind the newest of their group; what is
//! older on arrival is late, and left out. A clock ahead of the server's by more than
//! [`Limits::ahead`] is taken as the server's, so that it cannot make all others late.
//!
//! # Firing once
//!
//! When a condition holds, the times from the first to the last match of the window have fired. A
//! window with a match in such a stretch does not fire again: what goes on is told again only when
//! the window has left what was told, about once per timespan. So one match arriving late, or one
//! more failed login, is not a second alert, and an attack that lasts does not fall silent.
//!
//! # Chains
//!
//! What fired is a match of the correlation's id at the time of its last match, with the values of
//! its group under their group-by names, and the fields of the event that made it hold. Circles are
//! refused. A correlation that another takes without `generate` is no alert ([`Fired::alert`]).
//!
//! # When it is too much
//!
//! A full group gives up its oldest eighth; a correlation with too many groups the least recently
//! touched; too many bytes are taken from the correlation that holds most, so that who makes up
//! values for one does not make the others forget. All of it is counted. An attacker who can make up
//! values can make *that* correlation forget: `evicted_groups` and `evicted_bytes` say so.
//!
//! # Restart
//!
//! A snapshot carries the caller's log position. After a crash: restore it, and observe again all
//! that came after that position; what fires then has the same [`Fired::reference`] as before.
//! State of a correlation is kept if its meaning is the same, whatever its texts say now.

#![forbid(unsafe_code)]

mod correlator;
mod frame;
mod key;
mod limits;
pub mod logins;
mod measure;
mod observed;
mod order;
mod plan;
mod reference;
mod snapshot;
pub mod stories;
mod window;

pub use correlator::Correlator;
pub use frame::SnapshotError;
pub use limits::{Counters, Limits};
pub use logins::{LoginOptions, login_detectors};
pub use observed::{Fired, HOST, Match};
pub use snapshot::Restored;
pub use stories::Stories;
