//! Modifiers behind a field name: what they mean together, and which do not go together.

use crate::{
    Diagnostic,
    ir::{Comparison, Likeness, TimePart},
};

/// All modifiers, for suggestions.
const NAMES: [&str; 35] = [
    "all",
    "contains",
    "startswith",
    "endswith",
    "exists",
    "cased",
    "neq",
    "windash",
    "re",
    "i",
    "m",
    "s",
    "base64",
    "base64offset",
    "utf8",
    "utf16le",
    "utf16be",
    "utf16",
    "wide",
    "lt",
    "lte",
    "gt",
    "gte",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
    "cidr",
    "expand",
    "fieldref",
    "ignorecase",
    "multiline",
    "dotall",
];

/// What the modifiers of one item mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Modifiers {
    pub(crate) operator: Operator,
    /// Every value must match, not one of them.
    pub(crate) all: bool,
    pub(crate) cased: bool,
    /// The field is there and none of it matches.
    pub(crate) neq: bool,
    pub(crate) expand: bool,
    pub(crate) windash: bool,
    pub(crate) utf16: Option<Utf16>,
    pub(crate) base64: Option<Base64>,
}

/// How a value is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    Text(Likeness),
    Regex {
        ignore_case: bool,
        multi_line: bool,
        dot_all: bool,
    },
    Cidr,
    Compare(Comparison),
    Exists,
    FieldRef(Likeness),
    Time(TimePart, Comparison),
}

/// Done, or what does not go together.
type Outcome<T> = Result<T, Box<Diagnostic>>;

/// UTF-16 in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Utf16 {
    Little,
    Big,
    /// Little, after a byte order mark.
    Marked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Base64 {
    /// The value is encoded alone.
    Whole,
    /// The value is somewhere in what is encoded.
    Offset,
}

impl Default for Modifiers {
    fn default() -> Self {
        Self {
            operator: Operator::Text(Likeness::Equal),
            all: false,
            cased: false,
            neq: false,
            expand: false,
            windash: false,
            utf16: None,
            base64: None,
        }
    }
}

