//! A real login: our own ssh server on the loopback network, for as long as it takes.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{
    behaviour::Mark,
    traces::{Traces, succeed},
};

const SSHD: &str = "/usr/sbin/sshd";
const WTMP: &str = "/var/log/wtmp";

/// How long the server may take until it listens.
const START: Duration = Duration::from_secs(10);

/// Why no login can be made on this host.
pub(crate) fn obstacle() -> Option<String> {
    if !Path::new(SSHD).exists() || !Path::new("/usr/bin/ssh").exists() {
        return Some("openssh-server and openssh-client are not installed".to_owned());
    }
    if !Path::new(WTMP).exists() {
        return Some(format!("this host keeps no {WTMP}"));
    }
    None
}

/// Logs in as the user who runs this, with a key made for it, from the mark's address.
pub(crate) fn perform(mark: &Mark, traces: &mut Traces) -> anyhow::Result<()> {
    let folder = traces.folder(&mark.word)?;
    for key in ["host", "user"] {
        let mut keygen = Command::new("ssh-keygen");
        keygen
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(folder.join(key));
        succeed(&mut keygen)?;
    }
    fs::rename(folder.join("user.pub"), folder.join("authorized"))?;
    // The port is free now and taken in a moment; if somebody is faster, sshd says so.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let at = |name: &str| folder.join(name).display().to_string();
    let config = format!(
        "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
         UsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n\
         PrintMotd no\nPrintLastLog no\n",
        at("host"),
        at("authorized"),
    );
    fs::write(folder.join("config"), config)?;
    // sshd changes its root to this folder while it does not know who is calling.
    fs::create_dir_all("/run/sshd")?;
    let mut server = Command::new(SSHD);
    server.args(["-D", "-e", "-f"]).arg(folder.join("config"));
    traces.process(
        server
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    let until = Instant::now() + START;
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        if Instant::now() > until {
            bail!("our own sshd does not listen after {START:?}");
        }
        thread::sleep(Duration::from_millis(20));
    }
    // Only logins with a terminal are recorded in wtmp.
    let mut client = Command::new("ssh");
    client
        .args([
            "-tt",
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "IdentitiesOnly=yes",
        ])
        .args([
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ])
        .args(["-o", "LogLevel=ERROR", "-b", &mark.address.to_string()])
        .args([
            "-p",
            &port.to_string(),
            "-i",
            &at("user"),
            "127.0.0.1",
            "true",
        ])
        .stdin(Stdio::null());
    succeed(&mut client).context("the login did not succeed")
}
