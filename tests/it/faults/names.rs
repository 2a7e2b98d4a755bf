//! Name servers that are silent or talk nonsense, at start and later. (Failures and changes: `origin_names`.)

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use super::super::support::dns::Dns;
use super::super::support::origin::Origin;
use super::super::support::proxy::{Proxy, proxy};
use super::super::support::random::Random;
use super::super::support::wait_until;

const SILENT: u8 = 0;
const GARBAGE: u8 = 1;
const GOOD: u8 = 2;

/// A name server between Optgate and a good one, which is as it is told to be.
fn moody(good: std::net::SocketAddr) -> (std::net::SocketAddr, Arc<AtomicU8>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (addr, mood) = (socket.local_addr().unwrap(), Arc::new(AtomicU8::new(SILENT)));
    let told = Arc::clone(&mood);
    thread::spawn(move || {
        let (mut packet, mut random) = ([0; 1500], Random(0xd15));
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let mut answer = packet[..length].to_vec();
            match told.load(Ordering::SeqCst) {
                SILENT => continue,
                GARBAGE => {
                    // The id, so that it is looked at; then anything.
                    answer.resize(2 + random.below(200), 0);
                    answer
                        .iter_mut()
                        .skip(2)
                        .for_each(|byte| *byte = u8::try_from(random.below(256)).unwrap());
                }
                _ => {
                    let asking = UdpSocket::bind("127.0.0.1:0").unwrap();
                    asking.send_to(&answer, good).unwrap();
                    let length = asking.recv(&mut packet).unwrap();
                    answer = packet[..length].to_vec();
                }
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    (addr, mood)
}

fn named(server: std::net::SocketAddr, origin: &Origin) -> Proxy {
    let port = origin.url().rsplit(':').next().unwrap();
    let settings = format!(
        "[[sites]]\nhosts = [\"site.test\"]\nupstream = \"http://origin.test:{port}\"\n\
         [[sites]]\nhosts = [\"other.test\"]\nupstream = {:?}\n\
         [timeouts]\nupstream_connect = \"1s\"\n\
         [dns]\nservers = [\"{server}\"]\nupstream_interval = \"100ms\"\ntimeout = \"200ms\"\n",
        origin.url()
    );
    proxy().toml(&settings).run()
}

/// Before the first answer a request for that site is a 502 or 504, other sites are served, and it works from the
/// moment the name is known. Afterwards silence and nonsense take no address away.
#[test]
fn a_name_server_that_is_silent_or_talks_nonsense_harms_its_site_only_and_no_longer_than_it_does() {
    let origin = Origin::start();
    let good = Dns::start();
    good.addresses("origin.test", &["127.0.0.1"]);
    for mood in [SILENT, GARBAGE] {
        let (server, told) = moody(good.addr());
        told.store(mood, Ordering::SeqCst);
        let proxy = named(server, &origin);
        for _ in 0..2 {
            let status = proxy.get("/", "").status();
            assert!(matches!(status, 502 | 504), "{mood}: {status}");
            assert_eq!(proxy.client().get_from("other.test", "/", "").text(), "hello");
        }
        told.store(GOOD, Ordering::SeqCst);
        wait_until("the name is known", || proxy.get("/", "").status() == 200);
        told.store(mood, Ordering::SeqCst);
        let failed = || proxy.running().metrics().upstreams().map(|u| u.bad_lookups.get()).sum::<u64>();
        let before = failed();
        wait_until("it was asked in vain", || failed() > before + 1);
        assert_eq!(proxy.get("/", "").text(), "hello", "the last answer holds");
    }
}
