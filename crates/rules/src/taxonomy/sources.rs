//! Which log sources of Sigma there are, and which classes they read.

use yinglong_model::event::System;

use super::fields::Named;
use crate::Class;

/// A class of records that other programs write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Log {
    /// Name of the class.
    pub(super) name: &'static str,
    /// Fields that its records have.
    pub(super) fields: &'static [&'static str],
    /// Other fields may be there as well: a channel has as many as it has kinds of events.
    pub(super) open: bool,
    /// Written by Sysmon alone, whose events share some fields.
    pub(super) sysmon: bool,
}

const fn sysmon(name: &'static str, fields: &'static [&'static str]) -> Log {
    Log {
        name,
        fields,
        open: false,
        sysmon: true,
    }
}

const fn closed(name: &'static str, fields: &'static [&'static str]) -> Log {
    Log {
        name,
        fields,
        open: false,
        sysmon: false,
    }
}

/// Classes with fields of their own. Those of channels and text logs are in [`SERVICES`].
pub(super) const LOGS: &[Log] = &[
    sysmon(
        "windows/registry",
        &[
            "EventType",
            "Image",
            "TargetObject",
            "Details",
            "NewName",
            "User",
        ],
    ),
    sysmon(
        "windows/image_load",
        &[
            "Image",
            "ImageLoaded",
            "FileVersion",
            "Description",
            "Product",
            "Company",
            "OriginalFileName",
            "Hashes",
            "sha256",
            "sha1",
            "md5",
            "Imphash",
            "Signed",
            "Signature",
            "SignatureStatus",
            "User",
        ],
    ),
    sysmon(
        "windows/driver_load",
        &[
            "ImageLoaded",
            "Hashes",
            "sha256",
            "sha1",
            "md5",
            "Imphash",
            "Signed",
            "Signature",
            "SignatureStatus",
        ],
    ),
    sysmon(
        "windows/dns_query",
        &["QueryName", "QueryStatus", "QueryResults", "Image", "User"],
    ),
    sysmon(
        "windows/pipe_created",
        &["EventType", "PipeName", "Image", "User"],
    ),
    sysmon(
        "windows/create_remote_thread",
        &[
            "SourceProcessGuid",
            "SourceProcessId",
            "SourceImage",
            "SourceUser",
            "TargetProcessGuid",
            "TargetProcessId",
            "TargetImage",
            "TargetUser",
            "NewThreadId",
            "StartAddress",
            "StartModule",
            "StartFunction",
        ],
    ),
    sysmon(
        "windows/create_stream_hash",
        &[
            "Image",
            "TargetFilename",
            "CreationUtcTime",
            "Hash",
            "Hashes",
            "sha256",
            "sha1",
            "md5",
            "Imphash",
            "Contents",
            "User",
        ],
    ),
    sysmon(
        "windows/process_access",
        &[
            "SourceProcessGUID",
            "SourceProcessId",
            "SourceThreadId",
            "SourceImage",
            "SourceUser",
            "TargetProcessGUID",
            "TargetProcessId",
            "TargetImage",
            "TargetUser",
            "GrantedAccess",
            "CallTrace",
        ],
    ),
    sysmon("windows/process_tampering", &["Image", "Type", "User"]),
    sysmon("windows/process_termination", &["Image", "User"]),
    sysmon("windows/raw_access_thread", &["Image", "Device", "User"]),
    sysmon(
        "windows/sysmon_status",
        &[
            "State",
            "SchemaVersion",
            "Configuration",
            "ConfigurationFileHash",
        ],
    ),
    sysmon("windows/sysmon_error", &["ID", "Description"]),
    sysmon(
        "windows/wmi_event",
        &[
            "EventType",
            "Operation",
            "User",
            "EventNamespace",
            "Name",
            "Query",
            "Type",
            "Destination",
            "Consumer",
            "Filter",
        ],
    ),
    sysmon(
        "windows/clipboard_capture",
        &[
            "Image",
            "Session",
            "ClientInfo",
            "Hashes",
            "Archived",
            "User",
        ],
    ),
    sysmon(
        "windows/file_block_executable",
        &[
            "Image",
            "TargetFilename",
            "Hashes",
            "sha256",
            "sha1",
            "md5",
            "Imphash",
            "User",
        ],
    ),
    sysmon(
        "windows/file_block_shredding",
        &[
            "Image",
            "TargetFilename",
            "Hashes",
            "sha256",
            "sha1",
            "md5",
            "Imphash",
            "IsExecutable",
            "User",
        ],
    ),
    sysmon(
        "windows/file_executable_detected",
        &[
            "Image",
            "TargetFilename",
            "Hashes",
            "sha256",
            "sha1",
            "md5",
            "Imphash",
            "User",
        ],
    ),
    closed(
        "windows/file_access",
        &[
            "FileName",
            "Image",
            "ProcessId",
            "User",
            "AccessMask",
            "AccessList",
        ],
    ),
    closed(
        "windows/ps_script",
        &[
            "ScriptBlockText",
            "ScriptBlockId",
            "MessageNumber",
            "MessageTotal",
            "Path",
        ],
    ),
    closed("windows/ps_module", &["Payload", "ContextInfo", "UserData"]),
    closed("windows/ps_classic_start", POWERSHELL_CLASSIC),
    closed("windows/ps_classic_provider_start", POWERSHELL_CLASSIC),
    closed("windows/ps_classic_script", POWERSHELL_CLASSIC),
];

/// What the classic PowerShell log says in lines of `name=value`.
const POWERSHELL_CLASSIC: &[&str] = &[
    "Data",
    "NewEngineState",
    "PreviousEngineState",
    "NewProviderState",
    "ProviderName",
    "SequenceNumber",
    "HostName",
    "HostVersion",
    "HostId",
    "HostApplication",
    "EngineVersion",
    "RunspaceId",
    "PipelineId",
    "CommandName",
    "CommandType",
    "ScriptName",
    "CommandPath",
    "CommandLine",
    "UserId",
    "DetailSequence",
    "DetailTotal",
];

/// What must hold for an event of a wider class to belong to a category.
#[derive(Debug, Clone, Copy)]
pub(super) enum When {
    /// The class is the category.
    Always,
    /// The action is one of these, or several that have one of these.
    Action(&'static [&'static str]),
    /// The field has one of these values.
    Equal(&'static str, &'static [&'static str]),
}

/// A category of Sigma.
#[derive(Debug, Clone, Copy)]
pub(super) struct Category {
    pub(super) name: &'static str,
    pub(super) system: System,
    pub(super) class: Class,
    pub(super) when: When,
}

const fn windows(name: &'static str, class: Class, when: When) -> Category {
    Category {
        name,
        system: System::Windows,
        class,
        when,
    }
}

const fn log_category(name: &'static str, class: &'static str) -> Category {
    windows(name, Class::Log(class), When::Always)
}

const fn linux(name: &'static str, class: Class, when: When) -> Category {
    Category {
        name,
        system: System::Linux,
        class,
        when,
    }
}

const REGISTRY: Class = Class::Log("windows/registry");
const MADE: When = When::Action(&["CREATE", "WRITE"]);
const REMOVED: When = When::Action(&["REMOVE"]);
const RENAMED: When = When::Action(&["RENAME"]);
const CHANGED: When = When::Action(&["WRITE", "CHMOD"]);
/// Detections of Microsoft Defender Antivirus, and what became of them.
const DEFENDER: When = When::Equal(
    "EventID",
    &[
        "1006", "1007", "1008", "1015", "1116", "1117", "1118", "1119",
    ],
);

/// Every category. A name may be there once per system.
pub(super) const CATEGORIES: &[Category] = &[
    linux("process_creation", Class::PROCESS, When::Always),
    linux("network_connection", Class::CONNECTION, When::Always),
    linux("file_event", Class::FILE, MADE),
    linux("file_delete", Class::FILE, REMOVED),
    linux("file_rename", Class::FILE, RENAMED),
    linux("file_change", Class::FILE, CHANGED),
    linux("dns_query", Class::DNS, When::Always),
    linux("dns", Class::DNS, When::Always),
    linux("process_termination", Class::EXIT, When::Always),
    windows("process_creation", Class::PROCESS, When::Always),
    windows("network_connection", Class::CONNECTION, When::Always),
    windows("file_event", Class::FILE, MADE),
    windows("file_delete", Class::FILE, REMOVED),
    windows("file_rename", Class::FILE, RENAMED),
    windows("file_change", Class::FILE, CHANGED),
    log_category("file_access", "windows/file_access"),
    windows("registry_event", REGISTRY, When::Always),
    windows(
        "registry_add",
        REGISTRY,
        When::Equal("EventType", &["CreateKey", "CreateValue"]),
    ),
    windows(
        "registry_delete",
        REGISTRY,
        When::Equal("EventType", &["DeleteKey", "DeleteValue"]),
    ),
    windows(
        "registry_set",
        REGISTRY,
        When::Equal("EventType", &["SetValue"]),
    ),
    windows(
        "registry_rename",
        REGISTRY,
        When::Equal("EventType", &["RenameKey", "RenameValue"]),
    ),
    log_category("image_load", "windows/image_load"),
    log_category("driver_load", "windows/driver_load"),
    log_category("dns_query", "windows/dns_query"),
    log_category("pipe_created", "windows/pipe_created"),
    log_category("create_remote_thread", "windows/create_remote_thread"),
    log_category("create_stream_hash", "windows/create_stream_hash"),
    log_category("process_access", "windows/process_access"),
    log_category("process_tampering", "windows/process_tampering"),
    log_category("process_termination", "windows/process_termination"),
    log_category("raw_access_thread", "windows/raw_access_thread"),
    log_category("sysmon_status", "windows/sysmon_status"),
    log_category("sysmon_error", "windows/sysmon_error"),
    log_category("wmi_event", "windows/wmi_event"),
    log_category("clipboard_capture", "windows/clipboard_capture"),
    log_category("file_block_executable", "windows/file_block_executable"),
    log_category("file_block_shredding", "windows/file_block_shredding"),
    log_category(
        "file_executable_detected",
        "windows/file_executable_detected",
    ),
    log_category("ps_script", "windows/ps_script"),
    log_category("ps_module", "windows/ps_module"),
    log_category("ps_classic_start", "windows/ps_classic_start"),
    log_category(
        "ps_classic_provider_start",
        "windows/ps_classic_provider_start",
    ),
    log_category("ps_classic_script", "windows/ps_classic_script"),
    windows("antivirus", Class::Log("windows/windefend"), DEFENDER),
];

/// A service of Sigma: a channel of Windows, or a log of Linux.
#[derive(Debug, Clone, Copy)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) system: System,
    pub(super) class: &'static str,
    /// Channels; for Linux the programs whose lines they are, none for all.
    pub(super) from: &'static [&'static str],
}

macro_rules! services {
    ($system:ident, $folder:literal: $($name:literal => $from:expr),* $(,)?) => {
        [$(Service {
            name: $name,
            system: System::$system,
            class: concat!($folder, "/", $name),
            from: &$from,
        }),*]
    };
}

/// Channel logs of Windows.
pub(super) const CHANNELS: &[Service] = &services!(Windows, "windows":
    "application" => ["Application"],
    "applocker" => [
        "Microsoft-Windows-AppLocker/MSI and Script",
        "Microsoft-Windows-AppLocker/EXE and DLL",
        "Microsoft-Windows-AppLocker/Packaged app-Deployment",
        "Microsoft-Windows-AppLocker/Packaged app-Execution",
    ],
    "appmodel-runtime" => ["Microsoft-Windows-AppModel-Runtime/Admin"],
    "appxdeployment-server" => ["Microsoft-Windows-AppXDeploymentServer/Operational"],
    "appxpackaging-om" => ["Microsoft-Windows-AppxPackaging/Operational"],
    "bitlocker" => ["Microsoft-Windows-BitLocker/BitLocker Management"],
    "bits-client" => ["Microsoft-Windows-Bits-Client/Operational"],
    "capi2" => ["Microsoft-Windows-CAPI2/Operational"],
    "certificateservicesclient-lifecycle-system" => [
        "Microsoft-Windows-CertificateServicesClient-Lifecycle-System/Operational",
    ],
    "codeintegrity-operational" => ["Microsoft-Windows-CodeIntegrity/Operational"],
    "dhcp" => ["Microsoft-Windows-DHCP-Server/Operational"],
    "diagnosis-scripted" => ["Microsoft-Windows-Diagnosis-Scripted/Operational"],
    "dns-client" => ["Microsoft-Windows-DNS Client Events/Operational",
        "Microsoft-Windows-DNS-Client/Operational"],
    "dns-server" => ["DNS Server"],
    "dns-server-analytic" => ["Microsoft-Windows-DNS-Server/Analytical"],
    "dns-server-audit" => ["Microsoft-Windows-DNS-Server/Audit",
        "Microsoft-Windows-DNSServer/Audit"],
    "driver-framework" => ["Microsoft-Windows-DriverFrameworks-UserMode/Operational"],
    "firewall-as" => ["Microsoft-Windows-Windows Firewall With Advanced Security/Firewall"],
    "hyper-v-worker" => ["Microsoft-Windows-Hyper-V-Worker-Admin",
        "Microsoft-Windows-Hyper-V-Worker"],
    "iis-configuration" => ["Microsoft-IIS-Configuration/Operational"],
    "kernel-event-tracing" => ["Microsoft-Windows-Kernel-EventTracing/Admin"],
    "kernel-shimengine" => ["Microsoft-Windows-Kernel-ShimEngine/Operational",
        "Microsoft-Windows-Kernel-ShimEngine/Diagnostic"],
    "ldap" => ["Microsoft-Windows-LDAP-Client/Debug"],
    "lsa-server" => ["Microsoft-Windows-LSA/Operational"],
    "microsoft-servicebus-client" => ["Microsoft-ServiceBus-Client",
        "Microsoft-ServiceBus-Client/Operational", "Microsoft-ServiceBus-Client/Admin"],
    "msexchange-management" => ["MSExchange Management"],
    "ntfs" => ["Microsoft-Windows-Ntfs/Operational"],
    "ntlm" => ["Microsoft-Windows-NTLM/Operational"],
    "openssh" => ["OpenSSH/Operational"],
    "powershell" => ["Microsoft-Windows-PowerShell/Operational", "PowerShellCore/Operational"],
    "powershell-classic" => ["Windows PowerShell"],
    "printservice-admin" => ["Microsoft-Windows-PrintService/Admin"],
    "printservice-operational" => ["Microsoft-Windows-PrintService/Operational"],
    "security" => ["Security"],
    "security-mitigations" => ["Microsoft-Windows-Security-Mitigations/Kernel Mode",
        "Microsoft-Windows-Security-Mitigations/User Mode",
        "Microsoft-Windows-Security-Mitigations/KernelMode",
        "Microsoft-Windows-Security-Mitigations/UserMode"],
    "sense" => ["Microsoft-Windows-SENSE/Operational"],
    "shell-core" => ["Microsoft-Windows-Shell-Core/Operational"],
    "smbclient-connectivity" => ["Microsoft-Windows-SmbClient/Connectivity"],
    "smbclient-security" => ["Microsoft-Windows-SmbClient/Security"],
    "smbserver-connectivity" => ["Microsoft-Windows-SMBServer/Connectivity"],
    "sysmon" => ["Microsoft-Windows-Sysmon/Operational"],
    "system" => ["System"],
    "taskscheduler" => ["Microsoft-Windows-TaskScheduler/Operational"],
    "terminalservices-localsessionmanager" => [
        "Microsoft-Windows-TerminalServices-LocalSessionManager/Operational",
    ],
    "terminalservices-remoteconnectionmanager" => [
        "Microsoft-Windows-TerminalServices-RemoteConnectionManager/Operational",
    ],
    "vhdmp" => ["Microsoft-Windows-VHDMP/Operational", "Microsoft-Windows-VHDMP-Operational"],
    "webdav-client" => ["Microsoft-Windows-WebClient/Operational"],
    "windefend" => ["Microsoft-Windows-Windows Defender/Operational"],
    "wmi" => ["Microsoft-Windows-WMI-Activity/Operational"],
    "other" => []
);

/// Logs of Linux, by the programs whose lines they hold.
pub(super) const TEXT_LOGS: &[Service] = &services!(Linux, "linux":
    "auditd" => [],
    "syslog" => [],
    "auth" => ["sshd", "sshd-session", "sudo", "su", "login", "systemd-logind", "polkitd",
        "pkexec", "useradd", "usermod", "userdel", "groupadd", "groupmod", "groupdel", "passwd",
        "chpasswd", "chage", "gdm-password", "lightdm"],
    "clamav" => ["clamd", "clamscan", "freshclam", "clamonacc"],
    "cron" => ["cron", "crond", "CRON", "anacron", "atd", "crontab"],
    "guacamole" => ["guacd", "guacamole"],
    "sshd" => ["sshd", "sshd-session"],
    "sudo" => ["sudo"],
    "vsftpd" => ["vsftpd"]
);

/// Class of records of channels that no service names.
pub const OTHER_CHANNEL: Class = Class::Log("windows/other");

/// Services that are another's classes.
const ALIASES: &[(&str, &str)] = &[
    ("authpriv", "auth"),
    ("secure", "auth"),
    ("messages", "syslog"),
    ("servicebus-client", "microsoft-servicebus-client"),
    ("printservice", "printservice-operational"),
    ("codeintegrity", "codeintegrity-operational"),
    ("clipboard_change", "clipboard_capture"),
];

/// The name a log source stands for.
pub(super) fn unaliased(name: &str) -> &str {
    ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map_or(name, |(_, name)| name)
}

pub(super) fn services() -> impl Iterator<Item = &'static Service> {
    CHANNELS.iter().chain(TEXT_LOGS)
}

