//! The TLS side of an https probe.
//!
//! Without a file of authorities any certificate will do: the question is
//! whether the app lives, not who it is. Nothing secret is ever sent. The
//! module must never be used for anything that trusts its peer.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};

use super::Trouble;
use super::link::Link;
use crate::spec::types::Tls;

/// Most bytes that a file of authorities may have; a whole distribution's bundle has 220 KB.
const CA_FILE_MAX: u64 = 4 << 20;

/// Speaks TLS on `link`. `name` is whom the target names.
///
/// The authorities are read each time: they may be renewed on disk, and an https probe with its
/// own authorities is rare.
pub(super) async fn wrap(link: Link, tls: &Tls, name: &str) -> Result<TlsStream<Link>, Trouble> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| Trouble::Unasked(e.to_string()))?;
    let mut config = match &tls.ca_file {
        Some(path) => builder.with_root_certificates(authorities(path)?),
        None => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider))),
    }
    .with_no_client_auth();
    config.resumption = Resumption::disabled();

    let name = tls.server_name.as_deref().unwrap_or(name);
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Trouble::Unasked(format!("{name} cannot be the name on a certificate")))?;
    TlsConnector::from(Arc::new(config))
        .connect(name, link)
        .await
        .map_err(|error| {
            match error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<Error>())
            {
                Some(inner) => Trouble::Sick(format!("TLS: {inner}")),
                None => Trouble::io(&error),
            }
        })
}

fn authorities(path: &Path) -> Result<RootCertStore, Trouble> {
    let unread =
        |what: &dyn std::fmt::Display| Trouble::Unasked(format!("{}: {what}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| unread(&e))?.len();
    if size > CA_FILE_MAX {
        return Err(unread(&"too large for a file of authorities"));
    }
    let pem = std::fs::read(path).map_err(|e| unread(&e))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|e| unread(&e))?;
        roots.add(certificate).map_err(|e| unread(&e))?;
    }
    if roots.is_empty() {
        return Err(unread(&"no certificate in it"));
    }
    Ok(roots)
}

/// Accepts whatever the peer shows.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
