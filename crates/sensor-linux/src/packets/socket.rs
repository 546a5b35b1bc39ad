//! The packet socket: the calls that have no safe form.

use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// A packet socket that shows packets from their network header on. It sees none before
/// [`Socket::begin`].
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// # Errors
    /// Needs `CAP_NET_RAW`.
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Of no protocol: nothing may come in before the filter is there.
        let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, None)?;
        Ok(Self(fd))
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Makes the kernel apply a filter from the next packet on.
    pub(super) fn filter(&self, program: &[libc::sock_filter]) -> io::Result<()> {
        attach(&self.0, program)
    }

    /// Makes a ring of blocks that are handed over when they are full or `latency_ms` old.
    pub(super) fn make_ring(&self, ring: &libc::tpacket_req3) -> io::Result<()> {
        let version = libc::tpacket_versions::TPACKET_V3 as libc::c_int;
        set(&self.0, libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
        set(&self.0, libc::SOL_PACKET, libc::PACKET_RX_RING, ring)
    }

    /// Lets packets of every protocol in, from every interface of this network namespace, those
    /// that come later included.
    pub(super) fn begin(&self) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as libc::c_ushort,
            // Handlers of one protocol do not see what leaves.
            sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
            sll_ifindex: 0,
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let pointer = (&raw const address).cast();
        // SAFETY: a pointer to an address of that length, which the kernel copies.
        let answer = unsafe { libc::bind(self.0.as_raw_fd(), pointer, length) };
        checked(answer)
    }

    /// Packets that passed the filter, and of them those that found no room; both since the last
    /// call.
    pub(super) fn statistics(&self) -> io::Result<libc::tpacket_stats_v3> {
        let mut value = MaybeUninit::<libc::tpacket_stats_v3>::zeroed();
        let mut length = size_of::<libc::tpacket_stats_v3>() as libc::socklen_t;
        let (level, name) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
        let pointer = value.as_mut_ptr().cast();
        // SAFETY: the kernel writes at most `length` bytes, which is the size of what is there.
        let answer =
            unsafe { libc::getsockopt(self.0.as_raw_fd(), level, name, pointer, &raw mut length) };
        checked(answer)?;
        // SAFETY: three numbers, all set to begin with.
        Ok(unsafe { value.assume_init() })
    }
}

/// Makes the kernel apply a filter to what a socket receives.
pub(super) fn attach(fd: &impl AsFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog {
        len: length,
        // The kernel only reads.
        filter: program.as_ptr().cast_mut(),
    };
    set(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

fn set<T: Copy>(fd: &impl AsFd, level: i32, name: i32, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    let pointer = (&raw const *value).cast();
    // SAFETY: a pointer to a value of that length, which the kernel reads; so is what it points to.
    let answer = unsafe { libc::setsockopt(fd.as_fd().as_raw_fd(), level, name, pointer, length) };
    checked(answer)
}

fn checked(answer: i32) -> io::Result<()> {
    match answer {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
