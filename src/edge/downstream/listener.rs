//! Binding: one `SO_REUSEPORT` socket for each core, after making sure that the port is free; a Unix socket is
//! one for all.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;

use anyhow::Context as _;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::socket::Listening;
use super::unix::{self, SocketFile};
use crate::config::{Listen, ListenAt};

/// Connections the kernel may hold for us before they are accepted.
const BACKLOG: i32 = 4096;

/// A bound socket.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket.
    Unix(UnixListener),
}

impl Listener {
    /// One that is open already.
    ///
    /// # Errors
    /// The descriptor is no socket.
    pub fn of(descriptor: OwnedFd) -> io::Result<Self> {
        match SockRef::from(&descriptor).domain()? {
            Domain::UNIX => Ok(Self::Unix(descriptor.into())),
            _ => Ok(Self::Tcp(descriptor.into())),
        }
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn try_clone(&self) -> io::Result<Self> {
        match self {
            Self::Tcp(socket) => socket.try_clone().map(Self::Tcp),
            Self::Unix(socket) => socket.try_clone().map(Self::Unix),
        }
    }

    /// Its address; `None` for a Unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(socket) => socket.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// The same on the current runtime.
    ///
    /// # Errors
    /// When the runtime cannot watch it.
    pub fn watched(self) -> io::Result<Listening> {
        match self {
            Self::Tcp(socket) => {
                // Inherited by every accepted connection: saves a system call each. A socket that was passed to the
                // process comes without.
                SockRef::from(&socket).set_tcp_nodelay(true)?;
                tokio::net::TcpListener::from_std(socket).map(Listening::Tcp)
            }
            Self::Unix(socket) => tokio::net::UnixListener::from_std(socket).map(Listening::Unix),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(socket) => socket.as_fd(),
            Self::Unix(socket) => socket.as_fd(),
        }
    }
}

/// One listener of the settings, bound.
#[derive(Debug)]
pub struct Entrance {
    /// As the settings have it.
    pub wanted: ListenAt,
    /// Connections begin with a PROXY protocol header.
    pub proxy_protocol: bool,
    /// The file of a Unix socket that was put there by this process.
    pub file: Option<SocketFile>,
    /// The file of a Unix socket was put there by the process before this one.
    pub inherits_file: bool,
    /// One listening socket a core; one that was passed to the process is shared by several.
    pub sockets: Vec<Listener>,
}

impl Entrance {
    /// The address as bound; `None` for a Unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.sockets.first().and_then(Listener::address)
    }
}

/// Binds a listener for `cores` cores.
///
/// # Errors
/// Says which address or path, and what holds it: a port in use is refused even if its holder would share it,
/// because a second Optgate that silently takes half of the connections is the worse surprise.
pub fn open_entrance(listen: &Listen, cores: usize) -> anyhow::Result<Entrance> {
    let (file, sockets) = match &listen.at {
        ListenAt::Tcp(address) => (None, bind(*address, cores)?.into_iter().map(Listener::Tcp).collect()),
        ListenAt::Unix { path, mode } => {
            let (file, sockets) = unix::bind(path, *mode, cores)?;
            (Some(file), sockets.into_iter().map(Listener::Unix).collect())
        }
    };
    let (wanted, proxy_protocol) = (listen.at.clone(), listen.proxy_protocol);
    Ok(Entrance { wanted, proxy_protocol, file, inherits_file: false, sockets })
}

/// Binds one socket without sharing; for the admin listener.
///
/// # Errors
/// As [`open_entrance`].
pub fn open_one(wanted: SocketAddr) -> anyhow::Result<Entrance> {
    let address = without_ipv6(wanted);
    let socket = socket(address, false).map_err(|error| explain(address, &error))?;
    socket.listen(BACKLOG).map_err(|error| explain(address, &error))?;
    Ok(Entrance {
        wanted: ListenAt::Tcp(wanted),
        proxy_protocol: false,
        file: None,
        inherits_file: false,
        sockets: vec![Listener::Tcp(socket.into())],
    })
}

/// One address with a socket for each core. With port 0 all cores share the port the kernel gave.
fn bind(wanted: SocketAddr, cores: usize) -> anyhow::Result<Vec<TcpListener>> {
    let address = without_ipv6(wanted);
    if address.port() != 0 {
        probe(address).map_err(|error| explain(address, &error))?;
    }
    let first = open(address).map_err(|error| explain(address, &error))?;
    let address = first.local_addr().context("a bound socket has no address")?;
    let mut sockets = vec![first];
    for _ in 1..cores.max(1) {
        sockets.push(open(address).map_err(|error| explain(address, &error))?);
    }
    Ok(sockets)
}

/// "Every interface" where the kernel has no IPv6 is every IPv4 interface.
fn without_ipv6(address: SocketAddr) -> SocketAddr {
    let every = address.is_ipv6() && address.ip().is_unspecified();
    if every && Socket::new(Domain::IPV6, Type::STREAM, Some(Protocol::TCP)).is_err() {
        return SocketAddr::from(([0, 0, 0, 0], address.port()));
    }
    address
}

/// Fails when anybody listens there, sharing or not.
fn probe(address: SocketAddr) -> io::Result<()> {
    socket(address, false)?.listen(1)
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address, true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr, share: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if share {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn explain(address: SocketAddr, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "cannot listen on {address}: another process listens there already (see `ss -ltnp`); \
             choose another address with --listen or --admin, or stop it first"
        ),
        io::ErrorKind::PermissionDenied => anyhow::anyhow!(
            "cannot listen on {address}: not permitted; ports below 1024 need CAP_NET_BIND_SERVICE"
        ),
        io::ErrorKind::AddrNotAvailable => {
            anyhow::anyhow!("cannot listen on {address}: this machine does not have that address")
        }
        _ => anyhow::anyhow!("cannot listen on {address}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_gives_one_port_for_all_cores() {
        let sockets = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let ports: Vec<_> = sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
        assert_ne!(ports[0], 0);
        assert_eq!(ports, vec![ports[0]; 3]);
    }

    /// systemd gives sockets without it unless the unit says `NoDelay=yes`; every accepted connection inherits it.
    #[tokio::test]
    async fn a_socket_that_was_passed_does_not_delay_either() {
        let passed = TcpListener::bind("127.0.0.1:0").unwrap();
        passed.set_nonblocking(true).unwrap();
        assert!(!SockRef::from(&passed).tcp_nodelay().unwrap());
        let watched = Listener::Tcp(passed.try_clone().unwrap()).watched();
        assert!(watched.is_ok() && SockRef::from(&passed).tcp_nodelay().unwrap());
    }

    /// `SO_REUSEPORT` alone would let a second process share the port without a word.
    #[test]
    fn a_port_that_is_shared_by_another_is_still_refused_and_named() {
        let held = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let address = held[0].local_addr().unwrap();
        let error = bind(address, 1).unwrap_err().to_string();
        assert!(error.contains(&address.to_string()) && error.contains("another process"), "{error}");
    }
}
