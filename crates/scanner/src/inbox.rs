//! Questions as they come in, with the files that some of them bring.

use std::{
    collections::VecDeque,
    io::{self, IoSliceMut, Read},
    mem::MaybeUninit,
    os::fd::OwnedFd,
};

use rustix::{
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};

/// Bytes from who asks. A socket brings descriptors as well; anything else is read as it is.
#[derive(Debug)]
pub struct Inbox {
    input: OwnedFd,
    /// What came and was not taken yet, in order.
    handed: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Reads from there.
    pub fn new(input: OwnedFd) -> Self {
        Self {
            input,
            handed: VecDeque::new(),
        }
    }

    /// The descriptor that came with the oldest question that brought one.
    pub fn take(&mut self) -> Option<OwnedFd> {
        self.handed.pop_front()
    }
}

impl Read for Inbox {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(buffer)];
        match recvmsg(
            &self.input,
            &mut parts,
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Ok(received) => {
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(files) = message {
                        self.handed.extend(files);
                    }
                }
                Ok(received.bytes)
            }
            Err(Errno::NOTSOCK) => Ok(rustix::io::read(&self.input, buffer)?),
            Err(error) => Err(error.into()),
        }
    }
}
