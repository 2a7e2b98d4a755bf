//! HPACK (RFC 7541), read along with hyper's reader: what it drops from a block of fields without a word.
//!
//! Of the fields only their names' kind, of paths whether they hold a fragment, and of statuses whether they are interim
//! are of interest. Everything else is there to keep the table of fields that later blocks refer to.

use std::collections::VecDeque;

/// Size of the table: the default (RFC 9113, 6.5.2), since hyper announces no other on either side.
const TABLE: u32 = 4096;
/// What an entry counts beside its name and value (RFC 7541, 4.1).
const OVERHEAD: u32 = 32;

/// Lengths of the names in the static table (RFC 7541, appendix A), which begins with 1.
const STATIC: [u8; 61] = [
    10, 7, 7, 5, 5, 7, 7, 7, 7, 7, 7, 7, 7, 7, 14, 15, 15, 13, 6, 27, 3, 5, 13, 13, 19, 16, 16, 14, 16, 13,
    12, 6, 4, 4, 6, 7, 4, 4, 8, 17, 13, 8, 19, 13, 4, 8, 12, 18, 19, 5, 7, 7, 11, 6, 10, 25, 17, 10, 4, 3,
    16,
];

/// The octets in the order of their codes (RFC 7541, appendix B), which is that of their lengths.
const OCTETS: &[u8; 256] = b"012aceiost %-./3456789=A_bdfghlmnpru:BCDEFGHIJKLMNOPQRSTUVWYjkqvwxyz&*,;XZ!\"()?'+|#>\
    \x00$@[]~^}<`{\\\xc3\xd0\x80\x82\x83\xa2\xb8\xc2\xe0\xe2\x99\xa1\xa7\xac\xb0\xb1\xb3\xd1\xd8\xd9\xe3\xe5\xe6\x81\
    \x84\x85\x86\x88\x92\x9a\x9c\xa0\xa3\xa4\xa9\xaa\xad\xb2\xb5\xb9\xba\xbb\xbd\xbe\xc4\xc6\xe4\xe8\xe9\x01\x87\x89\
    \x8a\x8b\x8c\x8d\x8f\x93\x95\x96\x97\x98\x9b\x9d\x9e\xa5\xa6\xa8\xae\xaf\xb4\xb6\xb7\xbc\xbf\xc5\xe7\xef\t\x8e\x90\
    \x91\x94\x9f\xab\xce\xd7\xe1\xec\xed\xc7\xcf\xea\xeb\xc0\xc1\xc8\xc9\xca\xcd\xd2\xd5\xda\xdb\xee\xf0\xf2\xf3\xff\
    \xcb\xcc\xd3\xd4\xd6\xdd\xde\xdf\xf1\xf4\xf5\xf6\xf7\xf8\xfa\xfb\xfc\xfd\xfe\x02\x03\x04\x05\x06\x07\x08\x0b\x0c\
    \x0e\x0f\x10\x11\x12\x13\x14\x15\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f\xdc\xf9\n\r\x16";

/// Lengths of codes in bits, and how many octets have a code of each.
const COUNTS: [(u32, u64); 21] = [
    (5, 10),
    (6, 26),
    (7, 32),
    (8, 6),
    (10, 5),
    (11, 3),
    (12, 2),
    (13, 6),
    (14, 2),
    (15, 3),
    (19, 3),
    (20, 8),
    (21, 13),
    (22, 26),
    (23, 29),
    (24, 12),
    (25, 4),
    (26, 15),
    (27, 19),
    (28, 29),
    (30, 3),
];

/// Codes of one length: they follow one another, and on those one shorter.
#[derive(Debug, Clone, Copy)]
struct Codes {
    bits: u32,
    first: u64,
    /// One more than the last.
    end: u64,
    /// Where the first one's octet stands.
    offset: u64,
}

const CODES: [Codes; COUNTS.len()] = {
    let mut all = [Codes { bits: 0, first: 0, end: 0, offset: 0 }; COUNTS.len()];
    let (mut at, mut code, mut offset, mut bits) = (0, 0, 0, 0);
    while at < COUNTS.len() {
        let (length, count) = COUNTS[at];
        code <<= length - bits;
        all[at] = Codes { bits: length, first: code, end: code + count, offset };
        (code, offset, bits) = (code + count, offset + count, length);
        at += 1;
    }
    all
};

/// Kinds of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Path,
    Status,
    /// Another that begins with a colon.
    Pseudo,
    Field,
}

