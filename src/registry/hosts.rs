//! What a registry host must look like.

/// What is wrong with a written host, if anything.
pub(super) fn fault(host: &str) -> Option<&'static str> {
    if !host.is_ascii() {
        return Some("it is not ASCII; write its punycode form (`xn--...`)");
    }
    if host.contains("://") || host.contains(['/', ':', '?', '#', '@']) {
        return Some("it holds more than a name (scheme, port, path or user)");
    }
    if host.contains('*') {
        return Some("it holds a wildcard; a host already includes its subdomains");
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("it holds upper-case letters");
    }
    if host.len() > 253 {
        return Some("it is longer than 253 characters");
    }
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if !host.split('.').all(label_fits) {
        return Some("a label is empty, too long, or holds a character that no host name has");
    }
    let last = host.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|b| b.is_ascii_digit()) {
        return Some("it is an address, not a name");
    }
    // Such a suffix would take in every site below it.
    let everyone = suffix_type(host) == Some(psl::Type::Icann);
    (!host.contains('.') || everyone).then_some("it is a public suffix: every site below it would match")
}

/// Whether customers of a service live on this host's subdomains or paths (`s3.amazonaws.com`), so that
/// it can never be one product's as a whole.
pub(super) fn is_rented_out(host: &str) -> bool {
    suffix_type(host) == Some(psl::Type::Private)
}

/// The kind of public suffix that the whole host is.
fn suffix_type(host: &str) -> Option<psl::Type> {
    psl::suffix(host.as_bytes()).filter(|suffix| suffix.as_bytes() == host.as_bytes())?.typ()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_bare_lower_case_name_is_a_host() {
        for good in
            ["t.co", "a-b.example.com", "_x.example.com", "xn--bcher-kva.example", "adtrafficquality.google"]
        {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in [
            "",
            ".",
            "com",
            "co.uk",
            "Example.com",
            "example.com.",
            ".example.com",
            "a..b",
            "*.example.com",
            "example.com:443",
            "https://example.com",
            "example.com/x",
            "-a.com",
            "a-.com",
            "1.2.3.4",
            "b\u{fc}.de",
            "a b.com",
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
    }
}
