//! Active checks: each origin is asked for a path now and then, by one task for the whole process.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, Version, header};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::group::{Group, Member};
use super::health::Streak;
use crate::config::Health;

/// Who asks, in the origins' logs.
const AGENT: &str = concat!("optgate-check/", env!("CARGO_PKG_VERSION"));

/// Checks one of a site's origins for ever; not at all where no path is set.
///
/// `host`: the site's, for origins that have none of their own.
pub async fn watch(group: Arc<Group>, at: usize, host: Option<String>) {
    let (Some(member), Some(settings)) = (group.members.get(at), &group.sharing.health) else { return };
    let mut streak = Streak::new(member.health.tell(0).checked);
    let mut ticks = tokio::time::interval(settings.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let asked = tokio::time::timeout(settings.timeout, ask(member, settings, host.as_deref())).await;
        let (well, why) = match asked {
            Ok(Ok(status)) => {
                let (first, last) = settings.status;
                let well = (first..=last).contains(&status.as_u16());
                (well, format!("its check is answered {}", status.as_u16()))
            }
            Ok(Err(error)) => (false, format!("its check failed: {error:#}")),
            Err(_) => (false, "its check was not answered in time".to_owned()),
        };
        if !well {
            member.figures.bad_checks.inc();
        }
        if let Some(well) = streak.note(well, settings.rises, settings.falls) {
            group.checked(at, well, &why, group.moment(Instant::now()));
        }
    }
}

/// Asks once; gives the status. The connection ends with the answer's head.
async fn ask(member: &Member, settings: &Health, host: Option<&str>) -> anyhow::Result<StatusCode> {
    let upstream = &member.connector.upstream;
    let own = upstream.address.authority();
    let host = settings.host.as_deref().or(upstream.host.as_deref()).or(host).unwrap_or(&own);
    // No client stands behind a check.
    let io = TokioIo::new(member.connector.dial(None).await?.io);
    let request = Request::get(&settings.path).header(header::USER_AGENT, AGENT);
    if upstream.http2 {
        let scheme = if upstream.tls.is_some() { "https" } else { "http" };
        let uri = Uri::builder().scheme(scheme).authority(host).path_and_query(settings.path.as_str());
        let request = request.uri(uri.build()?).version(Version::HTTP_2).body(Empty::<Bytes>::new())?;
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        return first(sender.send_request(request), connection).await;
    }
    let request = request.header(header::HOST, host).header(header::CONNECTION, "close");
    let (mut sender, connection) = http1::handshake(io).await?;
    first(sender.send_request(request.body(Empty::<Bytes>::new())?), connection).await
}

/// The answer's status, with the connection driven until it is there.
async fn first<B>(
    answer: impl Future<Output = hyper::Result<http::Response<B>>>,
    connection: impl Future<Output = hyper::Result<()>>,
) -> anyhow::Result<StatusCode> {
    let (mut answer, mut connection) = (std::pin::pin!(answer), std::pin::pin!(connection));
    tokio::select! {
        biased;
        answer = &mut answer => Ok(answer?.status()),
        // It may end together with the answer.
        _ = &mut connection => Ok(answer.await?.status()),
    }
}
