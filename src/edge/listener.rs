//! Binding: one `SO_REUSEPORT` socket for each core, after making sure that the port is free.

use std::io;
use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections the kernel may hold for us before they are accepted.
const BACKLOG: i32 = 4096;

/// One address with a socket for each core. With port 0 all cores share the port the kernel gave.
#[derive(Debug)]
pub struct Bound {
    /// The address as the settings have it.
    pub wanted: SocketAddr,
    /// The address as bound.
    pub address: SocketAddr,
    /// One listening socket a core; one that was passed to the process is shared by several.
    pub sockets: Vec<TcpListener>,
}

/// Binds an address for `cores` cores.
///
/// # Errors
/// Says which address, and what holds it: a port in use is refused even if its holder would share it,
/// because a second Optgate that silently takes half of the connections is the worse surprise.
pub fn bind(wanted: SocketAddr, cores: usize) -> anyhow::Result<Bound> {
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
    Ok(Bound { wanted, address, sockets })
}

/// Binds one socket without sharing; for the admin listener.
///
/// # Errors
/// As [`bind`].
pub fn bind_one(wanted: SocketAddr) -> anyhow::Result<Bound> {
    let address = without_ipv6(wanted);
    let socket = socket(address, false).map_err(|error| explain(address, &error))?;
    socket.listen(BACKLOG).map_err(|error| explain(address, &error))?;
    let socket = TcpListener::from(socket);
    let address = socket.local_addr().context("a bound socket has no address")?;
    Ok(Bound { wanted, address, sockets: vec![socket] })
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
    // Inherited by every accepted connection: saves a system call each.
    socket.set_tcp_nodelay(true)?;
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
        let bound = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        assert_ne!(bound.address.port(), 0);
        let ports: Vec<_> = bound.sockets.iter().map(|s| s.local_addr().unwrap().port()).collect();
        assert_eq!(ports, vec![bound.address.port(); 3]);
    }

    /// `SO_REUSEPORT` alone would let a second process share the port without a word.
    #[test]
    fn a_port_that_is_shared_by_another_is_still_refused_and_named() {
        let held = bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let error = bind(held.address, 1).unwrap_err().to_string();
        assert!(error.contains(&held.address.to_string()) && error.contains("another process"), "{error}");
    }
}
