//! HTTP/2 frames in any order, right and wrong, on one connection, and a bystander on another.
//!
//! Invariants: the bystander gets its own answers all the while; the connection always ends; what reaches the origin
//! is well-formed, was asked for by this very connection, and has passed through Optgate.

use std::time::Duration;

use super::messages::{assert_no_panic, subject};
use super::{Random, rounds};
use crate::conformance::frames::{Outcome, outcome};
use crate::support::DEADLINE;
use crate::support::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Field, GOAWAY, HEADERS, PADDED, PING, PREFACE, PRIORITY,
    RST_STREAM, SETTINGS, WINDOW_UPDATE, frame, hello, section,
};
use crate::support::h2::H2;

/// Where a round's requests go. All are of one length: what a connection that ended had begun may arrive in a later round.
fn path_of(round: u64) -> String {
    format!("/frames/{round:09}")
}

/// A field section, mostly of a good request; a gentle one can be read, whatever it says.
fn fields(random: &mut Random, gentle: bool, round: u64) -> Vec<u8> {
    let path = path_of(round);
    let methods: [&[u8]; 5] = [b"GET", b"POST", b"HEAD", b"CONNECT", b"G T"];
    let method =
        if random.once_in(10) { methods[random.below(if gentle { 4 } else { 5 })] } else { methods[0] };
    let mut fields: Vec<Field<'_>> = vec![
        (b":method", method),
        (b":scheme", b"http"),
        (b":path", path.as_bytes()),
        (b":authority", b"site.test"),
    ];
    // Some readers take the later ones for faults of the connection.
    let odd: [Field<'_>; 16] = [
        (b"host", b"other.test"),
        (b"host", b"site.test"),
        (b"connection", b"close"),
        (b"transfer-encoding", b"chunked"),
        (b"content-length", b"5"),
        (b"content-length", b"0"),
        (b"content-length", b"x"),
        (b"te", b"gzip"),
        (b"cookie", b"a=b"),
        (b"Upper", b"case"),
        (b"x-line", b"a\r\nX-Smuggled: 1"),
        (b"x-nul", b"a\0b"),
        (b"x a", b"b"),
        (b":path", b"/smuggled"),
        (b":protocol", b"websocket"),
        (b"", b"no name"),
    ];
    while random.once_in(5) {
        let at = random.below(fields.len() + 1);
        fields.insert(at, odd[random.below(if gentle { 9 } else { odd.len() })]);
    }
    if random.once_in(20) {
        fields.remove(random.below(fields.len()));
    }
    let mut section = section(&fields);
    if !gentle && random.once_in(20) {
        let at = random.below(section.len());
        section[at] = u8::try_from(random.below(256)).unwrap();
    }
    section
}

/// The stream of the last request, before there is one.
const NONE_YET: u32 = u32::MAX;

/// One frame. A gentle one is no fault of the whole connection; any other may be.
fn any_frame(random: &mut Random, stream: &mut u32, gentle: bool, round: u64) -> Vec<u8> {
    let byte = |random: &mut Random| u8::try_from(random.below(256)).unwrap();
    let noise: Vec<u8> = (0..random.below(40)).map(|_| byte(random)).collect();
    let number = u32::try_from(random.below(1 << 31)).unwrap().to_be_bytes();
    let known = match random.below(8) {
        _ if gentle => *stream,
        0 => 0,
        1 => u32::try_from(random.below(40)).unwrap(),
        _ => *stream & 0xffff,
    };
    let odd = !gentle && random.once_in(6);
    let flags = if odd { byte(random) } else { 0 };
    // With a request before it, a frame can be about that one.
    let kinds = if *stream == NONE_YET {
        1
    } else if gentle {
        8
    } else {
        15
    };
    let mut out = match random.below(kinds) {
        1 => frame(PING, 0, 0, &[7; 8]),
        2 => frame(PRIORITY, 0, known, &[0, 0, 0, 0, 9]),
        3 => frame(RST_STREAM, 0, known, &number),
        4 => frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 9]),
        5 => frame(0xfa, flags, known, &noise),
        6 => frame(SETTINGS, flags, 0, &[]),
        8 if random.once_in(2) => frame(DATA, flags | END_STREAM, known, &noise),
        8 => frame(DATA, flags, known, &noise),
        9 => frame(DATA, PADDED, known, &noise),
        10 => {
            frame(SETTINGS, flags, 0, &[&[0, u8::try_from(random.below(9)).unwrap()], &number[..]].concat())
        }
        11 => frame(PING, flags, 0, &noise[..noise.len().min(8)]),
        12 => frame(WINDOW_UPDATE, 0, known, &number),
        13 => frame(CONTINUATION, END_HEADERS | flags, known, &fields(random, gentle, round)),
        14 if random.once_in(4) => frame(GOAWAY, 0, 0, &[number, number].concat()),
        14 => frame(byte(random), flags, known, &noise),
        _ => {
            // The first request is on stream 1.
            *stream = stream.wrapping_add(2);
            let end = if random.once_in(3) { 0 } else { END_STREAM };
            frame(HEADERS, END_HEADERS | end | flags, *stream, &fields(random, gentle, round))
        }
    };
    if odd && random.once_in(4) {
        // A length that is not the frame's.
        out[2] = byte(random);
    }
    out
}

