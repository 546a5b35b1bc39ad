//! Web roots: the directories that configured web servers publish (A15).
//!
//! Only what a configuration says counts; there is no guessing of usual directories. Conditions
//! (`<IfModule>`, `if`) are not evaluated, so a root in any branch is a root. Servers in containers
//! are left out: their paths mean nothing outside.

mod apache;
mod ask;
mod java;
mod nginx;

use std::{
    collections::BTreeSet,
    path::{Component, Path, PathBuf},
};

use super::{Root, processes, processes::Process};

/// Roots beyond this number are left out.
const ROOT_LIMIT: usize = 256;

/// Depth at which includes are given up; nobody nests them like that.
const DEPTH_LIMIT: usize = 16;

/// Where Apache is installed by distributions and by its own makefile.
const APACHE_PROGRAMS: [&str; 4] = [
    "/usr/sbin/apache2",
    "/usr/sbin/httpd",
    "/usr/local/apache2/bin/httpd",
    "/usr/sbin/httpd-prefork",
];

/// Where nginx is installed by distributions and by its own makefile.
const NGINX_PROGRAMS: [&str; 5] = [
    "/usr/sbin/nginx",
    "/usr/bin/nginx",
    "/usr/local/sbin/nginx",
    "/usr/local/nginx/sbin/nginx",
    "/usr/local/openresty/nginx/sbin/nginx",
];

/// Every web root of the host, sorted. What cannot be read is left out and logged.
pub fn collect(root: &Root) -> Vec<PathBuf> {
    let processes: Vec<Process> = processes::scan(root)
        .unwrap_or_default()
        .into_iter()
        .filter(|process| !process.exe.is_empty())
        .collect();
    let mut found = Found::default();
    for server in servers(root, &processes, &APACHE_PROGRAMS, &["apache2", "httpd"]) {
        apache::collect(root, &server, &mut found);
    }
    for server in servers(root, &processes, &NGINX_PROGRAMS, &["nginx", "openresty"]) {
        nginx::collect(root, &server, &mut found);
    }
    for process in &processes {
        if process.base_name() == "java" && shares_files(root, process) {
            java::collect(root, &process.arguments, &mut found);
        }
    }
    found.roots.into_iter().collect()
}

/// A server program and the arguments it runs with; none when it is only installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Server {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Server {
    /// Value behind an option such as `-c`.
    fn option(&self, name: &str) -> Option<&str> {
        let at = self
            .arguments
            .iter()
            .position(|argument| argument == name)?;
        self.arguments.get(at + 1).map(String::as_str)
    }
}

fn servers(
    root: &Root,
    processes: &[Process],
    programs: &[&str],
    names: &[&str],
) -> BTreeSet<Server> {
    let mut servers = BTreeSet::new();
    for program in programs {
        if root.metadata(program).is_some_and(|m| m.is_file()) {
            servers.insert(Server {
                program: root.resolve(program),
                arguments: Vec::new(),
            });
        }
    }
    for process in processes {
        if names.contains(&process.base_name()) && shares_files(root, process) {
            // nginx writes its title over its arguments as one string.
            let arguments = process.arguments.join(" ");
            let options = ["-c", "-p", "-f", "-d"];
            let mut words = arguments.split_ascii_whitespace().peekable();
            let mut kept = Vec::new();
            while let Some(word) = words.next() {
                if options.contains(&word)
                    && let Some(value) = words.next()
                {
                    kept.extend([word.to_owned(), value.to_owned()]);
                }
            }
            servers.insert(Server {
                program: PathBuf::from(&process.exe),
                arguments: kept,
            });
        }
    }
    servers
}

/// Whether a process sees the host's files: it is in no container and has not changed its root.
/// A mount namespace of its own says nothing; service managers give one to hardened services.
fn shares_files(root: &Root, process: &Process) -> bool {
    let proc = PathBuf::from(format!("/proc/{}", process.pid));
    let changed = root.link(proc.join("root"));
    root.link(proc.join("ns/pid")) == root.link("/proc/self/ns/pid")
        && changed.is_none_or(|path| path == Path::new("/"))
}

/// What was found, and how much may still be read.
#[derive(Debug)]
struct Found {
    roots: BTreeSet<PathBuf>,
    files_left: usize,
    bytes_left: usize,
}

impl Default for Found {
    fn default() -> Self {
        Self {
            roots: BTreeSet::new(),
            files_left: 4096,
            bytes_left: 64 << 20,
        }
    }
}

impl Found {
    /// Adds a root. The whole file system is none, whatever a configuration says.
    fn add(&mut self, path: &Path) {
        let normal = normalize(path);
        if normal.is_absolute() && normal != Path::new("/") && self.roots.len() < ROOT_LIMIT {
            self.roots.insert(normal);
        }
    }

    /// Text of a configuration file, unless there is none or the limits are reached.
    fn text(&mut self, root: &Root, path: &Path) -> Option<String> {
        let text = match root.text(path) {
            Ok(text) => text?,
            Err(error) => {
                tracing::warn!(%error, "a file of a web server's configuration is left out");
                return None;
            }
        };
        self.files_left = self.files_left.checked_sub(1)?;
        self.bytes_left = self.bytes_left.checked_sub(text.len())?;
        Some(text)
    }
}

/// The path without `.`, `..` and repeated or trailing slashes.
fn normalize(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

#[cfg(test)]
mod tests;
