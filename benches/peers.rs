//! CPU time of Optgate, nginx and HAProxy for the same work before the same origin: the table of README's "What it costs".
//!
//! nginx of the system is the origin and `wrk` the visitors, 32 connections, both on the second core; each proxy has the
//! first. Rounds take turns; printed are medians of the microseconds of a proxy's own processes for a request. Where the
//! least and the most are more than a quarter apart, or something went wrong, the line says so.
//!
//! `cargo bench --bench peers -- --program PATH` measures another build of Optgate; `--only WORD` only what has the word
//! in its name; `--page FILE`, as often as wanted, other pages. `OPTGATE_ROUNDS=5` takes more rounds than three. Needs
//! Debian's nginx and wrk; HAProxy where it is installed.

#![allow(clippy::unwrap_used)] // a bench that cannot run should say so and stop

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::TokioIo;
use tempfile::TempDir;

#[expect(dead_code, reason = "other benches use the rest")]
mod beside;
mod pages;

use beside::{Proxy, Stage, free, installed, pin};

const LINK: &str = "Do Not Sell or Share My Personal Information";

/// What nginx replaces in an opted-out visitor's page.
const TRACKERS: [&str; 4] = [
    "static.criteo.net",
    "connect.facebook.net",
    "sb.scorecardresearch.com",
    "securepubads.g.doubleclick.net",
];

/// Saved pages of 20, 90 and 715 kB where a checkout has them beside it, else cards of pages made here.
const PAGES: [(&str, usize); 3] = [
    ("mrc__www.americanow.com__2304750c.html", 2),
    ("hpb__www.reuters.com__dccfcbd5.html", 40),
    ("htd__ktla.com__26f65fe3.html", 380),
];

/// Work that is the same for all.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Work {
    /// Nothing is rewritten.
    Pass,
    /// The link is put into a page.
    Link,
    /// An opted-out visitor's page, the same each time,
    Html,
    /// another each time, by a token,
    Cold,
    /// and compressed on both ways.
    Gzip,
}

impl Work {
    const PAGES: [(Self, &str); 4] = [
        (Self::Link, "link only (no signal)"),
        (Self::Html, "opted out, the same again"),
        (Self::Cold, "opted out, another each time"),
        (Self::Gzip, "opted out, gzip in and out"),
    ];

    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Pass | Self::Link => &[],
            Self::Html | Self::Cold => &["Sec-GPC: 1"],
            Self::Gzip => &["Sec-GPC: 1", "Accept-Encoding: gzip"],
        }
    }

    /// The directives by which nginx does it.
    fn directives(self, tuned: bool) -> String {
        let mut more = String::new();
        if tuned {
            more += "proxy_buffer_size 64k; proxy_buffers 8 128k; proxy_busy_buffers_size 256k;\n";
        }
        if self != Self::Pass {
            more += "proxy_set_header Accept-Encoding \"\"; sub_filter_once off;\n";
            more += &format!("sub_filter '</body>' '<a href=\"/privacy-choices\">{LINK}</a></body>';\n");
        }
        if !matches!(self, Self::Pass | Self::Link) {
            more.extend(TRACKERS.map(|host| format!("sub_filter 'https://{host}/' 'about:blank#';\n")));
        }
        if self == Self::Gzip {
            more += "gzip on; gzip_comp_level 1; gzip_types text/html; gzip_min_length 100;\n";
        }
        more
    }
}

/// One line of the table.
struct Line {
    name: String,
    work: Work,
    path: String,
}

