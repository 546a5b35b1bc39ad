//! Feeds as administrators manage them.

use serde_json::Value;

use crate::support::{Answer, Api, Who};

impl Api {
    fn upload(&self, path: &str, who: &Who, file: &str) -> Answer {
        self.send_bytes(
            "PUT",
            &format!("/api/v1/intelligence/feeds/{path}"),
            who,
            file.as_bytes(),
        )
    }

    fn look_up(&self, who: &Who, value: &str) -> Value {
        let answer = self.get(&format!("/api/v1/intelligence/lookup?value={value}"), who);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()
    }
}

#[test]
fn a_feed_is_put_listed_asked_and_removed_and_all_of_it_is_audited() {
    let api = Api::start();
    let admin = api.admin();
    let file = "8.8.4.4 # loader\n8.8.8.0/24\nnot an indicator\nevil.example\n";
    let answer = api.upload("c2?level=1&expires_days=30", &admin, file);
    assert_eq!(answer.status, 200, "{}", answer.text);
    let feed = answer.json();
    assert_eq!(
        (&feed["format"], &feed["level"]),
        (&"plain".into(), &1.into())
    );
    assert_eq!(
        (&feed["indicators"], &feed["refused"]),
        (&3.into(), &1.into())
    );
    assert_eq!(feed["kinds"]["cidr"], 1);
    assert_eq!(feed["diagnostics"][0]["line"], 3);

    let ann = api.sign_in("ann");
    let found = api.look_up(&ann, "8.8.8.8");
    assert_eq!(found["hits"][0]["indicator"], "8.8.8.0/24");
    assert_eq!(
        api.look_up(&ann, "cdn.EVIL.example")["hits"][0]["feed"],
        "c2"
    );
    assert_eq!(
        api.look_up(&ann, "9.9.9.9")["hits"]
            .as_array()
            .map(Vec::len),
        Some(0)
    );

    let list = api.get("/api/v1/intelligence/feeds", &admin).json();
    assert_eq!(list["feeds"][0]["name"], "c2");
    let metrics = api.get("/metrics", &admin).text;
    assert!(
        metrics.contains("yinglong_intelligence_indicators{feed=\"c2\"} 3"),
        "{metrics}"
    );

    let path = "/api/v1/intelligence/feeds/c2";
    assert_eq!(api.call("DELETE", path, &admin, None).status, 204);
    assert_eq!(api.call("DELETE", path, &admin, None).status, 404);
    assert_eq!(
        api.look_up(&ann, "8.8.8.8")["hits"]
            .as_array()
            .map(Vec::len),
        Some(0)
    );
    let audit = api.get("/api/v1/audit", &admin).json();
    let actions: Vec<&str> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| entry["action"].as_str())
        .filter(|action| action.starts_with("intelligence."))
        .collect();
    assert_eq!(
        actions,
        ["intelligence.feed.remove", "intelligence.feed.put"]
    );
}

#[test]
fn what_cannot_be_a_feed_is_refused_with_its_lines() {
    let api = Api::start();
    let admin = api.admin();
    for (path, file, status, code) in [
        ("c2", "not an indicator\n", 422, "invalid"),
        (
            "c2",
            "{\"type\": \"bundle\", \"objects\": [",
            422,
            "invalid",
        ),
        ("C2", "8.8.4.4\n", 422, "invalid"),
        ("c2?expires_days=0", "8.8.4.4\n", 422, "invalid"),
        ("c2?format=xml", "8.8.4.4\n", 400, "bad_request"),
        ("c2?level=3", "8.8.4.4\n", 400, "bad_request"),
        ("c2?expires=3", "8.8.4.4\n", 400, "bad_request"),
    ] {
        let answer = api.upload(path, &admin, file);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{path} {file}"
        );
    }
    let answer = api.upload("c2", &admin, "not an indicator\n");
    assert_eq!(answer.json()["error"]["diagnostics"][0]["path"], "line 1");
    let list = api.get("/api/v1/intelligence/feeds", &admin).json();
    assert_eq!(list["feeds"].as_array().map(Vec::len), Some(0));
    let answer = api.get("/api/v1/intelligence/lookup?value=%20", &admin);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "bad_request")
    );
}
