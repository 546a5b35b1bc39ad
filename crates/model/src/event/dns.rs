//! A question to the domain name system.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{FieldValue as _, Protocol};

/// A DNS question that a program of the host asked, with its answer when one was seen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Name asked for: lower case, no trailing dot; `.` for the root. Bytes that no host name has
    /// are written `\DDD`, as in zone files (RFC 1035, section 5.1).
    pub query: String,
    /// Type asked for: `A`, `AAAA`, `TXT` ...; `TYPE65` when it has no name here.
    pub qtype: String,
    /// Code of the answer: `NOERROR`, `NXDOMAIN` ...; empty when no answer was seen.
    pub rcode: String,
    /// Data of the answer's records, in their order: addresses, names, texts.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub answers: Vec<String>,
    /// Who was asked, `ip:port`; IPv6 as `[ip]:port`.
    pub server: String,
    /// Transport.
    pub protocol: Protocol,
    /// Path of the executable that asked; empty when it is not known.
    pub name: String,
    /// Its process id; 0 when it is not known.
    pub pid: u32,
    /// Path of the image when it differs from `name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exe: Option<String>,
    /// Parent's executable: base name of the image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parentname: Option<String>,
    /// User name of the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Identity of the container, when the control group names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
    /// Control group path, version 2 hierarchy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// How the process was found: `kernel`, `lookup`, `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attribution: Option<String>,
}

fields!(Dns: query, qtype, rcode, answers, server, protocol, name, pid, exe, parentname, user,
    container_id, cgroup, attribution;
    derived: query_status, server_ip, server_port);

impl Dns {
    /// The code of the answer in the numbers of Windows, which rules for it expect: 0 for success,
    /// 9501 for success without records, 9001 and up for errors (`winerror.h`).
    fn query_status(&self) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed(match self.rcode.as_str() {
            "NOERROR" if self.answers.is_empty() => "9501",
            "NOERROR" => "0",
            "FORMERR" => "9001",
            "SERVFAIL" => "9002",
            "NXDOMAIN" => "9003",
            "NOTIMP" => "9004",
            "REFUSED" => "9005",
            "YXDOMAIN" => "9006",
            "YXRRSET" => "9007",
            "NXRRSET" => "9008",
            "NOTAUTH" => "9009",
            "NOTZONE" => "9010",
            _ => return None,
        }))
    }

    /// Address of the server.
    fn server_ip(&self) -> Option<Cow<'_, str>> {
        super::derived::part(super::derived::split(&self.server).0)
    }

    /// Port of the server.
    fn server_port(&self) -> Option<Cow<'_, str>> {
        super::derived::part(super::derived::split(&self.server).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_numbers_of_windows_for_rules_of_windows() {
        let check = |rcode: &str, answers: &[&str], expected: Option<&str>| {
            let dns = Dns {
                rcode: rcode.into(),
                answers: answers.iter().map(|answer| (*answer).to_owned()).collect(),
                ..Dns::default()
            };
            assert_eq!(dns.field("query_status").as_deref(), expected, "{rcode}");
        };
        check("NOERROR", &["192.0.2.1"], Some("0"));
        check("NOERROR", &[], Some("9501"));
        check("NXDOMAIN", &[], Some("9003"));
        check("", &[], None);
        check("BADVERS", &[], None);
    }

    #[test]
    fn rules_see_answers_as_one_text_and_the_server_in_parts() {
        let dns = Dns {
            answers: vec!["a.example".into(), "192.0.2.1".into()],
            server: "[2001:db8::1]:53".into(),
            ..Dns::default()
        };
        assert_eq!(dns.field("answers").as_deref(), Some("a.example|192.0.2.1"));
        assert_eq!(dns.field("server_ip").as_deref(), Some("2001:db8::1"));
        assert_eq!(dns.field("server_port").as_deref(), Some("53"));
    }
}
