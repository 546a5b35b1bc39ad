//! Values and modifiers.

use super::{detection, document, error, item, item_error, load_with, plain, show};
use crate::{
    ir::Expr,
    sigma::{Options, text},
};

#[track_caller]
fn check(key: &str, value: &str, expected: &str) {
    assert_eq!(item(key, value), expected, "{key}: {value}");
}

#[track_caller]
fn check_error(key: &str, value: &str, reason: &str, suggestion: Option<&str>) {
    let (found, suggested) = item_error(key, value);
    assert!(found.contains(reason), "{key}: {value}: {found}");
    assert_eq!(suggested.as_deref(), suggestion, "{key}: {value}");
}

#[test]
fn texts_compare_as_their_modifiers_say() {
    check("a", "x", "a='x'");
    check("a|contains", "x", "a='*x*'");
    check("a|startswith", "x", "a='x*'");
    check("a|endswith", "x", "a='*x'");
    check("a|cased", "X", "a=='X'");
    check("a|contains|cased", "X", "a=='*X*'");
    check("a", "[x, y]", "(a='x' | a='y')");
    check("a|all", "['x*', '*y']", "(a='x*' & a='*y')");
    check("a|contains|all", "[x, y]", "(a='*x*' & a='*y*')");
    check("a", "[x, [y, z]]", "(a='x' | a='y' | a='z')");
    check("a.b-c|contains", "x", "a.b-c='*x*'");
    check("a|contains", "''", "a='*'");
}

