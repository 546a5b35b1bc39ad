//! The one error of the API, and the table from what went wrong to status, code and remedy.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use yinglong_server::settings;

use crate::routes::rules::Finding;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody is signed in.
    SignInRequired,
    /// Name or password is wrong.
    WrongCredentials,
    /// Too many wrong passwords.
    Locked,
    /// The role does not allow it.
    Forbidden,
    /// The CSRF token is missing or wrong.
    CsrfToken,
    /// A page of another site sent it.
    ForeignOrigin,
    /// The server is not known by this name.
    WrongHost,
    /// There is an administrator already.
    SetupDone,
    /// The setup code is wrong.
    SetupCode,
    /// The request cannot be understood.
    BadRequest,
    /// The search text is no query.
    BadQuery,
    /// No such route.
    UnknownRoute,
    /// The route has no such method.
    MethodNotAllowed,
    /// No such alert.
    AlertNotFound,
    /// No such event.
    EventNotFound,
    /// No such host.
    HostNotFound,
    /// The host never sent such an inventory.
    InventoryNotFound,
    /// No such configuration document.
    ConfigNotFound,
    /// No such user.
    UserNotFound,
    /// Nobody could administer the server any more.
    LastAdmin,
    /// No such package.
    PackageNotFound,
    /// No such thing, as a store says.
    NotFound,
    /// A value cannot be stored.
    Invalid,
    /// A configuration value cannot work.
    InvalidConfig,
    /// Rules cannot work.
    InvalidRules,
    /// Something else changed it meanwhile.
    Conflict,
    /// The body is too large.
    TooLarge,
    /// The body is not JSON by its type.
    NotJson,
    /// It took too long.
    Timeout,
    /// Too many at once.
    Busy,
    /// Storage cannot answer now.
    Unavailable,
    /// Our fault.
    Internal,
}

impl Kind {
    /// Status, code and what to do.
    #[rustfmt::skip]
    const fn row(self) -> (StatusCode, &'static str, &'static str) {
        use StatusCode as S;
        match self {
            Self::SignInRequired => (S::UNAUTHORIZED, "sign_in_required", "sign in, or send an API token"),
            Self::WrongCredentials => (S::UNAUTHORIZED, "wrong_credentials", "check user name and password"),
            Self::Locked => (S::TOO_MANY_REQUESTS, "locked", "wait 15 minutes, then try again"),
            Self::Forbidden => (S::FORBIDDEN, "forbidden", "ask an administrator"),
            Self::CsrfToken => (S::FORBIDDEN, "csrf_token", "repeat the token from GET /api/v1/session in the header X-CSRF-Token"),
            Self::ForeignOrigin => (S::FORBIDDEN, "foreign_origin", "send the request from the console itself"),
            Self::WrongHost => (S::MISDIRECTED_REQUEST, "wrong_host", "start the server with --name for every name people use"),
            Self::SetupDone => (S::CONFLICT, "setup_done", "sign in as the administrator"),
            Self::SetupCode => (S::FORBIDDEN, "setup_code", "use the code in the file setup.code of the server's data folder"),
            Self::BadRequest => (S::BAD_REQUEST, "bad_request", "see /api/v1/openapi.json"),
            Self::BadQuery => (S::BAD_REQUEST, "bad_query", "a query looks like `type:process | name:bash`"),
            Self::UnknownRoute => (S::NOT_FOUND, "unknown_route", "see /api/v1/openapi.json"),
            Self::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "method_not_allowed", "see /api/v1/openapi.json"),
            Self::AlertNotFound => (S::NOT_FOUND, "alert_not_found", "list alerts to find its id"),
            Self::EventNotFound => (S::NOT_FOUND, "event_not_found", "it may be past its retention; search for others"),
            Self::HostNotFound => (S::NOT_FOUND, "host_not_found", "list hosts to find its id"),
            Self::InventoryNotFound => (S::NOT_FOUND, "inventory_not_found", "wait for the agent's next report"),
            Self::ConfigNotFound => (S::NOT_FOUND, "config_not_found", "get /api/v1/config for the documents there are"),
            Self::UserNotFound => (S::NOT_FOUND, "user_not_found", "list users to find the name"),
            Self::LastAdmin => (S::CONFLICT, "last_admin", "make another administrator first"),
            Self::PackageNotFound => (S::NOT_FOUND, "package_not_found", "install the agent's package by hand"),
            Self::NotFound => (S::NOT_FOUND, "not_found", "check the identity"),
            Self::Invalid => (S::UNPROCESSABLE_ENTITY, "invalid", "correct the value and send it again"),
            Self::InvalidConfig => (S::UNPROCESSABLE_ENTITY, "invalid_config", "correct the value and send it again"),
            Self::InvalidRules => (S::UNPROCESSABLE_ENTITY, "invalid_rules", "correct what the diagnostics name"),
            Self::Conflict => (S::CONFLICT, "conflict", "read it again, then repeat the change"),
            Self::TooLarge => (S::PAYLOAD_TOO_LARGE, "too_large", "send it in smaller parts"),
            Self::NotJson => (S::UNSUPPORTED_MEDIA_TYPE, "not_json", "send JSON with Content-Type application/json"),
            Self::Timeout => (S::GATEWAY_TIMEOUT, "timeout", "narrow the request, for example its time range"),
            Self::Busy => (S::SERVICE_UNAVAILABLE, "busy", "try again in a few seconds"),
            Self::Unavailable => (S::SERVICE_UNAVAILABLE, "unavailable", "try again in a few seconds; see the server's log"),
            Self::Internal => (S::INTERNAL_SERVER_ERROR, "internal", "see the server's log"),
        }
    }
}

