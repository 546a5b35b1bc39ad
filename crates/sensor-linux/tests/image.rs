//! What is executed, in all its forms: images, their hashes, what interprets them. Needs root and a
//! kernel with BTF.

#![allow(
    clippy::unwrap_used,
    reason = "the helpers of a test fail like the test"
)]

#[allow(dead_code, reason = "shared by the tests of several sensors")]
mod support;

use std::{
    ffi::{CString, OsStr},
    fs,
    io::Write as _,
    os::{
        fd::AsRawFd as _,
        unix::{ffi::OsStrExt as _, process::CommandExt as _},
    },
    path::Path,
    process::Command,
};

use md5::Md5;
use sha2::{Digest, Sha256};
use yinglong_model::{
    config::{AgentConfig, Client},
    event::Process,
};
use yinglong_sensor_linux::process::{Options, Source};

use self::support::{
    Recorder,
    processes::{elf, marker, only, opened, options, program, released, run, waiting},
    start, start_with,
};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// That the event has the hashes of the content.
#[track_caller]
fn hashed(process: &Process, content: &[u8]) {
    assert_eq!(process.hash_skipped, None, "{}", process.name);
    let md5 = hex(&Md5::digest(content));
    assert_eq!(
        process.md5.as_deref(),
        Some(md5.as_str()),
        "{}",
        process.name
    );
    let sha256 = hex(&Sha256::digest(content));
    assert_eq!(process.sha256.as_deref(), Some(sha256.as_str()));
}

/// The copy of cat that tests execute: one that nobody else does.
fn cat() -> Vec<u8> {
    let mut content = fs::read("/bin/cat").unwrap();
    // Behind what is loaded.
    content.extend_from_slice(marker("cat").as_bytes());
    content
}

#[test]
fn every_execution_of_a_storm_has_the_hashes_of_its_image() {
    let test = "every_execution_of_a_storm_has_the_hashes_of_its_image";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("hashes"));
    let running = start(opened.sensor, &outlet);
    for index in 0..300 {
        run("/bin/true", &[&marker, &index.to_string()]);
    }
    let seen = outlet.wait(&marker, 300);
    running.stop().1.unwrap();
    assert_eq!(seen.len(), 300);
    let content = fs::read("/bin/true").unwrap();
    for (index, process) in seen.iter().enumerate() {
        hashed(process, &content);
        assert_eq!(process.exe.as_deref(), Some(process.name.as_str()));
        // Those that waited for the hash left nobody behind who did not.
        assert!(process.command.ends_with(&format!(" {index}")));
    }
}

#[test]
fn images_without_a_name_and_with_a_taken_one_are_hashed_by_their_process() {
    let test = "images_without_a_name_and_with_a_taken_one_are_hashed_by_their_process";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("unnamed"));
    let running = start(opened.sensor, &outlet);
    let (folder, content) = (tempfile::tempdir().unwrap(), cat());

    let name = CString::new(marker.as_str()).unwrap();
    let flags = nix::sys::memfd::MFdFlags::MFD_CLOEXEC;
    let memory = nix::sys::memfd::memfd_create(name.as_c_str(), flags).unwrap();
    let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(&content).unwrap();
    drop(file);
    let memory_child = waiting(Path::new(&path), &format!("{marker}-memory"));

    let gone = program(folder.path().join("gone"), &content);
    let gone_child = waiting(&gone, &format!("{marker}-gone"));
    fs::remove_file(&gone).unwrap();

    let taken = program(folder.path().join("taken"), &content);
    let taken_child = waiting(&taken, &format!("{marker}-taken"));
    let other = program(folder.path().join("other"), b"#!/bin/sh\n");
    fs::rename(other, &taken).unwrap();

    let seen = outlet.wait(&marker, 3);
    running.stop().1.unwrap();
    for child in [memory_child, gone_child, taken_child] {
        released(child);
    }
    assert_eq!(seen.len(), 3, "{seen:#?}");
    for process in &seen {
        hashed(process, &content);
    }
    let find = |what: &str| {
        let found = seen.iter().filter(|found| found.command.ends_with(what));
        only(found.collect())
    };
    let memory = find("-memory");
    assert_eq!(memory.memfd, Some(true));
    assert_eq!(memory.name, format!("/memfd:{marker}"));
    assert_eq!(find("-gone").name, gone.to_str().unwrap());
    assert_eq!(find("-taken").name, taken.to_str().unwrap());
}

