//! TLS on both sides: certificates by SNI from files, ALPN, and verified origins.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use arc_swap::ArcSwap;
use rustls::SignatureScheme;
use rustls::client::verify_server_name;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Version;

use crate::config::CertificateFiles;
use crate::edge::own::proofs::{self, Proofs};
use crate::telemetry::events;
use crate::telemetry::metrics::Metrics;

/// Chooses a certificate by the name a client asks for: from a file that holds the name, before one that holds it by a
/// wildcard; of several the first whose kind of key the client takes (an ECDSA and an RSA one for the same name); else one
/// that was fetched for it, else the first there is. Others can take their place while connections last.
///
/// Cost: two look-ups in a map, small beside the handshake's signature.
#[derive(Debug)]
pub struct Certificates {
    all: ArcSwap<All>,
    proofs: Arc<Proofs>,
}

/// Certificates with their keys.
#[derive(Debug, Clone, Default)]
struct All {
    /// From files, in the settings' order.
    files: Arc<[Arc<CertifiedKey>]>,
    /// Which of them hold a name in lower case, or a wildcard, in the same order.
    by_name: Arc<HashMap<String, Vec<usize>>>,
    /// How long those hold.
    ends: Arc<[Ending]>,
    /// Fetched, by name.
    fetched: BTreeMap<Box<str>, Arc<CertifiedKey>>,
}

/// How long a certificate from a file holds.
#[derive(Debug)]
struct Ending {
    file: PathBuf,
    /// The names it is for; its file's where it has none.
    names: Vec<String>,
    /// Unix seconds.
    until: i64,
}

impl Certificates {
    /// Reads these files.
    ///
    /// # Errors
    /// Names the file that cannot be read or does not fit its key.
    pub fn read(files: &[CertificateFiles]) -> anyhow::Result<Self> {
        let keys = files.iter().map(read_of).collect::<anyhow::Result<Vec<_>>>()?;
        let (mut by_name, mut ends) = (HashMap::<String, Vec<usize>>::new(), Vec::new());
        for (at, (file, key)) in files.iter().zip(&keys).enumerate() {
            // One that cannot be read serves all the same.
            let Some(leaf) = leaf_of(key) else { continue };
            let names = names_of(&leaf);
            for name in &names {
                by_name.entry(name.to_ascii_lowercase()).or_default().push(at);
            }
            ends.push(ending(&file.chain, names, &leaf));
        }
        let all = All { files: keys.into(), by_name: by_name.into(), ends: ends.into(), ..All::default() };
        Ok(Self { all: ArcSwap::from_pointee(all), proofs: Arc::default() })
    }

    /// From the next handshake on the others' files serve. Sessions are resumed as before.
    pub fn replace_by(&self, others: &Self) {
        let others = others.all.load_full();
        self.change(|all| {
            all.files = Arc::clone(&others.files);
            all.by_name = Arc::clone(&others.by_name);
            all.ends = Arc::clone(&others.ends);
        });
    }

    /// Says how long certificates from files hold, and warns of those that end soon or have. `before`: those whose
    /// place they take.
    pub fn say_when_they_end(&self, before: Option<&Self>, metrics: &Metrics) {
        let ends = Arc::clone(&self.all.load().ends);
        for gone in before.into_iter().flat_map(|before| before.names()) {
            if !ends.iter().any(|ending| ending.names.contains(&gone)) {
                metrics.no_certificate(&gone);
            }
        }
        let now = jiff::Timestamp::now().as_second();
        for ending in ends.iter() {
            events::certificate_read(metrics, &ending.file, &ending.names, ending.until, now);
        }
    }

    /// What is to be said of certificates from files that end soon, or have. `now`: Unix seconds.
    #[must_use]
    pub fn ending_soon(&self, now: i64) -> Vec<String> {
        let all = self.all.load();
        all.ends
            .iter()
            .filter_map(|ending| events::certificate_ends(&ending.file, ending.until, now))
            .collect()
    }

    /// Names of the certificates from files.
    fn names(&self) -> Vec<String> {
        self.all.load().ends.iter().flat_map(|ending| ending.names.clone()).collect()
    }

