//! The storms themselves, in a process of their own.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::{
        resource::{UsageWho, getrusage},
        socket::{
            AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, bind, connect, listen,
            setsockopt, socket, sockopt,
        },
        time::TimeValLike as _,
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

/// Connections come from this address and those after it: the mark is in the address.
const FIRST_SOURCE: u32 = 0x7f40_0000;
/// Most operations of a storm: as many addresses as there are.
pub const MOST: u32 = 1 << 22;
/// Program that is executed: it does nothing.
const PROGRAMS: [&str; 2] = ["/bin/true", "/usr/bin/true"];

/// What happens in a storm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A program is executed.
    Exec,
    /// A file is created, written, closed and removed.
    File,
    /// A connection over loopback is made, one byte is sent, the connection is reset.
    Connect,
}

impl Kind {
    /// Name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::File => "file",
            Self::Connect => "connect",
        }
    }

    /// Most observations that one operation makes.
    pub const fn observations(self) -> u64 {
        match self {
            Self::Exec => 1,
            // A loopback connection has two sides.
            Self::Connect => 2,
            // Created, written, removed; how much of it is told together is a matter of time.
            Self::File => 3,
        }
    }

    /// Stream whose books count it.
    pub const fn stream(self) -> &'static str {
        match self {
            Self::Exec => "process",
            Self::File => "file",
            Self::Connect => "connection",
        }
    }
}

/// One storm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Kind.
    pub kind: Kind,
    /// Operations.
    pub count: u32,
    /// Workers; worker k is pinned to the k-th processor this process may use, and round again.
    pub workers: usize,
    /// In every mark, so that storms are told apart.
    pub token: String,
    /// Where files are made.
    pub folder: PathBuf,
}

impl Order {
    /// What stands in the command line before the number, and in a file's name.
    pub fn mark(&self) -> String {
        format!("ylmark-{}", self.token)
    }

    /// Folder of the files of a file storm.
    pub fn files(&self) -> PathBuf {
        self.folder.join("storm")
    }

    /// Number of the connection that came from `address`.
    pub fn number_of(address: Ipv4Addr) -> Option<u32> {
        let number = u32::from(address).checked_sub(FIRST_SOURCE)?;
        (number < MOST).then_some(number)
    }
}

/// What a storm took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// From the start of all workers to the end of the last, in microseconds.
    pub wall_us: u64,
    /// Processor time of the storm, its children included, in microseconds.
    pub cpu_us: u64,
}

