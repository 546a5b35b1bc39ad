//! The few environment variables worth keeping (M04).

use crate::text::append_printable;

/// In the order of the extract. The loader variables make a program run foreign code.
const KEPT: [&[u8]; 11] = [
    b"PWD",
    b"LOGNAME",
    b"USER",
    b"HOME",
    b"SUDO_USER",
    b"SSH_CLIENT",
    b"SSH_TTY",
    b"SSH_ORIGINAL_COMMAND",
    b"LD_PRELOAD",
    b"LD_LIBRARY_PATH",
    b"LD_AUDIT",
];

/// Longest value kept, in bytes.
const VALUE_MAX: usize = 1024;

/// `K=V` of the kept variables, separated by spaces.
pub(super) fn extract(block: &[u8]) -> String {
    let mut found: [Option<&[u8]>; KEPT.len()] = [None; KEPT.len()];
    for variable in block.split(|&byte| byte == 0) {
        // All names start with one of these: most variables are dismissed by one byte.
        if !matches!(variable.first(), Some(b'P' | b'L' | b'U' | b'H' | b'S')) {
            continue;
        }
        let Some(split) = variable.iter().position(|&byte| byte == b'=') else {
            continue;
        };
        let (name, value) = variable.split_at(split);
        if let Some(slot) = KEPT.iter().position(|kept| *kept == name) {
            // The first one is what getenv finds.
            if let Some(slot) = found.get_mut(slot).filter(|slot| slot.is_none()) {
                *slot = Some(value.get(1..).unwrap_or_default());
            }
        }
    }

    let mut text = String::new();
    for (name, value) in KEPT.iter().zip(found) {
        let Some(value) = value else { continue };
        if !text.is_empty() {
            text.push(' ');
        }
        append_printable(&mut text, name);
        text.push('=');
        append_printable(&mut text, value.get(..VALUE_MAX).unwrap_or(value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_variables_that_tell_who_and_where() {
        for (block, info) in [
            (
                &b"USER=ann\0TERM=xterm\0PWD=/srv/tomcat_x\0LOGNAME=ann\0"[..],
                "PWD=/srv/tomcat_x LOGNAME=ann USER=ann",
            ),
            (b"A=1\0", ""),
            (b"", ""),
            (b"PWD\0=\0PWDX=1\0", ""),
            (b"PWD=\0", "PWD="),
            (b"PWD=/a\0PWD=/b\0", "PWD=/a"),
            (b"SSH_CLIENT=192.0.2.1 5 22\0", "SSH_CLIENT=192.0.2.1 5 22"),
            (b"LD_PRELOAD=/tmp/\x01.so", "LD_PRELOAD=/tmp/\\x01.so"),
        ] {
            assert_eq!(extract(block), info);
        }
    }

    #[test]
    fn a_huge_value_is_cut() {
        let block = [b"PWD=/".as_slice(), &[b'x'; 5000]].concat();
        assert_eq!(extract(&block).len(), 4 + VALUE_MAX);
    }
}
