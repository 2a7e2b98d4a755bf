//! Reads the records of all nodes from the database that they share, and trusts nothing it reads.

use super::believed::{has_mac, vouched};
use super::chain::{Fields, Head, Kept};
use super::postgres::{Database, Shipped, Trouble};
use super::seal::{EVIDENCE, Left, NAMED, Seal, Seals, Shared, Unsealed};
use super::upkeep::Upkeep;
use super::{BROKEN, shared_refusal};
use crate::config::DatabaseUrl;
use crate::privacy::{Keys, Subject};
use crate::store::OpenError;
use crate::store::record::RecordView;

/// Reads every record of every node: by node, in its order; see [`crate::store::export_shared`].
pub(in crate::store) fn export(
    url: &DatabaseUrl,
    keys: Option<(&Keys, &[String])>,
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
        let keys = match keys {
            Some((keys, checks)) => {
                database.check(checks, false).await.map_err(away)?;
                Some(keys)
            }
            None => None,
        };
        let (mut said, mut untied) = (Vec::new(), Untied::default());
        let unlisted = database.unlisted().await.map_err(away)?;
        let listed = database.others("").await.map_err(away)?;
        for (node, last) in listed.into_iter().chain(unlisted.iter().cloned()) {
            let (mut head, mut seals, mut gone) = (Head::default(), Seals::default(), Gone::default());
            loop {
                let rows = database.whole(&node, head.seq).await.map_err(away)?;
                if rows.is_empty() {
                    break;
                }
                for row in &rows {
                    let broken = || failed(format!("record {} of node {node} {BROKEN}", head.seq + 1));
                    let (fields, next) = check(&head, &node, row).ok_or_else(broken)?;
                    head = next;
                    gone.found += u64::from(fields.is_none());
                    // Words of a later version say nothing that this one knows.
                    if let Some(upkeep) = fields.as_ref().and_then(|fields| Upkeep::of(fields).ok()?) {
                        // What seals rows of that node's own file is not held against anything here.
                        seals.say(head.seq, &Upkeep { seal: Seal::default(), ..upkeep.clone() });
                        untied.say(&upkeep, &mut gone);
                        said.extend(upkeep.shared.map(|shared| (node.clone(), head.seq, shared)));
                    }
                    let names = fields.map(|fields| fields.person.is_some());
                    untied.found((&node, head.seq), names, row.subject.is_some());
                    if names.is_none() && row.subject.is_some() {
                        untied.vouched(&node, row, keys);
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
            untied.node(&gone);
            let left = Left { pruned: gone.found, untied: Vec::new() };
            seals.check(&left).map_err(|why| failed(format!("of node {node}, {why}. {EVIDENCE}")))?;
        }
        untied.check().map_err(failed)?;
        if let Some((node, last)) = unlisted.first() {
            return Err(failed(format!(
                "it has records of node {node} up to {last}, and no line of that node in `nodes`, which says how many there \
                 must be. That node writes it again while it runs with its folder; else restore the table"
            )));
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

/// Records that have lost what ties them to an account, of all nodes.
///
/// An erasure says how many it untied of its own node's records, and how many others here, whole and pruned ones. What of
/// those another order unties in their own node's file later is said twice: so there may be fewer, and never more.
///
/// Of a pruned row nothing shows whether it ever named an account: an order to prune says how many did. What a file has
/// pruned and the database not yet may be any of those, and so may pruned records that went here without whose they were:
/// as many may lack it.
#[derive(Debug, Default)]
struct Untied {
    /// Whole ones.
    whole: Found,
    /// Pruned ones that are tied to nobody, whether they ever were or not,
    nobodys: Found,
    /// and those that are tied to an account:
    tied: u64,
    /// some with the word of their node, whatever it is of,
    worded: u64,
    /// some without one,
    silent: Found,
    /// and some with another than it gave.
    forged: Found,
    /// Pruned by orders of earlier versions, which gave no word: so many may be without.
    unvouched: u64,
    /// Secrets were retired, which may have made such words.
    retired: bool,
    /// Whole ones, by what the records say; and pruned ones on top.
    said: u64,
    said_pruned: u64,
    /// Pruned ones that named an account, at least,
    named: u64,
    /// and those of them that were pruned by orders of this version.
    named_now: u64,
    /// They went here without whose they were.
    sent: u64,
    /// An earlier version did not say how many it untied here; and how many of those it pruned named an account, or how
    /// many pruned ones it untied.
    vague: bool,
    vague_pruned: bool,
}

/// Rows, and the first of them by name.
#[derive(Debug, Default)]
struct Found {
    count: u64,
    first: Vec<String>,
}

impl Found {
    fn push(&mut self, node: &str, seq: i64) {
        self.count += 1;
        if self.first.len() < NAMED {
            self.first.push(format!("{seq} of node {node}"));
        }
    }

    fn names(&self) -> String {
        let more = if self.count > self.first.len() as u64 { " and more" } else { "" };
        format!("{}{more}", self.first.join(", "))
    }
}

/// One node's pruned records.
#[derive(Debug, Default)]
struct Gone {
    /// Here,
    found: u64,
    /// and by what its records say,
    said: u64,
    /// of which so many named an account,
    named: u64,
    /// and so many were to get their node's word.
    named_now: u64,
}

impl Untied {
    fn say(&mut self, upkeep: &Upkeep, gone: &mut Gone) {
        self.vague |= upkeep.erased > 0 && upkeep.elsewhere.is_none();
        self.vague_pruned |= upkeep.is_vague_of_pruned();
        self.said =
            self.said.saturating_add(upkeep.erased).saturating_add(upkeep.elsewhere.unwrap_or_default());
        self.said_pruned = self.said_pruned.saturating_add(upkeep.pruned_there);
        self.sent = self.sent.saturating_add(upkeep.sent);
        gone.said = gone.said.saturating_add(upkeep.pruned);
        let named = upkeep.pruned_tied.unwrap_or_default();
        let named = named.saturating_add(upkeep.pruned_untied.unwrap_or_default());
        gone.named = gone.named.saturating_add(named);
        if upkeep.vouched {
            gone.named_now = gone.named_now.saturating_add(named);
        }
        self.unvouched = self.unvouched.saturating_add(upkeep.pruned_unvouched());
        self.retired |= upkeep.retired;
    }

    /// A row as it stands here; `names`: its bytes say that it named an account, `None` for one that is pruned.
    fn found(&mut self, (node, seq): (&str, i64), names: Option<bool>, is_tied: bool) {
        match (names, is_tied) {
            (Some(true), false) => self.whole.push(node, seq),
            (None, false) => self.nobodys.push(node, seq),
            (None, true) => self.tied += 1,
            (Some(_), _) => {}
        }
    }

    /// A pruned row that is tied to an account: whether its node wrote so.
    fn vouched(&mut self, node: &str, row: &Shipped, keys: Option<&Keys>) {
        if !has_mac(row.seen.as_deref()) {
            return self.silent.push(node, row.seq);
        }
        self.worded += 1;
        let Some(keys) = keys else { return };
        let subject = row.subject.as_deref().and_then(|bytes| bytes.try_into().ok()).map(Subject::from_bytes);
        let told = (&*row.kind, &*row.signal);
        let is = |subject| vouched((node, row.seq), told, &subject, (row.seen.as_deref(), keys));
        if subject.and_then(is) != Some(true) {
            self.forged.push(node, row.seq);
        }
    }

    /// All of a node was read.
    fn node(&mut self, gone: &Gone) {
        let behind = gone.said.saturating_sub(gone.found);
        self.named = self.named.saturating_add(gone.named.saturating_sub(behind));
        self.named_now = self.named_now.saturating_add(gone.named_now.saturating_sub(behind));
    }

    fn check(&self) -> Result<(), String> {
        let unsaid = |what: &str, (found, said): (u64, u64), among: String| {
            Err(format!(
                "{found} {what} have lost what ties them to an account, and the records of erasures tell of {said}: a \
                 node that begins anew does not honour who opted out in one of the others. They are among {among}. An \
                 erasure that is under way looks the same: type this again. {EVIDENCE}"
            ))
        };
        if !self.vague && self.whole.count > self.said {
            let among = format!("records {}", self.whole.names());
            return unsaid("records", (self.whole.count, self.said), among);
        }
        let given = |what: &str, rows: &Found| {
            Err(format!(
                "of {} pruned records {what} their node wrote whose they are: records {}. A hand gave them to another \
                 account, and a node that begins anew does not honour who opted out in them, unless the node that recorded \
                 them runs, with its folder. {EVIDENCE}",
                rows.count,
                rows.names()
            ))
        };
        if self.forged.count > 0 && !self.retired {
            return given("another thing stands there than", &self.forged);
        }
        if self.silent.count > self.unvouched {
            return given("nothing proves that", &self.silent);
        }
        // What earlier versions pruned, and did not say of whom, is left out on both sides.
        let lost = |named: u64, tied: u64| named.saturating_sub(tied).saturating_sub(self.sent);
        let before = if self.vague_pruned { 0 } else { lost(self.named, self.tied) };
        let pruned = before.max(lost(self.named_now, self.worded));
        let (found, said) =
            (self.whole.count.saturating_add(pruned), self.said.saturating_add(self.said_pruned));
        if !self.vague && pruned > 0 && found > said {
            let among = format!("pruned records {}", self.nobodys.names());
            return unsaid("records, pruned ones with them,", (found, said), among);
        }
        Ok(())
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
