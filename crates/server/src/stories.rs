//! Stories that were told: one document each, kept as long as people may have to decide about them.

use yinglong_correlate::stories::Story;
use yinglong_model::{Timestamp, alert::Status};
use yinglong_store::{Result, StateStore, state_store::AlertFilter};

/// Collection of the stories, by id.
pub const STORIES: &str = "stories";

/// Documents removed in one step, so that the pipeline never waits long for the store.
const STEP: usize = 500;

/// Removes stories whose last alert was before a time and that have no alert left to decide about:
/// none is open, and none waits for the review of learn mode. Their events are past retention as
/// well; the alerts that are settled stay and keep the id of their story.
///
/// Returns how many were removed.
///
/// # Errors
/// The store refuses; what was removed stays removed.
pub fn retire(state: &dyn StateStore, before: Timestamp) -> Result<usize> {
    let mut over = Vec::new();
    for (id, document) in state.documents(STORIES)? {
        // What cannot be read is of no use to anybody.
        let is_old =
            serde_json::from_value(document).map_or(true, |story: Story| story.last < before);
        if is_old && !has_alert_left(state, &id)? {
            over.push((id, None));
        }
    }
    for step in over.chunks(STEP) {
        state.put_documents(STORIES, step)?;
    }
    Ok(over.len())
}

fn has_alert_left(state: &dyn StateStore, story: &str) -> Result<bool> {
    for status in [Status::Open, Status::Learned] {
        let filter = AlertFilter {
            status: Some(status),
            story: Some(story.to_owned()),
            limit: 0,
            ..AlertFilter::default()
        };
        if state.alerts(&filter)?.1 > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use yinglong_model::{AgentId, Alert, rule::Level};
    use yinglong_store::state_store::Changes;
    use yinglong_store_embedded::Embedded;

    use super::*;

    const DAY_SECS: i64 = 86_400;

    fn story(id: &str, last: i64) -> (String, Option<serde_json::Value>) {
        let story = Story {
            id: id.to_owned(),
            agent: AgentId::from_bits(1),
            first: Timestamp::from_secs(last - 60),
            last: Timestamp::from_secs(last),
            level: Level::Danger,
            alerts: 1,
            techniques: Vec::new(),
            title: "t".to_owned(),
            title_zh: "t".to_owned(),
            root_pid: None,
        };
        (id.to_owned(), Some(serde_json::to_value(story).unwrap()))
    }

    fn alert(story: &str, status: Status) -> Alert {
        let at = Timestamp::from_secs(DAY_SECS);
        Alert {
            id: format!("alert of {story}"),
            agent_id: AgentId::from_bits(1),
            ip: "192.0.2.1".into(),
            hostname: "web-1".into(),
            kind: "process".into(),
            source: "r".into(),
            rule_id: "r".into(),
            level: Level::Danger,
            info: story.into(),
            description: "d".into(),
            description_zh: String::new(),
            attack: Vec::new(),
            status,
            time: at,
            raised_at: at,
            uptime: at,
            count: 1,
            matched: Vec::new(),
            raw: json!({}),
            story: story.into(),
        }
    }

    #[test]
    fn a_story_goes_when_it_is_old_and_has_no_alert_left_to_decide_about() {
        let folder = tempfile::tempdir().unwrap();
        let (_, state) = Embedded::open(folder.path()).unwrap();
        let old = ["open", "learned", "handled", "ignored", "without"];
        let mut documents: Vec<_> = old.iter().map(|id| story(id, DAY_SECS)).collect();
        documents.push(story("recent", 100 * DAY_SECS));
        documents.push(("unreadable".to_owned(), Some(json!({"id": 7}))));
        state.put_documents(STORIES, &documents).unwrap();
        let alerts = [
            alert("open", Status::Open),
            alert("learned", Status::Learned),
            alert("handled", Status::Handled),
            alert("ignored", Status::Ignored),
        ];
        let changes = Changes {
            alerts: alerts.to_vec(),
            ..Changes::default()
        };
        state.apply(&changes).unwrap();

        let left = || {
            let documents = state.documents(STORIES).unwrap();
            let ids = documents.into_iter().map(|(id, _)| id);
            ids.collect::<Vec<_>>()
        };
        let before = Timestamp::from_secs(10 * DAY_SECS);
        assert_eq!(retire(&state, before).unwrap(), 4);
        assert_eq!(left(), ["learned", "open", "recent"]);
        assert_eq!(
            retire(&state, before).unwrap(),
            0,
            "nothing is old any more"
        );

        let settled = ["alert of open".to_owned()];
        state
            .set_alert_status(&settled, Status::Handled, before)
            .unwrap();
        assert_eq!(retire(&state, before).unwrap(), 1);
        assert_eq!(left(), ["learned", "recent"]);
        assert!(
            state.alert("alert of handled").unwrap().is_some(),
            "alerts stay"
        );
    }
}
