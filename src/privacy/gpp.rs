//! A Global Privacy Platform string (IAB GPP 1.1), read and written: does any United States section
//! say that the person opted out, and how do we say it ourselves?
//!
//! ```text
//! header ~ section ~ section        sub-sections joined by '.'
//! header: 6 bits type = 3, 6 bits version = 1, Fibonacci range of section ids
//! usnat 2 core: 6 bits version, 32 fields of 2 bits      usca 1 core: 6 bits version, 20 fields of 2 bits
//! GPC sub-section: 2 bits type = 1, 1 bit
//! ```
//!
//! Read: only what the judgement needs; a string that cannot be read says nothing. Written: the form of
//! IAB's own encoder, which fills up to whole bytes and then to whole characters (the prose fills to
//! characters only). Both are read.
//!
//! What we write never claims the MSPA: covered = 2 (no), both modes 0. The GPC sub-section is always
//! there and says `true` only when the browser itself sent the signal.

/// Longest string looked at, bytes.
const MAX_LEN: usize = 4096;

/// Whether a United States section of this string says opted out of sale, sharing or targeted
/// advertising, or carries the browser signal.
#[must_use]
pub fn says_opted_out(value: &[u8]) -> bool {
    if value.len() > MAX_LEN {
        return false;
    }
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let mut parts = text.split('~');
    let Some(ids) = parts.next().and_then(section_ids) else { return false };
    ids.into_iter().zip(parts).any(|(id, section)| section_says_out(id, section))
}

fn section_says_out(id: u16, section: &str) -> bool {
    let mut subsections = section.split('.');
    let Some(core) = subsections.next() else { return false };
    if id == 6 {
        return super::usp::says_opted_out(core.as_bytes());
    }
    let Some((skip, fields)) = opt_out_fields(id) else { return false };
    let mut bits = Bits::new(core);
    let core_out = bits.take(6 + skip * 2).is_some() && (0..fields).any(|_| bits.take(2) == Some(1));
    core_out
        || subsections.any(|sub| {
            let mut bits = Bits::new(sub);
            bits.take(2) == Some(1) && bits.take(1) == Some(1)
        })
}

/// Where the opt-out fields lie: notices before them, and how many there are, each two bits.
const fn opt_out_fields(id: u16) -> Option<(u32, u32)> {
    match id {
        7 => Some((6, 3)),       // usnat: sale, sharing, targeted advertising
        8 => Some((3, 2)),       // usca: sale, sharing
        11 | 18 => Some((4, 2)), // usut, usia: sale, targeted advertising
        24..=27 => Some((5, 2)), // usmd, usin, usky, usri: the same, behind two fields of the MSPA
        9..=23 => Some((3, 2)),  // the other states: the same
        _ => None,
    }
}

/// Section ids of the header, ascending.
fn section_ids(header: &str) -> Option<Vec<u16>> {
    let mut bits = Bits::new(header);
    if bits.take(6)? != 3 || bits.take(6)? != 1 {
        return None;
    }
    let items = bits.take(12)?;
    let (mut ids, mut last) = (Vec::new(), 0u16);
    for _ in 0..items.min(64) {
        let group = bits.take(1)? == 1;
        let first = last.checked_add(bits.fibonacci()?)?;
        let end = if group { first.checked_add(bits.fibonacci()?)? } else { first };
        if end > 1024 {
            return None;
        }
        ids.extend(first..=end);
        last = end;
    }
    Some(ids)
}

/// A section that we write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Section {
    /// US National, version 2.
    UsNat,
    /// California, version 1.
    UsCa,
}

impl Section {
    /// Every section, by ascending id.
    pub const ALL: [Self; 2] = [Self::UsNat, Self::UsCa];

    /// The id in the header.
    #[must_use]
    pub const fn id(self) -> u16 {
        match self {
            Self::UsNat => 7,
            Self::UsCa => 8,
        }
    }

