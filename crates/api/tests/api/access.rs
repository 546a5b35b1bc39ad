//! Who may do what, on every route there is.

use serde_json::{Value, json};

use crate::support::{Api, Who};

/// Routes that answer without sign-in.
const OPEN: [(&str, &str); 4] = [
    ("get", "/status"),
    ("post", "/setup"),
    ("post", "/session"),
    ("get", "/openapi.json"),
];
/// Routes of analysts, beside those that only look.
const TRIAGE: [(&str, &str); 4] = [
    ("post", "/alerts/status"),
    ("post", "/rules/check"),
    ("get", "/config"),
    ("get", "/intelligence/lookup"),
];
/// Routes that read, and are for administrators all the same.
const PRIVATE: [(&str, &str); 4] = [
    ("get", "/tokens"),
    ("get", "/audit"),
    ("get", "/users"),
    ("get", "/intelligence/feeds"),
];
/// The one write everybody may make.
const SIGN_OUT: (&str, &str) = ("delete", "/session");

/// Method and path of every documented route, below the base path.
fn routes() -> Vec<(String, String)> {
    let document: Value = serde_json::from_str(&yinglong_api::openapi_json()).unwrap();
    let mut routes = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let path = path
                .strip_prefix("/api/v1")
                .expect("every route is versioned");
            routes.push((method.clone(), path.to_owned()));
        }
    }
    assert!(routes.len() > 25, "{routes:?}");
    routes
}

#[test]
fn the_description_in_the_documentation_is_that_of_the_routes() {
    let document: Value = serde_json::from_str(&yinglong_api::openapi_json()).unwrap();
    let written: Value =
        serde_json::from_str(include_str!("../../../../docs/openapi.json")).unwrap();
    assert!(
        document == written,
        "docs/openapi.json is old: write /api/v1/openapi.json of a running server there"
    );
    let mut ids = std::collections::BTreeSet::new();
    for item in document["paths"].as_object().unwrap().values() {
        for operation in item.as_object().unwrap().values() {
            let id = operation["operationId"].as_str().unwrap();
            assert!(ids.insert(id), "two operations are called {id}");
        }
    }
}

fn is(route: &(String, String), listed: &[(&str, &str)]) -> bool {
    listed
        .iter()
        .any(|(method, path)| route.0 == *method && route.1 == *path)
}

fn send(api: &Api, (method, path): &(String, String), who: &Who) -> (u16, String) {
    let path = format!("/api/v1{}", path.replace(['{', '}'], ""));
    let body = json!({});
    let body = (method != "get" && method != "delete").then_some(&body);
    let answer = api.call(&method.to_uppercase(), &path, who, body);
    let code = if answer.status >= 400 {
        answer.code()
    } else {
        String::new()
    };
    (answer.status, code)
}

#[test]
fn c04_no_route_but_the_open_ones_answers_without_sign_in() {
    let api = Api::start();
    for route in routes().iter().filter(|route| !is(route, &OPEN)) {
        for who in [
            Who::Nobody,
            Who::Token("not a token".into()),
            Who::Session("yinglong_session=forged".into(), Some("forged".into())),
        ] {
            let answer = send(&api, route, &who);
            assert_eq!(answer, (401, "sign_in_required".into()), "{route:?}");
        }
    }
}

#[test]
fn c04_no_write_is_taken_from_a_session_without_its_token() {
    let api = Api::start();
    let Who::Session(cookie, _) = api.sign_in("admin") else {
        unreachable!()
    };
    for route in routes()
        .iter()
        .filter(|route| route.0 != "get" && !is(route, &OPEN))
    {
        for csrf in [None, Some("wrong".to_owned())] {
            let answer = send(&api, route, &Who::Session(cookie.clone(), csrf));
            assert_eq!(answer, (403, "csrf_token".into()), "{route:?}");
        }
    }
}

#[test]
fn c24_who_may_only_look_changes_nothing() {
    let api = Api::start();
    let rita = api.sign_in("rita");
    for route in routes()
        .iter()
        .filter(|route| !is(route, &OPEN) && !is(route, &[SIGN_OUT]))
    {
        if route.1 == "/stream" {
            continue;
        }
        let (status, code) = send(&api, route, &rita);
        let refused = route.0 != "get" || is(route, &PRIVATE) || is(route, &TRIAGE);
        assert_eq!(
            code == "forbidden",
            refused,
            "{route:?} answered {status} {code}"
        );
        assert_eq!(status == 403, refused, "{route:?} answered {status} {code}");
    }
}

