//! Connections that go on as another protocol.

use std::rc::Rc;
use std::sync::Arc;

use http::Response;
use hyper::upgrade::Upgraded;

use super::super::attempt::{Attempt, Outgoing};
use super::{Answer, Asking, Held, Live, Pool, UpstreamBody};
use crate::edge::error::ProxyError;
use crate::edge::timer;

/// Both ends of an upgraded connection to the origin.
#[derive(Debug)]
pub struct Tunnel {
    /// The 101 head.
    pub head: http::response::Parts,
    /// The bytes after it.
    pub upgraded: Upgraded,
    /// To be kept until the tunnel ends.
    pub held: Held,
}

impl Pool {
    /// Sends an upgrade request over a connection of its own.
    ///
    /// # Errors
    /// [`Attempt::NotSent`] leaves the request in its place, for another origin.
    pub async fn send_upgrade(
        self: &Rc<Self>,
        request: &mut Outgoing,
        asking: Asking,
    ) -> Result<Result<Tunnel, Answer>, Attempt> {
        let Asking { client, load } = asking;
        let place = self.place().await.map_err(Attempt::NotSent)?;
        // Whoever gave the place up may have left a connection, and this request wants a fresh one.
        if place.is_some() {
            drop(self.checkout(client, |live| live.place.is_none()));
        }
        let live = self.open(client).await.map_err(Attempt::NotSent)?;
        let Live { mut sender, machine, expected, open, .. } = live;
        let request = request.take().ok_or(Attempt::GONE)?;
        expected.answer(true, false);
        let figures = Some(Arc::clone(&self.figures));
        let held = Held { _load: load, _place: place, _open: Some(open), stream: None, figures };
        let driver = machine.0.map(|connection| tokio::task::spawn_local(connection.with_upgrades()));
        let sent = timer::within(self.limits.first_byte, sender.send_request(request)).await;
        let response = sent.ok_or(Attempt::Failed(ProxyError::FirstByteTimeout))?.map_err(Attempt::failed)?;
        if response.status() != http::StatusCode::SWITCHING_PROTOCOLS {
            // The connection ends with this answer; its task drives the body.
            drop(driver);
            let between = self.limits.between_bytes;
            return Ok(Err(response.map(|body| UpstreamBody::detached(body, between, held))));
        }
        let (head, body) = response.into_parts();
        let mut for_upgrade = Response::from_parts(head.clone(), body);
        let upgraded = hyper::upgrade::on(&mut for_upgrade).await.map_err(Attempt::failed)?;
        Ok(Ok(Tunnel { head, upgraded, held }))
    }
}
