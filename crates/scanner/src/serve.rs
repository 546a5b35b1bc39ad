//! Questions in, answers out.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write},
    thread,
    time::Duration,
};

use yinglong_model::scan::{Answer, Line, Request};

use crate::{
    inbox::Inbox,
    limits,
    look::{Limits, Look},
    rules::Loaded,
};

/// Longest question: a path and some.
const LONGEST_LINE: u64 = 64 << 10;
/// Longest rest after a file.
const LONGEST_REST: Duration = Duration::from_secs(5);

/// Answers until the questions end. After each file it rests so long that all in all it takes
/// `percent` of one processor.
///
/// # Errors
/// Nobody can be answered any more.
pub fn serve(
    loaded: &Loaded,
    limits: Limits,
    percent: u8,
    questions: Inbox,
    mut answers: impl Write,
) -> io::Result<()> {
    let ready = Line::Ready {
        rules: loaded.count,
        broken: loaded.broken.clone(),
    };
    say(&mut answers, &ready)?;
    let mut questions = BufReader::new(questions);
    let mut look = Look::new(&loaded.rules, limits);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = questions
            .by_ref()
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_slice::<Request>(&line) {
            Ok(request) => {
                limits::allow_one_file(limits.time);
                let handed = request.handed.then(|| questions.get_mut().take());
                look.at(&request, handed.flatten())
            }
            Err(error) => {
                tracing::warn!(%error, "a question makes no sense");
                Answer {
                    skipped: Some("malformed".to_owned()),
                    ..Answer::default()
                }
            }
        };
        let worked = Duration::from_micros(answer.micros);
        say(&mut answers, &Line::Answer(answer))?;
        thread::sleep(rest(worked, percent));
    }
}

fn say(answers: &mut impl Write, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    answers.write_all(&text)?;
    answers.flush()
}

/// How long to rest after work.
fn rest(worked: Duration, percent: u8) -> Duration {
    let percent = u32::from(percent.clamp(1, 100));
    (worked * (100 - percent) / percent).min(LONGEST_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_of_a_processor_is_a_rest_of_three_times_the_work() {
        let worked = Duration::from_millis(20);
        assert_eq!(rest(worked, 25), Duration::from_millis(60));
        assert_eq!(rest(worked, 100), Duration::ZERO);
        assert_eq!(rest(Duration::from_secs(3600), 1), LONGEST_REST);
    }
}
