//! What sshd, login, su and sudo say about logins.
//!
//! Names of accounts come from the network and may hold anything, also what looks like the rest
//! of a message; addresses are therefore looked for from the end of a line that tells of a failure.

use std::{collections::VecDeque, net::IpAddr, time::Duration};

use yinglong_model::{Timestamp, event::Login};

use super::told::{Told, Witness};

/// An outcome that a message tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    pub(super) username: String,
    pub(super) remote: String,
    pub(super) status: bool,
    pub(super) tty: String,
    /// How often, where one line stands for several attempts.
    pub(super) times: u32,
    /// Over how long, at most.
    pub(super) over: Duration,
    /// The log daemon folded lines equal to the one before.
    pub(super) folded: bool,
}

impl Outcome {
    /// The logins it stands for, as a witness tells of them. `before` is when that witness told of
    /// the line before.
    pub(super) fn told(
        self,
        at: Timestamp,
        before: Option<Timestamp>,
        source: &str,
        witness: Witness,
        forged: bool,
    ) -> Vec<Told> {
        let since = match self.folded {
            true => before.unwrap_or_else(|| at.minus(FOLDED)),
            false => at.minus(self.over),
        };
        let told = Told {
            at,
            within: (since != at).then_some((since, at)),
            login: Login {
                username: self.username,
                remote: self.remote,
                status: self.status,
                hostname: String::new(),
                tty: Some(self.tty).filter(|tty| !tty.is_empty()),
                source: Some(source.to_owned()),
            },
            witness,
            forged,
        };
        vec![told; self.times as usize]
    }
}

/// How long equal lines may be folded when the line before them was read by an earlier run.
const FOLDED: Duration = Duration::from_secs(600);

/// How long sudo asks for a password before it gives up, three times.
const SUDO: Duration = Duration::from_secs(900);

/// Connections remembered, so that the end of one that was told of is not told again.
const CONNECTIONS: usize = 1024;

/// Longest repetition that is believed.
const REPETITIONS: u32 = 1000;

/// Reads the messages of one log in their order.
#[derive(Debug, Default)]
pub(super) struct Messages {
    /// Address and port of connections with an outcome, the newest last.
    told: VecDeque<(String, u16)>,
    /// Account and address of failures that PAM told and sshd itself has not repeated yet.
    asked: VecDeque<(String, String)>,
}

impl Messages {
    /// The outcome a message tells, if it does. An empty `program` is taken for sshd.
    pub(super) fn outcome(&mut self, program: &str, message: &str) -> Option<Outcome> {
        if let Some((times, inner)) = repeated(message) {
            let mut outcome = self.outcome(program, inner)?;
            outcome.times = times;
            outcome.folded = true;
            return Some(outcome);
        }
        match program {
            "" | "sshd" | "sshd-session" | "sshd-auth" => self.sshd(message),
            "login" => login(message),
            "su" => su(message),
            "sudo" => sudo(message),
            _ => None,
        }
    }

    fn sshd(&mut self, message: &str) -> Option<Outcome> {
        let message = message.trim_end().trim_end_matches("[preauth]").trim_end();
        if let Some(rest) = message.strip_prefix("Accepted ") {
            let (_method, rest) = rest.split_once(" for ")?;
            let (user, peer) = rest.match_indices(" from ").find_map(|m| peer(rest, m))?;
            return Some(self.tell(user, peer, true));
        }
        if let Some(rest) = message.strip_prefix("Failed ") {
            let (method, rest) = rest.split_once(" for ")?;
            // Every client asks without credentials first, to learn what is possible.
            if method == "none" {
                return None;
            }
            let rest = rest.strip_prefix("invalid user ").unwrap_or(rest);
            let (user, peer) = rest.rmatch_indices(" from ").find_map(|m| peer(rest, m))?;
            let asked = |(name, address): &(String, String)| name == user && *address == peer.0;
            if method.starts_with("keyboard-interactive")
                && let Some(place) = self.asked.iter().position(asked)
            {
                self.asked.remove(place);
                self.told.push_back(peer);
                return None;
            }
            return Some(self.tell(user, peer, false));
        }
        let asked = message.strip_prefix("error: ").unwrap_or(message);
        if let Some(rest) = asked.strip_prefix("PAM: ") {
            return self.prompted(rest);
        }
        let (user, peer) = given_up(message)?;
        let told = self.told.contains(&peer);
        (!told).then(|| self.tell(user, peer, false))
    }

