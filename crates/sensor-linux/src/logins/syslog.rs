//! Lines of a syslog file: time, host, program, message.

use yinglong_model::Timestamp;

use super::zone::{Civil, infer};

/// A line taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// When it was written; `None` when it does not say, as lines of `sshd -E`.
    pub(super) at: Option<Timestamp>,
    /// Base name of the program; empty when it does not say.
    pub(super) program: &'a str,
    /// What the program said.
    pub(super) message: &'a str,
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// Takes a line apart; `now` decides the year of a time that has none.
pub(super) fn parse(line: &str, now: Timestamp) -> Line<'_> {
    let line = line.trim_end();
    let timed = rfc3339(line).or_else(|| {
        let (civil, rest) = traditional(line)?;
        Some((infer(civil, now)?, rest))
    });
    let headed = timed.and_then(|(at, rest)| {
        let (_host, rest) = rest.trim_start().split_once(' ')?;
        let (tag, message) = rest.split_once(": ")?;
        let program = tag.split('[').next()?.rsplit('/').next()?;
        Some(Line {
            at: Some(at),
            program: program.trim(),
            message,
        })
    });
    headed.unwrap_or(Line {
        at: None,
        program: "",
        message: line,
    })
}

fn rfc3339(line: &str) -> Option<(Timestamp, &str)> {
    let (first, rest) = line.split_once(' ')?;
    Some((Timestamp::parse_rfc3339(first).ok()?, rest))
}

/// `Nov  4 07:00:00 `, RFC 3164.
fn traditional(line: &str) -> Option<(Civil, &str)> {
    let (month, rest) = line.split_once(' ')?;
    let month = MONTHS.iter().position(|name| *name == month)?;
    let (day, rest) = rest.trim_start().split_once(' ')?;
    let (clock, rest) = rest.trim_start().split_once(' ')?;
    let mut parts = clock.split(':');
    let mut part = |limit: u8| {
        let value: u8 = parts.next()?.parse().ok()?;
        (value <= limit).then_some(value)
    };
    let civil = Civil {
        month: u8::try_from(month).ok()? + 1,
        day: day.parse().ok().filter(|day| (1..=31).contains(day))?,
        hour: part(23)?,
        minute: part(59)?,
        second: part(60)?,
    };
    parts.next().is_none().then_some((civil, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_kinds_of_time_and_none_are_understood() {
        let now = Timestamp::parse_rfc3339("2026-11-24T08:00:00Z").unwrap();
        let iso = parse("2026-11-24T07:00:00.5+01:00 box sshd[12]: Accepted x", now);
        assert_eq!(iso.at.unwrap().to_string(), "2026-11-24T06:00:00.5Z");
        assert_eq!((iso.program, iso.message), ("sshd", "Accepted x"));

        let old = parse("Nov  4 07:00:00 box /usr/sbin/sshd-session[1]: a: b\r", now);
        let expected = Civil {
            month: 11,
            day: 4,
            hour: 7,
            minute: 0,
            second: 0,
        };
        assert_eq!(old.at, infer(expected, now));
        assert_eq!((old.program, old.message), ("sshd-session", "a: b"));

        for bare in [
            "Failed password for x\r\n",
            "Nov 32 07:00:00 box a: b",
            "Nov 3 24:00:00 box a: b",
            "Foo 3 20:00:00 box a: b",
            "Nov 3 20:00:00 box",
            "",
        ] {
            let line = parse(bare, now);
            assert_eq!((line.at, line.program), (None, ""), "{bare}");
        }
    }

    proptest! {
        #[test]
        fn no_line_can_stop_the_sensor(line in any::<String>(), head in "(Nov|Feb) [0-9 :]{0,12} ") {
            let now = Timestamp::from_secs(1_790_000_000);
            let _ = parse(&line, now);
            let _ = parse(&format!("{head}{line}"), now);
        }
    }
}