impl Modifiers {
    /// Reads modifiers in their order.
    ///
    /// # Errors
    /// One is not known, or does not go with those before it.
    pub(crate) fn parse<'n>(names: impl IntoIterator<Item = &'n str>) -> Outcome<Self> {
        let mut modifiers = Self::default();
        let mut seen: Vec<&str> = Vec::new();
        for name in names {
            if seen.contains(&name) {
                return Err(conflict(format!(
                    "`{name}` is written twice; write it once"
                )));
            }
            modifiers.add(name, &seen)?;
            seen.push(name);
        }
        modifiers.check()?;
        Ok(modifiers)
    }

    fn add(&mut self, name: &str, before: &[&str]) -> Outcome<()> {
        match name {
            "all" => self.all = true,
            "cased" => self.cased = true,
            "neq" => self.neq = true,
            "expand" => self.expand = true,
            "windash" => {
                if self.utf16.is_some() || self.base64.is_some() {
                    return Err(order(name, before));
                }
                self.windash = true;
            }
            "contains" => self.liken(Likeness::Contains, name, before)?,
            "startswith" => self.liken(Likeness::StartsWith, name, before)?,
            "endswith" => self.liken(Likeness::EndsWith, name, before)?,
            "re" => self.operate(
                Operator::Regex {
                    ignore_case: false,
                    multi_line: false,
                    dot_all: false,
                },
                name,
                before,
            )?,
            "i" | "ignorecase" | "m" | "multiline" | "s" | "dotall" => self.flag(name)?,
            "cidr" => self.operate(Operator::Cidr, name, before)?,
            "exists" => self.operate(Operator::Exists, name, before)?,
            "fieldref" => {
                if matches!(self.operator, Operator::Text(how) if how != Likeness::Equal) {
                    return Err(order(name, before));
                }
                self.operate(Operator::FieldRef(Likeness::Equal), name, before)?;
            }
            "lt" => self.compare(Comparison::Less, name, before)?,
            "lte" => self.compare(Comparison::LessOrEqual, name, before)?,
            "gt" => self.compare(Comparison::Greater, name, before)?,
            "gte" => self.compare(Comparison::GreaterOrEqual, name, before)?,
            "minute" => self.time(TimePart::Minute, name, before)?,
            "hour" => self.time(TimePart::Hour, name, before)?,
            "day" => self.time(TimePart::Day, name, before)?,
            "week" => self.time(TimePart::Week, name, before)?,
            "month" => self.time(TimePart::Month, name, before)?,
            "year" => self.time(TimePart::Year, name, before)?,
            "base64" => self.encode(Base64::Whole, name, before)?,
            "base64offset" => self.encode(Base64::Offset, name, before)?,
            // Values are UTF-8 already.
            "utf8" => self.widen(None, name, before)?,
            "utf16le" | "wide" => self.widen(Some(Utf16::Little), name, before)?,
            "utf16be" => self.widen(Some(Utf16::Big), name, before)?,
            "utf16" => self.widen(Some(Utf16::Marked), name, before)?,
            "not" => {
                return Err(conflict(
                    "`not` is no modifier; write `neq`, or `not` before the selection in the \
                     condition",
                ));
            }
            "" => return Err(conflict("nothing stands between two bars; drop one")),
            other => {
                let reason = format!("there is no modifier `{other}`");
                return Err(Box::new(conflict(reason).suggest(other, NAMES)));
            }
        }
        Ok(())
    }

    fn liken(&mut self, how: Likeness, name: &str, before: &[&str]) -> Outcome<()> {
        match &mut self.operator {
            Operator::Text(likeness) | Operator::FieldRef(likeness)
                if *likeness == Likeness::Equal =>
            {
                *likeness = how;
                Ok(())
            }
            _ => Err(together(name, before)),
        }
    }

    fn operate(&mut self, operator: Operator, name: &str, before: &[&str]) -> Outcome<()> {
        if self.operator != Operator::Text(Likeness::Equal) {
            return Err(together(name, before));
        }
        self.operator = operator;
        Ok(())
    }

    fn compare(&mut self, comparison: Comparison, name: &str, before: &[&str]) -> Outcome<()> {
        if let Operator::Time(_, how) = &mut self.operator
            && *how == Comparison::Equal
        {
            *how = comparison;
            return Ok(());
        }
        self.operate(Operator::Compare(comparison), name, before)
    }

    fn time(&mut self, part: TimePart, name: &str, before: &[&str]) -> Outcome<()> {
        if matches!(self.operator, Operator::Compare(_)) {
            return Err(order(name, before));
        }
        self.operate(Operator::Time(part, Comparison::Equal), name, before)
    }

    fn flag(&mut self, name: &str) -> Outcome<()> {
        let Operator::Regex {
            ignore_case,
            multi_line,
            dot_all,
        } = &mut self.operator
        else {
            let reason = format!("`{name}` is a flag of a regular expression; write `re|{name}`");
            return Err(with(conflict(reason), format!("re|{name}")));
        };
        match name {
            "i" | "ignorecase" => *ignore_case = true,
            "m" | "multiline" => *multi_line = true,
            _ => *dot_all = true,
        }
        Ok(())
    }

    fn encode(&mut self, base64: Base64, name: &str, before: &[&str]) -> Outcome<()> {
        if self.base64.is_some() {
            return Err(together(name, before));
        }
        // What is encoded afterwards would be the wildcards too.
        if matches!(self.operator, Operator::Text(how) if how != Likeness::Equal) {
            return Err(order(name, before));
        }
        self.base64 = Some(base64);
        Ok(())
    }

    fn widen(&mut self, utf16: Option<Utf16>, name: &str, before: &[&str]) -> Outcome<()> {
        if self.utf16.is_some() {
            return Err(together(name, before));
        }
        if self.base64.is_some() {
            return Err(order(name, before));
        }
        self.utf16 = utf16;
        Ok(())
    }

    /// Rules that do not depend on the order.
    fn check(&mut self) -> Outcome<()> {
        let is_text = matches!(self.operator, Operator::Text(_));
        let transformed = [
            (self.windash, "windash"),
            (self.utf16.is_some(), "utf16"),
            (self.base64.is_some(), "base64"),
            (self.expand && self.operator != Operator::Cidr, "expand"),
        ];
        if !is_text && let Some((_, name)) = transformed.iter().find(|(set, _)| *set) {
            return Err(conflict(format!(
                "`{name}` changes texts, and this item compares no text; drop one of them"
            )));
        }
        if self.cased
            && matches!(
                self.operator,
                Operator::Regex {
                    ignore_case: true,
                    ..
                }
            )
        {
            return Err(conflict(
                "`cased` and `i` say the opposite; drop one of them",
            ));
        }
        if self.operator == Operator::Exists && (self.neq || self.all) {
            return Err(with(
                conflict(
                    "`exists` stands alone; write `exists: false` for a field that is not there",
                ),
                "exists".to_owned(),
            ));
        }
        if self.base64 == Some(Base64::Offset) {
            match self.operator {
                Operator::Text(Likeness::Equal | Likeness::Contains) => {
                    self.operator = Operator::Text(Likeness::Contains);
                }
                _ => {
                    return Err(with(
                        conflict("`base64offset` is for a text anywhere in what was encoded"),
                        "base64offset|contains".to_owned(),
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether a value may become other texts than the one written.
    pub(crate) fn transforms(&self) -> bool {
        self.windash || self.utf16.is_some() || self.base64.is_some() || self.expand
    }
}

fn conflict(reason: impl Into<String>) -> Box<Diagnostic> {
    Box::new(Diagnostic::error("", reason))
}

fn with(mut diagnostic: Box<Diagnostic>, suggestion: String) -> Box<Diagnostic> {
    diagnostic.suggestion = Some(suggestion);
    diagnostic
}

fn together(name: &str, before: &[&str]) -> Box<Diagnostic> {
    conflict(format!(
        "`{name}` does not go with `{}`: a value is compared in one way; use two selections",
        before.join("|")
    ))
}

/// The modifier has to stand before the last one.
fn order(name: &str, before: &[&str]) -> Box<Diagnostic> {
    let mut better: Vec<&str> = before.to_vec();
    let at = better.len().saturating_sub(1);
    better.insert(at, name);
    let last = before.last().copied().unwrap_or_default();
    with(
        conflict(format!(
            "modifiers apply in their order, and `{name}` after `{last}` means nothing"
        )),
        better.join("|"),
    )
}
