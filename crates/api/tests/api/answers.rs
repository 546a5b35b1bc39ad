//! What routes answer.

use std::time::Duration;

use serde_json::{Value, json};
use yinglong_model::{
    AgentId, Timestamp, alert::Status, event::Process, host::HostReport, inventory::Element,
    rule::Level,
};
use yinglong_store::state_store::{Changes, StoredInventory};

use crate::support::{Api, Who, alert, execution, now};

#[test]
fn unknown_routes_and_methods_answer_with_the_error_body() {
    let api = Api::start();
    let admin = api.admin();
    for (method, path, status, code) in [
        ("GET", "/api/v1/nothing", 404, "unknown_route"),
        ("GET", "/api/v2/status", 404, "unknown_route"),
        ("GET", "/api", 404, "unknown_route"),
        ("GET", "/json/nothing", 404, "unknown_route"),
        ("GET", "/json/download", 404, "package_not_found"),
        ("GET", "/api/v1/alerts/none", 404, "alert_not_found"),
        ("GET", "/api/v1/events/none", 404, "event_not_found"),
        ("GET", "/api/v1/hosts/none", 404, "host_not_found"),
        ("PUT", "/api/v1/status", 405, "method_not_allowed"),
        (
            "GET",
            "/api/v1/events?q=type:process%20|%20nmae:x",
            400,
            "bad_query",
        ),
        (
            "GET",
            "/api/v1/events?q=type:userlist%20|%20name:x",
            400,
            "bad_query",
        ),
        ("GET", "/api/v1/events?limit=0", 400, "bad_request"),
        ("GET", "/api/v1/events?limit=1001", 400, "bad_request"),
        ("GET", "/api/v1/events?since=yesterday", 400, "bad_request"),
        ("GET", "/api/v1/events?cursor=forged", 400, "bad_request"),
        ("GET", "/api/v1/alerts?stauts=0", 400, "bad_request"),
        ("GET", "/api/v1/alerts?status=3", 400, "bad_request"),
        (
            "GET",
            "/api/v1/events/histogram?interval_secs=0",
            400,
            "bad_request",
        ),
        (
            "GET",
            "/api/v1/events/histogram?interval_secs=1",
            400,
            "bad_request",
        ),
    ] {
        let answer = api.call(method, path, &admin, None);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{path}"
        );
        let error = &answer.json()["error"];
        for part in ["message", "remedy"] {
            assert_ne!(
                error[part].as_str().unwrap_or_default(),
                "",
                "{path} has no {part}"
            );
        }
    }
}

#[test]
fn bodies_that_make_no_sense_are_refused() {
    let api = Api::start();
    let admin = api.admin();
    for (path, body) in [
        ("/api/v1/alerts/status", json!({ "ids": [] , "status": 1 })),
        (
            "/api/v1/alerts/status",
            json!({ "ids": ["a"], "status": 4 }),
        ),
        (
            "/api/v1/alerts/status",
            json!({ "ids": ["a"], "status": "open" }),
        ),
        (
            "/api/v1/alerts/status",
            json!({ "ids": ["a"], "status": 1, "extra": true }),
        ),
        ("/api/v1/alerts/status", json!(["a"])),
        ("/api/v1/tokens", json!({ "uses": 0 })),
        ("/api/v1/tokens", json!({ "ttl_secs": 1 })),
        ("/api/v1/tokens", json!({ "ttl": 100 })),
        ("/api/v1/rules/import", json!({ "x": 1 })),
    ] {
        let status = api.call("POST", path, &admin, Some(&body)).status;
        assert!(status == 400 || status == 422, "{path} {body}: {status}");
    }
}