/// Why a request failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: Kind,
    message: String,
    remedy: Option<String>,
    findings: Vec<Finding>,
    retry_after_secs: Option<u64>,
}

/// Outcome of a request.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of this kind.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            remedy: None,
            findings: Vec::new(),
            retry_after_secs: None,
        }
    }

    /// The same, with a better remedy than the one of the table.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// The same, with what is wrong with rules.
    #[must_use]
    pub fn findings(mut self, findings: Vec<Finding>) -> Self {
        self.findings = findings;
        self
    }

    /// The same, worth another try after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, secs: u64) -> Self {
        self.retry_after_secs = Some(secs);
        self
    }

    /// What went wrong.
    pub const fn kind(&self) -> Kind {
        self.kind
    }
}

/// Body of every answer that is not a success.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What went wrong.
    pub error: ErrorDetail,
}

/// What went wrong and what to do.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// Stable name.
    pub code: String,
    /// What went wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// What is wrong with rules.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diagnostics: Vec<Finding>,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, code, remedy) = self.kind.row();
        let body = ErrorBody {
            error: ErrorDetail {
                code: code.to_owned(),
                message: self.message,
                remedy: self.remedy.unwrap_or_else(|| remedy.to_owned()),
                diagnostics: self.findings,
            },
        };
        let mut response = (status, Json(body)).into_response();
        if let Some(secs) = self.retry_after_secs {
            response
                .headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from(secs));
        }
        response
    }
}

impl From<yinglong_store::Error> for Error {
    fn from(error: yinglong_store::Error) -> Self {
        use yinglong_store::Kind as Store;
        let kind = match error.kind() {
            Store::NotFound => Kind::NotFound,
            Store::Conflict => Kind::Conflict,
            Store::Invalid => Kind::BadRequest,
            Store::Unavailable => Kind::Unavailable,
            Store::Corrupt => Kind::Internal,
        };
        if matches!(kind, Kind::Unavailable | Kind::Internal) {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "a request failed in the store"
            );
        }
        Self::new(kind, error.to_string())
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        tracing::error!(%error, "a request failed at a file");
        Self::new(Kind::Unavailable, "the server's disk refuses")
    }
}

impl From<settings::Error> for Error {
    fn from(error: settings::Error) -> Self {
        let message = error.to_string();
        match error {
            settings::Error::UnknownDocument(_) => Self::new(Kind::ConfigNotFound, message),
            settings::Error::Malformed { .. } | settings::Error::Invalid(_) => {
                Self::new(Kind::InvalidConfig, message)
            }
            settings::Error::InvalidRules(found) => Self::new(Kind::InvalidRules, message)
                .findings(found.into_iter().map(Finding::from).collect()),
            settings::Error::Store(error) => error.into(),
        }
    }
}

impl From<yinglong_store::query::ParseError> for Error {
    fn from(error: yinglong_store::query::ParseError) -> Self {
        let message = error.to_string();
        match error.suggestion {
            Some(name) => {
                Self::new(Kind::BadQuery, message).remedy(format!("did you mean `{name}`?"))
            }
            None => Self::new(Kind::BadQuery, message),
        }
    }
}
