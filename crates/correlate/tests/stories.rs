//! Which alerts are one story.

#![allow(
    clippy::unwrap_used,
    reason = "what a test sets up is there, or the test fails"
)]

use std::{collections::BTreeMap, time::Duration};

use proptest::prelude::*;
use yinglong_correlate::{
    SnapshotError, Stories,
    stories::{AlertNote, Placed, ProcessNote, StoryLimits, Subject},
};
use yinglong_model::{
    AgentId, Event, EventData, EventId, Timestamp,
    event::{Connection, File, Login, Process, System},
    rule::Level,
};

const HOST: u128 = 7;

fn secs(at: i64) -> Timestamp {
    Timestamp::from_secs(1_764_000_000 + at)
}

fn event(at: i64, data: EventData) -> Event {
    let agent_id = AgentId::from_bits(HOST);
    Event {
        id: EventId::from(format!("{at:032x}")),
        agent_id,
        ip: "192.0.2.1".into(),
        hostname: "web-1".into(),
        system: System::Linux,
        seq: 1,
        time: secs(at),
        observed_at: secs(at),
        ingested_at: secs(at),
        data,
    }
}

/// A process below another, in the session of its parent unless said otherwise.
fn process(pid: u32, name: &str, ppid: u32, parent: &str) -> Process {
    Process {
        pid,
        ppid,
        name: name.into(),
        parentname: parent.into(),
        ..Process::default()
    }
}

#[derive(Debug)]
struct Told {
    stories: Stories,
    alerts: u32,
}

impl Told {
    fn new() -> Self {
        Self::with(StoryLimits::default())
    }

    fn with(limits: StoryLimits) -> Self {
        Self {
            stories: Stories::new(limits),
            alerts: 0,
        }
    }

    fn note(&mut self, at: i64, process: &Process) {
        let note = ProcessNote::of(System::Linux, secs(at), process);
        self.stories.note_process(&AgentId::from_bits(HOST), &note);
    }

    fn alert(&mut self, at: i64, data: EventData) -> Placed {
        self.alert_named(at, data, "rule", Level::Suspicious)
    }

    fn alert_named(&mut self, at: i64, data: EventData, name: &str, level: Level) -> Placed {
        self.alerts += 1;
        let event = event(at, data);
        self.stories.place(&AlertNote {
            reference: &format!("alert {}", self.alerts),
            agent: &event.agent_id,
            time: event.time,
            level,
            name,
            name_zh: "",
            techniques: &["T1059".into()],
            subject: Subject::of(&event),
        })
    }

    fn process_alert(&mut self, at: i64, process: &Process) -> Placed {
        self.alert(at, EventData::Process(Box::new(process.clone())))
    }

    fn file_alert(&mut self, at: i64, pid: u32, name: &str) -> Placed {
        self.alert(
            at,
            EventData::File(Box::new(File {
                actor_pid: Some(pid),
                actor_name: Some(name.into()),
                ..File::default()
            })),
        )
    }

    fn login_alert(&mut self, at: i64, user: &str, tty: &str) -> Placed {
        self.alert(
            at,
            EventData::Loginlog(Login {
                username: user.into(),
                tty: Some(tty.into()),
                status: true,
                ..Login::default()
            }),
        )
    }
}

fn in_session(process: Process, session: u32) -> Process {
    Process {
        session: Some(session),
        ..process
    }
}

fn in_group(process: Process, cgroup: &str) -> Process {
    Process {
        cgroup: Some(cgroup.into()),
        ..process
    }
}

/// A script of ten thousand commands below a shell. Most are children of subshells, which fork
/// without executing anything, so nobody saw their parents.
fn burst(told: &mut Told, dress: impl Fn(Process) -> Process) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..10_000_u32 {
        let subshell = 10_000 + n;
        let command = dress(process(50_000 + n, "/usr/bin/find", subshell, "sh"));
        told.note(2, &command);
        if n % 100 == 0 {
            ids.push(told.process_alert(2, &command).story.id);
        }
    }
    ids.push(told.file_alert(60, 59_999, "/usr/bin/find").story.id);
    ids
}

