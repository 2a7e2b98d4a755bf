//! Reads a journal beside a running server, and trusts nothing it reads.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};

use super::beside::{on_this_thread, reading, there};
use super::chain::{Fields, Head, Kept, Link, digest, put};
use super::checkpoint::Checkpoint;
use super::merkle;
use super::replay::{link_of, of_another};
use super::schema::{SEALED, TIMELESS, meta, refuse_damage, schema_version};
use super::seal::EVIDENCE;
use super::sealed::Sealed;
use super::{BROKEN, explain, mark, refuse, secrets};
use crate::store::OpenError;
use crate::store::counts::Count;
use crate::store::proof::{Bytes, CheckpointItem, Inclusion, Item, RecordItem, SignerItem, VouchItem};
use crate::store::record::RecordView;
use crate::store::signing::PublicKey;

/// Rows read in one transaction. Short transactions let the server's WAL be reset meanwhile.
const PAGE: i64 = 4096;

pub(super) type Page = Result<Vec<Item>, OpenError>;

/// Reads the whole journal in order, by a read-only connection; see [`crate::store::evidence`].
pub(in crate::store) fn read(
    path: &Path,
    each: &mut dyn FnMut(Item) -> std::io::Result<()>,
) -> Result<(), OpenError> {
    there(path)?;
    // On a thread of its own, because the caller may already be inside a runtime.
    std::thread::scope(|scope| {
        let (pages, inbox) = sync_channel(2);
        scope.spawn(move || {
            let sent =
                on_this_thread(path, true, async |connection| send_pages(path, connection, &pages).await);
            if let Err(error) = sent {
                let _ = pages.send(Err(error));
            }
        });
        hand_out(inbox, each)
    })
}

/// The chain value of a record, if it is there.
pub(in crate::store) fn chain_at(path: &Path, seq: i64) -> Result<Option<Link>, OpenError> {
    reading(path, async |connection| link_of(connection, seq).await.map_err(|e| explain(path, &e)))
}

/// One record by its normalised reference, if it is there and not pruned.
pub(in crate::store) fn record(path: &Path, reference: &str) -> Result<Option<RecordView>, OpenError> {
    reading(path, async move |connection| {
        let named = |e: sqlx::Error| explain(path, &e);
        let row = sqlx::query("SELECT canonical FROM journal WHERE reference = ? AND canonical IS NOT NULL");
        let row = row.bind(reference).fetch_optional(connection).await.map_err(named)?;
        let Some(row) = row else { return Ok(None) };
        let fields = row.try_get(0).map(Fields::decode).map_err(named)?;
        let broken = || refuse(path, format!("the record {reference} {BROKEN}"));
        fields.map(|fields| Some(fields.view())).ok_or_else(broken)
    })
}

/// See [`crate::store::has_records_of`].
pub(in crate::store) fn has_records_of(path: &Path, site: &str) -> Result<bool, OpenError> {
    let mut field = Vec::new();
    put(&mut field, site.as_bytes());
    reading(path, async move |connection| {
        let query = "SELECT EXISTS (SELECT 1 FROM journal WHERE instr(canonical, ?) > 0)";
        let found = sqlx::query_scalar(query).bind(field.as_slice()).fetch_one(connection).await;
        found.map_err(|e| explain(path, &e))
    })
}

/// The proof of one record; see [`crate::store::inclusion`].
pub(in crate::store) fn inclusion(path: &Path, reference: &str) -> Result<Inclusion, OpenError> {
    reading(path, async move |connection| prove(path, connection, reference).await)
}

/// Copies the journal as it is at one moment (SQLite's `VACUUM INTO`); the copy is not synced yet.
pub(in crate::store) fn copy(path: &Path, to: &Path) -> Result<(), OpenError> {
    let name = to.display().to_string();
    reading(path, async move |connection| {
        let done = sqlx::query("VACUUM INTO ?").bind(name.as_str()).execute(connection).await;
        done.map(drop).map_err(|e| refuse(path, format!("cannot be copied to {name}: {e}")))
    })
}

