//! Ways to change the content or the attributes of a file.

use std::{
    ffi::CString,
    fs::{self, File, OpenOptions, Permissions},
    io::{Read, Seek, SeekFrom, Write},
    os::{
        fd::AsRawFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileExt, PermissionsExt, chown},
        },
    },
    path::Path,
    ptr,
};

use yinglong_model::event::Mode;

use super::{Bench, Source, both, md5};

fn open(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).open(path).unwrap()
}

/// A second file with content to copy from.
fn source() -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&[b's'; 4096]).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

/// A shared mapping of the first page of `file`.
fn map(file: &File) -> *mut u8 {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping, of which nobody else knows.
    let address = unsafe {
        libc::mmap(
            ptr::null_mut(),
            4096,
            protection,
            libc::MAP_SHARED,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(address, libc::MAP_FAILED);
    address.cast()
}

fn unmap(address: *mut u8) {
    // SAFETY: the mapping made by `map`, which nobody uses any more.
    assert_eq!(unsafe { libc::munmap(address.cast(), 4096) }, 0);
}

/// A name and a writer. Each changes a file of 8192 bytes.
type Writer = (&'static str, fn(&Path));

const WRITERS: &[Writer] = &[
    ("write", |path| open(path).write_all(b"new").unwrap()),
    ("pwrite", |path| open(path).write_all_at(b"new", 9).unwrap()),
    ("truncate", |path| {
        nix::unistd::truncate(path, 5).unwrap();
    }),
    ("ftruncate", |path| open(path).set_len(6).unwrap()),
    ("extend", |path| open(path).set_len(99_999).unwrap()),
    ("punch", |path| {
        let flags = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: no pointers are passed.
        let done = unsafe { libc::fallocate(open(path).as_raw_fd(), flags, 0, 4096) };
        assert_eq!(done, 0);
    }),
    ("copy_file_range", |path| {
        // From file to file of one file system the library uses this call.
        let copied = std::io::copy(&mut source_beside(path), &mut open(path));
        assert_eq!(copied.unwrap(), 4096);
    }),
    ("sendfile", |path| {
        let (from, to) = (source(), open(path));
        // SAFETY: the pointer may be null, and then the position of the file is used.
        let sent =
            unsafe { libc::sendfile(to.as_raw_fd(), from.as_raw_fd(), ptr::null_mut(), 4096) };
        assert_eq!(sent, 4096);
    }),
    ("splice", |path| {
        let (reader, writer) = nix::unistd::pipe().unwrap();
        nix::unistd::write(&writer, b"spliced").unwrap();
        let file = open(path);
        let (from, to) = (reader.as_raw_fd(), file.as_raw_fd());
        // SAFETY: the pointers may be null, and then the positions of the files are used.
        let moved = unsafe { libc::splice(from, ptr::null_mut(), to, ptr::null_mut(), 7, 0) };
        assert_eq!(moved, 7);
    }),
    ("proc-fd", |path| {
        let reader = File::open(path).unwrap();
        let link = format!("/proc/self/fd/{}", reader.as_raw_fd());
        open(Path::new(&link)).write_all(b"new").unwrap();
    }),
    ("mapping", |path| {
        let file = open(path);
        let address = map(&file);
        // SAFETY: within the mapping.
        unsafe { address.write(b'M') };
        unmap(address);
    }),
    ("mapping-held", |path| {
        let file = open(path);
        let address = map(&file);
        drop(file);
        // SAFETY: within the mapping.
        unsafe { address.write(b'M') };
        unmap(address);
    }),
    ("mapping-chmod", |path| {
        let file = open(path);
        let address = map(&file);
        fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
        // SAFETY: within the mapping.
        unsafe { address.write(b'M') };
        unmap(address);
    }),
];

/// On the same file system, which `copy_file_range` prefers.
fn source_beside(path: &Path) -> File {
    let mut content = Vec::new();
    source().read_to_end(&mut content).unwrap();
    let mut file = tempfile::tempfile_in(path.parent().unwrap()).unwrap();
    file.write_all(&content).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

#[test]
fn every_way_to_write_is_reported_with_the_final_content() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        for (name, _) in WRITERS {
            fs::write(bench.path(name), [b'o'; 8192]).unwrap();
        }
        bench.drain();
        for (name, write) in WRITERS {
            write(&bench.path(name));
            let content = md5(&bench.path(name));
            let event = bench.until(name, |file| file.action == "WRITE" && file.hash == content);
            if source == Source::Best {
                assert_eq!(event.actor_pid, Some(std::process::id()), "{name}");
            }
        }
    });
}

#[test]
fn a_writer_by_handle_is_reported_although_the_kernel_has_no_name_for_it() {
    let Some(mut bench) = Bench::start(Source::Best, &[]) else {
        return;
    };
    fs::create_dir_all(bench.path("in/deep")).unwrap();
    fs::create_dir(bench.path("out")).unwrap();
    for name in ["in/deep/f", "out/f"] {
        fs::write(bench.path(name), "text").unwrap();
    }
    bench.configure(&["in/*"]);
    let mount = File::open(bench.path(".")).unwrap();
    for name in ["out/f", "in/deep/f"] {
        let path = CString::new(bench.path(name).as_os_str().as_bytes()).unwrap();
        // `struct file_handle`: room for its bytes, type, bytes.
        let mut handle = [0_u32; 34];
        handle[0] = 128;
        let mut mount_id = 0;
        // SAFETY: `path` is a C string, `handle` is laid out as what the call fills, with room for
        // the bytes it announces; all outlive the call.
        let done = unsafe {
            libc::name_to_handle_at(
                libc::AT_FDCWD,
                path.as_ptr(),
                handle.as_mut_ptr().cast(),
                &raw mut mount_id,
                0,
            )
        };
        assert_eq!(done, 0);
        // Without its name in the cache the kernel opens the file without one.
        fs::write("/proc/sys/vm/drop_caches", "2").unwrap();
        // SAFETY: `handle` was just filled by the kernel and outlives the call.
        let fd = unsafe {
            libc::open_by_handle_at(
                mount.as_raw_fd(),
                handle.as_mut_ptr().cast(),
                libc::O_WRONLY | libc::O_APPEND,
            )
        };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: the kernel just returned this descriptor to us alone.
        let mut file: File = unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) };
        file.write_all(b" and more").unwrap();
    }
    let content = md5(&bench.path("in/deep/f"));
    let event = bench.until("in/deep/f", |file| file.hash == content);
    assert_eq!(event.action, "WRITE");
    assert_eq!(event.actor_pid, Some(std::process::id()));
    bench.drain();
    assert_eq!(bench.actions("out/f"), [""; 0]);
}

