//! Certificates: a good one, and the ways in which one can be bad.

use crate::options::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, date_time_ymd,
};
use std::io;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// The acceptor, and the PEM of the authority that a client is told to trust.
pub(crate) fn make(tls: Tls) -> io::Result<Option<(TlsAcceptor, String)>> {
    if tls == Tls::Off {
        return Ok(None);
    }
    let trusted = authority("Simulator authority").map_err(io::Error::other)?;
    let other = authority("Another authority").map_err(io::Error::other)?;
    let signer = if tls == Tls::Untrusted {
        &other
    } else {
        &trusted
    };
    let acceptor = acceptor(tls, signer).map_err(io::Error::other)?;
    Ok(Some((acceptor, trusted.pem())))
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

fn acceptor(
    tls: Tls,
    signer: &Authority,
) -> Result<TlsAcceptor, Box<dyn std::error::Error + Send + Sync>> {
    let names: &[&str] = match tls {
        Tls::WrongName => &["elsewhere.example"],
        _ => &["localhost", "127.0.0.1"],
    };
    let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
    let mut params = CertificateParams::new(names)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "Provider simulator");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if tls == Tls::Expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2021, 1, 1);
    }
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, signer)?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
