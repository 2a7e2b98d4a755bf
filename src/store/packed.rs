//! The index as a file beside the journal, so that a start reads what came since instead of everything.
//!
//! ```text
//! index.packed = "optgate index 1" LF
//!              | sequence number SP chain value in hexadecimal SP what was seen of other nodes LF
//!              | accounts, 24 bytes each: the subject, then its word as the index has it (little endian)
//!              | SHA-256 of all before
//! ```
//!
//! It is what the journal comes to up to the record in its head, and may know of later ones: records are folded upon it
//! by their number, and those that an account has taken in already are passed over. It holds nothing that the journal
//! does not, and is never needed: one that is not whole, or not of this journal, is passed over and written anew.
//!
//! What is erased or pruned in the journal must not live on in this file: it is thrown away before, and so is a newer
//! one that is being written.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use super::files::{self, Unplaced};
use super::index::Index;
use super::journal::chain::Head;
use super::merge::Seen;
use super::state::State;
use crate::privacy::Subject;

const MAGIC: &str = "optgate index 1";

/// Bytes of one account.
const ENTRY: usize = 24;

/// Bytes of the digest at the end.
const DIGEST: usize = 32;

/// Bytes that go to the file at once.
const CHUNK: usize = 256 * 1024;

/// The longest head that is read: a few numbers, and a name and a number for each other node.
const LONGEST_HEAD: usize = 1024 * 1024;

/// Up to where a file of the index tells everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Point {
    /// The last record of this node.
    pub(super) head: Head,
    /// The last records of other nodes.
    pub(super) seen: Seen,
}

/// The file's name.
pub(super) fn beside(journal: &Path) -> PathBuf {
    journal.with_file_name("index.packed")
}

/// Takes the file away, and one that is not finished; durably.
pub(super) fn remove(journal: &Path) -> io::Result<()> {
    let path = beside(journal);
    let removed = [files::remove(&path)?, files::remove(&files::beside(&path))?];
    if removed.contains(&true) { files::sync_folder_of(&path) } else { Ok(()) }
}

/// A file being written.
#[derive(Debug)]
struct Writing {
    thread: JoinHandle<bool>,
    /// It is not wanted any more.
    unwanted: Arc<AtomicBool>,
}

/// Writes the file whenever it is worth it.
#[derive(Debug)]
pub(super) struct Packer {
    journal: PathBuf,
    /// Changes that make it worth it; `None`: never.
    after: Option<u64>,
    /// Changes there had been when it was last written, of those that are counted since the start; `None` while
    /// there is no file.
    written_at: Option<u64>,
    /// Who is writing one.
    writing: Option<Writing>,
    failed: bool,
}

impl Packer {
    /// For a journal that was opened just now, with its file of the index (`whole`) or without.
    pub(super) fn new(journal: &Path, after: Option<u64>, whole: bool) -> Self {
        // One that a crash left may hold what was erased since.
        let _ = files::remove(&files::beside(&beside(journal)));
        Self {
            journal: journal.to_owned(),
            after,
            written_at: whole.then_some(0),
            writing: None,
            failed: false,
        }
    }

    /// Whether so many changes since the start make a file worth it. `growing`: more will come, so the larger the
    /// index is, the more changes it takes, and no byte is written more than a few times.
    pub(super) fn is_due(&self, changes: u64, index: &Index, growing: bool) -> bool {
        let Some(after) = self.after else { return false };
        if growing && self.writing.as_ref().is_some_and(|writing| !writing.thread.is_finished()) {
            return false;
        }
        match self.written_at {
            Some(at) if changes - at < after => false,
            Some(at) => !growing || changes - at >= index.len() as u64 / 4,
            // A file that cannot be written is tried again when there is more of it.
            None if growing && self.failed => false,
            None => index.len() as u64 >= after,
        }
    }

    /// Begins a file, on a thread of its own. `changes`: how many there have been.
    pub(super) fn begin(&mut self, changes: u64, point: Point, state: &Arc<State>) {
        self.wait();
        self.written_at = Some(changes);
        let unwanted = Arc::new(AtomicBool::new(false));
        let (path, state, stop) = (beside(&self.journal), Arc::clone(state), Arc::clone(&unwanted));
        let work = move || {
            let written = write(&path, &point, &state.index, &stop);
            if let Err(error) = &written
                && !stop.load(Ordering::Relaxed)
            {
                tracing::warn!(%error, path = %path.display(), "cannot be written; a start reads the whole journal");
            }
            written.is_ok()
        };
        match std::thread::Builder::new().name("optgate-index".into()).spawn(work) {
            Ok(thread) => self.writing = Some(Writing { thread, unwanted }),
            Err(error) => {
                tracing::warn!(%error, "no thread can be started to write index.packed");
                (self.written_at, self.failed) = (None, true);
            }
        }
    }

    /// Waits for who is writing.
    pub(super) fn wait(&mut self) {
        if let Some(writing) = self.writing.take() {
            self.failed = !writing.thread.join().unwrap_or(false);
            if self.failed {
                self.written_at = None;
            }
        }
    }

