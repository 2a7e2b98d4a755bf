//! What the files that the settings name hold and nobody can use, or soon cannot.

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

/// What is wrong with the files that the settings name, and what is questionable.
#[derive(Debug, Default)]
pub struct Files {
    /// Empty when all of them can be used.
    pub problems: Vec<FileProblem>,
    /// Certificates of visitors' listeners that end soon, or have.
    pub warnings: Vec<String>,
}

/// Reads certificates, keys, origins' roots and filter lists.
#[must_use]
pub fn look_at_files(settings: &Settings) -> Files {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let now = jiff::Timestamp::now().as_second();
    let mut note = |setting: String, done: anyhow::Result<()>| {
        problems.extend(done.err().map(|error| FileProblem { setting, error: format!("{error:#}") }));
    };
    if !settings.tls.listen.is_empty() {
        for files in &settings.tls.certificates {
            let read = Certificates::read(std::slice::from_ref(files));
            note(files.setting.clone(), read.map(|one| warnings.extend(one.ending_soon(now))));
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
    Files { problems, warnings }
}
