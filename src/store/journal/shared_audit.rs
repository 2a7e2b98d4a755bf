//! Reads the records of all nodes from the database that they share, and trusts nothing it reads.

use super::chain::{Fields, Head, Kept};
use super::postgres::{Database, Shipped, Trouble};
use super::seal::{EVIDENCE, Left, NAMED, Seal, Seals, Shared, Unsealed};
use super::upkeep::Upkeep;
use super::{BROKEN, shared_refusal};
use crate::config::DatabaseUrl;
use crate::store::OpenError;
use crate::store::record::RecordView;

/// Reads every record of every node: by node, in its order; see [`crate::store::export_shared`].
pub(in crate::store) fn export(
    url: &DatabaseUrl,
    each: &mut dyn FnMut(RecordView) -> std::io::Result<()>,
) -> Result<(), OpenError> {
    let failed = |why: String| shared_refusal(url, why);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(format!("cannot be read: {error}")))?;
    let away = |trouble: Trouble| failed(trouble.to_string());
    runtime.block_on(async {
        let mut database = Database::connect(url).await.map_err(away)?;
        let (mut said, mut untied) = (Vec::new(), Untied::default());
        for (node, last) in database.others("").await.map_err(away)? {
            let (mut head, mut seals, mut pruned) = (Head::default(), Seals::default(), 0);
            loop {
                let rows = database.whole(&node, head.seq).await.map_err(away)?;
                if rows.is_empty() {
                    break;
                }
                for row in &rows {
                    let broken = || failed(format!("record {} of node {node} {BROKEN}", head.seq + 1));
                    let (fields, next) = check(&head, &node, row).ok_or_else(broken)?;
                    head = next;
                    pruned += u64::from(fields.is_none());
                    // Words of a later version say nothing that this one knows.
                    if let Some(upkeep) = fields.as_ref().and_then(|fields| Upkeep::of(fields).ok()?) {
                        // What seals rows of that node's own file is not held against anything here.
                        seals.say(head.seq, &Upkeep { seal: Seal::default(), ..upkeep.clone() });
                        untied.say(&upkeep);
                        said.extend(upkeep.shared.map(|shared| (node.clone(), head.seq, shared)));
                    }
                    if fields.is_some_and(|fields| fields.person.is_some()) && row.subject.is_none() {
                        untied.found(&node, head.seq);
                    }
                    let view = fields.map(|fields| fields.view());
                    view.map_or(Ok(()), &mut *each).map_err(OpenError::Output)?;
                }
            }
            if head.seq < last {
                return Err(failed(format!(
                    "it has had records of node {node} up to {last}, and has them up to {} now: the others went missing. \
                     That node sends them again while it runs with its folder; else restore the table",
                    head.seq
                )));
            }
            let left = Left { pruned, untied: Vec::new() };
            seals.check(&left).map_err(|why| failed(format!("of node {node}, {why}. {EVIDENCE}")))?;
        }
        untied.check().map_err(failed)?;
        for (node, seq, shared) in said {
            let leaves = database.kept_by(&shared.erasure).await.map_err(away)?;
            if Shared::of(shared.erasure, leaves) != shared {
                let why = Unsealed::Others(seq);
                return Err(failed(format!("of node {node}, {why}. {EVIDENCE}")));
            }
        }
        Ok(())
    })
}

/// Whole records that have lost what ties them to an account, of all nodes.
///
/// An erasure says how many it untied of its own node's records, and how many of other nodes' here. What of those another
/// order unties in their own node's file later is said twice, and pruned ones are not taken off, for the database prunes
/// later than a file: so there may be fewer, and never more.
#[derive(Debug, Default)]
struct Untied {
    found: u64,
    first: Vec<String>,
    said: u64,
    /// An erasure by an earlier version did not say how many it untied here.
    vague: bool,
}

impl Untied {
    fn say(&mut self, upkeep: &Upkeep) {
        self.vague |= upkeep.erased > 0 && upkeep.elsewhere.is_none();
        self.said =
            self.said.saturating_add(upkeep.erased).saturating_add(upkeep.elsewhere.unwrap_or_default());
    }

    fn found(&mut self, node: &str, seq: i64) {
        self.found += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("{seq} of node {node}"));
        }
    }

    fn check(&self) -> Result<(), String> {
        if self.vague || self.found <= self.said {
            return Ok(());
        }
        let more = if self.found > self.first.len() as u64 { " and more" } else { "" };
        Err(format!(
            "{} records have lost what ties them to an account, and the records of erasures tell of {}: a node that begins \
             anew does not honour who opted out in one of the others. They are among records {}{more}. An erasure that is \
             under way looks the same: type this again. {EVIDENCE}",
            self.found,
            self.said,
            self.first.join(", ")
        ))
    }
}

/// The record of a row, unless it was pruned, if it follows the head and its columns say what its bytes say.
fn check<'r>(head: &Head, node: &str, row: &'r Shipped) -> Option<(Option<Fields<'r>>, Head)> {
    let kept = Kept {
        seq: row.seq,
        time_us: row.time_us,
        reference: row.reference.as_deref(),
        subject: row.subject.as_deref(),
        blinding: row.blinding.as_deref(),
        canonical: row.canonical.as_deref(),
        digest: row.digest.as_deref(),
        chain: &row.chain,
    };
    let (fields, next) = head.after(&kept)?;
    let told = (node, &*row.site, &*row.kind, &*row.signal);
    let fits = fields.is_none_or(|fields| told == (fields.node, fields.site, fields.kind, fields.signal));
    fits.then_some((fields, next))
}
