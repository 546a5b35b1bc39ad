//! A name server of a few lines.

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

const LOOK: Duration = Duration::from_millis(20);

/// How it answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Behaviour {
    /// Flags of the answer; with the code `NOERROR` it has one address.
    pub(super) flags: u16,
    /// Does not answer at all.
    pub(super) silent: bool,
    /// Asks another server before it answers.
    pub(super) forward: Option<&'static str>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            flags: 0x8180,
            silent: false,
            forward: None,
        }
    }
}

/// Serves port 53 of an address until it is dropped.
pub(super) struct Server {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    pub(super) fn start(ip: &str, behaviour: Behaviour) -> Self {
        let ip: IpAddr = ip.parse().unwrap();
        let end = SocketAddr::new(ip, 53);
        let stop = Arc::new(AtomicBool::new(false));
        let udp = UdpSocket::bind(end).unwrap();
        udp.set_read_timeout(Some(LOOK)).unwrap();
        let tcp = TcpListener::bind(end).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let threads = vec![
            {
                let stop = Arc::clone(&stop);
                thread::spawn(move || over_udp(&udp, behaviour, &stop))
            },
            {
                let stop = Arc::clone(&stop);
                thread::spawn(move || over_tcp(&tcp, behaviour, &stop))
            },
        ];
        Self { stop, threads }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn over_udp(socket: &UdpSocket, behaviour: Behaviour, stop: &AtomicBool) {
    let mut buffer = [0; 65_536];
    while !stop.load(Ordering::Acquire) {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else {
            continue;
        };
        if let Some(server) = behaviour.forward {
            let outside = UdpSocket::bind("127.0.0.1:0").unwrap();
            outside.send_to(&buffer[..length], server).unwrap();
            outside.recv(&mut [0; 4096]).unwrap();
        }
        if let Some(answer) = answer(&buffer[..length], behaviour) {
            let _ = socket.send_to(&answer, from);
        }
    }
}

fn over_tcp(listener: &TcpListener, behaviour: Behaviour, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let Ok((mut stream, _)) = listener.accept() else {
            thread::sleep(LOOK);
            continue;
        };
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut question).unwrap();
        let Some(answer) = answer(&question, behaviour) else {
            continue;
        };
        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
        for part in [&length[..1], &length[1..], &answer[..9], &answer[9..]] {
            stream.write_all(part).unwrap();
            thread::sleep(LOOK);
        }
    }
}

/// The question, with other flags and an address.
fn answer(question: &[u8], behaviour: Behaviour) -> Option<Vec<u8>> {
    if behaviour.silent || question.len() < 17 {
        return None;
    }
    let mut bytes = question.to_vec();
    bytes[2..4].copy_from_slice(&behaviour.flags.to_be_bytes());
    // An answer that is cut has none to begin with.
    if behaviour.flags & 0x020f == 0 {
        bytes[7] = 1;
        bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 7]);
    }
    Some(bytes)
}