#[test]
fn c24_analysts_deal_with_alerts_and_administer_nothing() {
    let api = Api::start();
    let ann = api.sign_in("ann");
    for route in routes()
        .iter()
        .filter(|route| !is(route, &OPEN) && !is(route, &[SIGN_OUT]))
    {
        if route.1 == "/stream" {
            continue;
        }
        let (status, code) = send(&api, route, &ann);
        let write = route.0 != "get" || is(route, &PRIVATE);
        let refused = write && !is(route, &TRIAGE);
        assert_eq!(
            code == "forbidden",
            refused,
            "{route:?} answered {status} {code}"
        );
    }
}

#[test]
fn c04_a_server_answers_to_its_names_only() {
    let api = Api::start();
    for (host, known) in [
        ("ids.example", true),
        ("IDS.example:8443", true),
        ("localhost", true),
        ("127.0.0.1:1", true),
        ("[::1]:8443", true),
        ("evil.example", false),
        ("192.0.2.1", false),
        ("ids.example.evil.example", false),
    ] {
        let headers = [("Host", host)];
        let answer = api.call_with("GET", "/api/v1/status", &Who::Nobody, None, &headers);
        assert_eq!(answer.status, if known { 200 } else { 421 }, "{host}");
    }
}

#[test]
fn c04_pages_of_other_sites_cannot_write() {
    let api = Api::start();
    let body = json!({ "username": "admin", "password": "x" });
    for (origin, status) in [
        ("https://evil.example", 403),
        ("null", 403),
        ("http://127.0.0.1", 403),
        (api.base.as_str(), 401),
    ] {
        let headers = [("Origin", origin)];
        let answer = api.call_with(
            "POST",
            "/api/v1/session",
            &Who::Nobody,
            Some(&body),
            &headers,
        );
        assert_eq!(answer.status, status, "{origin}");
    }
    let headers = [("Content-Type", "text/plain")];
    let answer = api.call_with(
        "POST",
        "/api/v1/session",
        &Who::Nobody,
        Some(&body),
        &headers,
    );
    assert_eq!((answer.status, answer.code().as_str()), (415, "not_json"));
}

#[test]
fn c04_every_answer_carries_the_security_headers() {
    let api = Api::start();
    for (path, kept) in [
        ("/api/v1/status", "no-store"),
        ("/api/v1/hosts", "no-store"),
        ("/api/none", "no-store"),
    ] {
        let answer = api.get(path, &Who::Nobody);
        let policy = answer.header("content-security-policy");
        for part in [
            "default-src 'none'",
            "script-src 'self';",
            "frame-ancestors 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert_eq!(
            answer.header("strict-transport-security"),
            "max-age=31536000"
        );
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        assert_eq!(answer.header("referrer-policy"), "no-referrer");
        assert_eq!(answer.header("cache-control"), kept, "{path}");
    }
    let page = api.get("/alerts/some-page", &Who::Nobody);
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(
        page.header("content-security-policy")
            .contains("script-src 'self'")
    );
    assert_eq!(api.get("/assets/none.js", &Who::Nobody).status, 404);
}

#[test]
fn metrics_are_open_to_this_machine_but_not_through_a_proxy_on_it() {
    let api = Api::start();
    let answer = api.get("/metrics", &Who::Nobody);
    assert_eq!(answer.status, 200);
    for line in [
        "yinglong_store_events 0",
        "yinglong_correlation_evicted_groups_total{reason=\"bytes\"} 0",
        "yinglong_story_evicted_total{kind=\"stories\"} 0",
    ] {
        let expected = format!("\n{line}\n");
        assert!(answer.text.contains(&expected), "{}", answer.text);
    }
    let headers = [("X-Forwarded-For", "192.0.2.1")];
    assert_eq!(
        api.call_with("GET", "/metrics", &Who::Nobody, None, &headers)
            .status,
        401
    );
    assert_eq!(
        api.call_with("GET", "/metrics", &api.admin(), None, &headers)
            .status,
        200
    );
}
