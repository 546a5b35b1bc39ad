//! Writers that make no system call for it: `io_uring` (`io_uring_setup(2)`, `io_uring_enter(2)`).

use std::{
    ffi::CString,
    fs, io,
    mem::{offset_of, size_of},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
    ptr,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{Bench, Source, md5};

const OP_OPENAT: u8 = 18;
const OP_CLOSE: u8 = 19;
const OP_WRITE: u8 = 23;
const OP_RENAMEAT: u8 = 35;
const OP_UNLINKAT: u8 = 36;
const OP_LINKAT: u8 = 39;
/// Let a worker of the kernel do it.
const ASYNC: u8 = 1 << 4;
const GET_EVENTS: u32 = 1;
const OFFSET_SQES: i64 = 0x1000_0000;

/// `struct io_sqring_offsets` and `struct io_cqring_offsets`, which differ in names only.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Offsets {
    head: u32,
    tail: u32,
    mask: u32,
    entries: u32,
    /// Submissions: flags. Completions: overflow.
    fifth: u32,
    /// Submissions: dropped. Completions: the completions themselves.
    sixth: u32,
    /// Submissions: array.
    seventh: u32,
    reserved: u32,
    address: u64,
}

/// `struct io_uring_params`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Params {
    entries: u32,
    completions: u32,
    rest: [u32; 8],
    submit: Offsets,
    complete: Offsets,
}

/// `struct io_uring_sqe`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    code: u8,
    flags: u8,
    priority: u16,
    fd: i32,
    offset: u64,
    address: u64,
    length: u32,
    op_flags: u32,
    user_data: u64,
    rest: [u64; 3],
}

/// A ring that does one thing at a time.
struct Ring {
    fd: OwnedFd,
    params: Params,
    rings: *mut u8,
    entry: *mut Entry,
}

impl Ring {
    fn open() -> io::Result<Self> {
        let mut params = Params::default();
        // SAFETY: `params` has the layout and size of what the call reads and fills.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 4, &raw mut params) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel just returned this descriptor to us alone.
        let fd = unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) };
        let submit = params.submit.seventh + params.entries * 4;
        let complete = params.complete.sixth + params.completions * 16;
        let rings = map(&fd, submit.max(complete) as usize, 0)?;
        let entries = params.entries as usize * size_of::<Entry>();
        let entry = map(&fd, entries, OFFSET_SQES)?.cast();
        Ok(Self {
            fd,
            params,
            rings,
            entry,
        })
    }

    fn word(&self, offset: u32) -> &AtomicU32 {
        // SAFETY: the kernel told the offset, of an aligned word within the mapping, which lives
        // as long as the process.
        unsafe { &*self.rings.add(offset as usize).cast::<AtomicU32>() }
    }

    /// Does one thing; answers what the system call would.
    fn run(&self, code: u8, flags: u8, entry: Entry) -> i32 {
        let (submit, complete) = (self.params.submit, self.params.complete);
        // SAFETY: the first of the mapped entries, which the kernel reads only when told to below.
        unsafe {
            ptr::write_volatile(
                self.entry,
                Entry {
                    code,
                    flags,
                    ..entry
                },
            )
        };
        let tail = self.word(submit.tail).load(Ordering::Acquire);
        let at = tail & self.word(submit.mask).load(Ordering::Relaxed);
        self.word(submit.seventh + 4 * at)
            .store(0, Ordering::Relaxed);
        self.word(submit.tail)
            .store(tail.wrapping_add(1), Ordering::Release);
        let no_signals = ptr::null::<u8>();
        // SAFETY: what the entry points to outlives the call, which waits for its completion.
        let done = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                self.fd.as_raw_fd(),
                1,
                1,
                GET_EVENTS,
                no_signals,
                0,
            )
        };
        assert_eq!(done, 1, "{}", io::Error::last_os_error());
        let head = self.word(complete.head).load(Ordering::Acquire);
        assert_ne!(head, self.word(complete.tail).load(Ordering::Acquire));
        let at = head & self.word(complete.mask).load(Ordering::Relaxed);
        // `struct io_uring_cqe`: user data, result, flags.
        let result = self
            .word(complete.sixth + 16 * at + 8)
            .load(Ordering::Relaxed);
        self.word(complete.head)
            .store(head.wrapping_add(1), Ordering::Release);
        result.cast_signed()
    }
}

