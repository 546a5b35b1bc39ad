//! What every state store does.

use std::{collections::BTreeSet, sync::Barrier, thread};

use serde_json::json;
use yinglong_model::{
    AgentId, Alert, InventoryType, Timestamp,
    alert::Status,
    event::System,
    host::{Health, Host, HostReport},
    id::Epoch,
    inventory::Element,
    rule::Level,
};

use super::OpenState;
use crate::{
    Query,
    state_store::{AlertFilter, AuditEntry, Changes, Identity, Report, StoredInventory},
};

/// Runs every test, each on new storage.
pub fn state_store_conformance(make: impl Fn() -> OpenState) {
    counters_are_exact_under_concurrency(&make());
    one_of_many_first_reports_is_the_first(&make());
    counters_become_durable_with_the_position(&make());
    a_batch_read_again_changes_nothing(&make());
    statistics_answer_queries(&make());
    alerts_have_an_identity(&make());
    alerts_are_filtered_and_move_between_statuses(&make());
    inventories_are_replaced_whole(&make());
    documents_hosts_and_audit_are_kept(&make());
}

fn agent(number: u64) -> AgentId {
    AgentId::from_bits(u128::from(number))
}

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn report(info: &str, host: u64, secs: i64) -> Report {
    Report {
        kind: "process".into(),
        info: info.into(),
        agent: agent(host),
        at: at(secs),
    }
}

fn up_to(position: u64) -> Changes {
    Changes {
        position,
        acked: vec![(agent(1), Epoch(1), position)],
        ..Changes::default()
    }
}

/// S09.
fn counters_are_exact_under_concurrency(open: &OpenState) {
    let store = open();
    let store = &*store;
    thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..250_u64 {
                    let info = format!("/bin/{}", round % 10);
                    store
                        .count(&[report(&info, thread, 1), report("/bin/hot", round, 2)])
                        .unwrap();
                    if round % 100 == 50 {
                        let next = store.position().unwrap() + 1;
                        store
                            .apply(&Changes {
                                position: next,
                                ..Changes::default()
                            })
                            .unwrap();
                    }
                }
            });
        }
    });
    store.apply(&up_to(1000)).unwrap();
    let hot = store.statistic("process", "/bin/hot").unwrap().unwrap();
    assert_eq!((hot.count, hot.exist_count), (1000, 250));
    assert_eq!((hot.server_list.len(), hot.uptime), (100, at(2)));
    for n in 0..10 {
        let one = store
            .statistic("process", &format!("/bin/{n}"))
            .unwrap()
            .unwrap();
        assert_eq!((one.count, one.exist_count), (100, 4));
        assert_eq!(one.server_list, (0..4).map(agent).collect::<Vec<_>>());
    }
}