    /// The prefix that `__gpp` commands use, also in settings.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UsNat => "usnat",
            Self::UsCa => "usca",
        }
    }

    /// Version of the section's core.
    #[must_use]
    pub const fn version(self) -> u8 {
        match self {
            Self::UsNat => 2,
            Self::UsCa => 1,
        }
    }

    /// The fields of the core after its version, in order: name, and how many entries of two bits.
    #[must_use]
    pub const fn fields(self) -> &'static [(&'static str, usize)] {
        match self {
            Self::UsNat => &[
                ("SharingNotice", 1),
                ("SaleOptOutNotice", 1),
                ("SharingOptOutNotice", 1),
                ("TargetedAdvertisingOptOutNotice", 1),
                ("SensitiveDataProcessingOptOutNotice", 1),
                ("SensitiveDataLimitUseNotice", 1),
                ("SaleOptOut", 1),
                ("SharingOptOut", 1),
                ("TargetedAdvertisingOptOut", 1),
                ("SensitiveDataProcessing", 16),
                ("KnownChildSensitiveDataConsents", 3),
                ("PersonalDataConsents", 1),
                ("MspaCoveredTransaction", 1),
                ("MspaOptOutOptionMode", 1),
                ("MspaServiceProviderMode", 1),
            ],
            Self::UsCa => &[
                ("SaleOptOutNotice", 1),
                ("SharingOptOutNotice", 1),
                ("SensitiveDataLimitUseNotice", 1),
                ("SaleOptOut", 1),
                ("SharingOptOut", 1),
                ("SensitiveDataProcessing", 9),
                ("KnownChildSensitiveDataConsents", 2),
                ("PersonalDataConsents", 1),
                ("MspaCoveredTransaction", 1),
                ("MspaOptOutOptionMode", 1),
                ("MspaServiceProviderMode", 1),
            ],
        }
    }

    /// What we say in a field for an opted-out visitor: every entry of it.
    ///
    /// An opt-out needs its notice to be given (1), or it contradicts itself. Sensitive data are another
    /// right (11 CCR 7027), which the opt-out says nothing about: 0, not applicable.
    #[must_use]
    pub fn opted_out_value(name: &str) -> u8 {
        match name {
            "SharingNotice"
            | "SaleOptOutNotice"
            | "SharingOptOutNotice"
            | "TargetedAdvertisingOptOutNotice"
            | "SaleOptOut"
            | "SharingOptOut"
            | "TargetedAdvertisingOptOut" => 1,
            "MspaCoveredTransaction" => 2,
            _ => 0,
        }
    }

    fn entries(self) -> usize {
        self.fields().iter().map(|(_, count)| count).sum()
    }
}

/// One section as it is in a string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Which section.
    pub section: Section,
    /// The entries of [`Section::fields`], flat, each 0 to 3. What is missing is written as 0.
    pub entries: Vec<u8>,
    /// The GPC sub-section, if there is one.
    pub gpc: Option<bool>,
}

impl Said {
    /// What we say for a visitor who opted out; `gpc`: the browser itself sent the signal.
    #[must_use]
    pub fn opted_out(section: Section, gpc: bool) -> Self {
        let each =
            |&(name, count): &(&str, usize)| std::iter::repeat_n(Section::opted_out_value(name), count);
        Self { section, entries: section.fields().iter().flat_map(each).collect(), gpc: Some(gpc) }
    }
}

/// Writes a string. A section given twice is written once, the first of the two.
#[must_use]
pub fn encode(said: &[Said]) -> String {
    let mut sections: Vec<&Said> = said.iter().collect();
    sections.sort_by_key(|s| s.section);
    sections.dedup_by_key(|s| s.section);
    let ids: Vec<u16> = sections.iter().map(|s| s.section.id()).collect();
    let mut text = header(&ids);
    for said in sections {
        text.push('~');
        let mut bits = Written::default();
        bits.put(6, said.section.version().into());
        for at in 0..said.section.entries() {
            bits.put(2, said.entries.get(at).copied().unwrap_or(0).into());
        }
        text.push_str(&bits.text());
        if let Some(gpc) = said.gpc {
            let mut bits = Written::default();
            bits.put(2, 1);
            bits.put(1, gpc.into());
            text.push('.');
            text.push_str(&bits.text());
        }
    }
    text
}

