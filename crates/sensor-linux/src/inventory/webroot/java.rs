//! Tomcat, Jetty and JBoss: directories of web applications, from how the server was started.

use std::{
    path::{Path, PathBuf},
    sync::LazyLock,
};

use regex::Regex;

use super::Found;
use crate::inventory::{Root, root::file_name};

static COMMENT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("(?s)<!--.*?-->").expect("the pattern is constant and valid"));

static DIRECTORY: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r#"\b(appBase|docBase)\s*=\s*["']([^"']*)["']"#)
        .expect("the pattern is constant and valid")
});

/// Adds the application directories of one Java process; most have none.
pub(super) fn collect(root: &Root, arguments: &[String], found: &mut Found) {
    let property = |name: &str| {
        let value = |argument: &String| {
            let argument = argument.strip_prefix("-D").unwrap_or(argument);
            let value = argument.strip_prefix(name)?.strip_prefix('=')?;
            value.starts_with('/').then(|| PathBuf::from(value))
        };
        arguments.iter().find_map(value)
    };
    if let Some(base) = property("catalina.base").or_else(|| property("catalina.home")) {
        tomcat(root, &base, found);
    }
    if let Some(base) = property("jetty.base").or_else(|| property("jetty.home")) {
        found.add(&base.join("webapps"));
    }
    let jboss = property("jboss.server.base.dir")
        .or_else(|| property("jboss.home.dir").map(|home| home.join("standalone")));
    if let Some(base) = jboss {
        found.add(&base.join("deployments"));
    }
}

/// `server.xml` names the directories of its hosts; context files may name more.
fn tomcat(root: &Root, base: &Path, found: &mut Found) {
    let conf = base.join("conf");
    let server = found.text(root, &conf.join("server.xml"));
    match server.map(|text| directories(&text, base)) {
        Some(directories) if !directories.is_empty() => {
            directories.iter().for_each(|path| found.add(path));
        }
        _ => found.add(&base.join("webapps")),
    }
    let engines = root.list(&conf).unwrap_or_default();
    let hosts = engines
        .iter()
        .flat_map(|engine| root.list(engine).unwrap_or_default());
    for file in hosts.flat_map(|host| root.list(host).unwrap_or_default()) {
        if file_name(&file).ends_with(".xml")
            && let Some(text) = found.text(root, &file)
        {
            let paths = directories(&text, base);
            paths.iter().for_each(|path| found.add(path));
        }
    }
}

/// Every `appBase`, and every `docBase` that does not lie in one.
fn directories(xml: &str, base: &Path) -> Vec<PathBuf> {
    let xml = COMMENT.replace_all(xml, "");
    DIRECTORY
        .captures_iter(&xml)
        .filter_map(|captures| {
            let (_, [attribute, value]) = captures.extract();
            let value = value
                .replace("${catalina.base}", &base.to_string_lossy())
                .replace("${catalina.home}", &base.to_string_lossy());
            let usable = !value.is_empty()
                && !value.contains("${")
                && (attribute == "appBase" || value.starts_with('/'));
            usable.then(|| base.join(value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_contexts_of_server_xml_are_read_but_not_comments() {
        let xml = "<!-- <Context docBase=\"/no\"/> -->\n<Host name='a' appBase = \"webapps\">\n\
            <Context docBase='/srv/app'/><Context docBase=\"inside\"/></Host>\n\
            <Host appBase=\"${catalina.base}/more\"/><Host appBase=\"${unknown}/x\"/>";
        let expected = ["/opt/t/webapps", "/srv/app", "/opt/t/more"].map(PathBuf::from);
        assert_eq!(directories(xml, Path::new("/opt/t")), expected);
    }
}
