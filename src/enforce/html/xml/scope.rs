//! Namespaces in scope (Namespaces in XML 1.0, 6).

/// A namespace, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Space {
    /// XHTML.
    Html,
    /// SVG.
    Svg,
    /// MathML.
    Math,
    /// XLink.
    Link,
    /// None, or a prefix that nothing binds: read as if it could be any.
    Unbound,
    /// Another.
    Other,
}

/// Namespace of XHTML.
pub(super) const XHTML: &str = "http://www.w3.org/1999/xhtml";

impl Space {
    /// The namespace of a name, as written in a declaration.
    pub(super) fn of(uri: &str) -> Self {
        match uri {
            XHTML => Self::Html,
            "http://www.w3.org/2000/svg" => Self::Svg,
            "http://www.w3.org/1998/Math/MathML" => Self::Math,
            "http://www.w3.org/1999/xlink" => Self::Link,
            "" => Self::Unbound,
            _ => Self::Other,
        }
    }
}

#[derive(Debug)]
struct Binding {
    depth: u32,
    prefix: Box<[u8]>,
    space: Space,
}

/// Bindings that may be in scope at once; no page has more, and each look-up passes them.
const MOST: usize = 4096;

/// The bindings in scope.
#[derive(Debug, Default)]
pub(super) struct Scope {
    bindings: Vec<Binding>,
}

impl Scope {
    /// Takes a declaration on the element at this depth. False when there are too many.
    pub(super) fn bind(&mut self, depth: u32, prefix: &[u8], space: Space) -> bool {
        self.bindings.push(Binding { depth, prefix: prefix.into(), space });
        self.bindings.len() <= MOST
    }

    /// Ends every element deeper than this.
    pub(super) fn leave(&mut self, depth: u32) {
        while self.bindings.last().is_some_and(|binding| binding.depth > depth) {
            self.bindings.pop();
        }
    }

    /// What a prefix stands for; the empty one for the default namespace.
    pub(super) fn resolve(&self, prefix: &[u8]) -> Space {
        if prefix == b"xml" || prefix == b"xmlns" {
            return Space::Other;
        }
        let found = self.bindings.iter().rev().find(|binding| *binding.prefix == *prefix);
        found.map_or(Space::Unbound, |binding| binding.space)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_declaration_counts_until_its_element_ends() {
        let mut scope = Scope::default();
        assert_eq!(scope.resolve(b""), Space::Unbound);
        assert!(scope.bind(1, b"", Space::of(XHTML)) && scope.bind(1, b"x", Space::Link));
        assert!(scope.bind(3, b"", Space::of("http://www.w3.org/2000/svg")));
        assert_eq!(
            (scope.resolve(b""), scope.resolve(b"x"), scope.resolve(b"y")),
            (Space::Svg, Space::Link, Space::Unbound)
        );
        scope.leave(2);
        assert_eq!(scope.resolve(b""), Space::Html);
        scope.leave(0);
        assert_eq!(scope.resolve(b"x"), Space::Unbound);
        assert_eq!(scope.resolve(b"xml"), Space::Other);
        assert!((0..MOST).all(|_| scope.bind(1, b"p", Space::Other)) && !scope.bind(1, b"p", Space::Other));
    }
}
