//! A certificate authority that speaks ACME: Debian's `pebble`, with a name server of its own.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use data_encoding::HEXLOWER;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use sha2::{Digest as _, Sha256};

use super::binary::own_address;
use super::client::TlsClient;
use super::pki::{Authority, trusting};
use super::{skipped, wait_until};

/// The file in which a proxy with this data folder keeps something of an authority.
pub fn kept(data_dir: &Path, directory: &str, name: &str) -> PathBuf {
    let host = directory.parse::<http::Uri>().unwrap().host().unwrap().to_owned();
    let hash = HEXLOWER.encode(&Sha256::digest(directory)[..4]);
    data_dir.join(format!("acme/{host}-{hash}")).join(name)
}

/// Addresses for an authority and for those whom it gives certificates to, all on one part of loopback.
#[derive(Debug, Clone, Copy)]
pub struct Places {
    /// Cleartext listener of the proxy.
    pub http: SocketAddr,
    /// TLS listener of the proxy.
    pub tls: SocketAddr,
    directory: SocketAddr,
    management: SocketAddr,
    names: SocketAddr,
    names_management: SocketAddr,
}

impl Places {
    /// `None` after a line that says why not.
    pub fn find(test: &str) -> Option<Self> {
        let missing = |command: &str| Command::new(command).arg("-h").stderr(Stdio::null()).output().is_err();
        if let Some(command) = ["pebble", "pebble-challtestsrv"].into_iter().find(|command| missing(command))
        {
            skipped(test, &format!("`{command}` is not installed"));
            return None;
        }
        let http = own_address();
        let [tls, directory, management, names, names_management] = free(http.ip());
        Some(Self { http, tls, directory, management, names, names_management })
    }

    /// The file in which a proxy with this data folder keeps something of this authority.
    pub fn kept(&self, data_dir: &Path, name: &str) -> PathBuf {
        kept(data_dir, &self.url(), name)
    }

    fn url(&self) -> String {
        format!("https://{}/dir", self.directory)
    }

    /// `[acme]` for this authority; `roots` verify its server.
    pub fn settings(&self, roots: &Path, more: &str) -> String {
        format!(
            "[tls]\nlisten = [\"{}\"]\n[acme]\ndirectory = {:?}\nroots = {roots:?}\n\
             terms_agreed = true\n{more}\n",
            self.tls,
            self.url()
        )
    }
}

/// Ports that are free at the same time, on an address that no other test uses.
fn free<const N: usize>(ip: IpAddr) -> [SocketAddr; N] {
    let held = [(); N].map(|()| TcpListener::bind((ip, 0)).unwrap());
    held.map(|listener| listener.local_addr().unwrap())
}

/// The running authority.
pub struct Pebble {
    places: Places,
    server: Authority,
    children: [Child; 2],
}

impl Pebble {
    /// Starts it; `server` signs the certificate of its own listener, and every name leads to the proxy.
    pub fn start(places: Places, server: Authority, dir: &Path) -> Self {
        let Places { http, tls, directory, management, names, names_management } = places;
        let (chain, key) = server.leaf(&http.ip().to_string()).write(dir, "pebble");
        let config = dir.join("pebble.json");
        let text = serde_json::json!({ "pebble": {
            "listenAddress": directory.to_string(), "managementListenAddress": management.to_string(),
            "certificate": chain, "privateKey": key, "httpPort": http.port(), "tlsPort": tls.port(),
            "ocspResponderURL": "", "externalAccountBindingRequired": false,
        }});
        std::fs::write(&config, text.to_string()).unwrap();
        let mut resolver = Command::new("pebble-challtestsrv");
        resolver.args(["-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", ""]);
        resolver.args(["-defaultIPv4", &http.ip().to_string(), "-dns01", &names.to_string()]);
        resolver.args(["-management", &names_management.to_string()]);
        let mut pebble = Command::new("pebble");
        pebble.arg("-config").arg(config).args(["-dnsserver", &names.to_string()]);
        pebble.env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        let children = [resolver, pebble].map(|mut command| {
            let output = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = output.spawn().unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap());
            // Shown when a test fails; read in any case, for a full pipe would stop it.
            std::thread::spawn(move || {
                lines.lines().map_while(Result::ok).for_each(|line| println!("{line}"))
            });
            child
        });
        for at in [directory, management, names] {
            wait_until("the authority listens", || TcpStream::connect(at).is_ok());
        }
        Self { places, server, children }
    }

    /// A client that trusts the certificates it gives.
    pub fn client(&self) -> Arc<ClientConfig> {
        let at = self.places.management;
        let mut management = TlsClient::connect_tls(at, &at.ip().to_string(), self.server.client(&[]));
        let answer = management.get_from("pebble", "/roots/0", "");
        let root = CertificateDer::from_pem_slice(&answer.body).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        Arc::new(trusting(roots).with_no_client_auth())
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Fails when it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
