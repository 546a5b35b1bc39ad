//! Configuration documents: the `config` collection, one document per `type`.

mod validate;

use serde::{Deserialize, Serialize};

pub use validate::{Invalid, SECRET_KEYS};

/// Defines a document with defaults; unknown keys are refused so that a typo is seen.
macro_rules! document {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty = $default:expr,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
        pub struct $name { $($(#[$field_doc])* pub $field: $kind,)* }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)* }
            }
        }
    };
}

document! {
    /// What agents observe and how often.
    Client {
        /// Minutes between two looks at the inventories; 1 to 1440.
        cycle: u32 = 2,
        /// Report UDP flows.
        udp: bool = false,
        /// Report questions to the domain name system, with their answers.
        dns: bool = true,
        /// Report what resolvers of the host ask on behalf of its programs, too.
        dns_resolvers: bool = true,
        /// Report peers with private addresses (loopback included).
        lan: bool = false,
        /// Kept for classic documents; not used.
        mode: String = String::new(),
        /// Directories to watch; a trailing `*` means recursively.
        monitor_path: Vec<String> = ["%windows%", "%system32%", "%web%", "/etc/", "/bin/",
            "/sbin/", "/usr/bin/", "/usr/sbin/"].map(str::to_owned).to_vec(),
        /// Report system calls that matter for security.
        syscall: bool = true,
        /// Report those of 32-bit programs too, which costs every system call of the host a little.
        syscall32: bool = false,
        /// Report the end of every process. Ends by a signal that tells of a fault are always reported.
        exit: bool = false,
        /// Report inbound connections of hosts tagged `web`.
        web_inbound: bool = false,
        /// Peers' ports that are never reported.
        ignored_ports: Vec<u16> = vec![137, 139, 445],
        /// Largest file that is hashed, in bytes.
        hash_limit_bytes: u64 = 32 << 20,
    }
}

document! {
    /// How the server treats what it receives.
    Server {
        /// Observation mode: store and count, raise nothing.
        learn: bool = true,
        /// Ping hosts whose agent is silent.
        offlinecheck: bool = false,
        /// Public half of the task signing key, PEM; read-only.
        publickey: String = String::new(),
        /// Never stored nor returned; accepted empty for classic documents.
        privatekey: String = String::new(),
        /// Certificate of the server's authority, PEM; read-only.
        cert: String = String::new(),
        /// Days events are kept, and stories without an alert to decide about; 1 to 3650.
        retention_days: u32 = 90,
    }
}

document! {
    /// Threat intelligence look-ups.
    Intelligence {
        /// Whether anything is asked.
        switch: bool = false,
        /// URL for addresses, with `{$ip}`.
        ipapi: String = String::new(),
        /// URL for hashes, with `{$hash}`.
        fileapi: String = String::new(),
        /// An answer that matches is a hit.
        regex: String = "black".to_owned(),
    }
}

document! {
    /// Where alerts are announced.
    Notice {
        /// Whether alerts are announced.
        switch: bool = false,
        /// Only level 0.
        onlyhigh: bool = false,
        /// URL with `{$info}`.
        api: String = String::new(),
    }
}

document! {
    /// A list of regular expressions, addresses and networks, and hashes.
    List {
        /// Paths (regex), MD5 or SHA-256; commands of scheduled jobs (regex).
        file: Vec<String> = Vec::new(),
        /// Addresses or networks in CIDR form.
        ip: Vec<String> = Vec::new(),
        /// Process names, paths or commands (regex).
        process: Vec<String> = Vec::new(),
        /// Names of anything else (regex).
        other: Vec<String> = Vec::new(),
    }
}

document! {
    /// What agents leave out at the source.
    Filter {
        /// Paths (regex) or MD5.
        file: Vec<String> = vec![r"\.(png|js|css|jpg|gif|woff2?|svg)$".to_owned()],
        /// Peers: addresses or networks.
        ip: Vec<String> = Vec::new(),
        /// Executables (regex on path or base name).
        process: Vec<String> = Vec::new(),
    }
}

document! {
    /// Console settings.
    Web {
        /// Kept for classic documents; secrets live with the users, never here.
        tfakey: String = String::new(),
    }
}

/// Every configuration document.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Agents.
    pub client: Client,
    /// Server.
    pub server: Server,
    /// Threat intelligence.
    pub intelligence: Intelligence,
    /// Notification.
    pub notice: Notice,
    /// Never alerted on.
    pub whitelist: List,
    /// Always alerted on.
    pub blacklist: List,
    /// Left out by agents.
    pub filter: Filter,
    /// Console.
    pub web: Web,
    /// Named lists of this site, which Sigma rules refer to as `%name%`.
    pub lists: Lists,
}

/// Values by the name of their list.
pub type Lists = std::collections::BTreeMap<String, Vec<String>>;

impl Config {
    /// Names of the documents.
    pub const TYPES: [&'static str; 9] = [
        "client",
        "server",
        "intelligence",
        "notice",
        "whitelist",
        "blacklist",
        "filter",
        "web",
        "lists",
    ];
}

/// The part of the configuration that agents follow.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AgentConfig {
    /// Increases with every change.
    pub revision: u64,
    /// What to observe.
    pub client: Client,
    /// What to leave out.
    pub filter: Filter,
    /// Addresses of our own servers, never reported as peers.
    pub servers: Vec<String>,
    /// Tags a person gave this host.
    pub tags: Vec<String>,
}
