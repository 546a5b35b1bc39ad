//! Which records of a stream are new. Pure.

/// Position in the sequence of one agent's spool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Next sequence number that is neither durable nor queued.
    next: u64,
    /// The next batch follows a gap the agent declared.
    may_skip: bool,
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Admission {
    /// Records at the front to leave out: they are durable or queued already.
    pub(super) skip: usize,
    /// Whether the batch may begin after what is durable.
    pub(super) may_skip: bool,
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// No records, or sequence numbers outside of their range.
    #[error("a batch has at least one record and sequence numbers from 1 to 2^64-1")]
    Malformed,
    /// Records are missing before the batch.
    #[error(
        "the batch starts at {first_seq}, but {expected} is next; attach again and say from where \
         the spool goes on"
    )]
    Gap {
        /// What was sent.
        first_seq: u64,
        /// What was expected.
        expected: u64,
    },
}

impl Cursor {
    /// Starts after `acked`, or where the agent's spool begins if that is later. The second value
    /// is how many records are gone between the two.
    pub(super) fn start(acked: u64, first_in_spool: u64) -> (Self, u64) {
        let expected = acked.saturating_add(1);
        let lost = first_in_spool.saturating_sub(expected);
        let cursor = Self {
            next: expected.max(first_in_spool),
            may_skip: lost > 0,
        };
        (cursor, lost)
    }

    /// Decides on a batch and moves past it.
    pub(super) fn admit(&mut self, first_seq: u64, records: usize) -> Result<Admission, Refusal> {
        let count = u64::try_from(records).map_err(|_| Refusal::Malformed)?;
        let end = first_seq.checked_add(count).ok_or(Refusal::Malformed)?;
        if first_seq == 0 || count == 0 {
            return Err(Refusal::Malformed);
        }
        if first_seq > self.next {
            return Err(Refusal::Gap {
                first_seq,
                expected: self.next,
            });
        }
        let skip = (self.next - first_seq).min(count);
        let admission = Admission {
            skip: usize::try_from(skip).map_err(|_| Refusal::Malformed)?,
            may_skip: self.may_skip,
        };
        if end > self.next {
            self.next = end;
            self.may_skip = false;
        }
        Ok(admission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        cursor: &mut Cursor,
        first_seq: u64,
        records: usize,
        expected: Result<usize, Refusal>,
    ) {
        let admitted = cursor.admit(first_seq, records);
        assert_eq!(admitted.map(|admission| admission.skip), expected);
    }

    #[test]
    fn batches_in_order_are_new_and_repeated_ones_are_left_out() {
        let (mut cursor, lost) = Cursor::start(0, 1);
        assert_eq!(lost, 0);
        check(&mut cursor, 1, 10, Ok(0));
        check(&mut cursor, 11, 5, Ok(0));
        check(&mut cursor, 1, 10, Ok(10));
        check(&mut cursor, 11, 5, Ok(5));
        check(&mut cursor, 14, 4, Ok(2));
        check(&mut cursor, 18, 1, Ok(0));
    }

    #[test]
    fn a_gap_is_refused_and_changes_nothing() {
        let (mut cursor, _) = Cursor::start(10, 1);
        let gap = Refusal::Gap {
            first_seq: 12,
            expected: 11,
        };
        check(&mut cursor, 12, 1, Err(gap));
        check(&mut cursor, 11, 1, Ok(0));
    }

    #[test]
    fn a_gap_the_agent_declared_is_counted_and_allowed_once() {
        let (mut cursor, lost) = Cursor::start(10, 21);
        assert_eq!(lost, 10);
        assert!(cursor.admit(21, 1).unwrap().may_skip);
        assert!(!cursor.admit(22, 1).unwrap().may_skip);
    }

    #[test]
    fn a_spool_that_still_has_what_is_durable_loses_nothing() {
        let (mut cursor, lost) = Cursor::start(10, 3);
        assert_eq!(lost, 0);
        check(&mut cursor, 3, 10, Ok(8));
    }

    #[test]
    fn nonsense_is_refused() {
        let (mut cursor, _) = Cursor::start(0, 0);
        check(&mut cursor, 0, 1, Err(Refusal::Malformed));
        check(&mut cursor, 1, 0, Err(Refusal::Malformed));
        check(&mut cursor, u64::MAX, 2, Err(Refusal::Malformed));
        assert_eq!(Cursor::start(u64::MAX, u64::MAX).1, 0);
    }
}