/// The string we write for a visitor who opted out.
#[must_use]
pub fn opted_out(sections: &[Section], gpc: bool) -> String {
    encode(&sections.iter().map(|section| Said::opted_out(*section, gpc)).collect::<Vec<_>>())
}

/// Reads a string that holds nothing but the sections we know, in the versions we write.
#[must_use]
pub fn decode(text: &str) -> Option<Vec<Said>> {
    if text.len() > MAX_LEN {
        return None;
    }
    let mut parts = text.split('~');
    let ids = section_ids(parts.next()?)?;
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        let section = Section::ALL.into_iter().find(|section| section.id() == id)?;
        all.push(one_section(section, parts.next()?)?);
    }
    parts.next().is_none().then_some(all)
}

fn one_section(section: Section, text: &str) -> Option<Said> {
    let mut parts = text.split('.');
    let mut bits = Bits::new(parts.next()?);
    if bits.take(6)? != u32::from(section.version()) {
        return None;
    }
    let entries: Option<Vec<u8>> = (0..section.entries()).map(|_| u8::try_from(bits.take(2)?).ok()).collect();
    let gpc = match parts.next() {
        None => None,
        Some(sub) => {
            let mut bits = Bits::new(sub);
            (bits.take(2)? == 1).then_some(())?;
            Some(bits.take(1)? == 1)
        }
    };
    parts.next().is_none().then_some(Said { section, entries: entries?, gpc })
}

/// Whether a string is, byte for byte, one that we write, with whichever of our sections.
#[must_use]
pub fn is_ours(value: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(value) else { return false };
    let Some(said) = decode(text) else { return false };
    let sections: Vec<Section> = said.iter().map(|s| s.section).collect();
    !sections.is_empty() && [false, true].into_iter().any(|gpc| opted_out(&sections, gpc) == text)
}

/// The header for these ids, ascending and each once. Neighbours stand as one range.
fn header(ids: &[u16]) -> String {
    let ranges: Vec<&[u16]> = ids.chunk_by(|a, b| a.checked_add(1) == Some(*b)).collect();
    let mut bits = Written::default();
    bits.put(6, 3);
    bits.put(6, 1);
    bits.put(12, u32::try_from(ranges.len()).unwrap_or(0));
    let mut last = 0;
    for range in ranges {
        let (Some(first), Some(end)) = (range.first(), range.last()) else { continue };
        bits.put(1, u32::from(first != end));
        bits.fibonacci(first.saturating_sub(last));
        if first != end {
            bits.fibonacci(end.saturating_sub(*first));
        }
        last = *end;
    }
    bits.text()
}

/// Bits on their way into base64url text, most significant first.
#[derive(Default)]
struct Written(Vec<bool>);

impl Written {
    /// The lowest `count` bits of a number.
    fn put(&mut self, count: u32, number: u32) {
        self.0.extend((0..count).rev().map(|at| number >> at & 1 == 1));
    }

    /// A number of 1 or more as a sum of Fibonacci numbers, smallest first, ended by a second one.
    fn fibonacci(&mut self, number: u16) {
        let mut series = vec![1u32, 2];
        while let [.., a, b] = series[..]
            && a + b <= number.into()
        {
            series.push(a + b);
        }
        let (mut rest, start) = (u32::from(number), self.0.len());
        // Greedy from the largest: this never takes two neighbours.
        let mut digits: Vec<bool> = Vec::new();
        for value in series.into_iter().rev() {
            let takes = value <= rest;
            rest -= if takes { value } else { 0 };
            if takes || !digits.is_empty() {
                digits.push(takes);
            }
        }
        self.0.extend(digits.into_iter().rev());
        if self.0.len() > start {
            self.0.push(true);
        }
    }

    /// Filled up with zeros to whole bytes, then to whole characters.
    fn text(mut self) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        self.0.resize(self.0.len().next_multiple_of(8), false);
        self.0.resize(self.0.len().next_multiple_of(6), false);
        let sextet = |bits: &[bool]| bits.iter().fold(0usize, |number, bit| number << 1 | usize::from(*bit));
        self.0.chunks(6).map(|bits| char::from(ALPHABET[sextet(bits) & 63])).collect()
    }
}