/// S15.
fn one_of_many_first_reports_is_the_first(open: &OpenState) {
    let store = open();
    let store = &*store;
    let barrier = &Barrier::new(8);
    let firsts: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|host| {
                scope.spawn(move || {
                    barrier.wait();
                    let counted = store.count(&[report("/bin/new", host, 1)]).unwrap();
                    usize::from(counted[0].count == 1)
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .sum()
    });
    assert_eq!(firsts, 1);
    let next = store.count(&[report("/bin/new", 3, 2)]).unwrap()[0];
    assert_eq!((next.count, next.exist_count), (9, 8));
}

fn counters_become_durable_with_the_position(open: &OpenState) {
    let store = open();
    store
        .count(&[report("a", 1, 5), report("a", 2, 4)])
        .unwrap();
    store.apply(&up_to(3)).unwrap();
    store
        .count(&[report("a", 3, 6), report("b", 1, 6)])
        .unwrap();
    // From outside the log: stored, but counters wait for their position.
    store
        .apply(&Changes {
            alerts: vec![alert("x", 1)],
            ..Changes::default()
        })
        .unwrap();
    assert_eq!(store.position().unwrap(), 3);
    drop(store);
    let store = open();
    assert_eq!(store.position().unwrap(), 3);
    assert!(store.alert("x").unwrap().is_some());
    assert_eq!(store.statistic("process", "b").unwrap(), None);
    let again = store
        .count(&[report("a", 1, 7), report("a", 3, 6)])
        .unwrap();
    assert_eq!((again[0].count, again[0].exist_count), (3, 2));
    assert_eq!((again[1].count, again[1].exist_count), (4, 3));
    store.discard();
    let again = store.count(&[report("a", 4, 7)]).unwrap();
    assert_eq!((again[0].count, again[0].exist_count), (3, 3));
    store.apply(&up_to(4)).unwrap();
    let stored = store.statistic("process", "a").unwrap().unwrap();
    assert_eq!((stored.count, stored.exist_count), (3, 3));
    assert_eq!(stored.server_list, [agent(1), agent(2), agent(4)]);
    assert_eq!(stored.uptime, at(7));
}

fn a_batch_read_again_changes_nothing(open: &OpenState) {
    let store = open();
    let batch = Changes {
        position: 7,
        acked: vec![(agent(1), Epoch(u128::MAX), 10), (agent(2), Epoch(0), 1)],
        stored: vec![(agent(1), "process".into(), 10)],
        inventories: vec![(agent(1), InventoryType::Userlist, inventory(&["root"], 1))],
        ..Changes::default()
    };
    let newer = Changes {
        position: 8,
        acked: vec![(agent(1), Epoch(u128::MAX), 12)],
        stored: vec![
            (agent(1), "process".into(), 1),
            (agent(1), "file".into(), 1),
        ],
        inventories: vec![(agent(1), InventoryType::Userlist, inventory(&[], 2))],
        ..Changes::default()
    };
    for changes in [&batch, &newer, &batch, &newer] {
        store.count(&[report("a", 1, 1)]).unwrap();
        store.apply(changes).unwrap();
    }
    drop(store);
    let store = open();
    assert_eq!(store.position().unwrap(), 8);
    assert_eq!(
        store.acked().unwrap(),
        [(agent(1), Epoch(u128::MAX), 12), (agent(2), Epoch(0), 1)]
    );
    assert_eq!(
        store.stored_totals().unwrap(),
        [
            (agent(1), "file".to_owned(), 1),
            (agent(1), "process".to_owned(), 11)
        ]
    );
    let users = store.inventory(&agent(1), InventoryType::Userlist);
    assert_eq!(users.unwrap(), Some(inventory(&[], 2)));
    assert_eq!(store.statistic("process", "a").unwrap().unwrap().count, 2);
}

fn statistics_answer_queries(open: &OpenState) {
    let store = open();
    for n in 1..=12_u64 {
        for host in 0..n {
            let secs = i64::try_from(n).unwrap();
            store
                .count(&[report(&format!("/bin/p{n}"), host % 5, secs)])
                .unwrap();
        }
    }
    store.apply(&up_to(1)).unwrap();
    let find = |text: &str| -> Vec<String> {
        let query = Query::parse(text).unwrap();
        let found = store.statistics(&query, 20).unwrap();
        assert!(
            found.iter().all(|one| query.matches_statistic(one)),
            "{text}"
        );
        found.into_iter().map(|one| one.info).collect()
    };
    assert_eq!(find("type:process | count:<3"), ["/bin/p2", "/bin/p1"]);
    assert_eq!(find("type:process | count:>=11"), ["/bin/p12", "/bin/p11"]);
    assert_eq!(find("type:process | exist_count:>=5").len(), 8);
    assert_eq!(find("type:process | count:>=1 | name:p7"), ["/bin/p7"]);
    assert!(find("type:startup | count:>0").is_empty());
    let all = Query::default().since(Some(at(11)));
    assert_eq!(store.statistics(&all, 20).unwrap().len(), 2);
    assert_eq!(store.statistics(&Query::default(), 5).unwrap().len(), 5);
}

fn alert(id: &str, host: u64) -> Alert {
    Alert {
        id: id.into(),
        agent_id: agent(host),
        ip: "192.0.2.1".into(),
        hostname: "web-1".into(),
        kind: "process".into(),
        source: "Reverse shell".into(),
        rule_id: "r1".into(),
        level: Level::Danger,
        info: "/bin/sh|bash -i".into(),
        description: "ÄRGER with 100% effort_".into(),
        description_zh: String::new(),
        attack: vec!["T1059.004".into()],
        status: Status::Open,
        time: at(10),
        raised_at: at(3600),
        uptime: at(3600),
        count: 1,
        matched: Vec::new(),
        raw: json!({"type": "process"}),
        story: String::new(),
    }
}

fn with_alerts(alerts: &[Alert]) -> Changes {
    Changes {
        alerts: alerts.to_vec(),
        ..Changes::default()
    }
}

/// S18.
fn alerts_have_an_identity(open: &OpenState) {
    let store = open();
    let identity = |host, info: &str| Identity {
        agent: agent(host),
        source: "Reverse shell".into(),
        kind: "process".into(),
        info: info.into(),
    };
    let first = alert("1", 1);
    let newer = Alert {
        raised_at: at(7200),
        ..alert("2", 1)
    };
    store
        .apply(&with_alerts(&[newer.clone(), first, alert("3", 2)]))
        .unwrap();
    let found = store.alert_by_identity(&identity(1, "/bin/sh|bash -i"));
    assert_eq!(found.unwrap(), Some(newer.clone()));
    assert_eq!(
        store.alert_by_identity(&identity(1, "/bin/sh")).unwrap(),
        None
    );
    assert_eq!(
        store
            .alert_by_identity(&identity(3, "/bin/sh|bash -i"))
            .unwrap(),
        None
    );
    let repeated = Alert { count: 2, ..newer };
    store
        .apply(&with_alerts(std::slice::from_ref(&repeated)))
        .unwrap();
    drop(store);
    let store = open();
    assert_eq!(store.alert("2").unwrap(), Some(repeated));
    assert_eq!(store.alert("9").unwrap(), None);
}

fn alerts_are_filtered_and_move_between_statuses(open: &OpenState) {
    let store = open();
    let alerts: Vec<Alert> = (0..20_i64)
        .map(|n| Alert {
            raised_at: at(n * 600),
            level: if n % 2 == 0 {
                Level::Danger
            } else {
                Level::Hint
            },
            kind: if n % 5 == 0 {
                "file".into()
            } else {
                "process".into()
            },
            ..alert(&format!("{n:02}"), u64::try_from(n % 3).unwrap())
        })
        .collect();
    store.apply(&with_alerts(&alerts)).unwrap();
    let find = |filter: AlertFilter| -> (Vec<String>, u64) {
        let (found, total) = store.alerts(&filter).unwrap();
        (found.into_iter().map(|alert| alert.id).collect(), total)
    };
    let all = AlertFilter {
        limit: 3,
        ..AlertFilter::default()
    };
    assert_eq!(
        find(all.clone()),
        (["19", "18", "17"].map(String::from).to_vec(), 20)
    );
    assert_eq!(
        find(AlertFilter {
            offset: 18,
            ..all.clone()
        })
        .0,
        ["01", "00"]
    );
    assert_eq!(
        find(AlertFilter {
            level: Some(Level::Hint),
            ..all.clone()
        })
        .1,
        10
    );
    assert_eq!(
        find(AlertFilter {
            agent: Some(agent(0)),
            ..all.clone()
        })
        .1,
        7
    );
    assert_eq!(
        find(AlertFilter {
            kind: Some("file".into()),
            ..all.clone()
        })
        .1,
        4
    );
    assert_eq!(
        find(AlertFilter {
            since: Some(at(6000)),
            ..all.clone()
        })
        .1,
        10
    );
    for (text, expected) in [
        ("ärger", 20),
        ("BASH -I", 20),
        ("reverse", 20),
        ("100%", 20),
        ("effort_", 20),
        ("100_", 0),
        ("shell/bin", 0),
    ] {
        let filter = AlertFilter {
            text: Some(text.into()),
            ..all.clone()
        };
        assert_eq!(find(filter).1, expected, "{text}");
    }
    let ids = ["01".to_owned(), "02".to_owned(), "none".to_owned()];
    assert_eq!(
        store
            .set_alert_status(&ids, Status::Handled, at(9))
            .unwrap(),
        2
    );
    assert_eq!(
        store
            .set_alert_status(&ids, Status::Handled, at(10))
            .unwrap(),
        0
    );
    let handled = store.alert("01").unwrap().unwrap();
    assert_eq!((handled.status, handled.uptime), (Status::Handled, at(9)));
    assert_eq!(
        find(AlertFilter {
            status: Some(Status::Open),
            ..all.clone()
        })
        .1,
        18
    );
    assert_eq!(
        store
            .set_alert_status(&["19".to_owned()], Status::Learned, at(9))
            .unwrap(),
        1
    );
    assert_eq!(
        store.alerts_per_hour(at(7200), false).unwrap(),
        [
            (at(7200), Level::Danger, 3),
            (at(7200), Level::Hint, 3),
            (at(10800), Level::Danger, 1),
        ]
    );
    assert_eq!(
        store.alerts_per_hour(at(7200), true).unwrap(),
        [
            (at(7200), Level::Danger, 3),
            (at(7200), Level::Hint, 3),
            (at(10800), Level::Danger, 1),
            (at(10800), Level::Hint, 1),
        ]
    );
}

fn inventory(names: &[&str], secs: i64) -> StoredInventory {
    StoredInventory {
        data: names
            .iter()
            .map(|name| Element::from([("name".to_owned(), (*name).to_owned())]))
            .collect(),
        uptime: at(secs),
    }
}

/// S08.
fn inventories_are_replaced_whole(open: &OpenState) {
    let store = open();
    let users = InventoryType::Userlist;
    store.put_host(&host(1, "192.0.2.1")).unwrap();
    store.put_host(&host(2, "192.0.2.2")).unwrap();
    for (position, names) in [(1, &["root", "eve"][..]), (2, &["root", "Root"][..])] {
        let changes = Changes {
            inventories: vec![
                (agent(1), users, inventory(names, 5)),
                (agent(2), users, inventory(&["root"], 5)),
                (agent(2), InventoryType::Service, inventory(&["root"], 5)),
            ],
            ..up_to(position)
        };
        store.apply(&changes).unwrap();
    }
    assert_eq!(store.inventory(&agent(3), users).unwrap(), None);
    let stored = store.inventory(&agent(1), users).unwrap().unwrap();
    assert_eq!(stored, inventory(&["root", "Root"], 5));
    let find = |text: &str, limit| {
        store
            .search_inventories(&Query::parse(text).unwrap(), limit)
            .unwrap()
            .len()
    };
    assert_eq!(find("type:userlist | name:root", 10), 2);
    assert_eq!(find("type:userlist | name:roo", 10), 0);
    assert_eq!(find("type:userlist | name:/root/", 10), 3);
    assert_eq!(find("type:userlist | name:/root/", 2), 2);
    assert_eq!(find("type:userlist | all:Root | ip:192.0.2.1", 10), 1);
    assert_eq!(find("type:userlist | name:root | ip:192.0.2.2", 10), 1);
    assert_eq!(find("type:userlist | name:eve", 10), 0);
    assert!(
        store
            .search_inventories(&Query::parse("type:file").unwrap(), 1)
            .is_err()
    );
}

fn host(number: u64, ip: &str) -> Host {
    Host {
        agent_id: agent(number),
        ip: ip.into(),
        hostname: format!("host-{number}"),
        path: Vec::new(),
        system: "Debian 12".into(),
        kind: "web".into(),
        uptime: at(1),
        health: Health::Healthy,
        enrolled_at: at(0),
        report: HostReport {
            platform: System::Linux,
            ..HostReport::default()
        },
    }
}

fn documents_hosts_and_audit_are_kept(open: &OpenState) {
    let store = open();
    let changes = [
        ("a".to_owned(), Some(json!({"n": 1}))),
        ("b".to_owned(), Some(json!("应龙"))),
    ];
    store.put_documents("config", &changes).unwrap();
    store.put_documents("users", &changes[..1]).unwrap();
    let changes = [
        ("a".to_owned(), None),
        ("c".to_owned(), Some(json!(null))),
        ("missing".to_owned(), None),
    ];
    store.put_documents("config", &changes).unwrap();
    for n in 1..=3 {
        store
            .audit(&AuditEntry {
                at: at(n),
                actor: "admin".into(),
                address: "192.0.2.9".into(),
                action: "config.update".into(),
                subject: format!("client {n}"),
                detail: json!({"before": 1, "after": 2}),
            })
            .unwrap();
    }
    store.put_host(&host(2, "192.0.2.2")).unwrap();
    store.put_host(&host(1, "192.0.2.1")).unwrap();
    store.put_host(&host(1, "192.0.2.3")).unwrap();
    drop(store);
    let store = open();
    assert_eq!(
        store.documents("config").unwrap(),
        [
            ("b".to_owned(), json!("应龙")),
            ("c".to_owned(), json!(null))
        ]
    );
    assert_eq!(store.document("users", "a").unwrap(), Some(json!({"n": 1})));
    assert_eq!(store.document("config", "a").unwrap(), None);
    let subjects: BTreeSet<_> = store
        .audit_log(2)
        .unwrap()
        .into_iter()
        .map(|entry| entry.subject)
        .collect();
    assert_eq!(
        subjects,
        BTreeSet::from(["client 2".to_owned(), "client 3".to_owned()])
    );
    assert_eq!(
        store.hosts().unwrap(),
        [host(1, "192.0.2.3"), host(2, "192.0.2.2")]
    );
    assert_eq!(store.host(&agent(9)).unwrap(), None);
}
