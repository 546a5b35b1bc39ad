//! Files with several names, and files that get their name late.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{AT_FDCWD, AtFlags},
    unistd::linkat,
};

use super::{Bench, DEADLINE, Source, md5, shell};

/// A sensor that watches `in`, with `out` beside it.
fn start() -> Option<Bench> {
    let mut bench = Bench::start(Source::Best, &[])?;
    fs::create_dir(bench.path("in")).unwrap();
    fs::create_dir(bench.path("out")).unwrap();
    fs::write(bench.path("in/passwd"), "root").unwrap();
    bench.configure(&["in/*"]);
    Some(bench)
}

fn append(path: &Path) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(b"more").unwrap();
}

#[test]
fn a_write_through_a_link_made_elsewhere_is_reported_of_the_watched_name() {
    let Some(bench) = start() else {
        return;
    };
    shell("ln in/passwd out/x; echo evil >> out/x", &bench.path(""));
    let through = Some(bench.told("out/x"));
    let linked = bench.until("in/passwd", |file| file.action == "CHMOD");
    assert_eq!(linked.link_path, through);
    let written = bench.until("in/passwd", |file| {
        file.action == "WRITE" && file.link_path == through
    });
    assert!(written.actor_pid.is_some());
    let content = md5(&bench.path("in/passwd"));
    bench.until("in/passwd", |file| file.hash == content);
    // Now that it is known, nothing has to be looked for.
    append(&bench.path("out/x"));
    let content = md5(&bench.path("in/passwd"));
    let again = bench.until("in/passwd", |file| file.hash == content);
    assert_eq!((again.action.as_str(), again.link_path), ("WRITE", through));
    assert_eq!(again.actor_pid, Some(std::process::id()));
    bench.drain();
    assert_eq!(bench.actions("out/x"), [""; 0]);
}

#[test]
fn a_link_that_was_there_before_the_sensor_is_known() {
    let Some(mut bench) = Bench::start(Source::Best, &[]) else {
        return;
    };
    shell(
        "mkdir in out; echo root > in/passwd; ln in/passwd out/x",
        &bench.path(""),
    );
    bench.configure(&["in"]);
    let start = Instant::now();
    let through = Some(bench.told("out/x"));
    // The search for links takes its time.
    while !bench
        .of("in/passwd")
        .iter()
        .any(|file| file.action == "WRITE" && file.link_path == through)
    {
        append(&bench.path("out/x"));
        thread::sleep(Duration::from_millis(20));
        assert!(start.elapsed() < DEADLINE);
    }
    // A link that is gone is no name any more: the file written next is another one.
    shell(
        "rm in/passwd; echo new > in/passwd; echo other >> out/x; touch in/mark",
        &bench.path(""),
    );
    bench.expect("in/mark", "CREATE");
    bench.drain();
    let content = md5(&bench.path("in/passwd"));
    bench.until("in/passwd", |file| {
        file.action == "WRITE" && file.hash == content
    });
    let last = bench.of("in/passwd").pop().unwrap();
    assert_eq!(last.link_path, None);
}

#[test]
fn a_link_to_a_foreign_file_is_a_creation_and_its_changes_are_reported() {
    let Some(bench) = start() else {
        return;
    };
    fs::write(bench.path("out/foreign"), "text").unwrap();
    shell("ln out/foreign in/link", &bench.path(""));
    let created = bench.expect("in/link", "CREATE");
    assert_eq!(created.hash, md5(&bench.path("out/foreign")));
    append(&bench.path("out/foreign"));
    let written = bench.expect("in/link", "WRITE");
    assert_eq!(written.link_path, Some(bench.told("out/foreign")));
    bench.until("in/link", |file| file.hash == md5(&bench.path("in/link")));
}

#[test]
fn a_write_to_one_watched_name_is_reported_of_the_other() {
    let Some(bench) = start() else {
        return;
    };
    shell("ln in/passwd in/other", &bench.path(""));
    bench.expect("in/other", "CREATE");
    append(&bench.path("in/other"));
    bench.expect("in/other", "WRITE");
    let written = bench.expect("in/passwd", "WRITE");
    assert_eq!(written.link_path, Some(bench.told("in/other")));
}

#[test]
fn a_file_that_gets_its_name_late_is_reported_under_it() {
    let Some(bench) = start() else {
        return;
    };
    for place in ["in", "out"] {
        let mut nameless = OpenOptions::new();
        nameless.write(true).custom_flags(libc::O_TMPFILE);
        let mut file = nameless.open(bench.path(place)).unwrap();
        file.write_all(b"before").unwrap();
        let name = format!("in/from-{place}");
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = AtFlags::AT_SYMLINK_FOLLOW;
        linkat(AT_FDCWD, link.as_str(), AT_FDCWD, &bench.path(&name), flags).unwrap();
        let created = bench.expect(&name, "CREATE");
        assert_eq!(created.hash, md5(&bench.path(&name)));
        file.write_all(b"after").unwrap();
        drop(file);
        let content = md5(&bench.path(&name));
        let written = bench.until(&name, |file| file.hash == content);
        assert_eq!(written.action, "WRITE");
    }
    bench.drain();
    let state = bench.recorder.get();
    assert!(!state.events.iter().any(|file| file.path.contains('#')));
}

#[test]
fn a_file_written_through_a_name_that_is_gone_is_reported() {
    let Some(bench) = start() else {
        return;
    };
    let mut file = fs::File::create(bench.path("out/first")).unwrap();
    shell("ln out/first in/second; rm out/first", &bench.path(""));
    bench.expect("in/second", "CREATE");
    file.write_all(b"late").unwrap();
    let content = md5(&bench.path("in/second"));
    let written = bench.until("in/second", |file| file.hash == content);
    assert_eq!(written.action, "WRITE");
}

#[test]
fn links_among_others_are_nobodys_business() {
    let Some(bench) = start() else {
        return;
    };
    shell(
        "echo a > out/a; ln out/a out/b; echo c >> out/b; ln out/b out/c; echo d >> out/a",
        &bench.path(""),
    );
    // Searches come one after the other: once this one is answered, so are those before.
    shell("ln in/passwd out/x; echo evil >> out/x", &bench.path(""));
    bench.expect("in/passwd", "WRITE");
    bench.drain();
    let state = bench.recorder.get();
    assert!(!state.events.iter().any(|file| file.path.contains("/out/")));
    assert!(state.lost.is_empty());
}
