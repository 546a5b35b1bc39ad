//! Loads `bpf/network.bpf.c`, and attaches it to the hooks this kernel has.

use std::{
    fs::{self, File},
    os::fd::{AsRawFd, OwnedFd},
    path::PathBuf,
};

use libbpf_rs::{Link, ProgramMut};

use crate::{
    attached::{self, Aligned, Attached, Error},
    btf::Btf,
    tracefs,
};

/// The compiled programs.
static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/network.bpf.o")));
/// The same for a kernel without types of its own.
static RAW_OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(concat!(
    env!("OUT_DIR"),
    "/network_raw.bpf.o"
)));

/// The hook of an outgoing request; one of its helpers needs types in the kernel.
const REQUEST: &str = "on_sock_ops";

/// How the senders of connected UDP sockets are told, and acceptances where the accept hooks cannot
/// be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    /// By a tracepoint (Linux 6.3). Accept hooks can be kept there.
    Tracepoint,
    /// By programs at the end of functions, where the kernel has trampolines: what older kernels
    /// need for what the tracepoints of newer ones tell.
    Functions,
    /// Not at all.
    Neither,
}

impl Plan {
    /// Whether this plan uses the program; programs that are in every plan are not asked about.
    fn has(self, program: &str) -> bool {
        match program {
            "on_send_length" => self == Self::Tracepoint,
            "on_udp_sendmsg" | "on_udpv6_sendmsg" | "on_csk_accept" => self == Self::Functions,
            _ => true,
        }
    }
}

/// Loads and attaches what can be attached; what cannot is told in the ids. The links are those
/// that end with this process.
///
/// # Errors
/// The kernel refuses the programs, or the hook nothing works without.
pub(super) fn load(types: &Btf) -> Result<(Attached, Vec<Link>), Error> {
    tracefs::with(|| {
        load_programs(Plan::Tracepoint, types)
            .or_else(|_| load_programs(Plan::Functions, types))
            .or_else(|_| load_programs(Plan::Neither, types))
    })
}

fn load_programs(plan: Plan, types: &Btf) -> Result<(Attached, Vec<Link>), Error> {
    let mut missing = Vec::new();
    let object = match types {
        Btf::Kernel => &OBJECT.0,
        Btf::File(_) => &RAW_OBJECT.0,
    };
    let requests = *types == Btf::Kernel;
    if !requests {
        missing.push(
            "sock_ops: needs types in the kernel itself; attempts are told with their outcome"
                .to_owned(),
        );
    }
    if plan == Plan::Neither {
        missing.push(
            "sock_send_length (Linux 6.3), and BPF on functions (fexit): senders of UDP are looked \
             up"
                .to_owned(),
        );
    }
    let groups = control_group_root().and_then(|path| File::open(path).ok());
    if groups.is_none() {
        missing.push("sock_ops: control groups version 2 are not mounted".to_owned());
    }
    let mut accepts = Accepts::default();
    let mut attached = Attached::load(
        object,
        &[],
        types,
        |object| {
            for mut program in object.progs_mut() {
                let name = program.name();
                let wanted = name.to_str().is_some_and(|name| plan.has(name));
                let wanted = wanted && (requests || name != REQUEST);
                program.set_autoload(wanted);
            }
            Ok(())
        },
        |program| {
            let name = program.name().to_string_lossy().into_owned();
            let answer = match name.as_str() {
                // Nothing works without the first one, and no plan without its own.
                "on_set_state" | "on_send_length" | "on_udp_sendmsg" | "on_udpv6_sendmsg" => {
                    return attached::link(&program.attach()?).map(Some);
                }
                "on_csk_accept" if accepts.left => {
                    return attached::link(&program.attach()?).map(Some);
                }
                "on_csk_accept" => return Ok(None),
                "on_accept" => return Ok(accepts.attach(program, "accept", plan)),
                "on_accept4" => return Ok(accepts.attach(program, "accept4", plan)),
                _ => match &groups {
                    Some(root) => program
                        .attach_cgroup(root.as_raw_fd())
                        .and_then(|link| attached::link(&link)),
                    None => return Ok(None),
                },
            };
            Ok(answer
                .inspect_err(|error| missing.push(format!("{name}: {error}")))
                .ok())
        },
    )?;
    missing.append(&mut accepts.missing);
    attached.set_missing(missing);
    Ok((attached, accepts.bound))
}

/// The hooks at the end of accepting system calls.
#[derive(Default)]
struct Accepts {
    /// Those that end with this process.
    bound: Vec<Link>,
    missing: Vec<String>,
    /// One was left out, for the hook of the function to do.
    left: bool,
}

impl Accepts {
    /// Attaches to the end of a system call. Where the kernel is older than Linux 5.15 a hook that
    /// can be kept is left to the function, if the plan has it; else it is attached for this
    /// process alone.
    fn attach(&mut self, program: &ProgramMut<'_>, call: &str, plan: Plan) -> Option<OwnedFd> {
        if let Some(number) = tracefs::number(&format!("sys_exit_{call}"))
            && let Ok(link) = attached::attach_tracepoint(program, number)
        {
            return Some(link);
        }
        if plan == Plan::Functions {
            self.left = true;
            return None;
        }
        match program.attach() {
            Ok(link) => self.bound.push(link),
            Err(error) => {
                let missing = format!("sys_exit_{call} (tracefs): {error}");
                self.missing.push(missing);
            }
        }
        None
    }
}

/// Where control groups version 2 are mounted; hybrid systems have them in a sub-directory.
pub(crate) fn control_group_root() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    control_group_mount(&mounts)
}

/// Mount point of the whole version 2 hierarchy in a `mountinfo` table.
fn control_group_mount(mountinfo: &str) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        if source.split(' ').next()? != "cgroup2" {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        (root == "/").then(|| PathBuf::from(point))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_groups_are_found_on_unified_and_hybrid_systems() {
        let unified = "31 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        let hybrid = "30 23 0:25 / /sys/fs/cgroup rw - tmpfs none rw\n\
            32 30 0:27 /docker/1 /bound rw - cgroup2 cgroup2 rw\n\
            31 30 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        for (table, expected) in [
            (unified, Some("/sys/fs/cgroup")),
            (hybrid, Some("/sys/fs/cgroup/unified")),
            ("", None),
            ("broken - cgroup2", None),
        ] {
            assert_eq!(control_group_mount(table), expected.map(PathBuf::from));
        }
    }
}
