//! Asks a web server's program how it was built: `apache2 -V`, `nginx -V`.

use std::{
    collections::HashMap,
    fs,
    io::Read,
    os::unix::{fs::MetadataExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError, mpsc},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::inventory::Root;

/// Time a program has to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Longest answer that is read, in bytes; nginx with many modules has a few thousand.
const ANSWER_LIMIT_BYTES: u64 = 64 << 10;

/// Programs whose answers are remembered.
const REMEMBERED: usize = 32;

/// Device, inode and time of change: the same for the same build of a program.
type Identity = (u64, u64, i64);

static ANSWERS: Mutex<Option<HashMap<PathBuf, (Identity, String)>>> = Mutex::new(None);

/// What the program writes when called with `-V`; `None` when it may not be run, or fails.
///
/// It is run once per build, with an empty environment, and only if none but root can have
/// changed it: the agent runs as root.
pub(super) fn build_options(root: &Root, program: &Path) -> Option<String> {
    if !root.is_host() || !only_root_can_change(program) {
        return None;
    }
    let metadata = fs::metadata(program).ok()?;
    let identity = (metadata.dev(), metadata.ino(), metadata.ctime());
    let mut answers = ANSWERS.lock().unwrap_or_else(PoisonError::into_inner);
    let answers = answers.get_or_insert_default();
    if let Some((known, answer)) = answers.get(program)
        && *known == identity
    {
        return Some(answer.clone());
    }
    let answer = run(program).unwrap_or_else(|error| {
        tracing::warn!(program = %program.display(), %error, "the web server did not say how it was built");
        String::new()
    });
    if answers.len() >= REMEMBERED {
        answers.clear();
    }
    answers.insert(program.to_owned(), (identity, answer.clone()));
    Some(answer)
}

/// Whether the program and every directory above it belong to root and are writable by it alone.
fn only_root_can_change(program: &Path) -> bool {
    fs::canonicalize(program).is_ok_and(|real| {
        real.ancestors().all(|path| {
            fs::symlink_metadata(path).is_ok_and(|m| m.uid() == 0 && m.mode() & 0o022 == 0)
        })
    })
}

fn run(program: &Path) -> std::io::Result<String> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut command = Command::new(program);
    command
        .arg("-V")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .process_group(0);
    let mut child = command.spawn()?;
    // The command holds the writing ends; the reader sees the end only without them.
    drop(command);
    let (sender, answer) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let result = reader
            .by_ref()
            .take(ANSWER_LIMIT_BYTES)
            .read_to_end(&mut bytes);
        // Nobody listens any more once the time is up.
        let _ = sender.send(result.map(|_| bytes));
    });
    let answer = answer.recv_timeout(PATIENCE);
    // Also when it answered: whatever it left running ends with it.
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    child.wait()?;
    let bytes = answer.map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_that_others_could_change_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("nginx");
        fs::write(&program, "#!/bin/sh\necho ran\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!only_root_can_change(&program));
        assert_eq!(build_options(&Root::host(), &program), None);
        assert!(only_root_can_change(Path::new("/bin/sh")));
        assert_eq!(
            build_options(&Root::at(dir.path()), Path::new("/nginx")),
            None
        );
    }

    #[test]
    fn both_outputs_are_read_and_the_environment_is_clean() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("server");
        fs::write(&program, "#!/bin/sh\necho out $1\necho err $HOME >&2\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(run(&program).unwrap(), "out -V\nerr\n");
        assert!(run(&dir.path().join("nothing")).is_err());
    }
}
