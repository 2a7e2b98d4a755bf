//! What the files that the settings name hold and nobody can use.

use crate::config::Settings;
use crate::edge::downstream::tls::Certificates;
use crate::edge::upstream::Connector;

use super::admin_door::{AdminDoor, AdminKey};
use super::build::verifier;
use super::lists::Shelf;

/// A file that cannot be used.
#[derive(Debug)]
pub struct FileProblem {
    /// The setting that names it, or the table that does: `tls.certificates[0]`, `sites[1].upstream`.
    pub setting: String,
    /// What is wrong, naming the file; what to do on a line of its own behind `next:`, where there is something.
    pub error: String,
}

/// Reads certificates, keys, origins' roots and filter lists. Empty when all of them can be used.
#[must_use]
pub fn file_problems(settings: &Settings) -> Vec<FileProblem> {
    let mut problems = Vec::new();
    let mut note = |setting: String, done: anyhow::Result<()>| {
        problems.extend(done.err().map(|error| FileProblem { setting, error: format!("{error:#}") }));
    };
    if !settings.tls.listen.is_empty() {
        for files in &settings.tls.certificates {
            note(files.setting.clone(), Certificates::read(std::slice::from_ref(files)).map(drop));
        }
    }
    let door = AdminDoor::read(settings.admin_tls.as_ref()).map(drop);
    note("admin.tls".to_owned(), door.and_then(|()| AdminKey::of(settings).map(drop)));
    note("lists".to_owned(), Shelf::open(settings).map(drop).map_err(Into::into));
    note("account.jwt".to_owned(), verifier(settings, None).map(drop));
    for (i, site) in settings.sites.iter().enumerate() {
        for upstream in &site.upstreams {
            let read = Connector::new(upstream.clone(), settings.timeouts.upstream_connect).map(drop);
            note(format!("sites[{i}].upstream"), read);
        }
    }
    problems
}

/// What is questionable about them: certificates that end soon, or have.
#[must_use]
pub fn file_warnings(settings: &Settings) -> Vec<String> {
    let certificates = Certificates::read(&settings.tls.certificates).ok();
    certificates.map(|all| all.ending_soon(jiff::Timestamp::now().as_second())).unwrap_or_default()
}
