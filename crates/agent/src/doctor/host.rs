//! The rest of the host: privileges, limits, clock, room.

use std::{fs, path::Path};

use nix::sys::resource::{Resource, getrlimit};
use yinglong_sensor_linux::probe;

use super::{Check, State, plain, say};
use crate::enrol;

/// What each capability is needed for: number, name, what is lost without it.
pub(super) const CAPABILITIES: [(u8, &str, &str, &str); 9] = [
    (39, "CAP_BPF", "eBPF", "eBPF"),
    (38, "CAP_PERFMON", "eBPF", "eBPF"),
    (
        21,
        "CAP_SYS_ADMIN",
        "fanotify, and keeping eBPF programs over a restart",
        "fanotify，以及重启时保持 eBPF 程序",
    ),
    (
        12,
        "CAP_NET_ADMIN",
        "outcomes of connections, the process connector",
        "连接结果与进程连接器",
    ),
    (
        13,
        "CAP_NET_RAW",
        "scans of closed ports",
        "对关闭端口的扫描",
    ),
    (
        2,
        "CAP_DAC_READ_SEARCH",
        "names and content of files of other users",
        "其他用户文件的名称与内容",
    ),
    (
        19,
        "CAP_SYS_PTRACE",
        "details of processes of other users",
        "其他用户进程的细节",
    ),
    (
        23,
        "CAP_SYS_NICE",
        "its turn before other processes: on a busy host more is lost",
        "优先于其他进程运行：主机繁忙时会丢失更多",
    ),
    (
        37,
        "CAP_AUDIT_READ",
        "logins as the audit subsystem tells them",
        "审计子系统记录的登录",
    ),
];

/// Watches an ordinary host with inotify needs, if it comes to that.
const INOTIFY_WATCHES: u64 = 65_536;
/// Room the spool should find.
const ROOM_BYTES: u64 = 1 << 30;

pub(super) fn checks(state: &Path) -> Vec<Check> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let watches = fs::read_to_string("/proc/sys/fs/inotify/max_user_watches").unwrap_or_default();
    vec![
        capabilities(effective(&status)),
        memlock(),
        inotify(watches.trim().parse().unwrap_or_default()),
        clock(probe::clock_is_synchronized()),
        room(state),
        enrolment(state),
    ]
}

/// The set of effective capabilities in `/proc/self/status`.
fn effective(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok())
        .unwrap_or_default()
}

fn capabilities(set: u64) -> Check {
    let title = say("capabilities", "权限（capabilities）");
    let missing: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(number, ..)| set >> number & 1 == 0)
        .collect();
    if missing.is_empty() {
        return Check::ok(
            "capabilities",
            title,
            say("all that are used", "所需权限齐全"),
        );
    }
    let names: Vec<_> = missing.iter().map(|(_, name, ..)| *name).collect();
    let join = |texts: Vec<&str>| {
        let mut texts = texts;
        texts.dedup();
        texts.join("; ")
    };
    let english = join(missing.iter().map(|(_, _, lost, _)| *lost).collect());
    let chinese = join(missing.iter().map(|(_, _, _, lost)| *lost).collect());
    let list = names.join(" ");
    Check::ok(
        "capabilities",
        title,
        say(format!("not {list}"), format!("缺少 {list}")),
    )
    .but(
        State::Fallback,
        say(format!("lost: {english}"), format!("失去：{chinese}")),
        say(
            "run as root, or give them to the unit (CapabilityBoundingSet)",
            "以 root 运行，或在服务单元中授予（CapabilityBoundingSet）",
        ),
    )
}

fn memlock() -> Check {
    let title = say("locked memory", "锁定内存上限");
    // Since Linux 5.11 BPF memory counts for the control group instead: nothing to be done.
    let found = match getrlimit(Resource::RLIMIT_MEMLOCK) {
        Ok((soft, _)) if soft == libc::RLIM_INFINITY => say("no limit", "不限"),
        Ok((soft, _)) => plain(format!("{} KiB", soft / 1024)),
        Err(error) => plain(error.to_string()),
    };
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let numbers = super::kernel::numbers(release.trim());
    let limited = found.en != "no limit";
    let check = Check::ok("memlock", title, found);
    if !limited || numbers.is_some_and(|numbers| numbers >= (5, 11)) {
        return check;
    }
    check.but(
        State::Fallback,
        say(
            "before Linux 5.11 BPF programs may not load",
            "Linux 5.11 之前 BPF 程序可能无法加载",
        ),
        say(
            "LimitMEMLOCK=infinity in the unit",
            "在服务单元中设置 LimitMEMLOCK=infinity",
        ),
    )
}

