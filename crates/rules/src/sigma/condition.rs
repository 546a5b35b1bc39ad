//! The condition grammar: `and`, `or`, `not`, parentheses, `1 of`, `all of`, `n of`.
//!
//! One pass over the words; recursion only for parentheses and `not`, which are bounded.

use crate::Diagnostic;

/// Parentheses and `not` within each other.
const DEPTH: usize = 64;
/// Names and quantifiers in one condition; public rules stay below twenty.
const TERMS: usize = 1_000;
/// Selections that the patterns of one condition may stand for, together.
const CHOSEN: usize = 10_000;
/// Ways to choose `n of` several selections that are written out.
const CHOICES: usize = 256;

/// A condition over selections, by their place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    One(usize),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

/// A finding at a place in the condition.
pub(crate) struct Problem {
    /// First byte and the byte after the last, in the condition.
    pub(crate) at: (usize, usize),
    pub(crate) diagnostic: Diagnostic,
}

/// What a condition is over, for messages: `selection` or `rule`.
#[derive(Clone, Copy)]
pub(crate) struct Names<'n> {
    pub(crate) what: &'static str,
    pub(crate) names: &'n [&'n str],
}

impl Names<'_> {
    fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| *known == name)
    }
}

/// Parses a condition. `used` is set for each name it refers to.
///
/// # Errors
/// It is not a condition, names something that is not there, or is too deep or too long.
pub(crate) fn parse(
    text: &str,
    names: Names<'_>,
    used: &mut [bool],
) -> Result<Condition, Box<Problem>> {
    let mut parser = Parser {
        text,
        tokens: tokens(text),
        at: 0,
        depth: 0,
        terms: 0,
        chosen: 0,
        names,
        used,
    };
    let condition = parser.any()?;
    match parser.peek() {
        None => Ok(condition),
        Some(Token::Close) => Err(parser.problem("this `)` closes nothing; drop it")),
        Some(Token::Bar) => Err(parser.aggregation()),
        Some(Token::Open | Token::Word(_)) => Err(parser
            .problem("two parts follow each other without `and` or `or`; say how they are joined")),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'t> {
    Open,
    Close,
    Bar,
    Word(&'t str),
}

fn tokens(text: &str) -> Vec<(usize, Token<'_>)> {
    let mut tokens = Vec::new();
    let mut start = None;
    let word = |from: Option<usize>, to: usize| {
        let from = from?;
        Some((from, Token::Word(text.get(from..to)?)))
    };
    for (at, c) in text.char_indices() {
        let token = match c {
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            '|' => Some(Token::Bar),
            _ if c.is_whitespace() => None,
            _ => {
                start.get_or_insert(at);
                continue;
            }
        };
        tokens.extend(word(start.take(), at));
        tokens.extend(token.map(|token| (at, token)));
    }
    tokens.extend(word(start, text.len()));
    tokens
}

struct Parser<'t, 'n> {
    text: &'t str,
    tokens: Vec<(usize, Token<'t>)>,
    at: usize,
    depth: usize,
    terms: usize,
    chosen: usize,
    names: Names<'n>,
    used: &'n mut [bool],
}

impl<'t> Parser<'t, '_> {
    fn peek(&self) -> Option<Token<'t>> {
        self.tokens.get(self.at).map(|(_, token)| *token)
    }

    fn word(&self, ahead: usize) -> Option<&'t str> {
        match self.tokens.get(self.at + ahead) {
            Some((_, Token::Word(word))) => Some(word),
            _ => None,
        }
    }

    fn take_word(&mut self, expected: &str) -> bool {
        let is = self
            .word(0)
            .is_some_and(|word| word.eq_ignore_ascii_case(expected));
        self.at += usize::from(is);
        is
    }

    fn any(&mut self) -> Result<Condition, Box<Problem>> {
        let mut parts = vec![self.all()?];
        while self.take_word("or") {
            parts.push(self.all()?);
        }
        Ok(joined(parts, Condition::Any))
    }

    fn all(&mut self) -> Result<Condition, Box<Problem>> {
        let mut parts = vec![self.not()?];
        while self.take_word("and") {
            parts.push(self.not()?);
        }
        Ok(joined(parts, Condition::All))
    }

    fn not(&mut self) -> Result<Condition, Box<Problem>> {
        if self.take_word("not") {
            self.deeper()?;
            let inner = self.not()?;
            self.depth -= 1;
            return Ok(Condition::Not(Box::new(inner)));
        }
        match self.peek() {
            Some(Token::Open) => {
                self.deeper()?;
                self.at += 1;
                let inner = self.any()?;
                match self.peek() {
                    Some(Token::Close) => self.at += 1,
                    Some(Token::Bar) => return Err(self.aggregation()),
                    Some(_) => {
                        return Err(self.problem("`and`, `or` or `)` is needed here"));
                    }
                    None => return Err(self.problem("a `)` is missing at the end")),
                }
                self.depth -= 1;
                Ok(inner)
            }
            Some(Token::Word(word)) => self.term(word),
            Some(Token::Close) => Err(self.problem("nothing stands before this `)`")),
            Some(Token::Bar) => Err(self.aggregation()),
            None => Err(self.problem(format!("a {} is needed here", self.names.what))),
        }
    }

    fn deeper(&mut self) -> Result<(), Box<Problem>> {
        self.depth += 1;
        if self.depth > DEPTH {
            let reason = format!(
                "parentheses and `not` are more than {DEPTH} within each other; flatten them"
            );
            return Err(self.problem(reason));
        }
        Ok(())
    }

    fn term(&mut self, word: &'t str) -> Result<Condition, Box<Problem>> {
        self.terms += 1;
        if self.terms > TERMS {
            return Err(self.problem(format!(
                "more than {TERMS} parts; use `1 of` or `all of` with a pattern"
            )));
        }
        let is_of = self
            .word(1)
            .is_some_and(|word| word.eq_ignore_ascii_case("of"));
        if is_of && let Some(quantifier) = quantifier(word) {
            return self.quantified(quantifier);
        }
        if is_of {
            return Err(self.problem(format!(
                "`{word}` is no quantity; write `1 of`, `all of` or another number"
            )));
        }
        if let Some(place) = self.names.find(word) {
            self.mark(place);
            self.at += 1;
            return Ok(Condition::One(place));
        }
        if word.eq_ignore_ascii_case("near") {
            return Err(self.problem(
                "`near` is no longer part of Sigma; write a correlation of type `temporal`",
            ));
        }
        if word.contains('*') {
            let mut problem = self.problem(format!(
                "`{word}` is a pattern; say how many of them must hold"
            ));
            problem.diagnostic.suggestion = Some(format!("1 of {word}"));
            return Err(problem);
        }
        let what = self.names.what;
        let mut problem = self.problem(format!("there is no {what} `{word}`"));
        problem.diagnostic = problem
            .diagnostic
            .suggest(word, self.names.names.iter().copied());
        Err(problem)
    }

    fn quantified(&mut self, quantifier: Quantifier) -> Result<Condition, Box<Problem>> {
        self.at += 2;
        let Some(pattern) = self.word(0) else {
            return Err(self.problem("`them`, a name or a pattern is needed after `of`"));
        };
        let them = pattern.eq_ignore_ascii_case("them");
        let chosen: Vec<usize> = self
            .names
            .names
            .iter()
            .enumerate()
            .filter(|(_, name)| {
                if them {
                    !name.starts_with('_')
                } else {
                    is_like(name, pattern)
                }
            })
            .map(|(place, _)| place)
            .collect();
        if chosen.is_empty() {
            let what = self.names.what;
            let mut problem = self.problem(format!("no {what} is named like `{pattern}`"));
            problem.diagnostic = problem
                .diagnostic
                .suggest(pattern.trim_matches('*'), self.names.names.iter().copied());
            return Err(problem);
        }
        self.chosen += chosen.len();
        if self.chosen > CHOSEN {
            let reason = format!("patterns stand for more than {CHOSEN} selections; name fewer");
            return Err(self.problem(reason));
        }
        let needed = match quantifier {
            Quantifier::All => chosen.len(),
            Quantifier::Number(number) => number,
        };
        if needed > chosen.len() {
            return Err(self.problem(format!(
                "`{pattern}` stands for {} {}s, so {needed} of them never hold",
                chosen.len(),
                self.names.what
            )));
        }
        let Some(condition) = at_least(needed, &chosen) else {
            return Err(self.problem(format!(
                "{needed} of {} can be chosen in more than {CHOICES} ways; write them out, or use \
                 a correlation",
                chosen.len()
            )));
        };
        for place in chosen {
            self.mark(place);
        }
        self.at += 1;
        Ok(condition)
    }

    fn mark(&mut self, place: usize) {
        if let Some(used) = self.used.get_mut(place) {
            *used = true;
        }
    }

    fn aggregation(&self) -> Box<Problem> {
        let function = self.word(1).unwrap_or_default().to_ascii_lowercase();
        let (written, kind) = match function.as_str() {
            "near" => ("near", "temporal"),
            "count" if matches!(self.tokens.get(self.at + 3), Some((_, Token::Word(_)))) => {
                ("count(field)", "value_count")
            }
            "sum" => ("sum", "value_sum"),
            "avg" => ("avg", "value_avg"),
            _ => ("count", "event_count"),
        };
        let mut problem = self.problem(format!(
            "aggregations behind a bar are no longer part of Sigma; write a correlation of type \
             `{kind}` over this rule instead of `| {written}`"
        ));
        problem.diagnostic.suggestion = Some(format!("correlation: {{type: {kind}}}"));
        problem
    }

    fn problem(&self, reason: impl Into<String>) -> Box<Problem> {
        let at = match self.tokens.get(self.at) {
            Some((start, Token::Word(word))) => (*start, start + word.len()),
            Some((start, _)) => (*start, start + 1),
            None => (self.text.len(), self.text.len()),
        };
        Box::new(Problem {
            at,
            diagnostic: Diagnostic::error("", reason),
        })
    }
}

