//! Loads `bpf/syscall.bpf.c`, and attaches it to the tracepoints of the watched calls.

use std::os::fd::OwnedFd;

use libbpf_rs::ProgramMut;
use yinglong_sensor::Error;

use super::{Source, watched::WATCHED};
use crate::{
    attached::{self, Aligned, Attached},
    btf::{self, Btf},
    tracefs,
};

/// Name in the status.
pub(super) const SOURCE: &str = "ebpf";

/// The compiled programs.
static OBJECT: &Aligned<[u8]> =
    &Aligned(*include_bytes!(concat!(env!("OUT_DIR"), "/syscall.bpf.o")));

/// Programs for all calls.
pub(super) const FOR_ALL: [&str; 2] = ["on_any_enter", "on_any_exit"];

/// Loads, and attaches what can be attached; what cannot is told in the ids. Without any
/// tracepoint, native calls need the programs for all calls as well.
pub(super) fn load(ring_bytes: usize, source: Source) -> Result<Attached, Error> {
    let types = Btf::find(btf::asked().as_deref()).map_err(unavailable)?;
    let cpus = libbpf_rs::num_possible_cpus()
        .ok()
        .and_then(|cpus| u32::try_from(cpus).ok())
        .unwrap_or(1);
    let ring_bytes = u32::try_from(ring_bytes.next_power_of_two()).unwrap_or(2 << 20);
    tracefs::with(|| {
        let mut missing = Vec::new();
        let mut attached = Attached::load(
            &OBJECT.0,
            &FOR_ALL,
            &types,
            |object| {
                for mut program in object.progs_mut() {
                    // Those for all calls are on typed tracepoints.
                    let typed = FOR_ALL.iter().any(|name| program.name() == *name);
                    program.set_autoload(!typed || types == Btf::Kernel);
                }
                object
                    .maps_mut()
                    .try_for_each(|mut map| match map.name().to_str() {
                        Some("ring") => map.set_max_entries(ring_bytes),
                        Some("scratches") => map.set_max_entries(cpus),
                        _ => Ok(()),
                    })
            },
            |program| match source {
                Source::Automatic => Ok(hooks(program, &mut missing)),
                Source::EveryCall => Ok(Vec::new()),
            },
        )
        .map_err(refused)?;
        if types != Btf::Kernel && attached.ids().links.is_empty() {
            return Err(unavailable(format!(
                "tracepoints of single calls need Linux 5.15 and tracefs ({}), and looking at every \
                 call needs types in the kernel itself",
                missing
                    .first()
                    .map_or("tracefs is not mounted", String::as_str)
            )));
        }
        if attached.ids().links.is_empty() && missing.is_empty() {
            missing.push(match source {
                Source::Automatic => "tracefs cannot be mounted".to_owned(),
                Source::EveryCall => format!("asked for by {}", Source::VARIABLE),
            });
        }
        // They belong to the others then: kept while the agent is away.
        if !missing.is_empty() && types == Btf::Kernel {
            for name in FOR_ALL {
                let link = attach_for_all(&attached, name).map_err(unavailable)?;
                attached.keep(link).map_err(refused)?;
            }
        }
        attached.set_missing(missing);
        Ok(attached)
    })
}

/// Attaches a program for all calls.
pub(super) fn attach_for_all(attached: &Attached, name: &str) -> Result<OwnedFd, String> {
    match attached.attach_spare(name) {
        Ok(Some(link)) => Ok(link),
        Ok(None) => Err(
            "there are no programs for all calls on this processor, or the kernel has no types of its own"
                .to_owned(),
        ),
        Err(error) => Err(format!("the kernel refused {name} ({error})")),
    }
}

/// Attaches the program to its tracepoint of every watched call that this kernel has.
fn hooks(program: &ProgramMut<'_>, missing: &mut Vec<String>) -> Vec<OwnedFd> {
    let side = if program.name() == "on_enter" {
        "sys_enter"
    } else {
        "sys_exit"
    };
    let mut links = Vec::new();
    for watched in WATCHED {
        let name = format!("{side}_{}", watched.tracepoint());
        // A kernel without modules, for example, has no calls for them, and no tracepoints.
        let Some(number) = tracefs::number(&name) else {
            continue;
        };
        match attached::attach_tracepoint(program, number) {
            Ok(link) => links.push(link),
            Err(error) => missing.push(format!("{name}: {error}")),
        }
    }
    links
}

fn refused(error: attached::Error) -> Error {
    unavailable(error.advice())
}

pub(super) fn unavailable(reason: impl Into<String>) -> Error {
    Error::Unavailable {
        source_name: SOURCE,
        reason: format!(
            "{}; system calls are not watched, there is no other source",
            reason.into()
        ),
    }
}
