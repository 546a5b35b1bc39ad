//! Records to bytes and back.

use prost::Message as _;
use yinglong_model::{
    EventData, Inventory, InventoryType, Observation, Timestamp,
    event::{
        Connection, Direction, Dns, Exit, File, Login, Loss, Mode, Process, Protocol, Syscall,
    },
};

use crate::v1::{self, record};

/// Why bytes are not a record.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not Protocol Buffers.
    #[error("not a record")]
    Malformed(#[from] prost::DecodeError),
    /// A kind of observation this version does not know.
    #[error("the record has no observation this version knows; update the server")]
    UnknownObservation,
    /// An inventory this version does not know.
    #[error("unknown inventory `{0}`; update the server")]
    UnknownInventory(String),
}

/// Encodes an observation and the time it was taken.
pub fn encode_record(observed_at: Timestamp, observation: &Observation) -> Vec<u8> {
    let (occurred_at, wire) = match observation {
        Observation::Event { occurred_at, data } => (*occurred_at, event_to_wire(data)),
        Observation::Inventory(inventory) => (
            observed_at,
            record::Observation::Inventory(inventory_to_wire(inventory)),
        ),
    };
    v1::Record {
        observed_at_ns: observed_at.nanos(),
        occurred_at_ns: occurred_at.nanos(),
        observation: Some(wire),
    }
    .encode_to_vec()
}

/// Decodes what [`encode_record`] made.
///
/// # Errors
/// The bytes are not a record this version understands.
pub fn decode_record(bytes: &[u8]) -> Result<(Timestamp, Observation), Error> {
    let wire = v1::Record::decode(bytes)?;
    let occurred_at = Timestamp::from_nanos(wire.occurred_at_ns);
    let event = |data| Observation::Event { occurred_at, data };
    let observation = match wire.observation.ok_or(Error::UnknownObservation)? {
        record::Observation::Process(data) => {
            event(EventData::Process(Box::new(process_from_wire(data))))
        }
        record::Observation::Connection(data) => {
            event(EventData::Connection(connection_from_wire(data)))
        }
        record::Observation::File(data) => event(EventData::File(Box::new(file_from_wire(data)))),
        record::Observation::Login(data) => event(EventData::Loginlog(login_from_wire(data))),
        record::Observation::Dns(data) => event(EventData::Dns(Box::new(dns_from_wire(data)))),
        record::Observation::Syscall(data) => {
            event(EventData::Syscall(Box::new(syscall_from_wire(data))))
        }
        record::Observation::Exit(data) => event(EventData::Exit(Box::new(exit_from_wire(data)))),
        record::Observation::Loss(data) => event(EventData::Loss(Box::new(loss_from_wire(data)))),
        record::Observation::Inventory(data) => Observation::Inventory(inventory_from_wire(data)?),
    };
    Ok((Timestamp::from_nanos(wire.observed_at_ns), observation))
}

fn event_to_wire(data: &EventData) -> record::Observation {
    match data {
        EventData::Process(data) => record::Observation::Process(process_to_wire(data)),
        EventData::Connection(data) => record::Observation::Connection(connection_to_wire(data)),
        EventData::File(data) => record::Observation::File(file_to_wire(data)),
        EventData::Loginlog(data) => record::Observation::Login(login_to_wire(data)),
        EventData::Dns(data) => record::Observation::Dns(dns_to_wire(data)),
        EventData::Syscall(data) => record::Observation::Syscall(syscall_to_wire(data)),
        EventData::Exit(data) => record::Observation::Exit(exit_to_wire(data)),
        EventData::Loss(data) => record::Observation::Loss(loss_to_wire(data)),
    }
}

