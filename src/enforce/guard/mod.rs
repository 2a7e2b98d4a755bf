//! The script placed first in an opted-out document, and the harmless stand-ins for stripped files.
//!
//! SKELETON: `guard.js` says `navigator.globalPrivacyControl === true`; the full guard comes later.

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
pub fn element() -> &'static str {
    todo!()
}

/// CSP source expression of the script's text: `'sha256-...'`.
#[must_use]
pub fn csp_hash() -> &'static str {
    todo!()
}

/// Stand-ins: `e.js` (script), `e.css` (style sheet), `e.gif` (image).
#[must_use]
pub fn asset(_name: &str) -> Option<Asset> {
    todo!()
}
