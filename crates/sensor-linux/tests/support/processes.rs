//! Sensors of processes, and programs for them to see.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use yinglong_sensor_linux::{
    accounts::Accounts,
    process::{Opened, Options, Source, open},
    tree::Tree,
};

pub(crate) fn options() -> Options {
    Options {
        source: Source::Ebpf,
        // Tests run on busy machines.
        hash_patience: std::time::Duration::from_secs(20),
        ..Options::default()
    }
}

/// Opens the sensor, or says aloud that the test cannot run.
pub(crate) fn opened(test: &str, options: Options) -> Option<Opened> {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED {test}: needs root");
        return None;
    }
    if !fs::exists("/sys/kernel/btf/vmlinux").unwrap() {
        eprintln!("SKIPPED {test}: the kernel has no BTF");
        return None;
    }
    Some(open(Tree::default(), Accounts::default(), options).unwrap())
}

/// A text that no other test and no other run uses.
pub(crate) fn marker(test: &str) -> String {
    format!("yinglong-{test}-{}", std::process::id())
}

pub(crate) fn run(program: &str, args: &[&str]) -> u32 {
    let mut child = Command::new(program)
        .args(args)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.wait().unwrap();
    child.id()
}

pub(crate) fn only<T: std::fmt::Debug>(mut seen: Vec<T>) -> T {
    assert_eq!(seen.len(), 1, "{seen:#?}");
    seen.remove(0)
}

/// Starts a copy of cat that lives until its input is closed.
pub(crate) fn waiting(cat: &Path, marker: &str) -> Child {
    Command::new(cat)
        .args(["-", marker])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Lets it end.
pub(crate) fn released(mut child: Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

/// Writes a program.
pub(crate) fn program(path: PathBuf, content: &[u8]) -> PathBuf {
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A program of a few instructions, for processors of the x86 family, with 32 or 64 bits.
pub(crate) fn elf(bits: u8, code: &[u8]) -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    let wide = bits == 64;
    let (header, entry) = if wide { (64u16, 56u16) } else { (52, 32) };
    let start = u64::from(header + entry);
    let size = start + code.len() as u64;
    let mut image = vec![0x7f, b'E', b'L', b'F', if wide { 2 } else { 1 }, 1, 1];
    image.resize(16, 0);
    let word = |image: &mut Vec<u8>, value: u64| {
        let bytes = value.to_le_bytes();
        image.extend_from_slice(if wide { &bytes } else { &bytes[..4] });
    };
    // ET_EXEC, for EM_X86_64 or EM_386, version 1.
    image.extend_from_slice(&2u16.to_le_bytes());
    image.extend_from_slice(&(if wide { 62u16 } else { 3 }).to_le_bytes());
    image.extend_from_slice(&1u32.to_le_bytes());
    word(&mut image, BASE + start);
    word(&mut image, header.into());
    word(&mut image, 0);
    image.extend_from_slice(&0u32.to_le_bytes());
    for half in [header, entry, 1, 0, 0, 0] {
        image.extend_from_slice(&half.to_le_bytes());
    }
    // One segment, PT_LOAD, to be read and executed; its flags have another place in 32 bits.
    image.extend_from_slice(&1u32.to_le_bytes());
    if wide {
        image.extend_from_slice(&5u32.to_le_bytes());
    }
    for value in [0, BASE, BASE, size, size] {
        word(&mut image, value);
    }
    if !wide {
        image.extend_from_slice(&5u32.to_le_bytes());
    }
    word(&mut image, 0x1000);
    image.extend_from_slice(code);
    image
}
