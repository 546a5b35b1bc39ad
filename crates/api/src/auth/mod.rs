//! Who may do what: users, sessions, API tokens, lock-out and the first administrator.

pub(crate) mod attempts;
pub(crate) mod guard;
pub(crate) mod secret;
pub(crate) mod sessions;
pub(crate) mod setup;
pub(crate) mod tokens;
pub mod users;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yinglong_server::settings::Actor;

/// What a person may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Look, and deal with alerts.
    Analyst,
    /// Look.
    Readonly,
}

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// Any role.
    Look,
    /// Analysts and administrators.
    Triage,
    /// Administrators.
    Administer,
}

impl Role {
    pub(crate) const fn may(self, need: Need) -> bool {
        match need {
            Need::Look => true,
            Need::Triage => matches!(self, Self::Admin | Self::Analyst),
            Need::Administer => matches!(self, Self::Admin),
        }
    }
}

/// Who sent a request.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// User, or name of the API token.
    pub(crate) name: String,
    /// What they may do.
    pub(crate) role: Role,
    /// From where.
    pub(crate) address: IpAddr,
    /// Token that writing requests repeat; absent for API tokens, which browsers never send alone.
    pub(crate) csrf_token: Option<String>,
}

impl Caller {
    /// As the audit log names them.
    pub(crate) fn actor(&self) -> Actor {
        Actor {
            name: self.name.clone(),
            address: self.address.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c24_every_role_may_what_the_one_below_may() {
        let needs = [Need::Look, Need::Triage, Need::Administer];
        for (role, expected) in [
            (Role::Readonly, [true, false, false]),
            (Role::Analyst, [true, true, false]),
            (Role::Admin, [true, true, true]),
        ] {
            assert_eq!(needs.map(|need| role.may(need)), expected, "{role:?}");
        }
    }
}
