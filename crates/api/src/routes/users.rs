//! Users and what they may do.

use std::sync::PoisonError;

use axum::{
    Json,
    extract::{Extension, Path, State},
    http::StatusCode,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yinglong_model::Timestamp;

use crate::{
    app::{App, Shared, now},
    auth::{Caller, Role, users},
    error::{Error, ErrorBody, Kind, Result},
    extract::Body,
};

/// All users.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Users {
    /// By name.
    pub users: Vec<User>,
}

/// A user, without password.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Name.
    pub username: String,
    /// What they may do.
    pub role: Role,
    /// When they, or their password, were made.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A user to be made or changed.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserRequest {
    /// What they may do.
    pub role: Role,
    /// Password; 10 to 256 characters.
    pub password: String,
}

/// All users.
#[utoipa::path(get, path = "/users", tag = "administration", operation_id = "list_users",
    responses((status = 200, body = Users), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(app): State<Shared>) -> Result<Json<Users>> {
    let users = app
        .run(|app| users::all(app.server.state().as_ref()))
        .await?;
    let users = users.into_iter().map(|(username, user)| User {
        username,
        role: user.role,
        created_at: user.created_at,
    });
    Ok(Json(Users {
        users: users.collect(),
    }))
}

/// Makes a user, or gives one another role and password; ends their sessions.
#[utoipa::path(put, path = "/users/{username}", tag = "administration", operation_id = "put_user",
    params(("username" = String, Path)), request_body = UserRequest,
    responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn put(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(username): Path<String>,
    Body(UserRequest { role, password }): Body<UserRequest>,
) -> Result<StatusCode> {
    let permit = app.hashes.acquire().await;
    let _permit = permit.map_err(|_| Error::new(Kind::Unavailable, "the server is stopping"))?;
    app.run(move |app| {
        change(app, &caller, &username, Some(role), |app| {
            users::put(
                app.server.state().as_ref(),
                &username,
                &password,
                role,
                now(),
            )
        })
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes a user and ends their sessions.
#[utoipa::path(delete, path = "/users/{username}", tag = "administration", operation_id = "remove_user",
    params(("username" = String, Path)), responses((status = 204), (status = "default", body = ErrorBody)))]
pub(crate) async fn remove(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(username): Path<String>,
) -> Result<StatusCode> {
    app.run(move |app| {
        change(app, &caller, &username, None, |app| {
            users::remove(app.server.state().as_ref(), &username)
        })
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes a user to a role, or removes them; an administrator is always left.
fn change(
    app: &App,
    caller: &Caller,
    username: &str,
    after: Option<Role>,
    store: impl FnOnce(&App) -> Result<()>,
) -> Result<()> {
    let _one = app
        .changing_users
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let all = users::all(app.server.state().as_ref())?;
    let before = all
        .iter()
        .find(|(name, _)| name == username)
        .map(|(_, user)| user.role);
    if before.is_none() && after.is_none() {
        return Err(Error::new(Kind::UserNotFound, "there is no such user"));
    }
    if all.is_empty() {
        // The first one needs the setup code.
        return Err(Error::new(Kind::LastAdmin, "there is no administrator yet")
            .remedy("run the setup first"));
    }
    let other_admin = all
        .iter()
        .any(|(name, user)| name != username && user.role == Role::Admin);
    if before == Some(Role::Admin) && after != Some(Role::Admin) && !other_admin {
        return Err(Error::new(
            Kind::LastAdmin,
            "this is the last administrator",
        ));
    }
    store(app)?;
    app.sessions.close_all(username);
    let action = match (before, after) {
        (None, _) => "user.create",
        (Some(_), Some(_)) => "user.update",
        (Some(_), None) => "user.delete",
    };
    let shown = |role: Option<Role>| role.map(|role| serde_json::json!({ "role": role }));
    let detail = serde_json::json!({ "before": shown(before), "after": shown(after) });
    app.audit(&caller.actor(), action, username, detail)
}
