//! A start tag of XML, judged and written.

use super::super::characters::as_bytes;
use super::super::elements::{Edit, Rel, judge};
use super::super::inject::Placed;
use super::super::references::{Place, decode};
use super::super::slots::{Meta, Slot, slot};
use super::super::{RewriteError, inline};
use super::tag::{Attribute, Tag, split};
use super::{Held, Reader, Role, Root, Sheet, Space};

/// One change to a tag.
struct Change {
    start: usize,
    end: usize,
    text: Vec<u8>,
}

/// An element as it stands in the document.
struct Element<'a> {
    tag: Tag<'a>,
    space: Space,
    /// Without its prefix, as the judges want it; empty for an element that means nothing.
    local: String,
}

impl Reader {
    /// Takes a start tag: namespaces, judgement, and what its end will mean.
    pub(super) fn start(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<(), RewriteError> {
        let tag = Tag::read(bytes);
        self.depth += 1;
        self.declare(&tag)?;
        let (prefix, local) = split(tag.name);
        let space = self.space(prefix);
        if matches!(self.root, Root::Awaited { .. }) {
            self.decide(space, local, bytes, out)?;
            if self.root == Root::Untouched {
                return Ok(());
            }
        }
        let element = Element { tag, space, local: meaning(space, local) };
        let changes = match self.state.opted_out && !element.local.is_empty() {
            true => self.changes(&element)?,
            false => Vec::new(),
        };
        if let Some(error) = self.state.failed {
            return Err(error);
        }
        let role = self.role(&element)?;
        self.put_changed(bytes, &changes, out);
        self.open(role);
        if tag.empty {
            // It is its own end.
            self.end_tag(b"", &mut Vec::new())?;
        }
        Ok(())
    }

    /// Reads the namespace declarations of a tag, and every attribute once for its form.
    fn declare(&mut self, tag: &Tag<'_>) -> Result<(), RewriteError> {
        for attribute in tag.attributes() {
            let attribute = attribute?;
            let prefix = match attribute.name {
                b"xmlns" => b"",
                name => match name.strip_prefix(b"xmlns:") {
                    Some(prefix) => prefix,
                    None => continue,
                },
            };
            let uri = self.value(&attribute)?;
            let space = Space::of(&decode(&uri, Place::Attribute));
            if !self.scope.bind(self.depth, prefix, space) {
                return Err(RewriteError::Memory);
            }
        }
        Ok(())
    }

    /// The namespace of a prefix; any when the document type gives bindings of its own.
    fn space(&self, prefix: &[u8]) -> Space {
        match self.scope.resolve(prefix) {
            Space::Other if self.entities.binds => Space::Unbound,
            space => space,
        }
    }

    /// A value with the document's own entities in their places, each byte a character; HTML's references
    /// are for the judges, who know all that an XML parser knows.
    fn value(&self, attribute: &Attribute<'_>) -> Result<String, RewriteError> {
        let expanded = self.entities.expand(attribute.value)?;
        Ok(self.state.urls.charset.text(&expanded).into_owned())
    }

    /// An attribute's name as the judges want it; `None` when it means nothing.
    fn attribute_name(&self, name: &[u8]) -> Option<String> {
        let (prefix, local) = split(name);
        let meant = if prefix.is_empty() {
            local.to_vec()
        } else if matches!(self.space(prefix), Space::Link | Space::Unbound) {
            [b"xlink:", local].concat()
        } else if name == b"xml:base" {
            return Some("xml:base".to_owned());
        } else {
            return None;
        };
        String::from_utf8(meant).ok().filter(|name| !name.bytes().any(|b| b.is_ascii_uppercase()))
    }

    /// An attribute's value, decoded.
    fn read(&self, tag: &Tag<'_>, name: &[u8]) -> Result<Option<String>, RewriteError> {
        let found = tag.attributes().filter_map(Result::ok).find(|a| a.name == name);
        let Some(attribute) = found else { return Ok(None) };
        Ok(Some(decode(&self.value(&attribute)?, Place::Attribute).into_owned()))
    }

    /// What has to change in a tag.
    fn changes(&mut self, element: &Element<'_>) -> Result<Vec<Change>, RewriteError> {
        let (tag, local) = (&element.tag, element.local.as_str());
        let rel = match local {
            "link" => Rel::of(&self.read(tag, b"rel")?.unwrap_or_default()),
            _ => Rel::default(),
        };
        let meta = match local {
            "meta" => {
                Meta::of(self.read(tag, b"http-equiv")?.as_deref(), self.read(tag, b"name")?.as_deref())
            }
            _ => Meta::Other,
        };
        let mut changes = Vec::new();
        let mut culprit = None;
        for attribute in tag.attributes() {
            let attribute = attribute?;
            let Some(name) = self.attribute_name(attribute.name) else { continue };
            let slot = if name == "xml:base" { Some(Slot::Url) } else { slot(local, &name, meta) };
            let Some(slot) = slot else { continue };
            let value = self.value(&attribute)?;
            let Some((vendor, edit)) = judge(&mut self.state, slot, &rel, &value)? else { continue };
            culprit = culprit.or(vendor);
            changes.push(match edit {
                Edit::Set(value) => {
                    Change { start: attribute.quote, end: attribute.end, text: quoted(&value) }
                }
                Edit::Remove => Change { start: attribute.start, end: attribute.end, text: Vec::new() },
            });
        }
        if !changes.is_empty() && matches!(local, "script" | "link") {
            for attribute in tag.attributes().filter_map(Result::ok).filter(|a| a.name == b"integrity") {
                changes.push(Change { start: attribute.start, end: attribute.end, text: Vec::new() });
            }
            changes.sort_by_key(|change| change.start);
        }
        if let Some(vendor) = culprit
            && tag.attribute(b"data-optgate").is_none()
        {
            let at = 1 + tag.name.len();
            let text = format!(" data-optgate=\"strip:{}\"", self.state.vendor(vendor)).into_bytes();
            changes.insert(0, Change { start: at, end: at, text });
        }
        Ok(changes)
    }

    fn put_changed(&mut self, tag: &[u8], changes: &[Change], out: &mut Vec<u8>) {
        let mut at = 0;
        for change in changes {
            self.put(&tag[at..change.start], out);
            self.put(&change.text, out);
            at = change.end;
        }
        self.put(&tag[at..], out);
    }

    /// What the element means for the document, and what its end will mean.
    fn role(&mut self, element: &Element<'_>) -> Result<Option<Role>, RewriteError> {
        let tag = &element.tag;
        let html = element.space == Space::Html;
        let holds = self.state.opted_out && self.held.is_none() && !tag.empty;
        Ok(match (element.local.as_str(), html) {
            ("base", true) if self.state.templates == 0 => {
                if let Some(href) = tag.attributes().filter_map(Result::ok).find(|a| a.name == b"href") {
                    let value = self.value(&href)?;
                    self.state.urls.set_base(&value);
                }
                None
            }
            ("script", _) if holds => {
                self.runs_inline(tag, element.space)?.then_some(Role::Held(Sheet::Script))
            }
            ("style", _) if holds => Some(Role::Held(Sheet::Style)),
            ("template", true) => Some(Role::Template),
            ("article" | "section" | "aside", true) => Some(Role::Section),
            ("frameset", true) => {
                self.state.link.frameset |= !self.state.link.body;
                None
            }
            ("svg", _) if self.state.link.in_anchor() => Some(Role::Drawing),
            ("a", true) if self.state.link.is_wanted() && self.state.templates == 0 => {
                tag.attribute(b"href").map(|_| {
                    self.state.link.anchor_begins(self.depth);
                    Role::Anchor(self.depth)
                })
            }
            (local, true) => self.place_of(local, tag.empty),
            _ => None,
        })
    }

    /// The element is open.
    fn open(&mut self, role: Option<Role>) {
        let Some(role) = role else { return };
        match role {
            Role::Template => self.state.templates += 1,
            Role::Section => self.state.link.sections += 1,
            Role::Drawing => self.state.link.drawings += 1,
            Role::Held(sheet) => self.held = Some(Held::new(sheet, self.depth)),
            Role::Place | Role::Anchor(_) => {}
        }
        self.roles.push((self.depth, role));
    }

    /// Whether a script's own text runs.
    fn runs_inline(&self, tag: &Tag<'_>, space: Space) -> Result<bool, RewriteError> {
        let external = match space {
            Space::Html => tag.attribute(b"src").is_some(),
            Space::Svg => tag.attributes().filter_map(Result::ok).any(|a| split(a.name).1 == b"href"),
            _ => false,
        };
        let (kind, language) = (self.read(tag, b"type")?, self.read(tag, b"language")?);
        Ok(!external && inline::executable(kind.as_deref(), language.as_deref()))
    }

    /// The link's place is at the end of the page's footer, else of its body, else of its root.
    fn place_of(&mut self, local: &str, empty: bool) -> Option<Role> {
        if empty || self.state.link.placed != Placed::Waiting || self.state.templates > 0 {
            return None;
        }
        let link = &mut self.state.link;
        let first = match local {
            "footer" if link.sections == 0 => !std::mem::replace(&mut link.footer, true),
            "footer" => false,
            "body" => !std::mem::replace(&mut link.body, true),
            _ => self.depth == 1,
        };
        first.then_some(Role::Place)
    }
}

/// The name by which an element is judged; empty when no browser gives it a style or a handler.
///
/// The judges know names in lower case: SVG writes some with capitals (`foreignObject`), and read as HTML they have
/// none. In XHTML a name with capitals is no element of HTML, whatever it looks like; but it takes a style.
fn meaning(space: Space, local: &[u8]) -> String {
    let name = String::from_utf8_lossy(local);
    match space {
        Space::Html => name.into_owned(),
        Space::Svg | Space::Math | Space::Unbound => name.to_ascii_lowercase(),
        Space::Link | Space::Other => String::new(),
    }
}

/// A value in double quotes. References in it stay; what would end it or is no reference is written as one.
fn quoted(value: &str) -> Vec<u8> {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for (at, c) in value.char_indices() {
        match c {
            '"' => text.push_str("&quot;"),
            '<' => text.push_str("&lt;"),
            '&' if !is_reference(&value[at + 1..]) => text.push_str("&amp;"),
            c => text.push(c),
        }
    }
    text.push('"');
    as_bytes(&text).into_owned()
}

fn is_reference(tail: &str) -> bool {
    let near = &tail.as_bytes()[..tail.len().min(32)];
    let Some(end) = memchr::memchr(b';', near) else { return false };
    match &near[..end] {
        [b'#', b'x', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit),
        [b'#', digits @ ..] => !digits.is_empty() && digits.iter().all(u8::is_ascii_digit),
        name => !name.is_empty() && name.iter().all(u8::is_ascii_alphanumeric),
    }
}