/// Runs a storm in a process of its own: this program with hidden arguments.
///
/// # Errors
/// It cannot be started, or did not do what it was told to.
pub fn spawn(order: &Order) -> anyhow::Result<Figures> {
    let program = std::env::current_exe().context("this program cannot be found")?;
    let output = Command::new(program)
        .args(["bench", "work"])
        .arg(serde_json::to_string(order)?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .process_group(0)
        .output()
        .context("the storm cannot be started")?;
    if !output.status.success() {
        bail!("the storm failed ({})", output.status);
    }
    serde_json::from_slice(&output.stdout).context("the storm said nothing about itself")
}

/// Carries a storm out in this process, which should do nothing else.
///
/// # Errors
/// An operation fails.
pub fn work(order: &Order) -> anyhow::Result<Figures> {
    let cpus = cpus()?;
    let target = match order.kind {
        Kind::Exec => Target::Program(program()?),
        Kind::File => {
            let folder = order.files();
            fs::create_dir_all(&folder).context("the folder of the storm cannot be made")?;
            Target::Folder(folder)
        }
        Kind::Connect => Target::Server(Server::start()?),
    };
    let target = Arc::new(target);
    let workers = order.workers.clamp(1, 1024);
    let barrier = Arc::new(Barrier::new(workers + 1));
    let mut threads = Vec::new();
    for (worker, cpu) in (0..workers).zip(cpus.into_iter().cycle()) {
        let (order, target) = (order.clone(), Arc::clone(&target));
        let barrier = Arc::clone(&barrier);
        threads.push(thread::spawn(move || {
            let pinned = pin(cpu);
            barrier.wait();
            pinned?;
            let mut number = u32::try_from(worker)?;
            let step = u32::try_from(workers)?;
            while number < order.count {
                target.once(&order, number)?;
                number += step;
            }
            anyhow::Ok(())
        }));
    }
    let before = cpu_us()?;
    barrier.wait();
    let started = Instant::now();
    let mut outcome = Ok(());
    for thread in threads {
        let ended = thread.join();
        outcome = outcome.and(ended.unwrap_or_else(|_| bail!("a worker ended badly")));
    }
    let wall_us = u64::try_from(started.elapsed().as_micros())?;
    outcome?;
    if let Target::Server(server) = &*target {
        server.accept_all(order.count);
    }
    Ok(Figures {
        wall_us,
        cpu_us: cpu_us()?.saturating_sub(before),
    })
}

enum Target {
    Program(&'static str),
    Folder(PathBuf),
    Server(Server),
}

impl Target {
    fn once(&self, order: &Order, number: u32) -> anyhow::Result<()> {
        match self {
            Self::Program(program) => {
                let mut command = Command::new(program);
                command.arg(order.mark()).arg(number.to_string());
                let status = command.status().context("a program cannot be started")?;
                if !status.success() {
                    bail!("{program} ended with {status}");
                }
            }
            Self::Folder(folder) => {
                let path = folder.join(format!("{}-{number}", order.mark()));
                let mut options = OpenOptions::new();
                let options = options.write(true).create(true).truncate(true);
                let mut file = options.open(&path).context("a file cannot be made")?;
                file.write_all(b"storm\n")?;
                drop(file);
                fs::remove_file(&path)?;
            }
            Self::Server(server) => server.visit(number).context("a connection failed")?,
        }
        Ok(())
    }
}

/// Takes connections and lets go of them.
struct Server {
    address: SocketAddrV4,
    ending: Arc<AtomicBool>,
    accepted: Arc<AtomicU32>,
}

impl Server {
    const THREADS: usize = 2;
    const BACKLOG: i32 = 4096;
    /// Longest wait for what was not accepted yet when the storm ended.
    const PATIENCE: Duration = Duration::from_secs(5);

    fn start() -> anyhow::Result<Self> {
        let fd = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let any_port = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        bind(fd.as_raw_fd(), &any_port)?;
        listen(&fd, Backlog::new(Self::BACKLOG).unwrap_or(Backlog::MAXCONN))?;
        let listener = TcpListener::from(fd);
        let std::net::SocketAddr::V4(address) = listener.local_addr()? else {
            bail!("the server of the storm has no address");
        };
        let ending = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicU32::new(0));
        for _ in 0..Self::THREADS {
            let (listener, ending) = (listener.try_clone()?, Arc::clone(&ending));
            let accepted = Arc::clone(&accepted);
            thread::spawn(move || {
                // An accept that fails is a peer that has gone already.
                while !ending.load(Ordering::Acquire) {
                    if listener.accept().is_ok() {
                        accepted.fetch_add(1, Ordering::AcqRel);
                    }
                }
            });
        }
        Ok(Self {
            address,
            ending,
            accepted,
        })
    }

    /// Waits until every connection was accepted: one that was not has no process on that side.
    fn accept_all(&self, count: u32) {
        let begun = Instant::now();
        while self.accepted.load(Ordering::Acquire) < count && begun.elapsed() < Self::PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn visit(&self, number: u32) -> io::Result<()> {
        let fd = socket(
            AddressFamily::Inet,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let source = Ipv4Addr::from(FIRST_SOURCE + number);
        bind(
            fd.as_raw_fd(),
            &SockaddrIn::from(SocketAddrV4::new(source, 0)),
        )?;
        let at_once = libc::linger {
            l_onoff: 1,
            l_linger: 0,
        };
        setsockopt(&fd, sockopt::Linger, &at_once)?;
        connect(fd.as_raw_fd(), &SockaddrIn::from(self.address))?;
        TcpStream::from(fd).write_all(b"x")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Release);
    }
}

fn program() -> anyhow::Result<&'static str> {
    let found = PROGRAMS.into_iter().find(|path| fs::metadata(path).is_ok());
    found.context("there is no /bin/true to execute; install coreutils")
}

/// Processors this process may use.
///
/// # Errors
/// The system does not say.
pub fn cpus() -> anyhow::Result<Vec<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0))?;
    let cpus = 0..CpuSet::count();
    let cpus: Vec<_> = cpus
        .filter(|cpu| allowed.is_set(*cpu).unwrap_or(false))
        .collect();
    if cpus.is_empty() {
        bail!("this process may use no processor");
    }
    Ok(cpus)
}

fn pin(cpu: usize) -> anyhow::Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)?;
    sched_setaffinity(Pid::from_raw(0), &set).context("a worker cannot be pinned")
}

fn cpu_us() -> anyhow::Result<u64> {
    let mut total = 0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        total += usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    }
    Ok(u64::try_from(total)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_connection_is_in_its_address() {
        assert_eq!(Order::number_of(Ipv4Addr::new(127, 64, 0, 0)), Some(0));
        assert_eq!(Order::number_of(Ipv4Addr::new(127, 64, 1, 2)), Some(258));
        assert_eq!(Order::number_of(Ipv4Addr::LOCALHOST), None);
        assert_eq!(Order::number_of(Ipv4Addr::new(192, 0, 2, 1)), None);
    }

    #[test]
    fn storms_do_what_they_are_told() {
        let folder = tempfile::tempdir().unwrap();
        for kind in [Kind::File, Kind::Connect, Kind::Exec] {
            let order = Order {
                kind,
                count: 7,
                workers: 2,
                token: "t".into(),
                folder: folder.path().to_owned(),
            };
            let figures = work(&order).unwrap();
            assert!(figures.wall_us > 0, "{kind:?}");
        }
        assert_eq!(
            fs::read_dir(folder.path().join("storm")).unwrap().count(),
            0
        );
    }
}
