//! Short names for the variables of our own scripts.

use std::collections::HashSet;

use super::scopes::{Meaning, Scopes, is_keyword, scopes};
use super::tokens::tokens;

/// What names are made of, in order: letters that are frequent in scripts come first. The order was found by trying
/// which one packs best; any would do.
const LETTERS: &[u8] = b"telaosribcdSnCfITuxvhYqOkNARDEUy$mBKwPFzZGjV_WXJQpgLHM";

/// A scope with more names than this leaves the first [`INNER`] to the functions inside it, whose parameters then
/// look alike whatever they mean of the outer ones.
const LARGE: usize = 13;

/// How many.
const INNER: usize = 3;

/// Gives every variable of a minified script a short name. Names of properties and of the browser stay.
///
/// A name is taken again in another function wherever both cannot be meant at one place. What may stand in
/// the script is said in `scopes.rs`.
#[must_use]
pub fn rename(script: &str) -> String {
    let tokens = tokens(script);
    let scopes = scopes(&tokens);
    let names = names(&scopes);
    let mut out = String::with_capacity(script.len());
    let mut uses = scopes.uses.iter().peekable();
    for (at, token) in tokens.iter().enumerate() {
        if token.apart {
            out.push(' ');
        }
        let used = uses.next_if(|used| used.token == at);
        match used.map(|used| (used.means, used.shorthand)) {
            Some((Meaning::Variable(variable), shorthand)) => {
                if shorthand {
                    out.push_str(token.text);
                    out.push(':');
                }
                out.push_str(&names[variable]);
            }
            _ => out.push_str(token.text),
        }
    }
    out
}

/// A name for each variable.
fn names(scopes: &Scopes<'_>) -> Vec<String> {
    // What is meant in each scope, or below it.
    let mut meant = vec![HashSet::new(); scopes.parents.len()];
    for used in &scopes.uses {
        let mut around = Some(used.scope);
        while let Some(scope) = around {
            meant[scope].insert(used.means);
            around = scopes.parents[scope];
        }
    }
    let mut owned = vec![Vec::new(); scopes.parents.len()];
    for (variable, scope) in scopes.variables.iter().enumerate() {
        owned[*scope].push(variable);
    }
    let mut names = vec![String::new(); scopes.variables.len()];
    for (meant, own) in meant.iter().zip(owned) {
        // Scopes around this one have their names already.
        let taken: HashSet<&str> = meant
            .iter()
            .map(|meaning| match meaning {
                Meaning::Variable(variable) => names[*variable].as_str(),
                Meaning::Global(name) => name,
            })
            .collect();
        let first = if own.len() > LARGE { INNER } else { 0 };
        let free = (first..).map(short).filter(|name| !taken.contains(name.as_str()) && !is_keyword(name));
        let free: Vec<String> = free.take(own.len()).collect();
        // In the order of their declaration: like functions then look alike, which packs better than names by use.
        for (variable, name) in own.into_iter().zip(free) {
            names[variable] = name;
        }
    }
    names
}

