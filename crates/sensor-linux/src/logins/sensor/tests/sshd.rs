//! Against a real sshd of our own, on loopback, with its own keys, configuration and log.

use std::{
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use super::*;

const SSHD: &str = "/usr/sbin/sshd";

/// Ended with the test, whichever way that ends.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(command: &mut Command) -> bool {
    let output = command.stdin(Stdio::null()).output().unwrap();
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    output.status.success()
}

fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "no {what} in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_real_sshd_three_wrong_passwords_three_wrong_keys_and_one_success_a09_a10() {
    let test = "a_real_sshd_three_wrong_passwords_three_wrong_keys_and_one_success_a09_a10";
    session(test, false);
}

#[test]
fn a_real_sshd_with_pam_and_the_audit_subsystem_tells_the_same_a09_a10() {
    let test = "a_real_sshd_with_pam_and_the_audit_subsystem_tells_the_same_a09_a10";
    if crate::logins::audit::tests::is_possible() {
        let _on = crate::logins::audit::tests::On::new();
        session(test, true);
    } else {
        eprintln!("SKIPPED {test}: the audit subsystem cannot be used");
    }
}

/// The whole story, with PAM and the audit subsystem or without either.
fn session(test: &str, audited: bool) {
    let root = nix::unistd::geteuid().is_root();
    if !root || !Path::new(SSHD).exists() || !Path::new("/usr/bin/ssh").exists() {
        eprintln!("SKIPPED {test}: needs root, {SSHD} and /usr/bin/ssh");
        return;
    }
    let files = Files::new();
    let path = |name: &str| files.path(name).to_string_lossy().into_owned();
    for key in ["host", "right", "wrong"] {
        let mut keygen = Command::new("ssh-keygen");
        assert!(run(keygen.args([
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            &path(key)
        ])));
    }
    fs::copy(files.path("right.pub"), files.path("authorized")).unwrap();
    files.append("askpass", b"#!/bin/sh\necho wrong\n");
    fs::set_permissions(files.path("askpass"), fs::Permissions::from_mode(0o700)).unwrap();
    // sshd insists on it; Debian makes it when the service starts.
    fs::create_dir_all("/run/sshd").unwrap();
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let config = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         UsePAM {}\nStrictModes no\nPermitRootLogin yes\nPasswordAuthentication yes\nMaxAuthTries 6\n",
        path("host"),
        path("authorized"),
        if audited { "yes" } else { "no" },
    );
    files.append("config", config.as_bytes());

    // Newer versions make an address that failed wait; older ones do not know the option.
    let penalties = "PerSourcePenalties=no";
    let mut check = Command::new(SSHD);
    if run(check.args(["-t", "-f", &path("config"), "-o", penalties])) {
        files.append("config", b"PerSourcePenalties no\n");
    }

    let log = files.path("sshd.log");
    for record in ["wtmp", "btmp", "lastlog"] {
        files.append(record, b"");
        // sshd refuses a btmp that others could read.
        fs::set_permissions(files.path(record), fs::Permissions::from_mode(0o600)).unwrap();
    }
    let paths = Paths {
        auth: vec![log.clone()],
        ..files.paths()
    };
    let context = Context::default();
    let kept = Kept::default();
    let options = Options {
        paths,
        audit: audited,
        ..Options::default()
    };
    let mut sensor = open(options).unwrap();
    let worker = std::thread::spawn({
        let (context, mut kept) = (context.clone(), kept.clone());
        move || sensor.run(&context, &mut kept)
    });
    let mark = format!("logins.auth:{}", log.display());
    wait_for("mark", || kept.marked(&mark).is_some());

    // In a mount namespace of its own, sshd takes our files for those of the host.
    let script = format!(
        "for f in wtmp btmp lastlog; do [ -e /var/log/$f ] || continue; mount --bind \"$0/$f\" /var/log/$f || exit; done; \
         exec {SSHD} -D -f \"$0/config\" -E \"$0/sshd.log\""
    );
    let daemon = Daemon(
        Command::new("unshare")
            .args(["-m", "sh", "-c", &script])
            .arg(files.dir.path())
            .spawn()
            .unwrap(),
    );
    wait_for("sshd", || TcpStream::connect(("127.0.0.1", port)).is_ok());

    // An address of our own, by which our logins are known.
    let [.., high, low] = std::process::id().to_be_bytes();
    let client = format!("127.{}.{high}.{low}", 10 + u8::from(audited));
    let bind = format!("BindAddress={client}");
    let ssh = |options: &[&str]| {
        // Whatever happens, a person's patience ends.
        let mut ssh = Command::new("timeout");
        ssh.args([
            "60",
            "/usr/bin/ssh",
            "-F",
            "/dev/null",
            "-p",
            &port.to_string(),
        ]);
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "ConnectTimeout=20",
            &bind,
        ]
        .iter()
        .chain(options)
        {
            ssh.args(["-o", option]);
        }
        ssh.env("SSH_ASKPASS", path("askpass"))
            .env("SSH_ASKPASS_REQUIRE", "force")
            .args(["-tt", "root@127.0.0.1", "true"]);
        run(&mut ssh)
    };
    // With PAM a client may answer its prompts three times, and then say its password three times.
    assert!(!ssh(&[
        "PubkeyAuthentication=no",
        "PreferredAuthentications=keyboard-interactive,password",
        "NumberOfPasswordPrompts=3"
    ]));
    let wrong = format!("IdentityFile={}", path("wrong"));
    for _ in 0..3 {
        assert!(!ssh(&[&wrong, "PreferredAuthentications=publickey"]));
    }
    let right = format!("IdentityFile={}", path("right"));
    assert!(ssh(&[&right, "PreferredAuthentications=publickey"]));

    let mut events = Vec::new();
    wait_for("success", || {
        events.extend(kept.take());
        let mut ours = events.iter().filter(|(_, login)| login.remote == client);
        ours.any(|(_, login)| login.status)
    });
    // The other sources have had their turn with the next passes.
    let settled = Instant::now() + PATIENCE + 3 * POLL;
    wait_for("other sources", || Instant::now() > settled);
    events.extend(kept.take());
    context.stop();
    worker.join().unwrap().unwrap();
    drop(daemon);

    eprintln!("{}", fs::read_to_string(&log).unwrap());
    let mut outcomes: Vec<_> = events
        .iter()
        // The audit subsystem tells of the logins of all tests.
        .filter(|(_, login)| login.remote == client)
        .map(|(_, login)| (login.username.as_str(), login.remote.as_str(), login.status))
        .collect();
    // A file is read a moment after the audit subsystem tells, and this one has no times of its own.
    outcomes.sort_unstable();
    let failure = ("root", client.as_str(), false);
    let mut expected = vec![failure; if audited { 9 } else { 6 }];
    expected.push(("root", client.as_str(), true));
    assert_eq!(outcomes, expected, "{events:?}");
}
