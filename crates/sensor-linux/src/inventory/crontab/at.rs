//! Jobs of at(1), as its daemon keeps them: one script per job.

use yinglong_model::Timestamp;

/// When a job is due, from a name like `a0000501d6b2a5`: queue, number, minutes since 1970.
pub(super) fn due(name: &str) -> Option<Timestamp> {
    let (queue, rest) = name.split_at_checked(1)?;
    let (number, minutes) = rest.split_at_checked(5)?;
    let hexadecimal = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // `=` is the queue of a job that runs right now.
    let known = (queue == "=" || queue.bytes().all(|byte| byte.is_ascii_alphabetic()))
        && hexadecimal(number)
        && minutes.len() == 8
        && hexadecimal(minutes);
    let minutes = i64::from_str_radix(minutes, 16).ok()?;
    known.then(|| Timestamp::from_secs(minutes * 60))
}

/// User id from the head of the script: `# atrun uid=1000 gid=1000`.
pub(super) fn owner(script: &str) -> Option<u32> {
    script
        .lines()
        .find_map(|line| line.strip_prefix("# atrun uid="))?
        .split_ascii_whitespace()
        .next()?
        .parse()
        .ok()
}

/// What the person asked for: the script without the shell and environment at(1) saved before it.
pub(super) fn command(script: &str) -> String {
    let mut lines = script.lines().peekable();
    while let Some(line) = lines.peek() {
        let saved = line.starts_with('#')
            || line.starts_with("umask ")
            || line.contains("; export ")
            || line.trim().is_empty();
        if !saved {
            break;
        }
        lines.next();
    }
    if lines.peek().is_some_and(|line| line.starts_with("cd ")) {
        for line in lines.by_ref() {
            if line.trim_end() == "}" {
                break;
            }
        }
    }
    let mut wanted: Vec<&str> = lines
        .map(str::trim_end)
        .filter(|line| !line.is_empty())
        .collect();
    // Some builds hand the commands to the shell as a here-document.
    if let Some((_, delimiter)) = wanted.first().and_then(|line| line.split_once("<< '")) {
        let delimiter = delimiter.trim_end_matches('\'');
        wanted = wanted
            .iter()
            .skip(1)
            .take_while(|line| **line != delimiter)
            .copied()
            .collect();
    }
    wanted.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "#!/bin/sh\n# atrun uid=1001 gid=1001\n# mail probe1 0\numask 22\n\
        PATH=/bin; export PATH\ncd /home/probe1 || {\n\t echo 'Execution directory inaccessible' >&2\n\t exit 1\n}\n";

    #[test]
    fn the_name_tells_when_and_the_script_tells_who_and_what_a05() {
        assert_eq!(
            due("a0000501d6b2a5").unwrap().to_string(),
            Timestamp::from_secs(0x01d6_b2a5 * 60).to_string()
        );
        for name in [
            "",
            "a",
            ".SEQ",
            "spool",
            "a0000501d6b2a",
            "a0000501d6b2a5x",
            "éé0000501d6b2a",
        ] {
            assert_eq!(due(name), None, "{name}");
        }
        let plain = format!("{HEAD}/opt/x --y\nid\n");
        assert_eq!(owner(&plain), Some(1001));
        assert_eq!(command(&plain), "/opt/x --y; id");
        let document = format!("{HEAD}${{SHELL:-/bin/sh}} << 'marcin0'\n/opt/x\n\nmarcin0\n");
        assert_eq!(command(&document), "/opt/x");
    }

    proptest! {
        #[test]
        fn no_job_can_stop_the_collector_a17(name in any::<String>(), script in any::<String>()) {
            let _ = (due(&name), owner(&script), command(&script));
        }
    }
}
