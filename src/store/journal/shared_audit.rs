//! Reads the records of all nodes from the database that they share, and trusts nothing it reads.

use super::chain::{Fields, Head, Kept};
use super::postgres::{Database, Shipped, Trouble};
use super::seal::{EVIDENCE, Shared, Unsealed};
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
        let mut said = Vec::new();
        for (node, _) in database.others("").await.map_err(away)? {
            let mut head = Head::default();
            loop {
                let rows = database.whole(&node, head.seq).await.map_err(away)?;
                if rows.is_empty() {
                    break;
                }
                for row in &rows {
                    let broken = || failed(format!("record {} of node {node} {BROKEN}", head.seq + 1));
                    let (fields, next) = check(&head, &node, row).ok_or_else(broken)?;
                    head = next;
                    let shared = fields.as_ref().and_then(shared);
                    said.extend(shared.map(|shared| (node.clone(), head.seq, shared)));
                    let view = fields.map(|fields| fields.view());
                    view.map_or(Ok(()), &mut *each).map_err(OpenError::Output)?;
                }
            }
        }
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

/// What of accounts a record says that it kept there.
fn shared(fields: &Fields<'_>) -> Option<Shared> {
    // Words of a later version seal nothing that this one knows.
    Upkeep::of(fields).ok()??.shared
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