#[test]
fn a_burst_below_a_service_is_one_story() {
    let unit = |process| in_group(process, "/system.slice/nginx.service");
    let mut told = Told::new();
    told.note(0, &unit(process(500, "/usr/sbin/nginx", 1, "systemd")));
    told.note(1, &unit(process(900, "/bin/sh", 500, "nginx")));
    let ids = burst(&mut told, unit);
    let last = told.file_alert(61, 59_999, "/usr/bin/find");
    assert!(ids.iter().all(|id| *id == last.story.id));
    assert_eq!(last.story.alerts, 102);
    assert_eq!(last.story.title, "rule and 101 more alerts below nginx");
    assert_eq!(last.story.title_zh, "nginx 进程树：rule等 102 条告警");
    assert_eq!(last.story.root_pid, Some(500));
    assert!(told.stories.counters().processes <= 4096);
}

#[test]
fn a_burst_in_a_login_session_is_one_story_whatever_it_detaches_from() {
    let mut told = Told::new();
    told.note(0, &in_session(process(700, "/bin/bash", 600, "sshd"), 3));
    let ids = burst(&mut told, |process| in_session(process, 3));
    let daemon = in_session(process(990, "/tmp/x", 1, "systemd"), 3);
    let last = told.process_alert(70, &daemon).story;
    assert!(ids.iter().all(|id| *id == last.id));
    assert_eq!(last.root_pid, Some(700));
}

#[test]
fn a_burst_without_sessions_and_groups_is_one_story_by_the_names_of_ancestors() {
    let below = |process| Process {
        ancestors: ["/bin/sh", "/bin/sh", "/usr/sbin/nginx", "/sbin/init"]
            .map(Into::into)
            .into(),
        ..process
    };
    let mut told = Told::new();
    told.note(0, &process(500, "/usr/sbin/nginx", 1, "init"));
    let mut ids = burst(&mut told, below);
    ids.dedup();
    assert_eq!(ids.len(), 1);
    // Nobody saw the service start either.
    let mut ids = burst(&mut Told::new(), below);
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[test]
fn files_and_connections_belong_to_who_did_it() {
    let mut told = Told::new();
    told.note(0, &process(500, "/usr/sbin/nginx", 1, "systemd"));
    let shell = process(900, "/bin/sh", 500, "nginx");
    told.note(1, &shell);
    let first = told.file_alert(1, 500, "/usr/sbin/nginx");
    let second = told.process_alert(2, &shell);
    let third = told.alert(
        3,
        EventData::Connection(Connection {
            pid: 900,
            name: "/bin/sh".into(),
            ..Connection::default()
        }),
    );
    assert!(first.begun && !second.begun && !third.begun);
    assert_eq!(first.story.id, third.story.id);
}

#[test]
fn sessions_and_services_are_told_apart() {
    let mut told = Told::new();
    let stories: Vec<String> = [
        in_session(process(700, "/bin/bash", 600, "sshd"), 3),
        in_session(process(701, "/bin/bash", 601, "sshd"), 4),
        in_session(process(800, "/bin/sh", 90, "cron"), 5),
        process(801, "/bin/sh", 91, "cron"),
        process(802, "/bin/sh", 92, "cron"),
        process(500, "/usr/sbin/nginx", 1, "systemd"),
        process(510, "/app", 77, "containerd-shim-runc-v2"),
    ]
    .iter()
    .map(|process| told.process_alert(0, process).story.id)
    .collect();
    let mut different = stories.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), stories.len());
}

#[test]
fn who_comes_in_through_a_door_nobody_knows_is_not_the_door() {
    let mut told = Told::new();
    let door = process(500, "/opt/remote-shell", 1, "systemd");
    let door = told.process_alert(0, &door);
    let one = in_session(process(700, "/bin/sh", 500, "remote-shell"), 3);
    let two = in_session(process(701, "/bin/sh", 500, "remote-shell"), 4);
    let (one, two) = (told.process_alert(1, &one), told.process_alert(2, &two));
    assert!(door.begun && one.begun && two.begun);
    assert_eq!(two.story.root_pid, Some(701));
}

#[test]
fn who_detaches_from_a_service_stays_in_its_group() {
    let mut told = Told::new();
    let unit = "/system.slice/nginx.service";
    let master = in_group(process(500, "/usr/sbin/nginx", 1, "systemd"), unit);
    let first = told.process_alert(0, &master);
    let detached = in_group(process(990, "/tmp/x", 1, "systemd"), unit);
    assert_eq!(told.process_alert(5, &detached).story.id, first.story.id);
    // Jobs of cron share its group and have nothing else in common.
    let unit = "/system.slice/cron.service";
    let job = |pid| in_group(process(pid, "/bin/sh", 91, "cron"), unit);
    let (one, two) = (
        told.process_alert(6, &job(991)),
        told.process_alert(7, &job(992)),
    );
    assert_ne!(one.story.id, two.story.id);
}

