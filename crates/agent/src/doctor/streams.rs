//! The streams: each sensor is opened as the agent opens it, and closed again.

use yinglong_model::host::SensorStatus;
use yinglong_sensor::{Error, Sensor};
use yinglong_sensor_linux::{
    accounts::Accounts, dns, files, logins, network, process, syscall, tree::Tree,
};

use super::{Check, State, Text, plain, say};
use crate::sensors::chain;

pub(super) fn checks() -> Vec<Check> {
    let (tree, accounts) = (Tree::default, Accounts::default);
    let process = process::open(tree(), accounts(), process::Options::default());
    let network = network::open(tree(), accounts(), network::Options::from_env());
    let files = files::open(
        tree(),
        accounts(),
        files::WebRoots::default(),
        files::Options::default(),
    );
    let logins = logins::open(logins::Options::of_host());
    let dns = dns::open(
        tree(),
        accounts(),
        dns::Options {
            source: dns::Source::from_env(),
            ..dns::Options::default()
        },
    );
    let syscall = syscall::open(tree(), accounts(), &syscall::Options::default());
    let fallback = process::Options {
        source: process::Source::ProcConnector,
        ..process::Options::default()
    };
    let connector = process::open(tree(), accounts(), fallback);
    let process = status(process.map(|opened| opened.sensor));
    let rung = process.as_ref().ok().and_then(|status| {
        let running = SensorStatus {
            running: true,
            ..status.clone()
        };
        running.rung()
    });
    let cost = match rung {
        Some(rung) if !rung.consequence.is_empty() => say(rung.consequence, rung.consequence_zh),
        _ => say("nothing that is observed", "观测内容不受影响"),
    };
    vec![
        stream(
            "stream.process",
            say("watching executions", "监控进程执行"),
            process,
            &["ebpf"],
            cost,
            say(
                "see the checks of BPF, BTF and capabilities below",
                "参见下面的 BPF、BTF 与权限检查",
            ),
        ),
        stream(
            "stream.connection",
            say("watching connections", "监控网络连接"),
            status(network.map(|opened| opened.sensor)),
            &["packet+ebpf", "pcap+ebpf"],
            say(
                "without eBPF short connections have no process; without packets scans of closed ports \
                 are not seen",
                "没有 eBPF 时短连接无法关联进程；没有抓包时看不到对关闭端口的扫描",
            ),
            say(
                "CAP_NET_RAW for packets, CAP_BPF and CAP_PERFMON for eBPF; details are in the finding",
                "抓包需要 CAP_NET_RAW，eBPF 需要 CAP_BPF 与 CAP_PERFMON；详见检查结果",
            ),
        ),
        stream(
            "stream.file",
            say("watching files", "监控文件变化"),
            status(files),
            &["fanotify"],
            say(
                "the process that changed a file is not known, and large trees may exceed the limit of \
                 watches",
                "无法得知修改文件的进程，目录过多时可能超过监视数量上限",
            ),
            say(
                "run as root (CAP_SYS_ADMIN and CAP_DAC_READ_SEARCH) on Linux 5.9 or later",
                "在 Linux 5.9 以上以 root（CAP_SYS_ADMIN 与 CAP_DAC_READ_SEARCH）运行",
            ),
        ),
        stream(
            "stream.loginlog",
            say("watching logins", "监控登录"),
            status(logins),
            &[],
            say(
                "logins that are written only to a missing log are not seen",
                "仅写入缺失日志的登录无法看到",
            ),
            say(
                "run systemd-journald, let rsyslog write auth.log, or name the log of sshd in \
                 YINGLONG_AUTH_LOG; CAP_AUDIT_READ for the audit subsystem",
                "运行 systemd-journald、让 rsyslog 写 auth.log，或用 YINGLONG_AUTH_LOG 指定 sshd 日志；\
                 审计子系统需要 CAP_AUDIT_READ",
            ),
        ),
        stream(
            "stream.dns",
            say("watching DNS questions", "监控 DNS 查询"),
            status(dns.map(|opened| opened.sensor)),
            &["ebpf"],
            say(
                "without eBPF the program that asked is looked up and may be missed, and questions in other \
                 network namespaces are not seen",
                "没有 eBPF 时只能事后查找发起查询的程序，可能遗漏，且看不到其他网络命名空间中的查询",
            ),
            say(
                "CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, and control groups of version 2",
                "需要 CAP_BPF、CAP_NET_ADMIN、CAP_PERFMON 以及 cgroup v2",
            ),
        ),
        stream(
            "stream.syscall",
            say("watching system calls", "监控敏感系统调用"),
            status(syscall.map(|opened| opened.sensor)),
            &["ebpf"],
            say(
                "some calls are not seen, or every call of the host pays for it; the finding says which",
                "部分系统调用看不到，或主机的每个系统调用都有额外开销；详见检查结果",
            ),
            say(
                "see the checks of BPF, BTF, tracefs and capabilities below",
                "参见下面的 BPF、BTF、tracefs 与权限检查",
            ),
        ),
        connector_check(connector.map(|opened| opened.sensor)),
    ]
}

