//! A small shop of the old kind, on loopback: ten common trackers embedded as sites really embed
//! them, hints, frames, pixels, tracker cookies beside a session cookie, a `Link` preload header.
//!
//! Its pages are markup only. Nothing here sends a request anywhere.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::routing::get;
use http::header::{CONTENT_TYPE, LINK, SET_COOKIE};
use http::{HeaderValue, Response, StatusCode};
use tokio::net::TcpListener;

/// Tags that stand in the head of every page.
const HEAD: &str = include_str!("pages/head.html");
/// Tags and footer that stand at the end of every page.
const FOOT: &str = include_str!("pages/foot.html");
const HOME: &str = include_str!("pages/home.html");
const PRODUCT: &str = include_str!("pages/product.html");
const CHECKOUT: &str = include_str!("pages/checkout.html");
const STYLE: &str = include_str!("pages/shop.css");

/// The session is the shop's own and must survive; the rest belongs to trackers.
const COOKIES: [&str; 6] = [
    "shop_session=c0ffee42; Path=/; HttpOnly; SameSite=Lax",
    "_fbp=fb.1.1700000000000.1029384756; Path=/; Max-Age=7776000; SameSite=Lax",
    "_gcl_au=1.1.564738291.1700000000; Path=/; Max-Age=7776000",
    "_ttp=2fTkPexample; Path=/; Max-Age=34128000",
    "_uetsid=7a1b2c3d4e5f; Path=/; Max-Age=86400",
    "_pin_unauth=dWlkPWV4YW1wbGU; Path=/; Max-Age=31536000",
];

const LINKS: &str = "</shop.css>; rel=preload; as=style, \
    <https://connect.facebook.net/en_US/fbevents.js>; rel=preload; as=script, \
    <https://static.criteo.net>; rel=preconnect";

/// Starts the shop on a free loopback port, as a task of the current runtime; it lives as long as that.
///
/// # Errors
/// When no loopback port can be opened.
pub async fn spawn() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router()).await {
            tracing::error!(%error, "the demo shop stopped");
        }
    });
    Ok(address)
}

fn router() -> Router {
    Router::new()
        .route("/", get(async || page("Fern & Clay", HOME)))
        .route("/product/{number}", get(product))
        .route("/checkout", get(async || page("Checkout - Fern & Clay", CHECKOUT)))
        .route("/shop.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/img/{name}", get(picture))
}

async fn product(Path(number): Path<String>) -> Response<Body> {
    if number == "1" {
        return page("Tall vase - Fern & Clay", PRODUCT);
    }
    let mut response = page("Not found - Fern & Clay", "<main><h1>Not found</h1></main>\n");
    *response.status_mut() = StatusCode::NOT_FOUND;
    response
}

async fn picture(Path(name): Path<String>) -> Response<Body> {
    let colour = if name.starts_with("bowl") { "#7a5c48" } else { "#4f6f52" };
    let svg = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 80 80"><rect width="80" height="80" fill="{colour}"/></svg>"#
    );
    file("image/svg+xml", &svg)
}

fn page(title: &str, body: &str) -> Response<Body> {
    let title = title.replace('&', "&amp;");
    let text = format!("{}{body}{FOOT}", HEAD.replace("{title}", &title));
    let mut response = file("text/html; charset=utf-8", &text);
    let headers = response.headers_mut();
    for cookie in COOKIES {
        headers.append(SET_COOKIE, HeaderValue::from_static(cookie));
    }
    headers.insert(LINK, HeaderValue::from_static(LINKS));
    response
}

fn file(kind: &'static str, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(text.to_owned()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use tower::ServiceExt as _;

    async fn text(path: &str) -> (StatusCode, String) {
        let request = http::Request::get(path).body(Body::empty()).unwrap();
        let response = router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    /// The ten trackers the demo promises, on every page.
    #[tokio::test]
    async fn every_page_embeds_the_ten_trackers() {
        for path in ["/", "/product/1", "/checkout"] {
            let (status, page) = text(path).await;
            assert_eq!(status, StatusCode::OK);
            for host in [
                "googletagmanager.com/gtm.js",
                "googletagmanager.com/gtag/js",
                "googletagmanager.com/ns.html",
                "connect.facebook.net",
                "facebook.com/tr?id=",
                "analytics.tiktok.com",
                "s.pinimg.com/ct/core.js",
                "snap.licdn.com",
                "bat.bing.com/bat.js",
                "criteo.com/js/ld/ld.js",
                "static.hotjar.com",
                "doubleclick.net",
            ] {
                assert!(page.contains(host), "{path} lacks {host}");
            }
            assert!(page.contains("<footer") && page.contains("srcset") && page.contains("</html>"));
        }
    }

    #[tokio::test]
    async fn a_product_that_does_not_exist_is_not_found() {
        assert_eq!(text("/product/9").await.0, StatusCode::NOT_FOUND);
    }
}
