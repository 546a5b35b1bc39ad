//! What a child process calls: one scene each, chosen by its arguments.

use std::{
    ffi::CStr,
    io::Write as _,
    process::{Command, Stdio},
};

/// Tells the child which scene to play.
const SCENE: &str = "YINGLONG_SCENE";

/// Plays the scene of this process, if it is such a child; the test `child` calls this.
pub(crate) fn play() {
    let Ok(scene) = std::env::var(SCENE) else {
        return;
    };
    let words: Vec<&str> = scene.split(' ').collect();
    let number = |index: usize| -> libc::c_long { words[index].parse().unwrap() };
    match words[0] {
        "attach" => {
            ask(libc::SYS_ptrace, &[16, number(1)]);
            // SAFETY: waits for a process that this thread traces; the status is not wanted.
            unsafe { libc::waitpid(number(1) as i32, std::ptr::null_mut(), 0x4000_0000) };
            ask(libc::SYS_ptrace, &[17, number(1)]);
        }
        "write_memory" => {
            let text = *b"text";
            let part = libc::iovec {
                iov_base: text.as_ptr().cast_mut().cast(),
                iov_len: 4,
            };
            let at = &raw const part as libc::c_long;
            let me = std::process::id().into();
            ask(libc::SYS_process_vm_writev, &[me, at, 1, at, 1]);
        }
        "memory_file" => memory_file(),
        "namespaces" => namespaces(),
        "program" => program(),
        "module" => {
            let image = [0u8; 64];
            let options = c"debug=1".as_ptr() as libc::c_long;
            ask(
                libc::SYS_init_module,
                &[image.as_ptr() as libc::c_long, 64, options],
            );
        }
        "signal" => {
            ask(libc::SYS_kill, &[number(1), number(2)]);
        }
        "signals" => {
            let pid = number(1);
            ask(libc::SYS_kill, &[pid, 0]);
            ask(libc::SYS_kill, &[-pid, 0]);
            ask(libc::SYS_tgkill, &[pid, pid, 0]);
            let descriptor = ask(libc::SYS_pidfd_open, &[pid, 0]);
            ask(libc::SYS_pidfd_send_signal, &[descriptor, 0, 0, 0]);
            // Its parent is not the agent.
            ask(
                libc::SYS_kill,
                &[std::os::unix::process::parent_id().into(), 0],
            );
        }
        "rights" => {
            ask(libc::SYS_setresuid, &[1000, 1000, 0]);
            ask(libc::SYS_setresuid, &[-1, 0, -1]);
            // Has it already.
            ask(libc::SYS_setresuid, &[0, 0, 0]);
        }
        "executions" => {
            for path in [c"/etc/passwd", c"/nonexistent/program", c"/etc"] {
                let arguments = [path.as_ptr(), std::ptr::null()];
                let at = arguments.as_ptr() as libc::c_long;
                ask(libc::SYS_execve, &[path.as_ptr() as libc::c_long, at, 0]);
            }
        }
        "hostile" => {
            ask(libc::SYS_mount, &[1, 1, 1, 0, 0]);
            ask(libc::SYS_bpf, &[5, 1, 128]);
            ask(libc::SYS_setns, &[-7, 0]);
            let name = c"\xff\xfe\n".as_ptr() as libc::c_long;
            ask(libc::SYS_memfd_create, &[name, 0]);
            let long = [b'a'; 5000];
            ask(libc::SYS_umount2, &[long.as_ptr() as libc::c_long, 0]);
        }
        "storm" => {
            for _ in 0..number(1) {
                let descriptor = ask(
                    libc::SYS_memfd_create,
                    &[c"storm".as_ptr() as libc::c_long, 0],
                );
                ask(libc::SYS_close, &[descriptor]);
            }
        }
        #[cfg(target_arch = "x86_64")]
        "compat" => compat(number(1)),
        other => panic!("no scene {other}"),
    }
    // The harness would write, fork or wait further; what was to be seen is over.
    std::process::exit(0);
}

/// Lets a child play the scene to its end; answers its pid.
pub(crate) fn played(scene: &str) -> u32 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(SCENE, scene)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success(), "{scene}");
    child.id()
}