fn inotify(watches: u64) -> Check {
    let title = say("limit of inotify watches", "inotify 监视上限");
    let check = Check::ok("inotify", title, plain(watches.to_string()));
    if watches >= INOTIFY_WATCHES {
        return check;
    }
    check.but(
        State::Unused,
        say(
            "nothing while fanotify works; without it large trees are watched in part only",
            "fanotify 可用时无影响；否则大目录只能部分监控",
        ),
        say(
            "sysctl fs.inotify.max_user_watches=65536",
            "执行 sysctl fs.inotify.max_user_watches=65536",
        ),
    )
}

fn clock(synchronized: std::io::Result<bool>) -> Check {
    let title = say("clock", "时钟");
    match synchronized {
        Ok(true) => Check::ok("clock", title, say("synchronized", "已同步")),
        Ok(false) => Check::ok("clock", title, say("not synchronized", "未同步")).but(
            State::Fallback,
            say(
                "times of events may be wrong, and so may correlations over hosts; certificates may seem \
                 expired",
                "事件时间与跨主机关联可能有误，证书可能被判过期",
            ),
            say(
                "run chrony or systemd-timesyncd (virtual machines may get the time from their host: then \
                 this is of no concern)",
                "运行 chrony 或 systemd-timesyncd（虚拟机若由宿主机校时可忽略）",
            ),
        ),
        Err(error) => Check::ok("clock", title, plain(error.to_string())).but(
            State::Unused,
            say("not known", "未知"),
            say("", ""),
        ),
    }
}

/// Of the folder, or of what it would be made in.
fn room(state: &Path) -> Check {
    let title = say("room for the spool", "缓存空间");
    let place = state.ancestors().find(|path| path.is_dir());
    let free = place.map_or(Err(std::io::ErrorKind::NotFound.into()), probe::free_bytes);
    match free {
        Ok(free) => {
            let found = plain(format!("{} MiB ({})", free >> 20, state.display()));
            let check = Check::ok("room", title, found);
            if free >= ROOM_BYTES {
                return check;
            }
            check.but(
                State::Fallback,
                say(
                    "while no server is reached, events are dropped (and counted) early",
                    "连不上服务器时会较早丢弃事件（并计数）",
                ),
                say(
                    "make room, or name another folder with --state",
                    "清理空间，或用 --state 指定其他目录",
                ),
            )
        }
        Err(error) => Check::ok("room", title, plain(error.to_string())).but(
            State::Fallback,
            say("the agent cannot keep anything", "代理无法保存任何内容"),
            say("name a folder with --state", "用 --state 指定目录"),
        ),
    }
}

fn enrolment(state: &Path) -> Check {
    let title = say("enrolment", "注册");
    match enrol::load(state) {
        Ok(Some(identity)) => Check::ok("enrolment", title, plain(identity.agent.id.to_string())),
        Ok(None) => Check::ok("enrolment", title, say("not joined", "未加入")).but(
            State::Unused,
            say("nothing is sent to a server", "不会向服务器发送任何内容"),
            say(
                "YINGLONG_TOKEN=... yinglong-agent enrol --server HOST:PORT",
                "YINGLONG_TOKEN=... yinglong-agent enrol --server HOST:PORT",
            ),
        ),
        Err(error) => Check::ok("enrolment", title, plain(format!("{error:#}"))).but(
            State::Fallback,
            say("the agent cannot reach its server", "代理无法连接服务器"),
            say("enrol anew with a new token", "用新令牌重新注册"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_that_are_missing_are_named_with_what_is_lost() {
        assert_eq!(
            effective("Name:\tx\nCapEff:\t000001ffffffffff\n"),
            0x1ff_ffff_ffff
        );
        assert_eq!(capabilities(0x1ff_ffff_ffff).state, State::Ok);
        let check = capabilities(0x1ff_ffff_ffff & !(1 << 13));
        assert_eq!(check.state, State::Fallback);
        assert_eq!(check.found.en, "not CAP_NET_RAW");
        assert!(check.cost.en.contains("scans"));
    }

    #[test]
    fn a_clock_nobody_keeps_is_a_fallback() {
        assert_eq!(clock(Ok(true)).state, State::Ok);
        assert_eq!(clock(Ok(false)).state, State::Fallback);
    }
}
