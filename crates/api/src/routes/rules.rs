//! Rules: listed with what is wrong with them, checked, changed, imported.

use std::collections::HashSet;

use axum::{
    Json,
    extract::{Extension, Path, State},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use yinglong_rules::{Diagnostic, Severity};

use crate::{
    app::{Shared, now},
    auth::Caller,
    error::{Error, ErrorBody, Kind, Result},
    extract::Body,
};

/// Rules of an import.
const MOST: usize = 10_000;

/// What is wrong with a rule.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// `error`: the rule is refused; `warning`: it probably does not do what is meant.
    pub severity: String,
    /// Name of the rule, or its id.
    pub rule: String,
    /// Place in the document.
    pub path: String,
    /// What is wrong, and what to write instead.
    pub reason: String,
    /// Nearest known name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suggestion: Option<String>,
}

impl From<Diagnostic> for Finding {
    fn from(diagnostic: Diagnostic) -> Self {
        Self {
            severity: match diagnostic.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
            }
            .to_owned(),
            rule: diagnostic.rule,
            path: diagnostic.path,
            reason: diagnostic.reason,
            suggestion: diagnostic.suggestion,
        }
    }
}

/// All rules.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Rules {
    /// Rules in the classic form.
    #[schema(value_type = Vec<Object>)]
    pub rules: Vec<yinglong_model::rule::Rule>,
    /// What is wrong with them and with the lists.
    pub diagnostics: Vec<Finding>,
}

/// What came of a check.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Checked {
    /// Rules that can be used.
    pub valid: usize,
    /// What is wrong.
    pub diagnostics: Vec<Finding>,
}

/// What came of an import.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Imported {
    /// Rules stored, those replaced included.
    pub imported: usize,
    /// Rules left out; the diagnostics say why.
    pub refused: usize,
    /// What is wrong.
    pub diagnostics: Vec<Finding>,
}

/// All rules.
#[utoipa::path(get, path = "/rules", tag = "rules", operation_id = "list_rules",
    responses((status = 200, body = Rules), (status = "default", body = ErrorBody)))]
pub(crate) async fn list(State(app): State<Shared>) -> Json<Rules> {
    let settings = app.server.settings().current();
    Json(Rules {
        rules: settings.rules.clone(),
        diagnostics: settings
            .diagnostics
            .iter()
            .cloned()
            .map(Finding::from)
            .collect(),
    })
}

/// Checks rules: a rule or an array of rules in the classic form, or a text with Sigma documents; changes nothing.
#[utoipa::path(post, path = "/rules/check", tag = "rules", operation_id = "check_rules", request_body = Object,
    responses((status = 200, body = Checked), (status = "default", body = ErrorBody)))]
pub(crate) async fn check(
    State(app): State<Shared>,
    Body(document): Body<Value>,
) -> Result<Json<Checked>> {
    let checked = app
        .run(move |_| {
            let (rules, diagnostics) = load(&document)?;
            Ok(Checked {
                valid: rules.len(),
                diagnostics,
            })
        })
        .await?;
    Ok(Json(checked))
}

/// Stores one rule.
#[utoipa::path(put, path = "/rules/{id}", tag = "rules", operation_id = "put_rule", params(("id" = String, Path)), request_body = Object,
    responses((status = 200, body = Checked), (status = "default", body = ErrorBody)))]
pub(crate) async fn put(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    Body(mut document): Body<Value>,
) -> Result<Json<Checked>> {
    if id.is_empty() || id.len() > 128 || id.chars().any(char::is_control) {
        return Err(Error::new(
            Kind::Invalid,
            "id: 1 to 128 printable characters are needed",
        ));
    }
    if let Some(object) = document.as_object_mut() {
        match object.get("id").and_then(Value::as_str) {
            None | Some("") => drop(object.insert("id".to_owned(), Value::String(id))),
            Some(same) if same == id => {}
            Some(_) => {
                return Err(Error::new(
                    Kind::Invalid,
                    "id: it differs from the one in the address",
                ));
            }
        }
    } else {
        return Err(Error::new(Kind::Invalid, "a rule is an object"));
    }
    let checked = app
        .run(move |app| {
            let (rules, diagnostics) = load(&document)?;
            if rules.is_empty() {
                return Err(
                    Error::new(Kind::InvalidRules, "the rule cannot be used").findings(diagnostics)
                );
            }
            app.server
                .settings()
                .put_rules(rules, &caller.actor(), now())?;
            Ok(Checked {
                valid: 1,
                diagnostics,
            })
        })
        .await?;
    Ok(Json(checked))
}

/// Stores all rules of a document that can be used, replacing those with the same id. The document is a rule or an array of rules in the classic form, or a text with Sigma documents.
#[utoipa::path(post, path = "/rules/import", tag = "rules", operation_id = "import_rules", request_body = Object,
    responses((status = 200, body = Imported), (status = "default", body = ErrorBody)))]
pub(crate) async fn import(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
    Body(document): Body<Value>,
) -> Result<Json<Imported>> {
    let imported = app
        .run(move |app| {
            let (rules, diagnostics) = load(&document)?;
            let imported = rules.len();
            let broken: HashSet<&str> = diagnostics
                .iter()
                .filter(|finding| finding.severity == "error")
                .map(|finding| finding.rule.as_str())
                .collect();
            let refused = match document.as_array() {
                Some(given) => given.len().saturating_sub(imported),
                None => broken.len(),
            };
            if rules.is_empty() {
                return Err(
                    Error::new(Kind::InvalidRules, "none of the rules can be used")
                        .findings(diagnostics),
                );
            }
            app.server
                .settings()
                .put_rules(rules, &caller.actor(), now())?;
            Ok(Imported {
                imported,
                refused,
                diagnostics,
            })
        })
        .await?;
    Ok(Json(imported))
}

fn load(document: &Value) -> Result<(Vec<yinglong_model::rule::Rule>, Vec<Finding>)> {
    if document.as_array().is_some_and(|rules| rules.len() > MOST) {
        return Err(Error::new(
            Kind::TooLarge,
            "at most 10000 rules are read at once",
        ));
    }
    let (rules, diagnostics) = match document {
        // A text is Sigma: one document or several.
        Value::String(text) => yinglong_rules::read(text, ""),
        document => yinglong_rules::load(&document.to_string()),
    };
    if rules.len() > MOST {
        return Err(Error::new(
            Kind::TooLarge,
            "at most 10000 rules are read at once",
        ));
    }
    Ok((rules, diagnostics.into_iter().map(Finding::from).collect()))
}
