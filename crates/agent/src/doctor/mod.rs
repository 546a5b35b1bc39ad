//! What this host offers the agent, what is missing, what that costs, and how to get it.
//!
//! - **Guarantees**: what decides (whether a stream can be watched, whether a program loads) is tried
//!   for real and undone; nothing is changed on the host. Every check answers on every host.
//! - **Verdict**: [`State::Missing`] is said of streams only, when nothing at all can watch them; a
//!   missing part that leaves a weaker way is [`State::Fallback`].
//! - **Not here**: repairs; the server and the line to it.

mod host;
mod kernel;
mod streams;
mod unit;

use std::path::Path;

use serde::Serialize;

/// Language of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    En,
    /// Chinese.
    Zh,
}

impl Language {
    /// That of `LC_ALL`, `LC_MESSAGES` or `LANG`, whichever is set first.
    pub fn from_environment() -> Self {
        let variables = ["LC_ALL", "LC_MESSAGES", "LANG"];
        let set = variables
            .into_iter()
            .filter_map(|name| std::env::var(name).ok())
            .find(|value| !value.is_empty());
        Self::from_locale(set.as_deref().unwrap_or_default())
    }

    fn from_locale(locale: &str) -> Self {
        match locale.starts_with("zh") {
            true => Self::Zh,
            false => Self::En,
        }
    }
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Absent, and this version does without at no cost.
    Unused,
    /// Absent; the agent works less well.
    Fallback,
    /// Absent; something cannot be watched.
    Missing,
}

/// The same in both languages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Text {
    en: String,
    zh: String,
}

impl Text {
    fn of(self, language: Language) -> String {
        match language {
            Language::En => self.en,
            Language::Zh => self.zh,
        }
    }
}

/// Both languages of a text.
fn say(en: impl Into<String>, zh: impl Into<String>) -> Text {
    Text {
        en: en.into(),
        zh: zh.into(),
    }
}

/// A text that is the same in both: names, numbers, what the kernel answered.
fn plain(text: impl Into<String>) -> Text {
    let text = text.into();
    say(text.clone(), text)
}

/// A check before a language is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    id: &'static str,
    title: Text,
    state: State,
    found: Text,
    cost: Text,
    remedy: Text,
}

impl Check {
    fn ok(id: &'static str, title: Text, found: Text) -> Self {
        Self {
            id,
            title,
            state: State::Ok,
            found,
            cost: Text::default(),
            remedy: Text::default(),
        }
    }

    fn but(mut self, state: State, cost: Text, remedy: Text) -> Self {
        self.state = state;
        self.cost = cost;
        self.remedy = remedy;
        self
    }
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name.
    pub id: &'static str,
    /// How it came out.
    pub state: State,
    /// What was looked at.
    pub title: String,
    /// What was found.
    pub found: String,
    /// What it costs the user; empty when nothing.
    pub cost: String,
    /// How to get it; empty when nothing is to be done.
    pub remedy: String,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The worst of the states.
    pub verdict: State,
    /// Language of the texts.
    pub language: Language,
    /// Version of the agent.
    pub agent_version: &'static str,
    /// In the order of the table.
    pub checks: Vec<Finding>,
}

impl Report {
    /// Status to end with: 0 all well, 1 works with fallbacks, 2 cannot watch something.
    pub const fn exit_code(&self) -> u8 {
        match self.verdict {
            State::Ok | State::Unused => 0,
            State::Fallback => 1,
            State::Missing => 2,
        }
    }
}

/// Examines this host. `state` is the agent's folder.
pub fn examine(state: &Path, language: Language) -> Report {
    let mut checks = streams::checks();
    checks.extend(kernel::checks());
    checks.extend(host::checks(state));
    checks.push(unit::check());
    let verdict = checks.iter().map(|check| check.state).max();
    let findings = checks.into_iter().map(|check| Finding {
        id: check.id,
        state: check.state,
        title: check.title.of(language),
        found: check.found.of(language),
        cost: check.cost.of(language),
        remedy: check.remedy.of(language),
    });
    Report {
        verdict: verdict.unwrap_or(State::Ok),
        language,
        agent_version: env!("CARGO_PKG_VERSION"),
        checks: findings.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_language_follows_the_locale() {
        assert_eq!(Language::from_locale("zh_CN.UTF-8"), Language::Zh);
        assert_eq!(Language::from_locale("en_US.UTF-8"), Language::En);
        assert_eq!(Language::from_locale(""), Language::En);
    }

    #[test]
    fn every_check_answers_in_both_languages_and_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let english = examine(folder.path(), Language::En);
        let chinese = examine(folder.path(), Language::Zh);
        let ids = |report: &Report| report.checks.iter().map(|c| c.id).collect::<Vec<_>>();
        assert_eq!(ids(&english), ids(&chinese));
        for check in english.checks.iter().chain(&chinese.checks) {
            assert!(
                !check.title.is_empty() && !check.found.is_empty(),
                "{check:?}"
            );
            let silent = check.cost.is_empty() || check.remedy.is_empty();
            assert!(check.state <= State::Unused || !silent, "{check:?}");
        }
        let mut unique = ids(&english);
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), english.checks.len());
    }
}
