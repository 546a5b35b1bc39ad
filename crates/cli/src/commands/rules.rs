//! `yinglong rules`: what is detected.

mod bench;
mod check;
mod coverage;
mod explain;
mod export;
mod import;
mod test;

use yinglong_api::routes::rules::{Finding, Rules};

use crate::{client::Target, output};

/// Lists, checks, imports and exports rules.
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
    /// Stores the rules of files, replacing those with the same id.
    Import(import::Args),
    /// Writes the rules of a server to files that can be imported.
    Export(export::Args),
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
        Action::Import(args) => import::run(args),
        Action::Export(args) => export::run(args),
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
