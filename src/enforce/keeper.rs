//! The small script behind the opt-out link that puts it back when the page's own scripts drop it, and has a page loaded
//! anew that the back/forward cache shows as it stood before its visitor opted out.
//!
//! For every visitor, since the link is the duty (Civil Code 1798.135(a)(1)) and frameworks that render the
//! whole document throw out what they did not render. One text for all sites, so that one CSP hash admits it.
//! It stands where our line stands, so on no frame, fragment or frameset and on no page that has a link of
//! its own; AMP pages are checked as a whole and have none, nor have documents served as XML.

use std::sync::{Arc, LazyLock};

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use super::guard::minify::minify;

/// What stands between the tags, and its CSP source.
static TEXT: LazyLock<(String, String)> = LazyLock::new(|| {
    let text = minify(include_str!("keeper.js"));
    let hash = format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text.as_bytes())));
    (text, hash)
});

/// CSP source expression of the script's text: `'sha256-...'`.
#[must_use]
pub fn csp_hash() -> &'static str {
    &TEXT.1
}

/// The keeper as one response carries it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keeper {
    /// A nonce of the response's own policies.
    pub nonce: Option<Arc<str>>,
}

impl Keeper {
    /// Appends the whole `<script>...</script>` element, ASCII only.
    ///
    /// Cost: one copy of a kilobyte; no allocation where `out` has [`Keeper::room`].
    pub fn append_to(&self, out: &mut String) {
        out.push_str("<script data-optgate=\"keeper\"");
        if let Some(nonce) = &self.nonce {
            out.push_str(" nonce=\"");
            out.push_str(nonce);
            out.push('"');
        }
        out.push('>');
        out.push_str(&TEXT.0);
        out.push_str("</script>");
    }

    /// Bytes that the element takes at most.
    #[must_use]
    pub fn room(&self) -> usize {
        TEXT.0.len() + self.nonce.as_ref().map_or(0, |nonce| nonce.len()) + 64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(nonce: Option<&str>) -> String {
        let keeper = Keeper { nonce: nonce.map(Arc::from) };
        let mut element = String::with_capacity(keeper.room());
        let room = element.capacity();
        keeper.append_to(&mut element);
        assert_eq!(element.capacity(), room, "the room is enough");
        element
    }

    /// It goes to every visitor with every page: bytes count, and the page's charset must not matter.
    #[test]
    fn the_keeper_is_small_ascii_and_closes_its_own_element_only() {
        let element = element(Some("n"));
        println!("keeper: {} bytes, its text {}", element.len(), TEXT.0.len());
        assert!(element.starts_with("<script data-optgate=\"keeper\" nonce=\"n\">(function"), "{element}");
        assert!(element.is_ascii() && !element.contains("<!--"));
        assert_eq!(element.to_ascii_lowercase().matches("</script").count(), 1);
        assert!(TEXT.0.len() <= 1024, "{}: {}", TEXT.0.len(), TEXT.0);
    }

    /// CSP3 6.7.3.3: the hash is over the text between the tags and nothing else.
    #[test]
    fn the_hash_is_of_the_text_between_the_tags() {
        let element = element(None);
        let text = element.split_once('>').and_then(|(_, t)| t.strip_suffix("</script>")).unwrap();
        assert_eq!(csp_hash(), format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text.as_bytes()))));
    }
}
