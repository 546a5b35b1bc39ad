//! Control groups for whoever makes noise and whoever is to be seen nevertheless.

use std::{fs, path::PathBuf};

/// A text that only this test's processes have.
pub(crate) fn marker(test: &str) -> String {
    format!("yinglong-{test}-{}", std::process::id())
}

/// A control group of version 2, which goes with the value.
pub(crate) struct Group(PathBuf);

impl Group {
    pub(crate) fn new(name: &str) -> Result<Self, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
        let root = mounts
            .lines()
            .map(|line| line.split(' ').collect::<Vec<_>>())
            .find_map(|words| (words.get(2) == Some(&"cgroup2")).then(|| words[1].to_owned()))
            .ok_or("no control groups of version 2")?;
        let path = PathBuf::from(root).join(marker(name));
        fs::create_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self(path))
    }

    /// As the sensors call it.
    pub(crate) fn name(&self) -> String {
        format!("/{}", self.0.file_name().unwrap().to_str().unwrap())
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}
