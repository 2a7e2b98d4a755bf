//! What an old and a new process say to each other over an upgrade: one message a packet, descriptors beside.
//!
//! ```text
//! old                                   new (its standard input is the channel)
//!  | listener, with its descriptor  --->  |   one packet each
//!  | no-more-listeners              --->  |   reads settings, registry, lists, certificates
//!  | (and what is known of origins)       |
//!  |  <-----------------------  checked   |
//!  | closes the journal                   |
//!  | journal-is-free                --->  |   opens it, starts to accept
//!  |  <-----------------------  serving   |
//!  | ceases to accept, finishes           |
//!  | change                         --->  |   what its last requests have to record
//!  |  <----------------------- recorded   |
//! ```
//!
//! Whoever ends or falls silent before `serving` leaves the old process as it was.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Deserialize, Serialize};

use super::origins::{Known, KnownNames, KnownOrigin};
use crate::edge::downstream::listener;
use crate::privacy::{Basis, Subject};
use crate::store::{Change, Kind, Receipt, Source};

/// Tells a process that its standard input is a channel to the one before it.
pub const VARIABLE: &str = "OPTGATE_HANDOVER";

/// Largest packet, bytes; the longest holds a change with its site and policy.
const PACKET: usize = 64 * 1024;

/// Bytes of a packet that what is known of origins may take; what is more is found out as at any start.
const ORIGINS: usize = PACKET - 1024;

/// How long the other side may take for its next word: reading large lists, or a journal of millions.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a listening socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// `listen`.
    Plain,
    /// `tls.listen`.
    Tls,
    /// `admin.listen`.
    Admin,
    /// The socket in the data folder.
    #[serde(rename = "books")]
    Orders,
}

/// A listening socket and the setting it was opened for.
#[derive(Debug)]
pub struct Listener {
    /// What for.
    pub role: Role,
    /// The address or path as the settings have it.
    pub wanted: String,
    /// It is a Unix socket whose file goes with the last process.
    pub owned: bool,
    /// The socket.
    pub socket: listener::Listener,
}

/// One packet.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub enum Message {
    /// With one descriptor.
    Listener {
        /// What for.
        role: Role,
        /// The address or path as the settings have it.
        wanted: String,
        /// It is a Unix socket whose file goes with the last process.
        #[serde(default)]
        owned: bool,
    },
    /// All listeners were sent.
    NoMoreListeners {
        /// What the names of origins lead to, so that a name server that fails takes none away; an earlier version did
        /// not say.
        #[serde(default)]
        names: KnownNames,
        /// How they are: so does an upgrade not bring those back that were left out. An earlier version did not say.
        #[serde(default)]
        origins: Vec<KnownOrigin>,
    },
    /// The new process could serve by its settings.
    Checked,
    /// The journal is closed and unlocked.
    JournalIsFree,
    /// The new process accepts.
    Serving,
    /// To be recorded.
    Change(WireChange),
    /// It is durable.
    Recorded {
        /// As [`Receipt`].
        reference: String,
        /// As [`Receipt`].
        seq: i64,
        /// As [`Receipt`].
        time_us: i64,
    },
    /// It is not.
    NotRecorded {
        /// Why.
        why: String,
    },
}

impl Message {
    /// All listeners were sent, and this is known of origins; as much of it as a packet holds.
    #[must_use]
    pub fn no_more_listeners(known: Known) -> Self {
        let Known { mut names, mut origins } = known;
        // Never more than it is in JSON: an address in quotes, a name in quotes with its brackets.
        let size = |host: &str, addresses: &[IpAddr]| host.len() + 6 + addresses.len() * 42;
        let (mut left, mut of_health) = (ORIGINS, ORIGINS / 2);
        origins.retain(|origin| {
            let size = serde_json::to_vec(origin).map_or(usize::MAX, |text| text.len() + 1);
            takes(&mut of_health, size) && takes(&mut left, size)
        });
        names.retain(|host, addresses| takes(&mut left, size(host, addresses)));
        Self::NoMoreListeners { names, origins }
    }
}

/// Takes so many of what is left, if there are as many.
const fn takes(left: &mut usize, size: usize) -> bool {
    let fits = size <= *left;
    if fits {
        *left -= size;
    }
    fits
}

/// A [`Change`] in words.
#[derive(Debug, Serialize, Deserialize)]
pub struct WireChange {
    time_us: i64,
    site: String,
    kind: String,
    source: String,
    basis: Option<String>,
    policy: String,
    subject: Option<[u8; 16]>,
    /// Of the secret that the subject is hashed under; an earlier version did not say.
    #[serde(default)]
    under: Option<String>,
}

impl WireChange {
    /// Of a change whose account is hashed under the secret of this check.
    #[must_use]
    pub fn of(change: &Change, check: &str) -> Self {
        Self {
            under: Some(check.to_owned()),
            time_us: change.time_us,
            site: change.site.clone(),
            kind: change.kind.as_str().to_owned(),
            source: change.source.as_str().to_owned(),
            basis: Some(change.basis()).filter(|word| !word.is_empty()).map(str::to_owned),
            policy: change.policy.clone(),
            subject: change.subject.map(|subject| *subject.as_bytes()),
        }
    }

