//! Makes our own scripts small enough for every page, by leaving out what only a reader needs.

/// Removes `//` comments that have a line to themselves, indentation, and empty lines.
///
/// Line ends stay, so that nothing changes where a semicolon is implied; a comment after code stays too,
/// because telling it from a string or a regular expression takes a tokenizer. For scripts of our own:
/// no string, template or block comment may run over a line end.
#[must_use]
pub fn minify(script: &str) -> String {
    let mut small = String::with_capacity(script.len());
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")) {
        if !small.is_empty() {
            small.push('\n');
        }
        small.push_str(line);
    }
    small
}

#[cfg(test)]
mod tests {
    use super::*;

    /// DESIGN 4, Guard: bytes count, and what runs must not change.
    #[test]
    fn comments_of_their_own_lines_indentation_and_empty_lines_go() {
        let script = "// Head.\r\nvar a = \"// kept\";\n\n    // Why.\n\tvar b = 1 // kept\n  /x/.test(a)\n";
        assert_eq!(minify(script), "var a = \"// kept\";\nvar b = 1 // kept\n/x/.test(a)");
        assert_eq!(minify("\n // only\n"), "");
    }

    /// A second pass finds nothing more.
    #[test]
    fn a_small_script_stays_as_it_is() {
        let once = minify(include_str!("stubs.js"));
        assert_eq!(minify(&once), once);
    }
}