#[test]
fn everything_in_a_container_is_one_story() {
    let mut told = Told::new();
    let inside = |pid, name: &str, parent: &str| Process {
        container_id: Some("3f4e8a".into()),
        ..process(pid, name, 77, parent)
    };
    let first = told.process_alert(0, &inside(510, "/app", "containerd-shim-runc-v2"));
    let second = told.process_alert(9, &inside(530, "/bin/sh", "runc"));
    assert_eq!(first.story.id, second.story.id);
}

fn shell_of(user: &str, pid: u32, session: u32, tty: Option<&str>) -> Process {
    Process {
        tty: tty.map(Into::into),
        user: Some(user.into()),
        ..in_session(process(pid, "/bin/bash", 600, "sshd"), session)
    }
}

#[test]
fn a_login_and_the_session_on_its_terminal_are_one_story() {
    let mut told = Told::new();
    let login = told.login_alert(0, "bob", "pts/0");
    assert_eq!(login.story.title, "rule in a session of bob");
    let shell = shell_of("bob", 700, 3, Some("/dev/pts/0"));
    told.note(60, &shell);
    let command = in_session(process(701, "/usr/bin/curl", 700, "bash"), 3);
    let placed = told.process_alert(90, &command);
    assert_eq!(placed.story.id, login.story.id);
    assert_eq!(placed.story.title, "rule and 1 more alert below bash");
    // The record of the login may also come after the shell was seen.
    let mut told = Told::new();
    let session = told.process_alert(0, &shell);
    assert_eq!(
        told.login_alert(1, "bob", "pts/0").story.id,
        session.story.id
    );
    // The next session on the same terminal is another story.
    assert_ne!(
        told.login_alert(300, "bob", "pts/0").story.id,
        session.story.id
    );
    assert_ne!(
        told.login_alert(1, "eve", "pts/0").story.id,
        session.story.id
    );
}

#[test]
fn a_login_and_the_session_of_its_user_that_begins_then_are_one_story() {
    let mut told = Told::new();
    let login = told.login_alert(0, "bob", "ssh");
    told.note(1, &shell_of("eve", 701, 4, None));
    told.note(2, &shell_of("bob", 700, 3, None));
    assert_eq!(told.file_alert(400, 700, "bash").story.id, login.story.id);
    assert_ne!(told.file_alert(400, 701, "bash").story.id, login.story.id);
    // Logged in again: another session, another story.
    let again = told.login_alert(600, "bob", "ssh");
    assert_ne!(again.story.id, login.story.id);
    told.note(601, &shell_of("bob", 710, 5, None));
    assert_eq!(told.file_alert(700, 710, "bash").story.id, again.story.id);
    assert_eq!(told.file_alert(700, 700, "bash").story.id, login.story.id);
}

#[test]
fn a_session_is_named_by_its_shell_not_by_what_ran_while_somebody_logged_in() {
    let mut told = Told::new();
    told.note(
        0,
        &in_session(process(690, "/bin/run-parts", 600, "sshd"), 3),
    );
    told.note(1, &in_session(process(700, "/bin/bash", 600, "sshd"), 3));
    let placed = told.file_alert(2, 700, "bash");
    assert_eq!(placed.story.title, "rule below bash");
}

#[test]
fn after_a_reboot_the_same_numbers_are_other_processes_and_sessions() {
    let mut told = Told::new();
    let shell = shell_of("bob", 700, 3, None);
    let before = told.process_alert(0, &shell);
    told.stories.rebooted(&AgentId::from_bits(HOST));
    assert_eq!(told.stories.counters().processes, 0);
    assert_ne!(told.process_alert(60, &shell).story.id, before.story.id);
}

#[test]
fn a_story_ends_when_nothing_comes_for_the_span() {
    let mut told = Told::new();
    let nginx = process(500, "/usr/sbin/nginx", 1, "systemd");
    let first = told.process_alert(0, &nginx);
    assert_eq!(told.process_alert(1_800, &nginx).story.id, first.story.id);
    assert_ne!(told.process_alert(3_601, &nginx).story.id, first.story.id);
}

#[test]
fn an_alert_that_comes_late_joins_the_story_it_belongs_to() {
    let mut told = Told::new();
    let nginx = process(500, "/usr/sbin/nginx", 1, "systemd");
    told.process_alert(1_000, &nginx);
    let late = told.process_alert(0, &nginx);
    assert!(!late.begun);
    assert_eq!((late.story.first, late.story.last), (secs(0), secs(1_000)));
}

