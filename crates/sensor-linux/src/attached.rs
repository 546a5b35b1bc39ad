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
    os::fd::{AsFd, FromRawFd, OwnedFd},
};

use libbpf_rs::{
    Link, MapCore, MapHandle, ObjectBuilder, OpenMapMut, PrintLevel, ProgramMut, libbpf_sys,
};
use serde::{Deserialize, Serialize};

/// Kernel ids of everything a sensor attached. Ids are unique until the next boot.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct BpfIds {
    /// Map ids by the map's name in the object.
    pub maps: BTreeMap<String, u32>,
    /// Link ids.
    pub links: Vec<u32>,
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
        /// `map` or `link`.
        what: &'static str,
        /// The id.
        id: u32,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
    /// A descriptor could not be duplicated.
    #[error("no file descriptor is left; raise the limit of open files")]
    Descriptors(#[source] std::io::Error),
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
    maps.chain(ids.links.iter().map(|&id| open_link(id)))
        .collect()
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
    // Held, never read: they keep the programs attached.
    _links: Vec<OwnedFd>,
    ids: BpfIds,
}

impl Attached {
    /// Loads an object, after `configure` has seen every map, and attaches every program with
    /// `attach`, usually `|program| program.attach()`.
    ///
    /// # Errors
    /// [`Error::Refused`] naming the step.
    pub fn load(
        object: &[u8],
        mut configure: impl FnMut(&mut OpenMapMut<'_>) -> libbpf_rs::Result<()>,
        mut attach: impl FnMut(&ProgramMut<'_>) -> libbpf_rs::Result<Link>,
    ) -> Result<Self, Error> {
        libbpf_rs::set_print(Some((PrintLevel::Warn, |_, text| {
            tracing::debug!(target: "libbpf", "{}", text.trim_end());
        })));
        let mut open = ObjectBuilder::default()
            .open_memory(object)
            .map_err(refused("read the compiled programs"))?;
        for mut map in open.maps_mut() {
            configure(&mut map).map_err(refused(format!("size {}", map.name().display())))?;
        }
        let loaded = open.load().map_err(refused("load the programs"))?;

        let mut attached = Self {
            maps: BTreeMap::new(),
            _links: Vec::new(),
            ids: BpfIds::default(),
        };
        for program in loaded.progs_mut() {
            let what = || format!("attach {}", program.name().display());
            let link = attach(&program).map_err(refused(what()))?;
            let info = link.info().map_err(refused(what()))?;
            attached.ids.links.push(info.id);
            attached._links.push(
                link.as_fd()
                    .try_clone_to_owned()
                    .map_err(Error::Descriptors)?,
            );
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
    /// [`Error::Gone`] when the kernel has let go of it: load anew.
    pub fn adopt(ids: &BpfIds) -> Result<Self, Error> {
        let links = ids.links.iter().map(|&id| open_link(id));
        let mut attached = Self {
            maps: BTreeMap::new(),
            _links: links.collect::<Result<_, _>>()?,
            ids: BpfIds {
                links: ids.links.clone(),
                ..BpfIds::default()
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
        Ok(attached)
    }

    fn insert(&mut self, name: String, handle: MapHandle) -> Result<(), Error> {
        let info = handle
            .info()
            .map_err(refused(format!("describe map {name}")))?;
        self.ids.maps.insert(name.clone(), info.info.id);
        self.maps.insert(name, handle);
        Ok(())
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
