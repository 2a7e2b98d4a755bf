//! The origins of a site, as its `upstream` names them.

use super::key::KeyPath;
use super::load::Merged;
use super::meaning::{self, Problems};
use super::raw::{RawSite, RawUpstreamTable};
use super::sharing::MOST_ORIGINS;
use super::written::{Origin, RawUpstream};
use super::{ProxyProtocol, Upstream, UpstreamTls};

/// Reads them, in their order.
pub(super) fn upstreams(
    merged: &Merged,
    path: &KeyPath,
    site: &RawSite,
    problems: &mut Problems<'_>,
) -> Vec<Upstream> {
    let path = path.key("upstream");
    // The one site of a bare `upstream` was complained about where that is read.
    if site.upstream.0.is_empty() && !merged.raw.sites.is_empty() {
        problems.missing(
            &path,
            format!("`{path}` is missing"),
            "a site is served from its origin",
            "add upstream = \"http://127.0.0.1:3000\" to this site",
        );
    }
    if site.upstream.0.len() > MOST_ORIGINS {
        problems.wrong(
            &path,
            format!("`{path}` is too long"),
            &format!("{} origins; the limit is {MOST_ORIGINS}", site.upstream.0.len()),
            "name fewer origins; a name may stand for any number of addresses",
        );
    }
    let mut out: Vec<Upstream> = Vec::new();
    for (i, written) in site.upstream.0.iter().enumerate() {
        match written {
            RawUpstream::Url(url) => out.push(from_url(url)),
            RawUpstream::Table(table) => {
                // A single table may be written without a list around it.
                let path = if merged.is_list(&path) { path.at(i) } else { path.clone() };
                out.extend(from_table(&path, table, problems));
            }
        }
    }
    if !out.is_empty() && out.iter().all(|upstream| upstream.backup) {
        problems.wrong(
            &path,
            format!("`{path}` names backups only"),
            "a backup stands in for origins that fail, and there are none",
            "remove `backup` from one of them",
        );
    }
    out
}

fn from_url(origin: &Origin) -> Upstream {
    let url = &origin.0;
    Upstream {
        address: url.address.clone(),
        tls: url.tls.clone(),
        http2: url.http2,
        host: None,
        label: url.text.clone(),
        weight: 1,
        backup: false,
        max_connections: None,
        proxy_protocol: ProxyProtocol::Off,
    }
}

fn from_table(path: &KeyPath, table: &RawUpstreamTable, problems: &mut Problems<'_>) -> Option<Upstream> {
    let Some(url) = &table.url else {
        let path = path.key("url");
        problems.missing(
            &path,
            format!("`{path}` is missing"),
            "the table says how to reach an origin, but not which",
            "add url = \"http://127.0.0.1:3000\"",
        );
        return None;
    };
    let mut upstream = from_url(url);
    if url.0.tls.is_none() {
        refuse_roots_without_tls(path, table, problems);
    }
    upstream.http2 = table.http2.unwrap_or(upstream.http2);
    share_of(&mut upstream, path, table, problems);
    if let Some(host) = &table.host {
        if http::uri::Authority::try_from(host.as_str()).is_err() || host.contains('@') {
            let path = path.key("host");
            problems.wrong(
                &path,
                format!("`{path}` is no host"),
                "it is sent to the origin as `Host` (RFC 9110, section 7.2)",
                "write a name, with a port if it needs one: \"shop.internal\"",
            );
        }
        upstream.host = Some(host.clone());
        // An address in the URL says where to connect; the certificate is for the name that is sent.
        if let Some(tls) = &mut upstream.tls
            && tls.server_name.parse::<std::net::IpAddr>().is_ok()
        {
            tls.server_name = without_port(host);
        }
    }
    if let (Some(tls), Some(roots)) = (&mut upstream.tls, &table.roots) {
        let file = meaning::readable(&path.key("roots"), roots, "a PEM file of roots", problems);
        *tls = UpstreamTls { server_name: tls.server_name.clone(), roots: Some(file) };
    }
    Some(upstream)
}

/// An origin's part among several.
fn share_of(upstream: &mut Upstream, path: &KeyPath, table: &RawUpstreamTable, problems: &mut Problems<'_>) {
    let mut count = |name: &str, written: Option<usize>| {
        let value = written?;
        meaning::within(path.key(name), value as u64, 1, 100_000, problems);
        Some(value)
    };
    let weight = count("weight", table.weight.map(|weight| weight as usize));
    upstream.weight = weight.and_then(|weight| u32::try_from(weight).ok()).unwrap_or(1);
    upstream.max_connections = count("max_connections", table.max_connections);
    upstream.backup = table.backup;
    upstream.proxy_protocol = table.proxy_protocol;
    if upstream.http2 && upstream.proxy_protocol != ProxyProtocol::Off {
        let path = path.key("proxy_protocol");
        problems.wrong(
            &path,
            format!("`{path}` cannot be used with HTTP/2"),
            "one HTTP/2 connection carries the requests of many clients, and the header names one",
            "use http:// or https:// without `http2`, or remove `proxy_protocol`",
        );
    }
}

fn refuse_roots_without_tls(path: &KeyPath, table: &RawUpstreamTable, problems: &mut Problems<'_>) {
    if table.roots.is_some() {
        let path = path.key("roots");
        problems.wrong(
            &path,
            format!("`{path}` needs an https origin"),
            "roots verify a certificate, and this origin is reached without one",
            "write the URL with https://, or remove `roots`",
        );
    }
}

fn without_port(host: &str) -> String {
    match host.parse::<http::uri::Authority>() {
        Ok(authority) => authority.host().trim_matches(['[', ']']).to_owned(),
        Err(_) => host.to_owned(),
    }
}