/// A field in the table.
#[derive(Debug, Clone, Copy)]
struct Entry {
    name: Name,
    /// A path with a fragment, or an interim status.
    marked: bool,
    name_length: u32,
    size: u32,
}

/// What a block holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    /// A pseudo-field other than `:status`: a request's, or nobody's.
    pub asks: bool,
    /// A fragment in `:path`.
    pub fragment: bool,
    /// A `:status`, and of what kind.
    pub status: Option<Status>,
}

/// Kinds of answers (RFC 9110, 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// 1xx: another follows.
    Interim,
    /// All others.
    Final,
}

impl Seen {
    /// Whether there is a pseudo-field.
    #[must_use]
    pub const fn pseudo(&self) -> bool {
        self.asks || self.status.is_some()
    }

    const fn see(&mut self, entry: &Entry) {
        match (entry.name, entry.marked) {
            (Name::Field, _) => {}
            (Name::Status, true) => self.status = Some(Status::Interim),
            (Name::Status, false) => self.status = Some(Status::Final),
            (Name::Path | Name::Pseudo, marked) => {
                self.asks = true;
                self.fragment |= marked;
            }
        }
    }
}

/// The table that a connection's blocks refer to.
#[derive(Debug)]
pub struct Table {
    entries: VecDeque<Entry>,
    size: u32,
    most: u32,
}

impl Default for Table {
    fn default() -> Self {
        Self { entries: VecDeque::new(), size: 0, most: TABLE }
    }
}

/// What is left of a block.
struct Input<'b>(&'b [u8]);

/// A text as it stands in a block.
#[derive(Clone, Copy)]
struct Text<'b> {
    bytes: &'b [u8],
    coded: bool,
}

impl Table {
    /// Reads a whole block; `None`: it is none.
    ///
    /// Cost: some nanoseconds for each field, and for each octet of a text that is new to the table.
    pub fn read(&mut self, block: &[u8]) -> Option<Seen> {
        let (mut input, mut seen, mut begun) = (Input(block), Seen::default(), false);
        while let Some(&first) = input.0.first() {
            let entry = match first {
                0x80.. => self.entry(input.number(7)?)?,
                // The size changes before the first field or not at all (RFC 7541, 4.2).
                0x20..=0x3f if begun => return None,
                0x20..=0x3f => {
                    let most = input.number(5)?;
                    if most > TABLE {
                        return None;
                    }
                    self.most = most;
                    self.make_room(0);
                    continue;
                }
                _ => {
                    let indexed = first & 0x40 != 0;
                    let entry = self.literal(&mut input, indexed)?;
                    if indexed {
                        self.insert(entry);
                    }
                    entry
                }
            };
            begun = true;
            seen.see(&entry);
        }
        Some(seen)
    }

    /// A field that is spelt out. One that is not `kept` has no size.
    fn literal(&self, input: &mut Input<'_>, kept: bool) -> Option<Entry> {
        let (name, name_length) = match input.number(if kept { 6 } else { 4 })? {
            0 => input.text()?.name()?,
            index => {
                let known = self.entry(index)?;
                (known.name, known.name_length)
            }
        };
        let (value, mut marked, mut length) = (input.text()?, false, 0);
        if kept || matches!(name, Name::Path | Name::Status) || value.coded {
            value.each(|octet| {
                marked |= match name {
                    Name::Path => octet == b'#',
                    Name::Status => length == 0 && octet == b'1',
                    Name::Pseudo | Name::Field => false,
                };
                length += 1;
            })?;
        }
        Some(Entry { name, marked, name_length, size: name_length + length + OVERHEAD })
    }

    fn entry(&self, index: u32) -> Option<Entry> {
        let at = (index as usize).checked_sub(1)?;
        let Some(&length) = STATIC.get(at) else { return self.entries.get(at - STATIC.len()).copied() };
        let name = match index {
            4 | 5 => Name::Path,
            8..=14 => Name::Status,
            1..=14 => Name::Pseudo,
            _ => Name::Field,
        };
        Some(Entry { name, marked: false, name_length: length.into(), size: 0 })
    }

    fn insert(&mut self, entry: Entry) {
        self.make_room(entry.size);
        // One that is larger than the table empties it (RFC 7541, 4.4).
        if entry.size <= self.most {
            self.size += entry.size;
            self.entries.push_front(entry);
        }
    }

