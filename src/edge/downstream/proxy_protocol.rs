//! The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt): who the client is, said by a balancer
//! at the head of a connection, before TLS.
//!
//! Read from trusted peers only, and never a byte further than the header: what follows belongs to TLS or HTTP.
//! Small enough to be our own: the crates for it read whole buffers, and the work here is the cuts.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crc::{CRC_32_ISCSI, Crc};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// How a version 2 header begins (section 2.2).
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Signature, version and command, family, length.
const V2_HEAD: usize = 16;
/// Kind, and length of the value, of what may stand behind the addresses (section 2.2.x).
const TLV_HEAD: usize = 3;
/// `PP2_TYPE_CRC32C`: the checksum of the whole header (section 2.2.4).
const TLV_CRC32C: u8 = 0x03;
/// Castagnoli's polynomial, as iSCSI has it (RFC 9260, appendix A).
const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
/// Longest version 1 line, CR LF included (section 2.1).
const V1_LONGEST: usize = 107;
/// Shortest version 1 line: `PROXY UNKNOWN` with its CR LF.
const V1_SHORTEST: usize = 15;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoken {
    /// A client's behind the peer.
    For(SocketAddr),
    /// The peer's own: its health check, or it does not know.
    Itself,
}

/// Why a header cannot be used: a label of the counter.
pub type Fault = &'static str;

const MALFORMED: Fault = "malformed";
const TOO_LONG: Fault = "too-long";
const CLOSED: Fault = "closed";
const CHECKSUM: Fault = "checksum";

/// Reads a header and nothing behind it.
///
/// # Errors
/// No header, one that is not well-formed, or a connection that ends within it.
pub async fn read<S: AsyncRead + Unpin>(io: &mut S) -> Result<Spoken, Fault> {
    let mut header = Vec::with_capacity(V1_LONGEST);
    loop {
        match want(&header)? {
            0 => return parse(&header),
            more => {
                let start = header.len();
                header.resize(start + more, 0);
                let read = io.read(header.get_mut(start..).unwrap_or_default()).await;
                let count = read.map_err(|_: io::Error| CLOSED)?;
                if count == 0 {
                    return Err(CLOSED);
                }
                header.truncate(start + count);
            }
        }
    }
}

/// How many bytes can be read on without going past the header; 0: it is whole.
fn want(header: &[u8]) -> Result<usize, Fault> {
    let have = header.len();
    if have < V2_SIGNATURE.len() {
        let begins = |whole: &[u8]| whole.get(..have.min(whole.len())) == header.get(..have.min(whole.len()));
        return match begins(V2_SIGNATURE) || begins(b"PROXY ") {
            // Both are at least this long.
            true => Ok(V2_SIGNATURE.len() - have),
            false => Err(MALFORMED),
        };
    }
    if header.starts_with(V2_SIGNATURE) {
        if have < V2_HEAD {
            return Ok(V2_HEAD - have);
        }
        // At most 64 KiB of TLVs, from whom we trust: a certificate's fields are some of it.
        let whole = V2_HEAD + usize::from(u16::from_be_bytes([header[14], header[15]]));
        return Ok(whole.saturating_sub(have));
    }
    if !header.starts_with(b"PROXY ") {
        return Err(MALFORMED);
    }
    match header.ends_with(b"\r\n") {
        true => Ok(0),
        false if have >= V1_LONGEST => Err(TOO_LONG),
        // The line end may be the next two bytes: no further.
        false => Ok(V1_SHORTEST.saturating_sub(have).max(if header.ends_with(b"\r") { 1 } else { 2 })),
    }
}

/// Reads a whole header.
fn parse(header: &[u8]) -> Result<Spoken, Fault> {
    if header.starts_with(V2_SIGNATURE) { parse_v2(header) } else { parse_v1(header) }
}