fn map(fd: &OwnedFd, length: usize, offset: i64) -> io::Result<*mut u8> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    // SAFETY: a fresh mapping, of which nobody else knows.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            protection,
            flags,
            fd.as_raw_fd(),
            offset,
        )
    };
    match address {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        address => Ok(address.cast()),
    }
}

fn text(path: &Path) -> CString {
    CString::new(path.as_os_str().as_bytes()).unwrap()
}

/// Whether the kernel did it; it must when it is that version or a later one. Earlier ones may have it
/// from later ones, as Debian's 5.10 has renames.
fn has(answer: i32, since: (u32, u32)) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
    let kernel: (u32, u32) = (numbers.next().unwrap(), numbers.next().unwrap());
    if kernel < since && answer == -libc::EINVAL {
        return false;
    }
    assert_eq!(answer, 0, "there since Linux {since:?}, here {release}");
    true
}

#[test]
fn changes_through_io_uring_are_reported_with_their_process() {
    assert_eq!(offset_of!(Params, submit), 40);
    assert_eq!((size_of::<Params>(), size_of::<Entry>()), (120, 64));
    let ring = match Ring::open() {
        Ok(ring) => ring,
        Err(error) => {
            eprintln!("SKIPPED io_uring: {error}, see kernel.io_uring_disabled");
            return;
        }
    };
    let Some(bench) = Bench::start(Source::Best, &["."]) else {
        return;
    };
    for (how, flags) in [("inline", 0), ("worker", ASYNC)] {
        let name = format!("by-{how}");
        let path = text(&bench.path(&name));
        let open = Entry {
            fd: libc::AT_FDCWD,
            address: path.as_ptr() as u64,
            length: 0o644,
            op_flags: (libc::O_CREAT | libc::O_WRONLY).cast_unsigned(),
            ..Entry::default()
        };
        let fd = ring.run(OP_OPENAT, flags, open);
        assert!(fd >= 0, "{}", io::Error::from_raw_os_error(-fd));
        let content = b"through the ring";
        let write = Entry {
            fd,
            address: content.as_ptr() as u64,
            length: content.len() as u32,
            ..Entry::default()
        };
        assert_eq!(ring.run(OP_WRITE, flags, write), 16);
        let close = Entry {
            fd,
            ..Entry::default()
        };
        assert_eq!(ring.run(OP_CLOSE, flags, close), 0);
        let own = Some(std::process::id());
        let executable = std::env::current_exe().unwrap();
        for action in ["CREATE", "WRITE"] {
            let event = bench.expect(&name, action);
            assert_eq!(event.actor_pid, own, "{how}");
            assert_eq!(event.actor_name.as_deref(), executable.to_str(), "{how}");
        }
        assert_eq!(bench.expect(&name, "WRITE").hash, md5(&bench.path(&name)));
        let (linked, renamed) = (format!("{name}-linked"), format!("{name}-renamed"));
        let two = |code, target: &str| {
            let target = text(&bench.path(target));
            let entry = Entry {
                fd: libc::AT_FDCWD,
                address: path.as_ptr() as u64,
                offset: target.as_ptr() as u64,
                length: libc::AT_FDCWD.cast_unsigned(),
                ..Entry::default()
            };
            ring.run(code, flags, entry)
        };
        let mut expected = Vec::new();
        if has(two(OP_LINKAT, &linked), (5, 15)) {
            expected.push((&linked, "CREATE"));
        } else {
            fs::hard_link(bench.path(&name), bench.path(&linked)).unwrap();
            bench.expect(&linked, "CREATE");
        }
        if has(two(OP_RENAMEAT, &renamed), (5, 11)) {
            expected.extend([(&name, "RENAME"), (&renamed, "CREATE")]);
        }
        let path = text(&bench.path(&linked));
        let unlink = Entry {
            fd: libc::AT_FDCWD,
            address: path.as_ptr() as u64,
            ..Entry::default()
        };
        if has(ring.run(OP_UNLINKAT, flags, unlink), (5, 11)) {
            expected.push((&linked, "REMOVE"));
        }
        for (name, action) in expected {
            assert_eq!(bench.expect(name, action).actor_pid, own, "{how} {action}");
        }
    }
}
