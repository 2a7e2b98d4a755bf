//! Fuzz: GPP strings. Seeded, so that a finding comes back; a finding becomes a case in
//! `src/privacy/gpp.rs`.
//!
//! Invariants: what was encoded decodes to itself, with either way of filling up, and is judged by its
//! opt-out fields alone; no text at all makes the reader panic, and what can be read says the same
//! after it was written anew.
//!
//! `OPTGATE_FUZZ_SECONDS` makes it run longer.

use std::time::{Duration, Instant};

use optgate::privacy::gpp::{self, Said, Section};

use crate::support::random::Random;

/// Rounds when no time is given: well under a second in a debug build.
const ROUNDS: u64 = 5_000;

/// Repeatable, and enough to reach every shape.
struct Dice(Random);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0.draw() % below
    }

    fn said(&mut self) -> Vec<Said> {
        let mut sections = Section::ALL.to_vec();
        if self.roll(3) > 0 {
            sections.remove(self.roll(2) as usize);
        }
        let one = |section: Section| {
            let count = section.fields().iter().map(|(_, count)| count).sum();
            let entries = (0..count).map(|_| self.roll(3) as u8).collect();
            Said { section, entries, gpc: [None, Some(false), Some(true)][self.roll(3) as usize] }
        };
        sections.into_iter().map(one).collect()
    }
}

/// What the string must be judged to say: any opt-out field is 1, or the signal was seen.
fn says_out(said: &[Said]) -> bool {
    said.iter().any(|said| {
        let names = said.section.fields().iter().flat_map(|&(name, count)| std::iter::repeat_n(name, count));
        let field = names.zip(&said.entries).any(|(name, entry)| {
            matches!(name, "SaleOptOut" | "SharingOptOut" | "TargetedAdvertisingOptOut") && *entry == 1
        });
        field || said.gpc == Some(true)
    })
}

/// The same string with characters of nothing but filling taken away, as the prose has it.
fn tightly(text: &str) -> String {
    let (header, sections) = text.split_once('~').unwrap();
    // The header's last character may only fill up; the GPC sub-section's second one always does.
    let header = if gpp::decode(&format!("{}~{sections}", &header[..header.len() - 1])).is_some() {
        &header[..header.len() - 1]
    } else {
        header
    };
    format!("{header}~{}", sections.replace(".YA", ".Y").replace(".QA", ".Q"))
}

fn round(dice: &mut Dice) {
    let said = dice.said();
    let text = gpp::encode(&said);
    assert_eq!(gpp::decode(&text).as_ref(), Some(&said), "{text}");
    assert_eq!(gpp::decode(&tightly(&text)).as_ref(), Some(&said), "{text}");
    assert_eq!(gpp::says_opted_out(text.as_bytes()), says_out(&said), "{text}");

    let mut bytes = text.into_bytes();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() as u64) as usize;
        match dice.roll(3) {
            0 => bytes[at] = dice.roll(256) as u8,
            1 if bytes.len() > 1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, b"AYQ~.-_z9"[dice.roll(9) as usize]),
        }
    }
    let out = gpp::says_opted_out(&bytes);
    if let Some(said) = std::str::from_utf8(&bytes).ok().and_then(gpp::decode) {
        let again = gpp::encode(&said);
        assert_eq!(gpp::decode(&again), Some(said), "{again}");
        assert_eq!(gpp::says_opted_out(again.as_bytes()), out, "{again}");
    }
    assert!(!gpp::is_ours(&bytes) || out, "what is ours says opted out");
}

/// The GPP round trip.
#[test]
fn gpp_strings_survive_any_round_trip_and_any_damage() {
    let seconds = std::env::var("OPTGATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
    let (start, mut dice, mut rounds) = (Instant::now(), Dice(Random(0x9e37_79b9_7f4a_7c15)), 0);
    loop {
        round(&mut dice);
        rounds += 1;
        let done = match seconds {
            Some(seconds) => start.elapsed() >= Duration::from_secs(seconds),
            None => rounds >= ROUNDS,
        };
        if done {
            break;
        }
    }
    println!("{rounds} rounds");
}
