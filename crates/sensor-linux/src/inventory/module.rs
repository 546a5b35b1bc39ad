//! `module`: loaded kernel modules, hidden ones too.
//!
//! The kernel lists its modules twice. A rootkit that takes itself out of `/proc/modules` is often still
//! in `/sys/module`; such a one is listed with the state `Hidden`.

use std::{
    collections::{HashMap, HashSet},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use yinglong_model::inventory::Element;

use super::{Error, Root, element, root::file_name};

/// The table has some 60 bytes a module.
const TABLE_LIMIT_BYTES: u64 = 4 << 20;

/// What the build of a kernel puts behind a signed module, `include/linux/module_signature.h`.
const SIGNATURE: &[u8] = b"~Module signature appended~\n";

/// Collects the modules. How often one is in use is left out, since it changes all the time.
///
/// # Errors
/// A file exists and cannot be read.
pub fn collect(root: &Root) -> Result<Vec<Element>, Error> {
    let mut modules = loaded(root);
    let hidden: Vec<String> = suspects(root, &modules)?;
    if !hidden.is_empty() {
        // One that was loaded between the two looks is in the table by now.
        modules = loaded(root);
        let known = |name: &String| modules.iter().any(|module| module.name == *name);
        let unseen: Vec<String> = hidden.into_iter().filter(|name| !known(name)).collect();
        modules.extend(unseen.into_iter().filter_map(|name| {
            // And one that was unloaded meanwhile is gone.
            is_live(root, &name).then(|| Module {
                name,
                state: "Hidden".to_owned(),
                ..Module::default()
            })
        }));
    }
    if modules.is_empty() {
        return Ok(Vec::new());
    }
    modules.sort_by(|a, b| a.name.cmp(&b.name));
    let files = files(root, &modules)?;
    Ok(modules
        .into_iter()
        .map(|module| {
            let of_sys = |file: &str| {
                let path = format!("/sys/module/{}/{file}", module.name);
                let text = root.peek(path, 256).unwrap_or_default();
                String::from_utf8_lossy(&text).trim().to_owned()
            };
            let path = files.get(&module.name);
            let taint = of_sys("taint");
            let signed = match path.and_then(|path| has_signature(root, path)) {
                // The kernel's own word on what it loaded comes first.
                _ if taint.contains('E') => "False",
                Some(true) => "True",
                Some(false) => "False",
                None => "",
            };
            element([
                (
                    "path",
                    path.map(|path| path.to_string_lossy().into_owned())
                        .unwrap_or_default(),
                ),
                ("version", of_sys("version")),
                ("signed", signed.to_owned()),
                ("taint", taint),
                ("name", module.name),
                ("size", module.size),
                ("usedby", module.used_by),
                ("state", module.state),
            ])
        })
        .collect())
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Module {
    name: String,
    size: String,
    used_by: String,
    state: String,
}

fn loaded(root: &Root) -> Vec<Module> {
    let table = root
        .peek("/proc/modules", TABLE_LIMIT_BYTES)
        .unwrap_or_default();
    parse(&String::from_utf8_lossy(&table))
}

/// Lines of `/proc/modules`: name, size, uses, who uses it, state, address, taints.
fn parse(table: &str) -> Vec<Module> {
    table
        .lines()
        .filter_map(|line| {
            let mut columns = line.split_ascii_whitespace();
            let (name, size) = (columns.next()?, columns.next()?);
            let (_uses, users, state) = (columns.next()?, columns.next()?, columns.next()?);
            let mut users: Vec<&str> = users
                .split(',')
                // `[permanent]` stands among the users of what cannot be unloaded.
                .filter(|user| !matches!(*user, "" | "-"))
                .collect();
            users.sort_unstable();
            Some(Module {
                name: name.to_owned(),
                size: size.parse::<u64>().ok()?.to_string(),
                used_by: users.join(","),
                state: state.to_owned(),
            })
        })
        .collect()
}

/// Modules of `/sys/module` that are not in the table. What is built into the kernel has no state there.
fn suspects(root: &Root, modules: &[Module]) -> Result<Vec<String>, Error> {
    let known: HashSet<&str> = modules.iter().map(|module| module.name.as_str()).collect();
    Ok(root
        .list("/sys/module")?
        .iter()
        .map(|path| file_name(path))
        .filter(|name| !known.contains(name.as_str()) && is_live(root, name))
        .collect())
}

fn is_live(root: &Root, name: &str) -> bool {
    root.peek(format!("/sys/module/{name}/initstate"), 16)
        .is_some_and(|state| state.starts_with(b"live"))
}

/// File of each module of the running kernel, by the name the kernel uses, from modules.dep(5).
fn files(root: &Root, modules: &[Module]) -> Result<HashMap<String, PathBuf>, Error> {
    let release = root
        .peek("/proc/sys/kernel/osrelease", 256)
        .unwrap_or_default();
    let release = String::from_utf8_lossy(&release).trim().to_owned();
    if release.is_empty() || release.contains('/') {
        return Ok(HashMap::new());
    }
    let folder = Path::new("/lib/modules").join(release);
    let index = root.text(folder.join("modules.dep"))?.unwrap_or_default();
    // A distribution has thousands of modules and a host some hundred of them.
    let loaded: HashSet<&str> = modules.iter().map(|m| m.name.as_str()).collect();
    Ok(parse_index(&index, &folder)
        .filter(|(name, _)| loaded.contains(name.as_str()))
        .collect())
}

fn parse_index<'a>(
    index: &'a str,
    folder: &'a Path,
) -> impl Iterator<Item = (String, PathBuf)> + 'a {
    index.lines().filter_map(move |line| {
        let (path, _needs) = line.split_once(':')?;
        let name = path.rsplit('/').next()?.split(".ko").next()?;
        // The kernel has an underscore wherever the file has a minus.
        Some((name.replace('-', "_"), folder.join(path)))
    })
}