/// Writes both directions of a conversion between structs whose fields have the same names.
macro_rules! same_fields {
    ($to:ident, $from:ident, $model:ident, $wire:ident { $($field:ident),* $(,)? }
        $(, $wire_field:ident: |$m:ident| $to_wire:expr, $model_field:ident: |$w:ident| $to_model:expr)*) => {
        fn $to(data: &$model) -> v1::$wire {
            v1::$wire {
                $($field: data.$field.clone(),)*
                $($wire_field: { let $m = data; $to_wire },)*
            }
        }

        fn $from(data: v1::$wire) -> $model {
            $(let $model_field = { let $w = &data; $to_model };)*
            $model {
                $($field: data.$field,)*
                $($model_field,)*
            }
        }
    };
}

same_fields!(process_to_wire, process_from_wire, Process, Process {
    name, command, pid, ppid, parentname, info, uid, euid, user, gid, cwd, exe, md5, sha256,
    hash_skipped, session,
    loginuid, tty, container_id, cgroup, parent_command, ancestors, exit_code, script, memfd,
    setuid, truncated,
},
    start_time_ns: |m| m.start_time.map(Timestamp::nanos),
    start_time: |w| w.start_time_ns.map(Timestamp::from_nanos));

same_fields!(connection_to_wire, connection_from_wire, Connection, Connection {
    local, remote, remote_ip, name, pid, user, state, attribution,
},
    inbound: |m| m.dir == Direction::In,
    dir: |w| if w.inbound { Direction::In } else { Direction::Out },
    udp: |m| m.protocol == Protocol::Udp,
    protocol: |w| if w.udp { Protocol::Udp } else { Protocol::Tcp });

same_fields!(
    file_to_wire,
    file_from_wire,
    File,
    File {
        action,
        path,
        hash,
        user,
        sha256,
        size,
        hash_skipped,
        actor_pid,
        actor_name,
        actor_user,
        web,
        capabilities,
        old_path,
        new_path,
        link_path,
        yara,
        yara_tags,
    },
    mode: |m| m.mode.map(Mode::bits),
    mode: |w| w.mode.map(Mode::from_bits)
);

same_fields!(
    login_to_wire,
    login_from_wire,
    Login,
    Login {
        username,
        remote,
        status,
        hostname,
        tty,
        source,
    }
);

same_fields!(dns_to_wire, dns_from_wire, Dns, Dns {
    query, qtype, rcode, answers, server, name, pid, exe, parentname, user, container_id, cgroup,
    attribution,
},
    udp: |m| m.protocol == Protocol::Udp,
    protocol: |w| if w.udp { Protocol::Udp } else { Protocol::Tcp });

same_fields!(
    syscall_to_wire,
    syscall_from_wire,
    Syscall,
    Syscall {
        call,
        success,
        errno,
        target,
        target_pid,
        detail,
        name,
        pid,
        ppid,
        parentname,
        exe,
        command,
        user,
        uid,
        euid,
        auid,
        container_id,
        cgroup,
        session,
        tty,
    }
);

same_fields!(exit_to_wire, exit_from_wire, Exit, Exit {
    name, command, pid, ppid, parentname, exit_code, signal, core_dumped, uid, user, duration_ms,
    user_ms, system_ms, max_rss_bytes, container_id, cgroup,
},
    start_time_ns: |m| m.start_time.map(Timestamp::nanos),
    start_time: |w| w.start_time_ns.map(Timestamp::from_nanos));

same_fields!(loss_to_wire, loss_from_wire, Loss, Loss {
    stream, reason, count, container_id, cgroup, user,
},
    from_ns: |m| m.from.nanos(),
    from: |w| Timestamp::from_nanos(w.from_ns),
    to_ns: |m| m.to.nanos(),
    to: |w| Timestamp::from_nanos(w.to_ns));

fn inventory_to_wire(inventory: &Inventory) -> v1::Inventory {
    v1::Inventory {
        kind: inventory.kind.as_str().to_owned(),
        data: inventory
            .data
            .iter()
            .map(|element| v1::Element {
                fields: element.clone().into_iter().collect(),
            })
            .collect(),
    }
}