/// The lines, and what their files hold.
fn lines(files: &Path) -> Vec<Line> {
    let mut lines = Vec::new();
    for (name, size) in [("1 KiB", 1 << 10), ("16 KiB", 1 << 14), ("1 MiB", 1 << 20)] {
        let path = format!("/{size}");
        std::fs::write(files.join(&path[1..]), vec![b'x'; size]).unwrap();
        lines.push(Line { name: format!("{name}, nothing rewritten"), work: Work::Pass, path });
    }
    let all: Vec<Vec<u8>> = match &named("--page")[..] {
        [] => PAGES.map(|(file, cards)| saved(file).unwrap_or_else(|| pages::news_of(cards))).into(),
        files => files.iter().map(|file| std::fs::read(file).unwrap()).collect(),
    };
    for (at, page) in all.iter().enumerate() {
        std::fs::write(files.join(format!("{at}.html")), page).unwrap();
        let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        coder.write_all(page).unwrap();
        std::fs::write(files.join(format!("{at}.html.gz")), coder.finish().unwrap()).unwrap();
    }
    for (work, words) in Work::PAGES {
        for (at, page) in all.iter().enumerate() {
            let folder = match work {
                Work::Cold => "cold/",
                Work::Gzip => "gzip/",
                _ => "",
            };
            let name = format!("{} kB page, {words}", page.len().div_ceil(1000));
            lines.push(Line { name, work, path: format!("/{folder}{at}.html") });
        }
    }
    let only = named("--only").pop().unwrap_or_default();
    lines.retain(|line| line.name.contains(&only));
    lines
}

fn saved(name: &str) -> Option<Vec<u8>> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus").join(name)).ok()
}

/// What stands behind each such word of the command line.
fn named(word: &str) -> Vec<String> {
    let words: Vec<String> = std::env::args().collect();
    words.windows(2).filter(|pair| pair[0] == word).map(|pair| pair[1].clone()).collect()
}

/// nginx with the files; ended when dropped.
struct Origin(Child);

impl Origin {
    fn start(program: &str, folder: &Path, address: SocketAddr) -> Self {
        let at = folder.display();
        let text = format!(
            "daemon off; master_process off; worker_processes 1; pid {at}/pid; error_log {at}/error;\n\
             events {{ worker_connections 4096; }}\n\
             http {{ access_log off; keepalive_requests 100000000; keepalive_timeout 600;\n\
             types {{ text/html html; }} default_type text/plain;\n\
             client_body_temp_path {at}/1; proxy_temp_path {at}/2; fastcgi_temp_path {at}/3;\n\
             uwsgi_temp_path {at}/4; scgi_temp_path {at}/5;\n\
             sendfile on; tcp_nopush on; open_file_cache max=100;\n\
             server {{ listen {address} backlog=4096; root {at};\n\
             location /cold/ {{ alias {at}/; sub_filter '</head>' '<meta name=\"r\" content=\"$request_id\"></head>'; }}\n\
             location /gzip/ {{ alias {at}/; gzip_static on; }} }} }}\n"
        );
        std::fs::write(folder.join("nginx.conf"), text).unwrap();
        pin(1);
        let mut command = Command::new(program);
        command.arg("-c").arg(folder.join("nginx.conf")).stdin(Stdio::null()).stderr(Stdio::null());
        let origin = Self(command.spawn().unwrap());
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < until, "the origin does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        origin
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes sure that a proxy does the work; the bytes of its answer.
fn look(proxy: &Proxy, line: &Line) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (coded, body) = runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.clear).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::get(&line.path).header("Host", beside::NAME);
        for (name, value) in line.work.fields().iter().filter_map(|field| field.split_once(": ")) {
            request = request.header(name, value);
        }
        let answer = sender.send_request(request.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200, "{} of {}", line.path, proxy.name);
        let coded = answer.headers().contains_key("content-encoding");
        (coded, answer.into_body().collect().await.unwrap().to_bytes())
    });
    assert_eq!(coded, line.work == Work::Gzip, "{}: {}", proxy.name, line.name);
    let mut text = Vec::new();
    match coded {
        true => drop(flate2::read::GzDecoder::new(&body[..]).read_to_end(&mut text).unwrap()),
        false => text.extend_from_slice(&body),
    }
    let text = String::from_utf8_lossy(&text);
    assert!(line.work == Work::Pass || text.contains(LINK), "{}: {}: no link", proxy.name, line.name);
    let loaded = |host: &&str| text.contains(&format!("src=\"https://{host}/"));
    let left = !matches!(line.work, Work::Pass | Work::Link) && TRACKERS.iter().any(loaded);
    assert!(!left, "{}: {}: a tracker", proxy.name, line.name);
    body.len()
}

