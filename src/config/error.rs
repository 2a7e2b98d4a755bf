//! What is wrong with the settings: where, why, and what to do next.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;

/// Exit code of a program whose settings cannot hold (sysexits.h).
pub const EX_CONFIG: u8 = 78;

/// Most errors shown at once; the rest are counted.
pub const SHOWN: usize = 10;

/// Settings that may hold a password, whatever else they hold.
const HIDDEN: [&str; 2] = ["store.url", "store.read_url"];

/// Stands for a value that is not shown.
const NOT_SHOWN: &str = "(not shown: it may hold a password)";

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a TOML file.
    File {
        /// The file, as it was named.
        file: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// The whole line.
        text: String,
        /// Characters to underline.
        width: usize,
    },
    /// In an environment variable.
    Environment {
        /// Its name.
        name: String,
        /// Its value; `None` when a file held it, for it may be a secret.
        value: Option<String>,
    },
    /// On the command line.
    Flag {
        /// `--listen`.
        name: String,
        /// What followed.
        value: String,
    },
    /// A file as a whole: it is missing or cannot be read.
    WholeFile(PathBuf),
    /// Nowhere: the default, or a setting that is missing.
    Default,
}

impl Place {
    /// Whether the value came from a `_FILE` variable and must not be printed.
    #[must_use]
    pub const fn is_secret(&self) -> bool {
        matches!(self, Self::Environment { value: None, .. })
    }

    /// Leaves the value out.
    fn hide(&mut self) {
        match self {
            Self::File { column, text, width, .. } => {
                *text = text.chars().take(*column - 1).chain(NOT_SHOWN.chars()).collect();
                *width = 1;
            }
            Self::Environment { value: Some(value), .. } | Self::Flag { value, .. } => {
                NOT_SHOWN.clone_into(value);
            }
            Self::Environment { value: None, .. } | Self::WholeFile(_) | Self::Default => {}
        }
    }
}

/// One line: `FILE:LINE`, `env NAME`, the flag, or `default`.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, .. } => write!(f, "{}:{line}", file.display()),
            Self::Environment { name, .. } => write!(f, "env {name}"),
            Self::Flag { name, .. } => f.write_str(name),
            Self::WholeFile(file) => write!(f, "{}", file.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// Where it was written.
    pub place: Place,
    /// What is wrong, naming the key.
    pub what: String,
    /// Why that is wrong.
    pub why: String,
    /// What to do next.
    pub next: String,
}

impl ConfigError {
    /// Keeps what a `_FILE` variable brought out of the words: complaints quote the value, and it may be
    /// a secret. Of a database's address the complaints quote nothing, but its line does.
    pub(super) fn without_secret(mut self, key: &dyn fmt::Display) -> Self {
        if HIDDEN.contains(&key.to_string().as_str()) {
            self.place.hide();
        }
        if !self.place.is_secret() {
            return self;
        }
        Self {
            place: self.place,
            what: format!("`{key}` cannot be used"),
            why: "the value in the file does not fit this setting".to_owned(),
            next: format!("correct what the file holds; config/optgate.toml says what `{key}` takes"),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { file, line, column, text, width } => {
                writeln!(f, "{}:{line}:{column}: {}", file.display(), self.what)?;
                let number = line.to_string();
                let blank = " ".repeat(number.len());
                // Tabs are kept in front of the mark, so that it stays below its word.
                let lead: String =
                    text.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
                writeln!(f, "  {number} | {}", without_user(text))?;
                writeln!(f, "  {blank} | {lead}{}", "^".repeat((*width).max(1)))?;
            }
            Place::Environment { name, value } => {
                writeln!(f, "environment: {}", self.what)?;
                writeln!(f, "  {name}={}", value.as_deref().unwrap_or("(read from a file)"))?;
            }
            Place::Flag { name, value } => {
                writeln!(f, "command line: {}", self.what)?;
                writeln!(f, "  {name} {value}")?;
            }
            Place::WholeFile(file) => writeln!(f, "{}: {}", file.display(), self.what)?,
            Place::Default => writeln!(f, "{}", self.what)?,
        }
        writeln!(f, "  why: {}", self.why)?;
        write!(f, "  next: {}", self.next)
    }
}

/// A line without the user and password of an address in it: what is no TOML has no key that would tell.
fn without_user(line: &str) -> Cow<'_, str> {
    let user = line.split_once("://").and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once('@')?)));
    match user {
        Some((scheme, (_, host))) => Cow::Owned(format!("{scheme}://***@{host}")),
        None => Cow::Borrowed(line),
    }
}

/// Everything that is wrong, in the order of the layers. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().take(SHOWN).enumerate() {
            if i > 0 {
                f.write_str("\n\n")?;
            }
            write!(f, "{error}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n\nand {more} more"),
        }
    }
}
