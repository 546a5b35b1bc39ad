//! Against a real journald of our own, in namespaces of its own.

use std::process::{Child, Command, Stdio};

use super::*;

const JOURNALD: &str = "/lib/systemd/systemd-journald";
const JOURNALCTL: &str = "/usr/bin/journalctl";
const LOGGER: &str = "/usr/bin/logger";

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_for<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < deadline, "no {what} in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// journald with its own `/run`, which is the folder `run` of the files; it neither turns auditing on nor
/// reads the kernel's log.
fn journald(files: &Files) -> Daemon {
    for folder in ["run/systemd/journal", "run/log/journal", "etc", "var"] {
        fs::create_dir_all(files.path(folder)).unwrap();
    }
    let config = "[Journal]\nStorage=volatile\nAudit=no\nReadKMsg=no\nForwardToSyslog=no\n\
        ForwardToWall=no\nRateLimitIntervalSec=0\nRuntimeMaxUse=64M\n";
    fs::write(files.path("etc/journald.conf"), config).unwrap();
    let script = format!(
        "mount --bind \"$0/run\" /run && \
         {{ [ ! -d /etc/systemd ] || {{ mount -t tmpfs none /etc/systemd && cp \"$0/etc/journald.conf\" /etc/systemd/; }}; }} && \
         exec setpriv --bounding-set=-audit_control --inh-caps=-audit_control {JOURNALD}"
    );
    let daemon = Command::new("unshare")
        .args(["--mount", "--net", "sh", "-c", &script])
        .arg(files.dir.path())
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let daemon = Daemon(daemon);
    wait_for("socket of journald", || {
        let socket = files.path("run/systemd/journal/dev-log");
        socket.exists().then_some(())
    });
    daemon
}

fn log(files: &Files, uid: u32, tag: &str, message: &str) {
    let socket = files.path("run/systemd/journal/dev-log");
    // Whoever logs must be able to get there.
    let mut logger = Command::new("setpriv");
    logger
        .args([
            "--reuid",
            &uid.to_string(),
            "--regid",
            &uid.to_string(),
            "--clear-groups",
            LOGGER,
        ])
        .args(["--priority", "auth.info", "--tag", tag, "--socket"])
        .arg(socket)
        .args(["--", message]);
    assert!(logger.status().unwrap().success());
}

fn accepted(user: &str) -> String {
    format!("Accepted password for {user} from 192.0.2.1 port 7 ssh2")
}

#[test]
fn a_real_journal_is_read_across_restarts_and_forged_lines_are_not_believed_a09_a11() {
    let test = "a_real_journal_is_read_across_restarts_and_forged_lines_are_not_believed_a09_a11";
    let tools = [
        JOURNALD,
        JOURNALCTL,
        LOGGER,
        "/usr/bin/setpriv",
        "/usr/bin/unshare",
    ];
    let root = nix::unistd::geteuid().is_root();
    if !root || !tools.iter().all(|tool| std::path::Path::new(tool).exists()) {
        eprintln!("SKIPPED {test}: needs root and {tools:?}");
        return;
    }
    let files = Files::new();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(files.dir.path(), mode).unwrap();
    let options = || Options {
        journal: Some(JournalPlace {
            programs: vec![PathBuf::from(JOURNALCTL)],
            folders: vec![files.path("run/log/journal")],
            named: true,
        }),
        ..files.options()
    };
    let kept = Kept::default();
    let daemon = journald(&files);
    log(&files, 0, "sshd", &accepted("history"));
    // journald writes in its own time.
    wait_for("history", || {
        let mut journalctl = Command::new(JOURNALCTL);
        journalctl
            .arg("--directory")
            .arg(files.path("run/log/journal"));
        let output = journalctl.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("history").then_some(())
    });

    let mut reader = Reader::new(options());
    let expect = |reader: &mut Reader, wanted: &[&str]| {
        let mut outlet = kept.clone();
        let mut users = Vec::new();
        wait_for("events", || {
            let now = Timestamp::from(std::time::SystemTime::now());
            while reader.pass(&mut outlet, now).unwrap() {}
            users.extend(kept.take().into_iter().map(|(_, login)| login.username));
            (users.len() >= wanted.len()).then_some(())
        });
        assert_eq!(users, wanted);
    };
    wait_for("journal", || {
        expect(&mut reader, &[]);
        reader.status().reason.is_empty().then_some(())
    });
    assert_eq!(reader.status().source, "journal");
    assert!(
        kept.marked(JOURNAL_MARK)
            .is_some_and(|mark| mark.starts_with("s="))
    );

    log(&files, 0, "sshd", &accepted("first"));
    log(&files, 65534, "sshd", &accepted("forged"));
    log(&files, 65534, "su", "(to root) nobody on pts/0");
    log(&files, 0, "sshd", &accepted("second"));
    // The same lines in a text log, as rsyslog writes them.
    files.append(
        "auth.log",
        &line(
            Timestamp::from(std::time::SystemTime::now()).secs(),
            &accepted("forged"),
        ),
    );
    expect(&mut reader, &["first", "second"]);

    // Another run goes on where this one was, and its child is gone with it.
    drop(reader);
    log(&files, 0, "sshd", &accepted("meanwhile"));
    let mut reader = Reader::new(options());
    reader.duplicates = Duplicates::restore(
        &kept.marked(RECENT_MARK).unwrap(),
        Timestamp::from_secs(NOW),
    );
    expect(&mut reader, &["meanwhile"]);
    log(&files, 0, "sshd", &accepted("later"));
    expect(&mut reader, &["later"]);

    // Past the time for which text logs are put off, the forged line is still nobody's login.
    let settled = Instant::now() + Duration::from_secs(3);
    wait_for("text log", || {
        expect(&mut reader, &[]);
        (Instant::now() > settled).then_some(())
    });
    drop(daemon);
}