/// See [`crate::store::counts`].
pub(in crate::store) fn counts(path: &Path) -> Result<Vec<Count>, OpenError> {
    reading(path, async move |connection| {
        let named = |e: sqlx::Error| explain(path, &e);
        if schema_version(connection).await.map_err(named)? < 6 {
            return Ok(Vec::new());
        }
        let rows = sqlx::query(
            "SELECT minute, site, signal, basis, policy, state, count FROM counts
             ORDER BY minute, site, signal, basis, policy, state",
        );
        let rows = rows.fetch_all(connection).await.map_err(named)?;
        let count = |row: &SqliteRow| -> sqlx::Result<Count> {
            Ok(Count {
                minute: row.try_get(0)?,
                site: row.try_get(1)?,
                signal: row.try_get(2)?,
                basis: row.try_get(3)?,
                policy: row.try_get(4)?,
                state: row.try_get(5)?,
                count: row.try_get(6)?,
            })
        };
        rows.iter().map(count).collect::<sqlx::Result<_>>().map_err(named)
    })
}

fn hand_out(
    inbox: Receiver<Page>,
    each: &mut dyn FnMut(Item) -> std::io::Result<()>,
) -> Result<(), OpenError> {
    for page in inbox {
        page?.into_iter().try_for_each(&mut *each).map_err(OpenError::Output)?;
    }
    Ok(())
}

/// Sends page after page; ends early when nobody takes them any more.
async fn send_pages(
    path: &Path,
    connection: &mut SqliteConnection,
    pages: &SyncSender<Page>,
) -> Result<(), OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    // What a start refuses is not proven either.
    refuse_damage(path, connection).await?;
    // Before the first record is read: a running server may add more than it says.
    let marked = mark::read(path)?;
    let schema = schema_version(connection).await.map_err(named)?;
    let mut head = Head::default();
    let mut signed = 0;
    let node = meta(connection, "node").await.map_err(named)?;
    let mut sealed = Sealed::default();
    if schema >= 3 && pages.send(signers(path, connection).await).is_err() {
        return Ok(());
    }
    loop {
        let (rows, checkpoints) = page_after(connection, schema, head.seq, signed).await.map_err(named)?;
        let mut page = Vec::with_capacity(rows.len() + checkpoints.len());
        let mut checkpoints = checkpoints.into_iter().peekable();
        for row in &rows {
            // One may be written between two pages.
            page.extend(checkpoints.next_if(|(seq, _)| *seq == head.seq).map(|(seq, item)| {
                signed = seq;
                item
            }));
            let broken = || refuse(path, format!("record {} {BROKEN}", head.seq + 1));
            let as_marked = |next: &Head| marked.is_none_or(|m| m.seq != next.seq || m.link == next.link);
            let checked = check(&head, row).filter(|checked| as_marked(&checked.next));
            let Checked { item, next, untied, wrote } = checked.ok_or_else(broken)?;
            if let (Some(wrote), Some(node)) =
                (wrote.as_ref().filter(|wrote| Some(*wrote) != node.as_ref()), &node)
            {
                return Err(refuse(path, of_another(next.seq, wrote, node)));
            }
            head = next;
            sealed.record(path, &item, untied)?;
            page.push(item);
        }
        for (seq, item) in checkpoints {
            signed = seq;
            page.push(item);
        }
        if rows.is_empty() {
            mark::refuse_less(path, marked.as_ref(), &head)?;
        }
        let last = page.is_empty();
        if pages.send(Ok(page)).is_err() {
            return Ok(());
        }
        if last {
            break;
        }
    }
    match schema < SEALED {
        true => Ok(()),
        false => {
            sealed.send_kept(path, connection, head.seq, pages).await?;
            secrets::check_beside(path, connection).await
        }
    }
}

