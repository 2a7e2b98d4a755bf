//! One layer of settings: a file, an environment variable or a flag, with the place of every key.
//!
//! The `config` crate merges layers but forgets lines and columns, so each layer keeps its own map from
//! key to [`Place`], and is checked against [`Raw`] before it is merged.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value as Json};
use toml_edit::{Item, TableLike, Value as Toml};

use super::error::{ConfigError, Place};
use super::key::{KeyPath, Step};
use super::raw::Raw;
use super::words;

/// A layer with more errors than this is no settings file; looking further helps nobody.
const MOST: usize = 100;

/// One layer.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// What it says.
    pub value: Json,
    places: BTreeMap<KeyPath, Places>,
    /// List elements taken out because they were wrong, by their written positions.
    removed: Vec<KeyPath>,
}

#[derive(Debug, Clone)]
struct Places {
    key: Place,
    value: Place,
}

impl Layer {
    /// A layer of one key, from the environment or a flag.
    pub(super) fn single(path: &KeyPath, value: Json, place: Place) -> Self {
        let value = path.0.iter().rev().fold(value, |inner, step| match step {
            Step::Key(key) => Json::Object(Map::from_iter([(key.clone(), inner)])),
            Step::Index(_) => Json::Array(vec![inner]),
        });
        let places = [(path.clone(), Places { key: place.clone(), value: place })];
        Self { value, places: places.into(), removed: Vec::new() }
    }

    /// Reads a TOML file.
    pub(super) fn file(path: &Path) -> Result<Self, Box<ConfigError>> {
        let refuse = |what: &str, why: String, next: &str| {
            let place = Place::WholeFile(path.to_owned());
            Box::new(ConfigError { place, what: what.to_owned(), why, next: next.to_owned() })
        };
        let bytes = std::fs::read(path).map_err(|error| {
            let next = "check the path and its permissions, or write one with `optgate init FILE`";
            refuse("the configuration file cannot be read", error.to_string(), next)
        })?;
        let text = String::from_utf8(bytes).map_err(|error| {
            let why = format!("byte {} begins no UTF-8 character", error.utf8_error().valid_up_to());
            refuse("the configuration file is not UTF-8", why, "save the file as UTF-8")
        })?;
        Self::toml(path, &text)
    }

    fn toml(path: &Path, text: &str) -> Result<Self, Box<ConfigError>> {
        let source = Source { path, text };
        let document = toml_edit::Document::parse(text).map_err(|error| {
            let (why, next) = words::not_toml(error.message());
            Box::new(ConfigError {
                place: source.place(error.span()),
                what: "this is not TOML".to_owned(),
                why,
                next: next.to_owned(),
            })
        })?;
        let mut places = BTreeMap::new();
        let value = source.table(document.as_table(), &KeyPath::default(), &mut places);
        Ok(Self { value, places, removed: Vec::new() })
    }

    /// Holds the layer against the written settings; what does not fit is reported and taken out.
    pub(super) fn check(&mut self, errors: &mut Vec<ConfigError>) {
        let mut found = self.take_lists_for_tables();
        for found_so_far in 0.. {
            let Err(error) = serde_path_to_error::deserialize::<_, Raw>(&self.value) else { break };
            let path = KeyPath::from(error.path());
            let message = error.inner().to_string();
            let place = self.place(&path, message.starts_with("unknown field"));
            found.push(words::reword(&message, &self.as_written(&path), place));
            if found_so_far >= MOST || !self.remove(&path) {
                self.value = Json::Object(Map::new());
                break;
            }
        }
        // serde meets keys in its own order; people read a file from the top.
        found.sort_by_key(|error| match &error.place {
            Place::File { line, column, .. } => (*line, *column),
            _ => (0, 0),
        });
        errors.extend(found);
    }

    fn take_lists_for_tables(&mut self) -> Vec<ConfigError> {
        let tables = Raw::defaults().into_iter().filter(|(_, default)| default.is_object());
        let listed: Vec<String> = tables
            .map(|(key, _)| key)
            .filter(|key| self.value.get(key).is_some_and(Json::is_array))
            .collect();
        let mut found = Vec::new();
        for key in listed {
            let path = KeyPath::of(&key);
            found.push(words::list_for_table(&key, self.place(&path, true)));
            self.remove(&path);
        }
        found
    }

    /// Whether the layer's value fits the written settings.
    pub(super) fn fits(&self) -> bool {
        let mut errors = Vec::new();
        self.clone().check(&mut errors);
        errors.is_empty()
    }

