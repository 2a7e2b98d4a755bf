//! Every listener of the settings, bound, and what others ask of them all.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;

use anyhow::Context as _;

use super::handover::{Listener, Role};
use super::order_socket;
use super::sockets::Sockets;
use crate::config::{Listen, ListenAt, Settings};
use crate::edge::downstream::listener::{self, Entrance};
use crate::edge::downstream::unix::SocketFile;

/// The listeners, by what they are for.
#[derive(Debug)]
pub struct Bound {
    /// In clear.
    pub plain: Vec<Entrance>,
    /// With TLS.
    pub tls: Vec<Entrance>,
    /// For commands about the data folder; none where its socket cannot be had.
    pub orders: Option<Entrance>,
    admin: Entrance,
}

/// Where it listens.
#[derive(Debug)]
pub struct Addresses {
    /// In clear, in settings order.
    pub plain: Vec<SocketAddr>,
    /// With TLS, in settings order.
    pub tls: Vec<SocketAddr>,
    /// Admin.
    pub admin: SocketAddr,
    /// Files of Unix sockets, in settings order.
    pub unix: Vec<PathBuf>,
    /// Files of Unix sockets that the process before this one put there.
    pub inherited: Vec<PathBuf>,
}

impl Bound {
    /// Binds what is not open yet.
    ///
    /// # Errors
    /// As [`Sockets::take`].
    pub fn bind(mut sockets: Sockets, settings: &Settings) -> anyhow::Result<Self> {
        let mut all = |role, listen: &[Listen]| {
            let one = |listen| sockets.take(role, listen, settings.workers);
            listen.iter().map(one).collect::<anyhow::Result<Vec<_>>>()
        };
        let (plain, tls) = (all(Role::Plain, &settings.listen)?, all(Role::Tls, &settings.tls.listen)?);
        let admin = sockets.take(Role::Admin, &Listen::from(settings.admin), 1)?;
        Ok(Self { plain, tls, admin, orders: order_socket::bind(&mut sockets, settings) })
    }

    /// Every socket once more, to be handed over.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn copies(&self) -> std::io::Result<Vec<Listener>> {
        let plain = self.plain.iter().map(|entrance| (Role::Plain, entrance));
        let tls = self.tls.iter().map(|entrance| (Role::Tls, entrance));
        let orders = self.orders.iter().map(|entrance| (Role::Orders, entrance));
        let all = plain.chain(tls).chain([(Role::Admin, &self.admin)]).chain(orders);
        let mut copies = Vec::new();
        for (role, entrance) in all {
            let (wanted, owned) =
                (entrance.wanted.to_string(), entrance.file.is_some() || entrance.inherits_file);
            for socket in &entrance.sockets {
                copies.push(Listener { role, wanted: wanted.clone(), owned, socket: socket.try_clone()? });
            }
        }
        Ok(copies)
    }

    /// The files of Unix sockets that this process put there; from now on somebody else sees to them.
    pub fn take_files(&mut self) -> Vec<SocketFile> {
        let all = self.plain.iter_mut().chain(&mut self.tls).chain(&mut self.orders);
        all.filter_map(|entrance| entrance.file.take()).collect()
    }

    /// Where all of them are.
    ///
    /// # Errors
    /// The admin listener has no address: it is a Unix socket that was passed.
    pub fn addresses(&self) -> anyhow::Result<Addresses> {
        let of = |all: &[Entrance]| all.iter().filter_map(Entrance::address).collect();
        let visitors = || self.plain.iter().chain(&self.tls);
        let inherited = visitors().chain(&self.orders).filter(|entrance| entrance.inherits_file);
        Ok(Addresses {
            plain: of(&self.plain),
            tls: of(&self.tls),
            admin: self.admin.address().context("the admin listener has no address")?,
            unix: visitors().filter_map(path).collect(),
            inherited: inherited.filter_map(path).collect(),
        })
    }

    /// The admin listener's socket.
    ///
    /// # Errors
    /// It is a Unix socket that was passed, or there is none.
    pub fn take_admin(&mut self) -> anyhow::Result<TcpListener> {
        match self.admin.sockets.pop() {
            Some(listener::Listener::Tcp(socket)) => Ok(socket),
            _ => anyhow::bail!("the admin listener has no TCP socket"),
        }
    }
}

fn path(entrance: &Entrance) -> Option<PathBuf> {
    match &entrance.wanted {
        ListenAt::Unix { path, .. } => Some(path.clone()),
        ListenAt::Tcp(_) => None,
    }
}
