//! `yinglong rules`: what is detected.

mod bench;
mod check;
mod coverage;
mod explain;
mod test;

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use yinglong_api::routes::rules::{Finding, Imported, Rules};

use crate::{client::Target, output, ruleset};

/// Lists, checks and imports rules.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Lists the rules of a server.
    List {
        #[command(flatten)]
        target: Target,
        /// Prints one line of JSON per rule, in the form that can be imported.
        #[arg(long)]
        json: bool,
    },
    /// Checks rules in files; needs no server.
    Check(check::Args),
    /// Runs the examples beside rules; needs no server.
    Test(test::Args),
    /// Prints an ATT&CK Navigator layer of what rules were shown to find; needs no server.
    Coverage(coverage::Args),
    /// Shows why rules do or do not match one event; needs no server.
    Explain(explain::Args),
    /// Measures how fast rules are over a recording; needs no server.
    Bench(bench::Args),
    /// Stores the rules of a file, replacing those with the same id.
    Import {
        #[command(flatten)]
        target: Target,
        /// JSON with one rule or an array of them, or Sigma YAML with one document or several.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Does what is asked.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    match &args.action {
        Action::List { target, json } => {
            let found: Rules = target.client()?.get("/rules", &[])?;
            if *json {
                return output::json_lines(found.rules);
            }
            report(&found.diagnostics);
            let rows = found.rules.iter().map(|rule| {
                [
                    output::short(&rule.id, 48),
                    if rule.enabled { "on" } else { "off" }.to_owned(),
                    output::level(rule.meta.level).to_owned(),
                    output::short(&rule.source, 12),
                    output::short(&rule.system, 8),
                    output::short(&rule.meta.name, 64),
                ]
            });
            output::table(["ID", "STATE", "LEVEL", "SOURCE", "SYSTEM", "NAME"], rows)
        }
        Action::Check(args) => check::run(args),
        Action::Test(args) => test::run(args),
        Action::Coverage(args) => coverage::run(args),
        Action::Explain(args) => explain::run(args),
        Action::Bench(args) => bench::run(args),
        Action::Import { target, file } => {
            let text = ruleset::read(file)?;
            let document = if text.trim_start().starts_with(['[', '{']) {
                serde_json::from_str(&text)
                    .with_context(|| format!("`{}` is not JSON", file.display()))?
            } else {
                serde_json::Value::String(text)
            };
            let done: Imported = target.client()?.post("/rules/import", &document)?;
            report(&done.diagnostics);
            output::print(&format!(
                "{} rules imported, {} refused\n",
                done.imported, done.refused
            ))?;
            if done.refused > 0 {
                bail!(
                    "{} rules were refused; correct them and import the file again",
                    done.refused
                );
            }
            Ok(())
        }
    }
}

fn report(findings: &[Finding]) {
    for finding in findings {
        let Finding {
            severity,
            rule,
            path,
            reason,
            suggestion,
        } = finding;
        let suggestion = suggestion
            .as_ref()
            .map(|name| format!("; did you mean `{name}`?"));
        let text = format!(
            "{severity}: rule `{rule}`: {path}: {reason}{}",
            suggestion.unwrap_or_default()
        );
        eprintln!("{}", output::line(&text));
    }
}
