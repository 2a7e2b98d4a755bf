//! Which content coding: what the client accepts, what we may ask the origin for.

use http::HeaderMap;
use http::header::{ACCEPT_ENCODING, HeaderValue};

use crate::enforce::fields;

/// A content coding that can be taken off and put on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// None.
    Identity,
    /// `gzip`, also called `x-gzip`.
    Gzip,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
    /// `deflate`; read in zlib's and in the raw form, written in zlib's.
    Deflate,
}

impl Coding {
    /// Reads one coding name; `None` for one that cannot be decoded.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if name.is_empty() || is("identity") => Some(Self::Identity),
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("br") => Some(Self::Brotli),
            () if is("zstd") => Some(Self::Zstd),
            () if is("deflate") => Some(Self::Deflate),
            () => None,
        }
    }

    /// Value of `Content-Encoding`; `None` for identity, which is never named there.
    #[must_use]
    pub const fn header_value(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
            Self::Zstd => Some("zstd"),
            Self::Deflate => Some("deflate"),
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Identity => 0,
            Self::Gzip => 1,
            Self::Brotli => 2,
            Self::Zstd => 3,
            Self::Deflate => 4,
        }
    }
}

/// Order among codings that a client likes equally: best value for our CPU time first.
const PREFERENCE: [Coding; 4] = [Coding::Zstd, Coding::Brotli, Coding::Gzip, Coding::Deflate];

/// What browsers and tools send, word for word. All of it can be taken off, so nothing has to go.
const USUAL: [(&str, Accepts); 5] = [
    ("gzip, deflate, br, zstd", Accepts { weights: [1, 1000, 1000, 1000, 1000] }),
    ("gzip, deflate, br", Accepts { weights: [1, 1000, 1000, 0, 1000] }),
    ("gzip, deflate", Accepts { weights: [1, 1000, 0, 0, 1000] }),
    ("gzip", Accepts { weights: [1, 1000, 0, 0, 0] }),
    ("identity", Accepts { weights: [1000, 0, 0, 0, 0] }),
];

/// What a request's field says, if that is usual.
fn usual(headers: &HeaderMap) -> Option<Accepts> {
    let mut lines = headers.get_all(ACCEPT_ENCODING).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    USUAL.iter().find(|(words, _)| line == words).map(|(_, accepts)| *accepts)
}

/// What an `Accept-Encoding` says about the codings we know, in thousandths (RFC 9110, 12.5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepts {
    weights: [u16; 5],
}

impl Accepts {
    /// Nothing was said: only identity is safe to send.
    pub const NONE: Self = Self { weights: [1, 0, 0, 0, 0] };

    /// Reads the request's fields. Codings that are not listed are not accepted, unless `*` says so.
    #[must_use]
    pub fn read(headers: &HeaderMap) -> Self {
        usual(headers).unwrap_or_else(|| Self::read_items(headers))
    }

    fn read_items(headers: &HeaderMap) -> Self {
        let mut weights: [Option<u16>; 5] = [None; 5];
        let mut star = None;
        for (name, weight) in items(headers) {
            if name == "*" {
                star = Some(weight);
            } else if let Some(coding) = Coding::of(name) {
                weights[coding.index()] = Some(weight);
            }
        }
        let mut all = weights.map(|weight| weight.or(star).unwrap_or(0));
        // Identity is acceptable unless it is ruled out; unnamed, it comes after all others.
        all[0] = weights[0].or(star.filter(|&w| w == 0)).unwrap_or(1);
        Self { weights: all }
    }

    /// The coding to send: the highest weight, then zstd, br, gzip, deflate; identity when it is liked better.
    #[must_use]
    pub fn choose(self) -> Coding {
        let mut best = Coding::Identity;
        // A client that rules out identity and everything we have gets identity all the same.
        let mut weight = self.weights[0];
        let identity_named = weight > 1;
        for coding in PREFERENCE {
            let w = self.weights[coding.index()];
            let better = if best == Coding::Identity && !identity_named { w > 0 } else { w > weight };
            // On equal terms with a named identity a coding is still the better value.
            if better || (best == Coding::Identity && w > 0 && w == weight) {
                (best, weight) = (coding, w);
            }
        }
        best
    }

    /// Whether any coding but identity is accepted.
    #[must_use]
    pub fn any(self) -> bool {
        self.weights[1..].iter().any(|&w| w > 0)
    }
}

/// Narrows a request's `Accept-Encoding` to what can be decoded; gives whether that changed it.
///
/// The client's own items, order and weights stay; only what we cannot decode, refusals and `*` go.
/// Without a field (any coding would be acceptable then) or without a usable item it is `identity`.
pub fn narrow(headers: &mut HeaderMap) -> bool {
    usual(headers).is_none() && narrow_items(headers)
}

