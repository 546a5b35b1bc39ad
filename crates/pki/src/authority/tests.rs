use super::*;
use crate::{agent_id_of, request, tls};

const NOW: Timestamp = Timestamp::from_secs(1_764_000_000);

fn authority(dir: &tempfile::TempDir) -> Authority {
    Authority::create(&dir.path().join("pki"), NOW).unwrap()
}

fn made_by(mut params: CertificateParams) -> Vec<u8> {
    params.use_authority_key_identifier_extension = false;
    let key = KeyPair::generate().unwrap();
    params.serialize_request(&key).unwrap().der().to_vec()
}

#[test]
fn an_authority_is_created_once_and_opens_as_itself() {
    let dir = tempfile::tempdir().unwrap();
    let pin = authority(&dir).pin();
    let at = dir.path().join("pki");
    assert_eq!(Authority::open(&at).unwrap().pin(), pin);
    let again = Authority::create(&at, NOW);
    assert!(
        matches!(again, Err(Error::File(files::Error::Exists { .. }))),
        "{again:?}"
    );
    assert_eq!(Authority::open(&at).unwrap().pin(), pin);
}

#[test]
fn a_missing_or_damaged_authority_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Authority::open(dir.path()).unwrap_err();
    assert!(missing.to_string().contains("yinglong server"), "{missing}");
    let path = authority_path(dir.path());
    files::write_private(&path, b"garbage", Existing::Keep).unwrap();
    let damaged = Authority::open(dir.path()).unwrap_err();
    assert!(damaged.to_string().contains("backup"), "{damaged}");
}

#[test]
fn an_agents_identity_is_the_servers_choice_whatever_the_request_says() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(&dir);
    let other = AgentId::from_bits(666);
    let mut wishes = subject(other.as_str());
    wishes.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    wishes.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    wishes.subject_alt_names = subject_names(&[SERVER_NAME.to_owned()]).unwrap();
    let request = AgentRequest::parse(&made_by(wishes)).unwrap();
    let id = AgentId::from_bits(7);
    let made = authority.sign_agent(&request, &id, NOW).unwrap();
    let identity = agent_id_of(&made.der).unwrap();
    assert_eq!(identity.id, id);
    assert_eq!(identity.serial, made.serial);
    assert_eq!(identity.not_after, made.not_after);
    let (_, parsed) = X509Certificate::from_der(&made.der).unwrap();
    assert!(!parsed.is_ca());
    assert!(parsed.subject_alternative_name().unwrap().is_none());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.client_auth && !usage.server_auth);
    tls::verify_agent(&made.der.into(), authority.certificate(), NOW).unwrap();
}

#[test]
fn an_agents_certificate_ends_after_a_year_and_is_no_other_authoritys() {
    let (dir, other_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (authority, other) = (authority(&dir), authority(&other_dir));
    let request = AgentRequest::parse(&made_by(subject("x"))).unwrap();
    let made = authority
        .sign_agent(&request, &AgentId::from_bits(7), NOW)
        .unwrap();
    let leaf: CertificateDer<'_> = made.der.into();
    let check = |authority: &Authority, at| tls::verify_agent(&leaf, authority.certificate(), at);
    assert!(check(&authority, NOW.plus(364 * DAY)).is_ok());
    assert!(check(&authority, NOW.plus(366 * DAY)).is_err());
    assert!(check(&other, NOW).is_err());
}

#[test]
fn a_request_that_is_garbage_altered_or_for_another_kind_of_key_is_refused() {
    assert!(matches!(
        AgentRequest::parse(b"garbage"),
        Err(request::Error::Malformed(_))
    ));
    let mut altered = made_by(subject("honest"));
    let at = altered
        .windows(6)
        .position(|window| window == b"honest")
        .unwrap();
    altered[at] = b'H';
    assert!(matches!(
        AgentRequest::parse(&altered),
        Err(request::Error::Malformed(_))
    ));
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let params = CertificateParams::default();
    let ed25519 = params.serialize_request(&key).unwrap();
    assert!(matches!(
        AgentRequest::parse(ed25519.der()),
        Err(request::Error::UnsupportedKey)
    ));
}

#[test]
fn a_server_certificate_is_kept_until_its_names_change_or_it_nears_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(&dir);
    let names = ["hids.example.org".to_owned(), "192.0.2.1".to_owned()];
    let first = authority.issue_server(&names, NOW).unwrap();
    let leaf = |identity: &TlsIdentity| identity.chain.first().cloned().unwrap();
    let again = authority.issue_server(&names, NOW.plus(300 * DAY)).unwrap();
    assert_eq!(leaf(&again), leaf(&first));
    let renamed = authority.issue_server(&names[..1], NOW).unwrap();
    assert_ne!(leaf(&renamed), leaf(&first));
    let late = authority
        .issue_server(&names[..1], NOW.plus(310 * DAY))
        .unwrap();
    assert_ne!(leaf(&late), leaf(&renamed));
    assert!(late.not_after > NOW.plus(600 * DAY));
}

#[test]
fn a_console_certificate_has_the_names_given_and_bad_names_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(&dir);
    let names = ["localhost", "::1", "127.0.0.1"].map(str::to_owned);
    let identity = authority.issue_console(&names, NOW).unwrap();
    assert!(has_names(
        identity.chain.first().unwrap(),
        &subject_names(&names).unwrap()
    ));
    for bad in ["", "two words", "-", "a..b"] {
        let refused = authority.issue_console(&[bad.to_owned()], NOW);
        assert!(matches!(refused, Err(Error::BadName(_))), "{bad}");
    }
}

#[test]
fn nothing_outlives_the_authority() {
    let dir = tempfile::tempdir().unwrap();
    let authority = authority(&dir);
    let end = authority.not_after;
    let identity = authority.issue_server(&[], end.minus(30 * DAY)).unwrap();
    assert!(identity.not_after <= end);
    let late = authority.issue_console(&[], end.plus(DAY));
    assert!(matches!(late, Err(Error::Expired)), "{late:?}");
}