/// Microseconds of the proxy for a request, of so many seconds; `None` if an answer was wrong.
fn measure(proxy: &Proxy, line: &Line, seconds: u32) -> Option<f64> {
    let mut command = Command::new("wrk");
    command.args(["-t1", "-c32", &format!("-d{seconds}s")]);
    for field in line.work.fields() {
        command.args(["-H", field]);
    }
    let before = proxy.cpu();
    let output = command.arg(format!("http://{}{}", proxy.clear, line.path)).output().unwrap();
    let spent = proxy.cpu() - before;
    let said = String::from_utf8_lossy(&output.stdout);
    let count = said.lines().find_map(|line| line.split_once(" requests in")).unwrap().0.trim();
    let wrong = said.contains("Non-2xx") || said.contains("Socket errors");
    (!wrong).then(|| spent.as_secs_f64() * 1e6 / count.parse::<f64>().unwrap())
}

/// Of one proxy and line.
#[derive(Default, Clone)]
struct Found {
    rounds: Vec<f64>,
    wrong: bool,
    coded: bool,
    bytes: usize,
}

impl Found {
    fn median(&mut self) -> f64 {
        self.rounds.sort_by(f64::total_cmp);
        self.rounds.get(self.rounds.len() / 2).copied().unwrap_or(f64::NAN)
    }

    fn shown(&mut self) -> String {
        let middle = self.median();
        let apart =
            self.rounds.last().zip(self.rounds.first()).is_some_and(|(most, least)| most / least > 1.25);
        let mark = if self.wrong {
            " wrong answers"
        } else if apart {
            " noisy"
        } else {
            ""
        };
        let digits = usize::from(middle < 100.0);
        // How well a page was coded belongs to what it cost.
        let bytes = if self.coded { format!(" ({} bytes)", self.bytes) } else { String::new() };
        format!("{middle:.digits$}{bytes}{mark}")
    }
}

fn main() {
    let rounds: usize = std::env::var("OPTGATE_ROUNDS").map_or(3, |text| text.parse().unwrap());
    let (Some(nginx), Some(_)) = (installed("nginx", "-v"), installed("wrk", "-h")) else { return };
    let (files, address) = (TempDir::with_prefix("peers-bench-").unwrap(), free());
    let lines = lines(files.path());
    let _origin = Origin::start(&nginx, files.path(), address);
    println!(
        "| work | nginx | tuned nginx | HAProxy | Optgate | Optgate / nginx |\n|---|---|---|---|---|---|"
    );
    for line in &lines {
        let stage = Stage::before(address);
        let directives = |tuned| line.work.directives(tuned);
        let proxies = [
            stage.nginx_with("nginx", &directives(false)),
            stage.nginx_with("tuned nginx", &directives(true)),
            (line.work == Work::Pass).then(|| stage.haproxy()).flatten(),
            Some(stage.optgate()),
        ];
        let mut found = [const { None }; 4];
        for (proxy, found) in proxies.iter().zip(&mut found) {
            *found = proxy.as_ref().map(|proxy| Found {
                coded: line.work == Work::Gzip,
                bytes: look(proxy, line),
                ..Found::default()
            });
        }
        // The first round warms up.
        for round in 0..=rounds {
            for turn in 0..proxies.len() {
                let at = (round + turn) % proxies.len();
                let (Some(proxy), Some(found)) = (&proxies[at], &mut found[at]) else { continue };
                let figure = measure(proxy, line, if round == 0 { 1 } else { 2 });
                found.wrong |= figure.is_none();
                found.rounds.extend(figure.filter(|_| round > 0));
            }
        }
        let ratio = match &mut found {
            [Some(nginx), .., Some(ours)] => ours.median() / nginx.median(),
            _ => f64::NAN,
        };
        let cells = found.iter_mut().map(|f| f.as_mut().map_or_else(|| "-".to_owned(), Found::shown));
        let cells = cells.collect::<Vec<_>>().join(" | ");
        println!("| {} | {cells} | {ratio:.2} |", line.name);
        std::io::stdout().flush().unwrap();
    }
}
