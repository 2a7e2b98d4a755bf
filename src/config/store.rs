//! Where opt-outs are kept, as it is meant.

use std::borrow::Cow;
use std::net::IpAddr;
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

    /// Whether nobody on the way can read what goes there, or answer in the database's place: its certificate is verified, or
    /// it is on this machine.
    #[must_use]
    pub fn is_private(&self) -> bool {
        let said = |names: &[&str]| {
            self.0.query_pairs().filter(|(name, _)| names.contains(&&**name)).last().map(|(_, value)| value)
        };
        let host = said(&["host", "hostaddr"]).or_else(|| self.0.host_str().map(Into::into));
        let host = host.unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        // A path is a socket's; in the host's place its slashes are coded.
        let here =
            host.starts_with('/') || host.to_ascii_lowercase().starts_with("%2f") || host == "localhost";
        let verified = said(SSL_MODE).is_some_and(|mode| VERIFYING.contains(&&*mode.to_ascii_lowercase()));
        here || verified || address.is_ok_and(|address| address.is_loopback())
    }

    /// A file of it that cannot be read, and why: the client would say only that something is not there, at every try.
    fn unreadable(&self) -> Option<String> {
        // What holds the key or certificate itself is no file.
        let of_file = |name: &str, value: &str| {
            (SSL_ROOTS.contains(&name) || SSL_FILES.contains(&name)) && !value.starts_with("-----BEGIN")
        };
        let mut files = self.0.query_pairs().filter(|(name, value)| of_file(name, value));
        files.find_map(|(name, file)| {
            let error = std::fs::File::open(&*file).err()?;
            Some(format!("its `{name}` is {file}: {error}"))
        })
    }
}

