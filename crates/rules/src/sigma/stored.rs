//! Sigma documents as the `rules` collection keeps them: one rule per document, text included.

use std::collections::{BTreeMap, HashSet};

use yinglong_model::rule::{Meta, Rule};

use crate::{
    Diagnostic,
    document::slug,
    sigma::{
        document::{Body, Document, parse},
        head::Head,
    },
    taxonomy,
};

/// Reads a text with Sigma documents. Broken ones are left out, each with at least one diagnostic of
/// severity error. Documents that need each other in their text (`action: global`) are kept together
/// under the first.
pub fn stored(text: &str, file: &str) -> (Vec<Rule>, Vec<Diagnostic>) {
    let (documents, diagnostics) = parse(text, file);
    let together = text.contains("action:");
    let mut ids = HashSet::new();
    let mut rules = Vec::new();
    for document in &documents {
        if matches!(document.body, Body::Broken(_)) {
            continue;
        }
        let text = if together {
            text
        } else {
            text.get(document.span.start as usize..document.span.end as usize)
                .unwrap_or(text)
        };
        let mut rule = rule(document, text);
        let base = rule.id.clone();
        let mut number = 2_usize;
        while !ids.insert(rule.id.clone()) {
            rule.id = format!("{base}-{number}");
            number += 1;
        }
        rules.push(rule);
        if together {
            break;
        }
    }
    (rules, diagnostics)
}

fn rule(document: &Document, text: &str) -> Rule {
    let head = &document.head;
    let (source, system) = reads(document);
    Rule {
        id: head.id.clone().unwrap_or_else(|| slug(&head.title)),
        enabled: true,
        and: true,
        source,
        system,
        meta: meta(head),
        rules: BTreeMap::new(),
        sigma: text.trim().to_owned() + "\n",
    }
}

fn meta(head: &Head) -> Meta {
    Meta {
        name: head.title.clone(),
        author: head.author.clone(),
        description: head.description.clone(),
        level: head.level.unwrap_or_default(),
        attack: head.attack.clone(),
        description_zh: head.description_zh.clone(),
        false_positives: head.false_positives.clone(),
    }
}

/// Class and system for lists of rules; a document that reads several is listed under the first.
fn reads(document: &Document) -> (String, String) {
    let Some(source) = document.source() else {
        return ("correlation".to_owned(), "all".to_owned());
    };
    let system = match source.product.as_deref() {
        Some(product) => product.to_owned(),
        None => "all".to_owned(),
    };
    let class = match taxonomy::bindings(source) {
        Ok(bindings) => bindings
            .first()
            .map(|binding| binding.class.as_str().to_owned()),
        Err(_) => None,
    };
    let named = || source.category.clone().or_else(|| source.service.clone());
    (class.or_else(named).unwrap_or_default(), system)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "title: First\nid: 3f0f2a2e-5f3a-4a0e-9a44-6b8d7d1f0a01\nname: first\n\
        logsource: {product: linux, category: process_creation}\n\
        detection:\n  s: {Image|endswith: /nc}\n  condition: s\nlevel: high\n\
        tags: [attack.execution, attack.t1059.004]\n---\n\
        title: Second\ncorrelation:\n  type: event_count\n  rules: first\n  timespan: 1m\n  \
        condition: {gte: 5}\n";

    #[test]
    fn each_document_is_stored_with_its_own_text() {
        let (rules, diagnostics) = stored(TWO, "two.yml");
        assert_eq!(diagnostics, []);
        let listed: Vec<_> = rules
            .iter()
            .map(|rule| (rule.id.as_str(), rule.source.as_str(), rule.system.as_str()))
            .collect();
        assert_eq!(
            listed,
            [
                ("3f0f2a2e-5f3a-4a0e-9a44-6b8d7d1f0a01", "process", "linux"),
                ("second", "correlation", "all")
            ]
        );
        assert_eq!(rules[0].meta.attack, ["T1059.004"]);
        assert!(rules[0].sigma.starts_with("title: First"));
        assert!(!rules[0].sigma.contains("Second"));
        assert!(rules[1].sigma.starts_with("title: Second"));
    }

    #[test]
    fn a_broken_document_is_left_out_and_the_others_are_stored() {
        let text = format!("title: Broken\nlogsource: 3\n---\n{TWO}");
        let (rules, diagnostics) = stored(&text, "");
        assert_eq!(rules.len(), 2);
        assert!(diagnostics.iter().any(Diagnostic::is_error));
    }
}
