//! Which events of Windows are which class besides that of their channel.

use crate::Class;

/// How the fields of a recorded event become those of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// The event has the names Sigma uses.
    Sigma,
    /// An event of the Security channel: names and notations of its own.
    Security(Security),
    /// Lines of `name=value` in the unnamed data of the classic PowerShell log.
    PowerShellLines,
}

/// Events of the Security channel that are more than a record of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Security {
    /// 4688: a process was created.
    Process,
    /// 4624 and 4625: somebody logged in, or failed to.
    Login,
    /// 4657: a registry value was changed.
    Registry,
    /// 4663: an object was accessed; those that are files.
    FileAccess,
    /// 5156: the packet filter let a connection pass.
    Connection,
}

/// Events of a channel that are of a class.
#[derive(Debug, Clone, Copy)]
pub struct Recorded {
    /// Channel.
    pub channel: &'static str,
    /// Event ids.
    pub ids: &'static [u32],
    /// Class of the view.
    pub class: Class,
    /// Where its fields are.
    pub shape: Shape,
    /// `action` of a file event; empty for others.
    pub action: &'static str,
}

const SYSMON: &str = "Microsoft-Windows-Sysmon/Operational";
const SECURITY: &str = "Security";
const POWERSHELL: &str = "Microsoft-Windows-PowerShell/Operational";
const POWERSHELL_CORE: &str = "PowerShellCore/Operational";
const POWERSHELL_CLASSIC: &str = "Windows PowerShell";

const fn event(channel: &'static str, ids: &'static [u32], class: Class) -> Recorded {
    Recorded {
        channel,
        ids,
        class,
        shape: Shape::Sigma,
        action: "",
    }
}

const fn log(channel: &'static str, ids: &'static [u32], class: &'static str) -> Recorded {
    event(channel, ids, Class::Log(class))
}

const fn file(ids: &'static [u32], action: &'static str) -> Recorded {
    Recorded {
        action,
        ..event(SYSMON, ids, Class::FILE)
    }
}

const fn security(ids: &'static [u32], class: Class, shape: Security) -> Recorded {
    Recorded {
        shape: Shape::Security(shape),
        ..event(SECURITY, ids, class)
    }
}

const fn lines(ids: &'static [u32], class: &'static str) -> Recorded {
    Recorded {
        shape: Shape::PowerShellLines,
        ..log(POWERSHELL_CLASSIC, ids, class)
    }
}

/// Every event that is more than a record of its channel.
pub const RECORDED: &[Recorded] = &[
    event(SYSMON, &[1], Class::PROCESS),
    file(&[2], "CHMOD"),
    event(SYSMON, &[3], Class::CONNECTION),
    log(SYSMON, &[4, 16], "windows/sysmon_status"),
    log(SYSMON, &[5], "windows/process_termination"),
    log(SYSMON, &[6], "windows/driver_load"),
    log(SYSMON, &[7], "windows/image_load"),
    log(SYSMON, &[8], "windows/create_remote_thread"),
    log(SYSMON, &[9], "windows/raw_access_thread"),
    log(SYSMON, &[10], "windows/process_access"),
    file(&[11], "CREATE"),
    log(SYSMON, &[12, 13, 14], "windows/registry"),
    log(SYSMON, &[15], "windows/create_stream_hash"),
    log(SYSMON, &[17, 18], "windows/pipe_created"),
    log(SYSMON, &[19, 20, 21], "windows/wmi_event"),
    log(SYSMON, &[22], "windows/dns_query"),
    file(&[23, 26], "REMOVE"),
    log(SYSMON, &[24], "windows/clipboard_capture"),
    log(SYSMON, &[25], "windows/process_tampering"),
    log(SYSMON, &[27], "windows/file_block_executable"),
    log(SYSMON, &[28], "windows/file_block_shredding"),
    log(SYSMON, &[29], "windows/file_executable_detected"),
    log(SYSMON, &[255], "windows/sysmon_error"),
    security(&[4624, 4625], Class::LOGINLOG, Security::Login),
    security(&[4657], Class::Log("windows/registry"), Security::Registry),
    security(
        &[4663],
        Class::Log("windows/file_access"),
        Security::FileAccess,
    ),
    security(&[4688], Class::PROCESS, Security::Process),
    security(&[5156], Class::CONNECTION, Security::Connection),
    log(POWERSHELL, &[4103], "windows/ps_module"),
    log(POWERSHELL, &[4104], "windows/ps_script"),
    log(POWERSHELL_CORE, &[4103], "windows/ps_module"),
    log(POWERSHELL_CORE, &[4104], "windows/ps_script"),
    lines(&[400], "windows/ps_classic_start"),
    lines(&[600], "windows/ps_classic_provider_start"),
    lines(&[800], "windows/ps_classic_script"),
];

/// What an event of a channel is besides a record of it.
pub fn recorded(channel: &str, id: u32) -> Option<&'static Recorded> {
    RECORDED
        .iter()
        .find(|known| known.ids.contains(&id) && known.channel.eq_ignore_ascii_case(channel))
}