#[test]
fn c11_c24_a_changed_status_is_seen_and_audited() {
    let api = Api::start();
    api.raise(vec![
        alert("a1", Level::Danger, Status::Open, Value::Null),
        alert("a2", Level::Hint, Status::Open, Value::Null),
    ]);
    let ann = api.sign_in("ann");
    let list = |query: &str| api.get(&format!("/api/v1/alerts?{query}"), &ann).json();
    assert_eq!(list("status=0")["total"], 2);
    assert_eq!(list("status=0&level=0")["alerts"][0]["id"], "a1");
    assert_eq!(list("text=INFO%20of%20A2")["total"], 1);
    assert_eq!(
        list("limit=1&offset=1")["alerts"].as_array().unwrap().len(),
        1
    );

    let body = json!({ "ids": ["a1", "none"], "status": 2 });
    assert_eq!(
        api.call("POST", "/api/v1/alerts/status", &ann, Some(&body))
            .status,
        404
    );
    assert_eq!(list("status=0")["total"], 2, "nothing was changed");

    let body = json!({ "ids": ["a1"], "status": 2 });
    let answer = api.call("POST", "/api/v1/alerts/status", &ann, Some(&body));
    assert_eq!(answer.json(), json!({ "changed": 1 }));
    assert_eq!(list("status=2")["alerts"][0]["id"], "a1");
    let audit = api.get("/api/v1/audit?limit=1", &api.admin()).json();
    let entry = &audit["entries"][0];
    assert_eq!(entry["actor"], "ann");
    assert_eq!(entry["address"], "127.0.0.1");
    assert_eq!(
        (entry["action"].as_str(), entry["subject"].as_str()),
        (Some("alert.status"), Some("a1"))
    );
    assert_eq!(
        entry["detail"],
        json!({ "before": { "status": 0 }, "after": { "status": 2 } })
    );
}

#[test]
fn d12_an_alert_comes_with_its_ancestors_and_with_what_happened_around_it() {
    let api = Api::start();
    let at = now();
    let ago = |secs: u64| at.minus(Duration::from_secs(secs));
    let process = |name: &str, pid: u32, ppid: u32| Process {
        name: name.into(),
        command: format!("{name} --run"),
        pid,
        ppid,
        ancestors: vec![
            "/usr/bin/bash".into(),
            "sshd".into(),
            "/usr/lib/systemd/systemd".into(),
        ],
        ..Process::default()
    };
    let subject = execution(9, at, process("/usr/bin/id", 900, 800));
    let events = vec![
        execution(1, ago(5000), process("/usr/sbin/sshd", 700, 1)),
        execution(2, ago(300), process("/usr/bin/bash", 800, 700)),
        execution(3, ago(30), process("/usr/bin/ls", 850, 800)),
        subject.clone(),
        execution(
            10,
            at.plus(Duration::from_secs(20)),
            process("/usr/bin/cat", 901, 800),
        ),
        execution(
            11,
            at.plus(Duration::from_secs(90)),
            process("/usr/bin/late", 902, 800),
        ),
    ];
    api.server.events().append(&events, 1).unwrap();
    api.server.events().commit().unwrap();
    let raw = serde_json::to_value(&subject).unwrap();
    let mut raised = alert("a1", Level::Danger, Status::Open, raw);
    raised.time = at;
    api.raise(vec![raised]);

    let detail = api.get("/api/v1/alerts/a1", &api.admin()).json();
    let names = |list: &Value, path: &str| -> Vec<String> {
        let list = list.as_array().unwrap().iter();
        list.map(|item| item.pointer(path).unwrap().as_str().unwrap().to_owned())
            .collect()
    };
    let context = &detail["context"];
    assert_eq!(
        names(&context["process_tree"], "/name"),
        [
            "/usr/bin/id",
            "/usr/bin/bash",
            "/usr/sbin/sshd",
            "/usr/lib/systemd/systemd"
        ]
    );
    assert_eq!(context["process_tree"][1]["pid"], 800);
    assert_eq!(context["process_tree"][1]["command"], "/usr/bin/bash --run");
    assert_eq!(
        names(&context["nearby_events"], "/data/name"),
        ["/usr/bin/ls", "/usr/bin/cat"]
    );
    assert_eq!(
        detail["description"], "<img src=x onerror=1>",
        "text is not changed for HTML"
    );

    let found = api
        .get("/api/v1/events?q=type:process%20|%20pid:900", &api.admin())
        .json();
    assert_eq!(found["events"][0], serde_json::to_value(&subject).unwrap());
    let one = api
        .get(&format!("/api/v1/events/{}", subject.id), &api.admin())
        .json();
    assert_eq!(one, found["events"][0]);
    let values = api.get(
        "/api/v1/suggest?type=process&key=name&prefix=/usr/sbin",
        &api.admin(),
    );
    assert_eq!(values.json()["values"], json!(["/usr/sbin/sshd"]));
    let fields = api
        .get("/api/v1/suggest?type=process&prefix=parent", &api.admin())
        .json();
    assert_eq!(fields["fields"], json!(["parentname", "parent_command"]));
}

