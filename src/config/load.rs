//! The layers, weakest first: compiled defaults, files in order, environment, flags.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError as MergeError, Map, Source, Value, ValueKind};
use serde_json::Value as Json;

use super::error::{ConfigError, ConfigErrors, Place};
use super::key::{KeyPath, Step};
use super::layer::Layer;
use super::meaning::{self, Problems};
use super::origins::{self, Entry};
use super::raw::Raw;
use super::written::FilePath;
use super::{Settings, environment};

/// Read when no `--config` is given and it exists. A file in the working folder is never read unasked.
pub const SYSTEM_FILE: &str = "/etc/optgate/optgate.toml";

/// Everything that settings are made from. Tests fill it in; [`Inputs::of_process`] asks the process.
#[derive(Debug, Clone, Default)]
pub struct Inputs {
    /// Files of `--config`, in order.
    pub files: Vec<PathBuf>,
    /// Read when `files` is empty and it exists.
    pub system_file: Option<PathBuf>,
    /// The environment; only names that begin with `OPTGATE__` and those of state folders count.
    pub environment: Vec<(OsString, OsString)>,
    /// Settings given as flags.
    pub flags: Vec<Flag>,
    /// The process runs as root, whose state folder is the system's.
    pub root: bool,
    /// Commands that serve nobody need no origin: without any site they get one that has none.
    pub without_sites: bool,
}

/// A setting given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flag {
    /// `--listen`.
    pub name: &'static str,
    /// `listen`, `log.level`.
    pub key: &'static str,
    /// The value; several for a repeated flag.
    pub values: Vec<String>,
    /// The setting is a list.
    pub list: bool,
}

/// What the settings are, and where each came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// As meant.
    pub settings: Settings,
    /// Every setting in force with its origin, in the order of their keys.
    pub origins: Vec<Entry>,
    /// The settings in force as they would be written, redacted.
    pub written: Json,
    /// Files that were read, in order.
    pub files: Vec<PathBuf>,
}

impl Inputs {
    /// The environment and user of this process.
    #[must_use]
    pub fn of_process(files: Vec<PathBuf>, flags: Vec<Flag>) -> Self {
        Self {
            files,
            system_file: Some(PathBuf::from(SYSTEM_FILE)),
            environment: std::env::vars_os().collect(),
            flags,
            root: rustix::process::geteuid().is_root(),
            without_sites: false,
        }
    }

    fn variable(&self, name: &str) -> Option<PathBuf> {
        let (_, value) = self.environment.iter().find(|(known, _)| known == name)?;
        // Several state folders are joined by colons (systemd.exec(5)); the first is ours.
        let first = value.to_str().map_or_else(|| value.clone(), |v| v.split(':').next().unwrap_or(v).into());
        Some(PathBuf::from(first)).filter(|path| path.is_absolute())
    }

    /// The platform's place for state: `$STATE_DIRECTORY`, else `/var/lib/optgate` for root, else
    /// `$XDG_STATE_HOME/optgate`, else `~/.local/state/optgate`.
    fn state_folder(&self) -> Option<PathBuf> {
        let system = || self.root.then(|| PathBuf::from("/var/lib/optgate"));
        let xdg = || self.variable("XDG_STATE_HOME").map(|home| home.join("optgate"));
        let home = || self.variable("HOME").map(|home| home.join(".local/state/optgate"));
        self.variable("STATE_DIRECTORY").or_else(system).or_else(xdg).or_else(home)
    }
}

/// Lays the layers on each other and turns them into settings.
///
/// # Errors
/// Everything that is wrong in any layer or in their combination, not only the first thing.
pub fn load(inputs: &Inputs) -> Result<Loaded, ConfigErrors> {
    let mut errors = Vec::new();
    let (files, mut layers) = read_layers(inputs, &mut errors);
    for layer in &mut layers {
        layer.check(&mut errors);
    }
    let merged = match merge(layers, inputs) {
        Ok(merged) => merged,
        Err(error) => {
            errors.push(*error);
            return Err(ConfigErrors(errors));
        }
    };
    let mut problems = Problems::new(&merged);
    let settings = meaning::settings(&merged, inputs.without_sites, &mut problems);
    // After another error, "nothing here" would only be its echo.
    let echo = !errors.is_empty();
    errors.extend(problems.into_errors(echo));
    if !errors.is_empty() {
        return Err(ConfigErrors(errors));
    }
    let mut written = serde_json::to_value(&merged.raw).unwrap_or_default();
    let origins = origins::entries(&mut written, &|path| merged.place(path));
    Ok(Loaded { settings, origins, written, files })
}

