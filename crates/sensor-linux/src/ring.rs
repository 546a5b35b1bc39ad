//! A reader of BPF ring buffers that gives records up only when told to.
//!
//! - **Guarantees**: what [`Ring::read`] showed stays in the kernel until [`Ring::advance`]; a
//!   reader killed before that leaves everything to the next one.
//! - **Invariants**: one reader per ring. Positions count bytes since the ring was made and never
//!   go back, so they tell records apart for as long as the ring exists.
//! - **Format** (Linux 5.8 and later): a page with the consumer position, writable by us; a page
//!   with the producer position; the data, mapped twice in a row so that no record is split. A
//!   record is a u32 length with two flag bits, a u32 for the kernel, the data, padding to 8 bytes.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::Ordering,
    time::Duration,
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::mapping::Mapping;

/// Set while the kernel still writes the record.
const BUSY: u32 = 1 << 31;
/// Set when the program gave the record up.
const DISCARD: u32 = 1 << 30;
const HEADER_BYTES: usize = 8;

/// Most that one [`Ring::read`] shows.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Records.
    pub records: usize,
    /// Bytes; the record that passes the limit is still shown.
    pub bytes: usize,
}

/// What does not belong into a ring; it is skipped as a whole.
#[derive(Debug, thiserror::Error)]
#[error("the ring holds a record of {length} bytes where {available} are left")]
pub struct Corrupt {
    length: usize,
    available: usize,
}

/// A mapped ring.
#[derive(Debug)]
pub struct Ring {
    fd: OwnedFd,
    consumer: Mapping,
    producer: Mapping,
    page_bytes: usize,
    data_bytes: usize,
    position: usize,
}

impl Ring {
    /// Maps the ring of `data_bytes` (the map's `max_entries`) and continues at its consumer
    /// position.
    ///
    /// # Errors
    /// It cannot be mapped, or `data_bytes` is not a power of two of at least a page.
    pub fn map(fd: BorrowedFd<'_>, data_bytes: usize) -> io::Result<Self> {
        let page_bytes = page_bytes()?;
        if !data_bytes.is_power_of_two() || data_bytes < page_bytes {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let fd = fd.try_clone_to_owned()?;
        let writable = libc::PROT_READ | libc::PROT_WRITE;
        let consumer = Mapping::new(fd.as_fd(), page_bytes, 0, writable)?;
        let bytes = page_bytes + 2 * data_bytes;
        let producer = Mapping::new(fd.as_fd(), bytes, page_bytes, libc::PROT_READ)?;
        let position = consumer.counter().load(Ordering::Acquire);
        Ok(Self {
            fd,
            consumer,
            producer,
            page_bytes,
            data_bytes,
            position,
        })
    }

    /// Bytes between what was given up and what the kernel has written, of a ring somebody else
    /// reads. Maps the two counters only, so that looking costs neither memory nor time.
    ///
    /// # Errors
    /// It cannot be mapped.
    pub fn fill(fd: BorrowedFd<'_>) -> io::Result<usize> {
        let page_bytes = page_bytes()?;
        let consumer = Mapping::new(fd, page_bytes, 0, libc::PROT_READ)?;
        let producer = Mapping::new(fd, page_bytes, page_bytes, libc::PROT_READ)?;
        let consumed = consumer.counter().load(Ordering::Acquire);
        let produced = producer.counter().load(Ordering::Acquire);
        Ok(produced.wrapping_sub(consumed))
    }

    /// Waits until there is something to read, at most for `timeout`; `false` when there is not.
    ///
    /// # Errors
    /// Those of poll; a signal counts as nothing to read.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        wait_for_any([Some(self.fd.as_fd())], timeout)
    }

    /// Ready while there is something that was not given up.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Shows `each` the complete records behind the position, and moves the position past them.
    /// Returns how many there were, discarded ones left out.
    ///
    /// # Errors
    /// [`Corrupt`]; the position is then behind everything that was in the ring.
    pub fn read(&mut self, limit: Limit, mut each: impl FnMut(&[u8])) -> Result<usize, Corrupt> {
        self.read_at(limit, |_, record| each(record))
    }

    /// As [`Ring::read`], with the position at which each record begins.
    ///
    /// # Errors
    /// As [`Ring::read`].
    pub fn read_at(
        &mut self,
        limit: Limit,
        mut each: impl FnMut(u64, &[u8]),
    ) -> Result<usize, Corrupt> {
        let start = self.position;
        let produced = self.producer.counter().load(Ordering::Acquire);
        let mut records = 0;
        while records < limit.records && self.position.wrapping_sub(start) < limit.bytes {
            let available = produced.wrapping_sub(self.position);
            if available == 0 {
                break;
            }
            let at = self.page_bytes + (self.position & (self.data_bytes - 1));
            let header = self.producer.word(at).load(Ordering::Acquire);
            if header & BUSY != 0 {
                break;
            }
            let length = (header & !(BUSY | DISCARD)) as usize;
            let total = (HEADER_BYTES + length).next_multiple_of(8);
            if total > available || available > self.data_bytes {
                self.position = produced;
                return Err(Corrupt { length, available });
            }
            if header & DISCARD == 0 {
                // SAFETY: the record is complete (its BUSY bit is clear, loaded with Acquire) and the
                // kernel does not reuse it before `advance`, which needs `&mut self` and so cannot
                // happen while this slice exists.
                let record = unsafe { self.producer.bytes(at + HEADER_BYTES, length) };
                each(self.position as u64, record);
                records += 1;
            }
            self.position = self.position.wrapping_add(total);
        }
        Ok(records)
    }

