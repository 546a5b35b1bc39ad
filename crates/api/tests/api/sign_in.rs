//! Sign-in, sign-out, lock-out and the first administrator.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::support::{Api, PASSWORD, Who};

#[test]
fn c02_a_session_begins_with_the_right_password_and_ends_with_sign_out() {
    let api = Api::start();
    let body = json!({ "username": "ann", "password": PASSWORD });
    let answer = api.call("POST", "/api/v1/session", &Who::Nobody, Some(&body));
    let cookie = answer.header("set-cookie").to_owned();
    for flag in ["HttpOnly", "Secure", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(flag), "{cookie}");
    }
    let ann = api.sign_in("ann");
    let who = api.get("/api/v1/session", &ann).json();
    assert_eq!(
        (who["username"].as_str(), who["role"].as_str()),
        (Some("ann"), Some("analyst"))
    );
    assert_eq!(
        api.call("DELETE", "/api/v1/session", &ann, None).status,
        204
    );
    assert_eq!(api.get("/api/v1/overview", &ann).status, 401);
}

#[test]
fn c02_ten_wrong_passwords_lock_an_account_even_one_that_does_not_exist() {
    let api = Api::start();
    let attempt = |name: &str, password: &str| {
        let body = json!({ "username": name, "password": password });
        let answer = api.call("POST", "/api/v1/session", &Who::Nobody, Some(&body));
        (
            answer.status,
            answer.text,
            answer.headers.get("retry-after").is_some(),
        )
    };
    for name in ["ann", "nobody"] {
        for _ in 0..10 {
            assert_eq!(attempt(name, "wrong").0, 401, "{name}");
        }
    }
    let (known, unknown) = (attempt("ann", PASSWORD), attempt("nobody", PASSWORD));
    assert_eq!(known.0, 429);
    assert!(known.2, "the answer says when to try again");
    assert_eq!(known, unknown, "answers do not tell who exists");
    assert_eq!(attempt("rita", PASSWORD).0, 200, "others are not locked");
    assert_eq!(attempt("rita", "wrong").1, attempt("nobody2", "wrong").1);
}

#[test]
fn c02_stored_passwords_are_argon2id() {
    let api = Api::start();
    let user = api
        .server
        .state()
        .document("users", "admin")
        .unwrap()
        .unwrap();
    let stored = user["password"].as_str().unwrap();
    assert!(stored.starts_with("$argon2id$v=19$"), "{stored}");
}

#[test]
fn c01_the_first_administrator_is_made_once_with_the_code_from_the_data_folder() {
    let api = Api::start_with(&[]);
    let status = || api.get("/api/v1/status", &Who::Nobody).json()["setup_required"].clone();
    assert_eq!(status(), true);
    let file = api.dir.path().join("data/setup.code");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let code = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert_eq!(api.setup_code().as_deref(), Some(code.as_str()));
    let setup = |code: &str, name: &str, password: &str| {
        let body = json!({ "setup_code": code, "username": name, "password": password });
        let answer = api.call("POST", "/api/v1/setup", &Who::Nobody, Some(&body));
        (
            answer.status,
            if answer.status == 204 {
                String::new()
            } else {
                answer.code()
            },
        )
    };
    assert_eq!(
        setup("AAAA-AAAA-AAAA-AAAA", "root", PASSWORD),
        (403, "setup_code".into())
    );
    assert_eq!(setup(&code, "root", "short"), (422, "invalid".into()));
    assert_eq!(setup(&code, "<b>", PASSWORD), (422, "invalid".into()));
    let typed = code.to_lowercase().replace('-', " ");
    assert_eq!(setup(&typed, "root", PASSWORD), (204, String::new()));
    assert_eq!(setup(&code, "other", PASSWORD), (409, "setup_done".into()));
    assert!(!file.exists());
    assert_eq!(status(), false);
    let root = api.sign_in("root");
    let audit = api.get("/api/v1/audit", &root).json();
    let actions: Vec<_> = audit["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| &e["action"])
        .collect();
    assert!(
        actions.iter().any(|action| *action == "user.create"),
        "{audit}"
    );
    assert!(!audit.to_string().contains(PASSWORD));
}

#[test]
fn wrong_setup_codes_are_counted_like_wrong_passwords() {
    let api = Api::start_with(&[]);
    let body = json!({ "setup_code": "no", "username": "root", "password": PASSWORD });
    let statuses: Vec<u16> = (0..11)
        .map(|_| {
            api.call("POST", "/api/v1/setup", &Who::Nobody, Some(&body))
                .status
        })
        .collect();
    assert_eq!(statuses[..10], [403; 10]);
    assert_eq!(statuses[10], 429);
}

#[test]
fn the_local_token_administers_and_only_its_owner_can_read_it() {
    let api = Api::start();
    let file = api.dir.path().join("data/admin.token");
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let Who::Token(token) = api.admin() else {
        unreachable!()
    };
    assert!(token.len() >= 43);
    let stored = serde_json::to_string(&api.server.state().documents("api_tokens").unwrap());
    assert!(!stored.unwrap().contains(&token), "only its hash is stored");
    assert_eq!(api.get("/api/v1/audit", &api.admin()).status, 200);
}