fn narrow_items(headers: &mut HeaderMap) -> bool {
    let mut kept = String::new();
    let mut dropped = !headers.contains_key(ACCEPT_ENCODING);
    for (item, name, weight) in raw_items(headers) {
        if weight > 0 && matches!(Coding::of(name), Some(coding) if coding != Coding::Identity) {
            if !kept.is_empty() {
                kept.push_str(", ");
            }
            kept.push_str(item);
        } else {
            dropped |= !name.eq_ignore_ascii_case("identity");
        }
    }
    if kept.is_empty() {
        // `*` alone: name the codings it stands for.
        kept.push_str(if Accepts::read(headers).any() { "gzip, br, zstd" } else { "identity" });
    }
    if !dropped && headers.get_all(ACCEPT_ENCODING).iter().count() == 1 {
        return false;
    }
    let Ok(value) = HeaderValue::try_from(kept) else {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        return true;
    };
    headers.insert(ACCEPT_ENCODING, value);
    dropped
}

fn items(headers: &HeaderMap) -> impl Iterator<Item = (&str, u16)> {
    raw_items(headers).map(|(_, name, weight)| (name, weight))
}

/// Items with their name and weight. A field that is no text counts as absent.
fn raw_items(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str, u16)> {
    fields::items(headers, &ACCEPT_ENCODING).filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|p| p.strip_prefix("q=").or_else(|| p.strip_prefix("Q=")));
        Some((item, name, weight.map_or(1000, thousandths)))
    })
}

/// A weight in thousandths; what cannot be read counts as full weight, as most servers do.
fn thousandths(text: &str) -> u16 {
    match text.trim().parse::<f32>() {
        Ok(q) if (0.0..=1.0).contains(&q) => (q * 1000.0).round() as u16,
        _ => 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for line in lines {
            map.append(ACCEPT_ENCODING, HeaderValue::from_static(line));
        }
        map
    }

    /// RFC 9110, 12.5.3: weights decide, 0 refuses, `*` stands for the unlisted.
    #[test]
    fn the_coding_with_the_highest_weight_is_chosen() {
        for (lines, want) in [
            (&[][..], Coding::Identity),
            (&["identity"], Coding::Identity),
            (&[""], Coding::Identity),
            (&["gzip, deflate, br, zstd"], Coding::Zstd),
            (&["gzip, deflate, br"], Coding::Brotli),
            (&["gzip, deflate"], Coding::Gzip),
            (&["deflate"], Coding::Deflate),
            (&["gzip;q=1.0, br;q=0.5"], Coding::Gzip),
            (&["gzip;q=0, br;Q=0.001"], Coding::Brotli),
            (&["*"], Coding::Zstd),
            (&["*, zstd;q=0"], Coding::Brotli),
            (&["*;q=0"], Coding::Identity),
            (&["identity;q=0, x-gzip"], Coding::Gzip),
            (&["identity;q=1, gzip;q=0.5"], Coding::Identity),
            (&["identity, gzip"], Coding::Gzip),
            (&["identity;q=0.5, *;q=0"], Coding::Identity),
            (&["br", "zstd;q=0.2"], Coding::Brotli),
            (&["dcz, dcb"], Coding::Identity),
        ] {
            assert_eq!(Accepts::read(&headers(lines)).choose(), want, "{lines:?}");
        }
    }

    /// What is known without reading is what reading gives.
    #[test]
    fn usual_words_are_taken_as_they_are_read() {
        for (words, accepts) in USUAL {
            let mut map = headers(&[words]);
            assert_eq!((usual(&map), Accepts::read_items(&map)), (Some(accepts), accepts), "{words}");
            assert!(!narrow_items(&mut map) && map == headers(&[words]), "{words}");
        }
        assert_eq!(usual(&headers(&["gzip", "gzip"])), None);
        assert_eq!(usual(&headers(&[])), None);
    }

    #[test]
    fn only_codings_we_can_take_off_are_asked_for() {
        for (lines, want, narrowed) in [
            (&["gzip, deflate, br, zstd"][..], "gzip, deflate, br, zstd", false),
            (&["gzip, br, dcb, dcz"], "gzip, br", true),
            (&["gzip;q=0.8, compress"], "gzip;q=0.8", true),
            (&["compress"], "identity", true),
            (&["identity"], "identity", false),
            (&["*"], "gzip, br, zstd", true),
            (&["gzip;q=0"], "identity", true),
            (&["gzip", "br"], "gzip, br", false),
            (&[], "identity", true),
        ] {
            let mut map = headers(lines);
            assert_eq!(narrow(&mut map), narrowed, "{lines:?}");
            let sent: Vec<_> = map.get_all(ACCEPT_ENCODING).iter().collect();
            assert_eq!(sent, [want], "{lines:?}");
        }
    }
}