    /// Bytes that are there and not read yet.
    pub fn unread_bytes(&self) -> usize {
        let produced = self.producer.counter().load(Ordering::Acquire);
        produced.wrapping_sub(self.position)
    }

    /// Bytes that were read and not given up yet.
    pub fn held_bytes(&self) -> usize {
        let consumed = self.consumer.counter().load(Ordering::Acquire);
        self.position.wrapping_sub(consumed)
    }

    /// Size of the ring in bytes.
    pub fn size_bytes(&self) -> usize {
        self.data_bytes
    }

    /// Whether everything the kernel has announced so far was read.
    pub fn drained(&self) -> bool {
        self.unread_bytes() == 0
    }

    /// Gives up everything read so far: its space is the kernel's again.
    pub fn advance(&mut self) {
        self.consumer
            .counter()
            .store(self.position, Ordering::Release);
    }

    /// Gives up what was read before `position`, which is the beginning of a record, or the end of
    /// the last one read. Ignored when it is neither behind what was given up nor read yet.
    pub fn advance_to(&mut self, position: u64) {
        let position = position as usize;
        let consumed = self.consumer.counter().load(Ordering::Acquire);
        if position.wrapping_sub(consumed) <= self.held_bytes() {
            self.consumer.counter().store(position, Ordering::Release);
        }
    }

    /// Goes back to what was last given up: after a failed commit everything is read again.
    pub fn rewind(&mut self) {
        self.position = self.consumer.counter().load(Ordering::Acquire);
    }

    /// Position behind the last record read.
    pub fn position(&self) -> u64 {
        self.position as u64
    }

    /// Skips to a position that an earlier reader had reached and secured. Ignored unless it lies
    /// between the present position and the end of what is there.
    pub fn skip_to(&mut self, position: u64) {
        let position = position as usize;
        let produced = self.producer.counter().load(Ordering::Acquire);
        if position.wrapping_sub(self.position) <= produced.wrapping_sub(self.position) {
            self.position = position;
            self.advance();
        }
    }
}

