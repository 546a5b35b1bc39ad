//! `yinglong-agent doctor`: what this host offers, what is missing, and what to do about it.

use std::process::ExitCode;

use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table, presets};
use yinglong_agent::doctor::{self, Language, Report, State};

use super::{State as Folder, print};

/// Tries what the agent needs and undoes it again; changes nothing. Ends with status 0 when all is
/// well, 1 when the agent works with fallbacks, 2 when it cannot watch something.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    state: Folder,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// Language of the answers; that of LANG unless given.
    #[arg(long)]
    language: Option<Spoken>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Spoken {
    /// English.
    En,
    /// Chinese.
    Zh,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let language = match args.language {
        Some(Spoken::En) => Language::En,
        Some(Spoken::Zh) => Language::Zh,
        None => Language::from_environment(),
    };
    let report = doctor::examine(&args.state.state, language);
    if args.json {
        print(&format!("{}\n", serde_json::to_string(&report)?))?;
    } else {
        print(&text(&report))?;
    }
    Ok(ExitCode::from(report.exit_code()))
}

fn text(report: &Report) -> String {
    let english = report.language == Language::En;
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic);
    for check in &report.checks {
        let mut found = check.found.clone();
        let (costs, remedy) = match english {
            true => ("costs: ", "do: "),
            false => ("影响：", "措施："),
        };
        for (label, text) in [(costs, &check.cost), (remedy, &check.remedy)] {
            if !text.is_empty() {
                found.push_str(&format!("\n{label}{text}"));
            }
        }
        table.add_row([word(check.state, english), &check.title, &found]);
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let verdict = match (report.verdict, english) {
        (State::Ok | State::Unused, true) => "all is well",
        (State::Ok | State::Unused, false) => "一切正常",
        (State::Fallback, true) => {
            "everything is watched; the rows that say fallback tell what could be better"
        }
        (State::Fallback, false) => "全部可监控；标为“后备”的行说明可改进之处",
        (State::Missing, true) => "something cannot be watched: see the rows that say MISSING",
        (State::Missing, false) => "有内容无法监控，参见标为“缺失”的行",
    };
    text.push_str(&format!("\n{verdict}\n"));
    text
}

const fn word(state: State, english: bool) -> &'static str {
    match (state, english) {
        (State::Ok, true) => "ok",
        (State::Ok, false) => "正常",
        (State::Unused, true) => "unused",
        (State::Unused, false) => "未用",
        (State::Fallback, true) => "fallback",
        (State::Fallback, false) => "后备",
        (State::Missing, true) => "MISSING",
        (State::Missing, false) => "缺失",
    }
}
