use std::{fs, os::unix::fs::symlink, process::Command};

use super::*;
use crate::inventory::fixture;

fn roots(dir: &tempfile::TempDir) -> Vec<String> {
    collect(&Root::at(dir.path()))
        .iter()
        .map(|path| path.to_string_lossy().into_owned())
        .collect()
}

#[test]
fn nginx_every_server_and_location_root_of_the_include_tree_a15() {
    let dir = fixture(&[
        ("usr/sbin/nginx", ""),
        (
            "etc/nginx/nginx.conf",
            "http {\n include mime.types;\n include conf.d/*.conf;\n include /etc/nginx/sites-enabled/*;\n}",
        ),
        (
            "etc/nginx/conf.d/a.conf",
            "server { listen 80; root /srv/one; # root /no;\n location /i/ { alias \"/srv/images dir/\"; } }\n\
             server { root html; location = /f { alias /srv/file.ico; } }",
        ),
        ("etc/nginx/conf.d/off.conf.bak", "root /no;"),
        (
            "etc/nginx/sites-available/b",
            "set $docs /srv/set; server { root $docs/pub; }\n server { root /srv/vhosts/$host/www; }\n\
             server { root $document; root /; }\n include sites-available/b;",
        ),
        ("srv/file.ico", "x"),
        ("etc/nginx/sites-enabled/.keep", ""),
    ]);
    let enabled = dir.path().join("etc/nginx/sites-enabled");
    symlink("/etc/nginx/sites-available/b", enabled.join("b")).unwrap();
    symlink("/etc/nginx/sites-enabled/loop", enabled.join("loop")).unwrap();
    assert_eq!(
        roots(&dir),
        [
            "/srv/images dir",
            "/srv/one",
            "/srv/set/pub",
            "/srv/vhosts",
            "/usr/share/nginx/html",
        ]
    );
}

#[test]
fn apache_every_document_root_of_the_include_tree_a15() {
    let dir = fixture(&[
        ("usr/sbin/apache2", ""),
        ("etc/apache2/envvars", "export SITES=/srv\n"),
        (
            "etc/apache2/apache2.conf",
            "Define inner ${SITES}/inner\nIncludeOptional sites-enabled/*.conf\nInclude extra\n\
             Include apache2.conf\nDocumentRoot ${missing}/no\n",
        ),
        (
            "etc/apache2/sites-enabled/a.conf",
            "<VirtualHost *:80>\n\tDocumentRoot \"/srv/a b/\"\n</VirtualHost>\n\
             <VirtualHost *:81>\n documentroot ${inner}\n</VirtualHost>\n",
        ),
        (
            "etc/apache2/extra/deep/x",
            "DocumentRoot htdocs\nVirtualDocumentRoot /srv/mass/%0/www\n",
        ),
        ("etc/apache2/conf.d/x.conf", "DocumentRoot /no\n"),
    ]);
    assert_eq!(
        roots(&dir),
        ["/etc/apache2/htdocs", "/srv/a b", "/srv/inner", "/srv/mass"]
    );
}

#[test]
fn a_running_server_names_its_own_configuration_and_java_servers_their_bases_a15() {
    let stat = |pid: u32| format!("{pid} (x) S 1 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 99 0");
    let dir = fixture(&[
        ("opt/web/my.conf", "root pages;"),
        ("proc/7/stat", &stat(7)),
        (
            "proc/7/cmdline",
            "nginx: master process /opt/n/nginx -p /opt/web -c my.conf\0\0",
        ),
        ("proc/8/stat", &stat(8)),
        (
            "proc/8/cmdline",
            "java\0-Dcatalina.base=/opt/tomcat\0x.Bootstrap\0",
        ),
        ("proc/9/stat", &stat(9)),
        (
            "proc/9/cmdline",
            "java\0-Djetty.base=/opt/jetty\0-jar\0start.jar\0",
        ),
        ("proc/10/stat", &stat(10)),
        (
            "proc/10/cmdline",
            "java\0-Djetty.base=/opt/in-a-container\0",
        ),
        (
            "opt/tomcat/conf/Catalina/localhost/app.xml",
            "<Context docBase=\"/srv/app\"/>",
        ),
        ("proc/self/stat", ""),
    ]);
    let proc = dir.path().join("proc");
    symlink("/opt/n/nginx", proc.join("7/exe")).unwrap();
    for java in ["8", "9", "10"] {
        symlink("/opt/jre/bin/java", proc.join(java).join("exe")).unwrap();
    }
    for (pid, namespace) in [
        ("self", "1"),
        ("7", "1"),
        ("8", "1"),
        ("9", "1"),
        ("10", "2"),
    ] {
        fs::create_dir(proc.join(pid).join("ns")).unwrap();
        symlink(format!("pid:[{namespace}]"), proc.join(pid).join("ns/pid")).unwrap();
    }
    assert_eq!(
        roots(&dir),
        [
            "/opt/jetty/webapps",
            "/opt/tomcat/webapps",
            "/opt/web/pages",
            "/srv/app"
        ]
    );
}

#[test]
fn without_a_web_server_there_are_no_roots() {
    let dir = fixture(&[("etc/nginx/nginx.conf", "root /left/over;")]);
    assert!(roots(&dir).is_empty());
}

