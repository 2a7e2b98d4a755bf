//! TLS on both sides: certificates by SNI from files, ALPN, and verified origins.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::CertificateFiles;

/// Chooses a certificate by the name a client asks for: the first file whose certificate holds it, else
/// the first file. Other certificates can take their place while connections last.
///
/// Cost: one parse for each certificate until it fits, small beside the handshake's signature.
#[derive(Debug)]
pub struct Certificates(ArcSwap<Vec<Arc<CertifiedKey>>>);

impl Certificates {
    /// Reads these files.
    ///
    /// # Errors
    /// Names the file that cannot be read or does not fit its key.
    pub fn read(files: &[CertificateFiles]) -> anyhow::Result<Self> {
        Ok(Self(ArcSwap::from_pointee(read_keys(files)?)))
    }

    /// From the next handshake on the others' certificates serve. Sessions are resumed as before.
    pub fn replace_by(&self, others: &Self) {
        self.0.store(others.0.load_full());
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let keys = self.0.load();
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let fitting = name.and_then(|name| keys.iter().find(|key| holds_name(key, &name)));
        fitting.or_else(|| keys.first()).map(Arc::clone)
    }
}

/// Whether a leaf certificate is for a name, wildcards included (RFC 9525).
fn holds_name(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .and_then(|leaf| verify_server_name(&leaf, name))
        .is_ok()
}

/// The server side: TLS 1.2 and 1.3, `h2` then `http/1.1`, session tickets.
///
/// # Errors
/// When the system gives no randomness for the tickets' key.
pub fn server_config(certificates: Arc<Certificates>) -> anyhow::Result<rustls::ServerConfig> {
    let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer =
        rustls::crypto::aws_lc_rs::Ticketer::new().context("cannot make a session ticket key")?;
    Ok(config)
}

fn read_keys(files: &[CertificateFiles]) -> anyhow::Result<Vec<Arc<CertifiedKey>>> {
    let builder = rustls::ServerConfig::builder();
    let provider = builder.crypto_provider();
    let mut keys = Vec::with_capacity(files.len());
    for file in files {
        let chain = read_chain(&file.chain)?;
        let key = PrivateKeyDer::from_pem_file(&file.key)
            .with_context(|| format!("{}: no private key can be read here", file.key.display()))?;
        let certified = CertifiedKey::from_der(chain, key, provider).with_context(|| {
            format!("{} and {} do not belong together", file.chain.display(), file.key.display())
        })?;
        keys.push(Arc::new(certified));
    }
    anyhow::ensure!(!keys.is_empty(), "tls.listen needs at least one [[tls.certificates]]");
    Ok(keys)
}

/// The client side: verifies origins against the system's roots or a file of roots.
///
/// # Errors
/// Names the file, or says that the system has no roots.
pub fn client_config(roots: Option<&Path>, http2: bool) -> anyhow::Result<rustls::ClientConfig> {
    let mut store = rustls::RootCertStore::empty();
    let certificates = match roots {
        Some(path) => read_chain(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    for certificate in certificates {
        // A root the verifier cannot use is no reason to distrust the others.
        let _ = store.add(certificate);
    }
    if store.is_empty() {
        anyhow::bail!(
            "no root certificates to verify an https origin: install `ca-certificates` or set `roots`"
        );
    }
    let mut config = rustls::ClientConfig::builder().with_root_certificates(store).with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

fn read_chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{}: no certificate can be read here", path.display()))?;
    anyhow::ensure!(!chain.is_empty(), "{}: the file holds no certificate", path.display());
    Ok(chain)
}
