//! systemd units as they lie on disk: files, drop-ins, masks, and what wants them.
//!
//! Reading the files works whether systemd runs or not, and needs no helper program.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use super::{Error, Root, root::file_name};

/// Where system units lie, the most important directory first, systemd.unit(5).
pub(super) const SYSTEM: [&str; 13] = [
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system",
    "/run/systemd/system.attached",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
    "/run/systemd/generator.late",
];

/// Where units of every user's own service manager lie.
pub(super) const USERS: [&str; 7] = [
    "/etc/xdg/systemd/user",
    "/etc/systemd/user",
    "/run/systemd/user",
    "/usr/local/share/systemd/user",
    "/usr/share/systemd/user",
    "/usr/local/lib/systemd/user",
    "/usr/lib/systemd/user",
];

/// Where a user's own units lie, below the home directory.
pub(super) const HOME: [&str; 3] = [
    ".config/systemd/user.control",
    ".config/systemd/user",
    ".local/share/systemd/user",
];

/// The settings of a unit file in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Settings(Vec<(String, String, String)>);

impl Settings {
    /// Reads systemd.syntax(7); what makes no sense is passed over.
    pub(super) fn parse(text: &str) -> Self {
        let mut settings = Self::default();
        let mut section = String::new();
        let mut pending = String::new();
        for line in text.lines() {
            let line = line.trim();
            if line.starts_with(['#', ';']) || (line.is_empty() && pending.is_empty()) {
                continue;
            }
            if let Some(start) = line.strip_suffix('\\') {
                pending.push_str(start);
                pending.push(' ');
                continue;
            }
            pending.push_str(line);
            let whole = std::mem::take(&mut pending);
            if let Some(name) = whole.strip_prefix('[').and_then(|s| s.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else if let Some((key, value)) = whole.split_once('=') {
                settings.0.push((
                    section.clone(),
                    key.trim().to_owned(),
                    value.trim().to_owned(),
                ));
            }
        }
        settings
    }

    /// Values of a setting that may be given several times; an empty one forgets those before.
    pub(super) fn all(&self, section: &str, key: &str) -> Vec<&str> {
        let mut values = Vec::new();
        for (_, _, value) in self.0.iter().filter(|(s, k, _)| s == section && k == key) {
            if value.is_empty() {
                values.clear();
            } else {
                values.push(value.as_str());
            }
        }
        values
    }

    /// Last value of a setting; empty when it is not set.
    pub(super) fn last(&self, section: &str, key: &str) -> &str {
        self.all(section, key).last().copied().unwrap_or_default()
    }

    /// Keys and values of a section whose keys start with `prefix`.
    pub(super) fn starting<'a>(
        &'a self,
        section: &'a str,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(s, k, v)| s == section && k.starts_with(prefix) && !v.is_empty())
            .map(|(_, key, value)| (key.as_str(), value.as_str()))
    }

    /// Whether a section has any setting.
    pub(super) fn has(&self, section: &str) -> bool {
        self.0.iter().any(|(s, _, _)| s == section)
    }

    /// Every command a service starts with, without the marks of systemd.service(5).
    pub(super) fn command(&self) -> String {
        let commands: Vec<&str> = self
            .all("Service", "ExecStart")
            .into_iter()
            .map(|command| {
                command
                    .trim_start_matches(['-', '@', ':', '+', '!', '|'])
                    .trim_start()
            })
            .collect();
        commands.join("; ")
    }

    fn fill_in(&mut self, instance: &str) {
        for (_, _, value) in &mut self.0 {
            if value.contains("%i") || value.contains("%I") {
                *value = value.replace("%i", instance).replace("%I", instance);
            }
        }
    }
}

/// A unit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
    pub(super) path: PathBuf,
    pub(super) settings: Settings,
    pub(super) masked: bool,
}

/// The units of some directories.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    pub(super) units: BTreeMap<String, Unit>,
    /// Names that some other unit wants or requires by a link, or that have an alias in `/etc`.
    pub(super) wanted: BTreeSet<String>,
}

