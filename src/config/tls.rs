//! TLS: certificates, the way to https, and what browsers are told of it.

use std::path::PathBuf;
use std::time::Duration;

use super::key::KeyPath;
use super::load::Merged;
use super::meaning::{self, Problems};
use super::raw::{Raw, RawHsts, RawSite};
use super::written::{FilePath, RawListen};
use super::{Listen, ListenAt, listen};

/// TLS listeners.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Addresses served with TLS; ALPN offers `h2` and `http/1.1`.
    pub listen: Vec<Listen>,
    /// Certificate chains with keys, chosen by SNI; the first is the default.
    pub certificates: Vec<CertificateFiles>,
}

/// TLS on the admin listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminTls {
    /// What the listener shows.
    pub certificate: CertificateFiles,
    /// PEM file of roots: only clients with a certificate of theirs come in.
    pub client_roots: Option<PathBuf>,
    /// PEM file of roots by which our own commands verify the listener, instead of the system's.
    pub roots: Option<PathBuf>,
    /// Name for which its certificate must be; its address by default.
    pub name: Option<String>,
    /// What our own commands show.
    pub client: Option<CertificateFiles>,
}

/// What browsers are told of coming by https (RFC 6797).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hsts {
    /// How long they keep to it; zero makes them forget.
    pub max_age: Duration,
    /// It holds for every subdomain too.
    pub subdomains: bool,
    /// Makers of browsers may build it in.
    pub preload: bool,
}

/// One certificate on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM chain, leaf first.
    pub chain: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
    /// The setting that names them.
    pub setting: String,
}

/// What lists of sites built into browsers ask for (hstspreload.org).
const LEAST_PRELOADED: Duration = Duration::from_secs(365 * 86_400);

/// Listeners and certificates.
pub(super) fn settings(merged: &Merged, problems: &mut Problems<'_>) -> Tls {
    let written = &merged.raw.tls;
    let top = KeyPath::of("tls.certificates");
    let mut certificates = Vec::new();
    for (i, certificate) in written.certificates.iter().enumerate() {
        let files = [("chain", certificate.chain.as_ref()), ("key", certificate.key.as_ref())];
        certificates.extend(certificate_files(&top.at(i), files, problems));
    }
    let fetched = !merged.raw.acme.hosts.0.is_empty();
    if !written.listen.0.is_empty() && written.certificates.is_empty() && !fetched {
        problems.missing(
            &KeyPath::of("tls.listen"),
            "`tls.listen` needs a certificate".to_owned(),
            "no [[tls.certificates]] is given, so no handshake could succeed",
            "add [[tls.certificates]] with `chain` and `key`, or name `acme.hosts`, or remove `tls.listen`",
        );
    }
    if written.redirect {
        check_redirect(&KeyPath::of("tls.redirect"), &merged.raw, problems);
    }
    if written.redirect_port == Some(0) {
        problems.wrong(
            &KeyPath::of("tls.redirect_port"),
            "`tls.redirect_port` is zero".to_owned(),
            "no visitor can connect to that port",
            "write the port of https as visitors reach it, like 443",
        );
    }
    if let Some(hsts) = &written.hsts {
        check_hsts(&KeyPath::of("tls.hsts"), hsts, problems);
    }
    let listen = listen::listeners(&merged.raw, &KeyPath::of("tls.listen"), &written.listen.0, problems);
    Tls { listen, certificates }
}