/// A good request behind all the others: its answer, or the connection's end, is waited for.
fn last(stream: &mut u32, round: u64) -> Vec<u8> {
    *stream = stream.wrapping_add(2);
    let path = path_of(round);
    let good = section(&[
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":path", path.as_bytes()),
        (b":authority", b"site.test"),
    ]);
    // Behind it, what a frame with too great a length can eat.
    [frame(HEADERS, END_HEADERS | END_STREAM, *stream, &good), frame(PING, 0, 0, &[7; 8]).repeat(20)].concat()
}

#[test]
fn any_sequence_of_frames_ends_and_leaves_others_alone() {
    let (binary, subject) = subject();
    let mut bystander = H2::prior_knowledge(subject.addr);
    let (mut round, mut served, mut ended) = (0, 0, 0);
    rounds("frames", 1_500, |random| {
        round += 1;
        let (mut bytes, mut stream, gentle) = (hello(), NONE_YET, random.once_in(2));
        if !gentle && random.once_in(8) {
            let at = random.below(PREFACE.len());
            bytes[at] ^= 1 << random.below(8);
        }
        for _ in 0..1 + random.below(25) {
            bytes.extend(any_frame(random, &mut stream, gentle, round));
        }
        bytes.extend(last(&mut stream, round));
        let mark = subject.origin.mark();
        let mut wire = subject.connect();
        // What is cut short by a wrong length waits for more.
        wire.be_patient(if gentle { DEADLINE } else { Duration::from_secs(2) });
        wire.send(&bytes);
        let path = format!("http://site.test/bystander/{round}");
        let echo = format!("echo GET /bystander/{round} HTTP/1.1");
        assert_eq!(&bystander.get(&path).body[..], echo.as_bytes(), "while {bytes:02x?}");
        let outcome = outcome(&mut wire, stream);
        assert!(!gentle || outcome == Outcome::Answered(200), "{outcome:?} of {bytes:02x?}");
        ended += u64::from(outcome != Outcome::Answered(200));
        wire.be_patient(DEADLINE);
        wire.finish();
        wire.raw(usize::MAX);
        assert!(wire.is_closed(), "it never ended: {bytes:02x?}");
        assert_eq!(subject.origin.malformed_since(mark), [], "of {bytes:02x?}");
        for request in subject.origin.since(mark) {
            let target = request.target();
            if target.starts_with("/bystander/") {
                continue;
            }
            // A change may have come to the path's own bytes: another path, then, but of this connection.
            let own = target.len() == path_of(round).len() && !target.contains("smuggled");
            assert!(own && !request.all("via").is_empty(), "{:?} of {bytes:02x?}", request.line());
            assert!(request.all("x-smuggled").is_empty(), "{bytes:02x?}");
            served += 1;
        }
    });
    println!("fuzz frames: {served} requests reached the origin, {ended} connections ended early");
    assert!(served > round, "most of it is good");
    assert_no_panic(&binary);
}
