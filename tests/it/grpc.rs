//! gRPC through Optgate: a real server behind it and a real client in front, with and without
//! TLS on both sides, opted out and not. What one side says is what the other hears, and in the same order.

use std::time::{Duration, Instant};

use tonic::Code;

use super::support::DEADLINE;
use super::support::grpc::{GrpcClient, GrpcServer, failure};
use super::support::pki::Authority;
use super::support::proxy::{Proxy, figure, proxy};

/// A server, Optgate, and a client.
struct Way {
    server: GrpcServer,
    client: GrpcClient,
    proxy: Proxy,
    /// The visitor says `Sec-GPC: 1`.
    signal: bool,
}

/// In clear on both sides, or with TLS on both.
fn way(tls: bool, signal: bool, settings: &str) -> Way {
    if !tls {
        let server = GrpcServer::start(None);
        let proxy = proxy().upstream(&format!("h2c://{}", server.addr())).toml(settings).run();
        let client = GrpcClient::connect(proxy.addr(), None, signal);
        return Way { server, client, proxy, signal };
    }
    let authority = Authority::new();
    let server = GrpcServer::start(Some(authority.leaf("127.0.0.1").server()));
    let builder = proxy();
    let roots = authority.write(builder.dir());
    let certificate = authority.leaf("site.test").toml(builder.dir(), "site");
    let site = format!(
        "{settings}[tls]\nlisten = [\"127.0.0.1:0\"]\n{certificate}[[sites]]\nname = \"site\"\n\
         hosts = [\"site.test\"]\nupstream = {{ url = \"https://{}\", http2 = true, roots = {roots:?} }}\n",
        server.addr()
    );
    let proxy = builder.toml(&site).run();
    let client = GrpcClient::connect(proxy.tls(), Some(authority.client(&["h2"])), signal);
    Way { server, client, proxy, signal }
}

/// Every way, one after the other.
fn on_every_way(check: impl Fn(&Way)) {
    for (tls, signal) in [(false, false), (false, true), (true, false), (true, true)] {
        check(&way(tls, signal, ""));
    }
}

