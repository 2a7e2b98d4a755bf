//! Where opt-outs are kept, as it is meant.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::key::KeyPath;
use super::meaning::{Problems, within};
use super::raw::RawStore;
use super::units::Complaint;

/// Bounds of the record store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Records waiting for the journal.
    pub queue: usize,
    /// New records a second before floods are only counted; an account's is always recorded.
    pub records_per_second: u32,
    /// Records a burst may add above that rate.
    pub record_burst: u32,
    /// Time between two signed checkpoints.
    pub checkpoint: Duration,
    /// How long a record is kept whole; `None` for ever.
    pub retention: Option<Duration>,
    /// Records after which what is known is written to a file of its own, for a quick start; `None`: never.
    pub pack_after: Option<u64>,
    /// The database that nodes share; `None`: this node is alone.
    pub shared: Option<Shared>,
}

impl Default for Store {
    /// What holds without a `[store]` section.
    fn default() -> Self {
        Self {
            queue: 65_536,
            records_per_second: 200,
            record_burst: 2_000,
            checkpoint: Duration::from_secs(3_600),
            // 24 months, whichever they are (11 CCR 7101).
            retention: Some(Duration::from_secs(731 * 86_400)),
            pack_after: Some(100_000),
            shared: None,
        }
    }
}

/// The database through which nodes hear of each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// Where records are written.
    pub url: DatabaseUrl,
    /// Where the others' records are read, when that is elsewhere: a read replica.
    pub read_url: Option<DatabaseUrl>,
    /// Between two looks for records of the others where no notification comes.
    pub poll: Duration,
    /// Ask to be notified. Impossible through a pooler that shares connections, and on a read replica.
    pub listen: bool,
    /// How long an opt-out that is on this node's disk waits to be in the database as well before it is confirmed.
    pub confirm_within: Duration,
}

/// What keeps records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Engine {
    /// A file of this node.
    #[default]
    Sqlite,
    /// That file, and a PostgreSQL database that nodes share.
    Postgres,
}

/// `"postgres://optgate@db.example/optgate"`. `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Url);

impl DatabaseUrl {
    /// As a database client takes it, password included.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl std::fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = self.0.clone();
        if shown.password().is_some() && shown.set_password(Some("***")).is_err() {
            return f.write_str("postgres://***");
        }
        f.write_str(shown.as_str())
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

/// What to write where a database is wanted.
const URL_HINT: &str = "write it like \"postgres://optgate@db.example/optgate\"; a password belongs into a file \
                        named by the environment variable OPTGATE__STORE__URL_FILE";

/// Reads a database's URL.
///
/// # Errors
/// It is no URL, of another scheme, or names no database.
pub fn parse_url(text: &str) -> Result<DatabaseUrl, Complaint> {
    // The text is not repeated: it may hold a password.
    let url = Url::parse(text).map_err(|error| Complaint::new(format!("it is no URL: {error}"), URL_HINT))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(Complaint::new(format!("`{}` is no scheme of PostgreSQL", url.scheme()), URL_HINT));
    }
    if url.path().trim_matches('/').is_empty() {
        return Err(Complaint::new("it names no database", URL_HINT));
    }
    Ok(DatabaseUrl(url))
}

/// The store's settings.
pub(super) fn store(raw: &RawStore, problems: &mut Problems<'_>) -> Store {
    within("store.queue", raw.queue as u64, 1, 10_000_000, problems);
    within("store.records_per_second", raw.records_per_second.into(), 1, 1_000_000, problems);
    within("store.record_burst", raw.record_burst.into(), 1, 10_000_000, problems);
    if raw.checkpoint.0 < Duration::from_secs(1) {
        problems.wrong(
            &KeyPath::of("store").key("checkpoint"),
            "`store.checkpoint` is too short".into(),
            "every one is a row that is kept for good",
            "write 1s or more",
        );
    }
    let least = Store::default().retention.unwrap_or_default();
    if raw.retention.0.is_some_and(|keep| keep < least) {
        problems.wrong(
            &KeyPath::of("store").key("retention"),
            "`store.retention` is too short".into(),
            "records of requests and how they were answered are kept for at least 24 months (11 CCR 7101), and what is \
             pruned cannot be had back",
            "write 731d or more, or \"none\" to keep them for ever",
        );
    }
    Store {
        queue: raw.queue,
        records_per_second: raw.records_per_second,
        record_burst: raw.record_burst,
        checkpoint: raw.checkpoint.0,
        retention: raw.retention.0,
        pack_after: (raw.pack_after > 0).then_some(raw.pack_after),
        shared: shared(raw, problems),
    }
}

fn shared(raw: &RawStore, problems: &mut Problems<'_>) -> Option<Shared> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    within("store.poll", millis(raw.poll.0), 10, 60_000, problems);
    within("store.confirm_within", millis(raw.confirm_within.0), 0, 30_000, problems);
    if matches!(raw.engine, Engine::Sqlite) && raw.read_url.is_some() {
        problems.wrong(
            &KeyPath::of("store.read_url"),
            "`store.read_url` has no effect".to_owned(),
            "`store.engine` is \"sqlite\", which has no replica to read from",
            "write `engine = \"postgres\"` and `url` beside it, or remove it",
        );
    }
    match (raw.engine, &raw.url) {
        (Engine::Sqlite, None) => None,
        (Engine::Sqlite, Some(_)) => {
            problems.wrong(
                &KeyPath::of("store.url"),
                "`store.url` has no effect".to_owned(),
                "`store.engine` is \"sqlite\", which needs no database; other nodes would not hear of opt-outs",
                "write `engine = \"postgres\"` beside it, or remove the URL",
            );
            None
        }
        (Engine::Postgres, None) => {
            problems.missing(
                &KeyPath::of("store.engine"),
                "`store.url` is missing".to_owned(),
                "`store.engine` is \"postgres\", and nothing says where the database is",
                URL_HINT,
            );
            None
        }
        (Engine::Postgres, Some(url)) => Some(Shared {
            url: url.0.clone(),
            read_url: raw.read_url.as_ref().map(|url| url.0.clone()),
            poll: raw.poll.0,
            listen: raw.listen,
            confirm_within: raw.confirm_within.0,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_named_by_a_whole_url() {
        assert!(parse_url("postgres://optgate:s3cret@db.example:5432/optgate?sslmode=require").is_ok());
        assert!(parse_url("postgresql:///optgate?host=/run/postgresql").is_ok());
        for wrong in ["db.example/optgate", "mysql://db.example/optgate", "postgres://db.example", ""] {
            let complaint = parse_url(wrong).unwrap_err();
            assert!(complaint.next.contains("postgres://"), "{wrong}: {complaint:?}");
        }
    }

    /// `optgate config show` and every error are for many eyes.
    #[test]
    fn a_password_is_never_shown() {
        let url = parse_url("postgres://optgate:s3cret@db.example/optgate").unwrap();
        assert_eq!(url.to_string(), "postgres://optgate:***@db.example/optgate");
        assert!(!format!("{url:?}").contains("s3cret"));
        assert!(url.as_str().contains("s3cret"));
        assert!(!parse_url("s3cret").unwrap_err().why.contains("s3cret"));
    }
}
