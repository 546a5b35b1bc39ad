//! The uplink's view of a spool.

use tokio::sync::watch;
use yinglong_model::{DropReason, id::Epoch};
use yinglong_spool::{Error, Spool};

use crate::{
    books::Books,
    uplink::{Outbox, OutboxError},
};

/// A spool to be delivered.
pub(crate) struct SpoolOutbox {
    spool: Spool,
    books: Books,
    appended: watch::Receiver<u64>,
}

impl SpoolOutbox {
    /// The spool of this boot, which grows.
    pub(crate) fn current(books: &Books) -> Self {
        Self {
            spool: books.spool().clone(),
            books: books.clone(),
            appended: books.appended(),
        }
    }

    /// The spool of an earlier boot, which does not.
    pub(crate) fn earlier(spool: Spool, books: &Books) -> Self {
        let appended = watch::channel(spool.last_seq()).1;
        Self {
            spool,
            books: books.clone(),
            appended,
        }
    }
}

impl Outbox for SpoolOutbox {
    fn epoch(&self) -> Epoch {
        Epoch(self.spool.epoch())
    }

    fn first_seq(&self) -> u64 {
        self.spool.released_seq() + 1
    }

    fn read(
        &self,
        from_seq: u64,
        max_records: usize,
        max_bytes: usize,
    ) -> Result<Vec<Vec<u8>>, OutboxError> {
        let (error, next) = match self.spool.read(from_seq, max_records, max_bytes) {
            Ok(records) => match records.first() {
                Some((first, _)) if *first != from_seq => {
                    (format!("records before {first} are missing"), *first)
                }
                _ => return Ok(records.into_iter().map(|(_, record)| record).collect()),
            },
            Err(error @ Error::Corrupt { last_lost, .. }) => (error.to_string(), last_lost + 1),
            Err(error) => return Err(error.into()),
        };
        // Nobody can deliver them any more: give them up, and say so in the books.
        self.books
            .lost_in_spool(DropReason::Malformed, next.saturating_sub(from_seq));
        self.spool.release(next - 1)?;
        Err(error.into())
    }

    fn release(&self, up_to: u64) -> Result<(), OutboxError> {
        Ok(self.spool.release(up_to)?)
    }

    fn appended(&self) -> watch::Receiver<u64> {
        self.appended.clone()
    }
}
