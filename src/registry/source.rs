//! One registry file: TOML text in, checked entries with their places out.
//!
//! ```toml
//! schema = 1
//!
//! [[vendor]]
//! id = "acme-pixel"
//! vendor = "Acme"
//! product = "Acme Pixel"
//! role = "sale-share"                 # or service-provider, essential
//! category = "advertising"
//! hosts = [{ host = "acme.example", paths = ["/pixel"] }]
//! ```

use std::ops::Range;

use toml_edit::{Array, Document, Item, TableLike, Value};

use super::error::{Fault, Place, RegistryError};
use super::hosts;
use super::pattern::PathPrefix;
use super::vendor::{Category, HostRule, How, RestrictedCall, Role, Vendor};
use crate::config::nearest::nearest;

/// Version of the schema.
const SCHEMA: i64 = 1;

const TOP_KEYS: [&str; 6] = ["schema", "vendor", "collector", "never_delete", "mixed_use", "person_params"];
const COLLECTOR_KEYS: [&str; 5] = ["vendor", "path", "query", "method", "headers"];
const HOST_KEYS: [&str; 2] = ["host", "paths"];
const CALL_KEYS: [&str; 3] = ["global", "how", "args"];
const VENDOR_KEYS: [&str; 18] = [
    "id",
    "vendor",
    "product",
    "role",
    "category",
    "hosts",
    "globals",
    "inline_markers",
    "weak_markers",
    "first_party_cookies",
    "third_party_cookies",
    "storage_keys",
    "link_params",
    "restricted_mode",
    "restricted_calls",
    "stub",
    "breaks",
    "note",
];

/// Something with the byte offset it was written at.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) offset: usize,
}

/// An entry and where its parts are.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) vendor: Vendor,
    /// Of the id.
    pub(super) offset: usize,
    /// Of the hosts.
    pub(super) hosts: HostPlaces,
}

/// The offset of each host, and of each of its paths.
pub(super) type HostPlaces = Vec<(usize, Vec<usize>)>;

/// A first-party path that a vendor's data travel through.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Collector {
    /// Whose, by id.
    pub vendor: String,
    /// The whole path; `*` stands for any run of characters.
    pub path: String,
    /// Beginnings of parameters that must all be in the query.
    pub query: Vec<String>,
    /// The only method, if one is named.
    pub method: Option<String>,
    /// Request headers that must all be there: `name`, or `name: ` and how its value begins.
    pub headers: Vec<String>,
}

/// What one file says.
#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) entries: Vec<Entry>,
    pub(super) collectors: Vec<At<Collector>>,
    pub(super) never_delete: Vec<String>,
    pub(super) mixed_use: Vec<String>,
    pub(super) person_params: Vec<String>,
}

/// Parses and checks one file; what needs other files is left to the caller.
pub(super) fn parse(name: &str, text: &str) -> Result<File, RegistryError> {
    let reader = Reader { name, text };
    let document = Document::parse(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        reader.error(offset, Fault::Syntax(error.message().to_owned()))
    })?;
    let top = document.as_table();
    reader.known(top, &TOP_KEYS)?;
    let schema = top.get("schema");
    if schema.and_then(Item::as_integer) != Some(SCHEMA) {
        return Err(reader.error(schema.and_then(Item::span).map_or(0, |s| s.start), Fault::Schema));
    }
    let mut file = File {
        never_delete: reader.texts(top, "never_delete")?,
        mixed_use: reader.texts(top, "mixed_use")?,
        person_params: reader.texts(top, "person_params")?,
        ..File::default()
    };
    for table in reader.tables(top, "vendor")? {
        file.entries.push(reader.entry(table)?);
    }
    for table in reader.tables(top, "collector")? {
        file.collectors.push(reader.collector(table)?);
    }
    Ok(file)
}

/// A table with the offset of its header.
type Placed<'a> = (&'a dyn TableLike, usize);

