//! A browser as far as choices go: a cookie jar (RFC 6265), and whether it sends the signal.

use std::net::SocketAddr;

use super::client::{Client, Response};

/// One cookie as a browser keeps it.
#[derive(Debug, Clone, PartialEq)]
struct Kept {
    name: String,
    value: String,
    /// The host that set it, or the domain it was set for.
    domain: String,
    host_only: bool,
    path: String,
}

impl Kept {
    fn goes_to(&self, host: &str, path: &str) -> bool {
        let below =
            host.strip_suffix(&self.domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        (if self.host_only { host == self.domain } else { below }) && path.starts_with(&self.path)
    }
}

/// One browser.
#[derive(Debug, Clone)]
pub struct Browser {
    proxy: SocketAddr,
    jar: Vec<Kept>,
    /// It sends `Sec-GPC: 1`.
    pub gpc: bool,
}

impl Browser {
    /// A new browser, for sites behind this address.
    pub fn new(proxy: SocketAddr) -> Self {
        Self { proxy, jar: Vec::new(), gpc: false }
    }

    /// The same with the signal switched on.
    pub fn with_gpc(mut self) -> Self {
        self.gpc = true;
        self
    }

    /// From now on the sites are behind another address.
    pub fn moves_to(&mut self, proxy: SocketAddr) {
        self.proxy = proxy;
    }

    /// Asks for a page.
    pub fn get(&mut self, host: &str, path: &str) -> Response {
        self.send("GET", host, path, "")
    }

    /// Sends a form.
    pub fn post(&mut self, host: &str, path: &str, form: &str) -> Response {
        self.send("POST", host, path, form)
    }

    /// Forgets every cookie.
    pub fn clear(&mut self) {
        self.jar.clear();
    }

    /// Keeps a cookie as if a host had set it.
    pub fn keep(&mut self, host: &str, line: &str) {
        self.take(host, line);
    }

    /// Forgets the cookies of this name.
    pub fn lose(&mut self, name: &str) {
        self.jar.retain(|kept| kept.name != name);
    }

    /// Values of the cookies of this name that a host would get.
    pub fn values(&self, host: &str, name: &str) -> Vec<&str> {
        let sent = self.jar.iter().filter(|kept| kept.name == name && kept.goes_to(host, "/"));
        sent.map(|kept| kept.value.as_str()).collect()
    }

    /// The two acts of opting back in, the second with `more` fields; gives the last answer.
    pub fn opt_in(&mut self, host: &str, more: &str) -> Response {
        let token = self.ask(host, "opt-in");
        self.post(host, "/privacy-choices/opt-in/confirm", &format!("token={token}{more}"))
    }

    /// The first of two acts; gives the token of its form.
    pub fn ask(&mut self, host: &str, act: &str) -> String {
        let page = self.post(host, &format!("/privacy-choices/{act}"), "").text();
        let token = page.split("name=\"token\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        token.unwrap_or_else(|| panic!("no form: {page}")).to_owned()
    }

    fn send(&mut self, method: &str, host: &str, path: &str, form: &str) -> Response {
        let pairs: Vec<_> = self.jar.iter().filter(|kept| kept.goes_to(host, path)).collect();
        let pairs: Vec<_> = pairs.iter().map(|kept| format!("{}={}", kept.name, kept.value)).collect();
        let cookies =
            if pairs.is_empty() { String::new() } else { format!("Cookie: {}\r\n", pairs.join("; ")) };
        let gpc = if self.gpc { "Sec-GPC: 1\r\n" } else { "" };
        let body = match method {
            "POST" => format!(
                "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n",
                form.len()
            ),
            _ => "Accept: text/html\r\n".to_owned(),
        };
        let head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{gpc}{cookies}{body}\r\n{form}");
        let answer = Client::connect(self.proxy).send(head).response(method);
        for line in answer.head.all("set-cookie") {
            self.take(host, line);
        }
        answer
    }

    fn take(&mut self, host: &str, line: &str) {
        let mut parts = line.split(';').map(str::trim);
        let (name, value) = parts.next().and_then(|pair| pair.split_once('=')).unwrap();
        let attributes: Vec<_> = parts.map(|part| part.split_once('=').unwrap_or((part, ""))).collect();
        let attribute = |wanted: &str| {
            attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| *value)
        };
        let domain = attribute("domain").map(|domain| domain.trim_start_matches('.'));
        let kept = Kept {
            name: name.to_owned(),
            value: value.to_owned(),
            domain: domain.unwrap_or(host).to_owned(),
            host_only: domain.is_none(),
            path: attribute("path").unwrap_or("/").to_owned(),
        };
        if !kept.host_only && !kept.goes_to(host, &kept.path) {
            // RFC 6265, 5.3: for somebody else's domain nothing is kept.
            return;
        }
        self.jar.retain(|old| {
            (&old.name, &old.domain, old.host_only, &old.path)
                != (&kept.name, &kept.domain, kept.host_only, &kept.path)
        });
        if attribute("max-age") != Some("0") {
            self.jar.push(kept);
        }
    }
}