/// The class of that name.
pub(super) fn log(name: &str) -> Option<Log> {
    let found = LOGS.iter().find(|log| log.name == name).copied();
    found.or_else(|| {
        let service = services().find(|service| service.class == name)?;
        let fields: &[&str] = match service.class {
            "linux/auditd" => AUDIT_FIELDS,
            _ if service.system == System::Linux => TEXT_FIELDS,
            _ => &[],
        };
        Some(Log {
            name: service.class,
            fields,
            open: true,
            sysmon: false,
        })
    })
}

/// Fields that most records of the Linux audit log have, besides those of their type.
const AUDIT_FIELDS: &[&str] = &["type", "node", "serial"];

/// Fields of a line of a text log.
const TEXT_FIELDS: &[&str] = &["message", "program", "pid", "host"];

pub(super) fn is_sysmon(class: Class) -> bool {
    matches!(class, Class::Log(name) if log(name).is_some_and(|log| log.sysmon))
}

/// Other names of fields of logs.
pub(super) fn other_names(class: Class) -> &'static [Named] {
    const fn named(sigma: &'static str, name: &'static str) -> Named {
        Named {
            sigma,
            name,
            recorded: true,
        }
    }
    match class {
        Class::Log("windows/windefend") => {
            const {
                &[
                    named("Signature", "ThreatName"),
                    named("Filename", "Path"),
                    named("ComputerName", "Computer"),
                ]
            }
        }
        Class::Log(name) if name.starts_with("windows/") => {
            const { &[named("ComputerName", "Computer")] }
        }
        Class::Log(_) | Class::Source(_) => &[],
    }
}
