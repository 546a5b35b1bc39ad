//! What a behaviour leaves behind, removed when it goes out of scope.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use anyhow::{Context as _, bail};

/// Removes everything it was told about, newest first.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    files: Vec<PathBuf>,
    folders: Vec<PathBuf>,
    accounts: Vec<String>,
    processes: Vec<Child>,
}

impl Traces {
    /// A folder of its own below the system's temporary one.
    pub(crate) fn folder(&mut self, name: &str) -> anyhow::Result<PathBuf> {
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot create {}", path.display()))?;
        self.folders.push(path.clone());
        Ok(path)
    }

    /// A file that did not exist before.
    pub(crate) fn file(&mut self, path: &Path, content: &str) -> anyhow::Result<()> {
        use std::io::Write as _;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(path)
            .with_context(|| format!("cannot create {}", path.display()))?;
        self.files.push(path.to_owned());
        file.write_all(content.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// An account without a password that can be used.
    pub(crate) fn account(&mut self, name: &str) -> anyhow::Result<()> {
        succeed(Command::new("useradd").args(["--no-create-home", "--shell", "/bin/sh", name]))?;
        self.accounts.push(name.to_owned());
        Ok(())
    }

    /// A process to end afterwards.
    pub(crate) fn process(&mut self, command: &mut Command) -> anyhow::Result<()> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        self.processes.push(child);
        Ok(())
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        for child in &mut self.processes {
            // Ended by itself already: nothing left to do.
            let _ = child.kill();
            let _ = child.wait();
        }
        for name in &self.accounts {
            if let Err(error) = succeed(Command::new("userdel").arg(name)) {
                eprintln!(
                    "the account {name} could not be removed; run `userdel {name}`: {error:#}"
                );
            }
        }
        for path in &self.files {
            if let Err(error) = fs::remove_file(path) {
                eprintln!(
                    "{} could not be removed; remove it: {error}",
                    path.display()
                );
            }
        }
        for path in &self.folders {
            if let Err(error) = fs::remove_dir_all(path) {
                eprintln!(
                    "{} could not be removed; remove it: {error}",
                    path.display()
                );
            }
        }
    }
}

/// Runs a program to its end; its output is only shown when it fails.
pub(crate) fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let output = command
        .output()
        .with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {}", output.status, said.trim());
    }
    Ok(())
}
