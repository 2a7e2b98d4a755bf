//! Reads a journal beside a running server, and trusts nothing it reads.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{ConnectOptions, Connection, Row};

use super::chain::{Fields, Head};
use super::schema::refuse_strangers;
use super::{BROKEN, explain, mark, refuse, sqlite};
use crate::privacy::Subject;
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
    // Before the first record is read: a running server may add more than it says.
    let marked = mark::read(path)?;
    let mut connection = sqlite::connect_options(path).read_only(true).connect().await.map_err(named)?;
    refuse_strangers(path, &mut connection).await?;
    let mut head = Head::default();
    loop {
        let rows = page_after(&mut connection, head.seq).await.map_err(named)?;
        let mut page = Vec::with_capacity(rows.len());
        for row in &rows {
            let broken = || refuse(path, format!("record {} {BROKEN}", head.seq + 1));
            let as_marked = |next: &Head| marked.is_none_or(|m| m.seq != next.seq || m.link == next.link);
            let (view, next) = check(&head, row).filter(|(_, next)| as_marked(next)).ok_or_else(broken)?;
            head = next;
            page.push(view);
        }
        if rows.is_empty() {
            mark::refuse_less(path, marked.as_ref(), &head)?;
        }
        if rows.is_empty() || pages.send(Ok(page)).is_err() {
            return connection.close().await.map_err(named);
        }
    }
}

async fn page_after(connection: &mut SqliteConnection, seq: i64) -> sqlx::Result<Vec<SqliteRow>> {
    sqlx::query(
        "SELECT seq, node, time_us, site, kind, signal, basis, policy, subject, reference, canonical, chain \
         FROM journal WHERE seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(seq)
    .bind(PAGE)
    .fetch_all(connection)
    .await
}

/// The record of a row, if it follows the head and its columns say what its bytes say.
fn check(head: &Head, row: &SqliteRow) -> Option<(RecordView, Head)> {
    let canonical: &[u8] = row.try_get(10).ok()?;
    let next = head.next(canonical);
    let fields = Fields::decode(canonical)?;
    let subject: Option<&[u8]> = row.try_get(8).ok()?;
    let columns = Fields {
        seq: row.try_get(0).ok()?,
        node: row.try_get(1).ok()?,
        time_us: row.try_get(2).ok()?,
        site: row.try_get(3).ok()?,
        kind: row.try_get(4).ok()?,
        signal: row.try_get(5).ok()?,
        basis: row.try_get(6).ok()?,
        policy: row.try_get(7).ok()?,
        subject: subject.map(|s| s.try_into().map(Subject::from_bytes)).transpose().ok()?,
        reference: row.try_get(9).ok()?,
    };
    let link: &[u8] = row.try_get(11).ok()?;
    (columns == fields && fields.seq == next.seq && link == next.link).then(|| (fields.view(), next))
}
