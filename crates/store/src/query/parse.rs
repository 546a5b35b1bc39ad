//! From text to a [`Query`].

use super::{
    Comparison, Condition, HOST_KEYS, HostKey, Key, Pattern, Query, Relation, Target, Test, fields,
    nearest, words,
};

/// Why a text is no query.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason} (at character {position})")]
pub struct ParseError {
    /// Character, counted from 0, at which the faulty part begins.
    pub position: usize,
    /// What is wrong, and what to do.
    pub reason: String,
    /// What may have been meant instead of the faulty part.
    pub suggestion: Option<String>,
}

/// A condition as written: where it begins, key, value with `\|` resolved.
struct Part {
    position: usize,
    key: String,
    value_position: usize,
    value: String,
}

pub(super) fn query(text: &str) -> Result<Query, ParseError> {
    let mut parts = split(text)?;
    let kind = take_kind(&mut parts)?;
    let mut query = Query::of(kind);
    for part in &parts {
        match part.key.as_str() {
            "count" => query.count.push(counter(part)?),
            "exist_count" => query.exist_count.push(counter(part)?),
            _ => query.conditions.push(condition(kind, part)?),
        }
    }
    if query.is_statistics() {
        check_statistics(kind, &query, &parts)?;
    }
    Ok(query)
}

/// Splits at bars that no backslash precedes, then at the first `:`.
fn split(text: &str) -> Result<Vec<Part>, ParseError> {
    let mut pieces = vec![(0, String::new())];
    let mut characters = text.chars().enumerate().peekable();
    while let Some((index, character)) = characters.next() {
        let escaped = character == '\\' && characters.peek().is_some_and(|(_, next)| *next == '|');
        if character == '|' {
            pieces.push((index + 1, String::new()));
            continue;
        }
        if escaped {
            characters.next();
        }
        if let Some((_, piece)) = pieces.last_mut() {
            // A private character marks an escaped bar, so that positions stay those of the text.
            if escaped {
                piece.push_str("\u{0}|");
            } else {
                piece.push(character);
            }
        }
    }
    pieces
        .into_iter()
        .filter(|(_, piece)| !piece.trim().is_empty())
        .map(|(start, piece)| part(start, &piece))
        .collect()
}

fn part(start: usize, piece: &str) -> Result<Part, ParseError> {
    let leading = |text: &str| text.chars().take_while(|c| c.is_whitespace()).count();
    let position = start + leading(piece);
    let Some((key, value)) = piece.split_once(':') else {
        return Err(ParseError {
            position,
            reason: format!(
                "`{}` has no key: write key:value, and a bar inside a value as \\|",
                unmark(piece.trim())
            ),
            suggestion: Some(format!("all:{}", unmark(piece.trim()))),
        });
    };
    Ok(Part {
        position,
        key: unmark(key.trim()).to_lowercase(),
        value_position: start + key.chars().count() + 1 + leading(value),
        value: unmark(value.trim()),
    })
}

fn unmark(text: &str) -> String {
    text.replace("\u{0}|", "|")
}

/// Takes the one `type:` out of the conditions.
fn take_kind(parts: &mut Vec<Part>) -> Result<Target, ParseError> {
    let Some(index) = parts.iter().position(|part| part.key == "type") else {
        return Err(ParseError {
            position: 0,
            reason: "a search needs a type: begin with type:process, type:file or another one"
                .to_owned(),
            suggestion: Some("type:process".to_owned()),
        });
    };
    let part = parts.remove(index);
    if let Some(second) = parts.iter().find(|part| part.key == "type") {
        return Err(ParseError {
            position: second.position,
            reason: "a search has one type: remove the other one".to_owned(),
            suggestion: None,
        });
    }
    let name = part.value.to_lowercase();
    Target::from_name(&name).ok_or_else(|| ParseError {
        position: part.value_position,
        reason: format!(
            "there is no type `{}`: use one of {}",
            part.value,
            Target::all()
                .map(Target::as_str)
                .collect::<Vec<_>>()
                .join(", ")
        ),
        suggestion: nearest(&name, Target::all().map(Target::as_str)).map(str::to_owned),
    })
}

fn condition(kind: Target, part: &Part) -> Result<Condition, ParseError> {
    let (name, exact) = match part.key.strip_suffix(".keyword") {
        Some(name) => (name, true),
        None => (part.key.as_str(), false),
    };
    let key = key(kind, name, part)?;
    let test = if exact {
        Test::Exact(part.value.clone())
    } else {
        test(kind, &key, part)?
    };
    Ok(Condition { key, test })
}

