//! What a data folder leaves behind that may not write to the shared database any more, because it was copied or set back
//! to a backup: its opt-outs are recorded by another node, under that one's own chain, with where they came from.

use std::path::Path;

use super::backup::verified;
use super::beside::journal_there;
use super::import::Arrival;
use super::journal::left::{Left, left};
use super::record::under;
use super::{JOURNAL, OpenError, SECRET, keys, time};

/// What another data folder has.
#[derive(Debug)]
pub struct LeftBehind {
    /// Its accounts and profiles that are opted out.
    pub arrivals: Vec<Arrival>,
    /// Its opt-outs that name no account: evidence, which stays where it is.
    pub of_browsers: u64,
    /// Why it is not what was written, if it is not: then it may lack opt-outs that it had.
    pub unproven: Option<String>,
}

/// Reads who is opted out by a data folder's own word. It is only read, and stays as it is.
///
/// # Errors
/// It is the data folder itself or one with another secret, whose accounts would match nobody, or cannot be read; or the
/// data folder has no journal.
pub fn left_behind(folder: &Path, data_dir: &Path) -> Result<LeftBehind, OpenError> {
    let refuse = |why: &str| OpenError::Folder { path: folder.display().to_string(), why: why.to_owned() };
    let here = data_dir.join(JOURNAL);
    journal_there(&here)?;
    let checks = keys::load_or_create(&data_dir.join(SECRET), true)?.checks;
    let Left { node, key_checks, outs, of_browsers } = left(&folder.join(JOURNAL))?;
    if left(&here)?.node == node {
        return Err(refuse(
            "is this node's own data folder, or a copy of it; move the folder away and start with an empty one that holds \
             only secret.key, then adopt what was moved",
        ));
    }
    if !key_checks.iter().all(|check| checks.contains(check)) {
        return Err(refuse(
            "was written with another secret.key, so its account opt-outs would match nobody here; put the secrets of its \
             secret.key, a line each, below the one in this data folder, and start anew",
        ));
    }
    // What it says is recorded all the same: more opt-outs harm nobody, and it may be missing some.
    let unproven = verified(folder).err().map(|why| why.to_string());
    let live = checks.first().cloned().unwrap_or_default();
    let arrivals = outs.into_iter().map(|out| {
        let time = time::to_the_second(out.time_us);
        let policy = format!("adopted from node {node} record {} of {time}", out.seq);
        Arrival {
            subject: out.subject,
            others: Vec::new(),
            formerly: Vec::new(),
            account: None,
            policy: if out.under == live { policy } else { under(&policy, &out.under) },
            site: out.site,
            requested_us: out.time_us,
            until_us: out.time_us,
            adopted: true,
            denied: None,
        }
    });
    Ok(LeftBehind { arrivals: arrivals.collect(), of_browsers, unproven })
}
