//! What can be wrong with a registry file: where, why, and what to do next.

use std::fmt;

use super::vendor::{Category, Role};

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// File name, as given.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The whole line.
    pub text: String,
}

impl Place {
    /// The place of a byte offset in a file's text.
    pub(super) fn of(file: &str, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = text[start..].lines().next().unwrap_or_default();
        Self {
            file: file.to_owned(),
            line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            // Not beyond the line, where the end of one has two characters.
            column: before[start..].chars().count().min(line.chars().count()) + 1,
            text: line.to_owned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A registry file that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryError {
    /// Where.
    pub place: Place,
    /// Why.
    pub fault: Box<Fault>,
}

impl RegistryError {
    pub(super) fn new(place: Place, fault: Fault) -> Self {
        Self { place, fault: Box::new(fault) }
    }
}

impl std::error::Error for RegistryError {}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.place.line.to_string();
        writeln!(f, "{}: {}", self.place, self.fault)?;
        writeln!(f, "  {line} | {}", self.place.text)?;
        writeln!(f, "  {} | {}^", " ".repeat(line.len()), " ".repeat(self.place.column - 1))?;
        write!(f, "  hint: {}", self.fault.hint())
    }
}

/// Why a registry file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Not TOML.
    #[error("this is not TOML: {0}")]
    Syntax(String),
    /// `schema` is missing or of another version.
    #[error("this file is not of registry schema 1")]
    Schema,
    /// A key that the schema does not have.
    #[error("unknown key `{key}`")]
    UnknownKey {
        /// As written.
        key: String,
        /// The known key that is nearest.
        nearest: Option<&'static str>,
    },
    /// A value of another type.
    #[error("`{key}` must be {expected}")]
    Type {
        /// The key.
        key: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A key that must be there.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// An id that cannot be one.
    #[error("`{0}` cannot be an id")]
    Id(String),
    /// A word that is no role.
    #[error("`{0}` is not a role")]
    Role(String),
    /// A word that is no category.
    #[error("`{0}` is not a category")]
    Category(String),
    /// A host that cannot be one.
    #[error("`{host}` is not a host: {why}")]
    Host {
        /// As written.
        host: String,
        /// What is wrong.
        why: &'static str,
    },
    /// A host that serves other things too, without a path.
    #[error("`{0}` serves other things too, so it needs paths")]
    MixedUse(String),
    /// A path that cannot be one.
    #[error("`{path}` is not a path prefix: {why}")]
    Path {
        /// As written.
        path: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Two entries of one layer with the same id.
    #[error("the id `{id}` is taken by the entry at {first}")]
    DuplicateId {
        /// The id.
        id: String,
        /// Where it was first.
        first: Place,
    },
    /// Two entries of equal rank that ask for different things.
    #[error(
        "`{host}{path}` is {here} for `{here_id}`, but {there} for `{there_id}` at {there_place}",
        here = .here.as_str(), there = .there.as_str()
    )]
    Collision {
        /// The host of both.
        host: String,
        /// The path of both.
        path: String,
        /// The later entry.
        here_id: String,
        /// Its role.
        here: Role,
        /// The earlier entry.
        there_id: String,
        /// Its role.
        there: Role,
        /// Where the earlier one is.
        there_place: Place,
    },
    /// A marker too short to decide alone.
    #[error("the inline marker `{0}` is too short to decide alone")]
    ShortMarker(String),
    /// An empty text where one must say something.
    #[error("`{0}` holds an empty text")]
    Empty(&'static str),
    /// A collector of a vendor that does not exist.
    #[error("no vendor has the id `{id}`")]
    UnknownVendor {
        /// As written.
        id: String,
        /// The id that is nearest.
        nearest: Option<String>,
    },
    /// More entries than positions.
    #[error("there are more than 65,535 entries")]
    TooMany,
}

impl Fault {
    /// What to do next.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Syntax(_) => "see https://toml.io; texts stand in double quotes".into(),
            Self::Schema => "begin the file with `schema = 1`".into(),
            Self::UnknownKey { nearest: Some(known), .. } => format!("did you mean `{known}`?"),
            Self::UnknownKey { nearest: None, .. } => {
                "remove it, or compare with the files in config/registry".into()
            }
            Self::Type { key, expected } => format!("write `{key}` as {expected}"),
            Self::Missing(key) => format!("add `{key} = ...` to this entry"),
            Self::Id(_) => "use lower-case letters, digits and hyphens: `acme-pixel`".into(),
            Self::Role(_) => format!("use one of {}", Role::ALL.map(Role::as_str).join(", ")),
            Self::Category(_) => format!("use one of {}", Category::ALL.map(Category::as_str).join(", ")),
            Self::Host { .. } => {
                "write the bare name in lower case, `ads.example.com`; subdomains are included".into()
            }
            Self::MixedUse(host) => {
                format!("name the tracker's own paths: {{ host = \"{host}\", paths = [\"/pixel\"] }}")
            }
            Self::Path { .. } => {
                "write a prefix such as `/pixel` or `/v*/pixel/`; leave `paths` out for all".into()
            }
            Self::DuplicateId { .. } => {
                "give it another id; to replace a built-in entry, put yours in a file of its own".into()
            }
            Self::Collision { .. } => {
                "give one of them a longer path, or move the path to the entry it belongs to".into()
            }
            Self::ShortMarker(_) => "lengthen it, or put it under `weak_markers`".into(),
            Self::Empty(_) => "remove it or fill it in".into(),
            Self::UnknownVendor { nearest: Some(id), .. } => format!("did you mean `{id}`?"),
            Self::UnknownVendor { nearest: None, .. } => "see `optgate registry list`".into(),
            Self::TooMany => "remove entries that the site never meets".into(),
        }
    }
}
