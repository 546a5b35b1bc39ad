//! Words of a text, the same in the parser, in the reference semantics and in every index.

/// Calls `sink` with each word of `text`: a longest run of letters and digits, as Unicode defines
/// them, in lower case. Everything else separates.
pub fn each_word(text: &str, mut sink: impl FnMut(&str)) {
    let mut word = String::new();
    for run in text.split(|c: char| !c.is_alphanumeric()) {
        if run.is_empty() {
            continue;
        }
        word.clear();
        if run.is_ascii() {
            word.push_str(run);
            word.make_ascii_lowercase();
        } else {
            word.extend(run.chars().flat_map(char::to_lowercase));
        }
        sink(&word);
    }
}

/// The words of a text, in order, repeated ones too.
pub fn words(text: &str) -> Vec<String> {
    let mut all = Vec::new();
    each_word(text, |word| all.push(word.to_owned()));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_runs_of_letters_and_digits() {
        fn check(text: &str, expected: &[&str]) {
            assert_eq!(words(text), expected, "{text}");
        }
        check("/usr/bin/Curl -s", &["usr", "bin", "curl", "s"]);
        check("192.0.2.1:443", &["192", "0", "2", "1", "443"]);
        check("ÄRGER 应龙", &["ärger", "应龙"]);
        check("--|", &[]);
        check("", &[]);
    }
}
