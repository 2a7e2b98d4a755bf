//! Files of opt-outs: whatever is in one, the two readings agree about its rows, nothing but those that are said to be
//! unreadable is left out, and every other row has its line.

use std::io::{self, Read};

use super::{Random, rounds};
use optgate::cli::ledger::table::{LONGEST_ROW, Readable, Why, survey};

const PIECES: &[&str] = &[
    "a",
    "ann",
    ",",
    ",",
    ",",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "\"",
    "\"",
    "\"\"",
    " ",
    "\0",
    "\u{e9}",
    "2026-11-20",
];

fn file(random: &mut Random) -> Vec<u8> {
    let mut file = "\u{feff}".repeat(random.below(3)).into_bytes();
    for _ in 0..random.below(60) {
        match random.below(40) {
            0 => file.extend(vec![b'x'; usize::try_from(LONGEST_ROW).unwrap() - 20 + random.below(40)]),
            1 => file.extend("\n".repeat(random.below(70_000)).bytes()),
            2 => file.push(u8::try_from(random.below(256)).unwrap()),
            _ => file.extend(random.one_of(PIECES).bytes()),
        }
    }
    file
}

/// Gives a few bytes at a time.
struct Dripping<'a>(&'a [u8], &'a mut Random);

impl Read for Dripping<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let most = (1 + self.1.below(9_000)).min(into.len());
        self.0.read(&mut into[..most])
    }
}

/// Every row that a reader of CSV finds, with its line: that of its first byte, behind empty ones.
fn rows(text: &[u8]) -> Vec<(u64, Vec<Vec<u8>>)> {
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text);
    let row = |row: csv::ByteRecord| {
        let begun = usize::try_from(row.position().unwrap().byte()).unwrap();
        let blank = text[begun..].iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let line = 1 + text[..begun + blank].iter().filter(|byte| **byte == b'\n').count() as u64;
        (line, row.iter().map(<[u8]>::to_vec).collect::<Vec<_>>())
    };
    reader.byte_records().map(|read| row(read.unwrap())).collect()
}

#[test]
fn two_readings_of_any_file_agree() {
    rounds("csv", 3_000, |random| {
        let bytes = file(random);
        let found = survey(Dripping(&bytes, random)).unwrap();
        assert_eq!(found, survey(bytes.as_slice()).unwrap(), "however the bytes come");
        let mut text = bytes.as_slice();
        while let Some(rest) = text.strip_prefix("\u{feff}".as_bytes()) {
            text = rest;
        }
        let all = rows(text);
        let unclosed = found.unreadable.iter().filter(|row| row.why == Why::Unclosed).count();
        assert_eq!(found.rows + unclosed as u64, all.len() as u64);
        let mut readable = Readable::of(Dripping(&bytes, random), &found).unwrap();
        let mut reader =
            csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(&mut readable);
        let (mut kept, mut row) = (Vec::new(), csv::ByteRecord::new());
        while reader.read_byte_record(&mut row).unwrap() {
            kept.push((reader.get_mut().line(), row.iter().map(<[u8]>::to_vec).collect::<Vec<_>>()));
        }
        drop(reader);
        assert_eq!(readable.digest(), found.digest);
        let longest = usize::try_from(LONGEST_ROW).unwrap();
        assert!(kept.iter().all(|(_, row)| row.iter().map(Vec::len).sum::<usize>() <= longest));
        let strange = kept.iter().find(|row| !all.contains(row));
        assert_eq!(
            strange,
            None,
            "a row is there as it was, at its line: {:?}",
            String::from_utf8_lossy(text)
        );
        // An empty long row is none.
        let gone = all.len() - kept.len();
        assert!(gone <= found.unreadable.len(), "{gone} rows are gone");
    });
}
