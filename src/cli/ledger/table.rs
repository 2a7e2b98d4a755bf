//! A CSV file of any size, row by row: read twice, and never held.
//!
//! The first reading takes the file's digest, which every record names, and finds the rows that cannot be read: those
//! that are longer than any true one, and the one in which a quote opens that nothing closes. The second leaves their
//! bytes out, so that each other row is read; it counts the lines itself, for a reader of CSV that passes over empty ones
//! takes the first of them for the next row's.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use anyhow::Context as _;
use data_encoding::HEXLOWER;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use crate::config::nearest::nearest;

/// Longest row, bytes: an account's name is a few, and a file that is no such list is refused by it.
pub const LONGEST_ROW: u64 = 64 * 1024;

/// Largest file, bytes.
pub const LARGEST_FILE: u64 = 4 * 1024 * 1024 * 1024;

/// Bytes read at once.
const BUFFER: usize = 64 * 1024;

/// Spreadsheets put it in front.
const BOM: &[u8] = "\u{feff}".as_bytes();

/// What the first reading finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    /// SHA-256 of all bytes, in hexadecimal.
    pub digest: String,
    /// Rows with anything in them, the head line too.
    pub rows: u64,
    /// In their order.
    pub unreadable: Vec<Unreadable>,
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its line, counted from 1; of a quote that stays open the one where it opens.
    pub line: u64,
    /// Why.
    pub why: Why,
    /// Its bytes, after a byte order mark.
    from: u64,
    to: u64,
}

/// Why a row cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is longer than [`LONGEST_ROW`].
    Long,
    /// A quote opens in it that nothing closes: all that follows is in it.
    Unclosed,
}

impl Unreadable {
    /// Why, and what to do.
    #[must_use]
    pub fn words(&self) -> String {
        match self.why {
            Why::Long => format!("the row is longer than {} KiB, which no account is", LONGEST_ROW / 1024),
            Why::Unclosed => "the quote that opens here is never closed, so nothing from here on can be read; close it, or \
                              write a quote within a value twice"
                .to_owned(),
        }
    }
}

/// Where a reader of CSV is within a value (RFC 4180).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    /// At the first byte of one.
    Start,
    /// In one without quotes, or after its closing one.
    Plain,
    /// Between quotes.
    Quoted,
    /// After a quote between quotes: the closing one, or the first half of one that is meant.
    Quote,
}

/// Tells rows apart, byte by byte.
#[derive(Debug)]
struct Rows {
    at: u64,
    line: u64,
    within: Within,
    /// The row's first byte and line.
    from: u64,
    first_line: u64,
    /// Where the last quote opened.
    opened: u64,
    /// The row has nothing in it as yet: such a row is none.
    blank: bool,
}

impl Rows {
    const fn new() -> Self {
        Self { at: 0, line: 1, within: Within::Start, from: 0, first_line: 1, opened: 1, blank: true }
    }

    /// Takes one more byte; whether it is the last of its row.
    fn ends_with(&mut self, byte: u8) -> bool {
        self.within = match (self.within, byte) {
            (Within::Quoted, b'"') => Within::Quote,
            (Within::Quoted, _) | (Within::Quote, b'"') => Within::Quoted,
            (Within::Start, b'"') => {
                self.opened = self.line;
                Within::Quoted
            }
            (_, b',') => Within::Start,
            _ => Within::Plain,
        };
        self.pass(byte);
        let ends = self.within == Within::Plain && matches!(byte, b'\n' | b'\r');
        self.blank &= ends;
        ends
    }

    /// Takes one that is left out.
    fn pass(&mut self, byte: u8) {
        self.at += 1;
        self.line += u64::from(byte == b'\n');
    }

    /// Another row begins.
    const fn begin(&mut self) {
        (self.within, self.blank) = (Within::Start, true);
        (self.from, self.first_line) = (self.at, self.line);
    }
}

/// Reads all of a file, and says what is in it.
///
/// # Errors
/// It cannot be read, or is larger than [`LARGEST_FILE`].
pub fn survey(file: impl Read) -> io::Result<Survey> {
    let mut file = Hashing::over(file.take(LARGEST_FILE + 1));
    let mut found = Survey { digest: String::new(), rows: 0, unreadable: Vec::new() };
    let mut rows = Rows::new();
    let mut text = BufReader::with_capacity(BUFFER, after_bom(&mut file)?);
    loop {
        let bytes = text.fill_buf()?;
        if bytes.is_empty() {
            break;
        }
        for byte in bytes {
            if rows.ends_with(*byte) {
                found.row(&rows);
                rows.begin();
            }
        }
        let read = bytes.len();
        text.consume(read);
    }
    drop(text);
    match rows.within {
        Within::Quoted => found.leave_out(&rows, rows.opened, Why::Unclosed),
        _ => found.row(&rows),
    }
    if file.bytes > LARGEST_FILE {
        let most = LARGEST_FILE / 1024 / 1024 / 1024;
        return Err(io::Error::other(format!("it is larger than {most} GiB; import it in parts")));
    }
    found.digest = file.digest();
    Ok(found)
}

