//! Literals one of which is in every text that a regular expression is found in.

use regex_syntax::hir::{Class, ClassUnicode, Hir, HirKind, Look};
use yinglong_rules::ir::{Pattern, Piece};

use super::lazy::{self, Flags};
use crate::fold::fold_char;

/// Shorter literals are in too many texts to be worth looking for, unless they have a character that
/// command lines and paths seldom have.
const SHORTEST_BYTES: usize = 3;
const COMMON_MARKS: &[u8] = b" \\/.-:\"'=_,@";
/// More alternatives than this are not rarer than the expression is slow.
const MOST: usize = 64;

/// Folded literals one of which every match contains once it is folded; `None` when there are no
/// such literals, or only short ones.
pub(crate) fn required_literals(pattern: &str, flags: Flags) -> Option<Vec<String>> {
    let hir = lazy::parse(pattern, flags).ok()?;
    let mut literals = required(&hir)?;
    literals.sort_unstable();
    literals.dedup();
    Some(literals)
}

/// The pattern of values that an expression stands for, if it only names a text of ASCII characters
/// and perhaps where it must be; case does not count in patterns.
pub(crate) fn as_pattern(pattern: &str, flags: Flags) -> Option<Pattern> {
    let hir = lazy::parse(pattern, flags).ok()?;
    let parts = match hir.kind() {
        HirKind::Concat(parts) => parts.as_slice(),
        _ => std::slice::from_ref(&hir),
    };
    let is = |part: Option<&Hir>, look| part.is_some_and(|p| *p.kind() == HirKind::Look(look));
    let starts = is(parts.first(), Look::Start);
    let ends = is(parts.last(), Look::End);
    let first = usize::from(starts);
    let text = parts.get(first..parts.len() - usize::from(ends))?;
    let mut literal = String::new();
    if !text.iter().all(|part| append_exact(part, &mut literal)) || literal.is_empty() {
        return None;
    }
    let around = |anchored: bool| (!anchored).then_some(Piece::Many);
    let pieces = around(starts).into_iter();
    Some(Pattern::tidy(
        pieces.chain([Piece::Literal(literal)]).chain(around(ends)),
    ))
}

/// Appends the ASCII text that a part stands for in every case of its letters.
fn append_exact(part: &Hir, run: &mut String) -> bool {
    match part.kind() {
        HirKind::Literal(literal) => {
            let is_caseless = |byte: &u8| byte.is_ascii() && !byte.is_ascii_alphabetic();
            run.extend(literal.0.iter().map(|byte| char::from(*byte)));
            literal.0.iter().all(is_caseless)
        }
        HirKind::Class(Class::Unicode(class)) => {
            let members = class
                .iter()
                .map(|range| u32::from(range.end()) - u32::from(range.start()) + 1);
            let members: u32 = members.sum();
            match one_letter(class) {
                Some(letter) if letter.is_ascii_alphabetic() => {
                    run.push(letter);
                    // The Kelvin sign is a k, and the long s is an s.
                    members == if matches!(letter, 'k' | 's') { 3 } else { 2 }
                }
                _ => false,
            }
        }
        HirKind::Capture(capture) => append_exact(&capture.sub, run),
        HirKind::Concat(parts) => parts.iter().all(|part| append_exact(part, run)),
        HirKind::Empty => true,
        HirKind::Class(Class::Bytes(_))
        | HirKind::Look(_)
        | HirKind::Repetition(_)
        | HirKind::Alternation(_) => false,
    }
}

