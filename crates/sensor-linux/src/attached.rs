//! BPF programs that outlive the process that loaded them.
//!
//! Programs, links and maps live as long as any process holds a descriptor of them. One process of
//! the agent loads and reads; another one may [`hold`] them by id meanwhile, so that the kernel
//! keeps filling the ring when the first is killed, and its successor adopts what it finds there.
//! Nothing is pinned to a file system.
//!
//! Opening by id needs `CAP_SYS_ADMIN` (Linux 5.8 to 6.18).

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
};

use libbpf_rs::{
    Link, MapCore, MapHandle, ObjectBuilder, OpenObject, PrintLevel, ProgramMut, libbpf_sys,
};
use serde::{Deserialize, Serialize};

use crate::{btf::Btf, ring::Ring};

/// Of all compiled programs together.
const BUILD: &str = env!("YINGLONG_PROGRAMS");

/// Kernel ids of everything a sensor attached. Ids are unique until the next boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BpfIds {
    /// Of which build the programs are: those of another one have other maps and records.
    #[serde(default)]
    pub build: String,
    /// Map ids by the map's name in the object.
    pub maps: BTreeMap<String, u32>,
    /// Link ids.
    pub links: Vec<u32>,
    /// Ids of programs that are attached only at times, by their names in the object.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub programs: BTreeMap<String, u32>,
    /// Programs that could not be attached when they were loaded, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// Why programs could not be loaded or found again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel, or libbpf, refused.
    #[error("the kernel refused to {what}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// Its answer.
        #[source]
        source: libbpf_rs::Error,
    },
    /// Nothing has that id any more; load anew.
    #[error("no {what} has the id {id} any more")]
    Gone {
        /// `map`, `link` or `program`.
        what: &'static str,
        /// The id.
        id: u32,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// Another build of the agent has loaded them; load anew.
    #[error("the programs are those of another build of the agent")]
    Foreign,
    /// A descriptor could not be duplicated.
    #[error("no file descriptor is left; raise the limit of open files")]
    Descriptors(#[source] std::io::Error),
}

impl Error {
    fn is_interruption(&self) -> bool {
        matches!(self, Self::Refused { source, .. }
            if source.kind() == libbpf_rs::ErrorKind::WouldBlock)
    }

    /// The error and what to do about it, in words.
    pub(crate) fn advice(&self) -> String {
        match self {
            Self::Refused { what, source }
                if source.kind() == libbpf_rs::ErrorKind::PermissionDenied =>
            {
                format!(
                    "no permission to {what}; run the agent as root, or with CAP_BPF, CAP_PERFMON \
                     and CAP_SYS_ADMIN"
                )
            }
            Self::Refused { what, source } => format!(
                "the kernel refused to {what} ({source}); Linux 5.10 or later with BPF enabled is \
                 needed"
            ),
            other => other.to_string(),
        }
    }
}

fn refused(what: impl Into<String>) -> impl FnOnce(libbpf_rs::Error) -> Error {
    let what = what.into();
    move |source| Error::Refused { what, source }
}

/// Opens everything by id and thereby keeps it alive for as long as the result exists.
///
/// # Errors
/// [`Error::Gone`] when one of them does not exist any more.
pub fn hold(ids: &BpfIds) -> Result<Vec<OwnedFd>, Error> {
    let maps = ids.maps.values().map(|&id| open_map(id));
    let programs = ids.programs.values().map(|&id| open_program(id));
    maps.chain(programs)
        .chain(ids.links.iter().map(|&id| open_link(id)))
        .collect()
}

/// How full a ring is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RingFill {
    /// Bytes that are not committed yet.
    pub used_bytes: u64,
    /// Size in bytes.
    pub size_bytes: u64,
}

