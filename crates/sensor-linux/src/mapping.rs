//! Memory shared with the kernel: the one place where it is mapped and looked into.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr::{self, NonNull},
    sync::atomic::{AtomicU32, AtomicUsize},
};

/// A mapping that is undone when it is dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<std::ffi::c_void>,
    bytes: usize,
}

// SAFETY: the mapping belongs to this value alone; the kernel's side is accessed atomically, or
// after an atomic load has shown that the kernel is done with it.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `bytes` of what `fd` stands for, from `offset` on; both are multiples of a page.
    ///
    /// # Errors
    /// The kernel's answer.
    pub(crate) fn new(
        fd: BorrowedFd<'_>,
        bytes: usize,
        offset: usize,
        protection: i32,
    ) -> io::Result<Self> {
        let offset = libc::off_t::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let (fd, flags) = (fd.as_raw_fd(), libc::MAP_SHARED);
        // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
        let start = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { start, bytes })
    }

    /// The position at the start of the mapping.
    pub(crate) fn counter(&self) -> &AtomicUsize {
        // SAFETY: the mapping is at least a page, aligned to one, and lives as long as `self`; the
        // kernel accesses this word atomically as well.
        unsafe { AtomicUsize::from_ptr(self.start.as_ptr().cast()) }
    }

    /// The word at `at`, which is a multiple of 4.
    ///
    /// # Panics
    /// It is not, or lies outside.
    pub(crate) fn word(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at.checked_add(4).is_some_and(|end| end <= self.bytes));
        // SAFETY: inside of the mapping and aligned, as just checked; the kernel accesses it
        // atomically as well.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().byte_add(at).cast()) }
    }

    /// What lies there.
    ///
    /// # Safety
    /// The kernel must not write there while the slice exists.
    ///
    /// # Panics
    /// It is not inside of the mapping.
    pub(crate) unsafe fn bytes(&self, at: usize, length: usize) -> &[u8] {
        assert!(at.checked_add(length).is_some_and(|end| end <= self.bytes));
        // SAFETY: inside of the mapping, as just checked; that nobody writes there is the caller's
        // promise.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr().byte_add(at).cast(), length) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length; no reference outlives `self`.
        unsafe { libc::munmap(self.start.as_ptr(), self.bytes) };
    }
}