#[test]
fn a_process_id_used_again_is_another_process() {
    let mut told = Told::new();
    let started = |pid, name: &str, parent: &str, at| Process {
        start_time: Some(secs(at)),
        ..process(pid, name, 600, parent)
    };
    let first = told.process_alert(0, &started(700, "/bin/bash", "sshd", 0));
    let second = told.process_alert(60, &started(700, "/bin/bash", "sshd", 60));
    assert_ne!(first.story.id, second.story.id);
    // The number of a process that ended, now a fork nobody saw: its name gives it away.
    let mut told = Told::new();
    told.note(0, &process(500, "/usr/sbin/nginx", 1, "systemd"));
    told.note(0, &process(900, "/bin/ls", 500, "nginx"));
    let nginx = told.process_alert(1, &process(901, "/bin/sh", 500, "nginx"));
    let other = told.process_alert(2, &process(902, "/bin/sh", 900, "postgres"));
    assert_ne!(nginx.story.id, other.story.id);
}

#[test]
fn executing_another_program_changes_the_name_but_not_the_story() {
    let mut told = Told::new();
    let first = told.process_alert(0, &process(700, "/bin/sh", 600, "sshd"));
    let second = told.process_alert(1, &process(700, "/usr/bin/python3", 600, "sshd"));
    assert_eq!(first.story.id, second.story.id);
    assert_eq!(
        told.process_alert(2, &process(701, "/bin/id", 700, "python3"))
            .story
            .id,
        first.story.id
    );
}

#[test]
fn a_process_that_was_only_heard_of_finds_its_tree_later() {
    let mut told = Told::new();
    told.note(0, &process(500, "/usr/sbin/nginx", 1, "systemd"));
    // The file was seen before the execution of who wrote it.
    let file = told.file_alert(1, 900, "/bin/sh");
    told.note(2, &process(900, "/bin/sh", 500, "nginx"));
    assert_eq!(told.file_alert(3, 900, "/bin/sh").story.id, file.story.id);
    assert_eq!(
        told.process_alert(4, &process(901, "/bin/id", 500, "nginx"))
            .story
            .id,
        file.story.id
    );
}

#[test]
fn the_most_dangerous_alert_gives_level_and_title() {
    let mut told = Told::new();
    let nginx = || EventData::Process(Box::new(process(500, "/usr/sbin/nginx", 1, "systemd")));
    told.alert_named(0, nginx(), "New listener", Level::Hint);
    told.alert_named(1, nginx(), "Reverse shell", Level::Danger);
    let story = told
        .alert_named(2, nginx(), "Recon", Level::Suspicious)
        .story;
    assert_eq!(story.level, Level::Danger);
    assert_eq!(story.title, "Reverse shell and 2 more alerts below nginx");
    assert_eq!(story.techniques, ["T1059"]);
}

#[test]
fn the_same_alert_told_twice_counts_once() {
    let mut stories = Stories::new(StoryLimits::default());
    let tell = |stories: &mut Stories| {
        stories.place(&AlertNote {
            reference: "a",
            agent: &AgentId::from_bits(HOST),
            time: secs(0),
            level: Level::Danger,
            name: "rule",
            name_zh: "规则",
            techniques: &[],
            subject: Subject::Actor { pid: 9, name: "x" },
        })
    };
    let (first, again) = (tell(&mut stories), tell(&mut stories));
    assert_eq!(first.story, again.story);
    assert_eq!(again.story.title_zh, "x 进程树：规则");
    assert_eq!(stories.counters().duplicates, 1);
}

#[test]
fn limits_hold_and_what_is_given_up_is_counted() {
    let mut told = Told::with(StoryLimits {
        hosts: 10,
        processes: 400,
        processes_per_host: 100,
        stories: 5,
        links_per_host: 8,
        ..StoryLimits::default()
    });
    for host in 0..40_u128 {
        let agent = AgentId::from_bits(host);
        for pid in 100..300 {
            let shell = in_session(process(pid, "/bin/bash", 50, "sshd"), pid);
            told.stories
                .note_process(&agent, &ProcessNote::of(System::Linux, secs(0), &shell));
        }
    }
    for pid in 100..120 {
        told.file_alert(0, pid, "/bin/bash");
    }
    let counters = told.stories.counters();
    assert!(counters.hosts <= 10 && counters.processes <= 400 && counters.stories <= 5);
    assert!(counters.evicted_hosts >= 30 && counters.evicted_processes > 0);
    assert_eq!((counters.evicted_stories, counters.begun), (15, 20));
    assert!(counters.evicted_links > 0);
}

