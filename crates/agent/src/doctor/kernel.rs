//! The kernel: what it is, and what it does when tried.

use std::{fs, path::Path};

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use yinglong_sensor_linux::{
    btf::{self, Btf},
    probe::{self, Notification, Program},
};

use super::{Check, State, Text, plain, say};

const TRACEFS: [&str; 2] = ["/sys/kernel/tracing", "/sys/kernel/debug/tracing"];
/// The oldest that eBPF is used on: ring buffers and links.
const OLDEST: (u32, u32) = (5, 10);

pub(super) fn checks() -> Vec<Check> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut checks = vec![version(release.trim()), btf(), ring_buffer()];
    checks.extend(Program::ALL.map(|kind| program(kind, kind.try_load())));
    checks.extend([tracefs(), control_groups(), packets()]);
    checks.extend(Notification::ALL.map(|kind| notification(kind, kind.try_open())));
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").ok();
    checks.extend([audit(), lockdown_check(lockdown.as_deref())]);
    checks
}

/// Major and minor number of a release.
pub(super) fn numbers(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn version(release: &str) -> Check {
    let check = Check::ok("kernel", say("kernel", "内核"), plain(release));
    if numbers(release).is_some_and(|numbers| numbers >= OLDEST) {
        return check;
    }
    let cost = say(
        "no eBPF: the fallbacks are used",
        "无法使用 eBPF，只能用后备方式",
    );
    check.but(
        State::Fallback,
        cost,
        say("Linux 5.10 or later", "使用 Linux 5.10 以上内核"),
    )
}

fn btf() -> Check {
    let title = say("type information (BTF)", "内核类型信息（BTF）");
    let size = |path: &Path| fs::metadata(path).map_or(0, |found| found.len() / 1024);
    match Btf::find(btf::asked().as_deref()) {
        Ok(types) => {
            let path = types.file().unwrap_or(Path::new(btf::KERNEL));
            let text = format!("{}, {} KiB", path.display(), size(path));
            Check::ok("btf", title, plain(text))
        }
        Err(reason) => Check::ok("btf", title, plain(reason)).but(
            State::Fallback,
            no_ebpf(),
            say(
                format!(
                    "boot a kernel with CONFIG_DEBUG_INFO_BTF=y, as distributions ship since 2021, or \
                     put the BTF of this kernel into {}",
                    btf::FOLDER
                ),
                format!(
                    "使用 CONFIG_DEBUG_INFO_BTF=y 的内核（2021 年后的发行版均具备），或将该内核的 BTF 文件放入 {}",
                    btf::FOLDER
                ),
            ),
        ),
    }
}

/// Of something that was tried.
fn tried(id: &'static str, title: Text, outcome: std::io::Result<()>) -> (Check, bool) {
    match outcome {
        Ok(()) => (Check::ok(id, title, say("works", "可用")), true),
        Err(error) => {
            let found = say(format!("refused: {error}"), format!("被拒绝：{error}"));
            (Check::ok(id, title, found), false)
        }
    }
}

fn ring_buffer() -> Check {
    let title = say("BPF ring buffer", "BPF 环形缓冲区");
    let (check, works) = tried("bpf.ringbuf", title, probe::ring_buffer());
    if works {
        return check;
    }
    check.but(State::Fallback, no_ebpf(), permission())
}

fn no_ebpf() -> Text {
    say(
        "no eBPF: executions by audit or the process connector, processes of connections by look-up",
        "无法使用 eBPF：进程执行依靠审计或进程连接器，连接的进程依靠查找",
    )
}

fn permission() -> Text {
    say(
        "run as root or with CAP_BPF, CAP_PERFMON and CAP_SYS_ADMIN; Linux 5.10 or later with BPF",
        "以 root 或 CAP_BPF、CAP_PERFMON、CAP_SYS_ADMIN 运行；Linux 5.10 以上并启用 BPF",
    )
}

fn program(kind: Program, outcome: std::io::Result<()>) -> Check {
    let (id, name, name_zh) = match kind {
        Program::TypedTracepoint => (
            "bpf.tp_btf",
            "BPF on typed tracepoints",
            "BPF 类型化跟踪点（tp_btf）",
        ),
        Program::Tracepoint => ("bpf.tracepoint", "BPF on tracepoints", "BPF 跟踪点"),
        Program::ControlGroup => ("bpf.cgroup", "BPF on control groups", "BPF 控制组"),
        Program::Fentry => (
            "bpf.fentry",
            "BPF on functions (fentry)",
            "BPF 函数入口（fentry）",
        ),
        Program::Lsm => (
            "bpf.lsm",
            "BPF on security hooks (LSM)",
            "BPF 安全钩子（LSM）",
        ),
        Program::Kprobe => ("bpf.kprobe", "kernel probes", "内核探针（kprobe）"),
    };
    let (check, works) = tried(id, say(name, name_zh), outcome);
    if works {
        return check;
    }
    match kind {
        Program::TypedTracepoint => check.but(State::Fallback, no_ebpf(), permission()),
        Program::Tracepoint | Program::ControlGroup => check.but(
            State::Fallback,
            say(
                "accepted connections or outcomes of connections are not told by the kernel",
                "内核无法告知已接受的连接或连接结果",
            ),
            permission(),
        ),
        Program::Fentry | Program::Lsm | Program::Kprobe => check.but(
            State::Unused,
            say(
                "nothing: the agent works with tracepoints",
                "无影响：代理使用跟踪点",
            ),
            Text::default(),
        ),
    }
}

fn tracefs() -> Check {
    let title = say("tracefs", "tracefs");
    let place = TRACEFS
        .into_iter()
        .find(|root| Path::new(root).join("events/syscalls").exists());
    match place {
        Some(place) => Check::ok("tracefs", title, plain(place)),
        None => Check::ok("tracefs", title, say("not mounted", "未挂载")).but(
            State::Unused,
            say(
                "nothing as root: the agent mounts it for itself while it starts",
                "以 root 运行时无影响：代理启动时自行挂载",
            ),
            Text::default(),
        ),
    }
}

fn control_groups() -> Check {
    let title = say("control groups version 2", "控制组 v2");
    match probe::control_group_root() {
        Some(root) => Check::ok("cgroup2", title, plain(root.display().to_string())),
        None => Check::ok("cgroup2", title, say("not mounted", "未挂载")).but(
            State::Fallback,
            say(
                "outcomes of connections (refused, established) are told later or not at all",
                "连接结果（拒绝、建立）延迟或缺失",
            ),
            say(
                "mount -t cgroup2 none /sys/fs/cgroup/unified",
                "执行 mount -t cgroup2 none /sys/fs/cgroup/unified",
            ),
        ),
    }
}

fn packets() -> Check {
    let title = say("packet sockets", "抓包套接字");
    let opened = socket(
        AddressFamily::Packet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    );
    let outcome = opened.map(drop).map_err(std::io::Error::from);
    let (check, works) = tried("packets", title, outcome);
    if works {
        return check;
    }
    check.but(
        State::Fallback,
        say(
            "scans of closed ports are not seen",
            "看不到对关闭端口的扫描",
        ),
        say(
            "run as root or with CAP_NET_RAW; a kernel with CONFIG_PACKET",
            "以 root 或 CAP_NET_RAW 运行；内核需 CONFIG_PACKET",
        ),
    )
}

fn notification(kind: Notification, outcome: std::io::Result<()>) -> Check {
    let (id, name, name_zh) = match kind {
        Notification::Names => ("fanotify.names", "fanotify with names", "fanotify 文件名"),
        Notification::Actor => (
            "fanotify.pidfd",
            "fanotify with processes",
            "fanotify 进程描述符",
        ),
        Notification::Object => (
            "fanotify.target_fid",
            "fanotify with objects",
            "fanotify 对象句柄",
        ),
        Notification::Permission => (
            "fanotify.permission",
            "fanotify permission events",
            "fanotify 许可事件",
        ),
    };
    let (check, works) = tried(id, say(name, name_zh), outcome);
    if works {
        return check;
    }
    match kind {
        Notification::Names => check.but(
            State::Fallback,
            say(
                "files are watched with inotify: who changed them is not known",
                "改用 inotify 监控文件，无法得知修改者",
            ),
            say(
                "root (CAP_SYS_ADMIN) and Linux 5.9 or later",
                "root（CAP_SYS_ADMIN）与 Linux 5.9 以上",
            ),
        ),
        Notification::Actor => check.but(
            State::Fallback,
            say(
                "who changed a file may be mistaken when its process id is used again at once",
                "进程号立即被重用时可能认错修改者",
            ),
            say("root and Linux 5.15 or later", "root 与 Linux 5.15 以上"),
        ),
        Notification::Object => check.but(
            State::Fallback,
            say(
                "a file that is replaced quickly may be looked at after it changed",
                "被快速替换的文件可能在变化之后才被查看",
            ),
            say("root and Linux 5.17 or later", "root 与 Linux 5.17 以上"),
        ),
        Notification::Permission => check.but(
            State::Unused,
            say(
                "nothing: this version blocks no files",
                "无影响：此版本不阻止文件",
            ),
            Text::default(),
        ),
    }
}

fn audit() -> Check {
    let title = say("audit of the kernel", "内核审计");
    let (check, works) = tried("audit", title, probe::audit());
    if works {
        return check;
    }
    check.but(
        State::Unused,
        say(
            "executions could not be read from audit if eBPF failed",
            "一旦 eBPF 失效，无法改用审计记录进程执行",
        ),
        Text::default(),
    )
}

/// The mode in brackets is the one in force.
fn lockdown_check(text: Option<&str>) -> Check {
    let title = say("lockdown", "内核锁定（lockdown）");
    let mode = text.and_then(|text| text.split_once('[')?.1.split_once(']'));
    match mode.map(|(mode, _)| mode) {
        Some("confidentiality") => {
            let cost = say(
                "BPF programs may not read kernel memory: the fallbacks are used",
                "BPF 程序不得读取内核内存，只能用后备方式",
            );
            let remedy = say("boot with lockdown=integrity", "以 lockdown=integrity 启动");
            Check::ok("lockdown", title, plain("confidentiality")).but(
                State::Fallback,
                cost,
                remedy,
            )
        }
        Some(mode) => Check::ok("lockdown", title, plain(mode)),
        None => Check::ok(
            "lockdown",
            title,
            say(
                "unknown: securityfs is not mounted, or the kernel has none",
                "未知：securityfs 未挂载，或内核不支持",
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(numbers("6.18.44-fc-v669"), Some((6, 18)));
        assert_eq!(version("5.10.0-32-amd64").state, State::Ok);
        assert_eq!(version("5.4.0").state, State::Fallback);
        assert_eq!(version("4.19.12").state, State::Fallback);
        assert_eq!(version("").state, State::Fallback);
    }

    #[test]
    fn only_confidentiality_locks_the_sensors_out() {
        let state = |text| lockdown_check(text).state;
        assert_eq!(state(Some("none [integrity] confidentiality\n")), State::Ok);
        assert_eq!(
            state(Some("none integrity [confidentiality]\n")),
            State::Fallback
        );
        assert_eq!(state(None), State::Ok);
    }

    #[test]
    fn a_refused_program_matters_only_if_the_agent_uses_its_kind() {
        let refused = || Err(std::io::Error::from_raw_os_error(libc::EPERM));
        let state = |kind| program(kind, refused()).state;
        assert_eq!(state(Program::TypedTracepoint), State::Fallback);
        assert_eq!(state(Program::Fentry), State::Unused);
        assert_eq!(program(Program::Lsm, Ok(())).state, State::Ok);
    }
}