/// The names by length: each letter, then each two.
fn short(at: usize) -> String {
    let (mut name, mut left) = (String::new(), at);
    loop {
        name.push(char::from(LETTERS[left % LETTERS.len()]));
        if left < LETTERS.len() {
            return name;
        }
        left = left / LETTERS.len() - 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::minify::minify;
    use super::*;

    /// Of each use, the token and what it means, with variables by number.
    fn meanings(script: &str) -> Vec<String> {
        let tokens = tokens(script);
        scopes(&tokens).uses.iter().map(|used| format!("{:?}", used.means)).collect()
    }

    /// Every name of ours means the same as before, and what is not ours is still there.
    #[test]
    fn a_renamed_script_means_what_it_meant() {
        for source in [
            include_str!("match.js"),
            include_str!("net.js"),
            include_str!("dom.js"),
            include_str!("before.js"),
            include_str!("signals.js"),
            include_str!("stubs.js"),
        ] {
            let small = minify(source);
            let renamed = rename(&small);
            assert_eq!(meanings(&renamed), meanings(&small));
            assert!(renamed.len() < small.len() * 9 / 10, "{renamed}");
            let properties = |script: &str| -> Vec<String> {
                let tokens = tokens(script);
                let pairs = tokens.windows(2).filter(|pair| pair[0].text == ".");
                pairs.map(|pair| pair[1].text.to_owned()).collect()
            };
            assert_eq!(properties(&renamed), properties(&small));
        }
    }

    /// Functions of every kind, patterns, shorthand, templates, what is hidden by an inner name.
    #[test]
    fn names_are_told_from_properties_and_from_each_other() {
        for (script, wanted) in [
            ("var one=two.one;", "var t=two.one;"),
            ("var{one,two:[three],...four}=W;f(one,three,four)", "var{one:t,two:[e],...l}=W;f(t,e,l)"),
            (
                "var one={one,two:one,three(one){return one+four}}",
                "var t={one:t,two:t,three(t){return t+four}}",
            ),
            ("function one(two){return one(two)}", "function t(e){return t(e)}"),
            ("f(function one(two){return one})", "f(function e(t){return e})"),
            ("var one=(two,[three])=>two+three,four;", "var t=(t,[e])=>t+e,e;"),
            ("var one=two=>three=>two?three:one;", "var t=e=>l=>e?l:t;"),
            ("try{f()}catch(one){g(one)}h(one)", "try{f()}catch(t){g(t)}h(one)"),
            (
                "var one=1;f(`${one} one ${(two)=>two+one}`,/one/g,\"one\")",
                "var t=1;f(`${t} one ${(e)=>e+t}`,/one/g,\"one\")",
            ),
            ("var one=`${JSON}${JSON}`,two=JSON;", "var t=`${JSON}${JSON}`,e=JSON;"),
            ("for(var one of two)one(t)", "for(var e of two)e(t)"),
            ("for(let one=0,two=f(three,four);;)two", "for(let t=0,e=f(three,four);;)e"),
        ] {
            assert_eq!(rename(script), wanted);
        }
    }

    /// A name that is wrongly taken for ours would be missing here, and one that is wrongly taken for the browser's
    /// would be too many.
    #[test]
    fn what_the_scripts_take_from_the_browser_is_known() {
        let globals = |parts: &[&str]| -> Vec<String> {
            let script = minify(&parts.concat());
            let tokens = tokens(&script);
            let names = scopes(&tokens).uses.into_iter().filter_map(|used| match used.means {
                Meaning::Global(name) => Some(name.to_owned()),
                Meaning::Variable(_) => None,
            });
            let names: std::collections::BTreeSet<String> = names.collect();
            names.into_iter().collect()
        };
        let shared = [include_str!("match.js"), include_str!("net.js"), include_str!("worker.js")];
        let page = globals(&[&shared.concat(), include_str!("dom.js")]);
        assert_eq!(
            page.join(" "),
            "ASSETS Blob D E GUARD JSON KEPT Map Math NAMES Object PATTERNS Proxy Reflect RegExp Set String Symbol \
             TABLE W WeakMap encodeURIComponent escape parseInt unescape"
        );
        // Those of `dom.js` are called in documents only.
        assert_eq!(
            globals(&shared).join(" "),
            "ASSETS D E GUARD JSON KEPT Map Math NAMES PATTERNS Proxy Reflect RegExp String Symbol TABLE W WeakMap \
             address encodeURIComponent escape parseInt shown unescape"
        );
        assert_eq!(
            globals(&[include_str!("before.js")]).join(" "),
            "D E JSON MARK Object REPORT W blocked goes here own replace signals slipped stubs"
        );
        assert_eq!(globals(&[include_str!("signals.js")]).join(" "), "JSON Object SIGNALS_DATA Set String");
        assert_eq!(
            globals(&[include_str!("stubs.js")]).join(" "),
            "Array Object Promise Proxy Reflect Symbol WeakSet"
        );
    }

    /// A script with many names has none that is a word of the language.
    #[test]
    fn short_names_are_all_different_and_no_keywords() {
        let script: String = (0..4000).map(|at| format!("var name{at}=1;")).collect();
        let renamed = rename(&script);
        let names: HashSet<&str> = renamed.split(';').filter_map(|one| one.strip_prefix("var ")).collect();
        assert_eq!(names.len(), 4000);
        assert!(!names.iter().any(|name| is_keyword(name.trim_end_matches("=1"))));
    }
}