fn status(opened: Result<Box<dyn Sensor>, Error>) -> Result<SensorStatus, String> {
    match opened {
        Ok(sensor) => Ok(sensor.status()),
        Err(error) => Err(chain(&error)),
    }
}

/// Of a stream: by one of the best sources (any, if none is named), by a lesser one, or not at all.
fn stream(
    id: &'static str,
    title: Text,
    status: Result<SensorStatus, String>,
    best: &[&str],
    cost: Text,
    remedy: Text,
) -> Check {
    match status {
        Ok(status) => {
            let reason = match status.reason.is_empty() {
                true => String::new(),
                false => format!(" ({})", status.reason),
            };
            let found = plain(format!("{}{reason}", status.source));
            let check = Check::ok(id, title, found);
            let is_best = best.is_empty() || best.contains(&status.source.as_str());
            if is_best && status.reason.is_empty() {
                return check;
            }
            let state = match status.source.is_empty() {
                true => State::Missing,
                false => State::Fallback,
            };
            let check = check.but(state, cost, remedy);
            match check.found.en.trim().is_empty() {
                true => Check {
                    found: say("nothing", "无"),
                    ..check
                },
                false => check,
            }
        }
        Err(error) => {
            let nothing = say("none of these events is seen", "完全看不到此类事件");
            Check::ok(id, title, plain(error)).but(State::Missing, nothing, remedy)
        }
    }
}

fn connector_check(opened: Result<Box<dyn Sensor>, Error>) -> Check {
    let title = say("process connector (fallback)", "进程连接器（后备）");
    let id = "proc_connector";
    match opened {
        Ok(_) => Check::ok(id, title, say("works", "可用")),
        Err(error) => Check::ok(id, title, plain(chain(&error))).but(
            State::Unused,
            say(
                "there would be no executions at all if eBPF failed",
                "一旦 eBPF 失效将完全看不到进程执行",
            ),
            say(
                "a kernel with CONFIG_PROC_EVENTS, and CAP_NET_ADMIN",
                "需要 CONFIG_PROC_EVENTS 内核与 CAP_NET_ADMIN",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Result<(&str, &str), &str>) -> State {
        let status = status.map(|(source, reason)| SensorStatus {
            source: source.into(),
            reason: reason.into(),
            ..SensorStatus::default()
        });
        let text = || plain("x");
        let status = status.map_err(str::to_owned);
        stream("x", text(), status, &["ebpf"], text(), text()).state
    }

    #[test]
    fn a_stream_is_well_by_its_best_source_only() {
        assert_eq!(check(Ok(("ebpf", ""))), State::Ok);
        assert_eq!(check(Ok(("ebpf", "one hook is missing"))), State::Fallback);
        assert_eq!(check(Ok(("proc-connector", "no BTF"))), State::Fallback);
        assert_eq!(check(Ok(("", "no log"))), State::Missing);
        assert_eq!(check(Err("refused")), State::Missing);
    }
}
