//! `OPTGATE__SECTION__KEY` and `OPTGATE__SECTION__KEY_FILE`.
//!
//! The environment knows only text, so a value is tried as what the setting takes: a number or a switch,
//! a list split on commas, plain text. Single underscores are left alone, for container platforms set
//! `OPTGATE_PORT` and the like on their own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::Value as Json;

use super::error::{ConfigError, Place};
use super::key::{KeyPath, Step};
use super::layer::Layer;
use super::words;

const PREFIX: &str = "OPTGATE__";
const FILE: &str = "_file";

/// Turns the environment into layers, one a variable, in the order of their names.
pub(super) fn layers(environment: &[(OsString, OsString)], errors: &mut Vec<ConfigError>) -> Vec<Layer> {
    let mut sorted: Vec<_> = environment.iter().collect();
    sorted.sort();
    let mut seen: BTreeMap<KeyPath, String> = BTreeMap::new();
    let mut layers = Vec::new();
    for (name, value) in sorted {
        let shown = name.to_string_lossy();
        if !shown.starts_with(PREFIX) {
            continue;
        }
        let (path, from_file) = key_path(&shown[PREFIX.len()..]);
        match read(&shown, value, from_file) {
            Err(error) => errors.push(*error),
            Ok((_, place)) if seen.contains_key(&path) => {
                let why = format!("{} sets `{path}` too", seen[&path]);
                let what = format!("`{path}` is set twice");
                errors.push(ConfigError { place, what, why, next: "remove one of the two".to_owned() });
            }
            Ok((text, place)) => {
                seen.insert(path.clone(), shown.into_owned());
                layers.push(typed(&path, &text, &place));
            }
        }
    }
    layers
}

fn key_path(rest: &str) -> (KeyPath, bool) {
    let mut path = KeyPath::of(&rest.to_lowercase().replace("__", "."));
    let from_file = words::last_key(&path).ends_with(FILE);
    for (i, step) in path.0.iter_mut().enumerate() {
        if let Step::Key(key) = step {
            if from_file && let Some(bare) = key.strip_suffix(FILE) {
                *key = bare.to_owned();
            }
            // Vendor ids are written with hyphens, which shells refuse in names.
            if i == 1 && (rest.starts_with("VENDORS__") || rest.starts_with("CONTRACTS__")) {
                *key = key.replace('_', "-");
            }
        }
    }
    (path, from_file)
}

fn read(name: &str, value: &OsString, from_file: bool) -> Result<(String, Place), Box<ConfigError>> {
    let refuse = |what: &str, why: String, next: &str| {
        let shown = value.to_string_lossy().into_owned();
        let place = Place::Environment { name: name.to_owned(), value: Some(shown) };
        Box::new(ConfigError { place, what: what.to_owned(), why, next: next.to_owned() })
    };
    if from_file {
        let text = std::fs::read_to_string(PathBuf::from(value)).map_err(|error| {
            refuse("the file named here cannot be read", error.to_string(), "check its path and permissions")
        })?;
        let text = text.trim_end_matches(['\r', '\n']).to_owned();
        return Ok((text, Place::Environment { name: name.to_owned(), value: None }));
    }
    match value.to_str() {
        Some(text) => {
            let place = Place::Environment { name: name.to_owned(), value: Some(text.to_owned()) };
            Ok((text.to_owned(), place))
        }
        None => Err(refuse("the value is not UTF-8", "settings are text".to_owned(), "write it as UTF-8")),
    }
}

/// The first reading of the text that fits its setting; else the reading that gives the best complaint.
fn typed(path: &KeyPath, text: &str, place: &Place) -> Layer {
    let list = || Json::from_iter(text.split(',').map(str::trim).filter(|part| !part.is_empty()));
    let mut readings = Vec::new();
    readings.extend(text.parse::<i64>().ok().map(Json::from));
    readings.extend(text.parse::<bool>().ok().map(Json::from));
    if text.contains(',') {
        readings.push(list());
    }
    readings.push(Json::from(text));
    readings.push(list());
    let mut candidates: Vec<Layer> =
        readings.into_iter().map(|value| Layer::single(path, value, place.clone())).collect();
    // Where nothing fits, the list reading of `a,b` names the element that is wrong.
    let best = candidates.iter().position(Layer::fits).unwrap_or(0);
    candidates.swap_remove(best)
}