/// Looks at the ring of programs without reading from it; `None` when they have none any more, or
/// this process may not open it.
pub fn ring_fill(ids: &BpfIds) -> Option<RingFill> {
    let id = ["ring", "records"]
        .iter()
        .find_map(|name| ids.maps.get(*name))?;
    let map = MapHandle::from_map_id(*id).ok()?;
    let used = Ring::fill(map.as_fd()).ok()?;
    Some(RingFill {
        used_bytes: u64::try_from(used).ok()?,
        size_bytes: u64::from(map.max_entries()),
    })
}

/// An object file in memory, aligned as ELF readers expect it.
#[repr(C, align(16))]
#[derive(Debug)]
pub struct Aligned<B: ?Sized>(
    /// The file.
    pub B,
);

/// Attached programs and their maps.
#[derive(Debug)]
pub struct Attached {
    maps: BTreeMap<String, MapHandle>,
    /// Programs that are attached only at times.
    spare: BTreeMap<String, OwnedFd>,
    // Held, never read: they keep the programs attached.
    _links: Vec<OwnedFd>,
    ids: BpfIds,
}

impl Attached {
    /// Loads an object as `configure` wants it, relocated with `types`, and attaches every loaded
    /// program with `attach`, which answers the links: none to go on without, several for a program
    /// with several hooks; see [`link`]. Programs named in `spare` are loaded but left for
    /// [`Attached::attach_spare`].
    ///
    /// The kernel gives up checking a program when a signal comes for the thread; on a busy host that
    /// may be so more often than libbpf tries, so it is tried again here.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the step.
    pub fn load<L: IntoIterator<Item = OwnedFd>>(
        object: &[u8],
        spare: &[&str],
        types: &Btf,
        mut configure: impl FnMut(&mut OpenObject) -> libbpf_rs::Result<()>,
        mut attach: impl FnMut(&ProgramMut<'_>) -> libbpf_rs::Result<L>,
    ) -> Result<Self, Error> {
        const ATTEMPTS: usize = 5;
        let mut attempt = || Self::load_once(object, spare, types, &mut configure, &mut attach);
        let mut loaded = attempt();
        for _ in 1..ATTEMPTS {
            match &loaded {
                Err(error) if error.is_interruption() => loaded = attempt(),
                _ => break,
            }
        }
        loaded
    }

    fn load_once<L: IntoIterator<Item = OwnedFd>>(
        object: &[u8],
        spare: &[&str],
        types: &Btf,
        configure: &mut impl FnMut(&mut OpenObject) -> libbpf_rs::Result<()>,
        attach: &mut impl FnMut(&ProgramMut<'_>) -> libbpf_rs::Result<L>,
    ) -> Result<Self, Error> {
        libbpf_rs::set_print(Some((PrintLevel::Warn, |_, text| {
            tracing::debug!(target: "libbpf", "{}", text.trim_end());
        })));
        let mut builder = ObjectBuilder::default();
        if let Some(file) = types.file() {
            let what = format!("use the types of {}", file.display());
            builder.btf_custom_path(file).map_err(refused(what))?;
        }
        let mut open = builder
            .open_memory(object)
            .map_err(refused("read the compiled programs"))?;
        configure(&mut open).map_err(refused("configure the programs"))?;
        let loaded = open.load().map_err(refused("load the programs"))?;

        let mut attached = Self {
            maps: BTreeMap::new(),
            spare: BTreeMap::new(),
            _links: Vec::new(),
            ids: BpfIds {
                build: BUILD.to_owned(),
                ..BpfIds::default()
            },
        };
        for program in loaded.progs_mut() {
            if !program.autoload() {
                continue;
            }
            let what = || format!("attach {}", program.name().display());
            if let Some(name) = spare.iter().find(|name| program.name() == **name) {
                attached.keep_spare(name, &program)?;
                continue;
            }
            for link in attach(&program).map_err(refused(what()))? {
                attached.ids.links.push(link_id(&link)?);
                attached._links.push(link);
            }
        }
        for map in loaded.maps() {
            let name = map.name().to_string_lossy().into_owned();
            let handle =
                MapHandle::try_from(&map).map_err(refused(format!("describe map {name}")))?;
            attached.insert(name, handle)?;
        }
        Ok(attached)
    }

    /// Takes over what another process loaded; nothing is attached again.
    ///
    /// # Errors
    /// [`Error::Gone`] when the kernel has let go of it, [`Error::Foreign`] after an update: load anew.
    pub fn adopt(ids: &BpfIds) -> Result<Self, Error> {
        if ids.build != BUILD {
            return Err(Error::Foreign);
        }
        let links = ids.links.iter().map(|&id| open_link(id));
        let mut attached = Self {
            maps: BTreeMap::new(),
            spare: BTreeMap::new(),
            _links: links.collect::<Result<_, _>>()?,
            ids: BpfIds {
                maps: BTreeMap::new(),
                ..ids.clone()
            },
        };
        for (name, &id) in &ids.maps {
            let handle = MapHandle::from_map_id(id).map_err(|error| Error::Gone {
                what: "map",
                id,
                source: std::io::Error::other(error),
            })?;
            attached.insert(name.clone(), handle)?;
        }
        for (name, &id) in &ids.programs {
            attached.spare.insert(name.clone(), open_program(id)?);
        }
        Ok(attached)
    }

    fn keep_spare(&mut self, name: &str, program: &ProgramMut<'_>) -> Result<(), Error> {
        let fd = program.as_fd().try_clone_to_owned();
        let fd = fd.map_err(Error::Descriptors)?;
        self.ids.programs.insert(name.to_owned(), program_id(&fd)?);
        self.spare.insert(name.to_owned(), fd);
        Ok(())
    }

    /// Attaches a spare program to the tracepoint its section names (`tp_btf/`), for as long as
    /// the result exists and this process runs; `None` when there is no spare program of that name.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn attach_spare(&self, name: &str) -> libbpf_rs::Result<Option<OwnedFd>> {
        let Some(program) = self.spare.get(name) else {
            return Ok(None);
        };
        // SAFETY: no name is given, as programs of this type have their own; the descriptor is open.
        let fd =
            unsafe { libbpf_sys::bpf_raw_tracepoint_open(std::ptr::null(), program.as_raw_fd()) };
        if fd < 0 {
            return Err(std::io::Error::from_raw_os_error(-fd).into());
        }
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Keeps a link like those made when the programs were loaded.
    ///
    /// # Errors
    /// The kernel does not describe it.
    pub fn keep(&mut self, link: OwnedFd) -> Result<(), Error> {
        self.ids.links.push(link_id(&link)?);
        self._links.push(link);
        Ok(())
    }

    fn insert(&mut self, name: String, handle: MapHandle) -> Result<(), Error> {
        let info = handle
            .info()
            .map_err(refused(format!("describe map {name}")))?;
        self.ids.maps.insert(name.clone(), info.info.id);
        self.maps.insert(name, handle);
        Ok(())
    }

    /// Remembers, for whoever adopts, what could not be attached.
    pub fn set_missing(&mut self, missing: Vec<String>) {
        self.ids.missing = missing;
    }

    /// What to hand to [`hold`] and [`Attached::adopt`].
    pub fn ids(&self) -> &BpfIds {
        &self.ids
    }

    /// The map of that name in the object.
    pub fn map(&self, name: &str) -> Option<&MapHandle> {
        self.maps.get(name)
    }
}

/// The descriptor of a link, which keeps its program attached. For links that are no more than
/// their descriptor; one of a perf event is not, see [`attach_tracepoint`].
///
/// # Errors
/// No descriptor is left.
pub fn link(link: &Link) -> libbpf_rs::Result<OwnedFd> {
    Ok(link.as_fd().try_clone_to_owned()?)
}

/// Attaches to the tracepoint of that number (`events/*/*/id` in tracefs). Needs Linux 5.15. The
/// library does this as well, but its link switches the event off when it is dropped, while others
/// may still hold it.
///
/// # Errors
/// The kernel refuses, or is too old.
pub fn attach_tracepoint(program: &ProgramMut<'_>, number: u64) -> libbpf_rs::Result<OwnedFd> {
    let bytes = size_of::<libbpf_sys::perf_event_attr>();
    let attributes = libbpf_sys::perf_event_attr {
        type_: libbpf_sys::PERF_TYPE_TRACEPOINT,
        size: u32::try_from(bytes).unwrap_or_default(),
        config: number,
        ..Default::default()
    };
    let (everybody, first_cpu, no_group) = (-1, 0, -1);
    let close_on_exec = libc::c_ulong::from(libbpf_sys::PERF_FLAG_FD_CLOEXEC);
    // SAFETY: the kernel reads the attributes, whose size they tell, and makes a descriptor.
    let event = unsafe {
        libc::syscall(
            libc::SYS_perf_event_open,
            &raw const attributes,
            everybody,
            first_cpu,
            no_group,
            close_on_exec,
        )
    };
    let event = match i32::try_from(event) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(fd) if fd >= 0 => unsafe { OwnedFd::from_raw_fd(fd) },
        _ => return Err(std::io::Error::last_os_error().into()),
    };
    let kind = libbpf_sys::BPF_PERF_EVENT;
    let (program, target) = (program.as_fd().as_raw_fd(), event.as_raw_fd());
    // SAFETY: takes descriptors that are open, and no options.
    let fd = unsafe { libbpf_sys::bpf_link_create(program, target, kind, std::ptr::null()) };
    if fd < 0 {
        return Err(std::io::Error::from_raw_os_error(-fd).into());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn link_id(link: &OwnedFd) -> Result<u32, Error> {
    let mut info = libbpf_sys::bpf_link_info::default();
    let mut bytes = u32::try_from(size_of_val(&info)).unwrap_or_default();
    // SAFETY: the kernel writes at most `bytes` bytes of the structure.
    let answer = unsafe {
        libbpf_sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &raw mut info, &raw mut bytes)
    };
    if answer < 0 {
        let error = std::io::Error::from_raw_os_error(-answer);
        return Err(refused("describe a link")(error.into()));
    }
    Ok(info.id)
}

fn program_id(program: &OwnedFd) -> Result<u32, Error> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut bytes = u32::try_from(size_of_val(&info)).unwrap_or_default();
    // SAFETY: the kernel writes at most `bytes` bytes of the structure, whose pointers are null.
    let answer = unsafe {
        libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &raw mut info, &raw mut bytes)
    };
    if answer < 0 {
        let error = std::io::Error::from_raw_os_error(-answer);
        return Err(refused("describe a program")(error.into()));
    }
    Ok(info.id)
}

fn open_program(id: u32) -> Result<OwnedFd, Error> {
    // SAFETY: takes a number, touches no memory of ours.
    let fd = unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) };
    own(fd, "program", id)
}

fn open_map(id: u32) -> Result<OwnedFd, Error> {
    // SAFETY: takes a number, touches no memory of ours.
    let fd = unsafe { libbpf_sys::bpf_map_get_fd_by_id(id) };
    own(fd, "map", id)
}

fn open_link(id: u32) -> Result<OwnedFd, Error> {
    // SAFETY: takes a number, touches no memory of ours.
    let fd = unsafe { libbpf_sys::bpf_link_get_fd_by_id(id) };
    own(fd, "link", id)
}

fn own(fd: i32, what: &'static str, id: u32) -> Result<OwnedFd, Error> {
    if fd < 0 {
        let source = std::io::Error::from_raw_os_error(-fd);
        return Err(Error::Gone { what, id, source });
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_another_build_are_not_adopted() {
        let ids = BpfIds {
            build: "another".to_owned(),
            ..BpfIds::default()
        };
        assert!(matches!(Attached::adopt(&ids), Err(Error::Foreign)));
    }
}