fn key(kind: Target, name: &str, part: &Part) -> Result<Key, ParseError> {
    if name == "all" {
        return Ok(Key::All);
    }
    if let Some(key) = HostKey::ALL.into_iter().find(|key| key.as_str() == name) {
        return Ok(Key::Host(key));
    }
    let field = name.strip_prefix("data.").unwrap_or(name);
    if fields(kind).contains(&field) {
        return Ok(Key::Data(field.to_owned()));
    }
    // `info` of a statistic is its counted value, whatever the field is called.
    if field == "info" && kind.statistics_key().is_some() {
        return Ok(Key::Data(field.to_owned()));
    }
    let known =
        fields(kind)
            .iter()
            .copied()
            .chain(HOST_KEYS)
            .chain(["all", "count", "exist_count"]);
    Err(ParseError {
        position: part.position,
        reason: format!(
            "{} has no field `{field}`: use one of {}, or all",
            kind.as_str(),
            fields(kind).join(", ")
        ),
        suggestion: nearest(field, known).map(str::to_owned),
    })
}

fn test(kind: Target, key: &Key, part: &Part) -> Result<Test, ParseError> {
    let value = part.value.as_str();
    let fault = |reason: String| ParseError {
        position: part.value_position,
        reason,
        suggestion: None,
    };
    if value.is_empty() {
        return Err(ParseError {
            position: part.value_position,
            reason: format!("`{}:` has no value", part.key),
            suggestion: Some(format!("{}.keyword:", part.key)),
        });
    }
    if let Some(expression) = value
        .strip_prefix('/')
        .and_then(|rest| rest.strip_suffix('/'))
        .filter(|expression| !expression.is_empty())
    {
        return Pattern::new(expression).map(Test::Regex).map_err(|error| {
            fault(format!(
                "`{expression}` is no regular expression: {}",
                error.to_string().lines().last().unwrap_or_default()
            ))
        });
    }
    if let Some(comparison) = comparison(value).filter(|found| found.relation != Relation::Equal) {
        return Ok(Test::Number(comparison));
    }
    Ok(match (kind, key) {
        (_, Key::Host(_)) => Test::Same(value.to_lowercase()),
        (Target::Inventory(_), _) => Test::Exact(value.to_owned()),
        (Target::Event(_), _) => {
            let mut words = words(value);
            words.sort();
            words.dedup();
            if words.is_empty() {
                return Err(ParseError {
                    position: part.value_position,
                    reason: format!(
                        "`{value}` has no letters or digits: ask for the whole value with \
                         {key}.keyword:{value} or write a regular expression between slashes",
                        key = part.key
                    ),
                    suggestion: Some(format!("{}:/{}/", part.key, regex::escape(value))),
                });
            }
            Test::Words(words)
        }
    })
}

/// `<3`, `<=3`, `3`, `>=3` or `>3`, with spaces around the number.
fn comparison(value: &str) -> Option<Comparison> {
    let (relation, number) = [
        ("<=", Relation::LessOrEqual),
        (">=", Relation::GreaterOrEqual),
        ("<", Relation::Less),
        (">", Relation::Greater),
        ("", Relation::Equal),
    ]
    .into_iter()
    .find_map(|(sign, relation)| value.strip_prefix(sign).map(|rest| (relation, rest)))?;
    let than = number.trim().parse().ok()?;
    Some(Comparison { relation, than })
}

fn counter(part: &Part) -> Result<Comparison, ParseError> {
    comparison(&part.value).ok_or_else(|| ParseError {
        position: part.value_position,
        reason: format!(
            "`{}` is no comparison: write a number, or <, <=, >= or > and a number",
            part.value
        ),
        suggestion: Some(format!("{}:>=10", part.key)),
    })
}