fn mode(bits: u32) -> Option<Mode> {
    Some(Mode::from_bits(bits))
}

#[test]
fn permission_bits_and_capabilities_are_told() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        let path = bench.path("tool");
        fs::write(&path, "x").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(bench.expect("tool", "WRITE").mode, mode(0o644));
        fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
        let event = bench.until("tool", |file| file.mode == mode(0o4755));
        assert_eq!((event.action.as_str(), event.capabilities), ("CHMOD", None));
        chown(&path, Some(65_534), None).unwrap();
        bench.until("tool", |file| {
            file.user == "nobody" && file.mode == mode(0o755)
        });
        // The second version: cap_setuid, effective and permitted.
        let value: [u32; 5] = [0x0200_0001, 1 << 7, 0, 0, 0];
        let text = CString::new(path.as_os_str().as_bytes()).unwrap();
        // SAFETY: both names are C strings, `value` has the size told; all outlive the call.
        let done = unsafe {
            libc::setxattr(
                text.as_ptr(),
                c"security.capability".as_ptr(),
                value.as_ptr().cast(),
                20,
                0,
            )
        };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
        let event = bench.until("tool", |file| file.capabilities.is_some());
        assert_eq!(event.action, "CHMOD");
        assert_eq!(event.capabilities.as_deref(), Some("cap_setuid=ep"));
        fs::create_dir(bench.path("dir")).unwrap();
        fs::set_permissions(bench.path("dir"), Permissions::from_mode(0o1777)).unwrap();
        bench.until("dir", |file| file.mode == mode(0o1777));
    });
}
