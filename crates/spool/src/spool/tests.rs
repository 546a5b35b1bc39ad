use proptest::prelude::*;

use super::*;

fn options() -> Options {
    Options {
        new_epoch: 7,
        segment_bytes: 256,
        max_bytes: 1 << 20,
    }
}

fn open(dir: &Path) -> Spool {
    Spool::open(dir, options()).unwrap().0
}

fn texts(spool: &Spool, from: u64) -> Vec<(u64, String)> {
    let (mut all, mut next) = (Vec::new(), from);
    loop {
        let part = spool.read(next, 3, 64).unwrap();
        let Some((last, _)) = part.last() else {
            return all;
        };
        next = last + 1;
        all.extend(
            part.into_iter()
                .map(|(seq, bytes)| (seq, String::from_utf8(bytes).unwrap())),
        );
    }
}

#[test]
fn records_come_back_in_order_across_segments_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let expected: Vec<_> = (1..=50).map(|n| (n, format!("record {n}"))).collect();
    for (seq, text) in &expected {
        let spool = open(dir.path());
        assert_eq!(spool.append(&[text], b"").unwrap(), *seq);
    }
    let spool = open(dir.path());
    assert_eq!(texts(&spool, 1), expected);
    assert_eq!(texts(&spool, 30), expected[29..]);
    assert_eq!(spool.epoch(), 7);
    assert!(segment_paths(dir.path()).unwrap().len() > 3);
}

#[test]
fn released_segments_are_deleted_and_the_newest_note_survives() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    spool.append(&["first"], b"the note").unwrap();
    for n in 0..50 {
        spool.append(&[format!("record {n}")], b"").unwrap();
    }
    spool.release(51).unwrap();
    assert_eq!(segment_paths(dir.path()).unwrap().len(), 1);
    assert_eq!(spool.usage().records, 0);
    drop(spool);
    let (spool, recovery) = Spool::open(dir.path(), options()).unwrap();
    assert_eq!(recovery.note.as_deref(), Some(&b"the note"[..]));
    assert_eq!((spool.last_seq(), spool.released_seq()), (51, 51));
    assert_eq!(spool.append(&["next"], b"").unwrap(), 52);
}

#[test]
fn a_sync_covers_sealed_segments_and_those_of_the_process_before() {
    let dir = tempfile::tempdir().unwrap();
    let waiting = |spool: &Spool| spool.lock().unsynced.len();
    let fill = |spool: &Spool| {
        for n in 0..50 {
            spool.append(&[format!("record {n}")], b"").unwrap();
        }
    };
    let spool = open(dir.path());
    fill(&spool);
    let sealed = segment_paths(dir.path()).unwrap().len() - 1;
    assert!(sealed > 3);
    assert_eq!(waiting(&spool), sealed);
    assert_eq!(spool.sync().unwrap(), 50);
    assert_eq!(waiting(&spool), 0);

    fill(&spool);
    drop(spool);
    let spool = open(dir.path());
    assert!(waiting(&spool) > sealed);
    spool.release(100).unwrap();
    assert_eq!(waiting(&spool), 0);
    assert_eq!(spool.sync().unwrap(), 100);
}

#[test]
fn a_torn_tail_loses_the_last_batch_whole_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    spool.append(&["a", "b"], b"one").unwrap();
    let whole = fs::metadata(segment::path_of(dir.path(), 1)).unwrap().len();
    spool.append(&["c", "d"], b"two").unwrap();
    drop(spool);
    let bytes = fs::read(segment::path_of(dir.path(), 1)).unwrap();
    for cut in whole as usize..bytes.len() {
        let copy = tempfile::tempdir().unwrap();
        fs::write(segment::path_of(copy.path(), 1), &bytes[..cut]).unwrap();
        let (spool, recovery) = Spool::open(copy.path(), options()).unwrap();
        assert_eq!(recovery.torn_bytes, cut as u64 - whole, "cut at {cut}");
        assert_eq!(recovery.note.as_deref(), Some(&b"one"[..]));
        assert_eq!(texts(&spool, 1).len(), 2);
        assert_eq!(spool.append(&["e"], b"").unwrap(), 3);
        assert_eq!(texts(&spool, 3), [(3, "e".to_owned())]);
    }
}