    /// A wrong answer at a prompt of PAM: `Authentication failure for root from 192.0.2.1`. What PAM calls
    /// the failure is in the host's language.
    fn prompted(&mut self, rest: &str) -> Option<Outcome> {
        let (before, address) = rest.rsplit_once(" from ")?;
        let remote = address_text(address)?;
        let (_failure, user) = before.split_once(" for ")?;
        let user = user.strip_prefix("illegal user ").unwrap_or(user);
        if self.asked.len() == CONNECTIONS {
            self.asked.pop_front();
        }
        self.asked.push_back((user.to_owned(), remote.clone()));
        Some(Outcome {
            remote,
            ..local(user, "ssh", "", false)
        })
    }

    fn tell(&mut self, user: &str, peer: (String, u16), status: bool) -> Outcome {
        if self.told.len() == CONNECTIONS {
            self.told.pop_front();
        }
        self.told.push_back(peer.clone());
        Outcome {
            username: user.to_owned(),
            remote: peer.0,
            status,
            tty: "ssh".to_owned(),
            times: 1,
            over: Duration::ZERO,
            folded: false,
        }
    }
}

/// `message repeated 2 times: [ ...]`, as rsyslog folds equal lines.
fn repeated(message: &str) -> Option<(u32, &str)> {
    let rest = message.strip_prefix("message repeated ")?;
    let (times, rest) = rest.split_once(" times: [")?;
    let inner = rest.trim_end().strip_suffix(']')?;
    let times: u32 = times.parse().ok()?;
    // A folded line is never folded again.
    let plain = !inner.trim_start().starts_with("message repeated ");
    plain.then(|| (times.clamp(1, REPETITIONS), inner.trim_start()))
}

/// User in front of, and address and port behind, a ` from ` at the given place.
fn peer<'a>(text: &'a str, (at, from): (usize, &str)) -> Option<(&'a str, (String, u16))> {
    let user = text.get(..at)?;
    let behind = text.get(at + from.len()..)?;
    let mut words = behind.split(' ');
    let address = words.next()?;
    if words.next()? != "port" {
        return None;
    }
    Some((user, (address_text(address)?, port(words.next()?)?)))
}

/// A connection that ended before a login, by a key that was refused for example:
/// `Connection closed by authenticating user root 192.0.2.1 port 4711`.
fn given_up(message: &str) -> Option<(&str, (String, u16))> {
    let rest = [
        "Connection closed by ",
        "Connection reset by ",
        "Disconnected from ",
        "Disconnecting ",
    ]
    .iter()
    .find_map(|start| message.strip_prefix(start))?;
    let rest = rest
        .strip_prefix("authenticating user ")
        .or_else(|| rest.strip_prefix("invalid user "))?;
    let (before, behind) = rest.rsplit_once(" port ")?;
    let (user, address) = before.rsplit_once(' ')?;
    Some((user, (address_text(address)?, port(behind)?)))
}

fn port(text: &str) -> Option<u16> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The address in its usual form; `UNKNOWN` is what sshd says without one.
fn address_text(text: &str) -> Option<String> {
    if text == "UNKNOWN" {
        return Some(String::new());
    }
    // A link-local address may carry its interface.
    let (bare, _interface) = text.split_once('%').unwrap_or((text, ""));
    let ip: IpAddr = bare.parse().ok()?;
    Some(ip.to_canonical().to_string())
}

/// Messages of login(1), of util-linux and of shadow.
fn login(message: &str) -> Option<Outcome> {
    if let Some(rest) = message.strip_prefix("FAILED LOGIN ") {
        let (place, user) = rest.rsplit_once(" FOR ")?;
        let user = user.rsplit_once(',').map_or(user, |(user, _reason)| user);
        // `(1) on '/dev/tty1' from 'host'` or `1 FROM tty1`
        let (_, place) = place.split_once(' ')?;
        let mut words = place.split(' ').map(unquoted);
        words.next()?;
        let tty = words.next()?;
        let from = words.nth(1).unwrap_or_default();
        return Some(local(unquoted(user), tty, from, false));
    }
    if let Some(rest) = message.strip_prefix("LOGIN ON ") {
        let (tty, rest) = rest.split_once(" BY ")?;
        let (user, from) = rest.split_once(" FROM ").unwrap_or((rest, ""));
        return Some(local(user, tty, from, true));
    }
    let rest = message.strip_prefix("ROOT LOGIN ")?.trim_start();
    let mut words = rest.split(' ').map(unquoted);
    words
        .next()
        .filter(|word| word.eq_ignore_ascii_case("on"))?;
    let tty = words.next()?;
    let from = words.nth(1).unwrap_or_default();
    Some(local("root", tty, from, true))
}

