//! Opening a connection to an origin.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::handshake;
use super::resolve::Names;
use super::transport::Transport;
use crate::config::{ProxyProtocol, Upstream, UpstreamAddress};
use crate::edge::downstream::proxy_protocol;
use crate::edge::downstream::socket::Socket;
use crate::edge::error::ProxyError;
use crate::edge::timer;

/// How long an address has for itself before the next one is tried beside it (RFC 8305, 5).
const HEAD_START: Duration = Duration::from_millis(250);

/// How to reach one origin; built at start, shared by all cores.
#[derive(Clone)]
pub struct Connector {
    /// What was configured.
    pub upstream: Upstream,
    /// Where its name leads; `None` for a literal address or a Unix socket.
    pub names: Option<Arc<Names>>,
    tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    /// `timeouts.upstream_connect`.
    pub(super) limit: Duration,
}

/// A connected origin.
#[derive(Debug)]
pub struct Connected {
    /// The bytes.
    pub io: Transport,
    /// Its address; `None` for a Unix socket.
    pub address: Option<SocketAddr>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.upstream.fmt(f)
    }
}

impl Connector {
    /// Reads roots and checks the server name.
    ///
    /// # Errors
    /// Roots that cannot be read, or a name that no certificate can hold.
    pub fn new(upstream: Upstream, limit: Duration) -> anyhow::Result<Self> {
        let tls = match &upstream.tls {
            Some(tls) => {
                let config =
                    crate::edge::downstream::tls::client_config(tls.roots.as_deref(), upstream.http2)?;
                let name = ServerName::try_from(tls.server_name.clone()).map_err(|_| {
                    anyhow::anyhow!("`{}` is not a name a certificate can hold", tls.server_name)
                })?;
                Some((Arc::new(config), name))
            }
            None => None,
        };
        let names = match &upstream.address {
            UpstreamAddress::Tcp { host, port } if host.parse::<IpAddr>().is_err() => {
                Some(Arc::new(Names::new(host, *port)))
            }
            _ => None,
        };
        Ok(Self { upstream, names, tls, limit })
    }

    /// Changes whenever the origin's addresses do.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.names.as_ref().map_or(0, |names| names.version())
    }

    /// Whether the origin's name has come to lead to more addresses since a version.
    #[must_use]
    pub fn has_more_since(&self, version: u64) -> bool {
        self.names.as_ref().is_some_and(|names| names.has_more_since(version))
    }

    /// Whether the origin's name still leads where a connection does; always, where there is no name.
    #[must_use]
    pub fn leads_to(&self, address: Option<SocketAddr>) -> bool {
        let names = self.names.as_ref().zip(address);
        names.is_none_or(|(names, address)| names.leads_to(address.ip()))
    }

    /// Connects, TLS included, within `timeouts.upstream_connect`. `client`: whose requests the connection is
    /// for, where the origin wants to be told.
    ///
    /// # Errors
    /// See [`ProxyError`]; each is the upstream's side.
    pub async fn connect(&self, client: Option<IpAddr>) -> Result<Connected, ProxyError> {
        timer::within(self.limit, self.dial(client)).await.unwrap_or(Err(ProxyError::ConnectTimeout))
    }

    /// As [`Self::connect`], without its limit: for threads whose timer is another, and where more is to be in time.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn dial(&self, client: Option<IpAddr>) -> Result<Connected, ProxyError> {
        if let UpstreamAddress::Unix(path) = &self.upstream.address {
            let mut io = UnixStream::connect(path).await.map_err(ProxyError::of_connecting)?;
            if let Some(header) = self.proxy_header(client, None) {
                io.write_all(&header).await.map_err(ProxyError::of_connecting)?;
            }
            return Ok(Connected { io: Transport::Left(Socket::Unix(io)), address: None });
        }
        let mut tcp = self.dial_tcp().await.map_err(ProxyError::of_connecting)?;
        let address = tcp.peer_addr().map_err(ProxyError::of_connecting)?;
        if let Some(header) = self.proxy_header(client, Some(address)) {
            tcp.write_all(&header).await.map_err(ProxyError::of_connecting)?;
        }
        let io = match &self.tls {
            None => Transport::Left(Socket::Tcp(tcp)),
            Some((config, name)) => {
                let connector = TlsConnector::from(Arc::clone(config));
                let stream = connector.connect(name.clone(), tcp).await;
                let stream = stream
                    .map_err(|error| ProxyError::UpstreamTls(handshake::in_words(error, &name.to_str())))?;
                if self.upstream.http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
                    let why = io::Error::other("the origin did not agree to HTTP/2");
                    return Err(ProxyError::UpstreamTls(why));
                }
                Transport::Right(Box::new(stream))
            }
        };
        Ok(Connected { io, address: Some(address) })
    }

    fn proxy_header(&self, client: Option<IpAddr>, to: Option<SocketAddr>) -> Option<Vec<u8>> {
        match self.upstream.proxy_protocol {
            ProxyProtocol::Off => None,
            ProxyProtocol::V1 => Some(proxy_protocol::write_v1(client, to)),
            ProxyProtocol::V2 => Some(proxy_protocol::write_v2(client, to)),
        }
    }

    async fn dial_tcp(&self) -> io::Result<TcpStream> {
        let stream = match (&self.names, &self.upstream.address) {
            (Some(names), _) => first_of(&names.addresses().await?).await?,
            (None, UpstreamAddress::Tcp { host, port }) => {
                let ip: IpAddr = host.parse().map_err(io::Error::other)?;
                TcpStream::connect((ip, *port)).await?
            }
            (None, UpstreamAddress::Unix(_)) => return Err(io::ErrorKind::Unsupported.into()),
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Connects to whichever address answers first; each has a head start over the next, and one that refuses
/// gives way at once (RFC 8305, 5).
async fn first_of(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "no address");
    let mut left = addresses.iter();
    let mut dialling = FuturesUnordered::new();
    loop {
        match left.next() {
            Some(address) => dialling.push(TcpStream::connect(*address)),
            None if dialling.is_empty() => return Err(failure),
            None => {}
        }
        let head_start = async {
            match left.len() {
                0 => std::future::pending().await,
                _ => tokio::time::sleep(HEAD_START).await,
            }
        };
        tokio::select! {
            dialled = dialling.next() => match dialled {
                Some(Ok(stream)) => return Ok(stream),
                Some(Err(error)) => failure = error,
                None => {}
            },
            () = head_start => {}
        }
    }
}