impl std::fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = self.0.clone();
        if shown.password().is_some() && shown.set_password(Some("***")).is_err() {
            return f.write_str("postgres://***");
        }
        if self.0.query_pairs().any(|(name, _)| name == PASSWORD) {
            let hide = |(name, value): (Cow<'_, str>, Cow<'_, str>)| {
                let value = if name == PASSWORD { "***".to_owned() } else { value.into_owned() };
                (name.into_owned(), value)
            };
            let pairs: Vec<_> = self.0.query_pairs().map(hide).collect();
            shown.query_pairs_mut().clear().extend_pairs(pairs);
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

/// The parameter that holds a password.
const PASSWORD: &str = "password";

/// How the connection is kept from others, under each of its names.
const SSL_MODE: &[&str] = &["sslmode", "ssl-mode"];

/// Whom the server's certificate must lead to, likewise.
const SSL_ROOTS: &[&str] = &["sslrootcert", "ssl-root-cert", "ssl-ca"];

/// The modes that look at the certificate.
const VERIFYING: &[&str] = &["verify-ca", "verify-full"];

/// The others.
const NOT_VERIFYING: &[&str] = &["disable", "allow", "prefer", "require"];

/// The files of a certificate of this node's own.
const SSL_FILES: &[&str] = &["sslcert", "ssl-cert", "sslkey", "ssl-key"];

/// What else a URL may say (beside `options[NAME]`): the client passes over anything else, and logs it with its value.
const PARAMETERS: &[&str] = &[
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    PASSWORD,
    "application_name",
    "options",
];

/// Refuses parameters that would have no effect.
fn parameters(url: &Url) -> Result<(), Complaint> {
    const TLS: &str =
        "write ?sslmode=verify-full&sslrootcert=FILE, or sslmode=verify-ca where the name is another";
    let (mut verifies, mut roots) = (false, false);
    let is_known = |name: &str| {
        let one = PARAMETERS.contains(&name) || SSL_FILES.contains(&name);
        one || name.starts_with("options[") && name.ends_with(']')
    };
    for (name, value) in url.query_pairs() {
        let name = &*name;
        if SSL_MODE.contains(&name) {
            let mode = value.to_ascii_lowercase();
            verifies = VERIFYING.contains(&&*mode);
            if !verifies && !NOT_VERIFYING.contains(&&*mode) {
                return Err(Complaint::new(format!("`{name}` has a value that is no mode of it"), TLS));
            }
        } else if SSL_ROOTS.contains(&name) {
            roots = true;
        } else if !is_known(name) {
            return Err(Complaint::new(
                format!("it has a parameter `{name}`, which would have no effect"),
                URL_HINT,
            ));
        }
    }
    if roots && !verifies {
        let why = "it says what the server's certificate must lead to, and its `sslmode` looks at none";
        return Err(Complaint::new(why, TLS));
    }
    Ok(())
}

/// Reads a database's URL.
///
/// # Errors
/// It is no URL, of another scheme, names no database, or has parameters that would have no effect.
pub fn parse_url(text: &str) -> Result<DatabaseUrl, Complaint> {
    // The text is not repeated: it may hold a password.
    let url = Url::parse(text).map_err(|error| Complaint::new(format!("it is no URL: {error}"), URL_HINT))?;
    if !matches!(url.scheme(), "postgres" | "postgresql") {
        return Err(Complaint::new(format!("`{}` is no scheme of PostgreSQL", url.scheme()), URL_HINT));
    }
    if url.path().trim_matches('/').is_empty() {
        return Err(Complaint::new("it names no database", URL_HINT));
    }
    parameters(&url)?;
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
    for (key, url) in [("store.url", &raw.url), ("store.read_url", &raw.read_url)] {
        if let Some(why) = url.as_ref().and_then(|url| url.0.unreadable()) {
            let next = "name a file in PEM that exists and may be read by this user";
            problems.wrong(
                &KeyPath::of(key),
                format!("`{key}` names a file that cannot be read"),
                &why,
                next,
            );
        }
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

    /// The client passes over what it does not know, with a line in the log that shows its value, and takes the roots of a
    /// certificate that it does not look at.
    #[test]
    fn a_parameter_that_would_have_no_effect_is_refused_and_its_value_not_shown() {
        let with = |query: &str| parse_url(&format!("postgres://optgate@db.example/optgate?{query}"));
        for (query, named) in [
            ("sslpassword=s3cret", "sslpassword"),
            ("target_session_attrs=read-write", "target_session_attrs"),
            ("sslmode=s3cret", "sslmode"),
            ("sslrootcert=s3cret.pem", "sslmode"),
            ("sslmode=require&sslrootcert=s3cret.pem", "sslmode"),
        ] {
            let complaint = with(query).unwrap_err();
            assert!(
                complaint.why.contains(named) && !complaint.why.contains("s3cret"),
                "{query}: {complaint:?}"
            );
        }
        for query in [
            "sslmode=verify-full&sslrootcert=roots.pem",
            "options[search_path]=x&port=5433",
            "user=u&password=p",
        ] {
            assert!(with(query).is_ok(), "{query}");
        }
    }

    #[test]
    fn a_database_is_private_where_nobody_can_come_between() {
        for private in [
            "postgres://optgate@127.0.0.1/optgate",
            "postgres://optgate@[::1]/optgate",
            "postgres://localhost/optgate",
            "postgresql:///optgate?host=/run/postgresql",
            "postgres://%2Frun%2Fpostgresql/optgate",
            "postgres://db.example/optgate?sslmode=verify-full",
            "postgres://db.example/optgate?ssl-mode=Verify-CA&sslrootcert=roots.pem",
        ] {
            assert!(parse_url(private).unwrap().is_private(), "{private}");
        }
        for open in ["postgres://db.example/optgate", "postgres://10.0.0.1/optgate?sslmode=require"] {
            assert!(!parse_url(open).unwrap().is_private(), "{open}");
        }
    }

    /// `optgate config show` and every error are for many eyes.
    #[test]
    fn a_password_is_never_shown() {
        let url = parse_url("postgres://optgate:s3cret@db.example/optgate").unwrap();
        assert_eq!(url.to_string(), "postgres://optgate:***@db.example/optgate");
        assert!(!format!("{url:?}").contains("s3cret"));
        assert!(url.as_str().contains("s3cret"));
        let url = parse_url("postgres://db.example/optgate?user=optgate&password=s3cret").unwrap();
        assert_eq!(url.to_string(), "postgres://db.example/optgate?user=optgate&password=***");
        assert!(url.as_str().contains("s3cret"));
        assert!(!parse_url("s3cret").unwrap_err().why.contains("s3cret"));
    }
}
