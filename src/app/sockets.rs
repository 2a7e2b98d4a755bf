//! Where listening sockets come from: the process before this one, systemd, or opened here.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};

use super::handover::{Channel, Listener, Role};
use crate::config::Settings;
use crate::edge::listener::{self, Bound};

/// Sockets that were open before this process began.
#[derive(Debug, Default)]
pub struct Sockets(Vec<Listener>);

impl Sockets {
    /// Those that the process before hands over, else those that systemd passes (sd_listen_fds(3)).
    ///
    /// # Errors
    /// The other process says something else; systemd's socket fits no setting.
    pub fn inherited(predecessor: Option<&Channel>, settings: &Settings) -> anyhow::Result<Self> {
        match predecessor {
            Some(channel) => channel.listeners().map(Self),
            None => Self::of_systemd(settings),
        }
    }

    fn of_systemd(settings: &Settings) -> anyhow::Result<Self> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut all = Vec::new();
        for at in 0..passed.len() {
            let socket =
                passed.take_tcp_listener(at).context("systemd passed something that does not listen")?;
            let Some(socket) = socket else { continue };
            let address = socket.local_addr().context("a passed socket has no address")?;
            let role = role_of(address, settings);
            ensure!(
                role.is_some(),
                "systemd passed a socket on {address}, and no setting listens there: add it to `listen`, \
                 `tls.listen` or `admin.listen`, or take the ListenStream out of the socket unit"
            );
            socket.set_nonblocking(true).context("a passed socket cannot be used")?;
            all.extend(role.map(|role| Listener { role, wanted: address, socket }));
        }
        Ok(Self(all))
    }

    /// The sockets for one setting, at most as many as there are cores when they are opened here.
    ///
    /// # Errors
    /// As [`listener::bind`].
    pub fn take(&mut self, role: Role, wanted: SocketAddr, cores: usize) -> anyhow::Result<Bound> {
        let mut sockets = Vec::new();
        let mut rest = Vec::new();
        for one in std::mem::take(&mut self.0) {
            // With port 0 two settings are alike, and so are their sockets' groups but not their ports.
            let same_port =
                |socket: &std::net::TcpListener| sockets.first().is_none_or(|first| same(first, socket));
            match one.role == role && one.wanted == wanted && same_port(&one.socket) {
                true => sockets.push(one.socket),
                false => rest.push(one),
            }
        }
        self.0 = rest;
        match sockets.first() {
            Some(first) => {
                let address = first.local_addr().context("a passed socket has no address")?;
                Ok(Bound { wanted, address, sockets })
            }
            None if role == Role::Admin => listener::bind_one(wanted),
            None => listener::bind(wanted, cores),
        }
    }
}

fn same(a: &std::net::TcpListener, b: &std::net::TcpListener) -> bool {
    a.local_addr().ok() == b.local_addr().ok()
}

fn role_of(address: SocketAddr, settings: &Settings) -> Option<Role> {
    if settings.listen.contains(&address) {
        Some(Role::Plain)
    } else if settings.tls.listen.contains(&address) {
        Some(Role::Tls)
    } else {
        (settings.admin == address).then_some(Role::Admin)
    }
}
