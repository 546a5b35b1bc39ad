//! Users and their roles.

use serde_json::{Value, json};
use yinglong_api::Role;

use crate::support::{Api, PASSWORD, Who};

#[test]
fn c24_administrators_make_change_and_remove_users() {
    let api = Api::start();
    let admin = api.sign_in("admin");
    let put = |name: &str, body: Value| {
        api.call("PUT", &format!("/api/v1/users/{name}"), &admin, Some(&body))
            .status
    };
    assert_eq!(
        put("tom", json!({ "role": "analyst", "password": PASSWORD })),
        204
    );
    let tom = api.sign_in("tom");
    assert_eq!(api.get("/api/v1/session", &tom).json()["role"], "analyst");

    assert_eq!(
        put("tom", json!({ "role": "readonly", "password": PASSWORD })),
        204
    );
    assert_eq!(
        api.get("/api/v1/overview", &tom).status,
        401,
        "a changed user signs in again"
    );
    for bad in [
        json!({ "role": "owner", "password": PASSWORD }),
        json!({ "role": "admin", "password": "short" }),
        json!({ "role": "admin" }),
    ] {
        assert!(put("tom", bad) >= 400);
    }

    let users = api.get("/api/v1/users", &admin);
    assert!(!users.text.contains("argon2"), "{}", users.text);
    let tom = api.sign_in("tom");
    assert_eq!(
        api.call("DELETE", "/api/v1/users/tom", &admin, None).status,
        204
    );
    assert_eq!(api.get("/api/v1/overview", &tom).status, 401);
    assert_eq!(
        api.call("DELETE", "/api/v1/users/tom", &admin, None).status,
        404
    );
    let audit = api.get("/api/v1/audit", &admin).text;
    for action in ["user.create", "user.update", "user.delete"] {
        assert!(audit.contains(action), "{action} is not in {audit}");
    }
    assert!(!audit.contains(PASSWORD));
}

#[test]
fn the_last_administrator_stays() {
    let api = Api::start_with(&[("admin", Role::Admin), ("rita", Role::Readonly)]);
    let token = api.admin();
    let demote = json!({ "role": "readonly", "password": PASSWORD });
    let answers = [
        api.call("DELETE", "/api/v1/users/admin", &token, None),
        api.call("PUT", "/api/v1/users/admin", &token, Some(&demote)),
    ];
    for answer in answers {
        assert_eq!((answer.status, answer.code().as_str()), (409, "last_admin"));
    }
}

#[test]
fn the_first_user_needs_the_setup_code() {
    let api = Api::start_with(&[]);
    let body = json!({ "role": "admin", "password": PASSWORD });
    let answer = api.call("PUT", "/api/v1/users/root", &api.admin(), Some(&body));
    assert_eq!(answer.code(), "last_admin");
    assert_eq!(
        api.get("/api/v1/status", &Who::Nobody).json()["setup_required"],
        true
    );
}
