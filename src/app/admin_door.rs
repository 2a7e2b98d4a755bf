//! TLS on the admin listener, for everybody or for holders of certain certificates; and the way by which our own
//! commands come in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use arc_swap::ArcSwapOption;
use rustls::pki_types::ServerName;
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;

use super::jobs;
use crate::config::{AdminTls, Settings};
use crate::edge::downstream::tls::{self, Certificates};

/// Handshakes under way at a time.
const HANDSHAKES: usize = 256;
/// How long a failed accept (no descriptor is left) waits for its next turn.
const PAUSE: Duration = Duration::from_millis(100);

/// How connections to the admin listener begin; replaced on a reload. Without a value they are in clear.
#[derive(Debug)]
pub struct AdminDoor(ArcSwapOption<rustls::ServerConfig>);

impl AdminDoor {
    /// Reads the files that these settings name.
    ///
    /// # Errors
    /// Names the file that cannot be read or does not fit.
    pub fn read(settings: Option<&AdminTls>) -> anyhow::Result<Self> {
        Ok(Self(settings.map(server).transpose()?.map(Arc::new).into()))
    }

    /// From the next connection on the other one's settings hold.
    pub fn replace_by(&self, other: &Self) {
        self.0.store(other.0.load_full());
    }
}

fn server(settings: &AdminTls) -> anyhow::Result<rustls::ServerConfig> {
    let certificate = Arc::new(Certificates::read(std::slice::from_ref(&settings.certificate))?);
    let builder = rustls::ServerConfig::builder();
    let builder = match &settings.client_roots {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(tls::roots(Some(path))?);
            let verifier = WebPkiClientVerifier::builder(roots).build();
            builder.with_client_cert_verifier(verifier.with_context(|| path.display().to_string())?)
        }
    };
    let mut config = builder.with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A connection, in clear or not.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connections whose beginning is over.
pub struct AdminListener {
    ready: mpsc::Receiver<(Box<dyn Duplex>, SocketAddr)>,
    address: SocketAddr,
}

impl AdminListener {
    /// Accepts on a socket, until this is dropped. A handshake may take `patience`.
    ///
    /// # Errors
    /// The socket has no address.
    pub fn new(
        background: &Runtime,
        socket: TcpListener,
        door: Arc<AdminDoor>,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let address = socket.local_addr().context("the admin socket has no address")?;
        let (sender, ready) = mpsc::channel(1);
        // The socket outlives the job, so that a new one accepts what has come meanwhile.
        let socket = Arc::new(socket);
        jobs::keep(background, "accepting for the admin listener", move || {
            accept(Arc::clone(&socket), Arc::clone(&door), patience, sender.clone())
        });
        Ok(Self { ready, address })
    }
}

type Ready = mpsc::Sender<(Box<dyn Duplex>, SocketAddr)>;

async fn accept(socket: Arc<TcpListener>, door: Arc<AdminDoor>, patience: Duration, ready: Ready) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = ready.closed() => return,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let Ok(place) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let (config, ready) = (door.0.load_full(), ready.clone());
        tokio::spawn(async move {
            if let Some(stream) = begun(stream, config, patience).await {
                // Refused when nobody serves any more.
                let _ = ready.send((stream, peer)).await;
            }
            drop(place);
        });
    }
}

async fn begun(
    stream: TcpStream,
    config: Option<Arc<rustls::ServerConfig>>,
    patience: Duration,
) -> Option<Box<dyn Duplex>> {
    let Some(config) = config else { return Some(Box::new(stream)) };
    match tokio::time::timeout(patience, TlsAcceptor::from(config).accept(stream)).await {
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            tracing::debug!("admin: a handshake failed: {error}");
            None
        }
        Err(_) => None,
    }
}

impl axum::serve::Listener for AdminListener {
    type Io = Box<dyn Duplex>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(ready) => ready,
            // Nothing more comes; the server ends by its own signal.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> std::io::Result<SocketAddr> {
        Ok(self.address)
    }
}

/// How our own commands come in by TLS.
#[derive(Debug, Clone)]
pub struct AdminKey {
    /// What they trust and show.
    pub config: Arc<rustls::ClientConfig>,
    /// For whom the listener's certificate must be.
    pub name: ServerName<'static>,
}

impl AdminKey {
    /// As the settings have it; `None` where the listener is in clear.
    ///
    /// # Errors
    /// Names the file that cannot be read or does not fit.
    pub fn of(settings: &Settings) -> anyhow::Result<Option<Self>> {
        let Some(tls) = &settings.admin_tls else { return Ok(None) };
        let roots = tls::roots(tls.roots.as_deref())?;
        let builder = rustls::ClientConfig::builder().with_root_certificates(roots);
        let config = match &tls.client {
            None => builder.with_no_client_auth(),
            Some(files) => {
                let (chain, key) = tls::read_pair(&files.chain, &files.key)?;
                let mismatch = |error| tls::mismatch(&files.chain, &files.key, &error);
                builder.with_client_auth_cert(chain, key).map_err(mismatch)?
            }
        };
        let name = match &tls.name {
            Some(name) => ServerName::try_from(name.clone()).context("`admin.tls.name` is no host name")?,
            None => ServerName::from(reachable(settings.admin.ip())),
        };
        Ok(Some(Self { config: Arc::new(config), name }))
    }
}

/// "Every address" is reached on loopback.
fn reachable(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) if v4.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(v6) if v6.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        address => address,
    }
}