/// Section 2.1: `PROXY TCP4 source destination port port`.
fn parse_v1(header: &[u8]) -> Result<Spoken, Fault> {
    let line =
        header.strip_suffix(b"\r\n").and_then(|line| std::str::from_utf8(line).ok()).ok_or(MALFORMED)?;
    let mut words = line.split(' ');
    let (_, family) = (words.next(), words.next());
    if family == Some("UNKNOWN") {
        // Whatever stands behind it is to be ignored.
        return Ok(Spoken::Itself);
    }
    let mut ip = || -> Result<IpAddr, Fault> {
        let word = words.next().ok_or(MALFORMED)?;
        match family {
            Some("TCP4") => word.parse::<Ipv4Addr>().map(IpAddr::V4).map_err(|_| MALFORMED),
            Some("TCP6") => word.parse::<Ipv6Addr>().map(IpAddr::V6).map_err(|_| MALFORMED),
            _ => Err(MALFORMED),
        }
    };
    let (source, _destination) = (ip()?, ip()?);
    let mut port = || -> Result<u16, Fault> {
        let word = words.next().ok_or(MALFORMED)?;
        let plain = word.bytes().all(|b| b.is_ascii_digit()) && (word == "0" || !word.starts_with('0'));
        word.parse().ok().filter(|_| plain).ok_or(MALFORMED)
    };
    let (source_port, _destination_port) = (port()?, port()?);
    if words.next().is_some() {
        return Err(MALFORMED);
    }
    Ok(Spoken::For(SocketAddr::new(source, source_port)))
}

/// Section 2.2. Of the TLVs behind the addresses only a checksum is read.
fn parse_v2(header: &[u8]) -> Result<Spoken, Fault> {
    let (Some([version_command, family]), Some(body)) =
        (header.get(12..14).and_then(|two| <[u8; 2]>::try_from(two).ok()), header.get(V2_HEAD..))
    else {
        return Err(MALFORMED);
    };
    match version_command {
        // LOCAL: the rest is to be ignored.
        0x20 => return Ok(Spoken::Itself),
        0x21 => {}
        _ => return Err(MALFORMED),
    }
    let port = |at: usize| {
        let two = body.get(at..at + 2).and_then(|two| <[u8; 2]>::try_from(two).ok());
        two.map(u16::from_be_bytes).ok_or(MALFORMED)
    };
    let (spoken, addresses) = match family {
        // A stream or datagrams: the same addresses, and behind the latter a balancer may have ended HTTP/3.
        0x11 | 0x12 => {
            let ip = body.get(..4).and_then(|ip| <[u8; 4]>::try_from(ip).ok()).ok_or(MALFORMED)?;
            port(10)?;
            (Spoken::For(SocketAddr::new(ip.into(), port(8)?)), 12)
        }
        0x21 | 0x22 => {
            let ip = body.get(..16).and_then(|ip| <[u8; 16]>::try_from(ip).ok()).ok_or(MALFORMED)?;
            port(34)?;
            (Spoken::For(SocketAddr::new(ip.into(), port(32)?)), 36)
        }
        // A Unix socket: the peer knows no address.
        0x31 | 0x32 => (Spoken::Itself, 216),
        // Unspecified: what stands behind it is to be ignored.
        0x00 => return Ok(Spoken::Itself),
        _ => return Err(MALFORMED),
    };
    check_tlvs(header, V2_HEAD + addresses)?;
    Ok(spoken)
}

/// Whether TLVs are whole from a position on, and their checksum, if there is one, is the header's (section 2.2.4: it is
/// counted with zeros in its place).
fn check_tlvs(header: &[u8], mut at: usize) -> Result<(), Fault> {
    while at < header.len() {
        let Some(&[kind, a, b]) = header.get(at..at + TLV_HEAD) else { return Err(MALFORMED) };
        let start = at + TLV_HEAD;
        at = start + usize::from(u16::from_be_bytes([a, b]));
        let value = header.get(start..at).ok_or(MALFORMED)?;
        if kind != TLV_CRC32C {
            continue;
        }
        let told = <[u8; 4]>::try_from(value).map_err(|_| MALFORMED)?;
        let mut digest = CRC32C.digest();
        for part in [header.get(..start), Some(&[0; 4]), header.get(at..)] {
            digest.update(part.unwrap_or_default());
        }
        if digest.finalize() != u32::from_be_bytes(told) {
            return Err(CHECKSUM);
        }
    }
    Ok(())
}