impl Survey {
    /// A row is over.
    fn row(&mut self, rows: &Rows) {
        self.rows += u64::from(!rows.blank);
        if rows.at - rows.from > LONGEST_ROW {
            self.leave_out(rows, rows.first_line, Why::Long);
        }
    }

    fn leave_out(&mut self, rows: &Rows, line: u64, why: Why) {
        self.unreadable.push(Unreadable { line, why, from: rows.from, to: rows.at });
    }
}

/// A file without the rows that cannot be read.
#[derive(Debug)]
pub struct Readable<R: Read> {
    text: BufReader<AfterBom<Hashing<R>>>,
    left_out: std::vec::IntoIter<Unreadable>,
    next: Option<Unreadable>,
    rows: Rows,
    /// Of rows that were given out.
    lines: VecDeque<u64>,
}

impl<R: Read> Readable<R> {
    /// Of a file that was surveyed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn of(file: R, survey: &Survey) -> io::Result<Self> {
        let mut left_out = survey.unreadable.clone().into_iter();
        let next = left_out.next();
        let text = BufReader::with_capacity(BUFFER, after_bom(Hashing::over(file))?);
        Ok(Self { text, left_out, next, rows: Rows::new(), lines: VecDeque::new() })
    }

    /// The line of the first row that was given out and not asked for yet: to be asked once for each, in their order. 0 when
    /// there is none.
    pub fn line(&mut self) -> u64 {
        self.lines.pop_front().unwrap_or(0)
    }

    /// The digest of what was read: at the end that of the survey, unless the file was changed meanwhile.
    #[must_use]
    pub fn digest(self) -> String {
        self.text.into_inner().into_inner().1.digest()
    }

    /// A row with something in it is over.
    fn row(&mut self) {
        if !self.rows.blank {
            self.lines.push_back(self.rows.first_line);
        }
        self.rows.begin();
    }
}

impl<R: Read> Read for Readable<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let bytes = self.text.fill_buf()?;
            if bytes.is_empty() || into.is_empty() {
                if bytes.is_empty() {
                    self.row();
                }
                return Ok(0);
            }
            let some = |to: u64| usize::try_from(to - self.rows.at).unwrap_or(usize::MAX).min(bytes.len());
            let (from, to) = self.next.as_ref().map_or((u64::MAX, u64::MAX), |next| (next.from, next.to));
            if self.rows.at >= from {
                let some = some(to);
                bytes[..some].iter().for_each(|byte| self.rows.pass(*byte));
                self.text.consume(some);
                if self.rows.at == to {
                    self.rows.begin();
                    self.next = self.left_out.next();
                }
                continue;
            }
            let some = some(from).min(into.len());
            into[..some].copy_from_slice(&bytes[..some]);
            self.text.consume(some);
            for byte in &into[..some] {
                if self.rows.ends_with(*byte) {
                    self.row();
                }
            }
            return Ok(some);
        }
    }
}

type AfterBom<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// How a file in UTF-16 begins, which a reader of CSV would take for letters that nobody knows.
const UTF_16: [&[u8]; 2] = [b"\xff\xfe", b"\xfe\xff"];

/// A file from behind its byte order mark, if it has one or, joined from parts, more.
fn after_bom<R: Read>(mut file: R) -> io::Result<AfterBom<R>> {
    let mut first = Vec::new();
    // A second one a reader of CSV takes for the first.
    loop {
        file.by_ref().take(BOM.len() as u64).read_to_end(&mut first)?;
        if UTF_16.iter().any(|mark| first.starts_with(mark)) {
            return Err(io::Error::other("it is in UTF-16; save it in UTF-8"));
        }
        if first != BOM {
            break;
        }
        first.clear();
    }
    Ok(Cursor::new(first).chain(file))
}

/// Takes the digest of what passes.
#[derive(Debug)]
struct Hashing<R> {
    file: R,
    hash: Sha256,
    bytes: u64,
}

impl<R> Hashing<R> {
    fn over(file: R) -> Self {
        Self { file, hash: Sha256::new(), bytes: 0 }
    }

    fn digest(self) -> String {
        HEXLOWER.encode(&self.hash.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(into)?;
        self.hash.update(&into[..read]);
        self.bytes += read as u64;
        Ok(read)
    }
}

/// A row as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// What the site calls the account.
    #[serde(default)]
    pub account: String,
    /// Instead of that, its keyed hash.
    #[serde(default)]
    pub subject: String,
    /// The site's name.
    pub site: String,
    /// The day of the request.
    pub date: String,
    /// When it was made, as exactly as is known.
    #[serde(default)]
    pub requested_at: String,
    /// Why it was denied, if it was.
    #[serde(default)]
    pub denied: String,
}

/// The words of the csv reader hold the row's place in another count than ours.
fn why(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        _ => error.to_string(),
    }
}

/// What a row may hold.
const COLUMNS: [&str; 6] = ["account", "subject", "site", "date", "requested_at", "denied"];

/// The rows of a file, one after another.
#[derive(Debug)]
pub struct Table<R: Read> {
    rows: csv::Reader<Readable<R>>,
    head: csv::StringRecord,
    row: csv::StringRecord,
}

