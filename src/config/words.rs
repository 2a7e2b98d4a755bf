//! serde's complaints in our words, with a hint.

use super::error::{ConfigError, Place};
use super::key::{KeyPath, Step};
use super::nearest::nearest;
use super::raw::Raw;

/// Between why and what to do, in the complaints of our own types. No TOML text can hold it unescaped.
pub(super) const SEPARATOR: char = '\u{1f}';

/// Turns serde's message about the value at `path` into an error at `place`.
pub(super) fn reword(message: &str, path: &KeyPath, place: Place) -> ConfigError {
    let (what, why, next) = if let Some(rest) = message.strip_prefix("unknown field ") {
        unknown_key(rest, path)
    } else if let Some(rest) = message.strip_prefix("unknown variant ") {
        unknown_word(rest, path)
    } else if let Some(rest) = message.strip_prefix("invalid type: ") {
        wrong_type(rest, path, &place)
    } else if let Some(rest) = message.strip_prefix("invalid value: ") {
        out_of_range(rest, path)
    } else {
        let (why, next) = message.split_once(SEPARATOR).unwrap_or((message, "see config/optgate.toml"));
        (format!("`{path}` cannot be used"), one_line(why), one_line(next))
    };
    ConfigError { place, what, why, next }.without_secret(path)
}

/// Why text is no TOML, and what to do.
pub(super) fn not_toml(message: &str) -> (String, &'static str) {
    match message.lines().next().unwrap_or_default() {
        "duplicate key" => (
            "the key, or its table, was written above already".to_owned(),
            "remove one of the two; what belongs to one table goes below one [name]",
        ),
        why => (why.to_owned(), "correct the line; text values need quotes, tables start with [name]"),
    }
}

/// Values of several lines are quoted in complaints, which keep to one.
fn one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// A list where one table is meant: serde would take its elements for the table's values, in order.
pub(super) fn list_for_table(key: &str, place: Place) -> ConfigError {
    ConfigError {
        place,
        what: format!("`{key}` has the wrong type"),
        why: "found a list, expected a table".to_owned(),
        next: format!("write [{key}], with single brackets and once"),
    }
}

type Parts = (String, String, String);

fn unknown_key(rest: &str, path: &KeyPath) -> Parts {
    let words = backquoted(rest);
    let (name, known) = words.split_first().map_or(("", &[][..]), |(name, known)| (*name, known));
    // A key of the top level that stands below a table's line: TOML takes it for the table's.
    let fell_in = path.0.len() > 1 && has_top_level(name);
    let next = fell_in
        .then(|| format!("`{name}` belongs to the top of the file: write it above the first [table]"))
        .or_else(|| nearest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?")))
        .or_else(|| elsewhere(name).map(|home| format!("it belongs to [{home}]")))
        .unwrap_or_else(|| match known {
            [] => "remove it".to_owned(),
            _ => format!("remove it; known here: {}", known.join(", ")),
        });
    (
        format!("unknown key `{path}`"),
        "no setting has this name here, so it would have no effect".to_owned(),
        next,
    )
}

fn unknown_word(rest: &str, path: &KeyPath) -> Parts {
    let words = backquoted(rest);
    let (name, known) = words.split_first().map_or(("", &[][..]), |(name, known)| (*name, known));
    let quoted: Vec<String> = known.iter().map(|word| format!("\"{word}\"")).collect();
    let next = nearest(name, known.iter().copied())
        .map_or_else(|| format!("write {}", quoted.join(" or ")), |near| format!("did you mean \"{near}\"?"));
    (format!("`{path}` cannot be \"{name}\""), format!("it takes {}", quoted.join(" or ")), next)
}

fn wrong_type(rest: &str, path: &KeyPath, place: &Place) -> Parts {
    let (found, expected) = rest.split_once(", expected ").unwrap_or((rest, "something else"));
    if found == "map" && matches!(path.0.first(), Some(Step::Key(key)) if key == "upstream") {
        return (
            format!("`{path}` cannot be a table here"),
            "at the top of the file `upstream` is short for one site, and takes URLs only".to_owned(),
            "write [[sites]] above it, with what else is the site's; there `upstream` takes tables"
                .to_owned(),
        );
    }
    let expected = plain_type(expected);
    let quoted = found.split('"').nth(1).unwrap_or_default();
    let in_file = matches!(place, Place::File { .. });
    // An element of a list of tables is written below a line of its own.
    let listed = match path.0.as_slice() {
        [Step::Key(list), Step::Index(_)] if in_file => Some(list),
        _ => None,
    };
    let next = match (found.split(' ').next(), expected) {
        (Some("string"), "a whole number" | "true or false") if in_file && is_bare(quoted) => {
            "remove the quotes".to_owned()
        }
        (Some("integer" | "floating" | "boolean"), "text") => "put the value in quotes".to_owned(),
        (Some("map"), "a list") => {
            "write it in a file as a list of tables; lists of tables cannot be set by the environment"
                .to_owned()
        }
        (_, "a table") if let Some(list) = listed => {
            format!("write a table: [[{list}]] on a line of its own, its settings below it")
        }
        _ => format!("write {expected}"),
    };
    (format!("`{path}` has the wrong type"), format!("found {found}, expected {expected}"), next)
}

/// A number or switch that only its quotes make text.
fn is_bare(text: &str) -> bool {
    text.parse::<i64>().is_ok() || text.parse::<bool>().is_ok()
}

/// serde names Rust types; readers know TOML's.
fn plain_type(expected: &str) -> &str {
    match expected {
        "a string" | "string" | "string or map" => "text",
        "usize" | "u64" | "u32" => "a whole number",
        "a boolean" => "true or false",
        "a sequence" => "a list",
        "a map" => "a table",
        _ if expected.starts_with("struct ") => "a table",
        other => other,
    }
}

fn backquoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// A number that does not fit: serde names its own type.
fn out_of_range(rest: &str, path: &KeyPath) -> Parts {
    let (found, expected) = rest.split_once(", expected ").unwrap_or((rest, ""));
    let least =
        if found.contains("`-") && plain_type(expected) == "a whole number" { ", not below 0" } else { "" };
    let next = format!("write a number in range{least}");
    (format!("`{path}` is out of range"), format!("found {found}"), next)
}

/// Whether the file's top level has a setting of this name that is no table.
fn has_top_level(name: &str) -> bool {
    Raw::defaults().get(name).is_some_and(|default| !default.is_object())
}

/// The table that holds a setting of this name, when it was written in the wrong one.
fn elsewhere(name: &str) -> Option<String> {
    let home = Raw::defaults().into_iter().find(|(_, table)| table.get(name).is_some());
    home.map(|(key, _)| key).filter(|_| !name.is_empty())
}

/// The last key of a path, for `_FILE` and hints.
pub(super) fn last_key(path: &KeyPath) -> &str {
    match path.0.last() {
        Some(Step::Key(key)) => key,
        _ => "",
    }
}