impl Catalogue {
    /// Reads the units whose names have one of `suffixes`; the first of equal names counts.
    ///
    /// # Errors
    /// A directory or file exists and cannot be read.
    pub(super) fn load(
        root: &Root,
        directories: &[impl AsRef<Path>],
        suffixes: &[&str],
    ) -> Result<Self, Error> {
        let mut catalogue = Self::default();
        let mut drop_ins: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for directory in directories {
            let directory = directory.as_ref();
            if !seen.insert(root.resolve(directory)) {
                continue;
            }
            for path in root.list(directory)? {
                let name = file_name(&path);
                if name.ends_with(".wants") || name.ends_with(".requires") {
                    let entries = root.list(&path)?;
                    catalogue
                        .wanted
                        .extend(entries.iter().map(|e| file_name(e)));
                } else if let Some(unit) = name.strip_suffix(".d") {
                    drop_ins.entry(unit.to_owned()).or_default().push(path);
                } else if suffixes.iter().any(|suffix| name.ends_with(suffix)) {
                    catalogue.add(root, &path, name)?;
                }
            }
        }
        catalogue.add_instances();
        catalogue.add_drop_ins(root, &drop_ins)?;
        Ok(catalogue)
    }

    /// The unit of a name, made from its template when there is none of its own.
    pub(super) fn unit(&self, name: &str) -> Option<Unit> {
        if let Some(unit) = self.units.get(name) {
            return Some(unit.clone());
        }
        let (template, instance) = instance_of(name).filter(|(_, i)| !i.is_empty())?;
        let mut unit = self.units.get(&template)?.clone();
        unit.settings.fill_in(&instance);
        Some(unit)
    }

    fn add(&mut self, root: &Root, path: &Path, name: String) -> Result<(), Error> {
        let target = root.link(path);
        if let Some(target) = &target
            && target != Path::new("/dev/null")
            && file_name(target) != name
            && !file_name(target).contains("@.")
        {
            if path.starts_with("/etc") {
                self.wanted.insert(file_name(target));
            }
            return Ok(());
        }
        if self.units.contains_key(&name) {
            return Ok(());
        }
        let text = root.text(path)?;
        let to_nowhere = target.is_some_and(|target| target == Path::new("/dev/null"));
        let masked = to_nowhere || text.as_ref().is_some_and(String::is_empty);
        if text.is_none() && !masked {
            return Ok(());
        }
        let unit = Unit {
            path: path.to_owned(),
            settings: Settings::parse(&text.unwrap_or_default()),
            masked,
        };
        self.units.insert(name, unit);
        Ok(())
    }

    /// Instances that are wanted, made from their templates.
    fn add_instances(&mut self) {
        for name in &self.wanted {
            if self.units.contains_key(name) {
                continue;
            }
            if let Some(unit) = self.unit(name) {
                self.units.insert(name.clone(), unit);
            }
        }
    }

    fn add_drop_ins(
        &mut self,
        root: &Root,
        drop_ins: &BTreeMap<String, Vec<PathBuf>>,
    ) -> Result<(), Error> {
        for (name, unit) in &mut self.units {
            for directory in drop_ins.get(name).into_iter().flatten() {
                for path in root.list(directory)? {
                    if file_name(&path).ends_with(".conf")
                        && let Some(text) = root.text(&path)?
                    {
                        unit.settings.0.extend(Settings::parse(&text).0);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Template and instance of a name such as `getty@tty1.service`.
fn instance_of(name: &str) -> Option<(String, String)> {
    let (prefix, rest) = name.split_once('@')?;
    let (instance, suffix) = rest.rsplit_once('.')?;
    Some((format!("{prefix}@.{suffix}"), instance.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn settings_continue_repeat_and_reset() {
        let settings = Settings::parse(
            "[Unit]\nDescription = A \\\n  b\n# no\n[Service]\nExecStart=-/bin/a\nExecStart=\n\
             ExecStart=@/bin/b x\nExecStart=+/bin/c\nno equals\n[broken\n",
        );
        assert_eq!(settings.last("Unit", "Description"), "A  b");
        assert_eq!(settings.command(), "/bin/b x; /bin/c");
        assert_eq!(settings.last("Service", "User"), "");
        assert!(settings.has("Unit") && !settings.has("Install"));
    }

    proptest! {
        #[test]
        fn no_unit_file_can_stop_the_collector_a17(text in any::<String>()) {
            let settings = Settings::parse(&text);
            let _ = settings.command();
        }
    }
}
