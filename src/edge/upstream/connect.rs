//! Opening a connection to an origin.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::transport::Transport;
use crate::config::{Upstream, UpstreamAddress};
use crate::edge::error::ProxyError;
use crate::edge::timer;

/// How to reach one origin; built at start, shared by all cores.
#[derive(Clone)]
pub struct Connector {
    /// What was configured.
    pub upstream: Upstream,
    tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    limit: Duration,
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
                let config = crate::edge::tls::client_config(tls.roots.as_deref(), upstream.http2)?;
                let name = ServerName::try_from(tls.server_name.clone()).map_err(|_| {
                    anyhow::anyhow!("`{}` is not a name a certificate can hold", tls.server_name)
                })?;
                Some((Arc::new(config), name))
            }
            None => None,
        };
        Ok(Self { upstream, tls, limit })
    }

    /// Connects, TLS included, within `timeouts.upstream_connect`.
    ///
    /// # Errors
    /// See [`ProxyError`]; each is the upstream's side.
    pub async fn connect(&self) -> Result<Transport, ProxyError> {
        timer::within(self.limit, self.dial()).await.unwrap_or(Err(ProxyError::ConnectTimeout))
    }

    async fn dial(&self) -> Result<Transport, ProxyError> {
        let tcp = match &self.upstream.address {
            UpstreamAddress::Unix(path) => {
                return UnixStream::connect(path).await.map(Transport::Unix).map_err(ProxyError::Connect);
            }
            UpstreamAddress::Tcp { host, port } => {
                dial_tcp(host, *port).await.map_err(ProxyError::Connect)?
            }
        };
        let Some((config, name)) = &self.tls else { return Ok(Transport::Tcp(tcp)) };
        let connector = TlsConnector::from(Arc::clone(config));
        let stream = connector.connect(name.clone(), tcp).await.map_err(ProxyError::UpstreamTls)?;
        if self.upstream.http2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(ProxyError::UpstreamTls(io::Error::other("the origin did not agree to HTTP/2")));
        }
        Ok(Transport::Tls(Box::new(stream)))
    }
}

async fn dial_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    // Literal addresses skip the resolver's thread.
    let stream = match host.parse::<std::net::IpAddr>() {
        Ok(address) => TcpStream::connect((address, port)).await?,
        Err(_) => TcpStream::connect((host, port)).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}
