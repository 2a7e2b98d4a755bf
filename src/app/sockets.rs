//! Where listening sockets come from: the process before this one, systemd, or opened here.

use anyhow::Context as _;

use super::handover::{Channel, Listener, Role};
use super::origins::Known;
use crate::config::{Listen, ListenAt, Settings};
use crate::edge::downstream::listener::{self, Entrance};

/// Sockets that were open before this process began.
#[derive(Debug, Default)]
pub struct Sockets(Vec<Listener>);

impl Sockets {
    /// Those that the process before hands over, with what it knows of origins; else those that systemd passes
    /// (sd_listen_fds(3)).
    ///
    /// # Errors
    /// The other process says something else; systemd's socket fits no setting.
    pub fn inherited(predecessor: Option<&Channel>, settings: &Settings) -> anyhow::Result<(Self, Known)> {
        match predecessor {
            Some(channel) => channel.listeners().map(|(listeners, known)| (Self(listeners), known)),
            None => Ok((Self::of_systemd(settings)?, Known::default())),
        }
    }

    fn of_systemd(settings: &Settings) -> anyhow::Result<Self> {
        let mut passed = listenfd::ListenFd::from_env();
        let mut all = Vec::new();
        for at in 0..passed.len() {
            let Some((wanted, socket)) = listening(&mut passed, at)? else { continue };
            let role = role_of(&wanted, settings).with_context(|| {
                format!(
                    "systemd passed a socket on {wanted}, and no setting listens there: add it to `listen`, \
                     `tls.listen` or `admin.listen`, or take the ListenStream out of the socket unit"
                )
            })?;
            // A file of systemd's stays systemd's.
            all.push(Listener { role, wanted, owned: false, socket });
        }
        Ok(Self(all))
    }

    /// The sockets for one setting, at most as many as there are cores when they are opened here.
    ///
    /// # Errors
    /// As [`listener::open_entrance`].
    pub fn take(&mut self, role: Role, listen: &Listen, cores: usize) -> anyhow::Result<Entrance> {
        let wanted = listen.to_string();
        let mut sockets: Vec<listener::Listener> = Vec::new();
        let mut rest = Vec::new();
        let mut inherits_file = false;
        for one in std::mem::take(&mut self.0) {
            // With port 0 two settings are alike, and so are their sockets' groups but not their ports.
            let same_port = |socket: &listener::Listener| {
                sockets.first().is_none_or(|first| first.address() == socket.address())
            };
            match one.role == role && one.wanted == wanted && same_port(&one.socket) {
                true => {
                    inherits_file |= one.owned;
                    sockets.push(one.socket);
                }
                false => rest.push(one),
            }
        }
        self.0 = rest;
        if !sockets.is_empty() {
            let (wanted, proxy_protocol) = (listen.at.clone(), listen.proxy_protocol);
            return Ok(Entrance { wanted, proxy_protocol, file: None, inherits_file, sockets });
        }
        match &listen.at {
            ListenAt::Tcp(address) if role == Role::Admin => listener::open_one(*address),
            _ => listener::open_entrance(listen, cores),
        }
    }
}

/// The socket at a position, behind what it listens on as a setting names it; `None` when it was taken already.
fn listening(
    passed: &mut listenfd::ListenFd,
    at: usize,
) -> anyhow::Result<Option<(String, listener::Listener)>> {
    let unusable = "a passed socket cannot be used";
    if let Ok(socket) = passed.take_tcp_listener(at) {
        let Some(socket) = socket else { return Ok(None) };
        let wanted = socket.local_addr().context("a passed socket has no address")?.to_string();
        socket.set_nonblocking(true).context(unusable)?;
        return Ok(Some((wanted, listener::Listener::Tcp(socket))));
    }
    let socket = passed.take_unix_listener(at).context("systemd passed something that does not listen")?;
    let Some(socket) = socket else { return Ok(None) };
    let address = socket.local_addr().context("a passed socket has no address")?;
    let path = address.as_pathname().context("a passed Unix socket has no path")?;
    let wanted = format!("unix:{}", path.display());
    socket.set_nonblocking(true).context(unusable)?;
    Ok(Some((wanted, listener::Listener::Unix(socket))))
}

fn role_of(wanted: &str, settings: &Settings) -> Option<Role> {
    let among = |list: &[Listen]| list.iter().any(|listen| listen.to_string() == wanted);
    if among(&settings.listen) {
        Some(Role::Plain)
    } else if among(&settings.tls.listen) {
        Some(Role::Tls)
    } else {
        (settings.admin.to_string() == wanted).then_some(Role::Admin)
    }
}
