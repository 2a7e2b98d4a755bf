//! `optgate bench`: what Optgate adds to a site's answers, measured where it will stand.
//!
//! The same requests go to the site and through Optgate, in turns on one schedule, so that whatever else the machine
//! does falls on both alike. Which room does what: `load` the schedule, `target` a server and its connections,
//! `proxy` the Optgate that is measured, `process` what the kernel says of it, `stats` percentiles and
//! intervals, `figures` the figures and the verdict, `text` and `html` how they are shown.

mod figures;
mod html;
mod load;
mod process;
mod proxy;
mod stats;
mod target;
mod text;

use std::io::Write;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header};
use tokio::signal::unix::{SignalKind, signal};

use self::figures::{Inside, Report, Run, Subject, Verdict};
use self::load::{Asked, Side};
use self::process::Environment;
use self::proxy::Proxy;
use self::target::Target;
use super::{Failure, Global, Output};
use crate::config::units;

/// Flags of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Your site, which is asked directly and through Optgate: http://, https:// or unix:/PATH
    #[arg(long, value_name = "URL")]
    pub upstream: String,
    /// Measure the Optgate that already serves there, instead of one of its own
    ///
    /// Without it a second process of this program stands in front of --upstream on a port of loopback for as long
    /// as this takes, with the settings of --config if that is given, and a data folder of its own.
    #[arg(long, value_name = "URL")]
    pub through: Option<String>,
    /// Process of that Optgate, for CPU and memory, if it runs on this machine
    #[arg(long, value_name = "PID", requires = "through")]
    pub pid: Option<u32>,
    /// Admin address of that Optgate, for what its metrics say of the rewrite memo
    #[arg(long, value_name = "ADDR", requires = "through")]
    pub admin: Option<String>,
    /// Path and query to ask for
    #[arg(long, value_name = "PATH", default_value = "/", value_parser = path)]
    pub path: Uri,
    /// Field of the requests, like 'Sec-GPC: 1'; repeatable
    #[arg(long, value_name = "NAME: VALUE", value_parser = field)]
    pub header: Vec<(HeaderName, HeaderValue)>,
    /// Requests a second, direct and as many proxied; several are measured one after the other
    #[arg(long, value_name = "R[,R...]", value_delimiter = ',', default_values_t = [100, 500],
          value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Vec<u32>,
    /// How long each rate is measured, after a warm-up of a tenth of that (half a second at least)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub duration: Duration,
    /// Most connections to each side [default: enough for answers that take 100 ms, at least 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub connections: Option<u16>,
    /// Form of the report
    #[arg(long, value_enum, default_value_t, value_name = "text|json")]
    pub format: Output,
    /// Also write the report as an HTML page with plots
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Fail with exit code 1 if a 99th percentile to the last byte grows by more than this, like 2ms or 300us
    #[arg(long, value_name = "TIME", value_parser = short_duration)]
    pub max_added_p99: Option<Duration>,
}

fn path(text: &str) -> Result<Uri, String> {
    let uri = text.starts_with('/').then(|| text.parse::<Uri>().ok()).flatten();
    uri.ok_or_else(|| "write a path with its query, like /shop?page=2, without host or blanks".to_owned())
}

fn field(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    const NEXT: &str = "write a name, a colon and a value, like 'Sec-GPC: 1'";
    let (name, value) = text.split_once(':').ok_or(NEXT)?;
    let name = name.trim().parse::<HeaderName>().map_err(|_| NEXT)?;
    if matches!(name, header::CONTENT_LENGTH | header::TRANSFER_ENCODING | header::CONNECTION) {
        return Err(format!("{name} belongs to the connection, and the requests have no body"));
    }
    Ok((name, HeaderValue::from_str(value.trim()).map_err(|_| NEXT)?))
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = units::parse_duration(text).map_err(|c| format!("{}; {}", c.why, c.next))?;
    let fits = (Duration::from_millis(500)..=Duration::from_secs(86_400)).contains(&duration);
    fits.then_some(duration).ok_or_else(|| "write half a second (\"500ms\") to a day (\"24h\")".to_owned())
}

