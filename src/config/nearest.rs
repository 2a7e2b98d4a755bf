//! "Did you mean": the known name that a slip of the fingers most likely meant.

/// The one of these names that is nearest to what was written, if one is near at all.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let score = |name: &str| strsim::jaro_winkler(written, name);
    known
        .into_iter()
        .filter(|name| score(name) > 0.82 || strsim::damerau_levenshtein(written, name) <= 2)
        .max_by(|a, b| score(a).total_cmp(&score(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let known = ["listen", "upstream", "url", "google-ads", "google-analytics"];
        for (written, meant) in [
            ("listn", Some("listen")),
            ("upstraem", Some("upstream")),
            ("ulr", Some("url")),
            ("gogle-analytics", Some("google-analytics")),
            ("turnip", None),
            ("", None),
        ] {
            assert_eq!(nearest(written, known), meant, "{written}");
        }
    }
}
