//! TLS: the good certificate is accepted, each bad one refused.

mod common;
use common::*;
use meetlink_simulator::*;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::crypto::ring;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

fn over(kind: Tls) -> (Stage, Result<Reply, ureq::Error>) {
    let mut s = stage_with(Options {
        tls: kind,
        ..Options::default()
    });
    let ca = Certificate::from_pem(s.sim.ca_pem().unwrap().as_bytes()).unwrap();
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .root_certs(RootCerts::new_with_certs(&[ca]))
        .build();
    let config = ureq::Agent::config_builder()
        .tls_config(tls)
        .http_status_as_error(false)
        .timeout_global(Some(Duration::from_secs(10)));
    s.agent = config.build().into();
    let reply = s.create();
    (s, reply)
}

#[test]
fn a_client_that_trusts_the_authority_gets_through() {
    let (s, reply) = over(Tls::Trusted);
    assert!(s.sim.url().starts_with("https://127.0.0.1:"));
    assert_eq!(reply.unwrap().status, 201);
    s.sim.fault(Rule::once(
        Provider::Zoom,
        Call::Create,
        Action::ResetAfterEffect,
    ));
    assert!(s.create().is_err());
    s.sim
        .fault(Rule::once(Provider::Zoom, Call::Create, Action::CutBody));
    assert!(s.create().is_err());
    assert_eq!(s.meetings(), 3);
}

#[test]
fn bad_certificates_are_refused_before_any_request() {
    for kind in [Tls::Untrusted, Tls::Expired, Tls::WrongName] {
        let (s, reply) = over(kind);
        assert!(reply.is_err(), "{kind:?}");
        assert_eq!(s.sim.journal_len(), 0, "{kind:?}");
    }
}
