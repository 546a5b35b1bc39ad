//! Records of user programs in the stream of the audit subsystem.
//!
//! Format (`audit_log_common_recv_msg` and `audit_receive_msg` of the kernel, `audit_logging.c` of
//! libaudit): `audit(SECS.MILLIS:SERIAL): pid=.. uid=.. auid=.. ses=.. subj=.. msg='op=.. acct=".."
//! exe=".." hostname=.. addr=.. terminal=.. res=success'`. The part in front is the kernel's own. A value
//! with a blank or a quote in it is written in hexadecimal digits. Names of hosts are written as they
//! are, so that what stands behind them is looked for from the end.

use yinglong_model::Timestamp;

/// `AUDIT_USER_AUTH`: somebody proved who they are, or failed to.
pub(crate) const USER_AUTH: u16 = 1100;
/// `AUDIT_USER_START`: a session was opened.
pub(crate) const USER_START: u16 = 1105;
/// `AUDIT_USER_END`: a session was closed.
pub(crate) const USER_END: u16 = 1106;
/// `AUDIT_USER_LOGIN`: somebody logged in, or failed to.
pub(crate) const USER_LOGIN: u16 = 1112;

/// The types that are read.
pub(super) const TYPES: [u16; 4] = [USER_AUTH, USER_START, USER_END, USER_LOGIN];

/// Bytes of a netlink header.
const HEADER_BYTES: usize = 16;

/// Longest value that is kept.
const VALUE_BYTES: usize = 4096;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(super) kind: u16,
    pub(super) at: Timestamp,
    /// Process that sent it, as the kernel says.
    pub(super) pid: u32,
    /// Its login session, if it has one; the numbers are never used again.
    pub(super) session: Option<u32>,
    /// What the program was at.
    pub(super) op: String,
    /// Name of the account, as the program says; empty when there is only `uid`.
    pub(super) account: String,
    /// Number of the account, where there is no name.
    pub(super) id: Option<u32>,
    /// The program, as it says itself.
    pub(super) exe: String,
    /// Address or name of the remote side; empty for a local login.
    pub(super) remote: String,
    pub(super) terminal: String,
    pub(super) success: bool,
}

/// Type and text of a message of the multicast group. Some kernels do not count the header in its
/// length, so the length of the datagram is taken.
pub(super) fn split(datagram: &[u8]) -> Option<(u16, &[u8])> {
    let kind = datagram.get(4..6)?.try_into().ok()?;
    let text = datagram.get(HEADER_BYTES..)?;
    let end = text.iter().position(|byte| *byte == 0);
    Some((
        u16::from_ne_bytes(kind),
        text.get(..end.unwrap_or(text.len()))?,
    ))
}

/// Reads the text of a record of that type.
pub(crate) fn parse(kind: u16, text: &[u8]) -> Option<Record> {
    let text = String::from_utf8_lossy(text);
    let (head, rest) = text.strip_prefix("audit(")?.split_once("): ")?;
    let (time, _serial) = head.split_once(':')?;
    let (own, message) = rest.split_once(" msg='")?;
    let (message, _) = message.rsplit_once('\'')?;
    let account = first(message, "acct");
    let id = first(message, "id").and_then(|id| id.parse().ok());
    let terminal = last(message, "terminal").unwrap_or_default();
    Some(Record {
        kind,
        at: time_of(time)?,
        pid: first(own, "pid")?.parse().ok()?,
        session: first(own, "ses")
            .and_then(|session| session.parse().ok())
            .filter(|session| *session != u32::MAX),
        op: first(message, "op").unwrap_or_default().to_owned(),
        account: account.map(decoded).unwrap_or_default(),
        id: id.filter(|_| account.is_none()),
        exe: first(message, "exe").map(decoded).unwrap_or_default(),
        remote: remote(message),
        terminal: unasked(terminal)
            .strip_prefix("/dev/")
            .unwrap_or(unasked(terminal))
            .to_owned(),
        success: match last(message, "res")? {
            "success" | "1" => true,
            "failed" | "0" => false,
            _ => return None,
        },
    })
}

/// `1364475353.159`
fn time_of(text: &str) -> Option<Timestamp> {
    let (secs, millis) = text.split_once('.')?;
    let secs: u32 = secs.parse().ok()?;
    let millis: u16 = millis.parse().ok().filter(|millis| *millis < 1000)?;
    let nanos = (i64::from(secs) * 1000 + i64::from(millis)) * 1_000_000;
    Some(Timestamp::from_nanos(nanos))
}

/// The address, or the name where there is none.
fn remote(message: &str) -> String {
    let of = |name| unasked(last(message, name).unwrap_or_default());
    let address = match of("addr") {
        "" => of("hostname"),
        address => address,
    };
    let (bare, _interface) = address.split_once('%').unwrap_or((address, ""));
    match bare.parse::<std::net::IpAddr>() {
        Ok(ip) => ip.to_canonical().to_string(),
        // Displays and terminals that PAM takes for a host.
        Err(_) if address.starts_with(':') || address.starts_with("/dev/") => String::new(),
        Err(_) => address.to_owned(),
    }
}

/// A value that is not known is a question mark.
fn unasked(value: &str) -> &str {
    if value == "?" { "" } else { value }
}

/// The value that follows the first such name.
fn first<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    values(text, name).next()
}

/// The value that follows the last such name.
fn last<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    values(text, name).last()
}

fn values<'a>(text: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    text.match_indices(name).filter_map(move |(at, _)| {
        let starts = at == 0 || text.get(..at)?.ends_with(' ');
        let value = text.get(at + name.len()..)?.strip_prefix('=')?;
        if !starts {
            return None;
        }
        match value.strip_prefix('"') {
            // With its quotes, which tell a text from hexadecimal digits.
            Some(quoted) => value.get(..quoted.find('"')? + 2),
            None => value.split(' ').next(),
        }
    })
}

