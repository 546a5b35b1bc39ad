//! Names that change.

use std::{ffi::CString, fs, os::unix::ffi::OsStrExt, path::Path};

use super::{Bench, Source, both, md5, shell};

fn exchange(one: &Path, other: &Path) {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let (one, other) = (text(one), text(other));
    // SAFETY: both are C strings that outlive the call.
    let done = unsafe {
        libc::renameat2(
            libc::AT_FDCWD,
            one.as_ptr(),
            libc::AT_FDCWD,
            other.as_ptr(),
            libc::RENAME_EXCHANGE,
        )
    };
    assert_eq!(done, 0);
}

fn start(source: Source) -> Option<Bench> {
    let mut bench = Bench::start(source, &[])?;
    shell("mkdir in out", &bench.path(""));
    bench.configure(&["in/*"]);
    Some(bench)
}

#[test]
fn both_names_of_a_rename_are_told() {
    both(|source| {
        let Some(bench) = start(source) else {
            return;
        };
        shell("echo x > in/a; mv in/a in/b", &bench.path(""));
        let gone = bench.expect("in/a", "RENAME");
        assert_eq!(gone.new_path, Some(bench.told("in/b")));
        let made = bench.expect("in/b", "CREATE");
        assert_eq!(made.old_path, Some(bench.told("in/a")));
        assert_eq!(made.hash, md5(&bench.path("in/b")));
        assert_eq!((gone.old_path, made.new_path), (None, None));
    });
}

#[test]
fn a_name_that_is_not_watched_is_told_as_the_other_one() {
    let Some(bench) = start(Source::Best) else {
        return;
    };
    shell("echo x > out/a; mv out/a in/a", &bench.path(""));
    let made = bench.expect("in/a", "CREATE");
    assert_eq!(made.old_path, Some(bench.told("out/a")));
    assert_eq!(made.hash, md5(&bench.path("in/a")));
    shell("mv in/a out/b", &bench.path(""));
    let gone = bench.expect("in/a", "RENAME");
    assert_eq!(gone.new_path, Some(bench.told("out/b")));
    bench.drain();
    assert_eq!(bench.actions("out/b"), [""; 0]);
}

#[test]
fn files_that_are_exchanged_are_told_under_both_names() {
    let Some(bench) = start(Source::Best) else {
        return;
    };
    shell("echo one > in/one; echo two > out/two", &bench.path(""));
    bench.expect("in/one", "WRITE");
    exchange(&bench.path("in/one"), &bench.path("out/two"));
    let two = md5(&bench.path("in/one"));
    let made = bench.until("in/one", |file| file.hash == two);
    assert_eq!(made.action, "CREATE");
    assert_eq!(made.old_path, Some(bench.told("out/two")));
    let gone = bench.expect("in/one", "RENAME");
    assert_eq!(gone.new_path, Some(bench.told("out/two")));
}

#[test]
fn a_file_that_is_replaced_by_a_rename_is_told_with_its_new_content() {
    both(|source| {
        let Some(bench) = start(source) else {
            return;
        };
        shell("echo old > in/f", &bench.path(""));
        bench.expect("in/f", "WRITE");
        shell("echo new > in/f.tmp; mv in/f.tmp in/f", &bench.path(""));
        let new = md5(&bench.path("in/f"));
        let made = bench.until("in/f", |file| file.hash == new);
        assert_eq!(made.action, "CREATE");
        assert_eq!(made.old_path, Some(bench.told("in/f.tmp")));
    });
}

#[test]
fn every_link_of_a_chain_of_renames_is_told_in_order() {
    both(|source| {
        let Some(bench) = start(source) else {
            return;
        };
        shell("echo x > in/n0", &bench.path(""));
        bench.expect("in/n0", "WRITE");
        for step in 0..6 {
            let (old, new) = (format!("in/n{step}"), format!("in/n{}", step + 1));
            fs::rename(bench.path(&old), bench.path(&new)).unwrap();
        }
        bench.expect("in/n6", "CREATE");
        bench.drain();
        for step in 0..6 {
            let events = bench.of(&format!("in/n{step}"));
            let last = events.last().unwrap();
            assert_eq!(last.action, "RENAME");
            assert_eq!(
                last.new_path,
                Some(bench.told(&format!("in/n{}", step + 1)))
            );
        }
        let last = bench.expect("in/n6", "CREATE");
        assert_eq!(last.hash, md5(&bench.path("in/n6")));
        // There and back within a moment.
        fs::rename(bench.path("in/n6"), bench.path("in/z")).unwrap();
        fs::rename(bench.path("in/z"), bench.path("in/n6")).unwrap();
        bench.until("in/n6", |file| file.old_path == Some(bench.told("in/z")));
        bench.drain();
        assert_eq!(bench.actions("in/z"), ["CREATE", "RENAME"]);
        assert_eq!(bench.actions("in/n6"), ["CREATE", "RENAME", "CREATE"]);
    });
}

#[test]
fn what_a_renamed_directory_holds_is_told_with_its_old_place() {
    both(|source| {
        let Some(bench) = start(source) else {
            return;
        };
        shell("mkdir -p in/d/sub; echo x > in/d/sub/f", &bench.path(""));
        bench.expect("in/d/sub/f", "WRITE");
        bench.drain();
        shell("mv in/d in/e", &bench.path(""));
        let made = bench.expect("in/e/sub/f", "CREATE");
        assert_eq!(made.old_path, Some(bench.told("in/d/sub/f")));
        assert_eq!(made.hash, md5(&bench.path("in/e/sub/f")));
        let gone = bench.expect("in/d", "RENAME");
        assert_eq!(gone.new_path, Some(bench.told("in/e")));
    });
}

#[test]
fn directories_that_are_exchanged_are_followed() {
    let Some(bench) = start(Source::Best) else {
        return;
    };
    shell(
        "mkdir -p in/a/sub in/b/sub out/c/sub; touch in/a/sub/of-a in/b/sub/of-b out/c/sub/of-c",
        &bench.path(""),
    );
    bench.expect("in/b/sub/of-b", "CREATE");
    exchange(&bench.path("in/a"), &bench.path("in/b"));
    bench.expect("in/b/sub/of-a", "CREATE");
    bench.expect("in/a/sub/of-b", "CREATE");
    shell("echo x > in/a/sub/f; echo x > in/b/sub/g", &bench.path(""));
    bench.expect("in/a/sub/f", "WRITE");
    bench.expect("in/b/sub/g", "WRITE");
    exchange(&bench.path("in/a"), &bench.path("out/c"));
    bench.expect("in/a/sub/of-c", "CREATE");
    shell(
        "echo x > in/a/sub/h; echo x > out/c/sub/unseen",
        &bench.path(""),
    );
    bench.expect("in/a/sub/h", "WRITE");
    bench.drain();
    for name in ["in/a/sub/unseen", "in/b/sub/f", "out/c/sub/unseen"] {
        assert_eq!(bench.actions(name), [""; 0], "{name}");
    }
}
