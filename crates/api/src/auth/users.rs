//! Users: the `users` collection, one document per name.

use argon2::{
    Argon2,
    password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash},
};
use serde::{Deserialize, Serialize};
use yinglong_model::Timestamp;
use yinglong_store::StateStore;

use super::Role;
use crate::error::{Error, Kind, Result};

pub(crate) const COLLECTION: &str = "users";
const PASSWORD_CHARS: std::ops::RangeInclusive<usize> = 10..=256;
const NAME_CHARS: usize = 64;

/// Hash nothing has; checked when there is no such user, so that the answer takes as long. Its
/// parameters are the defaults of the library, as in every stored hash.
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$eWluZ2xvbmd5aW5nbG9uZw$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A stored user.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct User {
    /// Argon2id, PHC string.
    pub(crate) password: String,
    pub(crate) role: Role,
    pub(crate) created_at: Timestamp,
}

/// Creates a user, or gives an existing one another password and role. Takes as long as hashing
/// a password: not for a runtime thread.
///
/// # Errors
/// Name or password are not acceptable, or the store refuses.
pub fn put(
    state: &dyn StateStore,
    username: &str,
    password: &str,
    role: Role,
    now: Timestamp,
) -> Result<()> {
    check(username, password)?;
    let password = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|error| {
            tracing::error!(%error, "a password cannot be hashed");
            Error::new(Kind::Internal, "the password cannot be hashed")
        })?;
    let user = User {
        password: password.to_string(),
        role,
        created_at: now,
    };
    let value = serde_json::to_value(user).ok();
    Ok(state.put_documents(COLLECTION, &[(username.to_owned(), value)])?)
}

/// Role of the user if the password is right. Takes the same time whether the user exists.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn verify(
    state: &dyn StateStore,
    username: &str,
    password: &str,
) -> Result<Option<Role>> {
    let user: Option<User> = match state.document(COLLECTION, username)? {
        Some(value) => serde_json::from_value(value).ok(),
        None => None,
    };
    let stored = user.as_ref().map_or(NOBODY, |user| &user.password);
    let right = PasswordHash::new(stored).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    });
    Ok(user.filter(|_| right).map(|user| user.role))
}

/// Everybody, by name.
pub(crate) fn all(state: &dyn StateStore) -> Result<Vec<(String, User)>> {
    let mut users = Vec::new();
    for (name, value) in state.documents(COLLECTION)? {
        match serde_json::from_value(value) {
            Ok(user) => users.push((name, user)),
            Err(error) => tracing::error!(name, %error, "a stored user cannot be read"),
        }
    }
    Ok(users)
}

/// Removes a user.
pub(crate) fn remove(state: &dyn StateStore, username: &str) -> Result<()> {
    Ok(state.put_documents(COLLECTION, &[(username.to_owned(), None)])?)
}

/// Whether a user exists at all.
pub(crate) fn any(state: &dyn StateStore) -> yinglong_store::Result<bool> {
    Ok(!state.documents(COLLECTION)?.is_empty())
}

fn check(username: &str, password: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._@-".contains(c);
    if username.is_empty() || username.len() > NAME_CHARS || !username.chars().all(allowed) {
        return Err(Error::new(
            Kind::Invalid,
            "username: 1 to 64 letters, digits, dots, `_`, `@` and `-` are needed",
        ));
    }
    if !PASSWORD_CHARS.contains(&password.chars().count()) {
        return Err(Error::new(
            Kind::Invalid,
            "password: 10 to 256 characters are needed",
        ));
    }
    if password.to_lowercase().contains(&username.to_lowercase()) && username.len() > 3 {
        return Err(Error::new(
            Kind::Invalid,
            "password: it must not contain the user name",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nobody_costs_what_a_stored_hash_costs() {
        let nobody = PasswordHash::new(NOBODY).unwrap();
        let stored: PasswordHash = Argon2::default().hash_password(b"correct horse").unwrap();
        assert_eq!(nobody.algorithm, stored.algorithm);
        assert_eq!(nobody.params, stored.params);
        assert_eq!(nobody.hash.unwrap().len(), stored.hash.unwrap().len());
        assert!(Argon2::default().verify_password(b"", &nobody).is_err());
    }

    #[test]
    fn names_and_passwords_are_checked() {
        for (name, password, fits) in [
            ("admin", "correct horse", true),
            ("a.b@c-d_e", "0123456789", true),
            ("", "correct horse", false),
            ("a b", "correct horse", false),
            ("<img>", "correct horse", false),
            ("admin", "short", false),
            ("admin", "Admin012345", false),
        ] {
            assert_eq!(check(name, password).is_ok(), fits, "{name} {password}");
        }
        assert!(check("admin", &"x".repeat(257)).is_err());
    }
}