#[test]
fn c05_the_overview_equals_what_the_lists_count() {
    let api = Api::start();
    let agent = AgentId::from_bits(7);
    let report = HostReport {
        hostname: "web-7".into(),
        ..HostReport::default()
    };
    api.server
        .fleet()
        .report(&agent, "192.0.2.7".parse().unwrap(), report, now());
    api.raise(vec![
        alert("a1", Level::Danger, Status::Open, Value::Null),
        alert("a2", Level::Danger, Status::Open, Value::Null),
        alert("a3", Level::Hint, Status::Open, Value::Null),
        alert("a4", Level::Hint, Status::Handled, Value::Null),
        alert("a5", Level::Suspicious, Status::Learned, Value::Null),
    ]);
    let events: Vec<_> = (1..=5)
        .map(|seq| execution(seq, now(), Process::default()))
        .collect();
    api.server.events().append(&events, 1).unwrap();
    api.server.events().commit().unwrap();

    let admin = api.admin();
    let overview = api.get("/api/v1/overview", &admin).json();
    assert_eq!(
        overview["hosts"],
        json!({ "total": 1, "healthy": 1, "offline": 0, "blocked": 0 })
    );
    assert_eq!(
        overview["alerts"]["open"],
        json!({ "danger": 2, "suspicious": 0, "hint": 1 })
    );
    assert_eq!(overview["alerts"]["learned"], 1);
    assert_eq!(overview["events"]["stored"], 5);
    let sum = |list: &str, key: &str| -> u64 {
        let hours = overview[list].as_array().unwrap();
        assert_eq!(hours.len(), 24);
        hours.iter().map(|hour| hour[key].as_u64().unwrap()).sum()
    };
    assert_eq!(sum("events_per_hour", "process"), 5);
    assert_eq!(sum("alerts_per_hour", "danger"), 2);
    // Alerts of learn mode are news as long as nothing else is raised.
    assert_eq!(overview["learn"], true);
    assert_eq!(sum("alerts_per_hour", "suspicious"), 1);
    let person = api.sign_in("admin");
    let body = json!({ "learn": false });
    let answer = api.call("PUT", "/api/v1/config/server", &person, Some(&body));
    assert_eq!(answer.status, 200);
    let later = api.get("/api/v1/overview", &admin).json();
    let hours = later["alerts_per_hour"].as_array().unwrap();
    assert!(hours.iter().all(|hour| hour["suspicious"] == 0));
    let hosts = api.get("/api/v1/hosts", &admin).json();
    assert_eq!(hosts["hosts"][0]["open_alerts"], 3);
    assert_eq!(hosts["hosts"][0]["hostname"], "web-7");
}

#[test]
fn c07_inventories_are_shown_complete_and_can_be_searched() {
    let api = Api::start();
    let agent = AgentId::from_bits(7);
    let report = HostReport {
        hostname: "web-7".into(),
        ..HostReport::default()
    };
    api.server
        .fleet()
        .report(&agent, "192.0.2.7".parse().unwrap(), report.clone(), now());
    let element = |name: &str| Element::from([("name".to_owned(), name.to_owned())]);
    let data = vec![element("root"), element("probe1")];
    let inventory = StoredInventory {
        data,
        uptime: Timestamp::from_secs(1_764_000_000),
    };
    let changes = Changes {
        inventories: vec![(
            agent.clone(),
            yinglong_model::InventoryType::Userlist,
            inventory,
        )],
        ..Changes::default()
    };
    api.server.state().apply(&changes).unwrap();

    let admin = api.admin();
    let host = api.get(&format!("/api/v1/hosts/{agent}"), &admin).json();
    assert_eq!(host["hostname"], "web-7");
    assert_eq!(
        host["inventories"],
        json!([{ "type": "userlist", "count": 2, "uptime": "2025-11-24T16:00:00Z" }])
    );
    let list = api
        .get(
            &format!("/api/v1/hosts/{agent}/inventories/userlist"),
            &admin,
        )
        .json();
    assert_eq!(
        list["data"],
        json!([{ "name": "root" }, { "name": "probe1" }])
    );
    let missing = api.get(
        &format!("/api/v1/hosts/{agent}/inventories/crontab"),
        &admin,
    );
    assert_eq!(missing.code(), "inventory_not_found");
    api.server.fleet().flush().unwrap();
    let found = api
        .get(
            "/api/v1/inventories?q=type:userlist%20|%20name:probe1",
            &admin,
        )
        .json();
    assert_eq!(found["elements"][0]["data"]["name"], "probe1");
    assert_eq!(found["elements"].as_array().unwrap().len(), 1);
}