/// Those who signed, and their words for one another.
async fn signers(path: &Path, connection: &mut SqliteConnection) -> Page {
    let named = |e: sqlx::Error| explain(path, &e);
    let mut items = Vec::new();
    let rows = sqlx::query_as("SELECT id, public, time_us FROM signers ORDER BY time_us, id");
    let rows: Vec<(String, Vec<u8>, i64)> = rows.fetch_all(&mut *connection).await.map_err(named)?;
    for (id, public, time_us) in rows {
        // A key is known by its digest: where the two differ, one of them is not what was written.
        if PublicKey::from_bytes(&public).is_none_or(|key| key.id() != id) {
            let why = format!("has another key than {id} under the name of that signer. {EVIDENCE}");
            return Err(refuse(path, why));
        }
        items.push(Item::Signer(SignerItem { public: Bytes(public), time_us }));
    }
    items.extend(vouches(connection).await.map_err(named)?);
    Ok(items)
}

async fn vouches(connection: &mut SqliteConnection) -> sqlx::Result<Vec<Item>> {
    let mut items = Vec::new();
    let rows = sqlx::query("SELECT signer, vouched, time_us, signature FROM vouches ORDER BY time_us");
    for row in rows.fetch_all(connection).await? {
        items.push(Item::Vouch(VouchItem {
            signer: row.try_get(0)?,
            vouched: row.try_get(1)?,
            time_us: row.try_get(2)?,
            signature: Bytes(row.try_get(3)?),
        }));
    }
    Ok(items)
}

/// Records after `seq`, and checkpoints after `signed` that belong to them.
async fn page_after(
    connection: &mut SqliteConnection,
    schema: usize,
    seq: i64,
    signed: i64,
) -> sqlx::Result<(Vec<SqliteRow>, Vec<(i64, Item)>)> {
    // A journal that no server of this version has opened yet: only those may change it.
    let query = if schema < 2 {
        "SELECT seq, time_us, reference, subject, NULL, canonical, NULL, chain \
         FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
    } else if schema < TIMELESS {
        "SELECT seq, CASE WHEN digest IS NULL THEN time_us ELSE 0 END, reference, subject, blinding, canonical, \
         digest, chain FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
    } else {
        "SELECT seq, time_us, reference, subject, blinding, canonical, digest, chain \
         FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
    };
    let mut transaction = connection.begin().await?;
    let rows = sqlx::query(query).bind(seq).bind(PAGE).fetch_all(&mut *transaction).await?;
    // Behind the last record there is none, or that record was taken away: then the one who verifies sees it.
    let whole = rows.len() as i64 == PAGE;
    let to = if whole { rows.last().map_or(Ok(seq), |row| row.try_get(0))? } else { i64::MAX };
    let mut checkpoints = Vec::new();
    if schema >= 3 {
        let query =
            "SELECT seq, canonical, signature FROM checkpoints WHERE seq > ? AND seq <= ? ORDER BY seq";
        for row in sqlx::query(query).bind(signed).bind(to).fetch_all(&mut *transaction).await? {
            checkpoints.push((row.try_get(0)?, Item::Checkpoint(checkpoint(&row, 1)?)));
        }
    }
    transaction.commit().await?;
    Ok((rows, checkpoints))
}

fn checkpoint(row: &SqliteRow, at: usize) -> sqlx::Result<CheckpointItem> {
    Ok(CheckpointItem { canonical: Bytes(row.try_get(at)?), signature: Bytes(row.try_get(at + 1)?) })
}

/// A row that is what was written.
struct Checked {
    item: Item,
    /// The head with it.
    next: Head,
    /// What tied it to an account is gone.
    untied: bool,
    /// The node that wrote it; `None` for one that is pruned.
    wrote: Option<String>,
}

