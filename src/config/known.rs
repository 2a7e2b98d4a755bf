//! Third parties that the operator knows: they stay where others go as unknown (`unknown = "strip"`).

use url::Host;

use super::Site;
use super::key::KeyPath;
use super::meaning::Problems;

/// Reads hosts as they are written; each stands for its subdomains too.
pub(super) fn known(path: &KeyPath, written: &[String], problems: &mut Problems<'_>) -> Vec<String> {
    let mut known = Vec::new();
    for (i, text) in written.iter().enumerate() {
        let (why, next) = match read(text) {
            Ok(host) => {
                known.push(host);
                continue;
            }
            Err(complaint) => complaint,
        };
        let path = path.at(i);
        problems.wrong(&path, format!("`{path}` cannot be used"), &format!("\"{text}\" {why}"), &next);
    }
    known
}

/// The host in the form of look-ups, or why it is none and what to write.
fn read(text: &str) -> Result<String, (&'static str, String)> {
    if let Some(rest) = text.strip_prefix("*.") {
        return Err((
            "has a wildcard, and a host stands for its subdomains already",
            format!("write \"{rest}\""),
        ));
    }
    match Host::parse(text.trim_end_matches('.')) {
        Ok(Host::Domain(domain)) if domain.contains('*') => {}
        Ok(Host::Domain(domain)) if is_everybodys(&domain) => {
            let next = format!("write the name below it that is meant, like \"name.{domain}\"");
            return Err(("is a public suffix: whoever has a name below it would be known", next));
        }
        Ok(host) => return Ok(host.to_string()),
        Err(_) => {}
    }
    Err((
        "is more or less than a host",
        "write the name alone, without scheme, port or path: \"cdn.example.net\"".to_owned(),
    ))
}

/// Whether anybody can have a name below this one: `co.uk`, and what a service rents out (`cloudfront.net`).
fn is_everybodys(domain: &str) -> bool {
    psl::suffix(domain.as_bytes())
        .is_some_and(|suffix| suffix.is_known() && suffix.as_bytes().len() == domain.len())
}

/// Says of every site which hosts are its own and its group's.
pub(super) fn join(sites: &mut [Site]) {
    for at in 0..sites.len() {
        let group = sites.iter().filter(|other| other.scope == sites[at].scope);
        let mut own: Vec<String> =
            group.flat_map(|site| site.hosts.iter().chain(&site.first_party_hosts)).cloned().collect();
        own.sort_unstable();
        own.dedup();
        sites[at].policy.own = own;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_host_is_a_name_or_an_address_that_not_everybody_has() {
        for (text, host) in [
            ("cdn.example.net", "cdn.example.net"),
            ("CDN.Example.net.", "cdn.example.net"),
            ("b\u{fc}cher.example", "xn--bcher-kva.example"),
            ("d111.cloudfront.net", "d111.cloudfront.net"),
            ("intranet", "intranet"),
            ("10.0.0.7", "10.0.0.7"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(host), "{text}");
        }
        for (text, next) in [
            ("https://cdn.example.net", "write the name alone"),
            ("cdn.example.net/lib", "write the name alone"),
            ("cdn.example.net:8443", "write the name alone"),
            ("cdn.*.net", "write the name alone"),
            ("", "write the name alone"),
            ("*.example.net", "write \"example.net\""),
            ("co.uk", "like \"name.co.uk\""),
            ("cloudfront.net", "like \"name.cloudfront.net\""),
        ] {
            assert!(read(text).is_err_and(|(_, told)| told.contains(next)), "{text}");
        }
    }
}