fn ask(number: libc::c_long, arguments: &[libc::c_long]) -> libc::c_long {
    let argument = |index: usize| arguments.get(index).copied().unwrap_or_default();
    // SAFETY: the calls of the scenes read memory that outlives them, or are to fail on memory
    // that is not there; none writes to memory of ours.
    unsafe {
        libc::syscall(
            number,
            argument(0),
            argument(1),
            argument(2),
            argument(3),
            argument(4),
        )
    }
}

fn memory_file() {
    let program = std::fs::read("/bin/true").unwrap();
    let name = c"payload";
    let descriptor = ask(libc::SYS_memfd_create, &[name.as_ptr() as libc::c_long, 0]);
    let path = format!("/proc/self/fd/{descriptor}");
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(&program).unwrap();
    drop(file);
    let empty = c"".as_ptr() as libc::c_long;
    let arguments = [c"true".as_ptr(), std::ptr::null()];
    let at = arguments.as_ptr() as libc::c_long;
    ask(
        libc::SYS_execveat,
        &[descriptor, empty, at, 0, libc::AT_EMPTY_PATH.into()],
    );
    panic!("not executed");
}

fn namespaces() {
    let before = c"/proc/self/ns/uts";
    // SAFETY: opens a path that ends with NUL.
    let descriptor = unsafe { libc::open(before.as_ptr(), libc::O_RDONLY) };
    ask(libc::SYS_unshare, &[0x402_0000]);
    let text = |text: &CStr| text.as_ptr() as libc::c_long;
    let private = (libc::MS_REC | libc::MS_PRIVATE) as libc::c_long;
    ask(libc::SYS_mount, &[text(c"none"), text(c"/"), 0, private, 0]);
    let (kind, point) = (text(c"tmpfs"), text(c"/tmp"));
    ask(
        libc::SYS_mount,
        &[
            text(c"scene"),
            point,
            kind,
            libc::MS_NOEXEC as libc::c_long,
            0,
        ],
    );
    ask(libc::SYS_umount2, &[point, libc::MNT_DETACH.into()]);
    ask(libc::SYS_setns, &[descriptor.into(), 0]);
}

fn program() {
    // r0 = 0; exit
    let code: [u64; 2] = [0xb7, 0x95];
    let mut attributes = [0u8; 128];
    let mut put = |at: usize, bytes: &[u8]| attributes[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &1u32.to_ne_bytes());
    put(4, &2u32.to_ne_bytes());
    put(8, &(code.as_ptr() as u64).to_ne_bytes());
    put(16, &(c"GPL".as_ptr() as u64).to_ne_bytes());
    put(48, b"scene");
    let made = ask(
        libc::SYS_bpf,
        &[5, attributes.as_ptr() as libc::c_long, 128],
    );
    assert!(made >= 0);
    // BPF_PROG_GET_NEXT_ID loads nothing.
    ask(
        libc::SYS_bpf,
        &[11, attributes.as_ptr() as libc::c_long, 128],
    );
}

/// Calls through the interface for 32-bit programs.
#[cfg(target_arch = "x86_64")]
fn compat(agent: libc::c_long) {
    let name = b"scene32\0";
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    let rights = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping, where pointers have 32 bits.
    let low = unsafe { libc::mmap(std::ptr::null_mut(), 4096, rights, kind, -1, 0) };
    // SAFETY: the mapping is a page and nobody else's.
    unsafe { std::ptr::copy_nonoverlapping(name.as_ptr(), low.cast(), name.len()) };
    let low = low as u32;
    gate(356, low, 0, 0);
    gate(129, low, 0, 0);
    gate(37, agent as u32, 0, 0);
    // getpid, which as a number is the native writev.
    gate(20, 0, 0, 0);
}

#[cfg(target_arch = "x86_64")]
fn gate(number: u32, first: u32, second: u32, third: u32) -> i32 {
    let mut answer = u64::from(number);
    // SAFETY: the calls of the scene write to no memory of ours; the registers that the gate
    // changes are named.
    unsafe {
        std::arch::asm!(
            "xchg rbx, {first}",
            "int 0x80",
            "xchg rbx, {first}",
            first = inout(reg) u64::from(first) => _,
            inlateout("rax") answer,
            in("rcx") u64::from(second),
            in("rdx") u64::from(third),
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    answer as i32
}