impl<R: Read> Table<R> {
    /// Reads the head line.
    ///
    /// # Errors
    /// It cannot be read, or has columns that are not known, or lacks one.
    pub fn of(file: R, found: &Survey) -> anyhow::Result<Self> {
        let readable = Readable::of(file, found)?;
        let mut rows = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(readable);
        let head = head(rows.headers().context("the head line cannot be read")?)?;
        rows.get_mut().line();
        Ok(Self { rows, head, row: csv::StringRecord::new() })
    }

    /// The next row and its line; `None` at the end.
    pub fn next_row(&mut self) -> Option<anyhow::Result<(u64, Result<Row, String>)>> {
        let read = self.rows.read_record(&mut self.row);
        let row = match read {
            Ok(false) => return None,
            Ok(true) => self.row.deserialize(Some(&self.head)).map_err(|error| why(&error)),
            Err(error) if error.is_io_error() => return Some(Err(error.into())),
            Err(error) => Err(why(&error)),
        };
        Some(Ok((self.rows.get_mut().line(), row)))
    }

    /// The digest of what was read.
    pub fn digest(self) -> String {
        self.rows.into_inner().digest()
    }
}

/// The columns, whatever their letters' case. Each must be known: one that was meant for another would be lost.
fn head(written: &csv::StringRecord) -> anyhow::Result<csv::StringRecord> {
    let head: csv::StringRecord =
        written.iter().map(|name| name.to_lowercase().replace([' ', '-'], "_")).collect();
    let found = || written.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let separator = written.iter().flat_map(str::chars).find(|c| matches!(c, ';' | '\t'));
    if let (1, Some(separator)) = (head.len(), separator) {
        anyhow::bail!("the columns are separated by {separator:?}; save the file with commas between them");
    }
    for (number, (column, name)) in head.iter().zip(written).enumerate() {
        anyhow::ensure!(
            head.iter().take(number).all(|earlier| earlier != column),
            "the head line has the column `{column}` twice; remove one of them"
        );
        if COLUMNS.contains(&column) {
            continue;
        }
        let near = nearest(column, COLUMNS);
        let hint = near.map(|known| format!("did you mean `{known}`? ")).unwrap_or_default();
        anyhow::bail!(
            "the head line has a column `{name}`, which none is; {hint}Leave only {} in the file",
            COLUMNS.map(|known| format!("`{known}`")).join(", ")
        );
    }
    let has = |column: &str| head.iter().any(|name| name == column);
    for (there, columns) in [
        (has("account") || has("subject"), "account` or `subject"),
        (has("site"), "site"),
        (has("date"), "date"),
    ] {
        anyhow::ensure!(there, "the head line has no column `{columns}`; it has {}", found());
    }
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the second reading gives, and the lines of what was left out.
    fn read(file: &[u8]) -> (String, Vec<(u64, Why)>) {
        let survey = survey(file).unwrap();
        let mut text = String::new();
        let mut readable = Readable::of(file, &survey).unwrap();
        readable.read_to_string(&mut text).unwrap();
        assert_eq!(readable.digest(), survey.digest);
        (text, survey.unreadable.iter().map(|row| (row.line, row.why)).collect())
    }

    /// Spreadsheets write it where they are asked for Unicode text.
    #[test]
    fn a_file_in_utf_16_is_refused_by_its_name() {
        let utf_16 = "\u{feff}account,site,date\n".encode_utf16();
        let (little, big): (Vec<_>, Vec<_>) =
            utf_16.map(|unit| (unit.to_le_bytes(), unit.to_be_bytes())).unzip();
        for file in [little.concat(), big.concat()] {
            assert_eq!(survey(&file[..]).unwrap_err().to_string(), "it is in UTF-16; save it in UTF-8");
        }
    }

    #[test]
    fn a_row_that_cannot_be_read_leaves_all_others() {
        let long = "x".repeat(usize::try_from(LONGEST_ROW).unwrap());
        let quoted = format!("\"{}\"", "a\n".repeat(40_000));
        assert_eq!(read(b"a,b\n1,2\r\n\n3,4"), ("a,b\n1,2\r\n\n3,4".into(), vec![]));
        let (text, left_out) = read(format!("\u{feff}a\n{long}\nb\n").as_bytes());
        assert_eq!((text.as_str(), left_out), ("a\nb\n", vec![(2, Why::Long)]));
        let (text, left_out) = read(format!("a\n{quoted},1\nb\n").as_bytes());
        assert_eq!((text.as_str(), left_out), ("a\nb\n", vec![(2, Why::Long)]));
        assert_eq!(read(b"a\n1,\n\"b\"\"\n,\nc"), ("a\n1,\n".into(), vec![(3, Why::Unclosed)]));
        assert_eq!(survey(&b"a,b\n\n1,2\n\"\n\"\n"[..]).unwrap().rows, 3);
        // `sha256sum` of the same bytes, a byte order mark with them.
        let digest = survey("\u{feff}a".as_bytes()).unwrap().digest;
        assert_eq!(digest, HEXLOWER.encode(&Sha256::digest("\u{feff}a")));
    }
}
