//! What an ACME authority is shown as proof that a name leads here: a text over http, or a certificate in a
//! handshake. Shown while an order is under way and no longer.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use rcgen::{CertificateParams, CustomExtension, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

use super::https::ACME_PREFIX;
use crate::edge::message::body::Body;

/// The protocol by which an authority asks for a certificate (RFC 8737, 4).
pub const ALPN: &[u8] = b"acme-tls/1";

/// Proofs of the orders under way, by token and by name.
#[derive(Debug, Default)]
pub struct Proofs {
    texts: ArcSwap<BTreeMap<String, String>>,
    certificates: ArcSwap<BTreeMap<String, Arc<CertifiedKey>>>,
}

impl Proofs {
    /// The answer to an authority's question by http (RFC 8555, 8.3). `None`: it is no such question, or about a
    /// token of somebody else, which may be the origin's.
    ///
    /// Cost: one comparison of the path for every other request.
    #[must_use]
    pub fn answer(&self, path: &str) -> Option<Response<Body>> {
        let token = path.strip_prefix(ACME_PREFIX)?;
        let text = self.texts.load().get(token)?.clone();
        let mut response = Response::new(Body::full(Bytes::from(text)));
        let octets = HeaderValue::from_static("application/octet-stream");
        response.headers_mut().insert(header::CONTENT_TYPE, octets);
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Some(response)
    }

    /// The certificate that proves a name (RFC 8737, 3).
    #[must_use]
    pub fn certificate(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        self.certificates.load().get(&name.to_ascii_lowercase()).map(Arc::clone)
    }

    /// Shows a text until the guard is dropped.
    pub fn show_text(self: &Arc<Self>, token: &str, text: &str) -> Shown {
        self.texts.rcu(|map| with(map, token, &text.to_owned()));
        Shown { proofs: Arc::clone(self), key: token.to_owned() }
    }

    /// Shows a certificate for a name with a digest in it until the guard is dropped.
    ///
    /// # Errors
    /// No such certificate can be made.
    pub fn show_certificate(self: &Arc<Self>, name: &str, digest: &[u8]) -> anyhow::Result<Shown> {
        let certificate = Arc::new(proof(name, digest).context("no certificate can be made as a proof")?);
        self.certificates.rcu(|map| with(map, name, &certificate));
        Ok(Shown { proofs: Arc::clone(self), key: name.to_owned() })
    }
}

/// A self-signed certificate for the name alone, with the digest in a critical extension (RFC 8737, 3).
fn proof(name: &str, digest: &[u8]) -> anyhow::Result<CertifiedKey> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.custom_extensions.push(CustomExtension::new_acme_identifier(digest));
    let certificate = params.self_signed(&key)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(|why| anyhow::anyhow!(why))?;
    let builder = rustls::ServerConfig::builder();
    let key = builder.crypto_provider().key_provider.load_private_key(key)?;
    // Not `from_der`: it refuses certificates with critical extensions that it does not know, as this must have.
    Ok(CertifiedKey::new(vec![certificate.der().clone()], key))
}

/// A proof being shown.
#[derive(Debug)]
#[must_use]
pub struct Shown {
    proofs: Arc<Proofs>,
    key: String,
}

impl Drop for Shown {
    fn drop(&mut self) {
        // A token and a name are never the same: tokens hold no dot (base64url).
        self.proofs.texts.rcu(|map| without(map, &self.key));
        self.proofs.certificates.rcu(|map| without(map, &self.key));
    }
}

fn with<T: Clone>(map: &BTreeMap<String, T>, key: &str, value: &T) -> BTreeMap<String, T> {
    let mut map = map.clone();
    map.insert(key.to_owned(), value.clone());
    map
}

fn without<T: Clone>(map: &BTreeMap<String, T>, key: &str) -> BTreeMap<String, T> {
    let mut map = map.clone();
    map.remove(key);
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_shown_until_its_guard_is_dropped() {
        let proofs = Arc::new(Proofs::default());
        let shown = proofs.show_text("token", "token.thumb");
        assert!(proofs.answer("/.well-known/acme-challenge/token").is_some());
        assert!(proofs.answer("/.well-known/acme-challenge/other").is_none());
        assert!(proofs.answer("/token").is_none());
        drop(shown);
        assert!(proofs.answer("/.well-known/acme-challenge/token").is_none());
        let shown = proofs.show_certificate("one.test", &[7; 32]).unwrap();
        assert!(proofs.certificate("ONE.test").is_some() && proofs.certificate("two.test").is_none());
        drop(shown);
        assert!(proofs.certificate("one.test").is_none());
    }
}
