//! Settings and registry files with something wrong in them: nothing panics, and each is either taken or refused with
//! file, line, column and what to do next.

use std::path::Path;
use std::sync::LazyLock;

use optgate::cli::check::registry_problems;
use optgate::config::error::{ConfigError, Place};
use optgate::config::load::{Inputs, load};
use optgate::registry::{Registry, RegistryError};

use super::{Random, rounds};
use crate::config::WHOLE_SITE;
use crate::config::listed::{repository, uncommented};
use crate::support::binary::optgate;

/// Values of every type, and some that no setting takes.
const VALUES: &[&str] = &[
    "true",
    "0",
    "-1",
    "9223372036854775807",
    "9223372036854775808",
    "99999999999999999999999999999999999999",
    "1e400",
    "nan",
    "-inf",
    "0.5",
    "2026-02-30",
    "2026-01-31",
    "9999-12-31T23:59:59.999999999Z",
    "\"\"",
    "\"\\u0000\"",
    "\"a\\nb\"",
    "\"\u{202e}\u{1f980}\u{0301}\"",
    "\"18446744073709551615h\"",
    "\"99999999999999999999TiB\"",
    "\"0s\"",
    "\"-5s\"",
    "\"http://\"",
    "\"unix:\"",
    "\"[::1\"",
    "\"*.*\"",
    "\"::/0\"",
    "[]",
    "[[]]",
    "{}",
    "{ a = { b = { c = 1 } } }",
    "[1, \"a\", true]",
    "[{}, {}]",
    "\"\"\"\nlong\n\"\"\"",
    "'\\'",
];

/// What may come in anywhere.
const NOISE: &[&str] = &[
    "\0",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "\r",
    "\"",
    "'",
    "[",
    "]]",
    "=",
    "#",
    "\u{1f980}",
    "\\",
    "{",
    ",",
];

/// Tables and values in each other, up to far deeper than anybody writes.
fn deep(random: &mut Random) -> String {
    let depth = *random.one_of(&[&[3], &[79], &[80], &[81], &[2_000], &[60_000]]).first().unwrap();
    let dotted = vec!["a"; depth].join(".");
    match random.below(6) {
        0 => format!("[{dotted}]"),
        1 => format!("[[{dotted}]]"),
        2 => format!("{dotted} = 1"),
        3 => format!("a = {}{}", "[".repeat(depth), "]".repeat(depth)),
        4 => format!("a = {}1{}", "{ a = ".repeat(depth), " }".repeat(depth)),
        _ => format!("sites = {}", "[".repeat(depth)),
    }
}

/// Keys stay, values change: the text behind a line's `=`.
fn with_value(line: &str, value: &str) -> String {
    line.split_once('=').map_or_else(|| line.to_owned(), |(key, _)| format!("{key}= {value}"))
}

fn value_of(line: &str) -> String {
    line.split_once('=').map_or(line, |(_, value)| value).trim().to_owned()
}

/// One thing goes wrong.
fn mutate(random: &mut Random, text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    // Most mistakes are made where something is set.
    let set: Vec<usize> = (0..lines.len()).filter(|at| !lines[*at].starts_with('#')).collect();
    let at = if set.is_empty() || random.once_in(8) {
        random.below(lines.len())
    } else {
        set[random.below(set.len())]
    };
    let other = if set.is_empty() { at } else { set[random.below(set.len())] };
    if lines.is_empty() {
        return text.to_owned();
    }
    match random.below(14) {
        0 => drop(lines.remove(at)),
        1 => lines.insert(other, lines[at].clone()),
        2 => lines.swap(at, other),
        3 => {
            let (one, two) = (value_of(&lines[at]), value_of(&lines[other]));
            lines[at] = with_value(&lines[at], &two);
            lines[other] = with_value(&lines[other], &one);
        }
        4..=7 => lines[at] = with_value(&lines[at], random.one_of(VALUES)),
        8 => {
            let place: usize =
                lines[at].chars().take(random.below(lines[at].len() + 1)).map(char::len_utf8).sum();
            lines[at].insert_str(place, random.one_of(NOISE));
        }
        9 => {
            let until = lines[at].chars().count();
            lines[at] = lines[at].chars().take(random.below(until + 1)).collect();
        }
        10 => {
            lines.truncate(at + 1);
            let until = lines[at].chars().count();
            lines[at] = lines[at].chars().take(random.below(until + 1)).collect();
            return lines.join("\n");
        }
        11 => return lines.join("\r\n"),
        12 => lines.insert(at, deep(random)),
        _ => {
            // A letter too much, too few, or another.
            let mut letters: Vec<char> = lines[at].chars().collect();
            let place = random.below(letters.len().max(1));
            match random.below(3) {
                0 if !letters.is_empty() => drop(letters.remove(place)),
                1 if !letters.is_empty() => letters[place] = 'q',
                _ => letters.insert(place, 'e'),
            }
            lines[at] = letters.into_iter().collect();
        }
    }
    lines.join("\n") + "\n"
}

fn mutated(random: &mut Random, text: &str) -> String {
    (0..=random.below(3)).fold(text.to_owned(), |text, _| mutate(random, &text))
}

