//! Literals one of which is in every text that a regular expression is found in.

use regex_syntax::{
    ParserBuilder,
    hir::{Class, Hir, HirKind},
};

use crate::fold::fold_char;

/// Shorter literals are in too many texts to be worth looking for, unless they have a character that
/// command lines and paths seldom have.
const SHORTEST_BYTES: usize = 3;
const COMMON_MARKS: &[u8] = b" \\/.-:\"'=_,@";
/// More alternatives than this are not rarer than the expression is slow.
const MOST: usize = 64;

/// The expression, taken apart as the one that is compiled; `None` when it does not compile.
pub(crate) fn parse(
    pattern: &str,
    ignore_case: bool,
    multi_line: bool,
    dot_all: bool,
) -> Option<Hir> {
    ParserBuilder::new()
        .case_insensitive(ignore_case)
        .multi_line(multi_line)
        .dot_matches_new_line(dot_all)
        .build()
        .parse(pattern)
        .ok()
}

/// Folded literals one of which every match contains once it is folded; `None` when there are no
/// such literals, or only short ones.
pub(crate) fn required_literals(hir: &Hir) -> Option<Vec<String>> {
    let mut literals = required(hir)?;
    literals.sort_unstable();
    literals.dedup();
    Some(literals)
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
        HirKind::Class(class) => match one_letter(class) {
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
        HirKind::Repetition(_) | HirKind::Alternation(_) => false,
    }
}

/// The one character that all members of a class fold to, as in `[aA]`.
fn one_letter(class: &Class) -> Option<char> {
    const MOST_CASES: u32 = 4;
    let Class::Unicode(class) = class else {
        return None;
    };
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
        let hir = parse(pattern, ignore_case, false, false).unwrap();
        let found = required_literals(&hir).unwrap_or_default();
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
}
