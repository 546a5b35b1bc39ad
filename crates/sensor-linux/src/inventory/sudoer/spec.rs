//! Entries of sudoers(5): aliases, defaults, and who may do what.

use std::collections::HashMap;

use super::{Grant, lines::Line};

/// Names an alias may stand for, in all; more are left out.
const MEMBER_LIMIT: usize = 1024;

/// Aliases inside of aliases beyond this number of steps are left as they are.
const DEPTH_LIMIT: usize = 8;

const ALIASES: [&str; 5] = [
    "User_Alias",
    "Runas_Alias",
    "Host_Alias",
    "Cmnd_Alias",
    "Cmd_Alias",
];

/// Calls `each` for what every line grants.
pub(super) fn grants(lines: &[Line], mut each: impl FnMut(Grant)) {
    let mut aliases = HashMap::new();
    for line in lines {
        let Some((kind, rest)) = line.text.split_once([' ', '\t']) else {
            continue;
        };
        if !ALIASES.contains(&kind) {
            continue;
        }
        for definition in split(rest, ':') {
            if let Some((name, members)) = definition.split_once('=') {
                aliases.insert(name.trim(), split(members, ','));
            }
        }
    }
    let aliases = Aliases(aliases);
    for line in lines {
        let first = line.text.split([' ', '\t']).next().unwrap_or_default();
        if ALIASES.contains(&first) {
            continue;
        }
        let place = Grant {
            location: line.location.to_string_lossy().into_owned(),
            line: line.number,
            ..Grant::default()
        };
        if let Some(rest) = line.text.strip_prefix("Defaults") {
            defaults(rest, &place, &aliases, &mut each);
        } else {
            entry(&line.text, &place, &aliases, &mut each);
        }
    }
}

/// `Defaults` that ask nobody for a password are as good as an entry.
fn defaults(rest: &str, place: &Grant, aliases: &Aliases<'_>, each: &mut impl FnMut(Grant)) {
    let end = rest.find([' ', '\t']).unwrap_or(rest.len());
    let (scope, settings) = rest.split_at_checked(end).unwrap_or_default();
    if !split(settings, ',').contains(&"!authenticate") {
        return;
    }
    let mut grant = Grant {
        name: "ALL".to_owned(),
        host: "ALL".to_owned(),
        runas: "ALL".to_owned(),
        tags: "!authenticate".to_owned(),
        commands: "ALL".to_owned(),
        ..place.clone()
    };
    let listed = |text| aliases.resolve(&split(text, ',')).join(", ");
    if let Some(users) = scope.strip_prefix(':') {
        grant.name = listed(users);
    } else if let Some(hosts) = scope.strip_prefix('@') {
        grant.host = listed(hosts);
    } else if let Some(runas) = scope.strip_prefix('>') {
        grant.runas = listed(runas);
    } else if let Some(commands) = scope.strip_prefix('!') {
        grant.commands = listed(commands);
    }
    each(grant);
}

/// `users hosts = commands : hosts = commands`; lines that are none are passed over.
fn entry(text: &str, place: &Grant, aliases: &Aliases<'_>, each: &mut impl FnMut(Grant)) {
    let Some((users, rest)) = users_and_rest(text) else {
        return;
    };
    let users = aliases.resolve(&split(users, ','));
    for privilege in privileges(rest) {
        let Some((hosts, commands)) = privilege.split_once('=') else {
            continue;
        };
        let hosts = aliases.resolve(&split(hosts, ',')).join(", ");
        for group in groups(commands, aliases) {
            for user in &users {
                each(Grant {
                    name: user.clone(),
                    host: hosts.clone(),
                    runas: group.runas.clone(),
                    tags: group.tags.join(","),
                    commands: group.commands.join(", "),
                    ..place.clone()
                });
            }
        }
    }
}

/// The list of users ends at the first blank that no comma stands beside.
fn users_and_rest(text: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped, mut joined) = (false, false, false);
    let mut ended = None;
    for (at, c) in text.char_indices() {
        let blank = matches!(c, ' ' | '\t') && !quoted && !escaped;
        match c {
            '"' if !escaped => quoted = !quoted,
            _ => (),
        }
        escaped = c == '\\' && !escaped;
        if blank {
            if !joined {
                ended = ended.or(Some(at));
            }
        } else if c == ',' && !quoted {
            (joined, ended) = (true, None);
        } else {
            if let Some(end) = ended {
                return text.split_at_checked(end);
            }
            joined = false;
        }
    }
    None
}

/// Parts between colons, other than those behind a tag or the kind of a digest.
fn privileges(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut open = false;
    for part in split(text, ':') {
        match parts.last_mut().filter(|_| open) {
            Some(last) => {
                last.push(':');
                last.push_str(part);
            }
            None => parts.push(part.to_owned()),
        }
        let last_word = part
            .rsplit([' ', '\t', ',', '=', ')', '!'])
            .next()
            .unwrap_or_default();
        let unclosed = part
            .rfind('(')
            .is_some_and(|at| !part.get(at..).unwrap_or_default().contains(')'));
        open = unclosed || is_tag(last_word) || is_digest(last_word);
    }
    parts
}