/// The real programs tell their layouts; their real configurations are read.
#[test]
fn installed_web_servers_are_asked_and_their_sites_found_a15() {
    let host = Root::host();
    let found = collect(&host);
    for (program, site) in [
        ("/usr/sbin/nginx", "/etc/nginx/sites-enabled/default"),
        (
            "/usr/sbin/apache2",
            "/etc/apache2/sites-enabled/000-default.conf",
        ),
    ] {
        if !Path::new(program).exists() || !Path::new(site).exists() {
            eprintln!(
                "SKIPPED installed_web_servers_are_asked_and_their_sites_found_a15: {program} with {site} is not installed"
            );
            continue;
        }
        let answer = ask::build_options(&host, Path::new(program)).unwrap();
        let said = Command::new(program)
            .arg("-V")
            .env_clear()
            .output()
            .unwrap();
        let said = [said.stdout, said.stderr].concat();
        assert!(!answer.is_empty() && !said.is_empty());
        assert!(
            found.contains(&PathBuf::from("/var/www/html")),
            "{program}: {found:?}"
        );
    }
}

/// Two server blocks in `conf.d`, by the real nginx with a configuration of our own.
#[test]
fn two_server_blocks_of_a_real_nginx_are_both_found_a15() {
    let program = Path::new("/usr/sbin/nginx");
    if !program.exists() {
        eprintln!(
            "SKIPPED two_server_blocks_of_a_real_nginx_are_both_found_a15: {} is not installed",
            program.display()
        );
        return;
    }
    let dir = fixture(&[
        (
            "nginx.conf",
            "pid nginx.pid; error_log stderr; events {} http { access_log off; include conf.d/*.conf; }",
        ),
        (
            "conf.d/one.conf",
            "server { listen unix:one.sock; root /srv/one; }",
        ),
        (
            "conf.d/two.conf",
            "server { listen unix:two.sock; location / { root /srv/two; } }",
        ),
    ]);
    let base = dir.path().to_string_lossy().into_owned();
    let accepted = Command::new(program)
        .args(["-t", "-q", "-p", &base, "-c", "nginx.conf"])
        .output()
        .unwrap();
    assert!(accepted.status.success(), "nginx refuses: {accepted:?}");
    let mut child = Command::new(program)
        .args(["-p", &base, "-c", "nginx.conf", "-g", "daemon off;"])
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let wanted = ["/srv/one", "/srv/two"].map(PathBuf::from);
    let mut found = Vec::new();
    while std::time::Instant::now() < deadline && !wanted.iter().all(|w| found.contains(w)) {
        found = collect(&Root::host());
    }
    // Asked to stop rather than killed, so that its worker ends too.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    assert!(wanted.iter().all(|w| found.contains(w)), "{found:?}");
}

#[test]
fn two_virtual_hosts_of_a_real_apache_are_both_found_a15() {
    let program = Path::new("/usr/sbin/apache2");
    let modules = "/usr/lib/apache2/modules";
    if !program.exists() || !Path::new(modules).exists() {
        eprintln!(
            "SKIPPED two_virtual_hosts_of_a_real_apache_are_both_found_a15: {} is not installed",
            program.display()
        );
        return;
    }
    // Apache takes no port from the kernel; this one was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port();
    let dir = fixture(&[
        (
            "sites/one.conf",
            "<VirtualHost *>\nServerName one\nDocumentRoot /srv/apache-one\n</VirtualHost>\n",
        ),
        (
            "sites/two.conf",
            "Define WHERE /srv\n<VirtualHost *>\nServerName two\nDocumentRoot \"${WHERE}/apache two\"\n</VirtualHost>\n",
        ),
    ]);
    let base = dir.path().to_string_lossy().into_owned();
    let main = format!(
        "ServerName localhost\nListen 127.0.0.1:{port}\nPidFile pid\nErrorLog error.log\n\
         User www-data\nGroup www-data\nLoadModule mpm_event_module {modules}/mod_mpm_event.so\n\
         LoadModule authz_core_module {modules}/mod_authz_core.so\nIncludeOptional sites/*.conf\n"
    );
    fs::write(dir.path().join("main.conf"), main).unwrap();
    let arguments = ["-d", &base, "-f", "main.conf"];
    let accepted = Command::new(program)
        .args(arguments)
        .arg("-t")
        .output()
        .unwrap();
    assert!(accepted.status.success(), "Apache refuses: {accepted:?}");
    let mut child = Command::new(program)
        .args(arguments)
        .args(["-D", "FOREGROUND"])
        .spawn()
        .unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    let wanted = ["/srv/apache-one", "/srv/apache two"].map(PathBuf::from);
    let mut found = Vec::new();
    while std::time::Instant::now() < deadline && !wanted.iter().all(|w| found.contains(w)) {
        found = collect(&Root::host());
    }
    let tagged = crate::inventory::facts(&Root::host())
        .tags
        .contains(&"web".to_owned());
    // Asked to stop rather than killed, so that its workers end too.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    child.wait().unwrap();
    assert!(wanted.iter().all(|w| found.contains(w)), "{found:?}");
    assert!(tagged, "a host that runs Apache is a web server (A14)");
}
