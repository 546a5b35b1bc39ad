use std::time::Duration;

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use rustls::{ClientConnection, ServerConnection};

use super::*;
use crate::Authority;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Handshakes read the system clock, so these certificates start from it.
fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().unwrap();
    Timestamp::from_secs(since.as_secs().try_into().unwrap())
}

struct Fixture {
    _dir: tempfile::TempDir,
    authority: Authority,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::create(dir.path(), now()).unwrap();
    Fixture {
        _dir: dir,
        authority,
    }
}

fn verify(pin: AuthorityPin, chain: &[CertificateDer<'_>], at: Timestamp) -> Result<(), String> {
    let (leaf, rest) = chain.split_first().unwrap();
    let dialled = ServerName::try_from("any.address.example").unwrap();
    PinnedVerifier::new(pin)
        .verify_server_cert(leaf, rest, &dialled, &[], unix_time(at))
        .map(|_| ())
        .map_err(|error| format!("{error:?}"))
}

#[test]
fn a_server_of_the_pinned_authority_is_believed_until_its_certificate_expires() {
    let Fixture { _dir, authority } = fixture();
    let chain = authority.issue_server(&[], now()).unwrap().chain;
    verify(authority.pin(), &chain, now()).unwrap();
    let late = verify(authority.pin(), &chain, now().plus(366 * DAY)).unwrap_err();
    assert!(late.contains("Expired"), "{late}");
    let early = verify(authority.pin(), &chain, now().minus(2 * DAY)).unwrap_err();
    assert!(early.contains("NotValidYet"), "{early}");
}

#[test]
fn a_server_of_another_authority_is_refused_in_words() {
    let (ours, theirs) = (fixture(), fixture());
    let chain = theirs.authority.issue_server(&[], now()).unwrap().chain;
    let refused = verify(ours.authority.pin(), &chain, now()).unwrap_err();
    assert!(refused.contains("WrongAuthority"), "{refused}");
    let words = WrongAuthority(ours.authority.pin()).to_string();
    assert!(words.contains("join token"), "{words}");
}

#[test]
fn showing_the_pinned_authority_does_not_help_a_server_it_did_not_sign() {
    let (ours, theirs) = (fixture(), fixture());
    let leaf = theirs.authority.issue_server(&[], now()).unwrap().chain;
    let chain = [
        leaf.first().cloned().unwrap(),
        ours.authority.certificate().clone(),
    ];
    let refused = verify(ours.authority.pin(), &chain, now()).unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

#[test]
fn a_certificate_for_another_name_or_purpose_is_refused() {
    let Fixture { _dir, authority } = fixture();
    let console = authority
        .issue_console(&["localhost".to_owned()], now())
        .unwrap();
    let refused = verify(authority.pin(), &console.chain, now()).unwrap_err();
    assert!(refused.contains("NotValidForName"), "{refused}");

    let chain = [
        agent(&authority).chain.first().cloned().unwrap(),
        authority.certificate().clone(),
    ];
    let refused = verify(authority.pin(), &chain, now()).unwrap_err();
    assert!(refused.contains("InvalidPurpose"), "{refused}");
}

#[test]
fn a_self_signed_impostor_is_refused() {
    let Fixture { _dir, authority } = fixture();
    let mut params = CertificateParams::new(vec![SERVER_NAME.to_owned()]).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let impostor = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    let alone = [impostor.der().clone()];
    let refused = verify(authority.pin(), &alone, now()).unwrap_err();
    assert!(refused.contains("WrongAuthority"), "{refused}");
    let beside = [impostor.der().clone(), authority.certificate().clone()];
    let refused = verify(authority.pin(), &beside, now()).unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    // Even pinned as if it were an authority, it does not verify itself.
    let itself = [impostor.der().clone(), impostor.der().clone()];
    assert!(verify(authority.pin(), &itself, now()).is_err());
}

/// Runs a handshake in memory.
fn shake(client: ClientConfig, server: ServerConfig) -> Result<Option<Vec<u8>>, rustls::Error> {
    let mut client = ClientConnection::new(Arc::new(client), server_name())?;
    let mut server = ServerConnection::new(Arc::new(server))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets()?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    let shown = server.peer_certificates().and_then(<[_]>::first);
    Ok(shown.map(|certificate| certificate.to_vec()))
}

fn agent(authority: &Authority) -> TlsIdentity {
    let key = crate::AgentKey::generate().unwrap();
    let request = crate::AgentRequest::parse(&key.request).unwrap();
    let id = yinglong_model::AgentId::from_bits(1);
    let made = authority.sign_agent(&request, &id, now()).unwrap();
    let bundle = format!("{}{}", *key.pem, crate::certificate::pem_of(&made.der));
    TlsIdentity::from_pem(bundle.as_bytes()).unwrap()
}

fn gateway(authority: &Authority) -> ServerConfig {
    let identity = authority.issue_server(&[], now()).unwrap();
    gateway_config(ServerKey::new(&identity).unwrap(), authority.certificate()).unwrap()
}

#[test]
fn gateway_and_agent_shake_hands_with_and_without_a_client_certificate() {
    let Fixture { _dir, authority } = fixture();
    let joining = agent_config(authority.pin(), None).unwrap();
    assert_eq!(shake(joining, gateway(&authority)).unwrap(), None);
    let own = agent(&authority);
    let enrolled = agent_config(authority.pin(), Some(&own)).unwrap();
    let shown = shake(enrolled, gateway(&authority)).unwrap().unwrap();
    assert_eq!(shown, own.chain.first().unwrap().to_vec());
}

#[test]
fn a_client_certificate_of_another_authority_is_refused_by_the_gateway() {
    let (ours, theirs) = (fixture(), fixture());
    let stranger = agent(&theirs.authority);
    let client = agent_config(ours.authority.pin(), Some(&stranger)).unwrap();
    let refused = shake(client, gateway(&ours.authority)).unwrap_err();
    assert!(
        matches!(refused, rustls::Error::InvalidCertificate(_)),
        "{refused:?}"
    );
}

#[test]
fn a_replaced_server_key_is_shown_to_the_next_client() {
    let Fixture { _dir, authority } = fixture();
    let identity = authority.issue_server(&[], now()).unwrap();
    let key = ServerKey::new(&identity).unwrap();
    let renamed = authority
        .issue_server(&["new.example".to_owned()], now())
        .unwrap();
    key.replace(&renamed).unwrap();
    let shown = key.0.read().unwrap().cert.first().cloned();
    assert_eq!(shown, renamed.chain.first().cloned());
    let config = console_config(key).unwrap();
    let client = agent_config(authority.pin(), None).unwrap();
    assert_eq!(shake(client, config).unwrap(), None);
}