#[test]
fn images_of_other_mount_namespaces_and_of_layered_file_systems_are_hashed() {
    let test = "images_of_other_mount_namespaces_and_of_layered_file_systems_are_hashed";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("layers"));
    let running = start(opened.sensor, &outlet);
    let (folder, content) = (tempfile::tempdir().unwrap(), cat());
    for name in ["lower", "changes", "merged"] {
        fs::create_dir(folder.path().join(name)).unwrap();
    }
    program(folder.path().join("lower/program"), &content);
    // The upper layer is a file system of its own, which overlayfs asks for.
    let script = "cd \"$1\" && mount -t tmpfs none changes && mkdir changes/upper changes/work \
        && mount -t overlay overlay -o lowerdir=lower,upperdir=changes/upper,workdir=changes/work \
        merged || exit 9\n\
        exec merged/program - \"$2-child\"";
    let mut child = Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .arg(folder.path())
        .arg(&marker)
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let text = format!("program - {marker}-child");
    if !support::until(|| {
        !outlet.executions(&text).is_empty() || child.try_wait().unwrap().is_some()
    }) || outlet.executions(&text).is_empty()
    {
        eprintln!("SKIPPED {test}: overlayfs cannot be mounted");
        running.stop().1.unwrap();
        return;
    }
    let process = only(outlet.executions(&text));
    running.stop().1.unwrap();
    released(child);
    hashed(&process, &content);
    assert!(
        process.name.ends_with("/merged/program"),
        "{}",
        process.name
    );
}

#[test]
fn an_image_above_the_limit_says_so() {
    let test = "an_image_above_the_limit_says_so";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("large"));
    let config = AgentConfig {
        client: Client {
            hash_limit_bytes: 1000,
            ..Client::default()
        },
        ..AgentConfig::default()
    };
    let running = start_with(opened.sensor, outlet.clone(), config);
    run("/bin/true", &[&marker]);
    let process = only(outlet.wait(&marker, 1));
    running.stop().1.unwrap();
    assert_eq!(process.hash_skipped.as_deref(), Some("too_large"));
    assert_eq!((process.md5, process.sha256), (None, None));
}

#[test]
fn the_fallback_hashes_what_lasts_long_enough() {
    let test = "the_fallback_hashes_what_lasts_long_enough";
    let options = Options {
        source: Source::ProcConnector,
        ..options()
    };
    let Some(opened) = opened(test, options) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("fallback-hash"));
    let running = start(opened.sensor, &outlet);
    let (folder, content) = (tempfile::tempdir().unwrap(), cat());
    let path = program(folder.path().join("program"), &content);
    let child = waiting(&path, &marker);
    let process = only(outlet.wait(&marker, 1));
    running.stop().1.unwrap();
    released(child);
    hashed(&process, &content);
    assert_eq!(process.exe.as_deref(), path.to_str());
}

/// Executes by descriptor, with a name below it or none.
fn by_descriptor(descriptor: i32, name: &str, args: &[&str]) -> u32 {
    let name = CString::new(name).unwrap();
    let args: Vec<CString> = args.iter().map(|arg| CString::new(*arg).unwrap()).collect();
    let mut command = Command::new("/bin/false");
    let execute = move || {
        let mut pointers: Vec<_> = args.iter().map(|arg| arg.as_ptr()).collect();
        pointers.push(std::ptr::null());
        let none = [std::ptr::null::<libc::c_char>()];
        // SAFETY: all texts end with NUL, all lists with a null pointer, and all outlive the call.
        unsafe {
            libc::syscall(
                libc::SYS_execveat,
                descriptor,
                name.as_ptr(),
                pointers.as_ptr(),
                none.as_ptr(),
                libc::AT_EMPTY_PATH,
            );
        }
        Err(std::io::Error::last_os_error())
    };
    // SAFETY: the closure calls the kernel and allocates a little, in a process that has no other
    // thread which could hold the allocator.
    unsafe { command.pre_exec(execute) };
    let mut child = command.spawn().unwrap();
    child.wait().unwrap();
    child.id()
}