/// A process of a made-up host: its parent among those before it, and whether it is a boundary.
type Made = (prop::sample::Index, bool, bool);

fn name(boundary: bool) -> &'static str {
    if boundary {
        "/usr/sbin/sshd"
    } else {
        "/bin/sh"
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn alerts_are_one_story_exactly_if_their_processes_have_the_same_root(
        made in prop::collection::vec(
            (any::<prop::sample::Index>(), prop::bool::weighted(0.2), any::<bool>()), 1..40),
        alerts in prop::collection::vec(
            (any::<prop::sample::Index>(), 0..2_000_i64, prop::bool::weighted(0.1)), 1..40),
    ) {
        let made: Vec<Made> = made;
        let mut told = Told::new();
        // The model: the root of each process by walking up.
        let mut parents: Vec<Option<usize>> = Vec::new();
        let root = |parents: &[Option<usize>], mut at: usize| {
            while let Some(parent) = parents[at].filter(|parent| !made[*parent].1) {
                at = parent;
            }
            at
        };
        for (place, (parent, boundary, start)) in made.iter().enumerate() {
            let parent = (place > 0).then(|| parent.index(place));
            parents.push(parent);
            let (ppid, parent) = match parent {
                Some(parent) => (100 + parent as u32, name(made[parent].1)),
                None => (1, "systemd"),
            };
            let parent = parent.rsplit('/').next().unwrap();
            told.note(place as i64, &Process {
                start_time: start.then(|| secs(place as i64)),
                ..process(100 + place as u32, name(*boundary), ppid, parent)
            });
        }
        // Stories of the model by root: first, last, and the id ours got.
        let mut open: BTreeMap<usize, (i64, i64, String)> = BTreeMap::new();
        let mut at = 100;
        for (place, pause, restart) in alerts {
            if restart {
                let bytes = told.stories.snapshot(b"place");
                let mut stories = Stories::new(StoryLimits::default());
                prop_assert_eq!(stories.restore(&bytes).unwrap(), b"place");
                prop_assert_eq!(&stories.snapshot(b"place"), &bytes);
                told.stories = stories;
            }
            at += pause;
            let place = place.index(made.len());
            let placed = told.file_alert(at, 100 + place as u32, name(made[place].1));
            let root = root(&parents, place);
            let known = open.get(&root).filter(|(_, last, _)| at - last <= 1_800);
            match known {
                Some((first, _, id)) => {
                    prop_assert_eq!(&placed.story.id, id);
                    prop_assert_eq!(placed.story.first, secs(*first));
                    prop_assert!(!placed.begun);
                    open.insert(root, (*first, at, id.clone()));
                }
                None => {
                    prop_assert!(placed.begun);
                    prop_assert!(open.values().all(|(_, _, id)| *id != placed.story.id));
                    open.insert(root, (at, at, placed.story.id));
                }
            }
        }
    }

    #[test]
    fn a_damaged_snapshot_is_refused_and_one_made_to_look_whole_does_no_harm(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut told = Told::new();
        told.login_alert(0, "bob", "pts/1");
        for pid in 100..110 {
            let shell = in_session(process(pid, "/bin/bash", 50 + pid % 3, "sshd"), pid);
            told.process_alert(0, &in_group(shell, "/x/session-1.scope"));
        }
        let bytes = told.stories.snapshot(b"");
        let mut damaged = bytes.clone();
        let place = place.index(bytes.len());
        damaged[place] = byte;
        if damaged != bytes {
            prop_assert!(told.stories.restore(&damaged).is_err());
            prop_assert_eq!(&told.stories.snapshot(b""), &bytes);
        }
        let crc = crc32c(&damaged[12..]);
        damaged[8..12].copy_from_slice(&crc.to_le_bytes());
        let _ = told.stories.restore(&damaged);
        told.file_alert(1, 100, "/bin/bash");
        let again = told.stories.snapshot(b"");
        prop_assert!(Stories::new(StoryLimits::default()).restore(&again).is_ok());
    }
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg())
        })
    })
}

#[test]
fn a_snapshot_of_something_else_is_refused() {
    let mut stories = Stories::new(StoryLimits {
        span: Duration::from_secs(1),
        ..StoryLimits::default()
    });
    assert_eq!(
        stories.restore(b"YLCO00000000"),
        Err(SnapshotError::OtherKind)
    );
    assert_eq!(stories.restore(b""), Err(SnapshotError::OtherKind));
}
