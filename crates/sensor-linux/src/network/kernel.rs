//! Loads `bpf/network.bpf.c` and reads its ring. The only place of this sensor that talks to eBPF.

use std::{
    cell::RefCell,
    fs::{self, File},
    mem::MaybeUninit,
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    ptr, thread,
};

use libbpf_rs::{
    Link, OpenObject, RingBuffer, RingBufferBuilder,
    skel::{OpenSkel, SkelBuilder},
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::record::{self, Record};

#[allow(
    clippy::all,
    clippy::pedantic,
    clippy::undocumented_unsafe_blocks,
    missing_docs,
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used
)]
mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/network.skel.rs"));
}

use skeleton::{NetworkSkel, NetworkSkelBuilder};

/// Records read in one go.
const BATCH: usize = 16_384;

/// Why the kernel side cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The kernel refuses the programs.
    #[error("kernel refuses the connection programs; it needs BTF and the agent needs root")]
    Load(#[source] libbpf_rs::Error),
    /// A hook nothing works without.
    #[error("hook `{0}` cannot be attached")]
    Attach(&'static str, #[source] libbpf_rs::Error),
    /// The ring cannot be read.
    #[error("ring of connection records cannot be read")]
    Ring(#[source] libbpf_rs::Error),
}

/// The attached programs.
pub(super) struct Kernel {
    skeleton: NetworkSkel<'static>,
    _links: Vec<Link>,
    /// Hooks that could not be attached, and why.
    pub(super) missing: Vec<String>,
}

/// What the ring was too small for, since the programs were attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Lost {
    /// Attempts, accepts and UDP flows.
    pub(super) observations: u64,
    /// Outcomes and handshakes.
    pub(super) details: u64,
}

impl Kernel {
    /// Loads and attaches. Without control groups the attempt is reported with its outcome;
    /// without the accept hooks the accepting process is looked up; both are told in `missing`.
    pub(super) fn open() -> Result<Self, Error> {
        with_tracefs(Self::attach)
    }

    fn attach() -> Result<Self, Error> {
        let mut missing = Vec::new();
        let skeleton = match load(true) {
            Ok(skeleton) => skeleton,
            Err(_) => {
                let skeleton = load(false).map_err(Error::Load)?;
                missing.push("sock_send_length (Linux 6.3): senders of UDP are looked up".into());
                skeleton
            }
        };
        let programs = &skeleton.progs;
        let attached = programs.on_set_state.attach();
        let mut links =
            vec![attached.map_err(|error| Error::Attach("inet_sock_set_state", error))?];
        if programs.on_send_length.autoload() {
            match programs.on_send_length.attach() {
                Ok(link) => links.push(link),
                Err(error) => missing.push(format!("sock_send_length: {error}")),
            }
        }

        for program in [&programs.on_accept, &programs.on_accept4] {
            match program.attach() {
                Ok(link) => links.push(link),
                Err(error) => missing.push(format!("sys_exit_accept (tracefs): {error}")),
            }
        }

        match control_group_root().and_then(|path| File::open(path).ok()) {
            Some(root) => {
                for (name, program) in [
                    ("sock_ops", &programs.on_sock_ops),
                    ("sendmsg4", &programs.on_sendmsg4),
                    ("sendmsg6", &programs.on_sendmsg6),
                ] {
                    match program.attach_cgroup(root.as_raw_fd()) {
                        Ok(link) => links.push(link),
                        Err(error) => missing.push(format!("{name}: {error}")),
                    }
                }
            }
            None => missing.push("sock_ops: control groups version 2 are not mounted".into()),
        }
        Ok(Self {
            skeleton,
            _links: links,
            missing,
        })
    }

    /// Starts or stops the observation of UDP.
    pub(super) fn want_udp(&mut self, wanted: bool) {
        if let Some(bss) = self.skeleton.maps.bss_data.as_mut() {
            // SAFETY: the field lies in the map's memory, mapped for as long as the skeleton
            // lives; programs only read it.
            unsafe { ptr::write_volatile(&raw mut bss.udp_wanted, u32::from(wanted)) };
        }
    }

    /// What did not fit the ring so far.
    pub(super) fn lost(&self) -> Lost {
        let Some(bss) = self.skeleton.maps.bss_data.as_ref() else {
            return Lost::default();
        };
        // SAFETY: the field lies in the map's memory, mapped for as long as the skeleton lives;
        // programs change it as one aligned 64-bit word.
        let observations = unsafe { ptr::read_volatile(&raw const bss.lost_observations) };
        // SAFETY: as above.
        let details = unsafe { ptr::read_volatile(&raw const bss.lost_details) };
        Lost {
            observations,
            details,
        }
    }

    /// The ring, delivering into `batch`.
    pub(super) fn reader<'a>(&self, batch: &'a RefCell<Batch>) -> Result<Reader<'a>, Error> {
        let mut builder = RingBufferBuilder::new();
        builder
            .add(&self.skeleton.maps.records, |bytes| {
                let mut batch = batch.borrow_mut();
                match record::decode(bytes) {
                    Some(record) => batch.records.push(record),
                    None => batch.malformed += 1,
                }
                0
            })
            .map_err(Error::Ring)?;
        let ring = builder.build().map_err(Error::Ring)?;
        Ok(Reader(ring))
    }
}