#[test]
fn c18_configuration_is_checked_stored_and_audited() {
    let api = Api::start();
    let admin = api.sign_in("admin");
    let put = |document: &str, body: Value| {
        api.call(
            "PUT",
            &format!("/api/v1/config/{document}"),
            &admin,
            Some(&body),
        )
    };
    for (document, body, key) in [
        ("client", json!({ "cycle": 0 }), "client.cycle"),
        (
            "whitelist",
            json!({ "process": ["("] }),
            "whitelist.process",
        ),
        ("client", json!({ "cylce": 2 }), "cylce"),
        ("server", json!({ "learn": "yes" }), "server"),
    ] {
        let answer = put(document, body);
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (422, "invalid_config")
        );
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(key), "{message}");
    }
    assert_eq!(put("nothing", json!({})).code(), "config_not_found");
    assert_eq!(put("client", json!([])).status, 422);
    assert_eq!(put("client", json!({ "cycle": 7 })).json()["cycle"], 7);
    assert_eq!(
        api.get("/api/v1/config", &admin).json()["client"]["cycle"],
        7
    );
    assert_eq!(api.server.settings().current().config.client.cycle, 7);
    let entry = api.get("/api/v1/audit?limit=1", &admin).json()["entries"][0].clone();
    assert_eq!(
        (entry["actor"].as_str(), entry["subject"].as_str()),
        (Some("admin"), Some("client"))
    );
    assert_eq!(entry["detail"]["before"]["cycle"], 2);
    assert_eq!(entry["detail"]["after"]["cycle"], 7);
}

#[test]
fn c23_secrets_are_never_returned() {
    let api = Api::start();
    let admin = api.sign_in("admin");
    let body = json!({ "tfakey": "JBSWY3DPEHPK3PXP" });
    api.call("PUT", "/api/v1/config/web", &admin, Some(&body));
    let made = api
        .call("POST", "/api/v1/tokens", &admin, Some(&json!({})))
        .json();
    let secret = made["token"].as_str().unwrap();
    assert!(made["command"].as_str().unwrap().contains(secret));
    let Who::Token(token) = api.admin() else {
        unreachable!()
    };
    for path in [
        "config",
        "tokens",
        "audit",
        "rules",
        "overview",
        "openapi.json",
    ] {
        let text = api.get(&format!("/api/v1/{path}"), &admin).text;
        for secret in [
            secret,
            &token,
            "JBSWY3DPEHPK3PXP",
            // Rules look for the words that follow.
            "-----BEGIN",
            "argon2id",
            "privatekey\":",
        ] {
            assert!(!text.contains(secret), "{path} contains {secret}");
        }
    }
}