    /// Where a key (or its value) was written: itself, else what holds it, else what it holds.
    pub(super) fn place(&self, path: &KeyPath, of_key: bool) -> Place {
        let mut asked = self.as_written(path);
        let pick = |places: &Places| if of_key { places.key.clone() } else { places.value.clone() };
        let below = self.places.iter().find(|(known, _)| known.0.starts_with(&asked.0)).map(|(_, p)| pick(p));
        loop {
            if let Some(places) = self.places.get(&asked) {
                return pick(places);
            }
            match asked.parent() {
                Some(parent) => asked = parent,
                None => return below.unwrap_or(Place::Default),
            }
        }
    }

    /// Where the value of exactly this key was written.
    pub(super) fn exact(&self, path: &KeyPath) -> Option<Place> {
        self.places.get(&self.as_written(path)).map(|places| places.value.clone())
    }

    /// Puts back the positions of list elements that were taken out before this one.
    fn as_written(&self, path: &KeyPath) -> KeyPath {
        let mut written = KeyPath::default();
        for step in &path.0 {
            let Step::Index(index) = step else {
                written.0.push(step.clone());
                continue;
            };
            let (mut position, mut left) = (0, *index);
            loop {
                let gone = self.removed.contains(&written.at(position));
                match (gone, left) {
                    (true, _) => {}
                    (false, 0) => break,
                    (false, _) => left -= 1,
                }
                position += 1;
            }
            written.0.push(Step::Index(position));
        }
        written
    }

    fn remove(&mut self, path: &KeyPath) -> bool {
        let written = self.as_written(path);
        let Some((last, above)) = path.0.split_last() else { return false };
        let holder = above.iter().try_fold(&mut self.value, |value, step| match step {
            Step::Key(key) => value.get_mut(key),
            Step::Index(index) => value.get_mut(*index),
        });
        match (holder, last) {
            (Some(Json::Object(table)), Step::Key(key)) => table.remove(key).is_some(),
            (Some(Json::Array(list)), Step::Index(index)) if *index < list.len() => {
                list.remove(*index);
                self.removed.push(written);
                true
            }
            _ => false,
        }
    }
}

/// A file's text, and how to find a line in it.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn place(&self, span: Option<Range<usize>>) -> Place {
        let span = span.unwrap_or(0..0);
        let start = (0..=span.start.min(self.text.len())).rev().find(|&i| self.text.is_char_boundary(i));
        let (before, after) = self.text.split_at(start.unwrap_or(0));
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        let rest_of_line = after.lines().next().unwrap_or_default();
        let length = span.len().min(rest_of_line.len());
        Place::File {
            file: self.path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            text: format!("{}{rest_of_line}", &before[line_start..]),
            width: rest_of_line.char_indices().take_while(|(i, _)| *i < length).count(),
        }
    }

    fn table(&self, table: &dyn TableLike, path: &KeyPath, places: &mut BTreeMap<KeyPath, Places>) -> Json {
        let mut out = Map::new();
        for (name, item) in table.iter() {
            let path = path.key(name);
            let key_span = table.key(name).and_then(toml_edit::Key::span);
            self.remember(&path, key_span, item.span(), places);
            out.insert(name.to_owned(), self.item(item, &path, places));
        }
        Json::Object(out)
    }

    fn item(&self, item: &Item, path: &KeyPath, places: &mut BTreeMap<KeyPath, Places>) -> Json {
        match item {
            Item::None => Json::Null,
            Item::Value(value) => self.value(value, path, places),
            Item::Table(table) => self.table(table, path, places),
            Item::ArrayOfTables(list) => {
                let tables = list.iter().enumerate().map(|(i, table)| {
                    let path = path.at(i);
                    self.remember(&path, table.span(), table.span(), places);
                    self.table(table, &path, places)
                });
                Json::Array(tables.collect())
            }
        }
    }

    fn value(&self, value: &Toml, path: &KeyPath, places: &mut BTreeMap<KeyPath, Places>) -> Json {
        match value {
            Toml::String(text) => Json::from(text.value().as_str()),
            Toml::Integer(number) => Json::from(*number.value()),
            Toml::Float(number) => Json::from(*number.value()),
            Toml::Boolean(flag) => Json::from(*flag.value()),
            // A date without quotes is what people write; it is read as its text.
            Toml::Datetime(date) => Json::from(date.value().to_string()),
            Toml::InlineTable(table) => self.table(table, path, places),
            Toml::Array(list) => {
                let values = list.iter().enumerate().map(|(i, value)| {
                    let path = path.at(i);
                    self.remember(&path, value.span(), value.span(), places);
                    self.value(value, &path, places)
                });
                Json::Array(values.collect())
            }
        }
    }

    fn remember(
        &self,
        path: &KeyPath,
        key: Option<Range<usize>>,
        value: Option<Range<usize>>,
        places: &mut BTreeMap<KeyPath, Places>,
    ) {
        // Tables made by dotted keys have no span of their own.
        let key = key.or_else(|| value.clone());
        let value = value.or_else(|| key.clone());
        places.insert(path.clone(), Places { key: self.place(key), value: self.place(value) });
    }
}
