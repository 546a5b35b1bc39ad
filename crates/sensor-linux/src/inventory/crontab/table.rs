//! Lines of crontab(5) and anacrontab(5).

/// One job of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Job {
    pub(super) rule: String,
    pub(super) user: String,
    pub(super) command: String,
    /// Job identifier of anacrontab(5); empty elsewhere.
    pub(super) identifier: String,
}

/// Reads a table. Without an `owner` it is a system table, which names the user in a column of
/// its own. Lines that are no jobs are passed over.
pub(super) fn parse(text: &str, owner: Option<&str>) -> Vec<Job> {
    text.lines()
        .filter_map(|line| {
            let line = job_line(line)?;
            // Some daemons read a leading minus as "do not log".
            let line = line.strip_prefix('-').unwrap_or(line);
            let (rule, rest) = if line.starts_with('@') {
                let (keyword, rest) = column(line)?;
                (keyword.to_owned(), rest)
            } else {
                schedule(line)?
            };
            let (user, command) = match owner {
                Some(owner) => (owner, rest),
                None => column(rest)?,
            };
            let command = command.trim();
            (!command.is_empty()).then(|| Job {
                rule,
                user: user.to_owned(),
                command: command.to_owned(),
                identifier: String::new(),
            })
        })
        .collect()
}

/// Reads anacrontab(5): period in days, delay in minutes, identifier, command.
pub(super) fn parse_anacron(text: &str) -> Vec<Job> {
    text.lines()
        .filter_map(|line| {
            let (period, rest) = column(job_line(line)?)?;
            let (delay, rest) = column(rest)?;
            let (identifier, command) = column(rest)?;
            let numeric = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
            let known = (period.starts_with('@') || numeric(period)) && numeric(delay);
            let command = command.trim();
            (known && !command.is_empty()).then(|| Job {
                rule: format!("{period} {delay}"),
                user: "root".to_owned(),
                command: command.to_owned(),
                identifier: identifier.to_owned(),
            })
        })
        .collect()
}

/// The line without blanks around it, unless it is empty, a comment or an assignment.
fn job_line(line: &str) -> Option<&str> {
    let line = line.trim();
    (!line.is_empty() && !line.starts_with('#') && !is_assignment(line)).then_some(line)
}

/// `NAME = value`, with or without blanks and quotes; no schedule starts like that.
fn is_assignment(line: &str) -> bool {
    line.split_once('=').is_some_and(|(name, _)| {
        let name = name.trim().trim_matches(['"', '\'']);
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Five columns of times, and what follows.
fn schedule(line: &str) -> Option<(String, &str)> {
    let mut rest = line;
    let mut rule = String::new();
    for _ in 0..5 {
        let (field, tail) = column(rest)?;
        let known = |c: char| c.is_ascii_alphanumeric() || "*,-/~?#".contains(c);
        if !field.chars().all(known) {
            return None;
        }
        if !rule.is_empty() {
            rule.push(' ');
        }
        rule.push_str(field);
        rest = tail;
    }
    Some((rule, rest))
}

/// First column and the rest behind the blanks that follow it.
fn column(line: &str) -> Option<(&str, &str)> {
    let line = line.trim_start_matches([' ', '\t']);
    let end = line.find([' ', '\t'])?;
    let (first, rest) = line.split_at_checked(end)?;
    Some((first, rest.trim_start_matches([' ', '\t'])))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(jobs: &[Job]) -> Vec<String> {
        jobs.iter()
            .map(|j| format!("{}|{}|{}|{}", j.rule, j.user, j.command, j.identifier))
            .collect()
    }

    #[test]
    fn a_system_table_names_the_user_whatever_separates_the_columns_a04() {
        let text = "SHELL=/bin/sh\nMAILTO = \"\"\n'A'=b\n# no\n\n\
            17 *\t* * *\troot\tcd / && run-parts --report /etc/cron.hourly\n\
            \t*/5  1-3,7 * jan Mon-Fri   www   a=b  c \n\
            @reboot\troot\t/opt/x\n-0 0 * * * root quiet\n\
            * * * * root\n* * * *\n@daily root\nA B C D é root x\n";
        assert_eq!(
            shown(&parse(text, None)),
            [
                "17 * * * *|root|cd / && run-parts --report /etc/cron.hourly|",
                "*/5 1-3,7 * jan Mon-Fri|www|a=b  c|",
                "@reboot|root|/opt/x|",
                "0 0 * * *|root|quiet|",
            ]
        );
    }

    #[test]
    fn a_users_table_has_no_user_column_a05() {
        let text = "@hourly /a b\n1 2 3 4 5 root x\n\u{0}\u{1}\n";
        assert_eq!(
            shown(&parse(text, Some("probe1"))),
            ["@hourly|probe1|/a b|", "1 2 3 4 5|probe1|root x|"]
        );
        assert!(parse("", Some("probe1")).is_empty());
    }

    #[test]
    fn anacron_has_period_delay_and_identifier_a05() {
        let text = "RANDOM_DELAY=45\n1\t5\tcron.daily\tnice run-parts /etc/cron.daily\n\
            @monthly 45 cron.monthly x\nx y z w\n1 5 alone\n";
        assert_eq!(
            shown(&parse_anacron(text)),
            [
                "1 5|root|nice run-parts /etc/cron.daily|cron.daily",
                "@monthly 45|root|x|cron.monthly",
            ]
        );
    }

    proptest! {
        #[test]
        fn no_table_can_stop_the_collector_a17(
            text in "([0-9*@/,\\- \\ta-z=#é\u{0}]{0,40}\\n){0,6}",
        ) {
            for owner in [None, Some("probe1")] {
                for job in parse(&text, owner) {
                    prop_assert!(!job.command.is_empty() && !job.rule.is_empty());
                }
            }
            let _ = parse_anacron(&text);
        }
    }
}
