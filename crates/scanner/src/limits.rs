//! What the scanner forbids itself, before it touches anything.

use std::time::Duration;

use anyhow::Context as _;
use nix::sys::{
    prctl,
    resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit},
    time::TimeValLike as _,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, remove_capability_from_bounding_set,
    set_capabilities,
};

/// Least of all claims to the processor.
const NICE: i32 = 19;
/// Open files: input, output, log, the rules' folder and one file at a time, with room to spare.
const OPEN_FILES: u64 = 64;
/// Address space that is not memory: the sandbox of the rules reserves some, and code is mapped.
const UNUSED_ADDRESSES: u64 = 1 << 30;
/// Time a file may take beyond its limit before the kernel ends the process.
const GRACE_SECS: u64 = 2;

/// Limits memory to `bytes`, and takes away core dumps, priority, privileges to gain, and those there
/// are but for reading every file. To be called before there is another thread: capabilities belong
/// to threads, and later ones inherit them.
///
/// # Errors
/// The operating system refuses one of them: better no scanner than one without limits.
pub fn confine(bytes: u64) -> anyhow::Result<()> {
    lower(Resource::RLIMIT_DATA, bytes).context("the memory cannot be limited")?;
    lower(Resource::RLIMIT_AS, bytes.saturating_add(UNUSED_ADDRESSES))
        .context("the address space cannot be limited")?;
    lower(Resource::RLIMIT_CORE, 0).context("core dumps cannot be forbidden")?;
    lower(Resource::RLIMIT_NOFILE, OPEN_FILES).context("open files cannot be limited")?;
    prctl::set_no_new_privs().context("new privileges cannot be forbidden")?;
    keep_reading_only().context("capabilities cannot be given up")?;
    rustix::process::nice(NICE).context("the priority cannot be lowered")?;
    Ok(())
}

/// Gives up every capability but that of reading and searching, where that is there.
fn keep_reading_only() -> rustix::io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        if capability != CapabilitySet::DAC_READ_SEARCH {
            // Takes a capability that a service's unit need not leave. Without new privileges
            // nothing in this set can be had any more; it is emptied where that is allowed.
            let _ = remove_capability_from_bounding_set(capability);
        }
    }
    let kept = capabilities(None)?.permitted & CapabilitySet::DAC_READ_SEARCH;
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

/// Lets the kernel end this process when the next file takes more processor time than `limit`
/// and some. The limit inside the rules' engine counts whole seconds and is looked at now and
/// then; this one cannot be missed.
pub fn allow_one_file(limit: Duration) {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return;
    };
    let used = usage.user_time().num_seconds() + usage.system_time().num_seconds();
    let until = u64::try_from(used)
        .unwrap_or_default()
        .saturating_add(limit.as_secs())
        .saturating_add(GRACE_SECS);
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_CPU) {
        let _ = setrlimit(Resource::RLIMIT_CPU, until.min(hard), hard);
    }
}

/// Sets a limit, or leaves one that is lower already.
fn lower(resource: Resource, limit: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(resource)?;
    let limit = limit.min(hard);
    setrlimit(resource, limit, limit)
}
