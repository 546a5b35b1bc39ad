//! What a change is reported as: kinds, hashes, owner and actor.

use std::ffi::OsStr;
use std::{
    fs,
    io::Write,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::PermissionsExt},
    },
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use yinglong_model::event::File;

use super::{Bench, DEADLINE, Source, both, shell};

#[test]
fn m16_reports_five_kinds_of_change() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        shell("touch new; echo text > written", &bench.path(""));
        bench.expect("new", "CREATE");
        bench.expect("written", "CREATE");
        bench.expect("written", "WRITE");
        shell("mv new moved; chmod 600 moved", &bench.path(""));
        bench.expect("new", "RENAME");
        bench.expect("moved", "CREATE");
        bench.expect("moved", "CHMOD");
        shell("rm moved", &bench.path(""));
        bench.expect("moved", "REMOVE");
        assert_eq!(bench.actions("written"), ["CREATE", "WRITE"]);
        assert!(!bench.actions("new").contains(&"WRITE".to_owned()));
        let expected = match source {
            Source::Best => "fanotify",
            Source::Inotify => "inotify",
        };
        assert_eq!(bench.stop().0.0.source, expected);
    });
}

#[test]
fn a_change_is_committed_within_a_fifth_of_a_second() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        let mut times = Vec::new();
        for number in 0..9 {
            let name = format!("f{number}");
            let start = Instant::now();
            fs::write(bench.path(&name), "x").unwrap();
            bench.expect(&name, "WRITE");
            times.push(start.elapsed());
        }
        times.sort();
        assert!(times[4] < Duration::from_millis(200), "{times:?}");
    });
}

#[test]
fn m19_hashes_equal_md5sum_and_stop_at_the_limit() {
    both(|source| {
        let Some(mut bench) = Bench::start(source, &[]) else {
            return;
        };
        bench.config.client.hash_limit_bytes = 1 << 20;
        bench.configure(&["."]);
        fs::write(bench.path("small"), vec![7; 1 << 20]).unwrap();
        fs::write(bench.path("large"), vec![7; (1 << 20) + 1]).unwrap();
        let small = bench.expect("small", "WRITE");
        let sum = Command::new("md5sum").arg(bench.path("small")).output();
        let sum = String::from_utf8(sum.unwrap().stdout).unwrap();
        assert_eq!(Some(small.hash.as_str()), sum.split(' ').next());
        assert_eq!(small.sha256.unwrap().len(), 64);
        assert_eq!((small.size, small.hash_skipped), (Some(1 << 20), None));
        let large = bench.expect("large", "WRITE");
        assert_eq!((large.hash.as_str(), large.sha256), ("", None));
        assert_eq!(large.hash_skipped.as_deref(), Some("too_large"));
    });
}

#[test]
fn m20_the_owner_is_the_user_and_the_writer_the_actor() {
    let Some(bench) = Bench::start(Source::Best, &["."]) else {
        return;
    };
    fs::set_permissions(bench.path("."), fs::Permissions::from_mode(0o777)).unwrap();
    let mut writer = Command::new("setpriv")
        .args(["--reuid=nobody", "--clear-groups", "tee", "f"])
        .current_dir(bench.path("."))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    writer.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    let event = bench.expect("f", "WRITE");
    assert_eq!(event.user, "nobody");
    assert_eq!(event.actor_user.as_deref(), Some("nobody"));
    assert_eq!(event.actor_pid, Some(writer.id()));
    let name = event.actor_name.unwrap();
    assert!(name.ends_with("/tee"), "{name}");
    assert_eq!(bench.expect("f", "CREATE").actor_pid, Some(writer.id()));
    assert!(writer.wait().unwrap().success());
}

#[test]
fn changes_of_the_agent_itself_are_not_reported() {
    let ours = vec![std::process::id()];
    let Some(bench) = Bench::excluding(Source::Best, &["."], ours) else {
        return;
    };
    fs::write(bench.path("ours"), "x").unwrap();
    shell("echo x > theirs", &bench.path(""));
    bench.expect("theirs", "WRITE");
    bench.drain();
    assert_eq!(bench.actions("ours"), [""; 0]);
}

#[test]
fn odd_names_are_reported_and_pipes_hold_nothing_up() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        shell("mkfifo pipe; chmod 600 pipe", &bench.path(""));
        let raw = bench.path("").join(OsStr::from_bytes(b"bad\xff\n name"));
        fs::write(raw, "x").unwrap();
        let long = "x".repeat(255);
        fs::write(bench.path(&long), "x").unwrap();
        bench.expect(&long, "WRITE");
        bench.drain();
        let shown = format!("{}\\xff\n name", bench.path("bad").display());
        let found = |file: &File| file.path == shown && file.action == "WRITE";
        assert!(bench.recorder.get().events.iter().any(found));
        assert_eq!(bench.actions("pipe"), [""; 0]);
    });
}

#[test]
fn a_write_through_a_memory_mapping_is_reported_and_opening_alone_is_not() {
    both(|source| {
        let Some(bench) = Bench::start(source, &["."]) else {
            return;
        };
        fs::write(bench.path("f"), "before").unwrap();
        fs::write(bench.path("idle"), "before").unwrap();
        let first = bench.expect("f", "WRITE");
        bench.expect("idle", "WRITE");
        drop(fs::OpenOptions::new().write(true).open(bench.path("idle")));
        map_and_write(&bench.path("f"));
        let start = Instant::now();
        while bench.expect("f", "WRITE").hash == first.hash {
            assert!(start.elapsed() < DEADLINE);
            thread::sleep(Duration::from_millis(5));
        }
        bench.drain();
        assert_eq!(bench.actions("idle"), ["CREATE", "WRITE"]);
    });
}

fn map_and_write(path: &Path) {
    let file = fs::OpenOptions::new().read(true).write(true).open(path);
    let file = file.unwrap();
    let (protection, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: a new mapping at an address of the kernel's choice replaces nothing.
    let start = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            1,
            protection,
            shared,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(start, libc::MAP_FAILED);
    // SAFETY: the mapping is a byte at least, and the file is longer than nothing.
    unsafe { start.cast::<u8>().write_volatile(b'B') };
    // SAFETY: made just now with this length; nothing refers to it.
    unsafe { libc::munmap(start, 1) };
}
