//! What a commit secures: how far the ring was read, and how many questions still waited.

use std::{fmt, str::FromStr};

/// Name of the mark.
pub(super) const RING: &str = "dns.ring";

/// The mark.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Mark {
    /// Boot that the rest is about.
    pub(super) boot: String,
    /// Kernel id of the ring.
    pub(super) ring: u32,
    /// Behind the last record read.
    pub(super) position: u64,
    /// Packets that were lost for want of room, as far as they were told.
    pub(super) lost: u64,
    /// Questions that were read and not told yet.
    pub(super) waiting: u64,
    /// Questions that were turned away in favour of other control groups, as far as they were told.
    pub(super) shed: u64,
}

impl Mark {
    /// The mark of an earlier reader in this boot, if there is one.
    pub(super) fn of_boot(boot: &str, mark: Option<&str>) -> Option<Self> {
        let mark: Self = mark?.parse().ok()?;
        (mark.boot == boot).then_some(mark)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            boot,
            ring,
            position,
            lost,
            waiting,
            shed,
        } = self;
        write!(f, "{boot}:{ring}:{position}:{lost}:{waiting}:{shed}")
    }
}

impl FromStr for Mark {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.split(':');
        let boot = parts.next().ok_or(())?.to_owned();
        let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
        let ring = number().and_then(|ring| u32::try_from(ring).ok());
        Ok(Self {
            boot,
            ring: ring.ok_or(())?,
            position: number().ok_or(())?,
            lost: number().ok_or(())?,
            waiting: number().ok_or(())?,
            // Marks of older agents end before it; their programs turned nothing away.
            shed: number().unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_reads_back_and_is_of_its_boot_only() {
        let mark = Mark {
            boot: "0b-1".into(),
            ring: 7,
            position: 4096,
            lost: 3,
            waiting: 2,
            shed: 1,
        };
        let text = mark.to_string();
        assert_eq!(Mark::of_boot("0b-1", Some(&text)), Some(mark));
        assert_eq!(Mark::of_boot("0b-2", Some(&text)), None);
        assert_eq!(Mark::of_boot("0b-1", Some("0b-1:7:x")), None);
        assert_eq!(Mark::of_boot("0b-1", None), None);
    }
}