#[test]
fn wildcards_and_their_escapes_are_those_of_the_specification() {
    for (written, expected) in [
        (r"'*x'", r"a='*x'"),
        (r"'x?y*'", r"a='x?y*'"),
        (r"'x**y'", r"a='x*y'"),
        (r"'\*x'", r"a='\*x'"),
        (r"'\?x'", r"a='\?x'"),
        // A plain backslash is written once or twice.
        (r"'C:\Windows\x'", r"a='C:\Windows\x'"),
        (r"'C:\\Windows'", r"a='C:\Windows'"),
        // Escaped before a wildcard, it is a backslash and a wildcard.
        (r"'x\\*'", r"a='x\*'"),
        (r"'x\\\*'", r"a='x\\*'"),
        (r"'x\\\y'", r"a='x\\y'"),
        (r"'x\\\\y'", r"a='x\\y'"),
        (r"'x\'", r"a='x\'"),
    ] {
        let shown = item("a", written);
        assert_eq!(shown, expected, "{written}");
    }
    // The last two look the same when shown: one has a wildcard, the other an asterisk.
    use crate::ir::Piece::{Literal, Many};
    assert_eq!(text::pieces(r"x\\*"), [Literal(r"x\".into()), Many]);
    assert_eq!(text::pieces(r"x\\\*"), [Literal(r"x\*".into())]);
    check("a|endswith", r"'\x?.exe'", r"a='*\x?.exe'");
    check("a|contains", "'x*y'", "a='*x*y*'");
    check("a|startswith", "'*x'", "a='*x*'");
}

#[test]
fn numbers_booleans_null_and_empty_texts() {
    check("a", "4624", "a='4624'");
    check("a", "'4624'", "a='4624'");
    check("a", "-7", "a='-7'");
    check("a", "0x10", "<(a='16' | a='0x10')>");
    check("a", "1.5", "a=1.5");
    check("a|contains", "4624", "a='*4624*'");
    check(
        "a",
        "99999999999999999999999999",
        "a='99999999999999999999999999'",
    );
    check("a", "true", "<(a='true' | a='1' | a='yes')>");
    check("a", "false", "<(a='false' | a='0' | a='no')>");
    check("a|endswith", "true", "a='*true'");
    check("a", "null", "a=null");
    check("a", "", "a=null");
    check("a", "[null, '']", "(a=null | a='')");
    check("a", "''", "a=''");
    check("a", "!!str 5", "a='5'");
    check_error("a|contains", "null", "null has no text", None);
}

#[test]
fn existence_and_difference() {
    check("a|exists", "true", "a?");
    check("a|exists", "false", "no a?");
    check("a|exists", "'yes'", "a?");
    check("a|neq", "x", "(a? & !a='x')");
    check("a|neq", "[1, 2]", "(a? & !(a='1' | a='2'))");
    check("a|contains|neq", "x", "(a? & !a='*x*')");
    check("a|fieldref|neq", "b", "(a? & !a equal @b)");
    check_error("a|exists", "maybe", "either true or false", None);
    check_error("a|exists|neq", "true", "stands alone", Some("exists"));
}

#[test]
fn regular_expressions_and_their_flags() {
    check("a|re", r"'^x\d+$'", r"a=/^x\d+$/");
    check("a|re", r"'a*\\b'", r"a=/a*\\b/");
    check("a|re|i", "x", "a=/x/i");
    check("a|re|i|m|s", "x", "a=/x/ims");
    check("a|re", "[x, y]", "(a=/x/ | a=/y/)");
    check("'|re'", "x", "=/x/");
    check_error("a|re", "'x(?=y)'", "look-around", None);
    check_error("a|re", r"'(x)\1'", "backreferences", None);
    check_error(
        "a|re",
        "'(x'",
        "not a regular expression: unclosed group",
        None,
    );
    check_error("a|re", r"'(\w{1000}){1000}'", "needs more than", None);
    check_error("a|i", "x", "flag of a regular expression", Some("re|i"));
}

#[test]
fn networks_and_numbers_compare() {
    check("a|cidr", "10.0.0.0/8", "a in 10.0.0.0/8");
    check("a|cidr", "10.1.2.3/8", "a in 10.0.0.0/8");
    check("a|cidr", "'fe80::/10'", "a in fe80::/10");
    check("a|cidr", "'::1'", "a in ::1/128");
    check("a|lt", "5", "a<5");
    check("a|lte", "'5'", "a<=5");
    check("a|gt", "5.5", "a>5.5");
    check("a|gte", "0x10", "a>=16");
    check("a|neq|gte", "5", "(a? & !a>=5)");
    check_error("a|cidr", "10.0.0.0/40", "is no network", None);
    check_error("a|gt", "x", "is not a number", None);
    check_error("a|gt", ".inf", "is not a number", None);
}

#[test]
fn other_fields_and_parts_of_times() {
    check("a|fieldref", "b", "a equal @b");
    check("a|fieldref|startswith", "b", "a startswith @b");
    check("a|fieldref|endswith|cased", "b", "a endswith cased @b");
    check("a|fieldref|contains", "b.c", "a contains @b.c");
    check_error(
        "a|contains|fieldref",
        "b",
        "apply in their order",
        Some("fieldref|contains"),
    );
    check_error("a|fieldref", "'b*'", "without wildcards", None);
    check("a|minute", "5", "Minute(a)=5");
    check("a|hour|gte", "22", "Hour(a)>=22");
    check("a|day", "[1, 31]", "(Day(a)=1 | Day(a)=31)");
    check("a|week|lt", "3", "Week(a)<3");
    check("a|month", "12", "Month(a)=12");
    check("a|year|neq", "2026", "(a? & !Year(a)=2026)");
    check_error("a|gte|hour", "22", "apply in their order", Some("hour|gte"));
}

#[test]
fn each_dash_stands_for_each_other() {
    let forms =
        "<(a='* -x*' | a='* /x*' | a='* \u{2013}x*' | a='* \u{2014}x*' | a='* \u{2015}x*')>";
    for value in ["' -x'", "' /x'", "' \u{2014}x'"] {
        check("a|contains|windash", value, forms);
        check("a|windash|contains", value, forms);
    }
    assert_eq!(item("a|windash", "'-x -y'").matches(" | ").count(), 24);
    assert_eq!(item("a|windash", "'-x*-y'").matches("*").count(), 25);
    // A form would be written for each of 5^4 and more.
    check(
        "a|windash|contains",
        "'a-b-c-d-e.f'",
        "<a=/a[-/\u{2013}\u{2014}\u{2015}]b[-/\u{2013}\u{2014}\u{2015}]c[-/\u{2013}\u{2014}\u{2015}]\
         d[-/\u{2013}\u{2014}\u{2015}]e\\.f/is>",
    );
    let many = format!("'{}'", "-".repeat(2_000));
    assert!(item("a|windash|startswith|cased", &many).starts_with(r"<a=/\A[-/"));
}

#[test]
fn encodings_apply_before_the_comparison() {
    check("a|base64", "foo", "<a='Zm9v'>");
    check("a|base64|contains", "'foo bar'", "<a='*Zm9vIGJhcg==*'>");
    check(
        "a|base64offset|contains",
        "foobar",
        "<(a='*Zm9vYmFy*' | a='*Zvb2Jhc*' | a='*mb29iYX*')>",
    );
    assert_eq!(
        item("a|base64offset", "foobar"),
        item("a|base64offset|contains", "foobar")
    );
    check("a|wide|base64", "ab", "<a='YQBiAA=='>");
    check("a|utf16le|base64", "ab", "<a='YQBiAA=='>");
    check("a|utf16be|base64", "ab", "<a='AGEAYg=='>");
    check("a|utf16|base64", "ab", "<a='//5hAGIA'>");
    check("a|utf8|base64", "ab", "<a='YWI='>");
    check("a|wide|contains", "ab", "<a='*a\0b\0*'>");
    assert_eq!(
        item("a|windash|base64", "-x"),
        "<(a='LXg=' | a='L3g=' | a='4oCTeA==' | a='4oCUeA==' | a='4oCVeA==')>"
    );
    check_error(
        "a|base64|wide",
        "x",
        "apply in their order",
        Some("wide|base64"),
    );
    check_error(
        "a|contains|base64",
        "x",
        "apply in their order",
        Some("base64|contains"),
    );
    check_error(
        "a|base64|windash",
        "x",
        "apply in their order",
        Some("windash|base64"),
    );
    check_error(
        "a|base64|contains",
        "'x*'",
        "wildcards and empty texts",
        None,
    );
    check_error(
        "a|base64offset|endswith",
        "xyz",
        "anywhere",
        Some("base64offset|contains"),
    );
    check_error(
        "a|utf16",
        "ab",
        "never hold these bytes",
        Some("base64offset"),
    );
    check_error(
        "a|base64|base64offset",
        "x",
        "does not go with `base64`",
        None,
    );
    check_error("a|re|base64", "x", "compares no text", None);
    check_error("a|base64offset", "x", "one byte alone", None);
}

#[test]
fn what_offsets_share_is_in_every_encoding_around_it() {
    for length in 2..=9_usize {
        let bytes: Vec<u8> = (0..length)
            .map(|n| b'a' + u8::try_from(n).unwrap())
            .collect();
        let parts = text::base64_offsets(&bytes);
        for before in 0..6 {
            for after in 0..4 {
                let mut whole = vec![0xa5; before];
                whole.extend(&bytes);
                whole.extend(vec![0x5a; after]);
                let encoded = text::base64(&whole);
                assert!(
                    parts.iter().any(|part| encoded.contains(part)),
                    "{length} bytes after {before} and before {after}"
                );
            }
        }
    }
}

#[test]
fn modifiers_that_contradict_each_other_are_refused() {
    check_error(
        "a|contains|startswith",
        "x",
        "does not go with `contains`",
        None,
    );
    check_error("a|re|contains", "x", "does not go with `re`", None);
    check_error("a|cidr|gt", "x", "does not go with `cidr`", None);
    check_error("a|contains|contains", "x", "written twice", None);
    check_error("a|re|i|cased", "x", "say the opposite", None);
    check_error("a|cidr|windash", "x", "compares no text", None);
    check_error("a|", "x", "nothing stands between", None);
    check_error("a|not", "x", "write `neq`", None);
    check_error(
        "a|containz",
        "x",
        "no modifier `containz`",
        Some("contains"),
    );
    check_error(
        "a|Contains",
        "x",
        "no modifier `Contains`",
        Some("contains"),
    );
    check_error("'|gt'", "5", "needs a field", None);
}

#[test]
fn keywords_are_somewhere_in_any_value() {
    for (written, expected) in [
        ("s: [x, 'y*z']\ncondition: s", "(='*x*' | ='*y*z*')"),
        ("s: x\ncondition: s", "='*x*'"),
        ("s: [4624, x]\ncondition: s", "(='4624' | ='*x*')"),
        ("s: 1.5\ncondition: s", "='1.5'"),
        ("s:\n  '|all': [x, y]\ncondition: s", "(='*x*' & ='*y*')"),
        ("s:\n  '|cased': X\ncondition: s", "=='*X*'"),
        ("s:\n  '|startswith': x\ncondition: s", "='x*'"),
        ("s:\n  - x\n  - a: y\ncondition: s", "(='*x*' | a='y')"),
    ] {
        assert_eq!(detection(written), expected, "{written}");
    }
    let (reason, _) = error(&document("s:\ncondition: s"));
    assert!(reason.contains("nothing stands here"), "{reason}");
}

#[test]
fn maps_hold_all_and_lists_hold_one() {
    for (written, expected) in [
        (
            "s: {a: x, b: [y, z]}\ncondition: s",
            "(a='x' & (b='y' | b='z'))",
        ),
        (
            "s:\n  - {a: x, b: y}\n  - c: z\ncondition: s",
            "((a='x' & b='y') | c='z')",
        ),
        (
            "s:\n  - - a: x\n    - b: y\n  - c: z\ncondition: s",
            "((a='x' | b='y') | c='z')",
        ),
    ] {
        assert_eq!(detection(written), expected, "{written}");
    }
}

fn site(value: &str, key: &str, lists: &[(&str, &[&str])]) -> Result<String, String> {
    let options = Options {
        site_lists: lists
            .iter()
            .map(|(name, list)| {
                let list = list.iter().map(|entry| (*entry).to_owned()).collect();
                ((*name).to_owned(), list)
            })
            .collect(),
    };
    let text = document(&format!("s:\n    {key}: {value}\ncondition: s"));
    let (loaded, _) = load_with(&text, &options, &plain);
    match (loaded.rules.as_slice(), loaded.refused.as_slice()) {
        ([rule], []) => Ok(show(&rule.targets[0].condition)),
        ([], [refused]) => Err(refused.reason.clone()),
        _ => panic!("{loaded:#?}"),
    }
}

#[test]
fn placeholders_become_the_lists_of_the_site() {
    let lists: &[(&str, &[&str])] = &[("Servers", &["srv*", "db"]), ("n", &["10.0.0.0/8", "::1"])];
    let check = |key, value, expected: &str| {
        assert_eq!(
            site(value, key, lists).as_deref(),
            Ok(expected),
            "{key}: {value}"
        );
    };
    check("a|expand", "'%Servers%'", "<(a='srv*' | a='db')>");
    check("a|expand", "'%servers%'", "<(a='srv*' | a='db')>");
    check(
        "a|contains|expand",
        "'x-%Servers%'",
        "<(a='*x-srv*' | a='*x-db*')>",
    );
    check("a|expand", r"'\%x%Servers%'", "<(a='%xsrv*' | a='%xdb')>");
    check("a|expand", "'100% *'", "<a='100% *'>");
    check(
        "a|cidr|expand",
        "'%n%'",
        "<(a in 10.0.0.0/8 | a in ::1/128)>",
    );
    check("a", "'%Servers%'", "a='%Servers%'");
    let missing = "detection.s.a|expand: the placeholder `%nobody%` has no values here; add a site \
                   list `nobody`";
    assert_eq!(
        site("'%nobody%'", "a|expand", lists),
        Err(missing.to_owned())
    );
    assert!(site("'%empty%'", "a|expand", &[("empty", &[])]).is_err());
}

#[test]
fn a_site_list_cannot_multiply_without_bound() {
    let entries: Vec<String> = (0..2_000).map(|n| n.to_string()).collect();
    let entries: Vec<&str> = entries.iter().map(String::as_str).collect();
    let reason = site("'%l%-%l%'", "a|expand", &[("l", &entries)]).unwrap_err();
    assert!(reason.contains("more than 100000 tests"), "{reason}");
}

#[test]
fn an_explanation_has_the_words_of_the_author() {
    let text = document("s:\n    a|contains|windash: ' -x'\ncondition: s");
    let (loaded, _) = super::load(&text);
    match &loaded.rules[0].targets[0].condition {
        Expr::Written(written) => {
            assert_eq!(written.field, "a");
            assert_eq!(written.condition, "contains|windash  -x");
        }
        other => panic!("{other:?}"),
    }
}