/// Messages of su(1), of util-linux and of shadow.
fn su(message: &str) -> Option<Outcome> {
    let (status, rest) = match message.strip_prefix("FAILED SU ") {
        Some(rest) => (false, rest),
        None => (true, message),
    };
    if let Some(rest) = rest.strip_prefix("(to ") {
        let (user, rest) = rest.split_once(") ")?;
        let (_, tty) = rest.rsplit_once(" on ")?;
        return Some(local(user, tty, "", status));
    }
    let (status, rest) = match message.strip_prefix("Successful su for ") {
        Some(rest) => (true, rest),
        None => (false, message.strip_prefix("FAILED su for ")?),
    };
    let (user, _) = rest.split_once(" by ")?;
    Some(local(user, "", "", status))
}

/// Wrong passwords at sudo(8), which says so once, at the end: `alice : 3 incorrect password attempts ;
/// TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls`. What it then runs is no login.
fn sudo(message: &str) -> Option<Outcome> {
    let (user, rest) = message.trim_start().split_once(" : ")?;
    let (times, rest) = rest.split_once(" incorrect password attempt")?;
    let times: u32 = times.parse().ok()?;
    let tty = rest.split(" ; ").find_map(|part| part.strip_prefix("TTY="));
    Some(Outcome {
        times: times.clamp(1, REPETITIONS),
        over: SUDO,
        ..local(user, tty.unwrap_or_default(), "", false)
    })
}

fn unquoted(text: &str) -> &str {
    text.trim_matches('\'')
}