    /// From the next handshake on a fetched certificate serves for its name.
    pub fn put(&self, host: &str, key: Arc<CertifiedKey>) {
        self.change(|all| drop(all.fetched.insert(host.into(), Arc::clone(&key))));
    }

    /// Forgets fetched certificates for other names.
    pub fn keep_only(&self, wanted: impl Fn(&str) -> bool) {
        if self.all.load().fetched.keys().any(|host| !wanted(host)) {
            self.change(|all| all.fetched.retain(|host, _| wanted(host)));
        }
    }

    /// What an authority is shown.
    #[must_use]
    pub const fn proofs(&self) -> &Arc<Proofs> {
        &self.proofs
    }

    fn change(&self, change: impl Fn(&mut All)) {
        self.all.rcu(|all| {
            let mut all = All::clone(all);
            change(&mut all);
            all
        });
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        if asks_for_proof(&hello) {
            return self.proofs.certificate(hello.server_name()?);
        }
        self.all.load().chosen(hello.server_name(), hello.signature_schemes()).map(Arc::clone)
    }
}

/// An authority offers its own protocol and nothing else (RFC 8737, 3).
fn asks_for_proof(hello: &ClientHello<'_>) -> bool {
    let mut offered = hello.alpn().into_iter().flatten();
    offered.next() == Some(proofs::ALPN) && offered.next().is_none()
}

impl All {
    /// The certificate for a name, for a client that takes these kinds of signatures.
    fn chosen(&self, name: Option<&str>, takes: &[SignatureScheme]) -> Option<&Arc<CertifiedKey>> {
        let can_sign = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(takes).is_some();
        let of_name = || name.into_iter().flat_map(|name| self.holding(name));
        let fetched = || name.and_then(|name| self.fetched.get(name));
        let fitting = of_name().find(can_sign).or_else(|| of_name().next()).or_else(fetched);
        let any = || self.files.iter().find(can_sign).or_else(|| self.files.first());
        fitting.or_else(any).or_else(|| self.fetched.values().next())
    }

    /// Those from files that hold a name: by itself, then by a wildcard (RFC 9525, 6.3: for one label).
    fn holding(&self, name: &str) -> impl Iterator<Item = &Arc<CertifiedKey>> {
        let name = name.to_ascii_lowercase();
        let wildcard = name.split_once('.').map(|(_, parent)| format!("*.{parent}"));
        let held = [Some(name), wildcard].into_iter().flatten().filter_map(|name| self.by_name.get(&name));
        held.flatten().filter_map(|at| self.files.get(*at))
    }
}

/// Whether a leaf certificate is for a name, wildcards included (RFC 9525).
fn holds_name(key: &CertifiedKey, name: &ServerName<'_>) -> bool {
    key.end_entity_cert()
        .and_then(ParsedCertificate::try_from)
        .and_then(|leaf| verify_server_name(&leaf, name))
        .is_ok()
}

/// The server side of the visitors' listeners; cheap to clone.
#[derive(Debug, Clone)]
pub struct Server {
    /// How handshakes go.
    pub config: Arc<rustls::ServerConfig>,
    certificates: Arc<Certificates>,
}

impl Server {
    /// TLS 1.2 and 1.3, `h2` then `http/1.1`, session tickets.
    ///
    /// # Errors
    /// When the system gives no randomness for the tickets' key.
    pub fn new(certificates: Arc<Certificates>) -> anyhow::Result<Self> {
        let resolver = Arc::clone(&certificates);
        let mut config = rustls::ServerConfig::builder().with_no_client_auth().with_cert_resolver(resolver);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec(), proofs::ALPN.to_vec()];
        config.ticketer =
            rustls::crypto::aws_lc_rs::Ticketer::new().context("cannot make a session ticket key")?;
        Ok(Self { config: Arc::new(config), certificates })
    }

    /// What a client was shown that asked for `name` just now. `None`: it asked for no name.
    #[must_use]
    pub fn shown(&self, name: Option<&str>) -> Option<Shown> {
        let all = self.certificates.all.load_full();
        Some(Shown { name: name?.into(), all, judged: RefCell::default() })
    }
}

