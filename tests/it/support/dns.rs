//! A name server on loopback that knows CNAMEs and addresses: UDP, one question a packet (RFC 1035, 4.1).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::thread;

/// What a name is answered with.
#[derive(Debug, Clone)]
enum Answer {
    /// One CNAME.
    Cname(String),
    /// Addresses of both families, none of them to be kept.
    Addresses(Vec<IpAddr>),
    /// SERVFAIL.
    Failure,
    /// None at all.
    Silence,
}

/// The running server; its thread ends with the test process.
pub struct Dns {
    addr: SocketAddr,
    records: Arc<Mutex<HashMap<String, Answer>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Dns {
    /// Knows nobody: every name exists and has no CNAME.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let addr = socket.local_addr().unwrap();
        let records: Arc<Mutex<HashMap<String, Answer>>> = Arc::default();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let (known, log) = (Arc::clone(&records), Arc::clone(&asked));
        thread::spawn(move || {
            let mut packet = [0; 1500];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                let Some((name, question)) = question(&packet[..length]) else { continue };
                let answer = known.lock().unwrap().get(&name).cloned();
                log.lock().unwrap().push(name);
                if matches!(answer, Some(Answer::Silence)) {
                    continue;
                }
                let _ = socket.send_to(&reply(&packet[..2], question, answer.as_ref()), from);
            }
        });
        Self { addr, records, asked }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A name leads to another.
    pub fn cname(&self, name: &str, target: &str) {
        self.records.lock().unwrap().insert(name.to_owned(), Answer::Cname(target.to_owned()));
    }

    /// A name leads to these addresses.
    pub fn addresses(&self, name: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|ip| ip.parse().unwrap()).collect();
        self.records.lock().unwrap().insert(name.to_owned(), Answer::Addresses(addresses));
    }

    /// A name is answered with a failure from now on.
    pub fn fails(&self, name: &str) {
        self.records.lock().unwrap().insert(name.to_owned(), Answer::Failure);
    }

    /// A question about a name gets no answer from now on.
    pub fn is_silent(&self, name: &str) {
        self.records.lock().unwrap().insert(name.to_owned(), Answer::Silence);
    }

    /// Every name asked for, in order.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The name asked for, lower case, and the bytes of the question.
fn question(packet: &[u8]) -> Option<(String, &[u8])> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*packet.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(packet.get(at..at + length)?).to_ascii_lowercase());
        at += length;
    }
    Some((labels.join("."), packet.get(12..at + 4)?))
}

fn reply(id: &[u8], question: &[u8], answer: Option<&Answer>) -> Vec<u8> {
    let kind = question.len().checked_sub(3).map_or(0, |at| question[at]);
    let fitting = |ip: &&IpAddr| matches!((kind, ip), (1, IpAddr::V4(_)) | (28, IpAddr::V6(_)));
    let (code, count) = match answer {
        Some(Answer::Cname(_)) => (0, 1),
        Some(Answer::Addresses(list)) => (0, u8::try_from(list.iter().filter(fitting).count()).unwrap()),
        Some(Answer::Failure | Answer::Silence) => (2, 0),
        None => (0, 0),
    };
    let mut out = id.to_vec();
    // An answer, authoritative, recursion offered; one question.
    out.extend([0x85, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    out.extend(question);
    if let Some(Answer::Cname(target)) = answer {
        let mut name = Vec::new();
        for label in target.split('.') {
            name.push(u8::try_from(label.len()).unwrap());
            name.extend(label.as_bytes());
        }
        name.push(0);
        // The name asked for, by pointer; CNAME, IN, 60 seconds.
        out.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60]);
        out.extend(u16::try_from(name.len()).unwrap().to_be_bytes());
        out.extend(name);
    }
    if let Some(Answer::Addresses(list)) = answer {
        for ip in list.iter().filter(fitting) {
            // The name asked for, by pointer; its type, IN, no time to live.
            out.extend([0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 0]);
            let octets = match ip {
                IpAddr::V4(v4) => v4.octets().to_vec(),
                IpAddr::V6(v6) => v6.octets().to_vec(),
            };
            out.extend([0, u8::try_from(octets.len()).unwrap()]);
            out.extend(octets);
        }
    }
    out
}
