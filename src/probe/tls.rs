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
use tokio_rustls::rustls::crypto::ring::{self, cipher_suite as suite};
use tokio_rustls::rustls::crypto::{CryptoProvider, GetRandomFailed, KeyProvider, SecureRandom};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::sign::SigningKey;
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
    let provider = Arc::new(provider());
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

/// What ring offers, without what a probe can do without: every server that speaks TLS 1.3 must
/// know AES, and a client without a certificate signs nothing. It keeps the binary small.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            suite::TLS13_AES_256_GCM_SHA384,
            suite::TLS13_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
            suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        ],
        kx_groups: ring::DEFAULT_KX_GROUPS.to_vec(),
        signature_verification_algorithms: ring::default_provider()
            .signature_verification_algorithms,
        secure_random: &Kernel,
        key_provider: &NoKeys,
    }
}

/// Random bytes of the kernel.
#[derive(Debug)]
struct Kernel;

impl SecureRandom for Kernel {
    fn fill(&self, mut buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        while !buffer.is_empty() {
            let flags = rustix::rand::GetRandomFlags::empty();
            match rustix::rand::getrandom(&mut *buffer, flags) {
                Ok(count) => buffer = &mut buffer[count..],
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return Err(GetRandomFailed),
            }
        }
        Ok(())
    }
}

/// A probe shows no certificate of its own.
#[derive(Debug)]
struct NoKeys;

impl KeyProvider for NoKeys {
    fn load_private_key(&self, _: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        Err(Error::General("a probe has no keys".to_owned()))
    }
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
