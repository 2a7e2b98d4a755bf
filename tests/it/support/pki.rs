//! Certificates for tests: one authority, leaves for names, and rustls settings on both sides.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::client::WantsClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};

/// An authority that nobody trusts but those who are told to.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key.
pub struct Leaf {
    /// DER, for comparing.
    pub der: Vec<u8>,
    chain_pem: String,
    key: KeyPair,
}

impl Authority {
    /// Makes a new one.
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Signs a certificate for a name or an address.
    pub fn leaf(&self, name: &str) -> Leaf {
        self.leaf_for(&[name])
    }

    /// Signs a certificate for several names and addresses.
    pub fn leaf_for(&self, names: &[&str]) -> Leaf {
        self.leaf_with(names, |_| ())
    }

    /// Signs a certificate of which something is not as usual.
    pub fn leaf_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        self.signed(names, KeyPair::generate().unwrap(), change)
    }

    /// Signs a certificate for a key.
    pub fn leaf_of(&self, names: &[&str], key: KeyPair) -> Leaf {
        self.signed(names, key, |_| ())
    }

    fn signed(&self, names: &[&str], key: KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Leaf {
        let names = names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(names).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Leaf { der: certificate.der().to_vec(), chain_pem: certificate.pem(), key }
    }

    /// Writes the authority's certificate.
    pub fn write(&self, dir: &Path) -> PathBuf {
        let path = dir.join("roots.pem");
        std::fs::write(&path, self.issuer.pem()).unwrap();
        path
    }

    /// A client that trusts this authority and offers these protocols.
    pub fn client(&self, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut config = trusting(self.roots()).with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A client that speaks these versions only.
    pub fn client_with(&self, versions: &[&'static SupportedProtocolVersion]) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let config = builder.with_protocol_versions(versions).unwrap();
        Arc::new(config.with_root_certificates(self.roots()).with_no_client_auth())
    }

    /// A client with this cryptography.
    pub fn client_of(&self, provider: Arc<CryptoProvider>) -> Arc<ClientConfig> {
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        Arc::new(config.with_root_certificates(self.roots()).with_no_client_auth())
    }

    /// A client that shows a certificate, if there is one.
    pub fn client_as(&self, leaf: Option<&Leaf>) -> Arc<ClientConfig> {
        let Some(leaf) = leaf else { return self.client(&[]) };
        let chain = vec![leaf.der.clone().into()];
        Arc::new(trusting(self.roots()).with_client_auth_cert(chain, leaf.key()).unwrap())
    }

    /// A client that takes any certificate: for tests that look at it themselves.
    pub fn anybody() -> Arc<ClientConfig> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap().dangerous();
        Arc::new(builder.with_custom_certificate_verifier(Arc::new(Anybody(provider))).with_no_client_auth())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).unwrap();
        roots
    }
}

/// A client that trusts these; what it shows is still to be said.
pub fn trusting(roots: RootCertStore) -> ConfigBuilder<ClientConfig, WantsClientCert> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    builder.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots)
}

impl Leaf {
    /// Writes chain and key as PEM; returns both paths.
    pub fn write(&self, dir: &Path, stem: &str) -> (PathBuf, PathBuf) {
        let (chain, key) = (dir.join(format!("{stem}.pem")), dir.join(format!("{stem}.key")));
        std::fs::write(&chain, &self.chain_pem).unwrap();
        std::fs::write(&key, self.key.serialize_pem()).unwrap();
        (chain, key)
    }

    /// Writes both, and gives the settings that name them.
    pub fn toml(&self, dir: &Path, stem: &str) -> String {
        let (chain, key) = self.write(dir, stem);
        format!("[[tls.certificates]]\nchain = {chain:?}\nkey = {key:?}\n")
    }

    /// Key and chain as PEM, in one text.
    pub fn pem(&self) -> String {
        format!("{}{}", self.key.serialize_pem(), self.chain_pem)
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.serialize_der()).into()
    }

    /// A server that shows this certificate.
    pub fn server(&self) -> Arc<ServerConfig> {
        let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
        let chain = vec![CertificateDer::from(self.der.clone())];
        let config = builder
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, self.key())
            .unwrap();
        Arc::new(config)
    }
}

/// Believes any certificate whose holder has its key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, leaf, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, leaf, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