fn inventory_from_wire(wire: v1::Inventory) -> Result<Inventory, Error> {
    let kind = InventoryType::from_name(&wire.kind).ok_or(Error::UnknownInventory(wire.kind))?;
    let data = wire
        .data
        .into_iter()
        .map(|e| e.fields.into_iter().collect())
        .collect();
    Ok(Inventory { kind, data })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(observation: Observation) {
        let at = Timestamp::from_nanos(1_764_000_000_000_000_001);
        let bytes = encode_record(at, &observation);
        assert_eq!(decode_record(&bytes).unwrap(), (at, observation));
    }

    #[test]
    fn every_kind_of_observation_survives_the_wire() {
        let occurred_at = Timestamp::from_nanos(5);
        let event = |data| Observation::Event { occurred_at, data };
        check(event(EventData::Process(Box::new(Process {
            name: "/bin/id".into(),
            pid: 7,
            uid: Some(0),
            start_time: Some(Timestamp::from_nanos(-3)),
            ancestors: vec!["/bin/sh".into(), "/sbin/init".into()],
            exit_code: Some(-1),
            memfd: Some(true),
            md5: Some("ab".into()),
            hash_skipped: Some("gone".into()),
            ..Process::default()
        }))));
        check(event(EventData::Connection(Connection {
            dir: Direction::In,
            protocol: Protocol::Udp,
            local: "[::1]:53".into(),
            ..Connection::default()
        })));
        check(event(EventData::File(Box::new(File {
            size: Some(u64::MAX),
            mode: Some(Mode::from_bits(0o4755)),
            capabilities: Some("cap_net_raw=ep".into()),
            old_path: Some("/a".into()),
            new_path: Some("/b".into()),
            link_path: Some("/c".into()),
            ..File::default()
        }))));
        check(event(EventData::Loginlog(Login {
            status: true,
            ..Login::default()
        })));
        check(event(EventData::Dns(Box::new(Dns {
            query: "a.example".into(),
            answers: vec!["192.0.2.1".into()],
            protocol: Protocol::Udp,
            pid: 7,
            parentname: Some("bash".into()),
            ..Dns::default()
        }))));
        check(event(EventData::Syscall(Box::new(Syscall {
            call: "ptrace".into(),
            success: true,
            target_pid: Some(9),
            auid: Some(1000),
            tty: Some("pts/0".into()),
            ..Syscall::default()
        }))));
        check(event(EventData::Exit(Box::new(Exit {
            name: "/bin/a".into(),
            exit_code: 139,
            signal: Some("SIGSEGV".into()),
            core_dumped: Some(true),
            start_time: Some(Timestamp::from_nanos(9)),
            max_rss_bytes: Some(u64::MAX),
            ..Exit::default()
        }))));
        check(event(EventData::Loss(Box::new(Loss {
            stream: "connection".into(),
            reason: "over_share".into(),
            count: 312,
            from: Timestamp::from_nanos(-5),
            to: Timestamp::from_nanos(7),
            cgroup: Some("/a".into()),
            ..Loss::default()
        }))));
        let element = [("name".to_owned(), "root".to_owned())]
            .into_iter()
            .collect();
        check(Observation::Inventory(Inventory {
            kind: InventoryType::Userlist,
            data: vec![element],
        }));
        check(Observation::Inventory(Inventory {
            kind: InventoryType::Crontab,
            data: vec![],
        }));
    }

    #[test]
    fn garbage_and_unknown_kinds_are_errors() {
        assert!(matches!(
            decode_record(b"\xff\xff\xff"),
            Err(Error::Malformed(_))
        ));
        assert!(matches!(decode_record(b""), Err(Error::UnknownObservation)));
        let wire = v1::Record {
            observation: Some(record::Observation::Inventory(v1::Inventory {
                kind: "horoscope".into(),
                data: vec![],
            })),
            ..v1::Record::default()
        };
        assert!(matches!(
            decode_record(&wire.encode_to_vec()),
            Err(Error::UnknownInventory(kind)) if kind == "horoscope"
        ));
    }
}