/// What one look at the ring found.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) records: Vec<Record>,
    pub(super) malformed: u64,
}

/// Reads the ring.
pub(super) struct Reader<'a>(RingBuffer<'a>);

impl Reader<'_> {
    /// Takes what is there, up to a bound; says whether there may be more.
    pub(super) fn read(&self) -> bool {
        usize::try_from(self.0.consume_raw_n(BATCH)).is_ok_and(|count| count >= BATCH)
    }

    /// Becomes readable when the ring should be read before its time.
    pub(super) fn fd(&self) -> i32 {
        self.0.epoll_fd()
    }
}

fn load(with_send_length: bool) -> Result<NetworkSkel<'static>, libbpf_rs::Error> {
    // One pointer, kept for the life of the process: the skeleton borrows it.
    let storage: &'static mut MaybeUninit<OpenObject> = Box::leak(Box::new(MaybeUninit::uninit()));
    let mut open = NetworkSkelBuilder::default().open(storage)?;
    open.progs.on_send_length.set_autoload(with_send_length);
    open.load()
}

/// Runs `work` where syscall tracepoints have their numbers in a mounted tracefs. When the host
/// has none mounted, `work` runs in a thread with a mount namespace of its own, so that nobody
/// else sees the mount, and it ends with the thread. When it cannot be mounted, `work` finds none.
fn with_tracefs<T: Send>(work: fn() -> T) -> T {
    let mounted = |root: &str| Path::new(root).join("events/syscalls").exists();
    if mounted("/sys/kernel/tracing") || mounted("/sys/kernel/debug/tracing") {
        return work();
    }
    let attached = thread::scope(|scope| {
        let worker = scope.spawn(|| {
            if let Err(error) = mount_tracefs() {
                tracing::warn!(%error, "tracefs cannot be mounted");
            }
            work()
        });
        worker.join()
    });
    attached.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// For this thread only.
fn mount_tracefs() -> nix::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    let (kind, none) = (Some("tracefs"), None::<&str>);
    mount(kind, "/sys/kernel/tracing", kind, MsFlags::empty(), none)
}

/// Where control groups version 2 are mounted; hybrid systems have them in a sub-directory.
fn control_group_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    control_group_mount(&mounts)
}

/// Mount point of the whole version 2 hierarchy in a `mountinfo` table.
fn control_group_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        if source.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use std::{
        net::{TcpListener, TcpStream},
        time::{Duration, Instant},
    };

    use super::*;

    #[test]
    fn a_ring_that_nobody_reads_loses_an_exactly_known_number_of_records() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("SKIPPED ring overflow: needs root");
            return;
        }
        let kernel = Kernel::open().unwrap();
        assert_eq!(kernel.missing, Vec::<String>::new());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let end = listener.local_addr().unwrap();
        let mut connects = 0;
        // Four records each; the ring has room for 17,476.
        while kernel.lost().observations < 1000 {
            assert!(connects < 20_000, "the ring never fills");
            let client = TcpStream::connect(end).unwrap();
            drop((client, listener.accept().unwrap()));
            connects += 1;
        }
        assert!(kernel.lost().details > 0);

        // Other tests connect meanwhile: the sum holds at some moment, not at every one.
        let batch = RefCell::new(Batch::default());
        let reader = kernel.reader(&batch).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            while reader.read() {}
            let lost = kernel.lost();
            let read = batch.borrow().records.len() as u64;
            let bss = kernel.skeleton.maps.bss_data.as_ref().unwrap();
            // SAFETY: as in `Kernel::lost`.
            let produced = unsafe { ptr::read_volatile(&raw const bss.produced) };
            if produced == read + lost.observations + lost.details {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{produced} made, {read} read, {lost:?}"
            );
        }
        assert_eq!(batch.borrow().malformed, 0);
    }

    #[test]
    fn control_groups_are_found_on_unified_and_hybrid_systems() {
        let unified = "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let hybrid = "30 23 0:25 / /sys/fs/cgroup rw - tmpfs none rw\n\
            32 30 0:27 /docker/1 /bound rw - cgroup2 cgroup2 rw\n\
            31 30 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        for (table, expected) in [
            (unified, Some("/sys/fs/cgroup")),
            (hybrid, Some("/sys/fs/cgroup/unified")),
            ("", None),
            ("broken - cgroup2", None),
        ] {
            assert_eq!(control_group_mount(table), expected.map(PathBuf::from));
        }
    }
}