/// For whose requests a TLS connection is: the name of its handshake, and those that the certificate holds.
#[derive(Debug, Clone)]
pub struct Shown {
    name: Box<str>,
    /// As they were at the handshake.
    all: Arc<All>,
    /// Other names asked for on this connection, and whether the certificate holds them; the newest last.
    judged: RefCell<Vec<(Box<str>, bool)>>,
}

/// Other names that a connection remembers.
const NAMES_REMEMBERED: usize = 16;

impl Shown {
    /// Whether a request for `host` (lower case, without port) belongs on the connection (RFC 9110, 7.4).
    ///
    /// Cost: one comparison for the name of the handshake; the certificate is read once for each other name.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        self.name.eq_ignore_ascii_case(host) || self.holds(host)
    }

    fn holds(&self, host: &str) -> bool {
        let mut judged = self.judged.borrow_mut();
        if let Some((_, held)) = judged.iter().find(|(name, _)| **name == *host) {
            return *held;
        }
        // Which of several was shown hung on the client; they are for one site.
        let mut shown: Vec<_> = self.all.holding(&self.name).collect();
        if shown.is_empty() {
            shown.extend(self.all.chosen(Some(&self.name), &[]));
        }
        let held = as_server_name(host).is_some_and(|name| shown.iter().any(|key| holds_name(key, &name)));
        if judged.len() == NAMES_REMEMBERED {
            judged.remove(0);
        }
        judged.push((host.into(), held));
        held
    }
}

/// A host as certificates name it: IPv6 without brackets.
fn as_server_name(host: &str) -> Option<ServerName<'_>> {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match address {
        Some(address) => Some(ServerName::IpAddress(address.parse::<IpAddr>().ok()?.into())),
        None => ServerName::try_from(host).ok(),
    }
}

fn read_of(files: &CertificateFiles) -> anyhow::Result<Arc<CertifiedKey>> {
    read_key(&files.chain, &files.key).with_context(|| format!("`{}`", files.setting))
}

/// The certificate that is shown for a key, where it can be read.
fn leaf_of(key: &CertifiedKey) -> Option<X509Certificate<'_>> {
    let (_, leaf) = x509_parser::parse_x509_certificate(key.cert.first()?).ok()?;
    Some(leaf)
}

/// How long a certificate for these names holds.
fn ending(file: &Path, mut names: Vec<String>, leaf: &X509Certificate<'_>) -> Ending {
    if names.is_empty() {
        names.push(file.display().to_string());
    }
    Ending { file: file.to_owned(), names, until: leaf.validity().not_after.timestamp() }
}

/// The names and addresses that a certificate holds.
fn names_of(leaf: &X509Certificate<'_>) -> Vec<String> {
    let names = leaf.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => address(bytes),
        _ => None,
    });
    names.collect()
}

/// An address as certificates hold it.
fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok().map(|ip| ip.to_string())
}

/// Reads a certificate chain and the key that it belongs to.
///
/// # Errors
/// Names the file that cannot be read or does not fit its key.
pub fn read_key(chain: &Path, key: &Path) -> anyhow::Result<Arc<CertifiedKey>> {
    let (certificates, private) = read_pair(chain, key)?;
    refuse_old_version(chain, &certificates)?;
    let builder = rustls::ServerConfig::builder();
    let certified = CertifiedKey::from_der(certificates, private, builder.crypto_provider())
        .map_err(|error| mismatch(chain, key, &error))?;
    Ok(Arc::new(certified))
}

/// What is wrong with a chain and a key of another.
#[must_use]
pub fn mismatch(chain: &Path, key: &Path, error: &rustls::Error) -> anyhow::Error {
    let why = match error {
        rustls::Error::InconsistentKeys(_) => "the certificate is another key's".to_owned(),
        other => other.to_string(),
    };
    anyhow::anyhow!(
        "{} and {} do not belong together: {why}\n  next: name the key that the chain's first certificate was \
         issued for; the site's own certificate comes first, then what signed it",
        chain.display(),
        key.display()
    )
}