/// Bits of a base64url (or base64) text, most significant first.
struct Bits<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    const fn new(text: &'a str) -> Self {
        Self { text: text.as_bytes(), at: 0 }
    }

    fn bit(&mut self) -> Option<u32> {
        let sextet = match *self.text.get(self.at / 6)? {
            c @ b'A'..=b'Z' => c - b'A',
            c @ b'a'..=b'z' => c - b'a' + 26,
            c @ b'0'..=b'9' => c - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            _ => return None,
        };
        let bit = sextet >> (5 - self.at % 6) & 1;
        self.at += 1;
        Some(bit.into())
    }

    /// Up to 32 bits as a number; a longer skip keeps the last 32.
    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0u32, |number, _| Some(number << 1 | self.bit()?))
    }

    /// A Fibonacci-coded number: sum of Fibonacci numbers until two ones in a row.
    fn fibonacci(&mut self) -> Option<u16> {
        let (mut now, mut next, mut sum, mut before) = (1u16, 2u16, 0u16, false);
        loop {
            let one = self.bit()? == 1;
            if one && before {
                return Some(sum);
            }
            if one {
                sum = sum.checked_add(now)?;
            }
            before = one;
            (now, next) = (next, now.checked_add(next)?);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors: the values of a GPP string for each case in the reference's table, and the
    /// specification's header examples.
    #[test]
    fn opted_out_strings_are_read_and_others_are_not() {
        for out in ["DBABLA~CVQVAAAAAACA.YA", "DBABLA~CVQVAAAAAACA.QA", "DBABBg~BUUAAACA.YA"] {
            assert!(says_opted_out(out.as_bytes()), "{out}");
        }
        for not in ["DBABLA~CVQqAAAAAACA.QA", "", "~~~", "DBAA", "DBABMA~CPXxRfAPXxRfA", "DBABLA~", "DBABLA"]
        {
            assert!(!says_opted_out(not.as_bytes()), "{not}");
        }
    }

    /// The layouts of the states differ in what stands before the opt-outs. Sections made here by the published lists of
    /// fields: the first of each with an opt-out (1) or both and every notice not given (2 or 0), the others with notices
    /// given (1) and neither opted out (2).
    #[test]
    fn the_opt_outs_of_each_states_section_are_read_where_they_stand() {
        let section = |id: u16, fields: &[u8]| {
            let mut out = Written::default();
            out.put(6, 1);
            fields.iter().for_each(|field| out.put(2, u32::from(*field)));
            format!("{}~{}", header(&[id]), out.text())
        };
        for (id, before) in [
            (9, 3),
            (10, 3),
            (11, 4),
            (12, 3),
            (17, 3),
            (18, 4),
            (19, 3),
            (23, 3),
            (24, 5),
            (25, 5),
            (26, 5),
            (27, 5),
        ] {
            let fields = |notices: u8, sale: u8, advertising: u8| {
                let behind = [1; 12];
                let text =
                    section(id, &[vec![notices; before], vec![sale, advertising], behind.to_vec()].concat());
                says_opted_out(text.as_bytes())
            };
            assert!(fields(0, 1, 2) && fields(2, 2, 1) && fields(0, 1, 1), "{id}");
            assert!(!fields(1, 2, 2) && !fields(1, 0, 0), "{id}");
        }
        // What Iowa's and Maryland's look like.
        for (text, out) in [
            ("DBABCw~BVJAAAgA", true),
            ("DBABEYA~BgBQ", true),
            ("DBABEYA~BhWg", false),
            ("DBABCw~BVaAAAgA", false),
        ] {
            assert_eq!(says_opted_out(text.as_bytes()), out, "{text}");
        }
    }

    /// The GPC sub-section alone is the browser's signal.
    #[test]
    fn the_gpc_subsection_counts_without_core_opt_outs() {
        assert!(says_opted_out(b"DBABLA~CVQqAAAAAACA.YA"));
    }

    /// Header example of the specification: sections 2 and 6; 6 is a US Privacy string.
    #[test]
    fn section_six_is_read_as_a_us_privacy_string() {
        assert_eq!(section_ids("DBACNYA"), Some(vec![2, 6]));
        assert!(says_opted_out(b"DBACNYA~CPXxRfAPXxRfAAfKABENB~1YYN"));
        assert!(!says_opted_out(b"DBACNYA~CPXxRfAPXxRfAAfKABENB~1YNN"));
    }

    /// The table of opted-out strings, checked against the vectors of IAB's encoder.
    #[test]
    fn what_we_write_is_what_iabs_encoder_writes() {
        for (sections, gpc, want) in [
            (&[Section::UsNat][..], true, "DBABLA~CVQVAAAAAACA.YA"),
            (&[Section::UsNat], false, "DBABLA~CVQVAAAAAACA.QA"),
            (&[Section::UsCa], true, "DBABBg~BUUAAACA.YA"),
            (&[Section::UsCa], false, "DBABBg~BUUAAACA.QA"),
        ] {
            assert_eq!(opted_out(sections, gpc), want);
            assert!(says_opted_out(want.as_bytes()) && is_ours(want.as_bytes()), "{want}");
        }
        let mut not_out = Said::opted_out(Section::UsNat, false);
        not_out.entries[6..9].fill(2);
        assert_eq!(encode(&[not_out]), "DBABLA~CVQqAAAAAACA.QA");
        let both = opted_out(&[Section::UsCa, Section::UsNat, Section::UsCa], true);
        assert_eq!(section_ids(&both), Some(vec![7, 8]));
        assert_eq!(both.split_once('~').map(|(_, s)| s), Some("CVQVAAAAAACA.YA~BUUAAACA.YA"));
    }

    /// Published vectors of IAB's encoder for the two cores.
    #[test]
    fn published_cores_come_back_as_they_were() {
        for text in ["DBABLA~CVVVkkkkkpFY", "DBABBg~BVWSSSVY"] {
            let said = decode(text).unwrap();
            assert_eq!(encode(&said), text);
            assert!(!is_ours(text.as_bytes()), "{text}");
        }
    }

    /// Header examples of the specification (section information, "Fibonacci encoding").
    #[test]
    fn headers_are_written_as_in_the_specification() {
        for (ids, want) in [(&[2, 6][..], "DBACNYA"), (&[2], "DBABMA"), (&[7], "DBABLA"), (&[8], "DBABBg")] {
            assert_eq!(header(ids), want);
        }
        for ids in [&[1u16][..], &[7, 8], &[1, 2, 3, 7, 9, 10, 27], &[1023]] {
            assert_eq!(section_ids(&header(ids)).as_deref(), Some(ids));
        }
    }

    /// The prose fills up to six bits, the encoder to eight and then six.
    #[test]
    fn both_ways_of_filling_up_are_read() {
        assert_eq!(section_ids("DBABM"), section_ids("DBABMA"));
        assert_eq!(decode("DBABL~CVQVAAAAAACA.Y"), decode("DBABLA~CVQVAAAAAACA.YA"));
        assert!(says_opted_out(b"DBABL~CVQVAAAAAACA.Q"));
    }

    /// A non-signatory says covered = 2 and no modes; to claim more would be false.
    #[test]
    fn the_mspa_is_not_claimed() {
        for section in Section::ALL {
            let entries = Said::opted_out(section, true).entries;
            assert_eq!(entries[entries.len() - 3..], [2, 0, 0], "{section:?}");
        }
    }

    /// Other people's strings, and ours in another spelling, are not ours.
    #[test]
    fn only_our_own_bytes_are_ours() {
        assert!(is_ours(opted_out(&Section::ALL, false).as_bytes()));
        for not in [
            "",
            "DBABLA",
            "DBABLA~",
            "DBABL~CVQVAAAAAACA.YA",
            "DBABLA~CVQqAAAAAACA.QA",
            "DBABLA~CVQVAAAAAACA",
            "DBABLA~CVQVAAAAAACA.YA~",
            "DBACNYA~CPXxRfAPXxRfAAfKABENB~1YYN",
            "DBAA",
        ] {
            assert!(!is_ours(not.as_bytes()), "{not}");
        }
    }
}
