//! Hands one mail in at a server (RFC 5321, 6409): its own connection for each, in TLS before anything is said of anybody.
//!
//! It is ours because `lettre` (0.11.23) keeps what came in clear behind the answer to STARTTLS and reads it as answers in
//! TLS, so that whoever is on the way can forge the receipt.

use std::net::SocketAddr;

use anyhow::{Context as _, ensure};
use data_encoding::BASE64;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::outward;
use crate::config::{Mail, MailTls};
use crate::edge::downstream::tls;

/// Longest line of a reply that is read; 512 bytes are what a server may send (RFC 5321, 4.5.3.1.5).
const MOST_LINE: u64 = 2_048;
/// Most lines of one reply.
const MOST_LINES: usize = 128;

/// Why a mail was not taken.
pub(super) enum NotTaken {
    /// The server cannot be used now, or takes nothing from us.
    Server(String),
    /// It does not take this mail now.
    This(String),
    /// It says that there is no such mailbox, or that this one takes nothing.
    Mailbox(String),
}

impl From<anyhow::Error> for NotTaken {
    fn from(error: anyhow::Error) -> Self {
        Self::Server(format!("{error:#}"))
    }
}

impl From<std::io::Error> for NotTaken {
    fn from(error: std::io::Error) -> Self {
        Self::Server(error.to_string())
    }
}

/// Hands a mail in for one address; what the server said when it took it. The mail is ASCII, in lines that end in CRLF.
///
/// # Errors
/// It was not taken. A server that falls silent may have taken it all the same.
pub(super) async fn hand_in(mail: &Mail, to: &str, letter: &[u8]) -> Result<String, NotTaken> {
    if !to.is_ascii() {
        return Err(NotTaken::Mailbox("the address is not ASCII, and cannot be written to from here".into()));
    }
    let tcp = outward::dial(&mail.host, mail.port).await.context("the mail server cannot be reached")?;
    let me = literal(&tcp.local_addr()?);
    match mail.tls {
        MailTls::None => Session::greeted(tcp, &me).await?.submit(mail, to, letter).await,
        MailTls::Implicit => {
            Session::greeted(in_tls(mail, tcp).await?, &me).await?.submit(mail, to, letter).await
        }
        MailTls::Starttls => {
            let mut clear = Session::greeted(tcp, &me).await?;
            let begun = clear.must("STARTTLS", "220").await?;
            // What came before the handshake could be anybody's: none of it may count after.
            if !clear.io.buffer().is_empty() {
                return Err(NotTaken::Server(format!(
                    "the mail server went on in clear after {}",
                    begun.said()
                )));
            }
            let mut session = Session::over(in_tls(mail, clear.io.into_inner()).await?);
            session.hello(&me).await?;
            session.submit(mail, to, letter).await
        }
    }
}

async fn in_tls(mail: &Mail, tcp: TcpStream) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut config = tls::client_config(mail.roots.as_deref(), false)?;
    config.alpn_protocols.clear();
    outward::in_tls(&mail.host, config, tcp).await.context("the mail server cannot be verified")
}

/// How a client without a name of its own introduces itself (RFC 5321, 4.1.3).
fn literal(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V4(address) => format!("[{}]", address.ip()),
        SocketAddr::V6(address) => format!("[IPv6:{}]", address.ip()),
    }
}

/// A reply: its code, and its text on one line.
struct Reply {
    code: String,
    text: String,
    lines: Vec<String>,
}

impl Reply {
    /// As it is kept and shown.
    fn said(&self) -> String {
        format!("SMTP {}: {}", self.code, self.text)
    }

    fn is_for_good(&self) -> bool {
        self.code.starts_with('5')
    }
}

/// A connection, and what the server offers on it.
struct Session<S> {
    io: BufReader<S>,
    /// Ways to log in, in capitals.
    logins: Vec<String>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    fn over(io: S) -> Self {
        Self { io: BufReader::new(io), logins: Vec::new() }
    }

    /// A connection on which both have said hello.
    async fn greeted(io: S, me: &str) -> anyhow::Result<Self> {
        let mut session = Self::over(io);
        let greeting = session.reply().await?;
        ensure!(greeting.code == "220", "the mail server does not serve: {}", greeting.said());
        session.hello(me).await?;
        Ok(session)
    }