fn short_duration(text: &str) -> Result<Duration, String> {
    match text.strip_suffix("us").and_then(|number| number.trim().parse().ok()) {
        Some(us) => Ok(Duration::from_micros(us)),
        None => units::parse_duration(text)
            .map_err(|c| format!("{}; {}, or microseconds: \"300us\"", c.why, c.next)),
    }
}

/// Measures, and writes the report.
///
/// # Errors
/// Nothing could be measured; more was added than allowed; or, with exit code 3, the figures say nothing sure.
pub fn run(global: &Global, args: &BenchArgs, out: &mut impl Write) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())
        .context("cannot start the sender")?;
    let report = runtime.block_on(async {
        let (mut interrupted, mut ended) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        // When this future goes, so does the Optgate of its own, with its folder.
        tokio::select! {
            report = measure(global, args) => report,
            _ = interrupted.recv() => Err(anyhow::anyhow!("interrupted: nothing is reported").into()),
            _ = ended.recv() => Err(anyhow::anyhow!("stopped: nothing is reported").into()),
        }
    })?;
    match args.format {
        Output::Text => text::write(out, &report)?,
        Output::Json => {
            let json = serde_json::to_string_pretty(&report).context("cannot write the report as JSON")?;
            writeln!(out, "{json}")?;
        }
    }
    if let Some(file) = &args.html {
        let page = html::page(&report)?;
        std::fs::write(file, page).with_context(|| format!("--html: cannot write {}", file.display()))?;
    }
    conclude(&report.verdict)
}

/// How the command ends: 3 where nothing sure can be said, whatever was asked; 1 where more was added than allowed.
fn conclude(verdict: &Verdict) -> Result<(), Failure> {
    if !verdict.inconclusive.is_empty() {
        return Err(Failure::Incomplete(verdict.inconclusive.clone()));
    }
    match verdict.within {
        Some(false) => Err(anyhow::Error::msg(text::verdict(verdict)).into()),
        _ => Ok(()),
    }
}

async fn measure(global: &Global, args: &BenchArgs) -> Result<Report, Failure> {
    let environment = Environment::here();
    if environment.build == "debug" {
        eprintln!("note: this is a debug build, many times slower than `cargo build --release`");
    }
    let most = args.connections.map_or_else(|| enough(&args.rate), usize::from);
    let asked = Rc::new(Asked { path: args.path.clone(), headers: headers(&args.header) });
    // The site first: without it there is nothing to measure, and an Optgate in front would only hide why.
    let direct = Side::new(Target::of("--upstream", &args.upstream)?, Rc::clone(&asked), most);
    let status = direct.probe().await?;
    if status.is_client_error() || status.is_server_error() {
        let (url, path) = (&args.upstream, &args.path);
        let next = "name a page that it serves with --path, or what it needs with --header";
        return Err(anyhow::anyhow!("{url} answers {status} to GET {path}: {next}").into());
    }
    let proxy = match &args.through {
        Some(url) => Proxy::running(global, args, url)?,
        None => Proxy::start(global, args).await?,
    };
    let flag = if proxy.is_own() { "the Optgate of its own" } else { "--through" };
    let mut target = Target::of(flag, &proxy.url)?;
    if proxy.is_own() {
        // The very same requests: what the site answers may depend on its name.
        target.authority = direct.target().authority.clone();
    }
    let proxied = Side::new(target, asked, most);
    let through = proxied.probe().await?;
    if through != status {
        return Err(differs(&direct, &proxied, (status, through)).into());
    }
    direct.must_answer(status);
    proxied.must_answer(status);

    let warm_up = (args.duration / 10).max(Duration::from_millis(500));
    let mut runs = Vec::new();
    for rate in &args.rate {
        load::run(&direct, &proxied, *rate, warm_up).await;
        let mut inside = Inside { memo: (proxy.memo().await, None), used: (proxy.used(), None) };
        let measured = load::run(&direct, &proxied, *rate, args.duration).await;
        inside.used.1 = proxy.used();
        inside.memo.1 = proxy.memo().await;
        runs.push(Run::of(*rate, &measured, &inside));
    }
    let subject = Subject {
        path: args.path.to_string(),
        headers: args.header.iter().map(|(name, _)| name.to_string()).collect(),
        direct: args.upstream.clone(),
        proxied: proxy.url.clone(),
        own: proxy.is_own(),
        seconds: args.duration.as_secs_f64(),
        warm_up_seconds: warm_up.as_secs_f64(),
        connections: most,
    };
    let most_added = args.max_added_p99.map(|most| most.as_secs_f64() * 1e6);
    let verdict = Verdict::of(&runs, most_added);
    Ok(Report { environment, subject, runs, verdict })
}