enum Quantifier {
    All,
    Number(usize),
}

fn quantifier(word: &str) -> Option<Quantifier> {
    if word.eq_ignore_ascii_case("all") {
        return Some(Quantifier::All);
    }
    if word.eq_ignore_ascii_case("any") {
        return Some(Quantifier::Number(1));
    }
    match word.parse() {
        Ok(0) | Err(_) => None,
        Ok(number) => Some(Quantifier::Number(number)),
    }
}

fn joined(mut parts: Vec<Condition>, join: fn(Vec<Condition>) -> Condition) -> Condition {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            join(parts)
        }
    }
}

/// At least so many of them; `None` when there are too many ways.
fn at_least(needed: usize, of: &[usize]) -> Option<Condition> {
    let one = |place: &usize| Condition::One(*place);
    if needed == 1 {
        return Some(joined(of.iter().map(one).collect(), Condition::Any));
    }
    if needed == of.len() {
        return Some(joined(of.iter().map(one).collect(), Condition::All));
    }
    let mut ways = Vec::new();
    // Places of the chosen ones, in order; the next way moves the last that can move.
    let mut chosen: Vec<usize> = (0..needed).collect();
    loop {
        if ways.len() == CHOICES {
            return None;
        }
        let parts = chosen.iter().filter_map(|index| of.get(*index)).map(one);
        ways.push(joined(parts.collect(), Condition::All));
        let movable = chosen
            .iter()
            .enumerate()
            .rposition(|(place, index)| *index < of.len() - needed + place);
        let Some(place) = movable else {
            return Some(joined(ways, Condition::Any));
        };
        let next = chosen.get(place).map_or(0, |index| index + 1);
        for (moved, index) in (next..).zip(chosen.iter_mut().skip(place)) {
            *index = moved;
        }
    }
}

/// Whether a name is like a pattern with `*` for any characters.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let mut last = None;
    for part in parts {
        if let Some(before) = last.replace(part) {
            match rest.find(before) {
                Some(at) => rest = rest.get(at + before.len()..).unwrap_or_default(),
                None => return false,
            }
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => rest.is_empty(),
    }
}
