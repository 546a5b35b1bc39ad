//! Text logs of Linux: lines of syslog daemons.

use time::{Date, Month, PrimitiveDateTime, Time};
use yinglong_model::{Timestamp, event::System};
use yinglong_rules::taxonomy;

use crate::view::View;

/// A line of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line<'l> {
    /// As written; the old form has no year.
    pub(crate) stamp: Stamp<'l>,
    /// Host.
    pub(crate) host: &'l str,
    /// Program without its process id.
    pub(crate) program: &'l str,
    /// Process id.
    pub(crate) pid: Option<&'l str>,
    /// The rest.
    pub(crate) message: &'l str,
}

/// Time of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp<'l> {
    /// RFC 3339.
    Full(&'l str),
    /// Month, day, hour, minute, second, in an unknown year and zone.
    Short(Month, u8, u8, u8, u8),
}

/// The parts of a line; `None` when it is not of this form.
pub(crate) fn line(text: &str) -> Option<Line<'_>> {
    // A priority in angle brackets may come first.
    let text = match text.strip_prefix('<') {
        Some(rest) => rest.split_once('>')?.1,
        None => text,
    };
    let (stamp, rest) = stamp(text)?;
    let (host, rest) = rest.split_once(' ')?;
    let (tag, message) = match rest.split_once(": ") {
        Some((tag, message)) => (tag, message),
        None => (rest.strip_suffix(':')?, ""),
    };
    if host.is_empty() || tag.is_empty() || tag.contains(' ') {
        return None;
    }
    let (program, pid) = match tag.split_once('[') {
        Some((program, pid)) => (program, pid.strip_suffix(']')),
        None => (tag, None),
    };
    Some(Line {
        stamp,
        host,
        program,
        pid,
        message,
    })
}

fn stamp(text: &str) -> Option<(Stamp<'_>, &str)> {
    if text.as_bytes().first()?.is_ascii_digit() {
        let (stamp, rest) = text.split_once(' ')?;
        let dated = stamp.len() >= 19 && stamp.as_bytes().get(10) == Some(&b'T');
        return dated.then_some((Stamp::Full(stamp), rest));
    }
    let (stamp, rest) = (text.get(..15)?, text.get(15..)?);
    let month = match stamp.get(..3)? {
        "Jan" => Month::January,
        "Feb" => Month::February,
        "Mar" => Month::March,
        "Apr" => Month::April,
        "May" => Month::May,
        "Jun" => Month::June,
        "Jul" => Month::July,
        "Aug" => Month::August,
        "Sep" => Month::September,
        "Oct" => Month::October,
        "Nov" => Month::November,
        "Dec" => Month::December,
        _ => return None,
    };
    let number = |from: usize, to: usize| stamp.get(from..to)?.trim_start().parse().ok();
    let day = number(4, 6)?;
    let (hour, minute, second) = (number(7, 9)?, number(10, 12)?, number(13, 15)?);
    Some((
        Stamp::Short(month, day, hour, minute, second),
        rest.strip_prefix(' ')?,
    ))
}

impl Stamp<'_> {
    /// The point in time, taking the year from when the file was written last: the line is not
    /// younger. A time without zone is read as UTC.
    fn time(self, written: Option<Timestamp>) -> Option<Timestamp> {
        match self {
            Self::Full(text) => Timestamp::parse_rfc3339(text).ok(),
            Self::Short(month, day, hour, minute, second) => {
                let written = written?;
                let in_year = |year: i32| {
                    let date = Date::from_calendar_date(year, month, day).ok()?;
                    let time = Time::from_hms(hour, minute, second).ok()?;
                    let seconds = PrimitiveDateTime::new(date, time).assume_utc();
                    Some(Timestamp::from_secs(seconds.unix_timestamp()))
                };
                // Zones differ by less than a day from UTC.
                let latest = written.plus(std::time::Duration::from_secs(24 * 3600));
                let year = latest.to_datetime().year();
                [year, year - 1]
                    .into_iter()
                    .filter_map(in_year)
                    .find(|time| *time <= latest)
            }
        }
    }
}