fn read_layers(inputs: &Inputs, errors: &mut Vec<ConfigError>) -> (Vec<PathBuf>, Vec<Layer>) {
    let mut files = inputs.files.clone();
    if files.is_empty() {
        files.extend(inputs.system_file.clone().filter(|path| path.exists()));
    }
    let mut layers = Vec::new();
    for file in &files {
        match Layer::file(file) {
            Ok(layer) => layers.push(layer),
            Err(error) => errors.push(*error),
        }
    }
    layers.extend(environment::layers(&inputs.environment, errors));
    for flag in &inputs.flags {
        let place = Place::Flag { name: flag.name.to_owned(), value: flag.values.join(" ") };
        let value = match flag.values.as_slice() {
            [one] if !flag.list => Json::from(one.as_str()),
            many => Json::from_iter(many.iter().map(String::as_str)),
        };
        layers.push(Layer::single(&KeyPath::of(flag.key), value, place));
    }
    (files, layers)
}

/// The written settings after all layers, and who wrote what.
pub(super) struct Merged {
    /// The settings in force, as written.
    pub raw: Raw,
    tree: Value,
    layers: Vec<Layer>,
}

fn merge(layers: Vec<Layer>, inputs: &Inputs) -> Result<Merged, Box<ConfigError>> {
    // Every layer was checked alone, so what fails here is not a slip in one value.
    let refuse = |error: MergeError| {
        Box::new(ConfigError {
            place: Place::Default,
            what: "the layers of settings do not fit together".to_owned(),
            why: error.to_string(),
            next: "write the setting in one layer only".to_owned(),
        })
    };
    let mut builder = Config::builder();
    for (number, layer) in layers.iter().enumerate() {
        builder = builder.add_source(Numbered { number, value: layer.value.clone() });
    }
    let merged = builder.build().map_err(refuse)?;
    let tree = merged.cache.clone();
    let mut raw: Raw = merged.try_deserialize().map_err(refuse)?;
    if raw.data_dir.is_none() {
        raw.data_dir = inputs.state_folder().map(FilePath);
    }
    Ok(Merged { raw, tree, layers })
}

impl Merged {
    /// Where the value in force at a path was written; the default when no layer wrote it.
    pub(super) fn place(&self, path: &KeyPath) -> Place {
        self.find(path).unwrap_or(Place::Default)
    }

    /// As [`Merged::place`]; for what is missing, the table or list it is missing from.
    pub(super) fn near(&self, path: &KeyPath) -> Place {
        let mut above = Some(path.clone());
        while let Some(path) = above.filter(|path| !path.0.is_empty()) {
            let table = || self.layers.iter().rev().find_map(|layer| layer.exact(&path));
            if let Some(place) = self.find(&path).or_else(table) {
                return place;
            }
            above = path.parent();
        }
        Place::Default
    }

    /// Whether the value in force at a path is written as a list.
    pub(super) fn is_list(&self, path: &KeyPath) -> bool {
        self.value(path).is_some_and(|(value, _)| matches!(value.kind, ValueKind::Array(_)))
    }

    fn find(&self, path: &KeyPath) -> Option<Place> {
        let (value, walked) = self.value(path)?;
        let number: usize = value.origin()?.parse().ok()?;
        Some(self.layers.get(number)?.place(&walked, false))
    }

    /// The value in force at a path, and where that is among what was written.
    fn value(&self, path: &KeyPath) -> Option<(&Value, KeyPath)> {
        let (mut value, mut walked) = (&self.tree, KeyPath::default());
        for step in &path.0 {
            value = match (&value.kind, step) {
                (ValueKind::Table(table), Step::Key(key)) => table.get(key)?,
                (ValueKind::Array(list), Step::Index(index)) => list.get(*index)?,
                // Where one value or a list may stand, the one is the first.
                (_, Step::Index(0)) => continue,
                _ => return None,
            };
            walked.0.push(step.clone());
        }
        Some((value, walked))
    }

    /// A path as its writer meant it: in a file, relative to that file's folder.
    pub(super) fn resolve(&self, key: &KeyPath, path: &Path) -> PathBuf {
        match self.near(key) {
            Place::File { file, .. } => file.parent().map_or_else(|| path.to_owned(), |dir| dir.join(path)),
            _ => path.to_owned(),
        }
    }
}

/// A layer as the `config` crate takes it; its number is the origin of every value.
#[derive(Debug, Clone)]
struct Numbered {
    number: usize,
    value: Json,
}

impl Source for Numbered {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, MergeError> {
        let origin = self.number.to_string();
        match convert(&self.value, &origin).kind {
            ValueKind::Table(table) => Ok(table),
            _ => Ok(Map::new()),
        }
    }
}

fn convert(value: &Json, origin: &String) -> Value {
    let kind = match value {
        Json::Null => ValueKind::Nil,
        Json::Bool(flag) => ValueKind::Boolean(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => ValueKind::I64(whole),
            None => ValueKind::Float(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => ValueKind::String(text.clone()),
        Json::Array(list) => ValueKind::Array(list.iter().map(|v| convert(v, origin)).collect()),
        Json::Object(table) => {
            ValueKind::Table(table.iter().map(|(key, v)| (key.clone(), convert(v, origin))).collect())
        }
    };
    Value::new(Some(origin), kind)
}
