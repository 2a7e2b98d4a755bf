//! The harmless stand-ins for stripped files.

use std::sync::LazyLock;

use super::stubs;

/// A script that loads and runs, and does nothing but define what is late of the vendor whose file it stands for.
static E_JS: LazyLock<String> = LazyLock::new(|| format!("/* optgate */\n{}\n", stubs::late_of_element()));

/// A module that takes everything, for imports that ask for its default or for a common name; without any, what
/// imports it would not run at all (ECMAScript 16.2.1.7).
const E_MJS: &[u8] = b"/* optgate */
const it = new Proxy(function () {}, {
  get: (_, key) => key === Symbol.toPrimitive ? () => \"\" : key === \"then\" || typeof key === \"symbol\" ? void 0 : it,
  apply: () => it, construct: () => it
});
export {
  it as default, it as init, it as initialize, it as load, it as start, it as config, it as configure, it as create,
  it as track, it as page, it as identify, it as event, it as send, it as push, it as trackEvent, it as pageview
};
";

/// What a module that imports data finds.
const E_JSON: &[u8] = b"{}";

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

/// Stand-ins: `e.js` (script), `e.mjs` (module), `e.json` (data), `e.css` (style sheet), `e.gif` (image).
#[must_use]
pub fn asset(name: &str) -> Option<Asset> {
    let (content_type, body) = match name {
        "e.js" => ("text/javascript; charset=utf-8", E_JS.as_bytes()),
        "e.mjs" => ("text/javascript; charset=utf-8", E_MJS),
        "e.json" => ("application/json", E_JSON),
        "e.css" => ("text/css; charset=utf-8", E_CSS),
        "e.gif" => ("image/gif", E_GIF),
        _ => return None,
    };
    Some(Asset { content_type, body })
}

/// The stand-in of this name as what a request takes: a module may be imported as data or as style, and one of
/// another type would stop what imports it (HTML, 8.1.4.2). `destination`: its `Sec-Fetch-Dest`.
#[must_use]
pub fn asset_as(name: &str, destination: Option<&[u8]>) -> Option<Asset> {
    match (name, destination) {
        (MODULE, Some(b"json")) => asset("e.json"),
        (MODULE, Some(b"style")) => asset("e.css"),
        _ => asset(name),
    }
}

/// What `import` finds in a tracker's place; its answer varies with `Sec-Fetch-Dest`.
pub const MODULE: &str = "e.mjs";

#[cfg(test)]
mod tests {
    use super::*;

    /// Every stub address that the rewriter writes has an answer.
    #[test]
    fn the_stand_ins_are_there_under_their_types() {
        for (name, content_type) in [
            ("e.js", "text/javascript"),
            ("e.mjs", "text/javascript"),
            ("e.json", "application/json"),
            ("e.css", "text/css"),
            ("e.gif", "image/gif"),
        ] {
            let asset = asset(name).unwrap();
            assert!(asset.content_type.starts_with(content_type), "{name}");
            assert!(!asset.body.is_empty(), "{name}");
        }
        assert!(asset("e.png").is_none());
        assert!(asset("e.gif").is_some_and(|a| a.body.len() == 43 || a.body.len() == 42));
    }

    /// HTML 8.1.4.2: what is imported with a type must be of that type.
    #[test]
    fn a_module_is_of_the_type_that_it_is_imported_as() {
        let kind = |name, dest| asset_as(name, dest).unwrap().content_type;
        assert_eq!(kind("e.mjs", Some(b"json")), "application/json");
        assert!(kind("e.mjs", Some(b"style")).starts_with("text/css"));
        for dest in [Some(&b"script"[..]), Some(b"empty"), None] {
            assert!(kind("e.mjs", dest).starts_with("text/javascript"), "{dest:?}");
        }
        assert!(kind("e.js", Some(b"json")).starts_with("text/javascript"));
        assert!(asset_as("e.png", Some(b"json")).is_none());
    }
}
