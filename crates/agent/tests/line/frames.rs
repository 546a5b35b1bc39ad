//! What a peer that does not keep to the protocol achieves: nothing, and only for itself.

use std::{sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Endpoint};
use yinglong_agent::enrol::Identity;
use yinglong_model::host::HostReport;
use yinglong_pki::tls;
use yinglong_proto::v1::{
    self, agent_message::Message, fleet_client::FleetClient, server_message::Message as FromServer,
};

use crate::fixture::{Agent, Server, Site, until};

struct Raw {
    send: mpsc::Sender<v1::AgentMessage>,
    receive: Streaming<v1::ServerMessage>,
}

impl Raw {
    async fn attach(site: &Site, server: &Server, own: Option<&Identity>) -> Result<Self, Status> {
        let own = own.map(|identity| &identity.tls);
        let config = tls::agent_config(site.authority.pin(), own).unwrap();
        let stream = TcpStream::connect(server.address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(tls::server_name(), stream).await.unwrap();
        let mut stream = Some(TokioIo::new(stream));
        let once = tower::service_fn(move |_| {
            let stream = stream.take();
            async move { stream.ok_or_else(|| std::io::Error::other("once")) }
        });
        let channel = Endpoint::from_static("http://yinglong-server")
            .connect_with_connector(once)
            .await
            .unwrap();
        let (send, messages) = mpsc::channel(64);
        let mut client = FleetClient::new(channel);
        let receive = client
            .attach(ReceiverStream::new(messages))
            .await?
            .into_inner();
        Ok(Self { send, receive })
    }

    async fn greeted(site: &Site, server: &Server, own: &Identity, first_seq: u64) -> Self {
        let mut raw = Self::attach(site, server, Some(own)).await.unwrap();
        raw.say(Message::Hello(hello(first_seq))).await;
        let welcome = raw.receive.message().await.unwrap().unwrap().message;
        assert!(
            matches!(welcome, Some(FromServer::Welcome(_))),
            "{welcome:?}"
        );
        raw
    }

    async fn say(&self, message: Message) {
        let message = Some(message);
        self.send.send(v1::AgentMessage { message }).await.unwrap();
    }

    async fn batch(&self, first_seq: u64, records: &[&[u8]]) {
        let records = records.iter().map(|record| record.to_vec()).collect();
        self.say(Message::Batch(v1::Batch { first_seq, records }))
            .await;
    }

    async fn acked(&mut self, seq: u64) {
        loop {
            let message = self.receive.message().await.unwrap().unwrap().message;
            if let Some(FromServer::AckedSeq(acked)) = message
                && acked >= seq
            {
                return;
            }
        }
    }

    async fn ended(&mut self) -> Status {
        let end = async {
            loop {
                match self.receive.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => panic!("ended without a reason"),
                    Err(status) => return status,
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), end)
            .await
            .unwrap()
    }
}

fn hello(first_seq: u64) -> v1::Hello {
    v1::Hello {
        protocol: 1,
        epoch: vec![1; 16],
        agent_version: "0".into(),
        first_seq,
        report: serde_json::to_vec(&HostReport::default()).unwrap(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn t06_without_a_certificate_there_is_no_stream() {
    let site = Site::new();
    let server = site.server().await;
    let refused = Raw::attach(&site, &server, None).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
    assert!(refused.message().contains("join token"), "{refused}");
    assert_eq!(server.count("refused_no_certificate"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_batch_is_stored_once() {
    let site = Site::new();
    let server = site.server().await;
    let identity = site.enrolled(&server, "a").await;
    let mut raw = Raw::greeted(&site, &server, &identity, 1).await;
    raw.batch(1, &[b"1", b"2"]).await;
    raw.batch(1, &[b"1", b"2"]).await;
    raw.batch(2, &[b"2", b"3"]).await;
    raw.acked(3).await;
    drop(raw);
    let mut raw = Raw::greeted(&site, &server, &identity, 1).await;
    raw.batch(1, &[b"1", b"2", b"3", b"4"]).await;
    raw.acked(4).await;
    let stored = site.memory.of(&identity.agent.id);
    let texts: Vec<_> = stored
        .iter()
        .map(|(seq, record)| (*seq, record.as_slice()))
        .collect();
    assert_eq!(
        texts,
        [(1, b"1".as_slice()), (2, b"2"), (3, b"3"), (4, b"4")]
    );
    assert_eq!(server.count("duplicates"), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_is_refused_unless_the_agent_said_what_is_gone() {
    let site = Site::new();
    let server = site.server().await;
    let identity = site.enrolled(&server, "a").await;
    let mut raw = Raw::greeted(&site, &server, &identity, 1).await;
    raw.batch(5, &[b"5"]).await;
    let status = raw.ended().await;
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("1 is next"), "{status}");
    let mut raw = Raw::greeted(&site, &server, &identity, 5).await;
    raw.batch(5, &[b"5"]).await;
    raw.acked(5).await;
    assert_eq!(server.count("records_lost"), 4);
    assert_eq!(server.count("batches_gap"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_ends_its_own_stream_with_a_reason_and_no_other() {
    let site = Site::new();
    let server = site.server().await;
    let good = Agent::start(site.enrolled(&server, "good").await, &[server.address]);
    good.connected().await;
    let bad = site.enrolled(&server, "bad").await;
    let huge = vec![0x5a; 9 << 20];
    let record = vec![0x5a; 5 << 20];
    let v1_batch = |first_seq, records| Message::Batch(v1::Batch { first_seq, records });
    for (message, words) in [
        (Message::Hello(hello(1)), "second hello"),
        (Message::Report(b"{".to_vec()), "host report"),
        (v1_batch(0, vec![b"x".to_vec()]), "sequence numbers"),
        (v1_batch(1, Vec::new()), "at least one record"),
        (v1_batch(1, vec![huge]), "larger than 8 MiB"),
        (v1_batch(1, vec![record]), "larger than 4 MiB"),
    ] {
        let mut raw = Raw::greeted(&site, &server, &bad, 1).await;
        raw.say(message).await;
        let status = raw.ended().await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    assert_eq!(server.count("frames_bad"), 6);
    let mut raw = Raw::attach(&site, &server, Some(&bad)).await.unwrap();
    raw.batch(1, &[b"before the hello"]).await;
    assert_eq!(raw.ended().await.code(), Code::InvalidArgument);
    assert!(site.memory.of(&bad.agent.id).is_empty());
    good.queue.append([b"still here".to_vec()]);
    until("the good agent's event", || good.queue.len() == 0).await;
    assert!(server.sessions.is_connected(&good.id));
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_disturbs_nobody() {
    let site = Site::new();
    let server = site.server().await;
    let agent = Agent::start(site.enrolled(&server, "a").await, &[server.address]);
    agent.connected().await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        b"\x16\x03\x01",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // The server may have hung up before all was written.
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
    }
    until("three failed handshakes", || {
        server.count("handshakes_failed") == 3
    })
    .await;
    agent.queue.append([b"still here".to_vec()]);
    until("the agent's event", || agent.queue.len() == 0).await;
    assert_eq!(server.count("replaced"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_of_an_agent_replaces_the_first() {
    let site = Site::new();
    let server = site.server().await;
    let identity = site.enrolled(&server, "a").await;
    let mut first = Raw::greeted(&site, &server, &identity, 1).await;
    first.batch(1, &[b"1"]).await;
    first.acked(1).await;
    let mut second = Raw::greeted(&site, &server, &identity, 1).await;
    let status = first.ended().await;
    assert_eq!(status.code(), Code::Aborted);
    second.batch(2, &[b"2"]).await;
    second.acked(2).await;
    assert_eq!(server.count("replaced"), 1);
    assert_eq!(server.sessions.connected(), [identity.agent.id]);
}
