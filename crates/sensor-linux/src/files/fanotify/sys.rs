//! The system calls of fanotify and of file handles; every one of them, and nothing else.

use std::{
    ffi::CString,
    io,
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

/// Largest handle a file system may use (`MAX_HANDLE_SZ` of `linux/exportfs.h`).
const MOST_HANDLE_BYTES: usize = 128;

/// `struct file_handle` with room for any handle.
#[repr(C)]
struct Handle {
    bytes: u32,
    kind: i32,
    data: [u8; MOST_HANDLE_BYTES],
}

/// Opens a notification group with the given `FAN_*` flags.
pub(super) fn init(flags: u32) -> io::Result<OwnedFd> {
    let event_flags = (libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE).unsigned_abs();
    // SAFETY: no pointers are passed.
    let fd = unsafe { libc::fanotify_init(flags, event_flags) };
    owned(fd)
}

/// Adds or removes (`action`) a mark on the whole file system that holds `path`.
pub(super) fn mark_filesystem(
    group: BorrowedFd<'_>,
    action: u32,
    mask: u64,
    path: &Path,
) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: `path` is a C string that outlives the call; `group` is an open descriptor.
    let answer = unsafe {
        libc::fanotify_mark(
            group.as_raw_fd(),
            action | libc::FAN_MARK_FILESYSTEM,
            mask,
            libc::AT_FDCWD,
            path.as_ptr(),
        )
    };
    check(answer).map(drop)
}

/// Opens the file of a handle on the file system of `mount`, as a path only.
pub(super) fn open_by_handle(
    mount: BorrowedFd<'_>,
    kind: i32,
    handle: &[u8],
) -> io::Result<OwnedFd> {
    let mut request = Handle {
        bytes: u32::try_from(handle.len()).map_err(io::Error::other)?,
        kind,
        data: [0; MOST_HANDLE_BYTES],
    };
    request
        .data
        .get_mut(..handle.len())
        .ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(handle);
    // SAFETY: `request` is laid out as `struct file_handle` followed by its data, of which the
    // kernel reads `bytes` <= 128; it outlives the call.
    let fd = unsafe {
        libc::open_by_handle_at(
            mount.as_raw_fd(),
            (&raw mut request).cast::<libc::file_handle>(),
            libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW,
        )
    };
    owned(fd)
}

/// Type and bytes of the handle of `path` itself, links not followed.
pub(super) fn handle_of(path: &Path) -> io::Result<(i32, Vec<u8>)> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = Handle {
        bytes: MOST_HANDLE_BYTES as u32,
        kind: 0,
        data: [0; MOST_HANDLE_BYTES],
    };
    let mut mount = 0;
    // SAFETY: `path` is a C string; `answer` is laid out as `struct file_handle` with room for
    // the `bytes` it announces; `mount` takes one int. All outlive the call.
    let done = unsafe {
        libc::name_to_handle_at(
            libc::AT_FDCWD,
            path.as_ptr(),
            (&raw mut answer).cast::<libc::file_handle>(),
            &raw mut mount,
            0,
        )
    };
    check(done)?;
    let length = usize::try_from(answer.bytes).unwrap_or(usize::MAX);
    let handle = answer
        .data
        .get(..length)
        .ok_or(io::ErrorKind::InvalidData)?;
    Ok((answer.kind, handle.to_vec()))
}

/// Identity of the file system that holds `path`, as fanotify reports it.
pub(in crate::files) fn filesystem_id(path: &Path) -> io::Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut answer = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `path` is a C string and `answer` has room for a `statfs`; both outlive the call.
    let done = unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) };
    check(done)?;
    // SAFETY: the call succeeded, so the kernel filled it; all-zero is a valid value anyway.
    let answer = unsafe { answer.assume_init() };
    // SAFETY: `fsid_t` is two ints without padding, of which every bit pattern is a `u64`.
    Ok(unsafe { std::mem::transmute::<libc::fsid_t, u64>(answer.f_fsid) })
}

/// Takes over a descriptor the kernel installed with an event.
pub(super) fn adopt(fd: i32) -> Option<OwnedFd> {
    // SAFETY: the descriptor came with an event just read and is named nowhere else.
    (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
}

fn owned(fd: i32) -> io::Result<OwnedFd> {
    let fd = check(fd)?;
    // SAFETY: the kernel just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn check(answer: i32) -> io::Result<i32> {
    match answer {
        -1 => Err(io::Error::last_os_error()),
        answer => Ok(answer),
    }
}
