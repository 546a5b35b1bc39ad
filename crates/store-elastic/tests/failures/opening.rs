//! Clusters that cannot be used.

use std::{fs, sync::Arc};

use serde_json::{Value, json};
use yinglong_store::{EventStore, Kind};
use yinglong_store_elastic::{Credentials, Elastic};

use crate::{
    open, options,
    stand_in::{Reply, Request, StandIn, error, healthy, nobody, ok},
};

/// Everything an error says, its causes too.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn refused(kind: Kind, words: &str, answer: impl FnMut(&Request) -> Reply + Send + 'static) {
    let stand_in = StandIn::start(answer);
    let error = Elastic::open(&options(&stand_in.url())).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

fn welcome(welcome: Value) -> impl FnMut(&Request) -> Reply + Send {
    move |request| match request.path.as_str() {
        "/" => ok(welcome.clone()),
        _ => healthy(request),
    }
}

#[test]
fn other_products_and_versions_are_named() {
    let elastic = "You Know, for Search";
    for (number, tagline) in [("7.17.0", elastic), ("10.0.0", elastic)] {
        let answer = json!({"version": {"number": number}, "tagline": tagline});
        refused(Kind::Invalid, number, welcome(answer));
    }
    let old = json!({"version": {"number": "1.3.20", "distribution": "opensearch"}});
    refused(Kind::Invalid, "OpenSearch 1.3.20", welcome(old));
    refused(
        Kind::Invalid,
        "neither",
        welcome(json!({"couchdb": "Welcome"})),
    );
}

#[test]
fn what_speaks_no_json_is_no_cluster() {
    refused(Kind::Corrupt, "check what answers", |_: &Request| {
        Reply::Text(200, "<html>hello</html>")
    });
    refused(Kind::Unavailable, "502", |_: &Request| {
        Reply::Text(502, "<html>")
    });
}

#[test]
fn elasticsearch_is_taken_too() {
    let stand_in = StandIn::start(welcome(json!({
        "version": {"number": "8.17.1"}, "tagline": "You Know, for Search",
    })));
    assert_eq!(open(&stand_in).product().name, "Elasticsearch");
}

#[test]
fn a_red_index_of_ours_is_named_and_others_do_not_matter() {
    let health = |name: &'static str| {
        move |request: &Request| match request.path.split('?').next() {
            Some("/_cluster/health") => ok(json!({"indices": {name: {"status": "red"}}})),
            _ => healthy(request),
        }
    };
    refused(
        Kind::Unavailable,
        "`monitor2026_01` is red",
        health("monitor2026_01"),
    );
    open(&StandIn::start(health("somebody-else")));
}

#[test]
fn wrong_credentials_are_said_without_saying_them() {
    let stand_in = StandIn::start(|_: &Request| error(401, "security_exception"));
    let url = format!("http://reader:geheim@{}", stand_in.address);
    let error = Elastic::open(&options(&url)).unwrap_err();
    assert_eq!(error.kind(), Kind::Invalid);
    let text = said(&error);
    assert!(
        text.contains("user and password") && !text.contains("geheim"),
        "{text}"
    );
    let seen = stand_in.seen(|_| true);
    assert_eq!(
        seen[0].authorization.as_deref(),
        Some("Basic cmVhZGVyOmdlaGVpbQ==")
    );

    let mut with_key = options(&stand_in.url());
    with_key.credentials = Credentials::ApiKey("c2VjcmV0".to_owned().into());
    let error = Elastic::open(&with_key).unwrap_err();
    let text = format!("{} {error:?} {with_key:?}", said(&error));
    assert!(!text.contains("c2VjcmV0"), "{text}");
    let last = stand_in.seen(|_| true).pop().unwrap();
    assert_eq!(last.authorization.as_deref(), Some("ApiKey c2VjcmV0"));
}

#[test]
fn a_missing_right_is_said() {
    refused(Kind::Invalid, "rights", |request: &Request| {
        if request.path.starts_with("/_index_template") {
            error(403, "security_exception")
        } else {
            healthy(request)
        }
    });
}

#[test]
fn nobody_there_is_said_and_another_node_is_asked() {
    let error = Elastic::open(&options(&nobody())).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    let stand_in = StandIn::start(healthy);
    let both = format!("{},{}", nobody(), stand_in.url());
    assert_eq!(Elastic::open(&options(&both)).unwrap().position(), 0);
}

#[test]
fn an_index_of_a_newer_version_is_not_touched() {
    refused(Kind::Invalid, "newer version", |request: &Request| {
        if request.path.contains("/_mapping") {
            let meta = json!({"_meta": {"yinglong": {"mapping": 99}}});
            ok(json!({"monitor2026_01": {"mappings": meta}}))
        } else {
            healthy(request)
        }
    });
}

#[test]
fn certificates_are_checked_against_the_given_authority() {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            signing_key.serialize_der().try_into().unwrap(),
        )
        .unwrap();
    let stand_in = StandIn::with_tls(Some(Arc::new(config)), healthy);
    let url = format!("https://localhost:{}", stand_in.address.port());
    let error = Elastic::open(&options(&url)).unwrap_err();
    assert_eq!(error.kind(), Kind::Unavailable);
    assert!(error.to_string().contains("certificate"), "{error}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, cert.pem()).unwrap();
    let with_authority = |file| {
        let mut options = options(&url);
        options.ca_file = Some(file);
        options
    };
    Elastic::open(&with_authority(file)).unwrap();

    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "nothing").unwrap();
    for file in [empty, folder.path().join("missing.pem")] {
        let error = Elastic::open(&with_authority(file)).unwrap_err();
        assert_eq!(error.kind(), Kind::Invalid, "{error}");
    }
}