/// A line as an event of the log of all lines and of the logs of its program.
pub(crate) fn views(line: &Line<'_>, written: Option<Timestamp>) -> Vec<View> {
    let time = line.stamp.time(written);
    taxonomy::program_classes(line.program)
        .map(|class| {
            let mut view = View::new(class, System::Linux, time);
            view.push("message", line.message);
            view.push("program", line.program);
            view.push("host", line.host);
            if let Some(pid) = line.pid {
                view.push("pid", pid);
            }
            if line.program == "sudo" {
                for (name, value) in assignments(line.message) {
                    view.push(name.to_owned(), value);
                }
            }
            view
        })
        .collect()
}

/// What sudo says in `NAME=value` parts separated by ` ; `; the command is the last and may have
/// anything in it.
fn assignments(message: &str) -> impl Iterator<Item = (&str, &str)> {
    let known = |part: &&str| {
        let name = part.split_once('=').map_or("", |(name, _)| name);
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase())
    };
    let (parts, command) = match message.find("COMMAND=") {
        Some(at) => (message.get(..at), message.get(at..)),
        None => (Some(message), None),
    };
    let parts = parts.unwrap_or_default().split(" ; ");
    let parts = parts.map(|part| part.rsplit_once(" : ").map_or(part, |(_, part)| part));
    parts
        .map(str::trim)
        .chain(command)
        .filter(known)
        .filter_map(|part| part.split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view<'v>(views: &'v [View], class: &str) -> &'v View {
        let mut views = views.iter();
        views.find(|view| view.class.as_str() == class).unwrap()
    }

    #[test]
    fn a_line_is_split_into_its_parts() {
        let found = line("<38>Nov  5 10:00:00 web sshd[71]: Accepted key: yes").unwrap();
        assert_eq!(found.host, "web");
        assert_eq!((found.program, found.pid), ("sshd", Some("71")));
        assert_eq!(found.message, "Accepted key: yes");
        assert_eq!(line("Nov  5 10:00:00 web two words: x"), None);
        assert_eq!(line("Smarch 5 10:00:00 web sshd: x"), None);
    }

    #[test]
    fn a_line_is_in_the_log_of_all_lines_and_of_its_program() {
        let found = line("Nov  5 10:00:00 web sshd[71]: hello").unwrap();
        let views = views(&found, None);
        let classes: Vec<&str> = views.iter().map(|view| view.class.as_str()).collect();
        assert_eq!(classes, ["linux/syslog", "linux/auth", "linux/sshd"]);
        assert!(
            views
                .iter()
                .all(|view| view.get("message") == Some("hello"))
        );
    }

    #[test]
    fn sudo_says_who_became_whom_and_ran_what() {
        let text = "Nov  5 10:00:00 web sudo:   ann : TTY=pts/0 ; PWD=/home/ann ; USER=root ; \
                    COMMAND=/bin/sh -c a=b ; id";
        let views = views(&line(text).unwrap(), None);
        let sudo = view(&views, "linux/sudo");
        assert_eq!(sudo.get("TTY"), Some("pts/0"));
        assert_eq!(sudo.get("USER"), Some("root"));
        assert_eq!(sudo.get("COMMAND"), Some("/bin/sh -c a=b ; id"));
    }

    #[test]
    fn a_time_without_year_is_the_last_one_before_the_file_was_written() {
        let written = Timestamp::parse_rfc3339("2026-01-10T00:00:00Z").unwrap();
        let check = |text: &str, expected: &str| {
            let stamp = line(text).unwrap().stamp;
            let time = stamp.time(Some(written)).unwrap();
            assert_eq!(time, Timestamp::parse_rfc3339(expected).unwrap());
        };
        check("Jan  9 08:00:00 web a: b", "2026-01-09T08:00:00Z");
        check("Dec 31 08:00:00 web a: b", "2025-12-31T08:00:00Z");
        check("2026-01-09T08:00:00+02:00 web a: b", "2026-01-09T06:00:00Z");
    }
}
