//! Against the kernel's own audit subsystem.

use std::{
    os::fd::AsRawFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, send};

use super::*;

const SET: u16 = 1001;
/// Bit of the mask that says that `enabled` is set.
const ENABLED: u32 = 1;

fn message(kind: u16, payload: &[u8]) {
    let fd = socket::socket().unwrap();
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).unwrap();
    // A text ends with a zero; the kernel cuts the last byte off.
    let payload = [payload, b"\0"].concat();
    let length = u32::try_from(16 + payload.len()).unwrap();
    let mut bytes = Vec::new();
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(1_u16.to_ne_bytes());
    bytes.extend([0; 8]);
    bytes.extend(payload);
    send(fd.as_raw_fd(), &bytes, MsgFlags::empty()).unwrap();
}

fn enable(on: u32) {
    let mut status = Vec::new();
    for word in [ENABLED, on, 0, 0, 0, 0, 0, 0, 0, 0] {
        status.extend(u32::to_ne_bytes(word));
    }
    message(SET, &status);
}

/// Auditing is as it was when this is dropped.
pub(in crate::logins) struct On(bool, #[expect(dead_code)] MutexGuard<'static, ()>);

/// One test at a time turns it on and off.
static TURN: Mutex<()> = Mutex::new(());

impl On {
    pub(in crate::logins) fn new() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let on = socket::state().is_some_and(|enabled| enabled != 0);
        if !on {
            enable(1);
        }
        Self(on, turn)
    }
}

/// Whether auditing can be turned on and heard here.
pub(in crate::logins) fn is_possible() -> bool {
    Audit::open(Accounts::default()).socket.is_ok() && socket::state().is_some()
}

impl Drop for On {
    fn drop(&mut self) {
        if !self.0 {
            enable(0);
        }
    }
}

#[test]
fn what_a_program_tells_the_kernel_is_told_here_a09_a10() {
    let test = "what_a_program_tells_the_kernel_is_told_here_a09_a10";
    let mut audit = Audit::open(Accounts::default());
    if audit.socket.is_err() || socket::state().is_none() {
        eprintln!("SKIPPED {test}: {:?}", audit.reason());
        return;
    }
    let on = On::new();
    let user = format!("probe{}", std::process::id());
    let login = |kind: u16, result: &str| {
        let text = format!(
            "op=login acct=\"{user}\" exe=\"/usr/sbin/sshd\" hostname=? addr=192.0.2.7 terminal=ssh res={result}"
        );
        message(kind, text.as_bytes());
    };
    // Not one that is asked for.
    message(1107, b"op=x acct=\"x\" res=success");
    login(record::USER_AUTH, "failed");
    login(record::USER_AUTH, "failed");
    login(record::USER_LOGIN, "failed");
    login(record::USER_LOGIN, "success");
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut batch = Batch::default();
    let mut told = Vec::new();
    while told.len() < 3 && Instant::now() < deadline {
        audit.read(crate::logins::tamper::clock(), &mut batch);
        told.extend(
            batch
                .told
                .drain(..)
                .filter(|told| told.login.username == user),
        );
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(on);
    let outcomes: Vec<bool> = told.iter().map(|told| told.login.status).collect();
    assert_eq!(outcomes, [false, false, true], "{told:?}");
    assert_eq!(told[0].login.remote, "192.0.2.7");
    assert_eq!(told[0].login.source.as_deref(), Some("audit"));
    let age = crate::logins::tamper::clock().since(told[0].at);
    assert!(age < Duration::from_secs(60), "{age:?}");
    assert_eq!((batch.malformed, batch.overflowed), (0, 0));
}

#[test]
fn what_the_queue_has_no_room_for_is_counted() {
    let test = "what_the_queue_has_no_room_for_is_counted";
    let mut audit = Audit::open(Accounts::default());
    if audit.socket.is_err() || socket::state().is_none() {
        eprintln!("SKIPPED {test}: {:?}", audit.reason());
        return;
    }
    if let Ok(socket) = &audit.socket {
        socket.shrink();
    }
    let on = On::new();
    let mut batch = Batch::default();
    let deadline = Instant::now() + Duration::from_secs(20);
    // The kernel hands them on from a thread of its own.
    while batch.overflowed == 0 && Instant::now() < deadline {
        for _ in 0..64 {
            let text =
                b"op=login acct=\"flood\" exe=\"/x\" hostname=? addr=? terminal=ssh res=failed";
            message(record::USER_AUTH, text);
        }
        std::thread::sleep(Duration::from_millis(50));
        audit.read(crate::logins::tamper::clock(), &mut batch);
    }
    drop(on);
    assert!(batch.overflowed > 0);
    assert!(!batch.told.is_empty(), "the others came");
}
