//! Where each setting in force came from.

use serde_json::Value as Json;

use super::error::Place;
use super::key::KeyPath;

/// One setting in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// `limits.header_bytes`, `sites[0].hosts`.
    pub key: String,
    /// Its value as it would be written; [`REDACTED`] for what came from a `_FILE` variable.
    pub value: Json,
    /// Where it was written.
    pub place: Place,
}

/// Shown instead of a value that a `_FILE` variable brought: it may be a secret.
pub const REDACTED: &str = "(redacted)";

/// Lists every setting of the written tree; lists of plain values stay whole.
pub(super) fn entries(tree: &mut Json, place_of: &dyn Fn(&KeyPath) -> Place) -> Vec<Entry> {
    let mut out = Vec::new();
    walk(tree, &KeyPath::default(), place_of, &mut out);
    out
}

fn walk(value: &mut Json, path: &KeyPath, place_of: &dyn Fn(&KeyPath) -> Place, out: &mut Vec<Entry>) {
    match value {
        Json::Object(table) if !table.is_empty() => {
            // A table's own values before the tables below it, as in a file.
            for nested in [false, true] {
                for (key, value) in table.iter_mut().filter(|(_, value)| is_nested(value) == nested) {
                    walk(value, &path.key(key), place_of, out);
                }
            }
        }
        Json::Array(list) if list.iter().any(Json::is_object) => {
            for (i, value) in list.iter_mut().enumerate() {
                walk(value, &path.at(i), place_of, out);
            }
        }
        _ => {
            let place = place_of(path);
            if place.is_secret() {
                *value = Json::from(REDACTED);
            }
            out.push(Entry { key: path.to_string(), value: value.clone(), place });
        }
    }
}

fn is_nested(value: &Json) -> bool {
    value.is_object() || value.as_array().is_some_and(|list| list.iter().any(Json::is_object))
}
