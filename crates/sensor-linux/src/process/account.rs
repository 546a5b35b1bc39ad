//! What one kind of record in the ring adds up to: delivered, dropped by the ring, or taken by a
//! reader that was killed.

use yinglong_model::DropReason;
use yinglong_sensor::Outlet;

use super::books::{Audit, Books, Counted};

/// Books of one stream that the ring feeds.
#[derive(Debug)]
pub(super) struct Account {
    stream: &'static str,
    mark: &'static str,
    pub(super) books: Books,
    audit: Audit,
}

/// What a look at the ring came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Settled {
    /// Records that are to be committed, lost ones included.
    pub(super) news: u64,
    /// The part of them that was turned away in favour of other groups.
    pub(super) shed: u64,
}

impl Account {
    /// Continues the books of an earlier reader of the same ring.
    pub(super) fn open(
        stream: &'static str,
        mark: &'static str,
        boot: &str,
        ring: u32,
        outlet: &dyn Outlet,
    ) -> Self {
        Self {
            stream,
            mark,
            books: Books::open(boot, ring, outlet.marked(mark).as_deref()),
            audit: Audit::new(),
        }
    }

    /// What was there to be audited is gone: what is missing is to be found anew.
    pub(super) fn doubt(&mut self) {
        self.audit = Audit::new();
    }

    /// Enters what a look at the ring brought; `counted` was read after it. The caller tells the
    /// outlet what was turned away, as it knows of whom.
    pub(super) fn settle(
        &mut self,
        delivered: u64,
        counted: Counted,
        drained: bool,
        outlet: &mut dyn Outlet,
    ) -> Settled {
        let dropped = self.books.drop_new(counted);
        outlet.lose_in(self.stream, DropReason::RingFull, dropped);
        self.books.accounted += delivered;
        let mut missing = 0;
        if drained
            && !self.audit.finished()
            && let Some(found) = self.audit.look(self.books.missing(counted))
        {
            outlet.lose_in(self.stream, DropReason::AgentKilled, found);
            self.books.accounted += found;
            missing = found;
        }
        let shed = self.books.shed_new(counted);
        Settled {
            news: delivered + dropped + missing + shed,
            shed,
        }
    }

    /// Remembers, with the next commit, that everything before `position` is accounted for.
    pub(super) fn mark(&mut self, position: u64, outlet: &mut dyn Outlet) {
        self.books.position = position;
        outlet.mark(self.mark, self.books.to_string());
    }
}