fn local(user: &str, tty: &str, from: &str, status: bool) -> Outcome {
    Outcome {
        username: user.to_owned(),
        remote: address_text(from).unwrap_or_else(|| from.to_owned()),
        status,
        tty: tty.strip_prefix("/dev/").unwrap_or(tty).to_owned(),
        times: 1,
        over: Duration::ZERO,
        folded: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(program: &str, message: &str) -> Option<String> {
        let outcome = Messages::default().outcome(program, message)?;
        let Outcome {
            username,
            remote,
            status,
            tty,
            times,
            ..
        } = outcome;
        Some(format!("{username}|{remote}|{status}|{tty}|{times}"))
    }

    #[test]
    fn outcomes_are_read_from_the_messages_of_each_program_a09_a10() {
        for (program, message, expected) in [
            (
                "sshd",
                "Accepted password for root from 192.0.2.1 port 22 ssh2",
                Some("root|192.0.2.1|true|ssh|1"),
            ),
            (
                "",
                "Accepted publickey for root from ::ffff:192.0.2.1 port 9 ssh2: ED25519 SHA256:x ID a from 1.1.1.1 port 2",
                Some("root|192.0.2.1|true|ssh|1"),
            ),
            (
                "sshd-session",
                "Failed password for probe1 from 2001:db8::1 port 22 ssh2",
                Some("probe1|2001:db8::1|false|ssh|1"),
            ),
            (
                "sshd",
                "Failed keyboard-interactive/pam for invalid user a b from 192.0.2.1 port 1 ssh2",
                Some("a b|192.0.2.1|false|ssh|1"),
            ),
            (
                "sshd",
                "Failed password for invalid user x from 9.9.9.9 port 1 ssh2 from 192.0.2.1 port 7 ssh2",
                Some("x from 9.9.9.9 port 1 ssh2|192.0.2.1|false|ssh|1"),
            ),
            (
                "sshd",
                "Failed password for invalid user  from fe80::1%eth0 port 7 ssh2",
                Some("|fe80::1|false|ssh|1"),
            ),
            (
                "sshd",
                "Failed none for invalid user x from 192.0.2.1 port 7 ssh2",
                None,
            ),
            (
                "sshd",
                "Failed password for x from nowhere port 7 ssh2",
                None,
            ),
            (
                "sshd",
                "Connection closed by authenticating user root 192.0.2.1 port 7 [preauth]",
                Some("root|192.0.2.1|false|ssh|1"),
            ),
            (
                "sshd",
                "Disconnecting invalid user a b 192.0.2.1 port 7: Too many authentication failures [preauth]",
                Some("a b|192.0.2.1|false|ssh|1"),
            ),
            (
                "sshd",
                "Connection closed by 192.0.2.1 port 7 [preauth]",
                None,
            ),
            (
                "sshd",
                "message repeated 2 times: [ Failed password for root from 192.0.2.1 port 22 ssh2]",
                Some("root|192.0.2.1|false|ssh|2"),
            ),
            (
                "cron",
                "Accepted password for root from 192.0.2.1 port 22 ssh2",
                None,
            ),
            (
                "login",
                "FAILED LOGIN (1) on '/dev/tty1' FOR 'root', Authentication failure",
                Some("root||false|tty1|1"),
            ),
            (
                "login",
                "FAILED LOGIN 2 FROM tty1 FOR probe1, Authentication failure",
                Some("probe1||false|tty1|1"),
            ),
            (
                "login",
                "FAILED LOGIN (1) on '/dev/pts/1' from '192.0.2.1' FOR 'UNKNOWN', x",
                Some("UNKNOWN|192.0.2.1|false|pts/1|1"),
            ),
            (
                "login",
                "LOGIN ON tty2 BY probe1 FROM 192.0.2.1",
                Some("probe1|192.0.2.1|true|tty2|1"),
            ),
            (
                "login",
                "ROOT LOGIN  on '/dev/tty1'",
                Some("root||true|tty1|1"),
            ),
            ("su", "(to root) alice on pts/0", Some("root||true|pts/0|1")),
            (
                "su",
                "FAILED SU (to root) alice on pts/0",
                Some("root||false|pts/0|1"),
            ),
            (
                "su",
                "Successful su for root by alice",
                Some("root||true||1"),
            ),
            (
                "sudo",
                "   alice : 3 incorrect password attempts ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls",
                Some("alice||false|pts/0|3"),
            ),
            (
                "sudo",
                "alice : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/echo 3 incorrect password attempts",
                None,
            ),
            (
                "su",
                "pam_unix(su:session): session opened for user root",
                None,
            ),
        ] {
            assert_eq!(shown(program, message).as_deref(), expected, "{message}");
        }
    }

    #[test]
    fn the_end_of_a_connection_that_was_told_of_is_not_told_again() {
        let mut messages = Messages::default();
        let failed = "Failed password for root from 192.0.2.1 port 7 ssh2";
        let closed = "Connection closed by authenticating user root 192.0.2.1 port 7 [preauth]";
        assert!(messages.outcome("sshd", failed).is_some());
        assert!(messages.outcome("sshd", failed).is_some());
        assert!(messages.outcome("sshd", closed).is_none());
        let other = closed.replace("port 7", "port 8");
        assert!(messages.outcome("sshd", &other).is_some());
        assert!(messages.outcome("sshd", &other).is_none());
    }

    #[test]
    fn a_wrong_answer_at_a_prompt_is_one_failure_also_when_sshd_repeats_it() {
        let mut messages = Messages::default();
        let mut count = |message: &str| messages.outcome("sshd", message).is_some();
        let pam = "error: PAM: Authentication failure for root from 192.0.2.1";
        let own = "Failed keyboard-interactive/pam for root from 192.0.2.1 port 7 ssh2";
        let closed = "Connection closed by authenticating user root 192.0.2.1 port 7 [preauth]";
        assert_eq!([count(pam), count(pam), count(own)], [true, true, false]);
        assert_eq!(
            [count(own), count(own), count(closed)],
            [false, true, false]
        );
        let unknown = "error: PAM: User not known to the underlying authentication module for illegal user x y from 192.0.2.1";
        assert_eq!(
            shown("sshd", unknown).as_deref(),
            Some("x y|192.0.2.1|false|ssh|1")
        );
        assert!(!count("PAM: pam_open_session(): Permission denied"));
        assert!(!count(
            "PAM: Authentication failure for root from box.example"
        ));
    }

    proptest! {
        #[test]
        fn no_message_can_stop_the_sensor(
            start in "(Accepted |Failed |a : 7 incorrect password attempt|message repeated |FAILED LOGIN |LOGIN ON |ROOT LOGIN |FAILED SU |\\(to |Disconnecting )?",
            words in proptest::collection::vec("(for|from|port|user|by|on|FOR|BY|7|::1|é|\\[|\\]|authenticating|invalid|[a-z:' ]{0,4})", 0..12),
        ) {
            let message = format!("{start}{}", words.join(" "));
            for program in ["", "sshd", "login", "su", "sudo", "x"] {
                let _ = Messages::default().outcome(program, &message);
            }
        }
    }
}