    /// Throws the file away, durably, and what is being written.
    pub(super) fn discard(&mut self) -> io::Result<()> {
        if let Some(Writing { thread, unwanted }) = self.writing.take() {
            unwanted.store(true, Ordering::Relaxed);
            // However it ended, there is nothing left of it after the removal.
            let _ = thread.join();
        }
        self.written_at = None;
        remove(&self.journal)
    }
}

impl Drop for Packer {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Writes the file and moves it to its place.
fn write(path: &Path, point: &Point, index: &Index, unwanted: &AtomicBool) -> io::Result<()> {
    let file = Unplaced::write(path, |file| fill(file, point, index, unwanted))?;
    if unwanted.load(Ordering::Relaxed) { Err(not_wanted()) } else { file.place() }
}

fn not_wanted() -> io::Error {
    io::Error::other("it is not wanted any more")
}

/// The index is read at the speed of memory into pieces that wait for the disk, so that no part of it is locked for
/// as long as a disk takes.
fn fill(file: &File, point: &Point, index: &Index, unwanted: &AtomicBool) -> io::Result<()> {
    let (pieces, inbox) = mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        let written = scope.spawn(move || {
            let (mut out, mut digest) = (BufWriter::with_capacity(CHUNK, file), Sha256::new());
            for piece in inbox {
                if unwanted.load(Ordering::Relaxed) {
                    return Err(not_wanted());
                }
                digest.update(&piece);
                out.write_all(&piece)?;
            }
            out.write_all(&digest.finalize())?;
            out.flush()
        });
        let Point { head, seen } = point;
        let link = HEXLOWER.encode(&head.link);
        let mut piece = format!("{MAGIC}\n{} {link} {}\n", head.seq, seen.to_text()).into_bytes();
        // Nobody takes the pieces of one who has failed.
        let send =
            |piece: &mut Vec<u8>| drop(pieces.send(std::mem::replace(piece, Vec::with_capacity(CHUNK))));
        index.each(|subject, word| {
            piece.extend(subject.as_bytes());
            piece.extend(word.to_le_bytes());
            if piece.len() + ENTRY > CHUNK {
                send(&mut piece);
            }
        });
        send(&mut piece);
        drop(pieces);
        written.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
    })
}

/// A file of the index whose head was read.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) point: Point,
    /// Accounts in it.
    accounts: u64,
    digest: Sha256,
    rest: BufReader<File>,
}

impl Packed {
    /// The file beside a journal; `None` without one, or with one that cannot be understood.
    pub(super) fn open(journal: &Path) -> Option<Self> {
        let path = beside(journal);
        match Self::head(&path) {
            Ok(packed) => Some(packed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "cannot be used; the whole journal is read instead");
                None
            }
        }
    }

    fn head(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut rest = BufReader::with_capacity(CHUNK, file);
        let (mut digest, mut read) = (Sha256::new(), 0);
        let mut line = || -> io::Result<String> {
            let mut bytes = Vec::new();
            io::BufRead::read_until(&mut (&mut rest).take(LONGEST_HEAD as u64), b'\n', &mut bytes)?;
            digest.update(&bytes);
            read += bytes.len() as u64;
            let text = String::from_utf8(bytes).ok();
            text.and_then(|text| text.strip_suffix('\n').map(str::to_owned)).ok_or_else(not_whole)
        };
        if line()? != MAGIC {
            return Err(io::Error::other("it is of another version"));
        }
        let point = parse(&line()?).ok_or_else(not_whole)?;
        let accounts = length.checked_sub(read + DIGEST as u64).ok_or_else(not_whole)?;
        if accounts % ENTRY as u64 != 0 {
            return Err(not_whole());
        }
        Ok(Self { point, accounts: accounts / ENTRY as u64, digest, rest })
    }

    /// Puts every account into an empty index; an error leaves it empty.
    pub(super) fn load(self, index: &Index) -> io::Result<()> {
        self.read(index).inspect_err(|_| index.clear())
    }

    fn read(mut self, index: &Index) -> io::Result<()> {
        let mut piece = vec![0; CHUNK / ENTRY * ENTRY];
        while self.accounts > 0 {
            let entries = self.accounts.min((CHUNK / ENTRY) as u64);
            let piece = &mut piece[..entries as usize * ENTRY];
            self.rest.read_exact(piece)?;
            self.digest.update(&*piece);
            for entry in piece.as_chunks::<ENTRY>().0 {
                let (subject, word) = entry.split_at(16);
                let subject = Subject::from_bytes(subject.try_into().unwrap_or_default());
                index.put(subject, u64::from_le_bytes(word.try_into().unwrap_or_default()));
            }
            self.accounts -= entries;
        }
        let mut digest = [0; DIGEST];
        self.rest.read_exact(&mut digest)?;
        if self.digest.finalize()[..] == digest { Ok(()) } else { Err(not_whole()) }
    }
}

fn parse(line: &str) -> Option<Point> {
    let mut words = line.split(' ');
    let seq = words.next()?.parse().ok()?;
    let link = HEXLOWER.decode(words.next()?.as_bytes()).ok()?.try_into().ok()?;
    Some(Point { head: Head { seq, link }, seen: Seen::parse(words.next()?) })
}

fn not_whole() -> io::Error {
    io::Error::other("it is not whole")
}
