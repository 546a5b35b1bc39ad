//! A login.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::FieldValue as _;

/// A login or an attempt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Login {
    /// Account.
    pub username: String,
    /// Where from, without port; empty for a local login.
    pub remote: String,
    /// Whether it succeeded: `true` or `false`.
    #[serde(with = "status_text")]
    pub status: bool,
    /// Name of this host in the log, or of the remote side where the log has it.
    pub hostname: String,
    /// Terminal or service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tty: Option<String>,
    /// Record that said so: `wtmp`, `btmp`, `auth.log`, `journal`, `audit`, `wtmpdb`,
    /// `lastlog2`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

fields!(Login: username, remote, status, hostname, tty, source;
    derived:);

/// The classic document holds the status as the texts `true` and `false`.
mod status_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        status: &bool,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if *status { "true" } else { "false" })
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<bool, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(D::Error::custom(format!(
                "login status is `true` or `false`, not `{other}`"
            ))),
        }
    }
}
