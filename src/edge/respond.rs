//! x
use http::{Request,Response}; use hyper::body::Incoming; use std::rc::Rc;
use super::body::{Body,RequestBody}; use super::error::ProxyError; use super::exchange::Exchange; use super::house::Core; use super::upstream::Answer;
#[derive(Debug)]
pub struct Sent;
impl Sent { pub fn of(_r:&Request<RequestBody>,_x:&Exchange)->Self{Self} pub fn copy(&self,_x:&Exchange)->Option<()> {None} }
pub fn refused(_c:&Core,_x:&Exchange,e:&ProxyError)->Response<Body>{ e.respond() }
pub async fn reserved(_c:&Rc<Core>,_x:&Exchange,_r:Request<Incoming>)->Result<Response<Body>,ProxyError>{ Err(ProxyError::BadTarget) }
pub fn collector(_c:&Core,_x:&Exchange,_h:crate::registry::Hit)->Response<Body>{ Response::new(Body::empty()) }
pub async fn tunnel(core:&Core,x:&Exchange,mut request:Request<RequestBody>,downstream:hyper::upgrade::OnUpgrade,_s:&Sent)->Result<Response<Body>,ProxyError>{
    let origin = core.turn(x.site().connectors.len());
    let pool = core.pool(&x.snapshot,&x.site(),origin).ok_or(ProxyError::Internal("the site has no origin"))?;
    super::corridor::aim(&mut request,x,origin);
    match pool.send_upgrade(request).await? {
        Ok(tunnel) => { super::upgrade::join(downstream,tunnel.upgraded,x.snapshot.settings.timeouts.tunnel_idle); Ok(Response::from_parts(tunnel.head,Body::empty())) }
        Err(answer) => Ok(answer.map(Body::Upstream)),
    }
}
pub fn prepare_request(_c:&Core,_x:&Exchange,_p:&mut http::request::Parts){}
pub async fn answer(_c:&Rc<Core>,_x:&Exchange,_s:&Sent,answer:Answer,_again:Option<()>)->Result<Response<Body>,ProxyError>{
    let (mut parts, body)=answer.into_parts(); parts.version=http::Version::HTTP_11;
    super::hop::remove(&mut parts.headers,false);
    Ok(Response::from_parts(parts,Body::Upstream(body)))
}