/// The record of a row, if it follows the head and its columns say what its bytes say.
fn check(head: &Head, row: &SqliteRow) -> Option<Checked> {
    let kept = Kept {
        seq: row.try_get(0).ok()?,
        time_us: row.try_get(1).ok()?,
        reference: row.try_get(2).ok()?,
        subject: row.try_get(3).ok()?,
        blinding: row.try_get(4).ok()?,
        canonical: row.try_get(5).ok()?,
        digest: row.try_get(6).ok()?,
        chain: row.try_get(7).ok()?,
    };
    let (fields, next) = head.after(&kept)?;
    // What is pruned here leads to nobody.
    if fields.is_none() && kept.subject.is_some() {
        return None;
    }
    let bytes = |bytes: &[u8]| Bytes(bytes.to_vec());
    let item = RecordItem {
        seq: kept.seq,
        canonical: kept.canonical.map(bytes),
        digest: kept.digest.map(bytes),
        chain: bytes(kept.chain),
    };
    let untied = fields.is_some_and(|fields| fields.person.is_some()) && kept.subject.is_none();
    let wrote = fields.map(|fields| fields.node.to_owned());
    Some(Checked { item: Item::Record(item), next, untied, wrote })
}

/// A record's bytes, or the digest that is left of them.
type Leaf = (Option<Vec<u8>>, Option<Vec<u8>>);

async fn prove(
    path: &Path,
    connection: &mut SqliteConnection,
    reference: &str,
) -> Result<Inclusion, OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    if schema_version(connection).await.map_err(named)? < 3 {
        return Err(refuse(path, "was never signed; it is, once this version has served with it"));
    }
    let record: Option<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT seq, canonical FROM journal WHERE reference = ? AND canonical IS NOT NULL")
            .bind(reference)
            .fetch_optional(&mut *connection)
            .await
            .map_err(named)?;
    let Some((seq, record)) = record else {
        return Err(refuse(path, format!("has no record with the reference {reference}")));
    };
    let row = sqlx::query("SELECT canonical, signature FROM checkpoints WHERE seq >= ? ORDER BY seq LIMIT 1")
        .bind(seq)
        .fetch_optional(&mut *connection)
        .await
        .map_err(named)?;
    let Some(row) = row else {
        return Err(refuse(
            path,
            format!(
                "has record {seq}, but it is not signed yet; that is done every `store.checkpoint`, and at a stop"
            ),
        ));
    };
    let item = checkpoint(&row, 0).map_err(named)?;
    let unreadable = || refuse(path, "has a checkpoint that cannot be read");
    let signed = Checkpoint::decode(&item.canonical.0).ok_or_else(unreadable)?;
    let rows: Vec<Leaf> = sqlx::query_as(
        "SELECT CASE WHEN digest IS NULL THEN canonical END, digest FROM journal \
         WHERE seq > ? AND seq <= ? ORDER BY seq",
    )
    .bind(signed.from)
    .bind(signed.head.seq)
    .fetch_all(&mut *connection)
    .await
    .map_err(named)?;
    let digests: Option<Vec<_>> = rows
        .into_iter()
        .map(|row| match row {
            (Some(canonical), _) => Some(digest(&canonical)),
            (None, kept) => kept?.try_into().ok(),
        })
        .collect();
    let broken = || refuse(path, format!("record {seq} {BROKEN}"));
    let digests = digests.ok_or_else(broken)?;
    let index = usize::try_from(seq - signed.from - 1).map_err(|_| broken())?;
    let mut inclusion = Inclusion {
        optgate_proof: 1,
        record: Bytes(record),
        checkpoint: item,
        path: merkle::path(&digests, index).into_iter().map(|hash| Bytes(hash.to_vec())).collect(),
        signers: Vec::new(),
        vouches: Vec::new(),
    };
    for item in signers(path, connection).await? {
        match item {
            Item::Signer(signer) => inclusion.signers.push(signer),
            Item::Vouch(vouch) => inclusion.vouches.push(vouch),
            Item::Record(_) | Item::Checkpoint(_) | Item::Kept(_) => {}
        }
    }
    inclusion.verify(&[]).map_err(|_| broken())?;
    Ok(inclusion)
}