/// Both sides must do the same work, or the difference is not Optgate's.
fn differs(direct: &Side, proxied: &Side, (status, through): (StatusCode, StatusCode)) -> anyhow::Error {
    let next = match through {
        StatusCode::MISDIRECTED_REQUEST => {
            "no site of the settings has this host: add --header 'Host: NAME' with one"
        }
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            "Optgate cannot use the site: is its upstream right?"
        }
        through if through.is_redirection() => {
            "Optgate sends visitors to https here: measure with --through https://..."
        }
        _ => "look at both with `curl -i`",
    };
    let (site, proxy) = (&direct.target().url, &proxied.target().url);
    anyhow::anyhow!("{site} answers {status}, but through Optgate ({proxy}) it is {through}: {next}")
}

fn headers(given: &[(HeaderName, HeaderValue)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        headers.append(name, value.clone());
    }
    headers
}

/// Connections for answers that take 100 ms at the highest rate.
fn enough(rates: &[u32]) -> usize {
    let most = rates.iter().copied().max().unwrap_or_default();
    usize::try_from(most / 10).unwrap_or_default().clamp(8, 1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_or_say_what_to_write() {
        assert_eq!(path("/a?b=1").unwrap(), "/a?b=1");
        for bad in ["", "a", "http://a/", "/a b"] {
            assert!(path(bad).unwrap_err().contains("/shop?page=2"), "{bad}");
        }
        let (name, value) = field("Sec-GPC: 1").unwrap();
        assert_eq!((name.as_str(), value.as_bytes()), ("sec-gpc", &b"1"[..]));
        for bad in ["Sec-GPC", ": 1", "a b: 1", "x: a\u{7}", "Content-Length: 3"] {
            assert!(field(bad).is_err(), "{bad}");
        }
        assert_eq!(short_duration("300us").unwrap(), Duration::from_micros(300));
        assert_eq!(short_duration("2ms").unwrap(), Duration::from_millis(2));
        assert!(short_duration("2").unwrap_err().contains("300us"));
        assert!(duration("100ms").is_err() && duration("2s").is_ok());
    }

    /// An exit code for a threshold; what is not sure neither passes nor fails it.
    #[test]
    fn the_exit_code_is_the_verdicts() {
        let verdict = |inconclusive: &[&str], within: Option<bool>| Verdict {
            inconclusive: inconclusive.iter().map(|why| (*why).to_owned()).collect(),
            max_added_p99_us: within.map(|_| 2_000.0),
            added_p99_us: 2_500.0,
            within,
        };
        assert!(conclude(&verdict(&[], None)).is_ok() && conclude(&verdict(&[], Some(true))).is_ok());
        let over = conclude(&verdict(&[], Some(false))).unwrap_err();
        let mut said = Vec::new();
        over.report(&mut said);
        assert_eq!(over.exit_code(), 1);
        assert_eq!(said, b"optgate: added p99: 2.500 ms, above the 2.000 ms allowed\n");
        let unsure = conclude(&verdict(&["rate 5: busy"], None)).unwrap_err();
        assert_eq!(unsure.exit_code(), 3);
    }

    #[test]
    fn connections_suffice_for_answers_of_a_tenth_of_a_second() {
        assert_eq!((enough(&[10]), enough(&[100, 500]), enough(&[100_000])), (8, 50, 1_024));
    }
}
