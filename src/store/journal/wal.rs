//! The write-ahead log that an earlier process or connection left.
//!
//! A sync that failed may leave pages in the system's memory that count as written and are not on the disk (Linux;
//! PostgreSQL's "fsyncgate", 2018). A WAL read back from there looks whole; records appended to it are synced; and after
//! a power cut the hole before them ends the log. So nothing is built on a WAL that was found: its bytes are written
//! once more, over themselves, and synced, and its name with them.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use sqlx::sqlite::SqliteConnection;
use sqlx::{ConnectOptions as _, Connection as _};

use super::sqlite::connect_options;
use crate::store::files;

/// Bytes at a time.
const CHUNK: usize = 1 << 20;

/// Puts the WAL that is there on the disk, whatever became of earlier syncs. Holds SQLite's write lock meanwhile, so
/// that no other program writes to it.
pub(super) async fn write_again(path: &Path, connection: &mut SqliteConnection) -> sqlx::Result<()> {
    let wal = files::with_ending(path, "-wal");
    if wal.metadata().is_ok_and(|meta| meta.len() > 0) {
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let written = write_over(&wal);
        sqlx::query("ROLLBACK").execute(connection).await?;
        written?;
    }
    Ok(())
}

fn write_over(wal: &Path) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(wal)?;
    let mut bytes = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let length = file.read_at(&mut bytes, at)?;
        if length == 0 {
            return file.sync_all();
        }
        file.write_all_at(&bytes[..length], at)?;
        at += length as u64;
    }
}

/// Closes a connection and leaves the files as they are, because what is refused is evidence. SQLite moves the WAL into
/// the file and removes it when the last connection closes, unless that one can only read.
pub(super) async fn close_untouched(path: &Path, connection: SqliteConnection) {
    let mut reader = connect_options(path).read_only(true).connect().await.ok();
    if let Some(reader) = &mut reader {
        // From its first look on it is one of those that have the file open. That it may fail is why we are here.
        let _ = sqlx::query("SELECT count(*) FROM sqlite_master").execute(reader).await;
    }
    // The error that is being reported says more than theirs.
    let _ = connection.close().await;
    if let Some(reader) = reader {
        let _ = reader.close().await;
    }
}