/// One message for one, with metadata in both directions, the decision among it.
#[test]
fn a_unary_call_passes_with_its_metadata() {
    on_every_way(|way| {
        let add = |request: &mut tonic::Request<Vec<u8>>| {
            request.metadata_mut().insert("x-tenant", "blue".parse().unwrap());
            request
                .metadata_mut()
                .insert_bin("x-trace-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 255]));
        };
        let answer = way.client.unary_with("Unary", b"\0one\xff", add).unwrap();
        assert_eq!(answer.metadata().get("x-served").unwrap(), "unary");
        assert_eq!(answer.into_inner(), b"\0one\xff");
        let asked = way.server.asked();
        assert_eq!(asked.get("x-tenant").unwrap(), "blue");
        assert_eq!(asked.get_bin("x-trace-bin").unwrap().to_bytes().unwrap().as_ref(), [0, 255]);
        let (gpc, decision) = if way.signal { (Some("1"), "opted-out;basis=gpc") } else { (None, "none") };
        assert_eq!(asked.get("sec-gpc").map(|v| v.to_str().unwrap()), gpc);
        assert_eq!(asked.get("optgate-decision").unwrap(), decision);
    });
}

/// Many messages for one.
#[test]
fn a_stream_from_the_server_passes_whole_and_in_order() {
    on_every_way(|way| {
        let (messages, ended) = way.client.download("Download", 3_000);
        assert!(ended.is_none(), "{ended:?}");
        assert_eq!(messages.len(), 3_000);
        for (n, message) in messages.iter().enumerate() {
            assert_eq!(*message, vec![u8::try_from(n % 251).unwrap(); 1_000], "message {n}");
        }
    });
}

/// One message for many.
#[test]
fn a_stream_from_the_client_passes_whole() {
    on_every_way(|way| {
        let answer = way.client.upload("Upload", (0..3_000).map(|n| vec![b'u'; n % 700]).collect()).unwrap();
        let bytes: usize = (0..3_000).map(|n| n % 700).sum();
        assert_eq!(answer.into_inner(), format!("3000 messages, {bytes} bytes").into_bytes());
        assert_eq!(way.client.upload("Upload", Vec::new()).unwrap().into_inner(), b"0 messages, 0 bytes");
    });
}

/// Each side speaks only when it has heard the other: a message that is kept back anywhere would stop it for good.
#[test]
fn a_conversation_passes_message_by_message() {
    on_every_way(|way| {
        let mut chat = way.client.chat();
        for turn in 0..200 {
            let words = format!("turn {turn}").into_bytes();
            way.client.say(&chat, &words);
            assert_eq!(way.client.next(&mut chat).unwrap().unwrap(), words);
        }
        chat.out = None;
        assert_eq!(way.client.next(&mut chat).unwrap(), None);
        assert!(way.client.trailers(&mut chat).is_some());
    });
}

/// A status with text that needs escaping, details in base64 and metadata: without a message (trailers only, in
/// the answer's head) and behind some (in trailers).
#[test]
fn an_error_arrives_as_it_was_said() {
    on_every_way(|way| {
        let (behind, late) = way.client.download("FailLate", 3);
        assert_eq!(behind.len(), 3);
        for status in [way.client.unary("Fail", b"x").unwrap_err(), late.unwrap()] {
            assert_eq!((status.code(), status.message()), (failure().code(), failure().message()));
            assert_eq!(status.details(), failure().details());
            assert_eq!(status.metadata().get("x-reason").unwrap(), "sold-out");
        }
        // Before the client has said all it had to say (RFC 9113, 8.1: the stream is reset without an error).
        let early = way.client.upload("Refuse", vec![vec![b'u'; 10_000]; 1_000]).unwrap_err();
        assert_eq!((early.code(), early.message()), (failure().code(), failure().message()));
        let status = way.client.unary("Nothing", b"").unwrap_err();
        assert_eq!((status.code(), status.message()), (Code::Unimplemented, "no such method"));
        // The connection is as good as before.
        assert_eq!(way.client.unary("Unary", b"next").unwrap().into_inner(), b"next");
    });
}

/// A client that loses interest, before the answer's head or in the middle of it, is not waited for.
#[test]
fn a_cancelled_call_is_given_up_at_the_server() {
    on_every_way(|way| {
        let mut call = way.client.begin("Wait", b"begun").unwrap();
        way.server.asked();
        assert_eq!(way.client.next(&mut call).unwrap().unwrap(), b"begun");
        drop(call);
        way.server.given_up();
        let short = |request: &mut tonic::Request<Vec<u8>>| request.set_timeout(Duration::from_millis(300));
        let status = way.client.unary_with("Silent", b"", short).unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
        // The deadline is the server's to know, too.
        assert!(way.server.asked().get("grpc-timeout").is_some());
        way.server.given_up();
        assert_eq!(way.client.unary("Unary", b"next").unwrap().into_inner(), b"next");
    });
}

/// Eight megabytes in each direction in one message: more than any window.
#[test]
fn a_large_message_passes() {
    on_every_way(|way| {
        let message: Vec<u8> = (0..8u32 << 20).map(|n| u8::try_from(n % 253).unwrap()).collect();
        let answer = way.client.unary("Unary", &message).unwrap().into_inner();
        assert!(answer == message, "{} bytes came back", answer.len());
    });
}

/// Many calls at a time over one connection, each with its own answer.
#[test]
fn calls_at_a_time_keep_their_own_answers() {
    on_every_way(|way| {
        let mut chats: Vec<_> = (0..40).map(|_| way.client.chat()).collect();
        for turn in 0..5 {
            for (n, chat) in chats.iter().enumerate() {
                way.client.say(chat, format!("{n} {turn}").as_bytes());
            }
            for (n, chat) in chats.iter_mut().enumerate().rev() {
                assert_eq!(way.client.next(chat).unwrap().unwrap(), format!("{n} {turn}").as_bytes());
            }
        }
    });
}

/// What is ours to say is said so that a gRPC client understands it: no server, no answer in time.
#[test]
fn a_server_that_is_down_or_silent_is_unavailable() {
    let silent = way(false, true, "[timeouts]\nfirst_byte = \"300ms\"\n");
    let status = silent.client.unary("Silent", b"").unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    silent.server.asked();
    silent.server.given_up();
    let proxy = proxy().upstream("h2c://127.0.0.1:1").run();
    let client = GrpcClient::connect(proxy.addr(), None, true);
    let status = client.unary("Unary", b"").unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
}

/// A call in which the client says little, or nothing for a while, is no slow upload: `limits.min_body_rate` is for
/// bodies that must come to their end before there is an answer.
#[test]
fn a_quiet_conversation_is_no_slow_upload() {
    let way = way(false, true, "[timeouts]\nslow_body = \"200ms\"\n[limits]\nmin_body_rate = \"1MiB\"\n");
    let mut chat = way.client.chat();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        way.client.say(&chat, b"quiet");
        assert_eq!(way.client.next(&mut chat).unwrap().unwrap(), b"quiet");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(begun.elapsed() < DEADLINE);
    let series = "optgate_limit_reached_total{limit=\"min_body_rate\"}";
    assert_eq!(figure(&way.proxy.running().metrics().render(), series), Some(0));
}
