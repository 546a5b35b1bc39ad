//! What the scanner forbids itself, before it touches anything.

use std::time::Duration;

use anyhow::Context as _;
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetError, RulesetStatus,
    Scope,
};
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
    if !forbid_changes().context("changes of files cannot be forbidden")? {
        tracing::info!("this kernel has no Landlock; changes of files are not forbidden by it");
    }
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

/// Forbids to change or execute any file, to use TCP, and to signal other processes. Without
/// capabilities the superuser still owns what is the superuser's. A kernel without Landlock (before
/// 5.13, or where it is off) forbids nothing, older ones only files; says whether it forbids
/// something.
fn forbid_changes() -> Result<bool, RulesetError> {
    // Rights that a kernel does not know yet are left out.
    let abi = ABI::V6;
    let status = Ruleset::default()
        // No path is an exception. Reading is not restricted: not all files are below our root.
        .handle_access(AccessFs::from_write(abi) | AccessFs::Execute)?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
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

#[cfg(test)]
mod tests {
    use std::{
        fs, io,
        net::{TcpListener, TcpStream},
        process::Command,
        thread,
    };

    use nix::{sys::signal::kill, unistd::getppid};

    use super::*;

    #[test]
    fn afterwards_files_are_read_but_nothing_is_changed_executed_or_signalled() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "x").unwrap();
        let parent = getppid();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // Rights are those of a thread: the others keep theirs.
        let (in_force, refused, signal, connected) = thread::scope(|scope| {
            let confined = || {
                prctl::set_no_new_privs().unwrap();
                let in_force = forbid_changes().unwrap();
                assert_eq!(fs::read(&path).unwrap(), b"x");
                let refused = [
                    fs::write(&path, "y").err(),
                    fs::write(dir.path().join("b"), "y").err(),
                    Command::new("/bin/true").status().err(),
                    fs::remove_file(&path).err(),
                ];
                // No signal is sent: it is only asked whether one could be.
                let connected = TcpStream::connect(address);
                (in_force, refused, kill(parent, None), connected)
            };
            scope.spawn(confined).join().unwrap()
        });
        if !in_force {
            eprintln!("skipped: this kernel has no Landlock");
            return;
        }
        let kinds = refused.map(|error| error.map(|error| error.kind()));
        assert_eq!(kinds, [Some(io::ErrorKind::PermissionDenied); 4]);
        if knows_signals() {
            assert_eq!(signal, Err(nix::errno::Errno::EPERM));
            let refused = connected.err().map(|error| error.kind());
            assert_eq!(refused, Some(io::ErrorKind::PermissionDenied));
        }
        assert_eq!(fs::read(&path).unwrap(), b"x");
    }

    /// Whether Landlock knows signals, which it learned last of what is asked of it: Linux 6.12.
    fn knows_signals() -> bool {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
        let mut numbers = release.split('.').map(|part| part.parse::<u32>().ok());
        let version = (numbers.next().flatten(), numbers.next().flatten());
        version >= (Some(6), Some(12))
    }
}
