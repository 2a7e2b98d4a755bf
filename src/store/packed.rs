//! The index as a file beside the journal, so that a start reads what came since instead of everything.
//!
//! ```text
//! index.packed = "optgate index 2" SP check of the secret whose key the MAC has LF
//!              | sequence number SP chain value in hexadecimal SP what was seen of other nodes LF
//!              | accounts, 24 bytes each: the subject, then its word as the index has it (little endian)
//!              | HMAC-SHA-256 of all before
//! ```
//!
//! Whoever may write the data folder and has not `secret.key` could put a file here that knows nobody as opted out; without
//! the MAC, one that fits the journal would be believed. It costs what the plain digest of the first form did, for HMAC is
//! that and two blocks more. A file of the first form is passed over like one that is not whole.
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
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::files::{self, Unplaced};
use super::index::Index;
use super::journal::chain::Head;
use super::merge::Seen;
use super::state::State;
use crate::privacy::{Keys, Subject};

const MAGIC: &str = "optgate index 2 ";

/// Bytes of one account.
const ENTRY: usize = 24;

/// Bytes of the MAC at the end.
const MAC: usize = 32;

/// Bytes that go to the file at once.
const CHUNK: usize = 256 * 1024;

/// The longest head that is read: a few numbers, and a name and a number for each other node.
const LONGEST_HEAD: usize = 1024 * 1024;

/// The keys of the MAC, each with the check of its secret, the live one first.
#[derive(Clone)]
pub(super) struct Sealers(Arc<[(String, [u8; 32])]>);

impl std::fmt::Debug for Sealers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealers(..)")
    }
}

impl Sealers {
    /// Of these secrets.
    pub(super) fn of(checks: &[String], keys: &Keys) -> Self {
        let all = std::iter::once(keys).chain(keys.older());
        Self(checks.iter().cloned().zip(all.map(|keys| *keys.beside())).collect())
    }

    /// The live one, and what tells it apart.
    fn live(&self) -> io::Result<(&str, Hmac<Sha256>)> {
        let (check, key) = self.0.first().ok_or_else(|| io::Error::other("there is no secret"))?;
        Ok((check, begin(key)?))
    }

    /// That of the secret with this check.
    fn named(&self, check: &str) -> io::Result<Hmac<Sha256>> {
        let key = self.0.iter().find(|(known, _)| known == check);
        begin(
            &key.ok_or_else(|| io::Error::other("it was sealed under a secret that is not in secret.key"))?.1,
        )
    }
}

fn begin(key: &[u8; 32]) -> io::Result<Hmac<Sha256>> {
    // HMAC takes keys of any length; the error type exists for other MACs.
    Hmac::new_from_slice(key).map_err(io::Error::other)
}

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
    sealers: Sealers,
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
    pub(super) fn new(journal: &Path, sealers: &Sealers, after: Option<u64>, whole: bool) -> Self {
        // One that a crash left may hold what was erased since.
        let _ = files::remove(&files::beside(&beside(journal)));
        Self {
            journal: journal.to_owned(),
            sealers: sealers.clone(),
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
        let sealers = self.sealers.clone();
        let work = move || {
            let written = write(&path, (&point, &sealers), &state.index, &stop);
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
fn write(path: &Path, what: (&Point, &Sealers), index: &Index, unwanted: &AtomicBool) -> io::Result<()> {
    let file = Unplaced::write(path, |file| fill(file, what, index, unwanted))?;
    if unwanted.load(Ordering::Relaxed) { Err(not_wanted()) } else { file.place() }
}

fn not_wanted() -> io::Error {
    io::Error::other("it is not wanted any more")
}

/// The index is read at the speed of memory into pieces that wait for the disk, so that no part of it is locked for
/// as long as a disk takes.
fn fill(
    file: &File,
    (point, sealers): (&Point, &Sealers),
    index: &Index,
    unwanted: &AtomicBool,
) -> io::Result<()> {
    let (check, mut mac) = sealers.live()?;
    let (pieces, inbox) = mpsc::channel::<Vec<u8>>();
    std::thread::scope(|scope| {
        let written = scope.spawn(move || {
            let mut out = BufWriter::with_capacity(CHUNK, file);
            for piece in inbox {
                if unwanted.load(Ordering::Relaxed) {
                    return Err(not_wanted());
                }
                mac.update(&piece);
                out.write_all(&piece)?;
            }
            out.write_all(&mac.finalize().into_bytes())?;
            out.flush()
        });
        let Point { head, seen } = point;
        let link = HEXLOWER.encode(&head.link);
        let mut piece = format!("{MAGIC}{check}\n{} {link} {}\n", head.seq, seen.to_text()).into_bytes();
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
    mac: Hmac<Sha256>,
    rest: BufReader<File>,
}

impl Packed {
    /// The file beside a journal; `None` without one, or with one that cannot be understood.
    pub(super) fn open(journal: &Path, sealers: &Sealers) -> Option<Self> {
        let path = beside(journal);
        match Self::head(&path, sealers) {
            Ok(packed) => Some(packed),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(%error, path = %path.display(), "cannot be used; the whole journal is read instead");
                None
            }
        }
    }

    fn head(path: &Path, sealers: &Sealers) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut rest = BufReader::with_capacity(CHUNK, file);
        let mut read = 0;
        let mut line = || -> io::Result<String> {
            let mut bytes = Vec::new();
            io::BufRead::read_until(&mut (&mut rest).take(LONGEST_HEAD as u64), b'\n', &mut bytes)?;
            read += bytes.len() as u64;
            String::from_utf8(bytes).ok().filter(|text| text.ends_with('\n')).ok_or_else(not_whole)
        };
        let magic = line()?;
        let check = magic.strip_prefix(MAGIC).ok_or_else(|| io::Error::other("it is of another version"))?;
        let mut mac = sealers.named(check.trim_end())?;
        let head = line()?;
        [&magic, &head].into_iter().for_each(|line| mac.update(line.as_bytes()));
        let point = parse(head.trim_end_matches('\n')).ok_or_else(not_whole)?;
        let accounts = length.checked_sub(read + MAC as u64).ok_or_else(not_whole)?;
        if accounts % ENTRY as u64 != 0 {
            return Err(not_whole());
        }
        Ok(Self { point, accounts: accounts / ENTRY as u64, mac, rest })
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
            self.mac.update(piece);
            for entry in piece.as_chunks::<ENTRY>().0 {
                let (subject, word) = entry.split_at(16);
                let subject = Subject::from_bytes(subject.try_into().unwrap_or_default());
                index.put(subject, u64::from_le_bytes(word.try_into().unwrap_or_default()));
            }
            self.accounts -= entries;
        }
        let mut mac = [0; MAC];
        self.rest.read_exact(&mut mac)?;
        self.mac.verify_slice(&mac).map_err(|_| not_whole())
    }
}

fn parse(line: &str) -> Option<Point> {
    let mut words = line.split(' ');
    let seq = words.next()?.parse().ok()?;
    let link = HEXLOWER.decode(words.next()?.as_bytes()).ok()?.try_into().ok()?;
    Some(Point { head: Head { seq, link }, seen: Seen::parse(words.next()?) })
}

fn not_whole() -> io::Error {
    io::Error::other("it is not whole, or was changed after it was written")
}
