//! How far the journal had come: its last record, written beside it after every commit.
//!
//! SQLite takes the first frame of a WAL that does not fit for the end of it, and no WAL for an empty one: with bad bytes
//! in it, cut short or gone it opens with fewer records and says nothing. The mark says how many must be there.
//!
//! It is written once a commit is synced, so it never promises what is not on the disk. It is synced itself with each
//! checkpoint alone, for with each commit it would double the cost: after a power cut it may be older than the journal, and
//! then sees less, but is never wrong.
//!
//! ```text
//! journal.mark = sequence number, 20 digits | space | chain value, 64 hexadecimal digits | line feed
//! ```

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sqlx::Row as _;
use sqlx::sqlite::SqliteConnection;

use super::chain::Head;
use super::{BROKEN, explain, refuse};
use crate::store::{OpenError, files};

/// The mark of an open journal.
pub(super) struct Mark {
    file: File,
    failing: bool,
}

fn beside(journal: &Path) -> PathBuf {
    journal.with_extension("mark")
}

impl Mark {
    /// Opens or makes the file.
    pub(super) fn open(journal: &Path) -> Result<Self, OpenError> {
        let path = beside(journal);
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let file = file.map_err(|e| refuse(&path, format!("cannot be written: {e}")))?;
        Ok(Self { file, failing: false })
    }

    /// Has the mark itself outlast a power cut, its name in the folder too. What cannot be synced is told as in
    /// [`Mark::set`].
    pub(super) fn sync(&mut self, journal: &Path) {
        let synced = self.file.sync_data().and_then(|()| files::sync_folder_of(journal));
        self.note(&synced);
    }

    /// Everything up to here is synced. What cannot be marked is as durable as before; it is only not missed when the
    /// journal is damaged.
    pub(super) fn set(&mut self, head: &Head) {
        let line = format!("{:020} {}\n", head.seq, HEXLOWER.encode(&head.link));
        let written = self.file.write_all_at(line.as_bytes(), 0);
        self.note(&written);
    }

    fn note(&mut self, written: &io::Result<()>) {
        if let (Err(error), false) = (written, self.failing) {
            tracing::warn!(%error, "journal.mark cannot be written; lost records of the journal would not be missed");
        }
        self.failing = written.is_err();
    }
}

/// The last mark; `None` when there is none, or none that can be read (a power cut may have left an empty file).
pub(super) fn read(journal: &Path) -> Result<Option<Head>, OpenError> {
    let path = beside(journal);
    match std::fs::read(&path) {
        Ok(bytes) => {
            let mark = parse(&bytes);
            if mark.is_none() && !bytes.is_empty() {
                tracing::warn!(path = %path.display(), "cannot be understood and is written anew");
            }
            Ok(mark)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(refuse(&path, format!("cannot be read: {error}"))),
    }
}

fn parse(bytes: &[u8]) -> Option<Head> {
    let (seq, link) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once(' ')?;
    let link = HEXLOWER.decode(link.as_bytes()).ok()?.try_into().ok()?;
    Some(Head { seq: seq.parse().ok()?, link })
}

/// Takes the mark away, for another journal that is put in the place of the one it was of.
pub(in crate::store) fn remove(journal: &Path) -> io::Result<()> {
    files::remove(&beside(journal)).map(drop)
}

/// Moves the mark of one journal to another place that the journal was moved to.
pub(in crate::store) fn follow(from: &Path, journal: &Path) -> io::Result<()> {
    std::fs::rename(beside(from), beside(journal))?;
    files::sync_folder_of(journal)
}

/// Refuses a journal without its file, which SQLite would make anew, removing the WAL that lies there. Called before
/// anything is opened.
pub(super) fn refuse_absent(journal: &Path, marked: Option<&Head>) -> Result<(), OpenError> {
    let empty = |path: &Path| path.metadata().map_or(true, |meta| meta.len() == 0);
    if !empty(journal) {
        return Ok(());
    }
    match marked {
        Some(marked) if marked.seq > 0 => Err(less(journal, 0, marked.seq)),
        _ if !empty(&files::with_ending(journal, "-wal")) => {
            Err(refuse(journal, "is empty or gone, and its -wal is not: restore both from a backup"))
        }
        _ => Ok(()),
    }
}

/// Refuses a journal that ends before its mark.
pub(super) fn refuse_less(journal: &Path, marked: Option<&Head>, head: &Head) -> Result<(), OpenError> {
    match marked {
        Some(marked) if head.seq < marked.seq => Err(less(journal, head.seq, marked.seq)),
        _ => Ok(()),
    }
}

fn less(journal: &Path, seq: i64, marked: i64) -> OpenError {
    refuse(
        journal,
        format!(
            "ends with record {seq}, but {marked} had been written and acknowledged: it or its -wal is damaged, cut \
             short or gone, or an older copy is in its place. Restore both from a backup and keep these files: they are \
             evidence. To go on without the records that are missing, remove {}",
            beside(journal).display()
        ),
    )
}

/// Refuses a journal that is not the one of the mark, or ends before it.
pub(super) async fn refuse_other(
    journal: &Path,
    connection: &mut SqliteConnection,
    marked: Option<&Head>,
    head: &Head,
) -> Result<(), OpenError> {
    refuse_less(journal, marked, head)?;
    let Some(marked) = marked.filter(|marked| marked.seq > 0) else { return Ok(()) };
    let row =
        sqlx::query("SELECT chain FROM journal WHERE seq = ?").bind(marked.seq).fetch_one(connection).await;
    let link: Vec<u8> = row.and_then(|row| row.try_get(0)).map_err(|e| explain(journal, &e))?;
    if link != marked.link {
        return Err(refuse(journal, format!("record {} {BROKEN}", marked.seq)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_read_back_and_a_torn_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.sqlite3");
        assert_eq!(read(&journal).unwrap(), None);
        let mut mark = Mark::open(&journal).unwrap();
        assert_eq!(read(&journal).unwrap(), None, "empty");
        for seq in [7, i64::MAX, 8] {
            let head = Head { seq, link: [seq.to_le_bytes()[0]; 32] };
            mark.set(&head);
            assert_eq!(read(&journal).unwrap(), Some(head));
        }
        let whole = std::fs::read(beside(&journal)).unwrap();
        for end in 0..whole.len() {
            assert_eq!(parse(&whole[..end]), None, "cut at {end}");
        }
    }
}
