//! Reads the records of all nodes from the database that they share, and trusts nothing it reads.

use super::chain::{Head, Kept};
use super::postgres::{Database, Shipped, Trouble};
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
        for (node, _) in database.others("").await.map_err(away)? {
            let mut head = Head::default();
            loop {
                let rows = database.whole(&node, head.seq).await.map_err(away)?;
                if rows.is_empty() {
                    break;
                }
                for row in &rows {
                    let broken = || failed(format!("record {} of node {node} {BROKEN}", head.seq + 1));
                    let (view, next) = check(&head, &node, row).ok_or_else(broken)?;
                    head = next;
                    view.map_or(Ok(()), &mut *each).map_err(OpenError::Output)?;
                }
            }
        }
        Ok(())
    })
}

/// The record of a row, unless it was pruned, if it follows the head and its columns say what its bytes say.
fn check(head: &Head, node: &str, row: &Shipped) -> Option<(Option<RecordView>, Head)> {
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
    fits.then(|| (fields.map(|fields| fields.view()), next))
}
