//! Names that are lost: an account's hash holds the name of its site or group, so that opt-outs which are kept under a
//! name that nobody has any more, or that a site left behind with its group, would match nobody there, and nothing would
//! say so.

use std::path::Path;

use super::journal::names::{note, told};
use super::{JOURNAL, OpenError, Store};
use crate::config::{Blind, Names};

/// What is wrong with the names of the settings, a line for each that opt-outs of a data folder are kept under and no
/// site or group has, nor had, or not each site that kept them there; empty when all of them are answered for, or where there is no journal. Works beside a
/// running server.
///
/// Cost: a few rows; reads the whole journal where a name is missing, and once where none was noted yet.
///
/// # Errors
/// The journal cannot be read.
pub fn orphans(data_dir: &Path, names: &Names) -> Result<Vec<String>, OpenError> {
    let journal = data_dir.join(JOURNAL);
    // An empty file is one that a start was about to make.
    if journal.metadata().map_or(true, |meta| meta.len() == 0) {
        return Ok(Vec::new());
    }
    let told = told(&journal, |noted| {
        noted.is_empty() || noted.iter().any(|(name, sites)| names.blind(name, sites).is_some())
    })?;
    let noted = told.noted.iter().filter_map(|(name, sites)| {
        let count = sites.iter().filter_map(|site| told.out.get(site)).sum::<u64>();
        complaint(name, &names.blind(name, sites)?, count, told.silent)
    });
    // What no note tells: records from before names were noted, and what was imported without a server.
    let tells = |site: &String| told.noted.values().any(|sites| sites.contains(site));
    let unnoted = told.out.iter().filter(|(site, _)| !tells(site) && !names.known.contains(*site));
    let unnoted = unnoted.filter_map(|(site, count)| complaint(site, &Blind::All, *count, told.silent));
    Ok(noted.chain(unnoted).collect())
}

/// What is said of a name that is lost to some; `None` where nothing is kept under it.
pub(super) fn complaint(name: &str, blind: &Blind<'_>, count: u64, silent: u64) -> Option<String> {
    let kept = match (count, silent) {
        (0, 0) => return None,
        (0, silent) => format!(
            "{silent} opted-out accounts may be kept under the name \"{name}\" (their records were pruned or erased)"
        ),
        (count, _) => format!("{count} opted-out accounts or profiles are kept under the name \"{name}\""),
    };
    Some(match blind {
        Blind::All => format!(
            "{kept}, which no site or group has now: they would not be honoured\n  \
             next: add formerly = [\"{name}\"] to the site or group that has its visitors now, or give it back \
             name = \"{name}\"; if nobody has them because the site was shut down: retired_sites = [\"{name}\"]"
        ),
        Blind::Sites(sites) => {
            let sites = sites.iter().map(|site| format!("\"{site}\"")).collect::<Vec<_>>().join(", ");
            format!(
                "{kept}, and the sites {sites}, which had their visitors there, do not look there now: they would not be \
                 honoured at these\n  \
                 next: add formerly = [\"{name}\"] to each of them, or put them back into \"{name}\""
            )
        }
    })
}

impl Store {
    /// Notes under which names accounts are kept from now on, for a later start that has others. Blocks for the write.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn note_names(&self, names: &Names) -> Result<(), OpenError> {
        if let Some(feed) = &self.0.state.feed {
            feed.names_are(names.clone());
        }
        note(self.0.place.path(), &names.kept)
    }
}