/// Waits until one of the descriptors is readable, at most for `timeout`; `false` when none is.
///
/// # Errors
/// Those of poll; a signal counts as nothing to read.
pub(crate) fn wait_for_any<const N: usize>(
    fds: [Option<BorrowedFd<'_>>; N],
    timeout: Duration,
) -> io::Result<bool> {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    let fds = fds.into_iter().flatten();
    let mut fds: Vec<_> = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    match poll(&mut fds, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(nix::errno::Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn page_bytes() -> io::Result<usize> {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE)?
        .and_then(|bytes| usize::try_from(bytes).ok())
        .ok_or_else(|| io::ErrorKind::Unsupported.into())
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use super::*;

    const BYTES: usize = 4096;
    const NO_LIMIT: Limit = Limit {
        records: usize::MAX,
        bytes: usize::MAX,
    };

    /// What the kernel does, on a file.
    struct Fake {
        file: File,
        produced: usize,
    }

    impl Fake {
        fn new() -> Self {
            let file = tempfile::tempfile().unwrap();
            file.set_len((2 * 4096 + 2 * BYTES) as u64).unwrap();
            Self { file, produced: 0 }
        }

        fn ring(&self) -> Ring {
            Ring::map(self.file.as_fd(), BYTES).unwrap()
        }

        fn consumed(&self) -> usize {
            let mut word = [0; 8];
            self.file.read_exact_at(&mut word, 0).unwrap();
            usize::from_ne_bytes(word)
        }

        fn write(&mut self, at: usize, bytes: &[u8]) {
            for (index, byte) in bytes.iter().enumerate() {
                let offset = (at + index) % BYTES;
                for copy in [offset, offset + BYTES] {
                    self.file
                        .write_all_at(&[*byte], (8192 + copy) as u64)
                        .unwrap();
                }
            }
        }

        fn push(&mut self, flags: u32, data: &[u8]) -> usize {
            let at = self.produced;
            self.write(at, &(data.len() as u32 | flags).to_ne_bytes());
            self.write(at + 8, data);
            self.produce((8 + data.len()).next_multiple_of(8));
            at
        }

        fn produce(&mut self, bytes: usize) {
            self.produced += bytes;
            let word = self.produced.to_ne_bytes();
            self.file.write_all_at(&word, 4096).unwrap();
        }
    }

    fn read(ring: &mut Ring, limit: Limit) -> Vec<Vec<u8>> {
        let mut seen = Vec::new();
        ring.read(limit, |record| seen.push(record.to_vec()))
            .unwrap();
        seen
    }

    #[test]
    fn nothing_is_given_up_before_advance_and_the_next_reader_sees_it_again() {
        let mut fake = Fake::new();
        fake.push(0, b"one");
        fake.push(0, b"twotwotwo");
        let mut ring = fake.ring();
        assert_eq!(Ring::fill(fake.file.as_fd()).unwrap(), fake.produced);
        assert_eq!(read(&mut ring, NO_LIMIT), [&b"one"[..], b"twotwotwo"]);
        assert_eq!(fake.consumed(), 0);
        assert!(ring.drained());
        ring.rewind();
        assert_eq!(read(&mut ring, NO_LIMIT).len(), 2);
        drop(ring);

        let mut ring = fake.ring();
        assert_eq!(read(&mut ring, NO_LIMIT).len(), 2);
        ring.advance();
        assert_eq!(fake.consumed(), fake.produced);
        assert_eq!(Ring::fill(fake.file.as_fd()).unwrap(), 0);
        assert!(read(&mut fake.ring(), NO_LIMIT).is_empty());
    }

    #[test]
    fn a_reader_may_give_up_less_than_it_has_read() {
        let mut fake = Fake::new();
        let starts = [b"one", b"two", b"six"].map(|data| fake.push(0, data) as u64);
        let mut ring = fake.ring();
        let mut seen = Vec::new();
        ring.read_at(NO_LIMIT, |at, _| seen.push(at)).unwrap();
        assert_eq!(seen, starts);
        ring.advance_to(starts[1]);
        assert_eq!((ring.held_bytes(), ring.unread_bytes()), (32, 0));
        ring.advance_to(starts[0]);
        ring.advance_to(fake.produced as u64 + 16);
        assert_eq!(fake.consumed() as u64, starts[1]);
        ring.rewind();
        assert_eq!(read(&mut ring, NO_LIMIT), [b"two", b"six"]);
        ring.advance_to(fake.produced as u64);
        assert_eq!(ring.held_bytes(), 0);
    }

    #[test]
    fn waits_for_a_record_in_the_making_and_passes_over_a_discarded_one() {
        let mut fake = Fake::new();
        fake.push(DISCARD, b"no");
        let busy = fake.push(BUSY, b"soon");
        fake.push(0, b"later");
        let mut ring = fake.ring();
        assert!(read(&mut ring, NO_LIMIT).is_empty());
        assert!(!ring.drained());
        fake.write(busy, &4u32.to_ne_bytes());
        assert_eq!(read(&mut ring, NO_LIMIT), [&b"soon"[..], b"later"]);
    }

    #[test]
    fn records_across_the_end_of_the_data_are_whole() {
        let mut fake = Fake::new();
        let mut ring = fake.ring();
        for round in 0..50u8 {
            let data = vec![round; 100 + usize::from(round) * 13];
            fake.push(0, &data);
            assert_eq!(read(&mut ring, NO_LIMIT), [data]);
            ring.advance();
        }
        assert!(fake.produced > 4 * BYTES);
    }

    #[test]
    fn a_batch_is_bounded_by_records_and_by_bytes() {
        let mut fake = Fake::new();
        for _ in 0..10 {
            fake.push(0, &[0; 100]);
        }
        let limit = |records, bytes| Limit { records, bytes };
        assert_eq!(read(&mut fake.ring(), limit(3, usize::MAX)).len(), 3);
        assert_eq!(read(&mut fake.ring(), limit(99, 200)).len(), 2);
    }

    #[test]
    fn a_length_that_cannot_be_is_an_error_and_skips_what_was_there() {
        let mut fake = Fake::new();
        let at = fake.push(0, b"x");
        fake.write(at, &4000u32.to_ne_bytes());
        let mut ring = fake.ring();
        assert!(ring.read(NO_LIMIT, |_| panic!("shown")).is_err());
        assert!(ring.drained());
        fake.push(0, b"fine");
        assert_eq!(read(&mut ring, NO_LIMIT), [b"fine"]);
    }

    #[test]
    fn skips_only_to_a_position_that_the_ring_has_reached() {
        let mut fake = Fake::new();
        fake.push(0, b"old");
        let reached = fake.produced as u64;
        fake.push(0, b"new");
        let mut ring = fake.ring();
        ring.skip_to(reached + 1_000_000);
        assert_eq!(ring.position(), 0);
        ring.skip_to(reached);
        assert_eq!(read(&mut ring, NO_LIMIT), [b"new"]);
        ring.skip_to(reached);
        assert_eq!(ring.position(), fake.produced as u64);
    }
}