fn is_tag(word: &str) -> bool {
    matches!(
        word.strip_prefix("NO").unwrap_or(word),
        "PASSWD" | "EXEC" | "SETENV" | "LOG_INPUT" | "LOG_OUTPUT" | "MAIL" | "FOLLOW" | "INTERCEPT"
    )
}

fn is_digest(word: &str) -> bool {
    matches!(word, "sha224" | "sha256" | "sha384" | "sha512")
}

fn is_option(name: &str) -> bool {
    matches!(
        name,
        "ROLE"
            | "TYPE"
            | "PRIVS"
            | "LIMITPRIVS"
            | "NOTBEFORE"
            | "NOTAFTER"
            | "TIMEOUT"
            | "CWD"
            | "CHROOT"
            | "APPARMOR_PROFILE"
    )
}

/// Commands that are run as the same users with the same tags.
#[derive(Debug, Default)]
struct Group {
    runas: String,
    tags: Vec<String>,
    commands: Vec<String>,
}

/// Users and tags hold for the commands behind them, too.
fn groups(text: &str, aliases: &Aliases<'_>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut runas = "root".to_owned();
    let mut tags: Vec<String> = Vec::new();
    for command in split(text, ',') {
        let mut rest = command;
        let mut options = Vec::new();
        if let Some((inside, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            let lists: Vec<String> = inside
                .split(':')
                .map(|list| aliases.resolve(&split(list, ',')).join(", "))
                .collect();
            runas = lists.join(":");
            rest = after.trim_start();
        }
        loop {
            let word_end = rest.find([' ', '\t', ':', '=']).unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(word_end).unwrap_or_default();
            if let Some(after) = after.trim_start().strip_prefix(':')
                && is_tag(word)
            {
                let opposite = |tag: &String| {
                    tag.strip_prefix("NO") == Some(word) || word.strip_prefix("NO") == Some(tag)
                };
                tags.retain(|tag| tag != word && !opposite(tag));
                tags.push(word.to_owned());
                rest = after.trim_start();
            } else if after.starts_with('=') && is_option(word) {
                let end = rest.find([' ', '\t']).unwrap_or(rest.len());
                let (option, after) = rest.split_at_checked(end).unwrap_or_default();
                options.push(option.to_owned());
                rest = after.trim_start();
            } else {
                break;
            }
        }
        let mut all = tags.clone();
        all.extend(options);
        let commands = aliases.resolve(&[rest]);
        match groups
            .last_mut()
            .filter(|last| last.runas == runas && last.tags == all)
        {
            Some(last) => last.commands.extend(commands),
            None => groups.push(Group {
                runas: runas.clone(),
                tags: all,
                commands,
            }),
        }
    }
    groups
}

/// Parts of a text between separators outside of quotes and parentheses, without blanks around them;
/// empty ones are left out. A backslash takes the meaning of what follows.
fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut quoted, mut escaped, mut parentheses) = (false, false, false);
    let mut parts = Vec::new();
    let mut start = 0;
    for (at, c) in text.char_indices() {
        let plain = !quoted && !escaped;
        match c {
            '"' if !escaped => quoted = !quoted,
            '(' if plain => parentheses = true,
            ')' if plain => parentheses = false,
            c if c == separator && plain && !parentheses => {
                parts.push(text.get(start..at).unwrap_or_default());
                start = at + c.len_utf8();
            }
            _ => (),
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(text.get(start..).unwrap_or_default());
    parts
        .into_iter()
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .collect()
}

struct Aliases<'a>(HashMap<&'a str, Vec<&'a str>>);

impl Aliases<'_> {
    /// The names, aliases replaced by what they stand for.
    fn resolve(&self, names: &[&str]) -> Vec<String> {
        let mut found = Vec::new();
        let mut steps = 0;
        self.add(names, false, 0, &mut steps, &mut found);
        found
    }

    fn add(
        &self,
        names: &[&str],
        negated: bool,
        depth: usize,
        steps: &mut usize,
        found: &mut Vec<String>,
    ) {
        for name in names {
            *steps += 1;
            if *steps > MEMBER_LIMIT {
                return;
            }
            let plain = name.trim_start_matches(['!', ' ', '\t']);
            let not = negated ^ (name.matches('!').count() % 2 == 1 && name.starts_with('!'));
            match self.0.get(plain).filter(|_| depth < DEPTH_LIMIT) {
                Some(members) => self.add(members, not, depth + 1, steps, found),
                None => found.push(format!("{}{plain}", if not { "!" } else { "" })),
            }
        }
    }
}
