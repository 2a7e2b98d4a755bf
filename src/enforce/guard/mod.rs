//! The script placed first in an opted-out document, and the harmless stand-ins for stripped files.
//!
//! For now `guard.js` makes `navigator.globalPrivacyControl` read `true` (Global Privacy Control,
//! "JavaScript Property to Detect Preference"); a later issue makes it stop requests too.

use std::sync::LazyLock;

use data_encoding::BASE64;
use sha2::{Digest, Sha256};

/// The script's text, exactly as it stands between the tags.
const SCRIPT: &str = include_str!("guard.js");

const ELEMENT: &str = concat!("<script data-optgate=\"guard\">", include_str!("guard.js"), "</script>");

static CSP_HASH: LazyLock<String> =
    LazyLock::new(|| format!("'sha256-{}'", BASE64.encode(&Sha256::digest(SCRIPT.as_bytes()))));

/// An empty script: loads, runs, does nothing.
const E_JS: &[u8] = b"/* optgate */\n";

/// An empty style sheet.
const E_CSS: &[u8] = b"/* optgate */\n";

/// One transparent pixel: GIF89a, a palette of two, the first one transparent.
const E_GIF: &[u8] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xFF\xFF\xFF\x21\xF9\x04\x01\x00\x00\x00\x00\x2C\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x01\x44\x00\x3B";

/// A harmless stand-in served below the portal prefix (`PREFIX/assets/NAME`).
#[derive(Debug, Clone, Copy)]
pub struct Asset {
    /// `Content-Type`.
    pub content_type: &'static str,
    /// Body.
    pub body: &'static [u8],
}

/// The whole `<script>...</script>` element, ASCII only.
#[must_use]
pub const fn element() -> &'static str {
    ELEMENT
}

/// What stands before a worker's own script: whole statements on one line, ASCII, no directive, no import, and
/// nothing that could fail in it reaches the worker.
#[must_use]
pub const fn worker_prefix() -> &'static str {
    "try{Object.defineProperty(Object.getPrototypeOf(self.navigator),\"globalPrivacyControl\",\
     {get:function(){return true},configurable:true,enumerable:true})}catch(e){}"
}

/// CSP source expression of the script's text: `'sha256-...'`.
#[must_use]
pub fn csp_hash() -> &'static str {
    &CSP_HASH
}

/// Whether the guard can hold a vendor to its restricted mode. Not yet: it neither denies consent
/// defaults nor stops requests, so `restrict` is carried out as `strip` until it does.
#[must_use]
pub const fn can_restrict() -> bool {
    false
}

/// Stand-ins: `e.js` (script), `e.css` (style sheet), `e.gif` (image).
#[must_use]
pub fn asset(name: &str) -> Option<Asset> {
    let (content_type, body) = match name {
        "e.js" => ("text/javascript; charset=utf-8", E_JS),
        "e.css" => ("text/css; charset=utf-8", E_CSS),
        "e.gif" => ("image/gif", E_GIF),
        _ => return None,
    };
    Some(Asset { content_type, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `rewriting.md` 5: `meta charset` must stay within 1,024 bytes behind the guard, and the page's
    /// charset must not matter.
    #[test]
    fn the_guard_is_small_ascii_and_closes_its_own_element_only() {
        assert!(element().len() < 600, "{} bytes", element().len());
        assert!(element().is_ascii());
        assert_eq!(element().matches("</script").count(), 1);
        assert!(!element().contains("<!--"));
        assert!(element().contains("\"globalPrivacyControl\""));
    }

    /// CSP3 6.7.3.3: the hash is over the text between the tags and nothing else.
    #[test]
    fn the_hash_is_of_the_text_between_the_tags() {
        let text = element().split_once('>').and_then(|(_, t)| t.strip_suffix("</script>")).unwrap();
        let expected = format!("'sha256-{}'", BASE64.encode(&Sha256::digest(text.as_bytes())));
        assert_eq!(csp_hash(), expected);
    }

    /// Every stub address that the rewriter writes has an answer.
    #[test]
    fn the_stand_ins_are_there_under_their_types() {
        for (name, content_type) in
            [("e.js", "text/javascript"), ("e.css", "text/css"), ("e.gif", "image/gif")]
        {
            let asset = asset(name).unwrap();
            assert!(asset.content_type.starts_with(content_type), "{name}");
            assert!(!asset.body.is_empty(), "{name}");
        }
        assert!(asset("e.png").is_none());
        assert!(asset("e.gif").is_some_and(|a| a.body.len() == 43 || a.body.len() == 42));
    }
}