struct Reader<'a> {
    name: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn error(&self, offset: usize, fault: Fault) -> RegistryError {
        RegistryError::new(Place::of(self.name, self.text, offset), fault)
    }

    fn known(&self, table: &dyn TableLike, keys: &[&'static str]) -> Result<(), RegistryError> {
        for (key, item) in table.iter() {
            if !keys.contains(&key) {
                let span = table.key(key).and_then(|k| k.span()).or_else(|| item.span());
                let nearest = nearest(key, keys.iter().copied())
                    .and_then(|near| keys.iter().copied().find(|known| *known == near));
                return Err(self.error(start(span), Fault::UnknownKey { key: key.to_owned(), nearest }));
            }
        }
        Ok(())
    }

    fn tables<'t>(
        &self,
        top: &'t dyn TableLike,
        key: &'static str,
    ) -> Result<Vec<Placed<'t>>, RegistryError> {
        match top.get(key) {
            None => Ok(Vec::new()),
            Some(Item::ArrayOfTables(tables)) => {
                Ok(tables.iter().map(|t| (t as &dyn TableLike, start(t.span()))).collect())
            }
            Some(other) => {
                let expected = "a list of tables, each under its own double-bracket header";
                Err(self.error(start(other.span()), Fault::Type { key, expected }))
            }
        }
    }

    fn text(&self, at: Placed<'_>, key: &'static str) -> Result<Option<At<String>>, RegistryError> {
        let Some(item) = at.0.get(key) else { return Ok(None) };
        let offset = start(item.span());
        let Some(text) = item.as_str() else {
            return Err(self.error(offset, Fault::Type { key, expected: "a text" }));
        };
        if text.is_empty() {
            return Err(self.error(offset, Fault::Empty(key)));
        }
        Ok(Some(At { value: text.to_owned(), offset }))
    }

    fn required(&self, at: Placed<'_>, key: &'static str) -> Result<At<String>, RegistryError> {
        self.text(at, key)?.ok_or_else(|| self.error(at.1, Fault::Missing(key)))
    }

    fn optional(&self, at: Placed<'_>, key: &'static str) -> Result<Option<String>, RegistryError> {
        Ok(self.text(at, key)?.map(|text| text.value))
    }

    fn array<'t>(
        &self,
        table: &'t dyn TableLike,
        key: &'static str,
    ) -> Result<Option<&'t Array>, RegistryError> {
        let Some(item) = table.get(key) else { return Ok(None) };
        item.as_array().map(Some).ok_or_else(|| {
            self.error(start(item.span()), Fault::Type { key, expected: "a list in brackets" })
        })
    }

    fn placed_texts(
        &self,
        table: &dyn TableLike,
        key: &'static str,
    ) -> Result<Vec<At<String>>, RegistryError> {
        let Some(array) = self.array(table, key)? else { return Ok(Vec::new()) };
        let mut texts = Vec::with_capacity(array.len());
        for value in array {
            let offset = start(value.span());
            match value.as_str() {
                Some("") if key != "paths" => return Err(self.error(offset, Fault::Empty(key))),
                Some(text) => texts.push(At { value: text.to_owned(), offset }),
                None => return Err(self.error(offset, Fault::Type { key, expected: "a list of texts" })),
            }
        }
        Ok(texts)
    }

    fn texts(&self, table: &dyn TableLike, key: &'static str) -> Result<Vec<String>, RegistryError> {
        Ok(self.placed_texts(table, key)?.into_iter().map(|text| text.value).collect())
    }

    fn entry(&self, at: Placed<'_>) -> Result<Entry, RegistryError> {
        let table = at.0;
        self.known(table, &VENDOR_KEYS)?;
        let id = self.required(at, "id")?;
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if !id.value.bytes().all(fits) {
            return Err(self.error(id.offset, Fault::Id(id.value)));
        }
        let role = self.required(at, "role")?;
        let Some(role) = Role::ALL.into_iter().find(|r| r.as_str() == role.value) else {
            return Err(self.error(role.offset, Fault::Role(role.value)));
        };
        let category = self.required(at, "category")?;
        let Some(category) = Category::ALL.into_iter().find(|c| c.as_str() == category.value) else {
            return Err(self.error(category.offset, Fault::Category(category.value)));
        };
        let (hosts, places) = self.hosts(table)?;
        let vendor = Vendor {
            id: id.value,
            vendor: self.required(at, "vendor")?.value,
            product: self.required(at, "product")?.value,
            role,
            category,
            hosts,
            globals: self.texts(table, "globals")?,
            inline_markers: self.markers(table)?,
            weak_markers: self.texts(table, "weak_markers")?,
            first_party_cookies: self.texts(table, "first_party_cookies")?,
            third_party_cookies: self.texts(table, "third_party_cookies")?,
            storage_keys: self.texts(table, "storage_keys")?,
            link_params: self.texts(table, "link_params")?,
            restricted_mode: self.optional(at, "restricted_mode")?,
            restricted_calls: self.calls(table)?,
            stub: self.texts(table, "stub")?,
            breaks: self.optional(at, "breaks")?,
            note: self.optional(at, "note")?,
        };
        Ok(Entry { vendor, offset: id.offset, hosts: places })
    }

    /// Markers decide alone, so a short word is refused rather than silently ignored.
    fn markers(&self, table: &dyn TableLike) -> Result<Vec<String>, RegistryError> {
        let markers = self.placed_texts(table, "inline_markers")?;
        for marker in &markers {
            let text = &marker.value;
            let punctuated = text.bytes().any(|b| b.is_ascii_punctuation() && b != b'_');
            if text.len() < 4 || (text.len() < 6 && !punctuated) {
                return Err(self.error(marker.offset, Fault::ShortMarker(text.clone())));
            }
        }
        Ok(markers.into_iter().map(|marker| marker.value).collect())
    }

    fn hosts(&self, table: &dyn TableLike) -> Result<(Vec<HostRule>, HostPlaces), RegistryError> {
        let (mut rules, mut places) = (Vec::new(), Vec::new());
        let Some(array) = self.array(table, "hosts")? else { return Ok((rules, places)) };
        for value in array {
            let offset = start(value.span());
            let Value::InlineTable(inline) = value else {
                let expected = "a list of tables like { host = \"a.example\", paths = [\"/x\"] }";
                return Err(self.error(offset, Fault::Type { key: "hosts", expected }));
            };
            self.known(inline, &HOST_KEYS)?;
            let host = self.required((inline, offset), "host")?;
            if let Some(why) = hosts::fault(&host.value) {
                return Err(self.error(host.offset, Fault::Host { host: host.value, why }));
            }
            let paths = self.placed_texts(inline, "paths")?;
            for path in &paths {
                if let Some(why) = PathPrefix::fault(&path.value) {
                    return Err(self.error(path.offset, Fault::Path { path: path.value.clone(), why }));
                }
            }
            let (mut texts, mut offsets): (Vec<_>, Vec<_>) =
                paths.into_iter().map(|path| (path.value, path.offset)).unzip();
            if texts.is_empty() {
                texts.push(PathPrefix::ROOT.to_owned());
                offsets.push(host.offset);
            }
            rules.push(HostRule { host: host.value, paths: texts });
            places.push((host.offset, offsets));
        }
        Ok((rules, places))
    }

    /// They go into a script on the page, so that what could end it is refused.
    fn calls(&self, table: &dyn TableLike) -> Result<Vec<RestrictedCall>, RegistryError> {
        let Some(array) = self.array(table, "restricted_calls")? else { return Ok(Vec::new()) };
        let mut calls = Vec::new();
        for value in array {
            let offset = start(value.span());
            let Value::InlineTable(inline) = value else {
                let expected = "a list of tables like { global = \"fbq\", how = \"call\", args = '[\"x\"]' }";
                return Err(self.error(offset, Fault::Type { key: "restricted_calls", expected }));
            };
            self.known(inline, &CALL_KEYS)?;
            let global = self.required((inline, offset), "global")?;
            let how = self.required((inline, offset), "how")?;
            let args = self.required((inline, offset), "args")?;
            let name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'$';
            if !global.value.bytes().all(name) {
                return Err(self.error(global.offset, Fault::Type { key: "global", expected: "a name" }));
            }
            let Some(way) = How::ALL.into_iter().find(|way| way.as_str() == how.value) else {
                let expected = "\"call\", \"command\", \"parameter\" or \"gtag\"";
                return Err(self.error(how.offset, Fault::Type { key: "how", expected }));
            };
            let parsed = serde_json::from_str(&args.value).ok().filter(serde_json::Value::is_array);
            let safe = args.value.is_ascii() && !args.value.contains('<');
            let Some(parsed) = parsed.filter(|_| safe) else {
                let expected = "a JSON list as text, ASCII, without `<`";
                return Err(self.error(args.offset, Fault::Type { key: "args", expected }));
            };
            calls.push(RestrictedCall { global: global.value, how: way, args: parsed });
        }
        Ok(calls)
    }

    fn collector(&self, at: Placed<'_>) -> Result<At<Collector>, RegistryError> {
        self.known(at.0, &COLLECTOR_KEYS)?;
        let vendor = self.required(at, "vendor")?;
        let path = self.required(at, "path")?;
        if !path.value.starts_with(['/', '*']) || path.value.contains(['?', '#']) {
            let why = "it starts with neither `/` nor `*`, or holds a query";
            return Err(self.error(path.offset, Fault::Path { path: path.value, why }));
        }
        let query = self.texts(at.0, "query")?;
        let headers = self.texts(at.0, "headers")?;
        // Without one every request below would be answered here, the site's own included.
        if query.is_empty() && headers.is_empty() && path.value.trim_matches(['*', '/']).len() < 8 {
            let why =
                "it is too short to tell a collector from the site's own pages without `query` or `headers`";
            return Err(self.error(path.offset, Fault::Path { path: path.value, why }));
        }
        let method = self.optional(at, "method")?;
        let offset = vendor.offset;
        Ok(At { value: Collector { vendor: vendor.value, path: path.value, query, method, headers }, offset })
    }
}

fn start(span: Option<Range<usize>>) -> usize {
    span.map_or(0, |span| span.start)
}