    fn make_room(&mut self, more: u32) {
        while self.size.saturating_add(more) > self.most {
            let Some(oldest) = self.entries.pop_back() else { return };
            self.size -= oldest.size;
        }
    }
}

impl<'b> Input<'b> {
    fn octet(&mut self) -> Option<u8> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    /// A number behind so many bits less than eight (RFC 7541, 5.1); none here is larger than 2^28.
    fn number(&mut self, bits: u32) -> Option<u32> {
        let most = (1 << bits) - 1;
        let mut number = u32::from(self.octet()?) & most;
        if number < most {
            return Some(number);
        }
        for shift in [0, 7, 14, 21] {
            let octet = self.octet()?;
            number += u32::from(octet & 0x7f) << shift;
            if octet < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn text(&mut self) -> Option<Text<'b>> {
        let coded = self.0.first()? & 0x80 != 0;
        let length = self.number(7)? as usize;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(Text { bytes, coded })
    }
}

impl Text<'_> {
    /// As a field's name: its kind and length.
    fn name(self) -> Option<(Name, u32)> {
        const PATH: &[u8] = b":path";
        const STATUS: &[u8] = b":status";
        let (mut pseudo, mut path, mut status, mut length) = (false, true, true, 0);
        self.each(|octet| {
            pseudo |= length == 0 && octet == b':';
            path &= PATH.get(length) == Some(&octet);
            status &= STATUS.get(length) == Some(&octet);
            length += 1;
        })?;
        let name = match pseudo {
            true if path && length == PATH.len() => Name::Path,
            true if status && length == STATUS.len() => Name::Status,
            true => Name::Pseudo,
            false => Name::Field,
        };
        Some((name, u32::try_from(length).ok()?))
    }

    /// Goes through the octets; `None`: a code that is none (RFC 7541, 5.2).
    fn each(self, mut see: impl FnMut(u8)) -> Option<()> {
        if !self.coded {
            self.bytes.iter().copied().for_each(see);
            return Some(());
        }
        // The bits not yet read, from the highest one on.
        let (mut window, mut have, mut bytes) = (0_u64, 0, self.bytes.iter());
        loop {
            while have <= 56
                && let Some(&byte) = bytes.next()
            {
                window |= u64::from(byte) << (56 - have);
                have += 8;
            }
            let found = CODES.iter().find(|codes| window >> (64 - codes.bits) < codes.end);
            let Some(codes) = found.filter(|codes| codes.bits <= have) else {
                // What fills the last octet is the beginning of the code that ends nothing: ones.
                return (have < 8 && window == u64::MAX.checked_shl(64 - have).unwrap_or(0)).then_some(());
            };
            let code = window >> (64 - codes.bits);
            see(*OCTETS.get(usize::try_from(codes.offset + code - codes.first).ok()?)?);
            window <<= codes.bits;
            have -= codes.bits;
        }
    }
}

