//! A correlation that fired, as a detection.

use serde_json::{Value, json};
use yinglong_correlate::Fired;
use yinglong_detect::Detection;
use yinglong_model::alert::Matched;

/// The detection. What is grouped by makes the identity: the same group is the same alert.
pub(crate) fn detection(fired: Fired) -> Detection {
    let mut values: Vec<&str> = fired
        .group
        .iter()
        .map(|(_, value)| value.as_str())
        .collect();
    values.sort_unstable();
    let info = values.join("|");
    let mut matched: Vec<Matched> = fired
        .group
        .iter()
        .map(|(field, value)| Matched {
            field: field.clone(),
            value: value.clone(),
            condition: "the same in all of them".to_owned(),
            spans: Vec::new(),
        })
        .collect();
    matched.push(Matched {
        field: "events".to_owned(),
        value: fired.count.to_string(),
        condition: format!("from {} to {}", fired.start, fired.end),
        spans: Vec::new(),
    });
    let about = &fired.about;
    Detection {
        source: about.name.clone(),
        rule_id: about.id.clone(),
        level: about.level,
        severity: about.severity.clone(),
        info,
        description: about.description.clone(),
        description_zh: about.description_zh.clone(),
        attack: about.attack.clone(),
        matched,
    }
}

/// The event that made it hold, with the others beside it.
pub(crate) fn evidence(event: &Value, fired: &Fired) -> Value {
    let mut evidence = event.clone();
    if let Some(object) = evidence.as_object_mut() {
        let correlation = json!({
            "start": fired.start,
            "end": fired.end,
            "events": fired.count,
            "value": fired.value,
            "references": fired.references,
        });
        object.insert("correlation".to_owned(), correlation);
    }
    evidence
}
