//! Log sources that nobody on a host delivers, and why.

use super::LogSource;

/// What a product or category without a sensor is.
const FOREIGN: &[(&str, &str)] = &[
    ("aws", CLOUD),
    ("azure", CLOUD),
    ("gcp", CLOUD),
    ("m365", CLOUD),
    ("okta", CLOUD),
    ("onelogin", CLOUD),
    ("github", CLOUD),
    ("bitbucket", CLOUD),
    ("google_workspace", CLOUD),
    ("cloudflare", CLOUD),
    (
        "kubernetes",
        "it is a log of a cluster, and Yinglong reads hosts only",
    ),
    ("zeek", NETWORK),
    ("cisco", NETWORK),
    ("fortigate", NETWORK),
    ("fortios", NETWORK),
    ("huawei", NETWORK),
    ("juniper", NETWORK),
    ("paloalto", NETWORK),
    ("opencanary", NETWORK),
    ("firewall", NETWORK),
    ("dns", NETWORK),
    ("proxy", NETWORK),
    ("macos", "Yinglong has no sensor for macOS"),
    ("rpc_firewall", APPLICATION),
    ("django", APPLICATION),
    ("jvm", APPLICATION),
    ("nodejs", APPLICATION),
    ("python", APPLICATION),
    ("ruby_on_rails", APPLICATION),
    ("spring", APPLICATION),
    ("sql", APPLICATION),
    ("velocity", APPLICATION),
    ("database", APPLICATION),
    ("application", APPLICATION),
    ("webserver", WEB),
    ("apache", WEB),
    ("nginx", WEB),
];

const CLOUD: &str = "it is a log of a cloud service, and Yinglong reads hosts only";
const NETWORK: &str = "it is a log of a network device or sensor, and Yinglong reads hosts only";
const APPLICATION: &str = "no sensor or reader takes logs of applications";
const WEB: &str = "no sensor or reader takes access logs of web servers";

/// Why nobody delivers a log source, when that is certain.
pub(super) fn reason(source: &LogSource) -> Option<&'static str> {
    let names = [&source.product, &source.category, &source.service];
    names.into_iter().flatten().find_map(|name| {
        let known = FOREIGN.iter().find(|(foreign, _)| foreign == name);
        known.map(|(_, reason)| *reason)
    })
}
