//! `yinglong rules import`: rules of files and folders, in both languages, to a server.
//!
//! All of them go in one request: correlations and filters may be in other files than what they are
//! about, and the server checks them together.

use std::path::PathBuf;

use anyhow::bail;
use yinglong_api::routes::rules::{Finding, Imported};
use yinglong_rules::{Diagnostic, Rule};

use crate::{client::Target, output, ruleset};

/// Stores the rules of files, replacing those with the same id.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    target: Target,
    /// JSON with one rule or an array of them, or Sigma YAML; folders are read with everything below
    /// them.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Rules of files.
pub(crate) struct Read {
    pub(crate) rules: Vec<Rule>,
    /// What is wrong with them.
    pub(crate) findings: Vec<Diagnostic>,
    /// Rules that are not among them.
    pub(crate) refused: usize,
}

/// Does what is asked.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let client = args.target.client()?;
    let Read {
        rules,
        findings,
        mut refused,
    } = read(&args.files)?;
    for finding in &findings {
        eprintln!("{}", output::line(&finding.to_string()));
    }
    if rules.is_empty() {
        bail!("there is no rule to import");
    }
    let done: Imported = client.post("/rules/import", &rules)?;
    // What was said of a file is not said again.
    let said = |finding: &&Finding| {
        !findings
            .iter()
            .any(|known| known.rule == finding.rule && known.reason == finding.reason)
    };
    let fresh: Vec<Finding> = done.diagnostics.iter().filter(said).cloned().collect();
    super::report(&fresh);
    refused += done.refused;
    output::print(&format!(
        "{} rules imported, {refused} refused\n",
        done.imported
    ))?;
    if refused > 0 {
        bail!("{refused} rules were refused; correct them and import the file again");
    }
    Ok(())
}

/// Reads the rules of files and folders.
///
/// # Errors
/// A file or folder cannot be read.
pub(crate) fn read(named: &[PathBuf]) -> anyhow::Result<Read> {
    let mut read = Read {
        rules: Vec::new(),
        findings: Vec::new(),
        refused: 0,
    };
    for file in ruleset::files(named, &ruleset::is_rule)? {
        let text = ruleset::read(&file)?;
        let (rules, mut findings) = yinglong_rules::read(&text, &file.display().to_string());
        let mut broken: Vec<&str> = Vec::new();
        for finding in &findings {
            let element = finding.path.split_once(']').map_or("", |(at, _)| at);
            let which = if finding.rule.is_empty() {
                element
            } else {
                &finding.rule
            };
            if finding.is_error() && !broken.contains(&which) {
                broken.push(which);
            }
        }
        read.refused += broken.len();
        for finding in findings.iter_mut().filter(|f| f.place.is_none()) {
            finding.path = format!("{}: {}", file.display(), finding.path);
        }
        read.rules.extend(rules);
        read.findings.append(&mut findings);
    }
    Ok(read)
}
