//! What a correlator may use, and what it counts.

use std::time::Duration;

/// Bounds of a correlator. Each is enforced while matches arrive; what is given up is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Groups of one correlation.
    pub groups: usize,
    /// Matches kept in one group. A correlation that needs more to reach its bound gets twice its
    /// bound instead, up to [`Limits::MOST_MATCHES`].
    pub matches_per_group: usize,
    /// Estimated memory of all groups together, in bytes.
    pub bytes: usize,
    /// How much later than a newer match of its group a match may arrive, beyond the window, and
    /// still be taken. Sensors of one host are read by turns and hosts send on their own, so order
    /// is kept only roughly.
    pub lateness: Duration,
    /// How far a host's clock may be ahead of the server's. What is further ahead counts as now:
    /// one wrong clock must not push everybody else's matches out of a shared group.
    pub ahead: Duration,
    /// A group that got no match for its window, the lateness and this is forgotten.
    pub idle: Duration,
    /// References in one [`crate::Fired`]. The newest are kept, and the newest of each member.
    pub references: usize,
}

impl Limits {
    /// Matches a group can hold at most. A correlation whose bound needs more is refused.
    pub const MOST_MATCHES: usize = 1 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            groups: 100_000,
            matches_per_group: 1024,
            bytes: 128 << 20,
            lateness: Duration::from_secs(60),
            ahead: Duration::from_secs(60),
            idle: Duration::from_secs(3600),
            references: 50,
        }
    }
}

/// What happened in a correlator since it was made, and what it holds.
///
/// `taken + duplicates + late + full + ungrouped + without_value` is the number of matches that
/// were offered to correlations: every one is accounted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Matches taken into a window.
    pub taken: u64,
    /// Matches whose reference was in the window already.
    pub duplicates: u64,
    /// Matches older than window and lateness allow.
    pub late: u64,
    /// Matches older than everything in a group that is full.
    pub full: u64,
    /// Matches without a value to group by.
    pub ungrouped: u64,
    /// Matches without the value that is counted, or with none that is a number.
    pub without_value: u64,
    /// Matches from a clock too far ahead, taken as of now; counted in `taken` and the others, too.
    pub ahead: u64,
    /// Matches given up because their group was full. They had been taken.
    pub dropped_full: u64,
    /// Groups forgotten because their correlation had too many.
    pub evicted_groups: u64,
    /// Groups forgotten because all together were too large.
    pub evicted_bytes: u64,
    /// Groups forgotten because nothing came any more.
    pub evicted_idle: u64,
    /// Times a correlation fired.
    pub fired: u64,
    /// Times a condition held again for what had fired already.
    pub suppressed: u64,
    /// Correlations of a snapshot that are gone or changed.
    pub dropped_correlations: u64,
    /// Groups of those.
    pub dropped_groups: u64,
    /// Groups held now.
    pub groups: u64,
    /// Estimated memory of the groups held now, in bytes.
    pub bytes: u64,
}

impl Counters {
    /// What happened here and in an earlier correlator; what is held is this one's.
    #[must_use]
    pub fn and_before(self, earlier: &Self) -> Self {
        Self {
            taken: self.taken + earlier.taken,
            duplicates: self.duplicates + earlier.duplicates,
            late: self.late + earlier.late,
            full: self.full + earlier.full,
            ungrouped: self.ungrouped + earlier.ungrouped,
            without_value: self.without_value + earlier.without_value,
            ahead: self.ahead + earlier.ahead,
            dropped_full: self.dropped_full + earlier.dropped_full,
            evicted_groups: self.evicted_groups + earlier.evicted_groups,
            evicted_bytes: self.evicted_bytes + earlier.evicted_bytes,
            evicted_idle: self.evicted_idle + earlier.evicted_idle,
            fired: self.fired + earlier.fired,
            suppressed: self.suppressed + earlier.suppressed,
            dropped_correlations: self.dropped_correlations + earlier.dropped_correlations,
            dropped_groups: self.dropped_groups + earlier.dropped_groups,
            groups: self.groups,
            bytes: self.bytes,
        }
    }
}
