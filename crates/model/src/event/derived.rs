//! Fields that rules can ask for and that are made of the stored ones.

use std::borrow::Cow;

use super::{Connection, Direction, File, Process};

impl Process {
    /// Path of the parent's executable; its base name when the path is not known.
    pub(super) fn parent_exe(&self) -> Option<Cow<'_, str>> {
        let parent = self.ancestors.first().unwrap_or(&self.parentname);
        (!parent.is_empty()).then_some(Cow::Borrowed(parent))
    }

    /// `MD5=` and `SHA256=` with the digests, separated by a comma.
    pub(super) fn hashes(&self) -> Option<Cow<'_, str>> {
        hashes(
            self.md5.as_deref().unwrap_or_default(),
            self.sha256.as_deref(),
        )
    }
}

impl Connection {
    /// Whether this host started the connection: `true` or `false`.
    pub(super) fn initiated(&self) -> Option<Cow<'_, str>> {
        let initiated = self.dir == Direction::Out;
        Some(Cow::Borrowed(if initiated { "true" } else { "false" }))
    }

    /// Address of the side that started the connection.
    pub(super) fn source_ip(&self) -> Option<Cow<'_, str>> {
        part(split(self.ends().0).0)
    }

    /// Port of the side that started the connection.
    pub(super) fn source_port(&self) -> Option<Cow<'_, str>> {
        part(split(self.ends().0).1)
    }

    /// Address of the side that was called.
    pub(super) fn destination_ip(&self) -> Option<Cow<'_, str>> {
        part(split(self.ends().1).0)
    }

    /// Port of the side that was called.
    pub(super) fn destination_port(&self) -> Option<Cow<'_, str>> {
        part(split(self.ends().1).1)
    }

    /// Port of the other side.
    pub(super) fn remote_port(&self) -> Option<Cow<'_, str>> {
        part(split(&self.remote).1)
    }

    /// The side that started the connection, and the side that was called.
    fn ends(&self) -> (&str, &str) {
        match self.dir {
            Direction::Out => (&self.local, &self.remote),
            Direction::In => (&self.remote, &self.local),
        }
    }
}

impl File {
    /// `MD5=` and `SHA256=` with the digests, separated by a comma.
    pub(super) fn hashes(&self) -> Option<Cow<'_, str>> {
        hashes(&self.hash, self.sha256.as_deref())
    }
}

/// Digests in the notation of Windows event logs, which rules for them expect.
fn hashes(md5: &str, sha256: Option<&str>) -> Option<Cow<'static, str>> {
    let sha256 = sha256.unwrap_or_default();
    let digests = [("MD5", md5), ("SHA256", sha256)];
    let digests: Vec<String> = digests
        .into_iter()
        .filter(|(_, digest)| !digest.is_empty())
        .map(|(name, digest)| format!("{name}={}", digest.to_uppercase()))
        .collect();
    (!digests.is_empty()).then(|| Cow::Owned(digests.join(",")))
}

pub(super) fn part(text: &str) -> Option<Cow<'_, str>> {
    (!text.is_empty()).then_some(Cow::Borrowed(text))
}

/// Address and port of `ip:port` or `[ip]:port`. Without a port it is all address.
pub(super) fn split(end: &str) -> (&str, &str) {
    if let Some((ip, port)) = end.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (ip, port.strip_prefix(':').unwrap_or_default());
    }
    match end.rsplit_once(':') {
        Some((ip, port)) if !ip.contains(':') => (ip, port),
        _ => (end, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::EventData;

    fn connection(dir: Direction, local: &str, remote: &str) -> EventData {
        EventData::Connection(Connection {
            dir,
            local: local.into(),
            remote: remote.into(),
            ..Connection::default()
        })
    }

    fn check(data: &EventData, expected: &[(&str, Option<&str>)]) {
        for (name, value) in expected {
            assert_eq!(data.field(name).as_deref(), *value, "{name}");
        }
    }

    #[test]
    fn the_remote_side_is_the_destination_of_what_this_host_starts() {
        let data = connection(Direction::Out, "10.0.0.1:50000", "192.0.2.7:443");
        check(
            &data,
            &[
                ("initiated", Some("true")),
                ("source_ip", Some("10.0.0.1")),
                ("source_port", Some("50000")),
                ("destination_ip", Some("192.0.2.7")),
                ("destination_port", Some("443")),
                ("remote_port", Some("443")),
            ],
        );
    }

    #[test]
    fn the_remote_side_is_the_source_of_what_it_starts() {
        let data = connection(Direction::In, "[2001:db8::1]:22", "[2001:db8::2]:50000");
        check(
            &data,
            &[
                ("initiated", Some("false")),
                ("source_ip", Some("2001:db8::2")),
                ("source_port", Some("50000")),
                ("destination_ip", Some("2001:db8::1")),
                ("destination_port", Some("22")),
                ("remote_port", Some("50000")),
            ],
        );
    }

    #[test]
    fn an_address_without_port_has_none() {
        let data = connection(Direction::Out, "", "2001:db8::2");
        check(
            &data,
            &[
                ("source_ip", None),
                ("destination_ip", Some("2001:db8::2")),
                ("destination_port", None),
            ],
        );
    }

    #[test]
    fn the_parent_is_the_nearest_ancestor_or_else_its_name() {
        let mut process = Process {
            parentname: "bash".into(),
            ..Process::default()
        };
        assert_eq!(process.field("parent_exe").as_deref(), Some("bash"));
        process.ancestors = vec!["/usr/bin/bash".into(), "/usr/sbin/sshd".into()];
        assert_eq!(
            process.field("parent_exe").as_deref(),
            Some("/usr/bin/bash")
        );
        assert_eq!(Process::default().field("parent_exe"), None);
    }

    #[test]
    fn digests_are_named_as_windows_logs_name_them() {
        let mut file = File::default();
        assert_eq!(file.field("hashes"), None);
        file.hash = "ab".into();
        file.sha256 = Some("cd".into());
        assert_eq!(file.field("hashes").as_deref(), Some("MD5=AB,SHA256=CD"));
    }
}
