//! The house keeps its shape: who imports whom, which rooms are pure, what lies at the top.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A room, and what of ours it may import.
const MAY_IMPORT: [(&str, &[&str]); 11] = [
    ("privacy", &[]),
    ("config", &["privacy"]),
    ("telemetry", &["privacy", "config"]),
    ("registry", &["privacy", "config"]),
    ("enforce", &["privacy", "config", "registry", "telemetry"]),
    ("store", &["privacy", "config", "telemetry"]),
    ("portal", &["privacy", "config", "registry", "enforce", "store", "telemetry"]),
    ("admin", &["privacy", "config", "store", "registry", "telemetry"]),
    ("edge", &["privacy", "config", "registry", "enforce", "store", "portal", "telemetry"]),
    ("app", &["*"]),
    ("cli", &["privacy", "config", "telemetry", "registry", "enforce", "store", "admin", "app"]),
];

/// What may lie at the top of the repository, beside dotfiles and what git ignores.
const TOP: [&str; 9] =
    ["src", "config", "tests", "benches", "deploy", "Cargo.toml", "Cargo.lock", "README.md", "LICENSE"];

/// A source file with comments, strings and test modules blanked out.
struct Source {
    /// Path below `src`, with `/`.
    path: String,
    /// What is left.
    code: String,
}

impl Source {
    /// The room it stands in; `None` for `main.rs` and `lib.rs`.
    fn room(&self) -> Option<&str> {
        let first = self.path.split('/').next()?;
        let room = first.strip_suffix(".rs").unwrap_or(first);
        MAY_IMPORT.iter().map(|(name, _)| *name).find(|name| *name == room)
    }

