//! The spool of this boot, and what an earlier boot left to be delivered.
//!
//! Records reach a server before they are synced to disk, so a power cut can take back records the
//! server has already acknowledged. Their numbers must not be used again within the same epoch,
//! or new events would be taken for old ones. Every boot therefore begins a new spool, with a new
//! epoch; the one before is delivered first and then removed. Being killed is no such case: what
//! was written then is still in the kernel's cache.

use std::{
    fs,
    path::{Path, PathBuf},
};

use yinglong_spool::{Error, Options, Spool};

/// Size of one segment in bytes.
const SEGMENT_BYTES: u64 = 8 << 20;

/// File in a spool's folder that names the boot it belongs to.
const BOOT: &str = "boot";

/// Spools of an agent.
pub struct Spools {
    /// Takes new records.
    pub current: Spool,
    /// Newest note of either.
    pub note: Option<Vec<u8>>,
    /// Records of an earlier boot.
    pub earlier: Option<Earlier>,
}

/// A spool that is only delivered.
pub struct Earlier {
    /// Its records.
    pub spool: Spool,
    folder: PathBuf,
}

impl Earlier {
    /// Whether everything has been delivered.
    pub fn is_delivered(&self) -> bool {
        self.spool.usage().records == 0
    }

    /// Removes it.
    pub fn remove(self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(%error, folder = %self.folder.display(), "an old spool was not removed");
        }
    }
}

/// Opens the spools below `state` for the boot `boot`. `new_epoch` is random.
///
/// # Errors
/// The disk refuses, or another agent uses them.
pub fn open(state: &Path, boot: &str, new_epoch: u128, max_bytes: u64) -> Result<Spools, Error> {
    let (folder, earlier_folder) = (state.join("spool"), state.join("spool-earlier"));
    let options = Options {
        new_epoch,
        segment_bytes: SEGMENT_BYTES,
        max_bytes,
    };
    let of_boot = fs::read_to_string(folder.join(BOOT)).ok();
    // Only one is ever waiting: if the last one is not delivered yet, the present one goes on.
    let outdated = of_boot.is_some_and(|of| of != boot) && !earlier_folder.exists();
    if outdated {
        fs::rename(&folder, &earlier_folder).map_err(failed("rename", &folder))?;
    }
    let (current, recovery) = Spool::open(&folder, options.clone())?;
    if recovery.torn_bytes > 0 {
        tracing::warn!(
            bytes = recovery.torn_bytes,
            "the spool ended in a batch cut short; it is left out"
        );
    }
    let mut note = recovery.note;
    let mut earlier = None;
    if earlier_folder.exists() {
        let (spool, recovery) = Spool::open(&earlier_folder, options)?;
        if note.is_none()
            && let Some(inherited) = recovery.note
        {
            current.append::<&[u8]>(&[], &inherited)?;
            note = Some(inherited);
        }
        let found = Earlier {
            spool,
            folder: earlier_folder,
        };
        if found.is_delivered() {
            found.remove();
        } else {
            earlier = Some(found);
        }
    }
    let path = folder.join(BOOT);
    fs::write(&path, boot).map_err(failed("write", &path))?;
    Ok(Spools {
        current,
        note,
        earlier,
    })
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(state: &Path, boot: &str, epoch: u128) -> Spools {
        super::open(state, boot, epoch, 1 << 20).unwrap()
    }

    #[test]
    fn within_a_boot_the_spool_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), "a", 1)
            .current
            .append(&["x"], b"note")
            .unwrap();
        let again = open(dir.path(), "a", 2);
        assert_eq!((again.current.epoch(), again.current.last_seq()), (1, 1));
        assert!(again.earlier.is_none());
    }

    #[test]
    fn after_a_boot_a_new_epoch_begins_and_the_old_records_wait_for_delivery() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), "a", 1)
            .current
            .append(&["x"], b"note")
            .unwrap();
        let next = open(dir.path(), "b", 2);
        assert_eq!((next.current.epoch(), next.current.last_seq()), (2, 0));
        assert_eq!(next.note.as_deref(), Some(&b"note"[..]));
        let earlier = next.earlier.unwrap();
        assert_eq!(earlier.spool.epoch(), 1);
        assert!(!earlier.is_delivered());
        earlier.spool.release(1).unwrap();
        assert!(earlier.is_delivered());
        earlier.remove();
        drop(next.current);
        let last = open(dir.path(), "b", 3);
        assert_eq!(last.current.epoch(), 2);
        assert_eq!(last.note.as_deref(), Some(&b"note"[..]));
    }

    #[test]
    fn a_delivered_spool_is_removed_at_the_next_boot() {
        let dir = tempfile::tempdir().unwrap();
        let first = open(dir.path(), "a", 1);
        first.current.append(&["x"], b"note").unwrap();
        first.current.release(1).unwrap();
        drop(first);
        assert!(open(dir.path(), "b", 2).earlier.is_none());
        assert!(!dir.path().join("spool-earlier").exists());
    }

    #[test]
    fn a_boot_before_the_old_records_are_delivered_keeps_both_spools() {
        let dir = tempfile::tempdir().unwrap();
        open(dir.path(), "a", 1)
            .current
            .append(&["x"], b"")
            .unwrap();
        open(dir.path(), "b", 2)
            .current
            .append(&["y"], b"")
            .unwrap();
        let third = open(dir.path(), "c", 3);
        assert_eq!(third.current.epoch(), 2);
        assert_eq!(third.earlier.unwrap().spool.epoch(), 1);
    }
}
