//! Ways to observe executions, best first, and what each costs. A host uses the first that works.

use crate::host::SensorStatus;

/// One way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// 1 is the best; never given to another source.
    pub number: u8,
    /// Name of the source in [`SensorStatus::source`].
    pub source: &'static str,
    /// What is missing on this rung, in plain words; empty when nothing is.
    pub consequence: &'static str,
    /// The same in Chinese.
    pub consequence_zh: &'static str,
}

/// The ladder of the stream `process`.
pub const PROCESS: [Rung; 5] = [
    Rung {
        number: 1,
        source: "ebpf",
        consequence: "",
        consequence_zh: "",
    },
    Rung {
        number: 2,
        source: "ebpf-btf-file",
        consequence: "",
        consequence_zh: "",
    },
    Rung {
        number: 3,
        source: "audit",
        consequence: "every execution is seen, but short-lived processes come without environment and \
                      container, ends of processes are not seen, and each execution costs more",
        consequence_zh: "可以看到每次执行，但短生命周期进程缺少环境变量与容器信息，看不到进程结束，且每次执行的开销更大",
    },
    Rung {
        number: 4,
        source: "proc-connector",
        consequence: "short-lived processes come without command line, and losses are estimates",
        consequence_zh: "短生命周期进程缺少命令行，丢失数量只能估计",
    },
    Rung {
        number: 5,
        source: "proc-poll",
        consequence: "short-lived processes are missed; how many processes came and went is an estimate",
        consequence_zh: "会漏掉短生命周期进程，漏掉的数量只能估计",
    },
];

impl SensorStatus {
    /// The rung it stands on; `None` when it does not run, or its stream has no ladder.
    pub fn rung(&self) -> Option<&'static Rung> {
        let ladder = match self.stream.as_str() {
            "process" if self.running => &PROCESS,
            _ => return None,
        };
        ladder.iter().find(|rung| rung.source == self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_sensor_stands_on_the_rung_of_its_source() {
        let status = |stream: &str, source: &str, running| SensorStatus {
            stream: stream.into(),
            source: source.into(),
            running,
            reason: String::new(),
        };
        let number = |status: SensorStatus| status.rung().map(|rung| rung.number);
        for (index, rung) in PROCESS.iter().enumerate() {
            assert_eq!(usize::from(rung.number), index + 1);
            assert_eq!(
                number(status("process", rung.source, true)),
                Some(rung.number)
            );
            assert_eq!(rung.consequence.is_empty(), rung.consequence_zh.is_empty());
        }
        assert_eq!(number(status("process", "none", true)), None);
        assert_eq!(number(status("process", "ebpf", false)), None);
        assert_eq!(number(status("file", "ebpf", true)), None);
    }
}
