//! Documents of a text: YAML, markers, kinds, collections of the old time.

use super::{load, shape};
use crate::sigma::{Kind, parse, yaml};

const RULE: &str =
    "title: One\nid: 1\nlogsource: {category: c}\ndetection:\n  s: {a: x}\n  condition: s\n";

fn kinds(text: &str) -> Vec<(Kind, String)> {
    let (documents, _) = parse(text, "f");
    documents
        .iter()
        .map(|document| (document.kind(), document.title().to_owned()))
        .collect()
}

#[test]
fn each_document_of_a_text_is_one_of_its_kind() {
    let text = format!(
        "# licence\n%YAML 1.2\n---\n{RULE}\n---\ntitle: Two\nlogsource: {{category: c}}\nfilter: \
         {{rules: any, s: {{a: x}}, condition: not s}}\n...\n# nothing\n---\n---\ntitle: Three\n\
         correlation: {{type: event_count, rules: [1], timespan: 1m, condition: {{gte: 2}}}}\n"
    );
    let expected = [
        (Kind::Rule, "One".to_owned()),
        (Kind::Filter, "Two".to_owned()),
        (Kind::Correlation, "Three".to_owned()),
    ];
    assert_eq!(kinds(&text), expected);
    let (_, diagnostics) = parse(&text, "f");
    assert_eq!(diagnostics, []);
}

#[test]
fn a_broken_document_does_not_affect_the_others() {
    for broken in [
        "title: Bad\nid: b\ndetection: [unclosed\n",
        "title: Bad\nid: b\n\t- x: {\n",
        "title: Bad\nid: b\ndetection: 'unclosed\n",
        "title: Bad\nid: b\ndetection: &a [*a]\n",
        "title: Bad\nid: b\n<<: {a: 1}\n",
        "title: Bad\nid: b\n? [a]\n: b\n",
        "title: Bad\nid: b\n",
    ] {
        let text = format!("{RULE}---\n{broken}---\n{}", RULE.replace('1', "2"));
        let found = kinds(&text);
        assert_eq!(found.len(), 3, "{broken}");
        assert_eq!(found[1], (Kind::Broken, "Bad".to_owned()), "{broken}");
        let (loaded, diagnostics) = load(&text);
        assert_eq!(loaded.rules.len(), 2, "{broken}");
        assert_eq!(loaded.refused[0].id, "b", "{broken}");
        assert!(!loaded.refused[0].reason.is_empty());
        let error = diagnostics.iter().find(|d| d.is_error()).unwrap();
        assert_eq!(error.rule, "Bad");
        assert!(
            (7..=11).contains(&error.place.as_ref().unwrap().line),
            "{error}"
        );
    }
}

#[test]
fn places_count_bytes_lines_and_characters_from_the_whole_text() {
    let text = format!("{RULE}---\n# 文\ntitle: 标题\nlogsorce: 1\nlogsource: {{category: c}}\n");
    let (documents, diagnostics) = parse(&text, "f");
    assert_eq!(documents[1].kind(), Kind::Broken);
    let warning = diagnostics.iter().find(|d| !d.is_error()).unwrap();
    let place = warning.place.as_ref().unwrap();
    assert_eq!(&text[place.start..place.end], "logsorce");
    assert_eq!((place.line, place.column), (10, 1));
    assert_eq!(warning.suggestion.as_deref(), Some("logsource"));
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_no_content() {
    let text = format!("\u{feff}{}", RULE.replace('\n', "\r\n"));
    assert_eq!(shape(&text), "a='x'");
    let two = format!("{text}---\r\n{text}");
    assert_eq!(parse(&two, "f").0.len(), 2);
}

#[test]
fn markers_inside_quotes_and_blocks_still_end_a_document() {
    let text = format!("title: |\n  text\n---\n{RULE}");
    assert_eq!(kinds(&text).len(), 2);
    assert_eq!(kinds(&text)[1].0, Kind::Rule);
    // Not at the beginning of a line, or longer, it is none.
    let text = RULE
        .replace("One", "'a --- b'")
        .replace("  s:", "  ----: [x]\n  s:");
    let expected = vec![(Kind::Rule, "a --- b".to_owned())];
    assert_eq!(kinds(&text), expected);
}

#[test]
fn anchors_are_copied() {
    let text = RULE.replace("{a: x}", "{a: &v [x, y], b: *v}");
    assert_eq!(shape(&text), "((a='x' | a='y') & (b='x' | b='y'))");
}

#[test]
fn collections_of_the_old_time_share_what_is_global() {
    let text = "action: global\ntitle: G\nlogsource: {product: p}\ndetection: {condition: s, f: {z: z}}\n\
                ---\ndetection: {s: {a: x}}\n\
                ---\naction: repeat\ndetection: {s: {b: y}}\n\
                ---\naction: reset\n\
                ---\ntitle: Alone\nlogsource: {product: p}\ndetection: {s: {c: x}, condition: s}\n";
    let (loaded, _) = load(text);
    let shapes: Vec<String> = loaded
        .rules
        .iter()
        .map(|rule| super::show(&rule.targets[0].condition))
        .collect();
    assert_eq!(shapes, ["a='x'", "(b='y' & a='x')", "c='x'"]);
    let ids: Vec<&str> = loaded
        .rules
        .iter()
        .map(|rule| rule.about.id.as_str())
        .collect();
    assert_eq!(ids, ["g", "g-2", "alone"]);
}

#[test]
fn duplicate_keys_are_an_error_at_the_second() {
    let text = RULE.replace("{a: x}", "{a: x, a: y}");
    let (_, diagnostics) = parse(&text, "f");
    assert_eq!(diagnostics.len(), 1);
    assert!(diagnostics[0].reason.contains("`a` is written twice"));
    let place = diagnostics[0].place.as_ref().unwrap();
    assert_eq!(place.start, text.find("a: y").unwrap());
}

#[test]
fn text_that_is_no_map_is_no_document() {
    for text in ["- a\n", "just text\n", "5"] {
        assert_eq!(kinds(text), [(Kind::Broken, String::new())], "{text}");
    }
    for text in ["", "\n\n", "# only a comment\n", "---\n...\n", "~"] {
        assert_eq!(kinds(text), [], "{text}");
        assert_eq!(parse(text, "f").1, [], "{text}");
    }
}

#[test]
fn sizes_are_bounded() {
    let long = format!("{RULE}description: {}\n", "x".repeat(yaml::DOCUMENT_BYTES));
    let text = format!("{long}---\n{RULE}");
    let found = kinds(&text);
    assert_eq!(found[0].0, Kind::Broken);
    assert_eq!(found[1].0, Kind::Rule);
}