    async fn hello(&mut self, me: &str) -> anyhow::Result<()> {
        let hello = self.must(&format!("EHLO {me}"), "250").await?;
        let offered = hello.lines.iter().map(|line| line.to_ascii_uppercase());
        let logins = offered.filter_map(|line| Some(line.strip_prefix("AUTH ")?.to_owned()));
        self.logins =
            logins.flat_map(|ways| ways.split(' ').map(str::to_owned).collect::<Vec<_>>()).collect();
        Ok(())
    }

    async fn submit(mut self, mail: &Mail, to: &str, letter: &[u8]) -> Result<String, NotTaken> {
        if let Some(file) = &mail.credentials {
            let text = tokio::fs::read_to_string(file).await;
            let text = text.with_context(|| format!("{} cannot be read", file.display()))?;
            self.log_in(&text).await?;
        }
        self.must(&format!("MAIL FROM:<{}>", mail.from), "250").await?;
        let taken = self.say(&format!("RCPT TO:<{to}>")).await?;
        if !taken.code.starts_with("25") {
            let refusal = if taken.is_for_good() { NotTaken::Mailbox } else { NotTaken::This };
            return Err(refusal(taken.said()));
        }
        let begun = self.say("DATA").await?;
        if begun.code != "354" {
            return Err(NotTaken::This(begun.said()));
        }
        self.io.write_all(&stuffed(letter)).await?;
        let taken = self.say(".").await?;
        if taken.code != "250" {
            return Err(NotTaken::This(taken.said()));
        }
        // It has the mail, whatever becomes of the farewell.
        let _ = self.io.write_all(b"QUIT\r\n").await;
        let _ = self.io.shutdown().await;
        Ok(taken.said())
    }

    async fn log_in(&mut self, credentials: &str) -> anyhow::Result<()> {
        let mut lines = credentials.lines();
        let (Some(user), Some(password)) = (lines.next(), lines.next()) else {
            anyhow::bail!("the file of `mail.credentials` is not two lines, a user and a password");
        };
        let offers = |way: &str| self.logins.iter().any(|offered| offered == way);
        let done = if offers("PLAIN") {
            let both = ["\0", user, "\0", password].concat();
            self.say(&format!("AUTH PLAIN {}", BASE64.encode(both.as_bytes()))).await?
        } else if offers("LOGIN") {
            self.must("AUTH LOGIN", "334").await?;
            let known = self.say(&BASE64.encode(user.as_bytes())).await?;
            if known.code == "334" { self.say(&BASE64.encode(password.as_bytes())).await? } else { known }
        } else {
            anyhow::bail!(
                "the mail server takes no password by PLAIN or LOGIN, which `mail.credentials` needs"
            );
        };
        ensure!(done.code == "235", "the mail server refuses `mail.credentials`: {}", done.said());
        Ok(())
    }

    /// Says something that has one good answer.
    async fn must(&mut self, line: &str, code: &str) -> anyhow::Result<Reply> {
        let reply = self.say(line).await?;
        let verb = line.split([' ', ':']).next().unwrap_or_default();
        ensure!(reply.code == code, "the mail server answered {verb} with {}", reply.said());
        Ok(reply)
    }

    async fn say(&mut self, line: &str) -> anyhow::Result<Reply> {
        self.io.write_all(format!("{line}\r\n").as_bytes()).await?;
        self.io.flush().await?;
        self.reply().await
    }

    async fn reply(&mut self) -> anyhow::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let mut line = Vec::new();
            (&mut self.io).take(MOST_LINE).read_until(b'\n', &mut line).await?;
            let whole = line.ends_with(b"\n") && line.len() > 3 && lines.len() < MOST_LINES;
            ensure!(whole, "the mail server does not speak SMTP, or broke off");
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let (code, rest) = line.split_at_checked(3).context("the mail server does not speak SMTP")?;
            ensure!(code.bytes().all(|b| b.is_ascii_digit()), "the mail server does not speak SMTP");
            lines.push(rest.get(1..).unwrap_or_default().to_owned());
            if !rest.starts_with('-') {
                return Ok(Reply { code: code.to_owned(), text: lines.join(" "), lines });
            }
        }
    }
}

/// A letter's lines, none of which ends it (RFC 5321, 4.5.2).
fn stuffed(letter: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(letter.len() + 8);
    let mut begins = true;
    for &byte in letter {
        if begins && byte == b'.' {
            out.push(b'.');
        }
        out.push(byte);
        begins = byte == b'\n';
    }
    if !begins {
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_of_a_letter_ends_it() {
        assert_eq!(stuffed(b".\r\n..a\r\nb."), b"..\r\n...a\r\nb.\r\n");
        assert_eq!(stuffed(b"a\r\n"), b"a\r\n");
    }
}
