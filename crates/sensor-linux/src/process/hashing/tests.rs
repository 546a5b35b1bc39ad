use std::process::Command;

use super::*;

const ABC_MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
/// Nobody has this pid.
const NOBODY: u32 = u32::MAX;
static NEVER: AtomicBool = AtomicBool::new(false);

/// A file as if it had been executed `later` after its last change, by a process that is gone.
fn executed(path: &Path, later: Duration) -> Wanted {
    let metadata = fs::metadata(path).unwrap();
    let changed = Duration::new(
        metadata.ctime().try_into().unwrap(),
        metadata.ctime_nsec().try_into().unwrap(),
    );
    Wanted {
        image: Image::of(&metadata),
        pid: NOBODY,
        ppid: NOBODY,
        path: path.to_owned(),
        inside: false,
        executed: changed + later,
    }
}

fn file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("program");
    fs::write(&path, content).unwrap();
    (place, path)
}

const PATIENCE: Duration = Duration::from_secs(60);
const LATER: Duration = Duration::from_secs(1);

#[test]
fn content_is_hashed_and_what_is_not_the_content_is_not() {
    let (place, path) = file("abc");
    let wanted = executed(&path, LATER);
    let done = hash(&wanted, &NEVER);
    assert_eq!(done.answer.unwrap().md5, ABC_MD5);
    assert!(done.lasting);

    for spoilt in [
        Image {
            inode: wanted.image.inode + 1,
            ..wanted.image
        },
        Image {
            size_bytes: 4,
            ..wanted.image
        },
        Image {
            ctime: (wanted.image.ctime.0, wanted.image.ctime.1 ^ 1),
            ..wanted.image
        },
        Image {
            device: libc::makedev(250, 1),
            ..wanted.image
        },
    ] {
        let other = Wanted {
            image: spoilt,
            ..wanted.clone()
        };
        assert_eq!(hash(&other, &NEVER).answer, Err(Skipped::Changed));
    }
    // Of a file system without a device of its own the number says nothing.
    let anonymous = Wanted {
        image: Image {
            device: libc::makedev(0, 77),
            ..wanted.image
        },
        ..wanted.clone()
    };
    assert!(hash(&anonymous, &NEVER).answer.is_ok());

    // Another file takes the name.
    fs::write(place.path().join("other"), "abc").unwrap();
    fs::rename(place.path().join("other"), &path).unwrap();
    assert_eq!(hash(&wanted, &NEVER).answer, Err(Skipped::Changed));
    fs::remove_file(&path).unwrap();
    assert_eq!(hash(&wanted, &NEVER).answer, Err(Skipped::Gone));
    fs::create_dir(&path).unwrap();
    assert_eq!(hash(&wanted, &NEVER).answer, Err(Skipped::NotRegular));
}

#[test]
fn a_file_changed_just_before_it_was_executed_counts_while_the_process_runs_only() {
    let (_place, path) = file("abc");
    let gone = executed(&path, Duration::from_millis(1));
    let done = hash(&gone, &NEVER);
    assert_eq!((done.answer, done.lasting), (Err(Skipped::Changed), false));

    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("sleep");
    fs::copy("/bin/sleep", &path).unwrap();
    let mut child = Command::new(&path).arg("60").spawn().unwrap();
    let running = Wanted {
        pid: child.id(),
        ..executed(&path, Duration::from_millis(1))
    };
    let done = hash(&running, &NEVER);
    let again = digest(&mut File::open(&path).unwrap(), u64::MAX, &NEVER);
    assert_eq!((&done.answer, done.lasting), (&again, false));
    assert!(again.is_ok());
    // A file without a name is found by its process, before and after it lost the name.
    fs::remove_file(&path).unwrap();
    let metadata = fs::metadata(format!("/proc/{}/exe", child.id())).unwrap();
    assert_ne!(Image::of(&metadata).ctime, running.image.ctime);
    assert_eq!(hash(&running, &NEVER).answer, again);
    let unlinked = Wanted {
        image: Image::of(&metadata),
        ..running.clone()
    };
    assert_eq!(hash(&unlinked, &NEVER).answer, again);
    // Written to since, which most kernels do not allow.
    let written = Wanted {
        executed: Duration::from_secs(1),
        ..running
    };
    assert_eq!(hash(&written, &NEVER).answer, Err(Skipped::Changed));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(hash(&unlinked, &NEVER).answer, Err(Skipped::Gone));
}

#[test]
fn a_content_is_hashed_once_and_answered_at_once_from_then_on() {
    let (_place, path) = file("abc");
    let wanted = executed(&path, LATER);
    let mut hashing = Hashing::start(PATIENCE).unwrap();
    hashing.begin();
    assert_eq!(
        hashing.look(&wanted.image, 2),
        Look::Known(Err(Skipped::TooLarge))
    );
    assert_eq!(hashing.look(&wanted.image, 3), Look::Unknown);
    assert!(hashing.ask(wanted.clone()));
    assert_eq!(hashing.look(&wanted.image, 3), Look::Waiting);
    hashing.wait(|| false);
    assert_eq!(hashing.answer(&wanted.image).unwrap().md5, ABC_MD5);
    // The file is not looked at again.
    fs::remove_file(&path).unwrap();
    for _ in 0..3 {
        hashing.begin();
        let known = hashing.look(&wanted.image, 3);
        assert!(matches!(known, Look::Known(Ok(_))), "{known:?}");
    }
}

#[test]
fn what_may_be_another_content_next_time_is_not_remembered() {
    let (_place, path) = file("abc");
    let wanted = executed(&path, Duration::ZERO);
    let mut hashing = Hashing::start(PATIENCE).unwrap();
    hashing.begin();
    assert!(hashing.ask(wanted.clone()));
    hashing.wait(|| false);
    assert_eq!(hashing.answer(&wanted.image), Err(Skipped::Changed));
    hashing.begin();
    assert_eq!(hashing.look(&wanted.image, 3), Look::Unknown);
}

#[test]
fn a_wait_in_vain_is_not_repeated_before_something_is_answered() {
    // Answers that never come, as of a file system that is away.
    let (jobs, todo) = sync_channel(MOST_WAITING);
    let (answer, done) = sync_channel(1);
    let mut hashing = Hashing::with(jobs, done, Arc::default(), Duration::from_millis(1));
    let (_place, path) = file("abc");
    let wanted = executed(&path, LATER);
    for round in 0..3 {
        hashing.begin();
        if round == 0 {
            assert!(hashing.ask(wanted.clone()));
        }
        hashing.wait(|| false);
        assert!(hashing.late, "{round}");
        assert_eq!(hashing.answer(&wanted.image), Err(Skipped::Busy));
    }
    // What comes after all is remembered for the next time.
    answer.send(hash(&todo.recv().unwrap(), &NEVER)).unwrap();
    hashing.begin();
    assert!(!hashing.late);
    assert!(hashing.answer(&wanted.image).is_ok());

    // A hurried reader does not wait at all.
    fs::write(&path, "other").unwrap();
    let wanted = executed(&path, LATER);
    assert!(hashing.ask(wanted.clone()));
    hashing.patience = Duration::from_secs(3600);
    hashing.wait(|| true);
    assert!(!hashing.late);
    assert_eq!(hashing.answer(&wanted.image), Err(Skipped::Busy));
}