/// Whether a signature stands at the end of the file; `None` when the file is compressed, since the
/// signature is inside, or cannot be read.
fn has_signature(root: &Root, path: &Path) -> Option<bool> {
    if path.extension()? != "ko" {
        return None;
    }
    let mut file = root.file(path).ok()??;
    let length = i64::try_from(SIGNATURE.len()).ok()?;
    file.seek(SeekFrom::End(-length)).ok()?;
    let mut end = Vec::new();
    file.take(SIGNATURE.len() as u64)
        .read_to_end(&mut end)
        .ok()?;
    Some(end == SIGNATURE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{fixture, rows};
    use proptest::prelude::*;

    const FIELDS: [&str; 8] = [
        "name", "size", "usedby", "state", "path", "version", "signed", "taint",
    ];

    const TABLE: &str = "nf_tables 303104 2 nft_compat,nft_chain_nat, Live 0xffffffffc0a5e000\n\
        vboxdrv 696320 0 - Live 0x0000000000000000 (OE)\n\
        dm_crypt 61440 1 [permanent], Loading 0xffffffffc0a00000\nshort 1\nodd x 1 - Live 0x0\n";

    #[test]
    fn modules_have_file_signature_and_taint_and_hidden_ones_are_shown() {
        let signed = format!("ELF{}", String::from_utf8_lossy(SIGNATURE));
        let dir = fixture(&[
            ("proc/modules", TABLE),
            ("proc/sys/kernel/osrelease", "6.1.0-9-amd64\n"),
            (
                "lib/modules/6.1.0-9-amd64/modules.dep",
                "kernel/net/nf_tables.ko: kernel/lib/x.ko\nkernel/md/dm-crypt.ko.xz:\nmisc/vboxdrv.ko:\nodd\n",
            ),
            ("lib/modules/6.1.0-9-amd64/kernel/net/nf_tables.ko", &signed),
            ("lib/modules/6.1.0-9-amd64/misc/vboxdrv.ko", "ELF"),
            ("sys/module/nf_tables/initstate", "live\n"),
            ("sys/module/vboxdrv/taint", "OE\n"),
            ("sys/module/vboxdrv/version", "7.0.6\n"),
            ("sys/module/built_in/parameters/x", "1\n"),
            ("sys/module/diamorphine/initstate", "live\n"),
        ]);
        let list = collect(&Root::at(dir.path())).unwrap();
        let base = "/lib/modules/6.1.0-9-amd64";
        assert_eq!(
            rows(&list, &FIELDS),
            [
                "diamorphine|||Hidden||||".to_owned(),
                format!("dm_crypt|61440|[permanent]|Loading|{base}/kernel/md/dm-crypt.ko.xz|||"),
                format!(
                    "nf_tables|303104|nft_chain_nat,nft_compat|Live|{base}/kernel/net/nf_tables.ko||True|"
                ),
                format!("vboxdrv|696320||Live|{base}/misc/vboxdrv.ko|7.0.6|False|OE"),
            ]
        );
    }

    #[test]
    fn how_often_a_module_is_used_changes_nothing_a16() {
        let list = |uses: &str| parse(&format!("loop 40960 {uses} - Live 0xffffffffc0a5e000\n"));
        assert_eq!(list("1"), list("7"));
    }

    #[test]
    fn the_modules_of_this_very_host_are_those_the_kernel_names() {
        let Ok(table) = std::fs::read_to_string("/proc/modules") else {
            eprintln!("SKIPPED the_modules_of_this_very_host: this kernel has no /proc/modules");
            assert!(
                collect(&Root::host())
                    .unwrap()
                    .iter()
                    .all(|e| e["state"] == "Hidden")
            );
            return;
        };
        let list = collect(&Root::host()).unwrap();
        for line in table.lines() {
            let name = line.split(' ').next().unwrap();
            assert!(list.iter().any(|e| e["name"] == name), "{name} is missing");
        }
    }

    proptest! {
        #[test]
        fn no_table_of_modules_can_stop_the_collector_a17(
            text in any::<String>(),
            lines in "([a-z_-]{0,5}[ :,0-9.ko/]{0,20}\n){0,10}",
        ) {
            for text in [&text, &lines] {
                for module in parse(text) {
                    prop_assert!(!module.name.is_empty());
                }
                let _ = parse_index(text, Path::new("/lib/modules/x")).count();
            }
        }
    }
}
