//! Reads a journal beside a running server, and trusts nothing it reads.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, Connection, Row};

use super::chain::{Fields, Head};
use super::schema::{refuse_strangers, schema_version};
use super::{BROKEN, explain, refuse, sqlite};
use crate::store::OpenError;
use crate::store::record::RecordView;

/// Rows read in one transaction. Short transactions let the server's WAL be reset meanwhile.
const PAGE: i64 = 4096;

type Page = Result<Vec<RecordView>, OpenError>;

/// Reads every record, in order, by a read-only connection; see [`crate::store::export`].
pub(in crate::store) fn export(
    path: &Path,
    each: &mut dyn FnMut(RecordView) -> std::io::Result<()>,
) -> Result<(), OpenError> {
    if !path.is_file() {
        return Err(refuse(path, "there is no journal here; check --data-dir"));
    }
    // On a thread of its own, because the caller may already be inside a runtime.
    std::thread::scope(|scope| {
        let (pages, inbox) = sync_channel(2);
        scope.spawn(move || read_all(path, &pages));
        hand_out(inbox, each)
    })
}

fn hand_out(
    inbox: Receiver<Page>,
    each: &mut dyn FnMut(RecordView) -> std::io::Result<()>,
) -> Result<(), OpenError> {
    for page in inbox {
        page?.into_iter().try_for_each(&mut *each).map_err(OpenError::Output)?;
    }
    Ok(())
}

/// Sends page after page; ends early when nobody takes them any more.
fn read_all(path: &Path, pages: &SyncSender<Page>) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            let _ = pages.send(Err(refuse(path, format!("cannot be read: {e}"))));
            return;
        }
    };
    runtime.block_on(async {
        if let Err(error) = send_pages(path, pages).await {
            let _ = pages.send(Err(error));
        }
    });
}

async fn send_pages(path: &Path, pages: &SyncSender<Page>) -> Result<(), OpenError> {
    let named = |e: sqlx::Error| explain(path, &e);
    let mut connection = sqlite::connect_options(path).read_only(true).connect().await.map_err(named)?;
    refuse_strangers(path, &mut connection).await?;
    let schema = schema_version(&mut connection).await.map_err(named)?;
    let mut head = Head::default();
    loop {
        let rows = page_after(&mut connection, schema, head.seq).await.map_err(named)?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            let broken = || refuse(path, format!("record {} {BROKEN}", head.seq + 1));
            let (view, next) = check(&head, row).ok_or_else(broken)?;
            head = next;
            page.extend(view);
        }
        if rows.is_empty() || pages.send(Ok(page)).is_err() {
            return connection.close().await.map_err(named);
        }
    }
}

async fn page_after(
    connection: &mut SqliteConnection,
    schema: usize,
    seq: i64,
) -> sqlx::Result<Vec<SqliteRow>> {
    // A journal that no server of this version has opened yet: only those may change it.
    let query = if schema < 2 {
        "SELECT seq, time_us, reference, subject, NULL, canonical, NULL, chain \
         FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
    } else {
        "SELECT seq, time_us, reference, subject, blinding, canonical, digest, chain \
         FROM journal WHERE seq > ? ORDER BY seq LIMIT ?"
    };
    sqlx::query(query).bind(seq).bind(PAGE).fetch_all(connection).await
}

/// The record of a row, unless it was pruned, if it follows the head and its columns say what its bytes say.
fn check(head: &Head, row: &SqliteRow) -> Option<(Option<RecordView>, Head)> {
    let seq: i64 = row.try_get(0).ok()?;
    let reference: Option<&str> = row.try_get(2).ok()?;
    let (subject, blinding) = (row.try_get(3).ok()?, row.try_get(4).ok()?);
    let canonical: Option<&[u8]> = row.try_get(5).ok()?;
    let digest: Option<&[u8]> = row.try_get(6).ok()?;
    let (view, next) = match (canonical, digest) {
        (Some(canonical), None) => {
            let fields = Fields::decode(canonical)?;
            fields.account(subject, blinding)?;
            let fits = fields.seq == seq
                && row.try_get(1).is_ok_and(|time: i64| time == fields.time_us)
                && reference == Some(fields.reference);
            (Some(fits.then(|| fields.view())?), head.next(canonical))
        }
        (None, Some(digest)) => {
            let forgotten = reference.is_none() && subject.is_none() && blinding.is_none();
            (None, forgotten.then_some(head.next_digest(digest.try_into().ok()?))?)
        }
        _ => return None,
    };
    let link: &[u8] = row.try_get(7).ok()?;
    (seq == next.seq && link == next.link).then_some((view, next))
}
