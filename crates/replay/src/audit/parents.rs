//! What is remembered of processes, for those that they start.

use std::collections::HashMap;

use crate::limits;

/// Executable and command line of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) exe: String,
    pub(crate) command: String,
}

/// Processes by host and id. The oldest half is forgotten when there are too many.
#[derive(Debug, Default)]
pub(crate) struct Parents {
    young: HashMap<(String, u32), Known>,
    old: HashMap<(String, u32), Known>,
}

impl Parents {
    pub(crate) fn find(&self, node: &str, pid: u32) -> Option<&Known> {
        let key = (node.to_owned(), pid);
        self.young.get(&key).or_else(|| self.old.get(&key))
    }

    pub(crate) fn remember(&mut self, node: &str, pid: u32, known: Known) {
        if known.command.len() + known.exe.len() > limits::PARENT_COMMAND_BYTES {
            let key = (node.to_owned(), pid);
            // The id has another meaning now.
            self.young.remove(&key);
            self.old.remove(&key);
            return;
        }
        if self.young.len() >= limits::PARENTS {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert((node.to_owned(), pid), known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(command: &str) -> Known {
        Known {
            exe: "/bin/x".into(),
            command: command.into(),
        }
    }

    #[test]
    fn the_oldest_are_forgotten() {
        let mut parents = Parents::default();
        let last = u32::try_from(limits::PARENTS).unwrap() * 3;
        for pid in 0..=last {
            parents.remember("", pid, known("x"));
        }
        assert_eq!(parents.find("", 0), None);
        assert_eq!(parents.find("", last), Some(&known("x")));
        assert_eq!(parents.find("other", last), None);
    }

    #[test]
    fn a_process_too_long_to_remember_replaces_the_one_before() {
        let mut parents = Parents::default();
        parents.remember("", 7, known("x"));
        parents.remember("", 7, known(&"y".repeat(limits::PARENT_COMMAND_BYTES)));
        assert_eq!(parents.find("", 7), None);
    }
}