/// TLS on the admin listener.
pub(super) fn admin(merged: &Merged, problems: &mut Problems<'_>) -> Option<AdminTls> {
    let written = merged.raw.admin.tls.as_ref()?;
    let path = KeyPath::of("admin.tls");
    let own = [("chain", written.chain.as_ref()), ("key", written.key.as_ref())];
    let certificate = certificate_files(&path, own, problems);
    let client =
        [("client_chain", written.client_chain.as_ref()), ("client_key", written.client_key.as_ref())];
    let client = match client {
        [(_, None), (_, None)] => None,
        files => certificate_files(&path, files, problems),
    };
    let mut roots = |name: &str, written: Option<&FilePath>| {
        Some(meaning::readable(&path.key(name), written?, "a PEM file of roots", problems))
    };
    let client_roots = roots("client_roots", written.client_roots.as_ref());
    let roots = roots("roots", written.roots.as_ref());
    if let Some(name) = &written.name
        && !matches!(url::Host::parse(name), Ok(url::Host::Domain(_)))
    {
        let path = path.key("name");
        problems.wrong(
            &path,
            format!("`{path}` is no host name"),
            "it is the name for which the listener's certificate must be",
            "write a name like \"optgate.internal\", or remove it for the listener's address",
        );
    }
    Some(AdminTls { certificate: certificate?, client_roots, roots, name: written.name.clone(), client })
}

/// A chain and its key, by their settings' names.
fn certificate_files(
    table: &KeyPath,
    files: [(&str, Option<&FilePath>); 2],
    problems: &mut Problems<'_>,
) -> Option<CertificateFiles> {
    let [chain, key] = files.map(|(name, written)| {
        let path = table.key(name);
        let Some(file) = written else {
            problems.missing(
                &path,
                format!("`{path}` is missing"),
                "a certificate is a chain and its private key",
                "name both PEM files",
            );
            return None;
        };
        Some(meaning::readable(&path, file, "a PEM file", problems))
    });
    chain.zip(key).map(|(chain, key)| CertificateFiles { chain, key, setting: table.to_string() })
}

/// Port to which a site's visitors are sent who come in clear.
pub(super) fn redirect(
    path: &KeyPath,
    raw: &Raw,
    site: &RawSite,
    problems: &mut Problems<'_>,
) -> Option<u16> {
    if site.tls.redirect == Some(true) {
        check_redirect(&path.key("tls").key("redirect"), raw, problems);
    }
    let port = || raw.tls.redirect_port.or_else(|| listening_port(raw)).unwrap_or(443);
    site.tls.redirect.unwrap_or(raw.tls.redirect).then(port)
}

/// The first port of `tls.listen` that is known before it is bound.
fn listening_port(raw: &Raw) -> Option<u16> {
    let port = |one: &RawListen| {
        let address = match one {
            RawListen::Address(address) => address,
            RawListen::Table(table) => table.address.as_ref()?,
        };
        match address.0 {
            ListenAt::Tcp(address) => Some(address.port()).filter(|port| *port != 0),
            ListenAt::Unix { .. } => None,
        }
    };
    raw.tls.listen.0.iter().find_map(port)
}

fn check_redirect(path: &KeyPath, raw: &Raw, problems: &mut Problems<'_>) {
    if raw.tls.listen.0.is_empty() && raw.trusted_proxies.0.is_empty() {
        problems.wrong(
            path,
            format!("`{path}` leads nowhere"),
            "there is neither a `tls.listen` nor a proxy in `trusted_proxies` that could end TLS, so visitors \
             would be sent round in circles",
            "add `tls.listen` with a certificate, or the proxy's addresses to `trusted_proxies`",
        );
    }
}

/// What a site's visitors are told of https.
pub(super) fn hsts(path: &KeyPath, raw: &Raw, site: &RawSite, problems: &mut Problems<'_>) -> Option<Hsts> {
    let Some(own) = &site.tls.hsts else { return raw.tls.hsts.as_ref().map(told) };
    check_hsts(&path.key("tls").key("hsts"), own, problems);
    Some(told(own))
}

fn told(written: &RawHsts) -> Hsts {
    Hsts { max_age: written.max_age.0, subdomains: written.subdomains, preload: written.preload }
}

fn check_hsts(path: &KeyPath, written: &RawHsts, problems: &mut Problems<'_>) {
    if written.preload && (!written.subdomains || written.max_age.0 < LEAST_PRELOADED) {
        let path = path.key("preload");
        problems.wrong(
            &path,
            format!("`{path}` needs more"),
            "browsers build in only what holds for all subdomains and for a year or more",
            "set `subdomains = true` and `max_age = \"365d\"`, or remove `preload`",
        );
    }
}