/// Source and destination of one family, for what is sent. Ports of the client are not known behind other
/// proxies, and a connection carries several of its own.
fn pair(client: Option<IpAddr>, to: Option<SocketAddr>) -> Option<(IpAddr, SocketAddr)> {
    let client = client?.to_canonical();
    let port = to.map_or(0, |to| to.port());
    let to = match (client, to.map(|to| to.ip().to_canonical())) {
        (IpAddr::V4(_), Some(ip @ IpAddr::V4(_))) | (IpAddr::V6(_), Some(ip @ IpAddr::V6(_))) => ip,
        (IpAddr::V4(_), _) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        (IpAddr::V6(_), _) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    Some((client, SocketAddr::new(to, port)))
}

/// A version 1 header for a client's connection to an origin; without a client `UNKNOWN`.
#[must_use]
pub fn write_v1(client: Option<IpAddr>, to: Option<SocketAddr>) -> Vec<u8> {
    let Some((client, to)) = pair(client, to) else { return b"PROXY UNKNOWN\r\n".to_vec() };
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {client} {} 0 {}\r\n", to.ip(), to.port()).into_bytes()
}

/// A version 2 header for a client's connection to an origin; without a client `LOCAL`.
#[must_use]
pub fn write_v2(client: Option<IpAddr>, to: Option<SocketAddr>) -> Vec<u8> {
    let mut out = V2_SIGNATURE.to_vec();
    let (command, family, body) = match pair(client, to) {
        None => (0x20, 0x00, Vec::new()),
        Some((client, to)) => {
            let mut body = Vec::with_capacity(36);
            for ip in [client, to.ip()] {
                match ip {
                    IpAddr::V4(v4) => body.extend(v4.octets()),
                    IpAddr::V6(v6) => body.extend(v6.octets()),
                }
            }
            body.extend([0, 0]);
            body.extend(to.port().to_be_bytes());
            (0x21, if client.is_ipv4() { 0x11 } else { 0x21 }, body)
        }
    };
    out.extend([command, family]);
    out.extend(u16::try_from(body.len()).unwrap_or_default().to_be_bytes());
    out.extend(body);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads a header that comes in pieces of these sizes; gives what is left of the bytes behind it too.
    fn read_in(pieces: &[&[u8]]) -> (Result<Spoken, Fault>, Vec<u8>) {
        let mut mock = pieces.iter().fold(Pieces::default(), |mut mock, piece| {
            mock.0.push_back(piece.to_vec());
            mock
        });
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(read(&mut mock));
        (read, mock.0.into_iter().flatten().collect())
    }

    /// A stream that never gives more than one piece at a time.
    #[derive(Default)]
    struct Pieces(std::collections::VecDeque<Vec<u8>>);

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            buf: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<io::Result<()>> {
            while let Some(mut piece) = self.0.pop_front() {
                if piece.is_empty() {
                    continue;
                }
                let rest = piece.split_off(piece.len().min(buf.remaining()));
                buf.put_slice(&piece);
                self.0.push_front(rest);
                break;
            }
            std::task::Poll::Ready(Ok(()))
        }
    }

    fn good() -> Vec<(Vec<u8>, Spoken)> {
        let v4: SocketAddr = "203.0.113.7:4711".parse().unwrap();
        let v6: SocketAddr = "[2001:db8::7]:4711".parse().unwrap();
        let mut v2_v4 = [V2_SIGNATURE.as_slice(), &[0x21, 0x11, 0, 12]].concat();
        v2_v4.extend([203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80]);
        let mut v2_v6 = [V2_SIGNATURE.as_slice(), &[0x21, 0x21, 0, 43]].concat();
        let IpAddr::V6(ip) = v6.ip() else { panic!() };
        v2_v6.extend(ip.octets());
        v2_v6.extend([0; 16]);
        // Ports, then a TLV of type 4 (NOOP) with four bytes.
        v2_v6.extend([0x12, 0x67, 0, 80, 0x04, 0, 4, b'\r', b'\n', 0, 0]);
        let local = [V2_SIGNATURE.as_slice(), &[0x20, 0x00, 0, 3, 1, 2, 3]].concat();
        let unix = [V2_SIGNATURE.as_slice(), &[0x21, 0x31, 0, 216], &[0; 216]].concat();
        vec![
            (b"PROXY TCP4 203.0.113.7 192.0.2.1 4711 80\r\n".to_vec(), Spoken::For(v4)),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n".to_vec(), Spoken::For(v6)),
            (b"PROXY UNKNOWN\r\n".to_vec(), Spoken::Itself),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), Spoken::Itself),
            (v2_v4, Spoken::For(v4)),
            (v2_v6, Spoken::For(v6)),
            (local, Spoken::Itself),
            (unix, Spoken::Itself),
            (of_datagrams(), Spoken::For(v4)),
            (checked(), Spoken::For(v4)),
        ]
    }

    /// From a balancer that ends HTTP/3.
    fn of_datagrams() -> Vec<u8> {
        let addresses = [203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80];
        [V2_SIGNATURE.as_slice(), &[0x21, 0x12, 0, 12], &addresses].concat()
    }

    /// With a checksum between two other TLVs, as HAProxy 2.6 sends it (`send-proxy-v2`, `proxy-v2-options crc32c`)
    /// but for those.
    fn checked() -> Vec<u8> {
        let addresses = [203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80];
        let tlvs: &[u8] = &[0x04, 0, 1, 0, 0x03, 0, 4, 0, 0, 0, 0, 0x04, 0, 0];
        let length = u8::try_from(addresses.len() + tlvs.len()).unwrap();
        let mut header = [V2_SIGNATURE.as_slice(), &[0x21, 0x11, 0, length], &addresses, tlvs].concat();
        let sum = bitwise_crc32c(&header).to_be_bytes();
        header[V2_HEAD + 12 + 7..][..4].copy_from_slice(&sum);
        header
    }

    /// RFC 9260, appendix A, bit by bit.
    fn bitwise_crc32c(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8)
                .fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg()))
        })
    }

    /// Section 2.2.4: whatever was changed on the way, the connection is dropped.
    #[test]
    fn a_header_that_is_not_what_its_checksum_was_made_of_is_refused() {
        assert_eq!(bitwise_crc32c(b"123456789"), 0xe306_9283, "the check value of CRC-32C");
        let good = checked();
        for at in V2_HEAD..V2_HEAD + 12 {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(read_in(&[&bad]).0, Err(CHECKSUM), "{at}");
        }
        for at in V2_HEAD + 12 + 7..V2_HEAD + 12 + 11 {
            let mut bad = good.clone();
            bad[at] ^= 0x80;
            assert_eq!(read_in(&[&bad]).0, Err(CHECKSUM), "{at}");
        }
    }

    /// The length has two bytes, and all of it is taken: balancers send whole certificates.
    #[test]
    fn a_header_as_long_as_any_may_be_is_read() {
        let mut header = [V2_SIGNATURE.as_slice(), &[0x21, 0x11, 0xff, 0xff]].concat();
        header.extend([203, 0, 113, 7, 192, 0, 2, 1, 0x12, 0x67, 0, 80]);
        header.extend([0x20, 0xff, 0xf0]);
        header.resize(V2_HEAD + 0xffff, b'x');
        let spoken = Spoken::For("203.0.113.7:4711".parse().unwrap());
        assert_eq!(read_in(&[&header, b"GET /"]), (Ok(spoken), b"GET /".to_vec()));
    }

    /// Every header at every cut: the same client, and not a byte of what follows is taken.
    #[test]
    fn a_header_is_read_alike_at_every_cut_and_nothing_behind_it_is_taken() {
        for (header, spoken) in good() {
            let whole = [&header[..], b"GET /\r\n"].concat();
            for cut in 0..=whole.len() {
                let (read, left) = read_in(&[&whole[..cut], &whole[cut..]]);
                assert_eq!((read, left.as_slice()), (Ok(spoken), &b"GET /\r\n"[..]), "{cut} of {header:?}");
            }
            let bytes: Vec<&[u8]> = whole.chunks(1).collect();
            assert_eq!(read_in(&bytes), (Ok(spoken), b"GET /\r\n".to_vec()));
            for end in 0..header.len() {
                assert_eq!(read_in(&[&header[..end]]).0, Err(CLOSED), "ends at {end} of {header:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        let v2 = |rest: &[u8]| [V2_SIGNATURE.as_slice(), rest].concat();
        let long_line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_LONGEST));
        for bad in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXX TCP4 1.2.3.4 1.2.3.4 1 1\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 1 1\r\n".to_vec(),
            b"PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 1.2.3.4 +1 1\r\n".to_vec(),
            b"PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n".to_vec(),
            b"PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n".to_vec(),
            b"PROXY UDP4 1.2.3.4 1.2.3.4 1 1\r\n".to_vec(),
            b"PROXY \xff\xff\xff\xff\xff\xff\xff\xff\r\n".to_vec(),
            v2(&[0x11, 0x11, 0, 0]),
            v2(&[0x22, 0x11, 0, 0]),
            v2(&[0x21, 0x13, 0, 12, 1, 2, 3, 4, 1, 2, 3, 4, 0, 1, 0, 1]),
            v2(&[0x21, 0x11, 0, 11, 1, 2, 3, 4, 1, 2, 3, 4, 0, 1, 0]),
            v2(&[0x21, 0x21, 0, 12, 1, 2, 3, 4, 1, 2, 3, 4, 0, 1, 0, 1]),
            // TLVs that are cut: a head, a value; and a checksum of another length.
            v2(&[0x21, 0x11, 0, 14, 1, 2, 3, 4, 1, 2, 3, 4, 0, 1, 0, 1, 4, 0]),
            v2(&[0x21, 0x11, 0, 16, 1, 2, 3, 4, 1, 2, 3, 4, 0, 1, 0, 1, 4, 0, 2, 0]),
            v2(&[0x21, 0x11, 0, 18, 1, 2, 3, 4, 1, 2, 3, 4, 0, 1, 0, 1, 3, 0, 3, 0, 0, 0]),
        ] {
            assert_eq!(read_in(&[&bad]).0, Err(MALFORMED), "{bad:?}");
        }
        assert_eq!(read_in(&[long_line.as_bytes()]).0, Err(TOO_LONG));
    }

    /// What we send is what we would read.
    #[test]
    fn what_is_sent_can_be_read() {
        let to: SocketAddr = "192.0.2.1:8080".parse().unwrap();
        for client in ["203.0.113.7", "2001:db8::7"].map(|ip| ip.parse::<IpAddr>().unwrap()) {
            for write in [write_v1, write_v2] {
                let spoken = Ok(Spoken::For(SocketAddr::new(client, 0)));
                assert_eq!(read_in(&[&write(Some(client), Some(to))]).0, spoken);
                assert_eq!(read_in(&[&write(Some(client), None)]).0, spoken);
                assert_eq!(read_in(&[&write(None, Some(to))]).0, Ok(Spoken::Itself));
            }
        }
        let client = "203.0.113.7".parse().ok();
        assert_eq!(write_v1(client, Some(to)), b"PROXY TCP4 203.0.113.7 192.0.2.1 0 8080\r\n");
        let mapped = "::ffff:203.0.113.7".parse().ok();
        assert_eq!(write_v1(mapped, Some(to)), write_v1(client, Some(to)));
    }

    proptest! {
        /// Whatever comes, and however it is cut: no panic, an answer, and never more than the bound is read.
        #[test]
        fn garbage_is_answered_alike_at_any_cut(
            signature in 0..3_usize,
            rest in prop::collection::vec(any::<u8>(), 0..200),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = [[&b""[..], b"PROXY ", V2_SIGNATURE][signature], &rest].concat();
            let (whole, left) = read_in(&[&bytes]);
            let cut = cut.index(bytes.len() + 1);
            let (pieces, left_then) = read_in(&[&bytes[..cut], &bytes[cut..]]);
            prop_assert_eq!(whole, pieces);
            if whole.is_ok() {
                prop_assert_eq!(left, left_then);
            }
        }
    }
}