#[test]
fn a_crash_while_a_segment_is_begun_leaves_the_older_ones_usable() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path()).append(&["a"], b"note").unwrap();
    fs::write(segment::path_of(dir.path(), 2), b"YLSP").unwrap();
    let (spool, recovery) = Spool::open(dir.path(), options()).unwrap();
    assert_eq!(recovery.note.as_deref(), Some(&b"note"[..]));
    assert_eq!(spool.append(&["b"], b"").unwrap(), 2);
    assert_eq!(texts(&spool, 1).len(), 2);
}

#[test]
fn damage_in_the_middle_is_named_and_what_follows_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    for n in 1..=50 {
        spool.append(&[format!("record {n}")], b"").unwrap();
    }
    let victim = segment_paths(dir.path()).unwrap()[1].clone();
    let mut bytes = fs::read(&victim).unwrap();
    bytes[60] ^= 1;
    fs::write(&victim, bytes).unwrap();
    check_damage(&spool);
    drop(spool);
    check_damage(&open(dir.path()));
}

fn check_damage(spool: &Spool) {
    let first = texts_until_error(spool, 1);
    let Err(Error::Corrupt {
        first_lost,
        last_lost,
        ..
    }) = spool.read(first + 1, 10, 100)
    else {
        panic!("damage was not noticed");
    };
    assert!(first_lost <= last_lost && last_lost < 50);
    assert_eq!(texts(spool, last_lost + 1).last().unwrap().0, 50);
}

fn texts_until_error(spool: &Spool, from: u64) -> u64 {
    let mut last = from - 1;
    while let Ok(part) = spool.read(last + 1, 1, 1) {
        last = part.last().unwrap().0;
    }
    last
}

#[test]
fn a_full_spool_refuses_records_but_takes_a_note_and_recovers_after_release() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(
        dir.path(),
        Options {
            max_bytes: 600,
            ..options()
        },
    )
    .unwrap()
    .0;
    let mut last = 0;
    let error = loop {
        match spool.append(&["x".repeat(50)], b"") {
            Ok(seq) => last = seq,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Full { .. }) && error.is_out_of_space());
    assert_eq!(spool.append::<&str>(&[], b"lost 1").unwrap(), last);
    spool.release(last).unwrap();
    assert_eq!(spool.append(&["y"], b"").unwrap(), last + 1);
}

#[test]
fn notes_alone_do_not_make_a_full_spool_grow() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        max_bytes: 20_000,
        segment_bytes: 5000,
        ..options()
    };
    let spool = Spool::open(dir.path(), options.clone()).unwrap().0;
    let record = "x".repeat(50);
    let mut last = 0;
    while let Ok(seq) = spool.append(&[&record], b"") {
        last = seq;
    }
    for n in 0..1000 {
        spool
            .append::<&str>(&[], format!("lost {n}").as_bytes())
            .unwrap();
        let used = spool.usage().bytes;
        assert!(used < 20_700, "{used} bytes after {n} notes");
    }
    // What a crash leaves when it comes before the rename.
    fs::write(dir.path().join("00000000000000000001.new"), b"torn").unwrap();
    drop(spool);
    let (spool, recovery) = Spool::open(dir.path(), options).unwrap();
    assert_eq!(recovery.note.as_deref(), Some(&b"lost 999"[..]));
    assert_eq!(texts(&spool, 1).len() as u64, last);
    spool.release(last).unwrap();
    assert_eq!(spool.append(&[&record], b"").unwrap(), last + 1);
    assert_eq!(texts(&spool, last + 1).len(), 1);
}

#[test]
fn notes_alone_do_not_make_an_idle_spool_grow() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        segment_bytes: 1 << 20,
        max_bytes: 1 << 20,
        ..options()
    };
    let spool = Spool::open(dir.path(), options.clone()).unwrap().0;
    for n in 0..5000 {
        let note = format!("note {n}");
        spool.append::<&str>(&[], note.as_bytes()).unwrap();
    }
    assert!(spool.usage().bytes <= 16 << 10, "{:?}", spool.usage());
    assert_eq!(spool.append(&["a"], b"").unwrap(), 1);
    drop(spool);
    let (spool, recovery) = Spool::open(dir.path(), options).unwrap();
    assert_eq!(recovery.note.as_deref(), Some(&b"note 4999"[..]));
    assert_eq!(texts(&spool, 1), [(1, "a".to_owned())]);
}