/// Statistics know the counted value only: conditions on anything else could never hold.
fn check_statistics(kind: Target, query: &Query, parts: &[Part]) -> Result<(), ParseError> {
    let Some(counted) = kind.statistics_key() else {
        return Err(ParseError {
            position: 0,
            reason: format!("nothing is counted for {}", kind.as_str()),
            suggestion: None,
        });
    };
    let others = parts
        .iter()
        .filter(|part| !matches!(part.key.as_str(), "count" | "exist_count"));
    for (condition, part) in query.conditions.iter().zip(others) {
        let allowed = match &condition.key {
            Key::All => true,
            Key::Data(field) => field == counted || field == "info",
            Key::Host(_) => false,
        };
        if !allowed {
            return Err(ParseError {
                position: part.position,
                reason: format!(
                    "statistics of {} know `{counted}` only: remove `{}` or remove the count",
                    kind.as_str(),
                    part.key
                ),
                suggestion: Some(counted.to_owned()),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use yinglong_model::{EventType, InventoryType};

    use super::*;

    const PROCESS: Target = Target::Event(EventType::Process);

    fn data(field: &str, test: Test) -> Condition {
        Condition {
            key: Key::Data(field.to_owned()),
            test,
        }
    }

    fn check(text: &str, kind: Target, expected: &[Condition]) {
        let parsed = Query::parse(text).unwrap();
        assert_eq!(parsed.kind, Some(kind), "{text}");
        assert_eq!(parsed.conditions, expected, "{text}");
    }

    fn number(relation: Relation, than: i64) -> Comparison {
        Comparison { relation, than }
    }

    /// C09: every form of section 8 of the contract.
    #[test]
    fn reads_every_form_of_the_contract() {
        let words = |text: &str| {
            let mut all = super::words(text);
            all.sort();
            Test::Words(all)
        };
        check("type:process", PROCESS, &[]);
        check(
            " type:Process|name:/usr/bin/ID ",
            PROCESS,
            &[data("name", words("usr bin id"))],
        );
        check(
            "ip:192.0.2.1 | type:process",
            PROCESS,
            &[Condition {
                key: Key::Host(HostKey::Ip),
                test: Test::Same("192.0.2.1".into()),
            }],
        );
        check(
            "type:connection | remote:192.0.2.1:443",
            Target::Event(EventType::Connection),
            &[data("remote", words("0 1 192 2 443"))],
        );
        check(
            "type:process | name.keyword:/bin/Sh",
            PROCESS,
            &[data("name", Test::Exact("/bin/Sh".into()))],
        );
        check(
            "type:process | all:root",
            PROCESS,
            &[Condition {
                key: Key::All,
                test: words("root"),
            }],
        );
        check(
            r"type:process | command:/curl.*\|\s*sh/",
            PROCESS,
            &[data(
                "command",
                Test::Regex(Pattern::new(r"curl.*|\s*sh").unwrap()),
            )],
        );
        check(
            r"type:file | action.keyword:CREATE\|WRITE",
            Target::Event(EventType::File),
            &[data("action", Test::Exact("CREATE|WRITE".into()))],
        );
        check(
            "type:process | pid:>100 | ppid:<= 7",
            PROCESS,
            &[
                data("pid", Test::Number(number(Relation::Greater, 100))),
                data("ppid", Test::Number(number(Relation::LessOrEqual, 7))),
            ],
        );
        check(
            "type:userlist | name:Root",
            Target::Inventory(InventoryType::Userlist),
            &[data("name", Test::Exact("Root".into()))],
        );
        check(
            "type:loginlog | data.hostname:web",
            Target::Event(EventType::Loginlog),
            &[data("hostname", words("web"))],
        );
        check(
            "type:process | command:>out",
            PROCESS,
            &[data("command", words("out"))],
        );
    }

    #[test]
    fn statistics_have_comparisons() {
        let query = Query::parse("type:process | count:<3 | exist_count:>=10 | name:id").unwrap();
        assert_eq!(query.count, [number(Relation::Less, 3)]);
        assert_eq!(query.exist_count, [number(Relation::GreaterOrEqual, 10)]);
        assert!(query.is_statistics());
        assert_eq!(
            Query::parse("type:process | count:3").unwrap().count,
            [number(Relation::Equal, 3)]
        );
    }

    #[test]
    fn faults_say_where_and_what_was_meant() {
        fn check(text: &str, position: usize, suggestion: Option<&str>) {
            let error = Query::parse(text).unwrap_err();
            assert_eq!(error.position, position, "{text}: {error}");
            assert_eq!(error.suggestion.as_deref(), suggestion, "{text}: {error}");
        }
        check("", 0, Some("type:process"));
        check("name:x", 0, Some("type:process"));
        check("type:proces", 5, Some("process"));
        check("type:process | type:file", 15, None);
        check("type:process | comand:x", 15, Some("command"));
        check("type:process | 应龙", 15, Some("all:应龙"));
        check("type:process | name:", 20, Some("name.keyword:"));
        check("type:process | name: /(/", 21, None);
        check("type:process | name:--", 20, Some(r"name:/\-\-/"));
        check("type:process | count:few", 21, Some("count:>=10"));
        check("type:process | count:1 | pid:7", 25, Some("name"));
        check("type:file | count:1", 0, None);
    }

    #[test]
    fn an_oversized_expression_is_refused() {
        assert!(Query::parse(r"type:process | name:/(\w{100}){1000}/").is_err());
    }
}
