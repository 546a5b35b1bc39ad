//! `yinglong config`: the configuration documents.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};

use crate::{client::Target, output};

/// Shows and changes the configuration.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Shows one document, or all.
    Get {
        #[command(flatten)]
        target: Target,
        /// client, server, intelligence, notice, whitelist, blacklist, filter or web.
        #[arg(value_name = "TYPE")]
        document: Option<String>,
    },
    /// Changes one key; the server checks the value.
    Set {
        #[command(flatten)]
        target: Target,
        /// For example `server.learn=false` or `filter.ip=["192.0.2.0/24"]`.
        #[arg(value_name = "TYPE.KEY=VALUE")]
        assignment: String,
    },
}

/// Does what is asked.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.action {
        Action::Get { target, document } => {
            let all: Map<String, Value> = target.client()?.get("/config", &[])?;
            let shown = match document {
                Some(name) => all.get(name).cloned().with_context(|| {
                    let names: Vec<&str> = all.keys().map(String::as_str).collect();
                    format!(
                        "there is no document `{name}`; they are {}",
                        names.join(", ")
                    )
                })?,
                None => Value::Object(all),
            };
            output::print(&format!("{}\n", serde_json::to_string_pretty(&shown)?))
        }
        Action::Set { target, assignment } => {
            let (document, key, value) = assignment_of(assignment)?;
            let client = target.client()?;
            let mut all: Map<String, Value> = client.get("/config", &[])?;
            let Some(Value::Object(mut changed)) = all.remove(document) else {
                bail!("there is no document `{document}`; see `yinglong config get`");
            };
            changed.insert(key.to_owned(), value);
            let stored: Value = client.put(&format!("/config/{document}"), &changed)?;
            let value = stored.get(key).cloned().unwrap_or_default();
            output::print(&format!("{document}.{key} = {value}\n"))
        }
    }
}

/// A value is JSON; what is no JSON is a text.
fn assignment_of(text: &str) -> anyhow::Result<(&str, &str, Value)> {
    let (place, value) = text.split_once('=').context("write TYPE.KEY=VALUE")?;
    let (document, key) = place
        .trim()
        .split_once('.')
        .context("write TYPE.KEY=VALUE")?;
    let value = value.trim();
    let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
    Ok((document, key, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_json_or_text() {
        for (text, expected) in [
            (
                "server.learn=false",
                ("server", "learn", Value::Bool(false)),
            ),
            ("client.cycle = 5", ("client", "cycle", Value::from(5))),
            (
                "notice.api=http://h/?a=b",
                ("notice", "api", Value::from("http://h/?a=b")),
            ),
            (
                "filter.ip=[\"192.0.2.1\"]",
                ("filter", "ip", serde_json::json!(["192.0.2.1"])),
            ),
        ] {
            assert_eq!(assignment_of(text).unwrap(), expected, "{text}");
        }
        assert!(assignment_of("server.learn").is_err());
        assert!(assignment_of("learn=true").is_err());
    }
}