fn required(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Capture(capture) => required(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min >= 1 => required(&repetition.sub),
        HirKind::Concat(parts) => in_sequence(parts),
        HirKind::Alternation(parts) => {
            let mut all = Vec::new();
            for part in parts {
                all.extend(required(part)?);
            }
            (all.len() <= MOST).then_some(all)
        }
        HirKind::Literal(_) | HirKind::Class(_) => {
            let mut run = String::new();
            append_fixed(hir, &mut run);
            take_run(&mut run)
        }
        HirKind::Empty | HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}

/// The best of the runs of fixed characters in a sequence and of what its parts require.
fn in_sequence(parts: &[Hir]) -> Option<Vec<String>> {
    let mut best: Option<Vec<String>> = None;
    let mut run = String::new();
    for part in parts {
        if !append_fixed(part, &mut run) {
            better(&mut best, take_run(&mut run));
            better(&mut best, required(part));
        }
    }
    better(&mut best, take_run(&mut run));
    best
}

fn take_run(run: &mut String) -> Option<Vec<String>> {
    let text = std::mem::take(run);
    // Characters beyond ASCII have foldings that regular expressions see differently.
    let longest = text
        .split(|c: char| !c.is_ascii())
        .max_by_key(|part| part.len())?;
    let is_rare = |byte: u8| !byte.is_ascii_alphanumeric() && !COMMON_MARKS.contains(&byte);
    let worth_it = longest.len() >= SHORTEST_BYTES || longest.bytes().any(is_rare);
    worth_it.then(|| vec![longest.to_owned()])
}

/// Keeps the longer literals; of equally long ones, fewer.
fn better(best: &mut Option<Vec<String>>, other: Option<Vec<String>>) {
    let worth = |literals: &Vec<String>| {
        let shortest = literals.iter().map(String::len).min().unwrap_or(0);
        (shortest.min(8), MOST.saturating_sub(literals.len()))
    };
    if let Some(other) = other
        && best.as_ref().is_none_or(|best| worth(&other) > worth(best))
    {
        *best = Some(other);
    }
}

/// Appends what a part matches if that is always the same once folded.
fn append_fixed(part: &Hir, run: &mut String) -> bool {
    match part.kind() {
        HirKind::Literal(literal) => match std::str::from_utf8(&literal.0) {
            Ok(text) => {
                text.chars()
                    .for_each(|c| fold_char(c, |folded| run.push(folded)));
                true
            }
            Err(_) => false,
        },
        HirKind::Class(Class::Unicode(class)) => match one_letter(class) {
            Some(letter) => {
                run.push(letter);
                true
            }
            None => false,
        },
        HirKind::Capture(capture) => append_fixed(&capture.sub, run),
        HirKind::Concat(parts) => {
            let length = run.len();
            let fixed = parts.iter().all(|part| append_fixed(part, run));
            if !fixed {
                run.truncate(length);
            }
            fixed
        }
        // A place between characters does not interrupt them.
        HirKind::Look(_) | HirKind::Empty => true,
        HirKind::Class(Class::Bytes(_)) | HirKind::Repetition(_) | HirKind::Alternation(_) => false,
    }
}

/// The one character that all members of a class fold to, as in `[aA]`.
fn one_letter(class: &ClassUnicode) -> Option<char> {
    const MOST_CASES: u32 = 4;
    let mut letter = None;
    let mut members = 0_u32;
    for range in class.iter() {
        members += u32::from(range.end()) - u32::from(range.start()) + 1;
        if members > MOST_CASES {
            return None;
        }
        for member in range.start()..=range.end() {
            let mut folded = Vec::with_capacity(1);
            fold_char(member, |c| folded.push(c));
            match (letter, folded.as_slice()) {
                (None, [one]) => letter = Some(*one),
                (Some(known), [one]) if known == *one => {}
                _ => return None,
            }
        }
    }
    letter
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, ignore_case: bool, expected: &[&str]) {
        let flags = Flags {
            ignore_case,
            ..Flags::default()
        };
        let found = required_literals(pattern, flags).unwrap_or_default();
        assert_eq!(found, expected, "{pattern}");
    }

    #[test]
    fn literals_that_every_match_contains_are_found() {
        check("powershell", true, &["powershell"]);
        check("PowerShell", false, &["powershell"]);
        check(r"^(nginx|httpd)$", true, &["httpd", "nginx"]);
        check(r"/dev/(tcp|udp)/", true, &["/dev/"]);
        check(r"\bcurl\b.{0,20}\|\s*(ba)?sh", true, &["curl"]);
        check(r"(?i)FromBase64String\(", false, &["frombase64string("]);
        check(r"[a-z]+://x", false, &["://x"]);
        check(r"(abc)+d?", false, &["abc"]);
        check(r"\w+`\w", false, &["`"]);
    }

    #[test]
    fn expressions_without_them_have_none() {
        for pattern in ["ab", "a|powershell", ".*", "(abc)?", "[0-9]{8}", "éàü", ""] {
            check(pattern, true, &[]);
        }
    }

    #[test]
    fn an_expression_that_only_names_a_text_is_a_pattern() {
        let text = |text: &str| Piece::Literal(text.to_owned());
        let check = |pattern: &str, expected: Option<Vec<Piece>>| {
            let flags = Flags {
                ignore_case: true,
                ..Flags::default()
            };
            assert_eq!(
                as_pattern(pattern, flags).map(|p| p.0),
                expected,
                "{pattern}"
            );
        };
        check("Kiosk", Some(vec![Piece::Many, text("kiosk"), Piece::Many]));
        check(r"^(nginx)\.EXE$", Some(vec![text("nginx.exe")]));
        check(r"^/tmp/", Some(vec![text("/tmp/"), Piece::Many]));
        check(r"\\x$", Some(vec![Piece::Many, text(r"\x")]));
        for other in [
            "a.b",
            "(?-i)abc",
            "(?-i)[sS]",
            "é",
            "a|b",
            "a+",
            "(?m)^a",
            r"\ba",
            "",
            "^$",
        ] {
            check(other, None);
        }
    }
}