    /// Modules from the crate's root to this file's own: `src/a/mod.rs` is 1, `src/a/b.rs` is 2.
    fn depth(&self) -> usize {
        let parts = self.path.split('/').count();
        if self.path.ends_with("/mod.rs") { parts - 1 } else { parts }
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            into.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    files(&src, &mut paths);
    let sources: Vec<_> = paths
        .iter()
        .map(|path| Source {
            path: path.strip_prefix(&src).unwrap().to_string_lossy().replace('\\', "/"),
            code: without_tests(&blank(&std::fs::read_to_string(path).unwrap())),
        })
        .collect();
    assert!(sources.len() > 20, "the sources were found");
    sources
}

/// Replaces comments and the inside of string and character literals by blanks; lines stay.
fn blank(text: &str) -> String {
    let bytes: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut i = 0;
    while i < bytes.len() {
        let end = match bytes[i] {
            '/' if bytes.get(i + 1) == Some(&'/') => line_end(&bytes, i),
            '/' if bytes.get(i + 1) == Some(&'*') => comment_end(&bytes, i),
            'r' if raw_hashes(&bytes, i).is_some() => raw_end(&bytes, i),
            '"' => quoted_end(&bytes, i, '"'),
            '\'' if is_char_literal(&bytes, i) => quoted_end(&bytes, i, '\''),
            other => {
                out.push(other);
                i += 1;
                continue;
            }
        };
        out.extend(bytes[i..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        i = end;
    }
    out
}

fn line_end(text: &[char], from: usize) -> usize {
    text[from..].iter().position(|c| *c == '\n').map_or(text.len(), |at| from + at)
}

fn comment_end(text: &[char], from: usize) -> usize {
    let (mut depth, mut i) = (0, from);
    while i < text.len() {
        match (text[i], text.get(i + 1)) {
            ('/', Some('*')) => (depth, i) = (depth + 1, i + 2),
            ('*', Some('/')) => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            return i;
        }
    }
    i
}

/// The number of `#` of a raw string that begins here.
fn raw_hashes(text: &[char], at: usize) -> Option<usize> {
    let before = at.checked_sub(1).map(|i| text[i]);
    if before.is_some_and(|c| c.is_alphanumeric() && c != 'b' && c != 'c' || c == '_') {
        return None;
    }
    let hashes = text[at + 1..].iter().take_while(|c| **c == '#').count();
    (text.get(at + 1 + hashes) == Some(&'"')).then_some(hashes)
}

fn raw_end(text: &[char], from: usize) -> usize {
    let hashes = raw_hashes(text, from).unwrap_or_default();
    let mut i = from + hashes + 2;
    while i < text.len() {
        if text[i] == '"' && text[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes {
            return i + 1 + hashes;
        }
        i += 1;
    }
    i
}

fn quoted_end(text: &[char], from: usize, quote: char) -> usize {
    let mut i = from + 1;
    while i < text.len() {
        match text[i] {
            '\\' => i += 2,
            c if c == quote => return i + 1,
            _ => i += 1,
        }
    }
    i
}

/// `'a'` and `'\n'` are characters, `'a` is a lifetime.
fn is_char_literal(text: &[char], at: usize) -> bool {
    text.get(at + 1) == Some(&'\\') || text.get(at + 2) == Some(&'\'')
}

/// Cuts out every item behind `#[cfg(test)]`.
fn without_tests(code: &str) -> String {
    let mut out = String::new();
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let open = rest.find('{').unwrap_or(rest.len());
        let semicolon = rest.find(';').unwrap_or(rest.len());
        if semicolon < open {
            rest = &rest[semicolon + 1..];
            continue;
        }
        let mut depth = 0_i32;
        let end = rest.char_indices().find(|(_, c)| {
            depth += match c {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            *c == '}' && depth == 0
        });
        rest = end.map_or("", |(at, _)| &rest[at + 1..]);
    }
    out.push_str(rest);
    out
}

/// Rooms that a file names: `crate::room`, `crate::{room, ...}`, and `super::` up to the root.
fn imports(source: &Source) -> BTreeSet<String> {
    let code: String = source.code.split_whitespace().collect::<Vec<_>>().join(" ");
    let code = code.replace(" ::", "::").replace(":: ", "::");
    let to_root = "super::".repeat(source.depth());
    let mut rooms = BTreeSet::new();
    for prefix in ["crate::", to_root.as_str()] {
        for (at, _) in code.match_indices(prefix) {
            rooms.extend(heads(&code[at + prefix.len()..]));
        }
    }
    rooms
}

/// The first names of a path or of a group of paths.
fn heads(path: &str) -> Vec<String> {
    let name = |text: &str| -> String {
        text.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let Some(group) = path.trim_start().strip_prefix('{') else { return vec![name(path)] };
    let (mut names, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => {
                names.push(name(&group[start..at]));
                break;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                names.push(name(&group[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    names
}

/// The table of imports.
#[test]
fn every_room_imports_only_what_it_may() {
    let mut wrong = Vec::new();
    for source in sources() {
        let Some(room) = source.room() else { continue };
        let (_, allowed) = MAY_IMPORT.iter().find(|(name, _)| *name == room).unwrap();
        for import in imports(&source) {
            let is_room = MAY_IMPORT.iter().any(|(name, _)| *name == import);
            let fine = import == room || allowed.contains(&"*") || allowed.contains(&import.as_str());
            if is_room && !fine {
                wrong.push(format!("src/{}: {room} may not import {import}", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The way through is one way: what a step needs of another it is given, and nothing calls back. Only what reads requests
/// off a connection enters the corridor.
#[test]
fn only_connections_enter_the_corridor() {
    let mut entering: Vec<_> = sources()
        .into_iter()
        .filter(|source| source.code.contains("corridor") && source.path != "edge/mod.rs")
        .map(|source| source.path)
        .collect();
    entering.sort();
    assert_eq!(entering, ["edge/downstream/connection.rs", "edge/http2/connection.rs"]);
}

/// A file outside the rooms would import what it likes, and a room without files is none.
#[test]
fn every_source_file_stands_in_a_room_and_every_room_has_one() {
    let sources = sources();
    let outside =
        |source: &&Source| source.room().is_none() && !["main.rs", "lib.rs"].contains(&source.path.as_str());
    let outside: Vec<_> = sources.iter().filter(outside).map(|source| &source.path).collect();
    assert!(outside.is_empty(), "{outside:?}");
    let is_empty = |room: &&str| !sources.iter().any(|source| source.room() == Some(*room));
    let empty: Vec<_> = MAY_IMPORT.iter().map(|(room, _)| *room).filter(is_empty).collect();
    assert!(empty.is_empty(), "{empty:?}");
}

/// The judgement, the look-ups and the rewriting know no socket, file, runtime or clock.
#[test]
fn pure_rooms_know_no_socket_file_runtime_or_clock() {
    const FORBIDDEN: [&str; 13] = [
        "tokio::",
        "std::fs",
        "fs::File",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "ToSocketAddrs",
        "std::process",
        "std::thread",
        "SystemTime::now",
        "Instant::now",
        "Timestamp::now",
        "Zoned::now",
    ];
    let mut wrong = Vec::new();
    for source in sources() {
        let pure = ["privacy", "registry", "enforce"].iter().any(|room| source.room() == Some(room));
        if !pure || source.path.starts_with("enforce/html/body") {
            continue;
        }
        wrong.extend(
            FORBIDDEN
                .iter()
                .filter(|word| source.code.contains(**word))
                .map(|word| format!("src/{}: {word}", source.path)),
        );
        if source.room() == Some("privacy") && source.code.contains("hyper::") {
            wrong.push(format!("src/{}: hyper", source.path));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// House rule: no `unsafe`, and no panic of ours outside tests.
#[test]
fn nothing_outside_tests_is_unsafe_or_unwraps() {
    const FORBIDDEN: [&str; 7] =
        ["unsafe ", ".unwrap()", ".expect(", ".unwrap_err()", "todo!(", "unimplemented!(", "dbg!("];
    let mut wrong = Vec::new();
    for source in sources() {
        for (number, line) in source.code.lines().enumerate() {
            let found = FORBIDDEN.iter().filter(|word| line.contains(**word));
            wrong.extend(found.map(|word| format!("src/{}: near line {}: {word}", source.path, number + 1)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A panic ends the task it happened in. What goes on for ever is begun by `app::jobs`, which begins it anew; whatever else
/// the app starts is listed here with the reason why it may end.
#[test]
fn what_the_app_starts_for_ever_is_begun_anew() {
    const MAY_END: [(&str, usize, &str); 8] = [
        ("app/admin_door.rs", 1, "a handshake"),
        ("app/core_thread.rs", 1, "a thread, whose tasks are kept"),
        ("app/order_socket.rs", 1, "axum's own loop; a handler's panic ends its connection"),
        ("app/orders.rs", 1, "orders are carried out in tasks of their own"),
        ("app/outward.rs", 1, "a connection of one request"),
        ("app/own_pages.rs", 1, "axum's own loop; a handler's panic ends its connection"),
        ("app/stop_signals.rs", 1, "the wait for a second signal"),
        ("app/upgrade.rs", 3, "the next process, and threads that speak with it"),
    ];
    let begun = |code: &str| {
        let ways = [".spawn(", "::spawn(", "spawn_on(", "spawn_local(", "spawn_local_on("];
        ways.iter().map(|way| code.matches(way).count()).sum::<usize>()
    };
    let found: Vec<_> = sources()
        .into_iter()
        .filter(|source| source.path.starts_with("app/") && source.path != "app/jobs.rs")
        .map(|source| (source.path.clone(), begun(&source.code)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let mut found: Vec<_> = found.iter().map(|(path, count)| (path.as_str(), *count)).collect();
    found.sort_unstable();
    assert_eq!(found, MAY_END.map(|(path, count, _)| (path, count)));
}

/// The program never calls anything or anyone compliant: that is not for a program to say.
#[test]
fn nothing_claims_compliance() {
    let mut paths = Vec::new();
    files(&root().join("src"), &mut paths);
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let spoken = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let claims: Vec<_> = spoken.filter(|line| line.to_lowercase().contains("compliant")).collect();
        assert!(claims.is_empty(), "{}: {claims:?}", path.display());
    }
}

/// The top level holds only what the list shows, `Cargo.*`, README, LICENSE and dotfiles.
#[test]
fn the_top_level_holds_only_what_the_design_lists() {
    let ignored = std::fs::read_to_string(root().join(".gitignore")).unwrap_or_default();
    let ignored: Vec<_> = ignored.lines().map(|line| line.trim_matches('/')).collect();
    for entry in std::fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().to_string_lossy().into_owned();
        let known = TOP.contains(&name.as_str()) || name.starts_with('.') || ignored.contains(&name.as_str());
        assert!(known, "{name} does not belong at the top");
    }
}

/// The reader of sources itself: what it must see and what it must not.
#[test]
fn the_reader_of_sources_reads_rust() {
    let text = r##"
        use crate::{edge::{a, b}, store};
        // crate::portal
        const S: &str = "crate::admin"; const R: &str = r#"crate::scan "x" "#; const C: char = '"';
        fn f<'a>(x: &'a str) { super::super::cli::run() }
        #[cfg(test)]
        mod tests { fn g() { crate::app::x() } }
        use crate::privacy::Mode;
    "##;
    let source = Source { path: "registry/source.rs".to_owned(), code: without_tests(&blank(text)) };
    let found: Vec<_> = imports(&source).into_iter().collect();
    assert_eq!(found, ["cli", "edge", "privacy", "store"]);
}
