//! Type information (BTF) of the running kernel, which programs are relocated with: its own, or a
//! file's for kernels that were built without.
//!
//! Such files are made of a kernel's debugging information (`pahole --btf_encode_detached`), or come
//! from a collection such as BTFHub. One that belongs to another kernel makes programs read wrong
//! places, so files are only looked for by the exact release, and who may write them must be trusted
//! like root.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// Where the kernel shows its own.
pub const KERNEL: &str = "/sys/kernel/btf/vmlinux";
/// Names a file to use instead of all others.
pub const VARIABLE: &str = "YINGLONG_BTF";
/// Folder of files named `RELEASE.btf`.
pub const FOLDER: &str = "/var/lib/yinglong-agent/btf";

/// Where the types come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Btf {
    /// The kernel itself.
    Kernel,
    /// A file, raw or in a section of an ELF file.
    File(PathBuf),
}

impl Btf {
    /// The one to use: the file that was asked for, the kernel's own, a file made for this kernel.
    ///
    /// # Errors
    /// There is none: what is missing and how to get it, in words.
    pub fn find(asked: Option<&Path>) -> Result<Self, String> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        find(asked, release.trim(), &|path| path.is_file())
    }

    /// The file, if it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Kernel => None,
            Self::File(path) => Some(path),
        }
    }
}

/// What the environment asks for.
pub fn asked() -> Option<PathBuf> {
    env::var_os(VARIABLE)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

fn find(
    asked: Option<&Path>,
    release: &str,
    is_file: &dyn Fn(&Path) -> bool,
) -> Result<Btf, String> {
    if let Some(path) = asked {
        return match is_file(path) {
            true => Ok(Btf::File(path.to_owned())),
            false => Err(format!(
                "there is no file {}, which {VARIABLE} names",
                path.display()
            )),
        };
    }
    if is_file(Path::new(KERNEL)) {
        return Ok(Btf::Kernel);
    }
    let own = PathBuf::from(format!("{FOLDER}/{release}.btf"));
    let boot = PathBuf::from(format!("/boot/vmlinux-{release}.btf"));
    let missing = format!(
        "the kernel has no type information ({KERNEL}) and there is no {}; boot a kernel built with \
         CONFIG_DEBUG_INFO_BTF=y, as distributions ship since 2021, or put the BTF of this kernel there",
        own.display()
    );
    [own, boot]
        .into_iter()
        .find(|path| is_file(path))
        .map(Btf::File)
        .ok_or(missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_comes_before_the_kernels_own_and_files_come_last() {
        let own = format!("{FOLDER}/5.4.0.btf");
        for (asked, there, expected) in [
            (None, &[KERNEL][..], Some(Btf::Kernel)),
            (
                Some("/x.btf"),
                &[KERNEL, "/x.btf"],
                Some(Btf::File("/x.btf".into())),
            ),
            (Some("/x.btf"), &[KERNEL], None),
            (None, &[&own], Some(Btf::File(own.clone().into()))),
            (
                None,
                &["/boot/vmlinux-5.4.0.btf"],
                Some(Btf::File("/boot/vmlinux-5.4.0.btf".into())),
            ),
            (None, &["/boot/vmlinux-5.4.1.btf"], None),
        ] {
            let is_file = |path: &Path| there.iter().any(|there| Path::new(there) == path);
            let found = find(asked.map(Path::new), "5.4.0", &is_file);
            assert_eq!(found.ok(), expected, "{asked:?} {there:?}");
        }
        let reason = find(None, "5.4.0", &|_| false).unwrap_err();
        assert!(reason.contains(KERNEL) && reason.contains(&own), "{reason}");
    }
}