#[test]
fn executions_by_descriptor_are_told_by_the_path_of_their_file() {
    let test = "executions_by_descriptor_are_told_by_the_path_of_their_file";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("execveat"));
    let running = start(opened.sensor, &outlet);
    let folder = tempfile::tempdir().unwrap();
    let content = fs::read("/bin/true").unwrap();
    let path = program(folder.path().join("program"), &content);
    let script = program(folder.path().join("script"), b"#!/bin/sh\n:\n");

    let file = fs::File::open(&path).unwrap();
    let directory = fs::File::open(folder.path()).unwrap();
    let bare = by_descriptor(file.as_raw_fd(), "", &["bare", &marker]);
    let below = by_descriptor(directory.as_raw_fd(), "program", &["below", &marker]);
    // What interprets it opens it again, so the descriptor has to stay.
    let kept = nix::unistd::dup(&directory).unwrap();
    let interpreted = by_descriptor(kept.as_raw_fd(), "script", &["script", &marker]);

    // The arguments of a script are those of its interpreter and behind them its own.
    let seen = outlet.wait(&marker, 3);
    running.stop().1.unwrap();
    let find = |pid: u32| {
        let found = seen.iter().filter(|process| process.pid == pid);
        only(found.collect())
    };
    for (pid, first) in [(bare, "bare"), (below, "below")] {
        let process = find(pid);
        assert_eq!(process.name, path.to_str().unwrap());
        assert_eq!(process.command, format!("{first} {marker}"));
        assert_eq!((&process.script, process.memfd), (&None, None));
    }
    let process = find(interpreted);
    let sh = fs::canonicalize("/bin/sh").unwrap();
    assert_eq!(process.name, sh.to_str().unwrap());
    assert!(
        process
            .script
            .as_deref()
            .is_some_and(|path| path.ends_with("/script"))
    );
    assert!(script.exists());
}

#[test]
fn an_interpreter_that_is_a_script_itself_is_followed_to_the_program() {
    let test = "an_interpreter_that_is_a_script_itself_is_followed_to_the_program";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("interpreter"));
    let running = start(opened.sensor, &outlet);
    let folder = tempfile::tempdir().unwrap();
    let inner = program(folder.path().join("inner"), b"#!/bin/sh\nexit 0\n");
    let head = format!("#!{} -x\n", inner.display());
    let outer = program(folder.path().join("outer"), head.as_bytes());
    let by_env = program(folder.path().join("by-env"), b"#!/usr/bin/env sh\nexit 0\n");
    run(outer.to_str().unwrap(), &[&marker, "nested"]);
    let env_pid = run(by_env.to_str().unwrap(), &[&marker, "env"]);

    let seen = outlet.wait(&marker, 3);
    running.stop().1.unwrap();
    let sh = fs::canonicalize("/bin/sh").unwrap();
    let sh_content = fs::read(&sh).unwrap();
    let nested: Vec<_> = seen
        .iter()
        .filter(|p| p.command.ends_with("nested"))
        .collect();
    let nested = only(nested);
    assert_eq!(nested.name, sh.to_str().unwrap());
    assert_eq!(nested.script.as_deref(), outer.to_str());
    let command = format!(
        "/bin/sh {} -x {} {marker} nested",
        inner.display(),
        outer.display()
    );
    assert_eq!(nested.command, command);
    hashed(nested, &sh_content);
    // env executes the interpreter it finds: two executions of one process.
    let both: Vec<_> = seen
        .iter()
        .filter(|process| process.pid == env_pid)
        .collect();
    let names: Vec<&OsStr> = both
        .iter()
        .map(|process| Path::new(&process.name).file_name().unwrap())
        .collect();
    assert_eq!(names, [OsStr::from_bytes(b"env"), sh.file_name().unwrap()]);
    assert_eq!(both[0].script.as_deref(), by_env.to_str());
    assert_eq!(both[1].script, None);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn programs_of_32_bits_are_executions_like_any_other() {
    let test = "programs_of_32_bits_are_executions_like_any_other";
    let Some(opened) = opened(test, options()) else {
        return;
    };
    let (outlet, marker) = (Recorder::default(), marker("bits"));
    let running = start(opened.sensor, &outlet);
    let folder = tempfile::tempdir().unwrap();
    // mov eax, 1 (exit); mov ebx, 7; int 0x80
    let content = elf(32, b"\xb8\x01\x00\x00\x00\xbb\x07\x00\x00\x00\xcd\x80");
    let path = program(folder.path().join("program"), &content);
    let status = match Command::new(&path).arg(&marker).status() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("SKIPPED {test}: the kernel executes no 32-bit programs ({error})");
            return;
        }
    };
    assert_eq!(status.code(), Some(7));
    let process = only(outlet.wait(&marker, 1));
    running.stop().1.unwrap();
    assert_eq!(process.name, path.to_str().unwrap());
    assert_eq!(process.command, format!("{} {marker}", path.display()));
}
