//! Case folding: how texts are compared when case does not count.
//!
//! One character at a time, so that a part of a text folds to a part of the folded text. Every
//! character that a case-insensitive regular expression takes for an ASCII letter folds to that
//! letter, and no other does: an ASCII literal is in the folded text exactly when a case-insensitive
//! expression finds it.

/// Appends the folded text.
pub(crate) fn fold_into(text: &str, out: &mut Vec<u8>) {
    if text.is_ascii() {
        let start = out.len();
        out.extend_from_slice(text.as_bytes());
        out[start..].make_ascii_lowercase();
        return;
    }
    let mut utf8 = [0_u8; 4];
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if character.is_ascii() {
            let ascii = rest
                .bytes()
                .position(|b| !b.is_ascii())
                .unwrap_or(rest.len());
            let (run, after) = rest.split_at(ascii);
            let start = out.len();
            out.extend_from_slice(run.as_bytes());
            out[start..].make_ascii_lowercase();
            rest = after;
        } else {
            fold_char(character, |folded| {
                out.extend_from_slice(folded.encode_utf8(&mut utf8).as_bytes());
            });
            rest = rest.get(character.len_utf8()..).unwrap_or_default();
        }
    }
}

/// The folded text.
pub(crate) fn fold(text: &str) -> Vec<u8> {
    let mut folded = Vec::with_capacity(text.len());
    fold_into(text, &mut folded);
    folded
}

/// Calls `each` with the characters that a character folds to.
pub(crate) fn fold_char(character: char, mut each: impl FnMut(char)) {
    match character {
        // The only character besides the Kelvin sign whose simple case folding is an ASCII letter
        // and whose lower case is not (Unicode 16, CaseFolding.txt).
        '\u{17f}' => each('s'),
        // Its lower case is two characters, the first an ASCII letter; simple case folding leaves it.
        '\u{130}' => each(character),
        c if c.is_ascii() => each(c.to_ascii_lowercase()),
        c => c.to_lowercase().for_each(each),
    }
}

/// Bytes of `text` that fold to `start..end` of the folded text, widened to whole characters.
pub(crate) fn unfolded(text: &str, start: usize, end: usize) -> (usize, usize) {
    if text.is_ascii() {
        return (start.min(text.len()), end.min(text.len()));
    }
    let (mut at, mut from, mut to) = (0, None, text.len());
    for (place, character) in text.char_indices() {
        let before = at;
        fold_char(character, |folded| at += folded.len_utf8());
        if from.is_none() && at > start {
            from = Some(place);
        }
        if before >= end {
            to = place;
            break;
        }
    }
    (from.unwrap_or(text.len()).min(to), to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ascii_and_other_letters_lose_their_case() {
        assert_eq!(fold("PowerShell.EXE"), b"powershell.exe");
        assert_eq!(fold("ÄΣſK"), "äσsk".as_bytes());
    }

    #[test]
    fn a_character_folds_to_an_ascii_one_exactly_if_expressions_take_it_for_that() {
        let others: String = ('\u{80}'..=char::MAX).collect();
        let folding: Vec<char> = others
            .chars()
            .filter(|character| {
                let mut has_ascii = false;
                fold_char(*character, |folded| has_ascii |= folded.is_ascii());
                has_ascii
            })
            .collect();
        let any_ascii = regex::Regex::new(r"(?i)[\x00-\x7f]").unwrap();
        let found: String = any_ascii.find_iter(&others).map(|m| m.as_str()).collect();
        assert_eq!(folding, found.chars().collect::<Vec<_>>());
        for character in folding.into_iter().map(String::from) {
            let folded = String::from_utf8(fold(&character)).unwrap();
            let regex = regex::Regex::new(&format!("(?i)^{folded}$")).unwrap();
            assert!(regex.is_match(&character), "{character} {folded}");
        }
    }

    #[test]
    fn a_place_in_the_folded_text_is_found_in_the_text() {
        let text = "xİPATHé";
        let folded = fold(text);
        let at = folded.windows(4).position(|w| w == b"path").unwrap();
        let (start, end) = unfolded(text, at, at + 4);
        assert_eq!(&text[start..end], "PATH");
        assert_eq!(unfolded("ABC", 1, 2), (1, 2));
    }
}
