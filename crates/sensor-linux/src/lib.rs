//! Sensors for Linux: executions, connections, DNS questions, file changes, logins, system calls and
//! inventories.
//!
//! - **Guarantees**: every sensor tells what it uses and why ([`SensorStatus`]); everything a
//!   source lost is counted; nothing a process, a packet or a file contains can make a sensor panic.
//! - **Invariants**: a process is (pid, start time); parents are named from one [`tree::Tree`]
//!   shared by all sensors. A source is only given up after [`Outlet::commit`].
//! - **Not here**: filtering by configuration, the spool, transport.
//!
//! [`SensorStatus`]: yinglong_model::host::SensorStatus
//! [`Outlet::commit`]: yinglong_sensor::Outlet::commit

#![cfg(target_os = "linux")]

pub mod accounts;
pub mod attached;
pub mod btf;
pub mod dns;
pub mod files;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod heap;
pub mod inventory;
pub mod logins;
mod mapping;
pub mod name_service;
#[cfg(test)]
mod namespace;
pub mod network;
mod packets;
mod precedence;
pub mod probe;
pub mod process;
mod quiet;
pub mod ring;
mod share;
mod sqlite;
mod standing;
pub mod syscall;
pub mod text;
mod tracefs;
pub mod tree;