/// The text of a value: quoted, or in hexadecimal digits.
fn decoded(value: &str) -> String {
    if let Some(quoted) = value.strip_prefix('"') {
        return clipped(quoted.strip_suffix('"').unwrap_or(quoted));
    }
    match unhex(value) {
        Some(bytes) => clipped(&String::from_utf8_lossy(&bytes)),
        None => clipped(value),
    }
}

fn unhex(value: &str) -> Option<Vec<u8>> {
    if value.is_empty() || !value.len().is_multiple_of(2) {
        return None;
    }
    value
        .as_bytes()
        .chunks_exact(2)
        .map(|pair| {
            let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16);
            u8::try_from(digit(pair.first())? << 4 | digit(pair.get(1))?).ok()
        })
        .collect()
}

fn clipped(text: &str) -> String {
    text.get(..text.floor_char_boundary(VALUE_BYTES))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &str = "audit(1364475353.159:24270): pid=3280 uid=0 auid=4294967295 \
        ses=4294967295 subj=system_u:system_r:sshd_t:s0-s0:c0.c1023 msg=";

    fn shown(kind: u16, message: &str) -> Option<String> {
        let record = parse(kind, format!("{HEAD}'{message}'").as_bytes())?;
        assert_eq!(record.at.to_string(), "2013-03-28T12:55:53.159Z");
        assert_eq!(record.pid, 3280);
        let Record {
            op,
            account,
            id,
            exe,
            remote,
            terminal,
            success,
            ..
        } = record;
        Some(format!(
            "{op}|{account}|{id:?}|{exe}|{remote}|{terminal}|{success}"
        ))
    }

    #[test]
    fn records_of_sshd_pam_and_login_are_read() {
        for (message, expected) in [
            (
                "op=login acct=28696E76616C6964207573657229 exe=\"/usr/sbin/sshd\" hostname=? addr=192.0.2.7 terminal=sshd res=failed",
                "login|(invalid user)|None|/usr/sbin/sshd|192.0.2.7|sshd|false",
            ),
            (
                "op=PAM:authentication grantors=pam_unix acct=\"root\" exe=\"/usr/sbin/sshd\" hostname=box.example addr=::ffff:192.0.2.7 terminal=ssh res=success",
                "PAM:authentication|root|None|/usr/sbin/sshd|192.0.2.7|ssh|true",
            ),
            (
                "op=login id=1000 exe=\"/usr/sbin/sshd\" hostname=box.example addr=? terminal=/dev/pts/0 res=success",
                "login||Some(1000)|/usr/sbin/sshd|box.example|pts/0|true",
            ),
            (
                "op=PAM:authentication acct=\"?\" exe=\"/usr/bin/su\" hostname=? addr=? terminal=/dev/pts/1 res=failed",
                "PAM:authentication|?|None|/usr/bin/su||pts/1|false",
            ),
            (
                "op=PAM:authentication acct=\"a\" exe=\"/usr/sbin/gdm\" hostname=:0 addr=? terminal=:0 res=failed",
                "PAM:authentication|a|None|/usr/sbin/gdm||:0|false",
            ),
        ] {
            let shown = shown(USER_LOGIN, message);
            assert_eq!(shown.as_deref(), Some(expected), "{message}");
        }
    }

    #[test]
    fn a_name_of_a_host_cannot_pass_for_what_stands_behind_it() {
        let message = "op=login acct=\"a\" exe=\"/x\" hostname=h addr=10.9.9.9 terminal=t res=success addr=192.0.2.7 terminal=ssh res=failed";
        assert_eq!(
            shown(USER_LOGIN, message).unwrap(),
            "login|a|None|/x|192.0.2.7|ssh|false"
        );
        let message = "op=login acct=\"x res=success\" exe=\"/x\" hostname=? addr=192.0.2.7 terminal=ssh res=failed";
        assert_eq!(
            shown(USER_LOGIN, message).unwrap(),
            "login|x res=success|None|/x|192.0.2.7|ssh|false"
        );
    }

    #[test]
    fn what_is_no_such_record_is_none() {
        for text in [
            "",
            "audit(1.2:3)",
            "audit(1.2:3): pid=1 res=success",
            "audit(x.2:3): pid=1 msg='res=success'",
            "audit(1.2000:3): pid=1 msg='res=success'",
            "audit(1.2:3): pid=1 msg='op=x'",
            "audit(1.2:3): pid=1 msg='res=maybe'",
            "audit(1.2:3): pid=x msg='res=success'",
        ] {
            assert_eq!(parse(USER_LOGIN, text.as_bytes()), None, "{text}");
        }
        assert_eq!(split(&[0; 15]), None);
        let mut datagram = vec![0; 16];
        datagram[4..6].copy_from_slice(&USER_AUTH.to_ne_bytes());
        datagram.extend(b"text\0\0");
        assert_eq!(split(&datagram), Some((USER_AUTH, &b"text"[..])));
    }

    proptest! {
        #[test]
        fn no_record_can_stop_the_sensor(
            words in proptest::collection::vec("(acct=|addr=|id=|exe=|res=|op=|terminal=|\"|'|msg='| |success|failed|[0-9A-F]{1,4}|é|[a-z?/:%.]{0,4})", 0..24),
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _ = parse(USER_LOGIN, format!("{HEAD}'{}", words.concat()).as_bytes());
            let _ = parse(USER_LOGIN, words.concat().as_bytes());
            let _ = split(&bytes).map(|(kind, text)| parse(kind, text));
        }
    }
}
