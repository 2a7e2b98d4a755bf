//! Content-Security-Policy: our inline scripts admitted, reports to trackers dropped, a second wall.
//!
//! All policies of all fields apply at once (CSP3, 2.4), and those of `meta` elements in the head too, from
//! their place on. So a script of ours runs only when every one of them lets it. Report-only policies block
//! nothing and are left as they are, but for reports to trackers and about the keeper.
//!
//! Which policies are edited:
//!
//! * the head's, for the guard and the keeper: a nonce that is there is used, else a hash is added;
//! * the head's report-only ones, for the keeper: it goes to every visitor, and the site's reports are not to
//!   fill with it;
//! * the head's and a `meta`'s, for the files that stand in for stripped ones (`stand_ins`);
//! * a `meta`'s, for the keeper of an opted-out visitor: the guard stands before it, so that it does not
//!   apply to it. For a visitor who is not opted out the body stays as it is but for its one insertion:
//!   behind a `meta` that does not let it run there is no keeper.

mod admit;
mod policy;
mod reports;
mod stand_ins;
mod wall;

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};

use super::references::{text_of, value_of};
pub use admit::{
    Admission, InMeta, TRUSTED_TYPES_POLICY, admit, admit_by_hash, admit_in_meta, admit_policy_name,
    admit_reported, know_scripts_by_hash, knows_scripts_by_hash,
};
pub use reports::drop_reports;
pub use stand_ins::{admit_stand_ins, folder, with_stand_ins};
pub use wall::{NeverAllowed, Wall};

/// Changes the values of a field; those for which `change` gives nothing stay. As browsers do, any byte is read as a
/// character.
fn edit(headers: &mut HeaderMap, name: &HeaderName, change: impl Fn(&str) -> Option<String>) {
    let mut changed = false;
    let mut fields: Vec<HeaderValue> = Vec::new();
    for value in headers.get_all(name) {
        match change(&text_of(value)).and_then(|edited| value_of(&edited)) {
            Some(value) => {
                changed = true;
                fields.push(value);
            }
            None => fields.push(value.clone()),
        }
    }
    if changed {
        replace(headers, name.clone(), fields);
    }
}

fn replace(headers: &mut HeaderMap, name: HeaderName, fields: Vec<HeaderValue>) {
    headers.remove(&name);
    for field in fields {
        headers.append(&name, field);
    }
}