/// Certificates of before X.509 v3 hold no names that anybody looks at.
fn refuse_old_version(chain: &Path, certificates: &[CertificateDer<'_>]) -> anyhow::Result<()> {
    let leaf = certificates.first().and_then(|leaf| x509_parser::parse_x509_certificate(leaf).ok());
    let version = leaf.map_or(X509Version::V3, |(_, leaf)| leaf.version());
    anyhow::ensure!(
        version == X509Version::V3,
        "{}: this is an X.509 v{} certificate, which no browser takes and Optgate does not serve\n  next: have one of \
         version 3 issued, with the site's names in it; with openssl add `-addext subjectAltName=DNS:shop.example`, or \
         `-extfile FILE` to `openssl x509 -req`",
        chain.display(),
        version.0.saturating_add(1)
    );
    Ok(())
}

/// Reads a certificate chain and its key.
///
/// # Errors
/// Names the file that cannot be read.
pub fn read_pair(
    chain: &Path,
    key: &Path,
) -> anyhow::Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)> {
    let certificates = read_chain(chain)?;
    warn_if_exposed(key);
    Ok((certificates, read_private(key)?))
}

fn read_private(file: &Path) -> anyhow::Result<PrivateKeyDer<'static>> {
    let name = file.display();
    PrivateKeyDer::from_pem_file(file).map_err(|error| {
        if is_encrypted(file) {
            return anyhow::anyhow!(
                "{name}: this private key is encrypted, and nobody is asked for its passphrase\n  next: decrypt it with \
                 `(umask 077; openssl pkey -in {name} -out {name}.plain)`, and name that file as the key"
            );
        }
        anyhow::anyhow!(
            "{name}: no private key can be read here: {error}\n  next: name a PEM file with BEGIN PRIVATE KEY in it"
        )
    })
}

/// Whether a file holds a private key under a passphrase, in either of the two forms.
fn is_encrypted(file: &Path) -> bool {
    let text = std::fs::read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.contains("BEGIN ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED")
}

/// A private key that any user of the machine can read is one that any of them has.
fn warn_if_exposed(key: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(key).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o007 != 0 {
        events::key_exposed(key, mode & 0o777);
    }
}

/// The client side: verifies origins against the system's roots or a file of roots.
///
/// # Errors
/// Names the file, or says that the system has no roots.
pub fn client_config(roots: Option<&Path>, http2: bool) -> anyhow::Result<rustls::ClientConfig> {
    let mut config =
        rustls::ClientConfig::builder().with_root_certificates(self::roots(roots)?).with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(config)
}

/// Whom to trust: the roots in a file, or the system's.
///
/// # Errors
/// Names the file, or says that the system has no roots.
pub fn roots(roots: Option<&Path>) -> anyhow::Result<rustls::RootCertStore> {
    let mut store = rustls::RootCertStore::empty();
    let certificates = match roots {
        Some(path) => read_chain(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    for certificate in certificates {
        // A root the verifier cannot use is no reason to distrust the others.
        let _ = store.add(certificate);
    }
    anyhow::ensure!(
        !store.is_empty(),
        "no root certificates to verify with: install `ca-certificates` or set `roots`"
    );
    Ok(store)
}

fn read_chain(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let chain = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("{}: no certificate can be read here", path.display()))?;
    if chain.is_empty() {
        let file = path.display();
        let bytes = std::fs::read(path).unwrap_or_default();
        let next = match String::from_utf8_lossy(&bytes) {
            text if text.contains("PRIVATE KEY-----") => {
                "it holds a private key: name it as `key`, and the certificates as `chain`".to_owned()
            }
            // A DER certificate is a SEQUENCE.
            _ if bytes.first() == Some(&0x30) => {
                format!(
                    "it is not PEM: `openssl x509 -inform der -in {file} -out {file}.pem`, and name that file"
                )
            }
            _ => "name a PEM file with BEGIN CERTIFICATE in it".to_owned(),
        };
        anyhow::bail!("{file}: the file holds no certificate\n  next: {next}");
    }
    Ok(chain)
}
