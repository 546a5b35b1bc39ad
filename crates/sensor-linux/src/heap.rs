//! How the C library's allocator keeps memory that was given back.

/// Arenas, of which every thread would else have its own, with what its peaks left behind.
const ARENAS: i32 = 2;
/// Free bytes at the end of the heap that are given back to the kernel, and size from which a block is
/// mapped on its own. Both are glibc's first values; naming them keeps glibc from raising them to the
/// largest block that was ever freed, up to 32 MiB (mallopt(3)).
const THRESHOLD: i32 = 128 << 10;

/// Keeps this process small after a peak, such as the first look at a host: a third less private memory
/// than with glibc's own ways. To be called before there are threads. Other C libraries keep their ways.
pub fn stay_small() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, ARENAS),
        (libc::M_TRIM_THRESHOLD, THRESHOLD),
        (libc::M_MMAP_THRESHOLD, THRESHOLD),
    ] {
        // SAFETY: sets a number of the allocator, which is made for that.
        let set = unsafe { libc::mallopt(parameter, value) };
        if set == 0 {
            tracing::debug!(parameter, "the allocator does not know this parameter");
        }
    }
}