/// A line and a column that are in the text, the line as it stands there.
fn is_there(text: &str, line: usize, column: usize, shown: &str) {
    let found = text.split('\n').nth(line - 1).unwrap_or_else(|| panic!("no line {line} in {text:?}"));
    let found = found.strip_suffix('\r').unwrap_or(found);
    // A database's address may hold a password, and is left out.
    let shown = shown.strip_suffix("(not shown: it may hold a password)").map_or(shown.into(), |before| {
        let rest = found.strip_prefix(before).unwrap_or_else(|| panic!("line {line}: {shown} for {found}"));
        format!("{before}{rest}")
    });
    assert_eq!(shown, found, "line {line}");
    assert!((1..=found.chars().count() + 1).contains(&column), "column {column} of {found:?}");
}

/// What is missing has no place of its own; everything else is where it was written.
fn has_its_place(error: &ConfigError, text: &str) {
    match &error.place {
        Place::File { line, column, text: shown, .. } => is_there(text, *line, *column, shown),
        Place::Default => {
            let missing = ["needs", "missing", "is empty", "no site", "no origin"];
            assert!(missing.iter().any(|word| error.what.contains(word)), "{error} in {text}");
        }
        place => panic!("{place:?}: {error}"),
    }
    for words in [&error.what, &error.why, &error.next] {
        assert!(!words.trim().is_empty(), "{error}");
    }
}

static SETTINGS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let listed = repository("config/optgate.toml");
    vec![uncommented(&listed), listed, repository("config/starter.toml"), WHOLE_SITE.to_owned()]
});

/// What a command says of a file, and with which code it ends.
fn check(file: &Path) -> (Option<i32>, String) {
    let data = file.parent().unwrap().join("data");
    let [file, data] = [file, &data].map(|path| path.to_str().unwrap());
    optgate(&["check", "--config", file, "--data-dir", data])
}

/// 500 of them; now and then the command itself is asked: 78 is its word for a file that it cannot use.
#[test]
fn settings_with_something_wrong_are_taken_or_refused_at_their_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("optgate.toml");
    let (mut taken, mut refused, mut asked) = (0, 0, 0);
    rounds("settings", 500, |random| {
        let at = random.below(SETTINGS.len());
        let text = mutated(random, &SETTINGS[at]);
        std::fs::write(&file, &text).unwrap();
        let environment = vec![("STATE_DIRECTORY".into(), folder.path().join("data").into())];
        let inputs = Inputs { files: vec![file.clone()], environment, ..Inputs::default() };
        let loaded = load(&inputs);
        match &loaded {
            Ok(loaded) => {
                taken += 1;
                let _ = (loaded.settings.warnings(), registry_problems(loaded));
            }
            Err(errors) => {
                refused += 1;
                assert!(!errors.0.is_empty());
                errors.0.iter().for_each(|error| has_its_place(error, &text));
            }
        }
        if random.once_in(25) {
            asked += 1;
            let (code, said) = check(&file);
            match loaded {
                Ok(_) => assert!(matches!(code, Some(0 | 78)), "{code:?} {said}"),
                Err(_) => assert!(code == Some(78) && said.contains("next: "), "{code:?} {said}"),
            }
            assert!(!said.contains("panicked"), "{said}");
        }
    });
    println!("{taken} taken, {refused} refused; the command asked {asked} times");
    assert!(taken > 20 && refused > 20 && asked > 5);
}

/// Bytes that are no text at all name the file and the byte.
#[test]
fn a_settings_file_that_is_no_text_is_refused_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("optgate.toml");
    std::fs::write(&file, b"mode = \"enforce\"\n\xff\xfe").unwrap();
    let (code, said) = check(&file);
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("optgate.toml") && said.contains("byte 17") && said.contains("next: "), "{said}");
}

const REGISTRY: [&str; 7] = [
    "advertising.toml",
    "collectors.toml",
    "cookies.toml",
    "essential.toml",
    "link_params.toml",
    "mixed_use.toml",
    "tag_managers.toml",
];

fn refused_at_its_place(error: &RegistryError, text: &str) {
    // Where two files collide, the second place is one of the built-in ones.
    assert_eq!(error.place.file, "mine.toml", "{error}");
    is_there(text, error.place.line, error.place.column, &error.place.text);
    assert!(!error.fault.hint().trim().is_empty(), "{error}");
}

/// An operator's registry file, which begins as one of ours.
#[test]
fn registry_files_with_something_wrong_are_taken_or_refused_at_their_place() {
    let files = REGISTRY.map(|name| repository(&format!("config/registry/{name}")));
    let (mut taken, mut refused) = (0, 0);
    rounds("registry", 500, |random| {
        let at = random.below(files.len());
        let text = mutated(random, &files[at]);
        match Registry::with_files(&[("mine.toml", &text)]) {
            Ok(_) => taken += 1,
            Err(error) => {
                refused += 1;
                refused_at_its_place(&error, &text);
            }
        }
    });
    println!("{taken} taken, {refused} refused");
    assert!(taken > 20 && refused > 20);
}
