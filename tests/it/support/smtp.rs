//! A mail server on loopback that keeps what it is handed (RFC 5321), for a test that hands mails in.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A mail that was taken.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    pub from: String,
    pub to: String,
    /// Its lines as they were sent, without the one that ends it.
    pub letter: String,
    /// What was sent to log in, as it came.
    pub login: Option<String>,
    /// The connection was in TLS.
    pub tls: bool,
}

/// What it says and how.
#[derive(Clone, Default)]
struct Manners {
    /// Offered after STARTTLS, or from the first byte on.
    starttls: Option<Arc<ServerConfig>>,
    implicit: Option<Arc<ServerConfig>>,
    /// Answers to the first recipients, in turn; whoever comes after is taken.
    refusals: Arc<Mutex<Vec<&'static str>>>,
    /// Said in clear behind the answer to STARTTLS, in the same packet.
    injected: &'static str,
    /// How to log in, which is asked for.
    logins: &'static str,
}

/// The server; it lives as long as the process.
pub struct MailServer {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<Taken>>>,
    /// Every command as it came, in clear or not.
    heard: Arc<Mutex<Vec<String>>>,
}

/// How to start one.
#[derive(Default)]
pub struct MailServerBuilder(Manners);

impl MailServer {
    pub fn with() -> MailServerBuilder {
        MailServerBuilder::default()
    }

    /// As `mail.server` has it.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn taken(&self) -> Vec<Taken> {
        self.taken.lock().unwrap().clone()
    }

    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap().clone()
    }
}

impl MailServerBuilder {
    pub fn starttls(mut self, config: Arc<ServerConfig>) -> Self {
        self.0.starttls = Some(config);
        self
    }

    pub fn implicit(mut self, config: Arc<ServerConfig>) -> Self {
        self.0.implicit = Some(config);
        self
    }

    pub fn refusals(mut self, refusals: &[&'static str]) -> Self {
        self.0.refusals = Arc::new(Mutex::new(refusals.iter().rev().copied().collect()));
        self
    }

    pub fn injected(mut self, text: &'static str) -> Self {
        self.0.injected = text;
        self
    }

    pub fn logins(mut self, ways: &'static str) -> Self {
        self.0.logins = ways;
        self
    }

    pub fn start(self) -> MailServer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = MailServer {
            address: listener.local_addr().unwrap(),
            taken: Arc::default(),
            heard: Arc::default(),
        };
        let (taken, heard) = (Arc::clone(&server.taken), Arc::clone(&server.heard));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (manners, taken, heard) = (self.0.clone(), Arc::clone(&taken), Arc::clone(&heard));
                // Whoever breaks off has its reasons.
                thread::spawn(move || drop(serve(stream, &manners, (&taken, &heard))));
            }
        });
        server
    }
}

type Kept<'a> = (&'a Mutex<Vec<Taken>>, &'a Mutex<Vec<String>>);

fn serve(stream: TcpStream, manners: &Manners, kept: Kept<'_>) -> io::Result<()> {
    let in_tls = |config: &Arc<ServerConfig>, stream| {
        let tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
        Ok::<_, io::Error>(StreamOwned::new(tls, stream))
    };
    if let Some(config) = &manners.implicit {
        return talk(BufReader::new(in_tls(config, stream)?), manners, (kept, true, true)).map(drop);
    }
    let Some(clear) = talk(BufReader::new(stream), manners, (kept, false, true))? else { return Ok(()) };
    match &manners.starttls {
        Some(config) => talk(BufReader::new(in_tls(config, clear)?), manners, (kept, true, false)).map(drop),
        None => Ok(()),
    }
}

/// Answers until the end, or until TLS is to begin.
fn talk<S: Read + Write>(
    mut wire: BufReader<S>,
    manners: &Manners,
    ((taken, heard), tls, greets): (Kept<'_>, bool, bool),
) -> io::Result<Option<S>> {
    let mut mail = Taken { tls, ..Taken::default() };
    if greets {
        wire.get_mut().write_all(b"220-mail.example\r\n220 ready\r\n")?;
    }
    loop {
        let mut line = String::new();
        if wire.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_owned();
        heard.lock().unwrap().push(line.clone());
        let answer = match line.split([' ', ':']).next().unwrap_or_default() {
            "EHLO" => {
                let starttls = if manners.starttls.is_some() && !tls { "250-STARTTLS\r\n" } else { "" };
                let logins = if manners.logins.is_empty() {
                    String::new()
                } else {
                    format!("250-AUTH {}\r\n", manners.logins)
                };
                format!("250-mail.example\r\n{starttls}{logins}250 8BITMIME")
            }
            "STARTTLS" if manners.starttls.is_some() => {
                wire.get_mut().write_all(format!("220 go ahead\r\n{}", manners.injected).as_bytes())?;
                return Ok(Some(wire.into_inner()));
            }
            "AUTH" if line == "AUTH LOGIN" => {
                let mut told = Vec::new();
                for question in ["334 VXNlcm5hbWU6\r\n", "334 UGFzc3dvcmQ6\r\n"] {
                    wire.get_mut().write_all(question.as_bytes())?;
                    let mut word = String::new();
                    wire.read_line(&mut word)?;
                    told.push(word.trim_end().to_owned());
                }
                mail.login = Some(told.join(" "));
                "235 welcome".to_owned()
            }
            "AUTH" => {
                mail.login = line.strip_prefix("AUTH PLAIN ").map(str::to_owned);
                "235 welcome".to_owned()
            }
            "MAIL" if !manners.logins.is_empty() && mail.login.is_none() => "530 log in first".to_owned(),
            "MAIL" => {
                mail.from = line;
                "250 ok".to_owned()
            }
            "RCPT" => {
                mail.to = line;
                manners.refusals.lock().unwrap().pop().unwrap_or("250 ok").to_owned()
            }
            "DATA" => {
                wire.get_mut().write_all(b"354 go ahead\r\n")?;
                loop {
                    let mut line = String::new();
                    wire.read_line(&mut line)?;
                    if line == ".\r\n" {
                        break;
                    }
                    mail.letter += line.strip_prefix('.').unwrap_or(&line);
                }
                let mut all = taken.lock().unwrap();
                all.push(mail.clone());
                format!("250 2.0.0 Ok: queued as Q{}", all.len())
            }
            "QUIT" => "221 bye".to_owned(),
            _ => "502 what?".to_owned(),
        };
        wire.get_mut().write_all(format!("{answer}\r\n").as_bytes())?;
    }
}