#[test]
fn room_is_what_the_limit_or_the_disk_has() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    spool.append(&["x".repeat(100)], b"note").unwrap();
    let (room, usage) = (spool.room(), spool.usage());
    assert_eq!(room.limit_bytes, 1 << 20);
    assert!(room.used_bytes > usage.bytes && room.used_bytes < usage.bytes + 100);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _spool = open(dir.path());
    assert!(matches!(
        Spool::open(dir.path(), options()),
        Err(Error::InUse { .. })
    ));
}

#[test]
fn an_unreadable_release_cursor_offers_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    spool.append(&["a", "b"], b"").unwrap();
    spool.release(1).unwrap();
    drop(spool);
    fs::write(dir.path().join("released"), b"garbage bytes").unwrap();
    assert_eq!(open(dir.path()).released_seq(), 0);
}

#[test]
fn a_waiting_reader_wakes_when_something_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let spool = open(dir.path());
    assert_eq!(spool.wait_beyond(0, Duration::ZERO), 0);
    let writer = spool.clone();
    let thread = std::thread::spawn(move || writer.append(&["a"], b"").unwrap());
    assert_eq!(spool.wait_beyond(0, Duration::from_secs(60)), 1);
    thread.join().unwrap();
}

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<Vec<u8>>, Vec<u8>),
    Release(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let record = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![
        4 => (prop::collection::vec(record, 0..5), prop::collection::vec(any::<u8>(), 0..9))
            .prop_map(|(records, note)| Step::Append(records, note)),
        1 => (0u64..60).prop_map(Step::Release),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn behaves_like_a_list_whatever_happens(steps in prop::collection::vec(step(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut spool = open(dir.path());
        let (mut model, mut released, mut note) = (Vec::new(), 0u64, Vec::new());
        for step in steps {
            match step {
                Step::Append(records, new_note) => {
                    model.extend(records.iter().cloned());
                    prop_assert_eq!(spool.append(&records, &new_note).unwrap(), model.len() as u64);
                    if !new_note.is_empty() {
                        note = new_note;
                    }
                }
                Step::Release(seq) => {
                    spool.release(seq).unwrap();
                    released = released.max(seq.min(model.len() as u64));
                }
                Step::Reopen => {
                    drop(spool);
                    let (reopened, recovery) = Spool::open(dir.path(), options()).unwrap();
                    prop_assert_eq!(recovery.note.unwrap_or_default(), note.clone());
                    prop_assert_eq!(recovery.torn_bytes, 0);
                    spool = reopened;
                }
            }
            prop_assert_eq!(spool.released_seq(), released);
            let mut next = released + 1;
            loop {
                let part = spool.read(next, 4, 50).unwrap();
                let Some((last, _)) = part.last() else { break };
                next = last + 1;
                for (seq, bytes) in &part {
                    prop_assert_eq!(bytes, &model[*seq as usize - 1]);
                }
            }
            prop_assert_eq!(next, model.len() as u64 + 1);
        }
    }
}

#[test]
fn a_full_disk_loses_nothing_that_was_appended_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let size = Some("size=256k");
    let flags = nix::mount::MsFlags::empty();
    if let Err(error) = nix::mount::mount(Some("none"), dir.path(), Some("tmpfs"), flags, size) {
        eprintln!("SKIPPED a_full_disk_loses_nothing: cannot mount a small disk: {error}");
        return;
    }
    let ballast = dir.path().join("ballast");
    fs::write(&ballast, vec![0; 128 << 10]).unwrap();
    let spool_dir = dir.path().join("spool");
    let spool = open(&spool_dir);
    let room = spool.room().limit_bytes;
    assert!(room <= 128 << 10, "{room} bytes are more than the disk has");
    let record = "r".repeat(5000);
    let mut last = 0;
    let error = loop {
        match spool.append(&[&record], b"") {
            Ok(seq) => last = seq,
            Err(error) => break error,
        }
    };
    assert!(error.is_out_of_space(), "{error}");
    fs::remove_file(&ballast).unwrap();
    assert_eq!(spool.append(&[&record], b"").unwrap(), last + 1);
    drop(spool);
    let spool = open(&spool_dir);
    assert_eq!(
        texts(&spool, 1),
        (1..=last + 1)
            .map(|seq| (seq, record.clone()))
            .collect::<Vec<_>>()
    );
    drop(spool);
    nix::mount::umount(dir.path()).unwrap();
}