    /// The change, for a store with this live secret; `None` when another version has words that this one does not know.
    #[must_use]
    pub fn change(self, live: &str) -> Option<Change> {
        let kind = Kind::read(&self.kind, self.basis.as_deref().unwrap_or_default())?;
        let change = Change {
            time_us: self.time_us,
            site: self.site,
            kind,
            source: Source::parse(&self.source)?,
            basis: match self.basis.filter(|_| kind.is_choice()) {
                None => None,
                Some(word) => Some(Basis::parse(&word)?),
            },
            policy: self.policy,
            subject: self.subject.map(Subject::from_bytes),
        };
        Some(change.hashed_under(self.under.as_deref().unwrap_or(live), live))
    }
}

impl From<Receipt> for Message {
    fn from(receipt: Receipt) -> Self {
        let Receipt { reference, seq, time_us } = receipt;
        Self::Recorded { reference, seq, time_us }
    }
}

/// One end of the channel.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl Channel {
    /// Both ends of a new channel; the second is for a child's standard input.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn pair() -> anyhow::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .context("no channel to a new process can be opened")?;
        Self::with_patience(ours).map(|ours| (ours, theirs))
    }

    /// The channel to the process before this one, if this one was started by an upgrade.
    ///
    /// # Errors
    /// When standard input is not what the environment says.
    pub fn to_predecessor() -> anyhow::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let input = std::io::stdin().as_fd().try_clone_to_owned().context("standard input is closed")?;
        Self::with_patience(input).map(Some)
    }

    fn with_patience(socket: OwnedFd) -> anyhow::Result<Self> {
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))
            .with_context(|| format!("{VARIABLE} is set, but standard input is no channel of an upgrade"))?;
        Ok(Self(socket))
    }

    /// From now on the other side may be silent for as long as it likes.
    ///
    /// # Errors
    /// When the channel is broken.
    pub fn wait_without_end(&self) -> anyhow::Result<()> {
        Ok(set_socket_timeout(&self.0, Timeout::Recv, None)?)
    }

    /// The same end once more.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub fn try_clone(&self) -> anyhow::Result<Self> {
        Ok(Self(self.0.try_clone()?))
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// When the other side has ended.
    pub fn say(&self, message: &Message) -> anyhow::Result<()> {
        self.send(message, &[])
    }

    /// Sends a listening socket; it stays open here, too.
    ///
    /// # Errors
    /// When the other side has ended.
    pub fn hand_over(&self, listener: &Listener) -> anyhow::Result<()> {
        let message =
            Message::Listener { role: listener.role, wanted: listener.wanted.clone(), owned: listener.owned };
        self.send(&message, &[listener.socket.as_fd()])
    }

    fn send(&self, message: &Message, descriptors: &[BorrowedFd<'_>]) -> anyhow::Result<()> {
        let text = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(descriptors)) {
            bail!("more than one descriptor in a packet");
        }
        sendmsg(&self.0, &[IoSlice::new(&text)], &mut beside, SendFlags::NOSIGNAL)
            .context("the other process has ended")?;
        Ok(())
    }

    /// Waits for the next packet; `None` when the other side has ended.
    ///
    /// # Errors
    /// It is silent for too long, or says what this version does not understand.
    pub fn hear(&self) -> anyhow::Result<Option<Message>> {
        Ok(self.receive()?.map(|(message, _)| message))
    }

    /// Waits for one certain packet.
    ///
    /// # Errors
    /// As [`Self::hear`], and when it is another or none.
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> anyhow::Result<()> {
        match self.hear()? {
            Some(message) if wanted(&message) => Ok(()),
            Some(message) => bail!("expected `{what}` of the other process, and it said {message:?}"),
            None => bail!("the other process has ended before `{what}`"),
        }
    }

    /// Takes over every listening socket, and what is known of origins.
    ///
    /// # Errors
    /// As [`Self::hear`].
    pub fn listeners(&self) -> anyhow::Result<(Vec<Listener>, Known)> {
        let mut all = Vec::new();
        loop {
            match self.receive()? {
                Some((Message::Listener { role, wanted, owned }, Some(socket))) => {
                    let socket = listener::Listener::of(socket).context("a socket was expected")?;
                    all.push(Listener { role, wanted, owned, socket });
                }
                Some((Message::NoMoreListeners { names, origins }, _)) => {
                    return Ok((all, Known { names, origins }));
                }
                Some((message, _)) => {
                    bail!("expected listeners of the other process, and it said {message:?}")
                }
                None => bail!("the other process has ended before it handed its listeners over"),
            }
        }
    }

    fn receive(&self) -> anyhow::Result<Option<(Message, Option<OwnedFd>)>> {
        let mut text = vec![0; PACKET];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let received = loop {
            let mut slices = [IoSliceMut::new(&mut text)];
            match recvmsg(&self.0, &mut slices, &mut beside, RecvFlags::CMSG_CLOEXEC) {
                Err(rustix::io::Errno::INTR) => {}
                received => break received.context("the other process says nothing")?,
            }
        };
        if received.bytes == 0 {
            return Ok(None);
        }
        let message = serde_json::from_slice(text.get(..received.bytes).unwrap_or_default())
            .context("the other process speaks another version")?;
        let mut descriptors = beside.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        Ok(Some((message, descriptors.next().and_then(|mut all| all.next()))))
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::edge::upstream::Told;

    fn pair() -> (Channel, Channel) {
        let (ours, theirs) = Channel::pair().unwrap();
        (ours, Channel(theirs))
    }

    /// The very socket arrives, so that nobody who is waiting in its queue is lost.
    #[test]
    fn a_listener_goes_over_with_its_queue() {
        let (old, new) = pair();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let waiting = std::net::TcpStream::connect(address).unwrap();
        let wanted = "127.0.0.1:0".to_owned();
        let socket = listener::Listener::Tcp(socket);
        old.hand_over(&Listener { role: Role::Tls, wanted: wanted.clone(), owned: false, socket }).unwrap();
        let names = KnownNames::from([("shop.internal".to_owned(), vec!["192.0.2.1".parse().unwrap()])]);
        let known = Known { names, origins: vec![ejected(1)] };
        old.say(&Message::no_more_listeners(known.clone())).unwrap();
        let (listeners, heard) = new.listeners().unwrap();
        assert_eq!(heard, known);
        let [got] = <[Listener; 1]>::try_from(listeners).unwrap();
        assert_eq!((got.role, got.wanted.as_str()), (Role::Tls, wanted.as_str()));
        let listener::Listener::Tcp(socket) = got.socket else { panic!("another kind") };
        let (_, peer) = socket.accept().unwrap();
        assert_eq!(peer, waiting.local_addr().unwrap());
    }

    fn ejected(number: usize) -> KnownOrigin {
        let told = Told { failures: 5, ejections: 2, ejected_for: Some(u64::MAX), ..Told::default() };
        let upstream = format!("http://host-{number:04}.internal:8080");
        KnownOrigin { site: "shop".to_owned(), upstream, told }
    }

    /// What is too much for a packet is left out, and an earlier version neither says nor reads any of it.
    #[test]
    fn what_is_known_of_origins_fits_its_packet_and_is_nothing_to_an_earlier_version() {
        let addresses: Vec<IpAddr> = (0..9).map(|at| IpAddr::from([0xffff_u16 - at; 8])).collect();
        let names =
            |count| (0..count).map(|at| (format!("host-{at:04}.internal"), addresses.clone())).collect();
        let (old, new) = pair();
        let origins = (0..2_000).map(ejected).collect();
        old.say(&Message::no_more_listeners(Known { names: names(2_000), origins })).unwrap();
        let (_, known) = new.listeners().unwrap();
        let (names, origins) = (known.names.len(), known.origins.len());
        assert!((50..2_000).contains(&names) && (100..2_000).contains(&origins), "{names} {origins}");
        let Ok(Message::NoMoreListeners { names, origins }) =
            serde_json::from_str("{\"say\":\"no-more-listeners\"}")
        else {
            panic!("another message")
        };
        assert!(names.is_empty() && origins.is_empty());
        #[derive(Deserialize)]
        #[serde(tag = "say", rename_all = "kebab-case")]
        enum Earlier {
            NoMoreListeners,
        }
        let said = serde_json::to_string(&Message::no_more_listeners(known)).unwrap();
        let Earlier::NoMoreListeners = serde_json::from_str(&said).unwrap();
    }

    #[test]
    fn a_change_arrives_as_it_was_sent() {
        let change = Change {
            time_us: 7,
            site: "shop".into(),
            kind: Kind::OptOut,
            source: Source::Form,
            basis: Some(Basis::Cookie),
            policy: "p".into(),
            subject: Some(Subject::from_bytes([9; 16])),
        };
        let (old, new) = pair();
        old.say(&Message::Change(WireChange::of(&change, "a"))).unwrap();
        let Some(Message::Change(wire)) = new.hear().unwrap() else { panic!("another message") };
        assert_eq!(format!("{:?}", wire.change("a").unwrap()), format!("{change:?}"));
        // The new process began after a rotation.
        let other = WireChange::of(&change, "a").change("b").unwrap();
        assert_eq!(other.policy, change.policy.clone() + ", hashed under secret a");
        drop(old);
        assert!(new.hear().unwrap().is_none(), "the end is no error");
    }

    #[test]
    fn another_word_than_the_expected_one_is_an_error_that_names_both() {
        let (old, new) = pair();
        new.say(&Message::Serving).unwrap();
        let error = old.wait_for("checked", |m| matches!(m, Message::Checked)).unwrap_err().to_string();
        assert!(error.contains("checked") && error.contains("Serving"), "{error}");
        drop(new);
        let error = old.wait_for("checked", |m| matches!(m, Message::Checked)).unwrap_err().to_string();
        assert!(error.contains("ended"), "{error}");
    }
}