#[test]
fn s14_c17_rules_are_checked_before_they_are_stored() {
    let api = Api::start();
    let admin = api.sign_in("admin");
    let rule = |field: &str| {
        json!({ "enabled": true, "and": true, "source": "process", "system": "all",
            "meta": { "name": "Probe", "author": "", "description": "", "level": 1 },
            "rules": { field: { "type": "regex", "data": "probe" } } })
    };
    let checked = api
        .call("POST", "/api/v1/rules/check", &admin, Some(&rule("comand")))
        .json();
    assert_eq!(checked["valid"], 0);
    assert_eq!(checked["diagnostics"][0]["suggestion"], "command");
    let refused = api.call("PUT", "/api/v1/rules/probe", &admin, Some(&rule("comand")));
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (422, "invalid_rules")
    );
    assert_eq!(
        refused.json()["error"]["diagnostics"][0]["path"],
        "rules.comand"
    );

    let stored = api.call("PUT", "/api/v1/rules/probe", &admin, Some(&rule("command")));
    assert_eq!(stored.status, 200, "{}", stored.text);
    let rules = api.get("/api/v1/rules", &admin).json();
    let is_probe = |rule: &&Value| rule["id"] == "probe";
    assert!(
        rules["rules"]
            .as_array()
            .unwrap()
            .iter()
            .any(|rule| is_probe(&rule))
    );

    let both = json!([rule("command"), rule("comand")]);
    let imported = api
        .call("POST", "/api/v1/rules/import", &admin, Some(&both))
        .json();
    assert_eq!(
        (&imported["imported"], &imported["refused"]),
        (&json!(1), &json!(1))
    );
    let audit = api.get("/api/v1/audit", &admin).text;
    assert!(audit.contains("rules.update"), "{audit}");
}

#[test]
fn c22_agents_find_servers_and_authority_without_sign_in() {
    let api = Api::start();
    let port = api.server.address().port();
    let servers = api.get("/json/serverlist", &Who::Nobody).json();
    assert_eq!(servers, json!([format!("ids.example:{port}")]));
    let key = api.get("/json/publickey", &Who::Nobody).text;
    assert_eq!(key, api.server.authority().certificate_pem());
}

#[test]
fn c17_sigma_documents_are_checked_stored_and_listed() {
    let api = Api::start();
    let admin = api.sign_in("admin");
    let yaml = "title: Netcat\nid: 3f0f2a2e-5f3a-4a0e-9a44-6b8d7d1f0a01\n\
        logsource: {product: linux, category: process_creation}\n\
        detection: {s: {Image|endswith: /nc}, condition: s}\nlevel: high\n\
        ---\ntitle: Broken\nlogsource: {product: linux, category: process_creation}\n\
        detection: {s: {Image|ends: /nc}, condition: s}\n";
    let done = api
        .call("POST", "/api/v1/rules/import", &admin, Some(&json!(yaml)))
        .json();
    assert_eq!(done["imported"], 1, "{done}");
    assert_eq!(done["refused"], 1, "{done}");
    assert_eq!(done["diagnostics"][0]["rule"], "Broken", "{done}");
    let listed = api.get("/api/v1/rules", &admin).json();
    let rule = listed["rules"]
        .as_array()
        .unwrap()
        .iter()
        .find(|rule| rule["id"] == "3f0f2a2e-5f3a-4a0e-9a44-6b8d7d1f0a01")
        .unwrap();
    assert_eq!(rule["meta"]["name"], "Netcat");
    assert_eq!(rule["source"], "process");
    assert!(rule["sigma"].as_str().unwrap().starts_with("title: Netcat"));
    // As listed it can be stored again, which is how it is switched off.
    let mut off = rule.clone();
    off["enabled"] = json!(false);
    let path = format!("/api/v1/rules/{}", off["id"].as_str().unwrap());
    let stored = api.call("PUT", &path, &admin, Some(&off));
    assert_eq!(stored.status, 200, "{}", stored.text);
    let relisted = api.get("/api/v1/rules", &admin).json();
    let all = relisted["rules"].as_array().unwrap();
    assert!(all.contains(&off), "{off}");
    let cloud = "title: Cloud\nlogsource: {product: aws, service: cloudtrail}\n\
        detection: {s: {eventName: x}, condition: s}\n";
    let done = api
        .call("POST", "/api/v1/rules/import", &admin, Some(&json!(cloud)))
        .json();
    let reason = done["diagnostics"][0]["reason"].as_str();
    let listed = api.get("/api/v1/rules", &admin).json();
    let told = listed["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .any(|found| {
            found["rule"] == "Cloud" && found["reason"].as_str().unwrap().contains("cannot fire")
        });
    assert!(told, "{done} {reason:?}");
}
