//! Financial incentive programmes that an account may keep in spite of its opt-out (11 CCR 7025(c)(4)).

use url::Url;

use super::key::KeyPath;
use super::meaning::Problems;
use super::raw::{Raw, RawProgramme, RawSite};

/// A programme of a site, as its consumers are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programme {
    /// Its name.
    pub name: String,
    /// What it is, and what leaving it means.
    pub text: Option<String>,
    /// Where its terms are: a path of the site, or a URL.
    pub url: Option<String>,
    /// Registry ids of the vendors to whom it sells or shares.
    pub vendors: Vec<String>,
}

/// Whether a link can lead there: a path of the site, or a whole URL.
pub(super) fn leads_to_a_page(url: &str) -> bool {
    let web = Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    web || url.starts_with('/') && !url.starts_with("//")
}

/// A site's own programme, or that of all sites.
pub(super) fn programme(
    path: &KeyPath,
    raw: &Raw,
    site: &RawSite,
    problems: &mut Problems<'_>,
) -> Option<Programme> {
    match (&site.programme, &raw.programme) {
        (Some(own), _) => read(&path.key("programme"), raw, own, problems),
        (None, Some(shared)) => read(&KeyPath::of("programme"), raw, shared, problems),
        (None, None) => None,
    }
}

fn read(path: &KeyPath, raw: &Raw, written: &RawProgramme, problems: &mut Problems<'_>) -> Option<Programme> {
    let mut missing = |key: &str, why: &str, next: &str| {
        let path = path.key(key);
        problems.missing(&path, format!("`{path}` is missing"), why, next);
    };
    let name = written.name.clone().filter(|name| !name.trim().is_empty());
    if name.is_none() {
        missing("name", "people must know what they would leave", "add name = \"Coupons\"");
    }
    if written.text.is_none() && written.url.is_none() {
        let why = "people must be told of the conflict in words they understand (11 CCR 7025(c)(4))";
        missing("text", why, "add text = \"...\", or url = \"/coupons/terms\", or both");
    }
    if written.vendors.0.is_empty() {
        let why = "it is an exception for those to whom the programme sells, and for nobody else";
        missing(
            "vendors",
            why,
            "name them by registry id: vendors = [\"meta-pixel\"] (`optgate registry list`)",
        );
    }
    if written.url.as_deref().is_some_and(|url| !leads_to_a_page(url)) {
        let path = path.key("url");
        let next = "write a path like \"/coupons/terms\", or a whole URL";
        problems.wrong(&path, format!("`{path}` cannot be used"), "no link could lead there", next);
    }
    let account = &raw.account;
    if account.header.is_none() && account.jwt.is_none() && account.response_header.is_none() {
        problems.wrong(
            path,
            format!("`{path}` needs an account"),
            "only a consumer who is known can keep a programme (11 CCR 7025(c)(4)), and [account] names nobody",
            "say in [account] how accounts are known, or remove the programme: then every signal is processed fully",
        );
    }
    Some(Programme {
        name: name?,
        text: written.text.clone(),
        url: written.url.clone(),
        vendors: written.vendors.0.clone(),
    })
}