#[cfg(test)]
mod tests {
    use data_encoding::HEXLOWER_PERMISSIVE;

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        HEXLOWER_PERMISSIVE.decode(hex.replace(' ', "").as_bytes()).unwrap()
    }

    fn text(bytes: &[u8], coded: bool) -> Option<String> {
        let mut text = String::new();
        Text { bytes, coded }.each(|octet| text.push(char::from(octet))).map(|()| text)
    }

    const REQUEST: Seen = Seen { asks: true, fragment: false, status: None };

    /// RFC 7541, C.3 and C.4: three requests on one connection, with and without codes, and the table after each.
    #[test]
    fn the_table_is_the_one_of_the_rfcs_examples() {
        for blocks in [
            [
                "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
                "8286 84be 5808 6e6f 2d63 6163 6865",
                "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
            ],
            [
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "8286 84be 5886 a8eb 1064 9cbf",
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
            ],
        ] {
            let mut table = Table::default();
            for (block, size) in blocks.iter().zip([57, 110, 164]) {
                assert_eq!((table.read(&bytes(block)), table.size), (Some(REQUEST), size), "{block}");
            }
            assert_eq!(table.entries[0].name_length, 10, "custom-key");
            assert_eq!(table.read(&[0x20]), Some(Seen::default()), "a table of no size");
            assert_eq!((table.size, table.entries.len()), (0, 0));
        }
    }

    /// RFC 7541, C.6.1 and 5.2: what the codes say, and what is no code.
    #[test]
    fn coded_texts_are_read_to_their_end_and_no_further() {
        assert_eq!(text(&bytes("6402"), true).unwrap(), "302");
        assert_eq!(
            text(&bytes("d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff"), true).unwrap(),
            "Mon, 21 Oct 2013 20:13:21 GMT"
        );
        assert_eq!(
            text(&bytes("9d29 ad17 1863 c78f 0b97 c8e9 ae82 ae43 d3"), true).unwrap(),
            "https://www.example.com"
        );
        // Ones that fill more than the last octet, zeros that fill it, and the code that ends nothing.
        for bad in ["6402 ff", "6402 00", "ffff ffff"] {
            assert_eq!(text(&bytes(bad), true), None, "{bad}");
        }
    }

    /// All octets have a code, and no code is left over but the one of all ones.
    #[test]
    fn the_codes_are_whole() {
        let last = CODES[CODES.len() - 1];
        assert_eq!((last.end, last.offset + last.end - last.first), ((1 << 30) - 1, 256));
        let mut octets = OCTETS.to_vec();
        octets.sort_unstable();
        assert_eq!(octets, (0..=255).collect::<Vec<u8>>());
    }

    /// However the path is written: spelt out, by the static table's name, kept and named again, coded or not.
    #[test]
    fn a_fragment_is_found_in_every_spelling_and_only_in_paths() {
        let fragment = Some(Seen { fragment: true, ..REQUEST });
        let mut table = Table::default();
        for block in [
            &b"\x04\x04/a#b"[..],
            b"\x44\x04/a#b",
            b"\xbe",
            b"\x00\x05:path\x04/a#b",
            b"\x10\x84\xb9\x58\xd3\x3f\x01#",
            b"\x40\x05:path\x01#",
        ] {
            assert_eq!(table.read(block), fragment, "{block:x?}");
        }
        assert_eq!(table.read(b"\x0f\x04\x02#a\x00\x01a\x01#"), Some(Seen::default()));
        assert_eq!(table.read(b"\x04\x82\x60\x7f"), Some(REQUEST));
    }

    /// Answers' fields: kept and named again, by the static table, coded or not.
    #[test]
    fn an_interim_status_is_told_from_a_final_one_in_every_spelling() {
        let mut table = Table::default();
        for (block, status) in [
            (&b"\x88"[..], Status::Final),
            (b"\x48\x03103", Status::Interim),
            (b"\xbe", Status::Interim),
            (b"\x08\x03201", Status::Final),
            (b"\x00\x07:status\x03100", Status::Interim),
            (b"\x08\x82\x64\x02", Status::Final),
            (b"\x08\x82\x08\x19", Status::Interim),
        ] {
            let seen = Seen { status: Some(status), ..Seen::default() };
            assert_eq!(table.read(block), Some(seen), "{block:x?}");
        }
        let both = Seen { asks: true, status: Some(Status::Final), ..Seen::default() };
        assert_eq!(table.read(b"\x88\x84"), Some(both));
        assert_eq!(table.read(b"\x00\x08:statuse\x03100"), Some(REQUEST));
    }

    #[test]
    fn what_is_no_block_is_told() {
        for block in [
            &b"\x80"[..],
            b"\xbe",
            b"\x3f\xe2\x1f",
            b"\x44",
            b"\x44\x05/",
            b"\x00\x81",
            b"\xff\xff\xff\xff\xff\x7f",
            // RFC 7541, 4.2: the table's size behind a field.
            b"\x82\x20",
            // RFC 7541, 5.2: the code that ends nothing, and padding that is none, in values that are not kept.
            b"\x00\x01a\x84\xff\xff\xff\xff",
            b"\x10\x01a\x84\xff\xff\xff\xff",
            b"\x00\x01a\x82\x1f\xff",
            b"\x10\x01a\x81\x18",
        ] {
            assert_eq!(Table::default().read(block), None, "{block:x?}");
        }
    }

    #[test]
    fn the_table_holds_no_more_than_its_size() {
        let mut table = Table::default();
        let field = [&[0x40, 1, b'a', 0x7f, 0xb1, 0x02][..], &[b'x'; 432]].concat();
        for _ in 0..100 {
            assert_eq!(table.read(&field), Some(Seen::default()));
        }
        assert_eq!((table.size, table.entries.len()), (8 * 465, 8));
        let larger = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1f][..], &[b'x'; 4128]].concat();
        assert_eq!(table.read(&larger), Some(Seen::default()));
        assert_eq!((table.size, table.entries.len()), (0, 0));
    }
}
