//! The line between agent and server, end to end: real TLS, real gateway, memory behind both.

#![allow(
    clippy::unwrap_used,
    reason = "a fixture that fails is a test that fails"
)]

mod fixture;
mod frames;

use std::time::Duration;

use fixture::{Agent, Site, until};
use yinglong_agent::enrol;

const MINUTE: Duration = Duration::from_secs(60);

fn records(from: usize, to: usize) -> impl Iterator<Item = Vec<u8>> {
    (from..to).map(|n| format!("record {n}").into_bytes())
}

fn assert_in_order(site: &Site, agent: &Agent, count: usize) {
    let stored = site.memory.of(&agent.id);
    assert_eq!(stored.len(), count);
    for (n, (seq, record)) in stored.iter().enumerate() {
        assert_eq!(*seq, n as u64 + 1);
        assert_eq!(*record, format!("record {n}").into_bytes());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t04_five_thousand_records_arrive_in_order_and_leave_the_spool() {
    let site = Site::new();
    let server = site.server().await;
    let agent = Agent::start(site.enrolled(&server, "a").await, &[server.address]);
    agent.queue.append(records(0, 1000));
    agent.connected().await;
    for n in 0..40 {
        agent.queue.append(records(1000 + n * 100, 1100 + n * 100));
        tokio::task::yield_now().await;
    }
    until("all to be acknowledged", || agent.queue.len() == 0).await;
    assert_in_order(&site, &agent, 5000);
    assert_eq!(server.count("records"), 5000);
    assert_eq!(server.count("duplicates"), 0);
    assert_eq!(site.members.joined.lock().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn t02_settings_and_heartbeats_go_both_ways_at_once() {
    let site = Site::new();
    let server = site.server().await;
    let agent = Agent::start(site.enrolled(&server, "a").await, &[server.address]);
    until("settings when attached", || {
        agent.settings.0.lock().unwrap().len() == 1
    })
    .await;
    site.members.config.lock().unwrap().client.cycle = 9;
    site.members.revision.send_modify(|revision| *revision += 1);
    until("changed settings", || {
        agent
            .settings
            .0
            .lock()
            .unwrap()
            .last()
            .is_some_and(|config| config.client.cycle == 9)
    })
    .await;
    let reports = || site.memory.reports.lock().unwrap().len();
    assert_eq!(reports(), 1);
    agent.report_now.notify_one();
    until("a report at once", || reports() == 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn t06_an_agent_of_another_authority_is_refused_in_plain_words() {
    let (site, other) = (Site::new(), Site::new());
    let (server, strange) = (site.server().await, other.server().await);
    let mut identity = other.enrolled(&strange, "a").await;
    identity.authority = site.authority.pin();
    let agent = Agent::start(identity, &[server.address]);
    agent.queue.append(records(0, 3));
    agent.refused_with("enrol again with a new token").await;
    assert_eq!(agent.queue.len(), 3);
    assert!(site.memory.stored.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn t06_an_agent_refuses_a_server_of_another_authority_and_tells_it_nothing() {
    let (site, other) = (Site::new(), Site::new());
    let (server, strange) = (site.server().await, other.server().await);
    let agent = Agent::start(site.enrolled(&server, "a").await, &[strange.address]);
    agent.queue.append(records(0, 3));
    agent.refused_with("does not belong to the authority").await;
    assert_eq!(agent.queue.len(), 3);
    let token = site.token(MINUTE, 1);
    let address = strange.address.to_string();
    let refused = enrol::enrol(&address, &token, &site.state_dir("b"))
        .await
        .unwrap_err();
    let cause = std::error::Error::source(&refused).unwrap().to_string();
    assert!(cause.contains("not to be trusted"), "{cause}");
    assert_eq!(
        site.members
            .tokens
            .lock()
            .unwrap()
            .last()
            .unwrap()
            .uses_left,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn t06_two_agents_report_as_themselves() {
    let site = Site::new();
    let server = site.server().await;
    let a = Agent::start(site.enrolled(&server, "a").await, &[server.address]);
    let b = Agent::start(site.enrolled(&server, "b").await, &[server.address]);
    assert_ne!(a.id, b.id);
    // Same spool epoch, same sequence numbers: only the certificates tell them apart.
    a.queue.append([b"of a".to_vec()]);
    b.queue.append([b"of b".to_vec()]);
    until("both", || a.queue.len() + b.queue.len() == 0).await;
    assert_eq!(site.memory.of(&a.id), [(1, b"of a".to_vec())]);
    assert_eq!(site.memory.of(&b.id), [(1, b"of b".to_vec())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_agent_is_cut_off_and_keeps_its_events() {
    let site = Site::new();
    let server = site.server().await;
    let agent = Agent::start(site.enrolled(&server, "a").await, &[server.address]);
    agent.queue.append(records(0, 3));
    until("the first events", || agent.queue.len() == 0).await;
    site.members
        .revoked
        .lock()
        .unwrap()
        .insert(agent.id.clone());
    agent
        .refused_with("this host was revoked; enrol again with a new token")
        .await;
    agent.queue.append(records(3, 6));
    until("another attempt", || server.count("refused_revoked") > 2).await;
    assert!(!server.sessions.is_connected(&agent.id));
    assert_eq!(agent.queue.len(), 3);
    assert_in_order(&site, &agent, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn t04_a_restarted_server_gets_everything_once() {
    let site = Site::new();
    let server = site.server().await;
    let agent = Agent::start(site.enrolled(&server, "a").await, &[server.address]);
    let address = server.address;
    agent.queue.append(records(0, 700));
    until("some events", || agent.queue.len() < 700).await;
    server.stop().await;
    agent.queue.append(records(700, 1200));
    let server = site.server_at(address).await;
    until("the rest", || agent.queue.len() == 0).await;
    assert_in_order(&site, &agent, 1200);
    assert_eq!(server.count("batches_gap"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn t03_another_server_takes_over_and_a_new_list_is_followed() {
    let site = Site::new();
    let (first, second, third) = (
        site.server().await,
        site.server().await,
        site.server().await,
    );
    let identity = site.enrolled(&first, "a").await;
    let agent = Agent::start(identity, &[first.address, second.address]);
    agent.queue.append(records(0, 10));
    until("events at the first", || agent.queue.len() == 0).await;
    first.stop().await;
    agent.queue.append(records(10, 20));
    until("events at the second", || agent.queue.len() == 0).await;
    assert!(second.sessions.is_connected(&agent.id));
    agent.servers.send_replace(vec![third.address.to_string()]);
    second.stop().await;
    agent.queue.append(records(20, 30));
    until("events at the third", || agent.queue.len() == 0).await;
    assert_in_order(&site, &agent, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn enrolling_twice_keeps_the_identity_and_damaged_files_are_not_overwritten() {
    let site = Site::new();
    let server = site.server().await;
    let first = site.enrolled(&server, "a").await;
    let again = site.enrolled(&server, "a").await;
    assert_eq!(first.agent, again.agent);
    assert_eq!(site.members.joined.lock().unwrap().len(), 1);
    let loaded = enrol::load(&site.state_dir("a")).unwrap().unwrap();
    assert_eq!(loaded.agent, first.agent);
    assert_eq!(loaded.authority, site.authority.pin());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_used_up_or_forged_token_lets_nobody_in() {
    let site = Site::new();
    let server = site.server().await;
    let address = server.address.to_string();
    let forged = yinglong_pki::JoinToken::generate(site.authority.pin());
    for (token, words) in [
        (site.token(Duration::ZERO, 1), "expired"),
        (site.token(MINUTE, 0), "used up"),
        (forged, "not known"),
    ] {
        let state = site.state_dir("a");
        let refused = enrol::enrol(&address, &token, &state)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains(words) && refused.contains("yinglong token new"),
            "{refused}"
        );
        assert!(enrol::load(&state).unwrap().is_none());
    }
    assert_eq!(server.count("enrolments_refused"), 3);
    assert!(site.members.joined.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn guessing_tokens_is_slowed_down() {
    let site = Site::new();
    let server = site.server().await;
    let address = server.address.to_string();
    let forged = yinglong_pki::JoinToken::generate(site.authority.pin());
    let mut answers = Vec::new();
    for _ in 0..21 {
        let state = site.state_dir("a");
        answers.push(
            enrol::enrol(&address, &forged, &state)
                .await
                .unwrap_err()
                .to_string(),
        );
    }
    assert!(answers[19].contains("not known"), "{}", answers[19]);
    assert!(answers[20].contains("wait a minute"), "{}", answers[20]);
}
